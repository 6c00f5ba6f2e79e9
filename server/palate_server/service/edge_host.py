"""EdgeHost: an edge of a server on a host of its own: its gateway, and the edge's process.

    palate edge GRANT FOLDER -> EdgeHost -> nginx -> edge -> SuperLink of the server   (exchanges)
                                            nginx         -> gateway of the server     (enrolment, files)

Both run until it is stopped: one that ends is started again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from palate_common.records.closing import Closing
from palate_server.folder.server_folder import Site
from palate_server.rounds.lock import own_folder
from palate_server.service.edge_process import edge_answers, edge_command
from palate_server.service.gateway import answers_at, check_free, nginx_command, write_configuration
from palate_server.service.processes.child import part_of
from palate_server.service.processes.ports import end_left_over
from palate_server.service.processes.watch import PartWatch

LOOK: Final = 0.5
"""Seconds between two checks of the processes."""


class EdgeHost(Closing):
    """The processes of an edge.

    Args:
        site: the edge's folder.

    Raises:
        InputError: nginx is missing, or refuses its configuration.
        LockedError: another one runs this folder.
    """

    def __init__(self, site: Site) -> None:
        from palate_server.flower.control import check_version  # loads Flower

        check_version()
        self.site, self._stopping, self._lock = site, threading.Event(), own_folder(site.folder)
        write_configuration(site)
        at, name = site.config.gateway, site.config.name
        edge = part_of(site, "edge", edge_command(site, dev=False))
        gateway = part_of(site, "gateway", nginx_command(site), folder=site.public, pid_file=site.state / "nginx.pid")
        self._watches = [
            PartWatch(edge, lambda: edge_answers(site, dev=False)),
            PartWatch(gateway, lambda: answers_at(at.listen, at.port, name)),
        ]

    def run(self, on_serving: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; `on_serving` is called once devices can connect.

        Raises:
            InputError: the port isn't free; nothing was started.
        """
        end_left_over(self.site.public)
        gateway = self.site.config.gateway
        check_free({"--port": (gateway.listen, gateway.port)})
        for watch in self._watches:
            watch.begin()
        served = False
        try:
            while not self._stopping.wait(LOOK):
                for watch in self._watches:
                    watch.keep()
                    watch.child.keep()
                if not served and all(watch.answers for watch in self._watches):
                    served = True
                    on_serving()
        finally:
            self.close()

    def stop(self, *_: int | FrameType | None) -> None:
        """Ask `run` to end; also a signal handler."""
        self._stopping.set()

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT end `run`. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def close(self) -> None:
        """End every process; closing twice is fine."""
        for watch in self._watches:
            watch.end()
            watch.child.stop()
        self._lock.close()
