"""Supervisor: starts every part of a server, and restarts parts that end or hang.

    gateway (nginx) -> edge (where devices wait; enrolment) -> SuperLink <- ServerApp (the runs)
    metrics, invitations: in this process     with --dev the edge is the gateway, too

    with Supervisor(site, card=make_card) as supervisor:
        supervisor.run()

It has no state of its own: after a kill at any moment, it finds all state in the server folder.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from palate_common.records.closing import Closing
from palate_core.errors import LockedError, PalateError
from palate_server.folder.backup import remove_left_over
from palate_server.folder.events import EventLog
from palate_server.folder.logs import LogHandler, PartLog
from palate_server.folder.server_folder import Site, site_signs
from palate_server.folder.watched import WatchedSite
from palate_server.folder.witness import Witness, WitnessError
from palate_server.ledger.witnesses import RECENT, UncosignedError
from palate_server.operation.releases import CardMaker, publish, renew, unwritten
from palate_server.operation.terms import check_config
from palate_server.rounds.lock import RunLock, own_folder
from palate_server.service.edge_process import edge_answers, edge_command
from palate_server.service.gateway import answers_at, check_ports, nginx_command, stamp_of, write_configuration
from palate_server.service.invitations import InvitationService
from palate_server.service.listener import Listener
from palate_server.service.metrics import Metrics, guarded_listener, metrics_listeners
from palate_server.service.parts import PartsFile
from palate_server.service.problems import SKEW, configuration_hash
from palate_server.service.processes.child import Child, log_bounds, part_of
from palate_server.service.processes.ports import end_left_over
from palate_server.service.processes.watch import STARTING, PartWatch
from palate_server.service.serverapp import serverapp_command
from palate_server.service.setup import make_certificates, make_secret
from palate_server.service.status import unpublished

LOOK = 0.5
"""Seconds between two checks of the processes."""
FAILING = 120.0
"""Seconds that a server has to start if one of its parts ends meanwhile; `STARTING` if none does."""


class Supervisor(Closing):
    """All parts of one server.

    Args:
        site: the server folder.
        card: makes the privacy card of a model.
        dev: whether to run without nginx, on the loopback interface.

    Raises:
        InputError: nginx or a known Flower is missing, or the configuration isn't valid for nginx.
        LockedError: another supervisor runs this folder.
        PalateError: the witness can't be written.
    """

    def __init__(self, site: Site, *, card: CardMaker, dev: bool = False) -> None:
        self.site, self.dev = site, dev
        self.ready = threading.Event()
        self._card, self._events = card, EventLog(site.events, must=False)
        self._stopping = threading.Event()
        self._lock = own_folder(site.folder)
        check_config(site.config, n_items=len(site.catalogue.items), inputs=site.public_inputs)
        site.config.check_ready(site.folder)
        site.key()  # without it nothing could be signed: a run would be charged, and its model held back
        Witness(site.witness).check()
        with suppress(OSError):
            remove_left_over(site)
        make_certificates(site)
        make_secret(site)
        logs = site.logs
        most, keep = log_bounds(site)
        self._said = LogHandler(PartLog(logs / "supervisor.log", "supervisor", most=most, keep=keep))
        self._children, self._watches = list[Child](), list[PartWatch]()
        self._control: Closing | None = None
        if site.config.gateway.link == "flower":
            from palate_server.flower.control import LinkControl, check_version  # loads Flower
            from palate_server.flower.superlink import superlink_command

            check_version()
            self._control = control = LinkControl(site)
            self._add("superlink", superlink_command(site), control.ready, umask=0o077)
        self._add("edge", edge_command(site, dev=dev), lambda: edge_answers(site, dev=dev))
        self._serverapp = part_of(site, "serverapp", serverapp_command(site))
        self._watches.append(PartWatch(self._serverapp, _Pulse(site.state / "lock")))
        if not dev:
            write_configuration(site)
            at = site.config.gateway
            self._add(
                "gateway",
                nginx_command(site),
                lambda: answers_at(at.listen, at.port, site.config.name),
                folder=site.public,
                pid_file=site.state / "nginx.pid",
            )
        self._watched = WatchedSite(site.folder)
        self._metrics = Metrics(self._watched, self.parts)
        self._inviting = InvitationService(site)
        self._listeners = self._make_listeners()
        self._told: PartsFile | None = None
        self._ledger_stamp: tuple[int, int] | None = None
        self._held: str | None = None
        self._again_at = math.inf
        self._renew_at, self._uncosigned = 0.0, False
        self._ends: dict[str, int] = {}
        self._certificate = stamp_of(site.certificate)
        self._skew = time.time() - time.monotonic()

    def run(self, on_serving: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; `on_serving` is called once devices can connect.

        Raises:
            InputError: a port isn't free; nothing was started.
            PalateError: a part doesn't start.
        """
        if not self.dev and end_left_over(self.site.public):
            self._events.tell("left over ended", part="gateway")
        check_ports(self.site, dev=self.dev)
        self._events.tell("started", dev=self.dev, pid=os.getpid(), configuration=configuration_hash(self.site))
        logging.getLogger().addHandler(self._said)
        try:
            for listener in self._listeners.values():
                listener.start()
            self._told = PartsFile(self.site, self.parts)
            self._keep()
            for watch in self._watches:
                watch.begin()
            for part in [child.name for child in self._children]:
                self._await(part, lambda part=part: self.parts()[part])  # type: ignore[misc] # of this turn
            self._children.append(self._serverapp)
            on_serving()
            while not self._stopping.wait(LOOK):
                self._keep()
                self._watch()
                self._inviting.tell()
                self._metrics.follow()
                self._publish()
        finally:
            self.close()
            self._events.tell("stopped")
            logging.getLogger().removeHandler(self._said)

    def stop(self, *_: int | FrameType | None) -> None:
        """Ask `run` to end; also a signal handler."""
        self._stopping.set()

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT end `run`. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def parts(self) -> Mapping[str, bool]:
        """Part -> whether it runs and answers."""
        found = {watch.child.name: watch.answers for watch in self._watches}
        return found | ({"gateway": found["edge"]} if self.dev else {})

    def close(self) -> None:
        """End every part; closing twice is fine."""
        if self._told is not None:
            self._told.close()
        for watch in self._watches:
            watch.end()
        for child in reversed(self._children):
            child.stop()
        for listener in self._listeners.values():
            listener.stop()
        self._watched.close()
        if self._control is not None:
            self._control.close()
        self._inviting.close()
        self._await_serverapps_end()
        self._lock.close()

    def _add(self, name: str, command: list[str], ask: Callable[[], bool], **options: Any) -> None:
        """Add a part that is started with the others."""
        self._children.append(part_of(self.site, name, command, **options))
        self._watches.append(PartWatch(self._children[-1], ask))

    def _make_listeners(self) -> dict[str, Listener]:
        settings, invited = self.site.config.invitations, {}
        if settings.address:
            invited["invitations"] = guarded_listener(
                self._inviting.application(), settings=settings, folder=self.site.folder
            )
        return invited | metrics_listeners(
            self._metrics.application(),
            port=self.site.config.gateway.metrics_port,
            settings=self.site.config.metrics,
            folder=self.site.folder,
        )

    def _keep(self) -> None:
        """End the processes that hang, and start those that don't run."""
        for watch in self._watches:
            watch.keep()
            if watch.child is self._serverapp and watch.answers:
                self.ready.set()
        for child in self._children:
            started = child.keep()
            if child.ends > self._ends.get(child.name, 0):
                self._ends[child.name] = child.ends
                self._events.tell("ended", part=child.name, how=child.how)
            if started:
                self._metrics.started(child.name)
                if child.starts > 1:
                    self._events.tell("restarted", part=child.name)

    def _watch(self) -> None:
        """Tell of a clock that was set; take a renewed certificate over."""
        skew = time.time() - time.monotonic()
        if abs(skew - self._skew) > SKEW:
            self._events.tell("clock", seconds=round(skew - self._skew))
            self._skew = skew
        gateway = next((child for child in self._children if child.name == "gateway"), None)
        if gateway is not None and gateway.up and (stamp := stamp_of(self.site.certificate)) != self._certificate:
            self._certificate = stamp
            gateway.tell(signal.SIGHUP)
            self._events.tell("reloaded", part="gateway")

    def _await(self, part: str, ready: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not ready():
            self._keep()
            most = FAILING if any(child.ends for child in self._children) else STARTING
            if time.monotonic() - begun > most or self._stopping.is_set():
                raise PalateError(f"the {part} must answer within {most:g} s, and does not: see {self.site.logs}")
            time.sleep(0.2)

    def _served(self) -> bool:
        """Whether a ServerApp owns the folder."""
        try:
            RunLock(self.site.state).close()
        except LockedError:
            return True
        return False

    def _publish(self) -> None:
        """Publish the model of the last closed run, once, if that is automatic; and the latest again, where it must."""
        if time.monotonic() >= self._renew_at:
            self._renew()
        if not self.site.config.release.automatic:
            return
        if self._renew_at != math.inf or not site_signs(self.site):
            return  # witnesses, or the release key, are waited for
        news = self.site.ledger_file.stat().st_mtime_ns, self._wal_stamp()
        if news == self._ledger_stamp and time.monotonic() < self._again_at:
            return
        self._ledger_stamp, self._again_at = news, math.inf
        with self._watched.reading() as ledger:
            run = unwritten(self.site, ledger) or unpublished(ledger)
        if run is None or run == self._held:
            return
        try:
            found = publish(self.site, run, self._card)
            self._events.tell("published", run=run, version=found.version)
            self._tell_cosigned()
        except UncosignedError as error:
            self._tell_uncosigned(error)
        except WitnessError:  # its folder is waited for, as `witness_unwritable` says
            self._again_at = time.monotonic() + RECENT
        except PalateError as error:  # a gate refuses it, or a release isn't the sealed one: it stays unpublished
            self._held = run
            self._events.tell("held", run=run, reason=str(error))

    def _renew(self) -> None:
        """Publish the latest model again if the witnesses have changed; where they are too few, a minute later."""
        self._renew_at = math.inf
        try:
            if (found := renew(self.site)) is not None:
                self._events.tell("published", run=found.manifest.model_dump().get("run"), version=found.version)
            self._tell_cosigned()
        except UncosignedError as error:
            self._tell_uncosigned(error)
        except WitnessError:
            self._renew_at = time.monotonic() + RECENT
        except PalateError as error:
            self._events.tell("held", reason=str(error))

    def _tell_uncosigned(self, error: UncosignedError) -> None:
        """What waits for witnesses is tried again after a minute."""
        self._events.tell("uncosigned", reason=str(error))
        self._uncosigned, self._renew_at, self._ledger_stamp = True, time.monotonic() + RECENT, None

    def _tell_cosigned(self) -> None:
        """Say that enough witnesses are there again, if they weren't."""
        if self._uncosigned:
            self._events.tell("cosigned")
        self._uncosigned = False

    def _wal_stamp(self) -> int:
        with suppress(FileNotFoundError):  # it goes when the last process closes it
            return (self.site.folder / f"{self.site.ledger_file.name}-wal").stat().st_mtime_ns
        return 0

    def _await_serverapps_end(self) -> None:
        """Wait until no ServerApp owns the folder, so that nothing is charged any more."""
        deadline = time.monotonic() + 15.0
        while self._served() and time.monotonic() < deadline:
            time.sleep(0.1)


class _Pulse:
    """Whether a file's time has gone on since it was asked last."""

    def __init__(self, file: Path) -> None:
        self._file, self._seen = file, 0

    def __call__(self) -> bool:
        try:
            before, self._seen = self._seen, self._file.stat().st_mtime_ns
        except OSError:
            return False
        return before not in (0, self._seen)


def warn_of_dev() -> None:
    """Warn that --dev isn't for serving devices."""
    sys.stderr.write(
        "warning: --dev has no nginx: no limits on requests, and it listens on the loopback interface only. Use it to "
        "try things out, never to serve devices.\n"
    )
