"""ServerApp: the one of a deployment: it runs an `Operation` whose devices wait at edges.

    python -m palate_server.service.serverapp FOLDER

    supervisor -> main -> Operation.serve -> run_round -> EdgeTransport -> the link -> edges -> devices

It runs until it is stopped, and a new process continues at the state of the ledger. With `gateway.link = "flower"` it
takes its own task at the SuperLink, see `palate_server.flower.control`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path

from palate_core.errors import LockedError, PalateError
from palate_server.edge.direct import DirectLink
from palate_server.edge.proofs import Proofs
from palate_server.edge.transport import EdgeLink, EdgeMessenger
from palate_server.folder.edges import adds, key_of
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.logs import PartLog
from palate_server.folder.server_folder import Site, owner_only
from palate_server.operation.operation import Operation
from palate_server.rounds.lock import RunLock

LOCK_SECONDS = 30.0
"""Seconds to wait for another owner of the server folder."""
LINK_SECONDS = 120.0
"""Seconds to wait for a SuperLink that is being started, too."""
PULSE = 1.0
"""Seconds between two signs of life."""


def main(folder: Path) -> int:
    """Serve a server folder until this process is stopped; returns the exit code."""
    owner_only()
    site = Site.at(folder)
    try:
        with _own(site) as lock:
            _show_life(lock.path)
            with Enrolments(site.enrolment_file) as register:
                proofs = Proofs(register, site.config.population, site.config.gateway.path)
                Operation(site, EdgeMessenger(link_of(site), proofs, partial(adds, site))).serve()
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else type(error).__name__
        EventLog(site.events).tell("failed", kind=type(error).__name__, error=text)
        _log(site, error, text)
        return 1
    return 0


def serverapp_command(site: Site) -> list[str]:
    """The command that runs this."""
    return [sys.executable, "-m", "palate_server.service.serverapp", str(site.folder)]


def link_of(site: Site) -> EdgeLink:
    """The link to the folder's edges.

    Raises:
        PalateError: the SuperLink gives this process no task.
    """
    if site.config.gateway.link == "direct":
        return DirectLink(site.link_socket)
    from palate_server.flower.control import LinkControl, check_version  # loads Flower
    from palate_server.flower.edge_link import FlowerLink

    check_version()
    control, until = LinkControl(site), time.monotonic() + LINK_SECONDS
    while not control.ready() and time.monotonic() < until:
        time.sleep(0.5)
    control.close()
    return FlowerLink(control.join(), partial(key_of, site))


def _show_life(path: Path) -> None:
    """Let a file's time go on as long as this process does: the supervisor looks at it."""

    def show() -> None:
        while True:
            os.utime(path)
            time.sleep(PULSE)

    threading.Thread(target=show, daemon=True, name="shows-life").start()


def _log(site: Site, error: Exception, text: str) -> None:
    """Log where it failed, but no values, which may show who took part."""
    log = PartLog(
        site.logs / "serverapp.log", "serverapp", most=site.config.logs.mib * 2**20, keep=site.config.logs.keep
    )
    where = "".join(traceback.format_tb(error.__traceback__))
    log.tell(f"{type(error).__name__}: {text}\n{where}", "error")


def _own(site: Site) -> RunLock:
    """Take the folder's lock; its former owner, or the supervisor that checks it, may need a moment to release it."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return RunLock(site.state)
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
