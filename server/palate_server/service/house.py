"""House supervisor: one gateway in front of several populations, each with a supervisor and processes of its own.

    nginx (the only part that faces the network)  ->  palate serve run HOUSE/p/NAME --housed, for each open population

    with HouseSupervisor(house, command=command) as supervisor:
        supervisor.run()

A population is a process that this one starts, and starts again when it ends: it shares no memory, no database and no
port with another, so that one that fails, is opened or is shut leaves the others alone. The gateway learns of that by a
new configuration, which nginx takes over without losing a request. It has no state of its own: the folder `open/` says
who is served.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from palate_common.records.closing import Closing
from palate_core.errors import PalateError
from palate_server.flower.superlink_state import check_version
from palate_server.folder.events import EventLog
from palate_server.folder.house import House
from palate_server.folder.server_folder import Site
from palate_server.rounds.lock import own_folder
from palate_server.service.gateway import (
    Front,
    answers_at,
    check_free,
    configuration,
    house_ports,
    nginx_command,
    stamp_of,
    write_configuration,
)
from palate_server.service.metrics import metrics_listeners, read_answer
from palate_server.service.ports import end_left_over
from palate_server.service.processes import Child
from palate_server.service.supervisor import Page
from palate_server.service.watch import PartWatch

HousePageMaker = Callable[[House, Callable[[], bool | None]], Page]
"""A function that makes the page of a house; its second argument returns whether the gateway runs."""
LOOK = 0.5
"""Seconds between two looks at processes and folders."""
STARTING = 120.0
"""Seconds that the gateway has to start."""
AGAIN = 60.0
"""Seconds until a population that didn't fit is looked at again."""
PATIENCE = 60.0
"""Seconds that a population has to end; its own parts have ten each."""


class HouseSupervisor(Closing):
    """The gateway and the populations of one house.

    **Guarantees:** a population is started only if `House.check` lets it beside those that are served; one that doesn't
    fit, doesn't start or ends changes nothing for the others.

    Args:
        house: the house.
        command: the command that serves a server folder behind this gateway.
        page: makes the operator's page of the house; None: there is none.

    Raises:
        InputError: nginx or the known Flower is missing, or nginx refuses the configuration.
        LockedError: another supervisor runs this house.
    """

    def __init__(
        self, house: House, *, command: Callable[[Path], Sequence[str]], page: HousePageMaker | None = None
    ) -> None:
        check_version()
        self.house = house
        self._command, self._events = command, EventLog(house.events)
        self._stopping = threading.Event()
        for folder in (house.state, house.logs, house.open_folder):
            folder.mkdir(exist_ok=True, mode=0o700)
        self._lock = own_folder(house.folder)
        house.make_certificate()
        if os.geteuid() == 0:
            house.populations.chmod(0o711)  # for nginx's workers, which are in no other way let into the house
        self._sites: dict[str, Site] = {}
        self._children: dict[str, Child] = {}
        self._leaving: dict[str, threading.Thread] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        self._written, self._stale, self._gateway_ends = "", False, 0
        self._certificates: tuple[int, ...] = ()
        self._gateway = Child(
            "gateway",
            nginx_command(self._front()),
            log=house.logs / "gateway.log",
            environment={},
            folder=house.populations,
            pid_file=house.state / "nginx.pid",
        )
        self._watch = PartWatch(
            self._gateway, lambda: answers_at(house.config.listen, house.config.port, house.config.name)
        )
        self._write()
        self._registry = CollectorRegistry()
        self._starts = Counter("palate_house_starts", "Starts of a part of a house.", ["part"], registry=self._registry)
        self._registry.register(_Up(self))
        self._page = None if page is None else page(house, lambda: self._watch.answers)
        self._listeners = metrics_listeners(
            self._application(),
            pages=None if self._page is None else self._page.application,
            port=house.config.metrics_port,
            settings=house.config.metrics,
            folder=house.folder,
        )

    def run(self, on_serving: Callable[[str, str], None] = lambda name, address: None) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C.

        Args:
            on_serving: is called with the name and the address of each population once devices can connect to it.

        Raises:
            InputError: a port isn't free; nothing was started.
            PalateError: the gateway doesn't start.
        """
        if end_left_over(self.house.populations):
            self._tell("left over ended", part="gateway")
        check_free({name: (host, port) for name, host, port in house_ports(self.house)})
        self._tell("started", pid=os.getpid())
        told: set[str] = set()
        try:
            for listener in self._listeners.values():
                listener.start()
            self._look()
            self._watch.begin()
            self._await_gateway()
            while not self._stopping.wait(LOOK):
                self._look()
                told &= set(self._children)
                for name in [each for each in self._children if each not in told]:
                    if _asked(self._sites[name], "ready", seconds=2.0):
                        told.add(name)
                        self._tell("serving", population=name)
                        on_serving(name, self._sites[name].address)
        finally:
            self.close()
            self._tell("stopped")

    def stop(self, *_: int | FrameType | None) -> None:
        """Ask `run` to end; also a signal handler."""
        self._stopping.set()

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT end `run`. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def close(self) -> None:
        """End the gateway, then all populations at one time; closing twice is fine."""
        self._watch.end()
        self._gateway.stop()
        for name in list(self._children):
            self._end(name)
        for thread in list(self._leaving.values()):
            thread.join()
        if self._page is not None:
            self._page.close()
        for listener in self._listeners.values():
            listener.stop()
        self._lock.close()

    def health(self, question: str = "health") -> dict[str, bool]:
        """The gateway and each population that is to be served -> whether it says that it is well.

        Args:
            question: "health" or "ready".
        """
        sites = dict(self._sites)
        names = sorted({*sites, *self.house.opened()})
        with ThreadPoolExecutor(max(1, len(names))) as pool:  # one that hangs costs the others nothing
            found = pool.map(lambda name: name in sites and _asked(sites[name], question), names)
            return {"gateway": self._watch.answers, **dict(zip(names, found, strict=True))}

    def _look(self) -> None:
        """Start what should run and doesn't, and end what should no longer."""
        opened = self.house.opened()
        for name in [each for each in self._children if each not in opened]:
            self._shut(name)
        self._leaving = {name: thread for name, thread in self._leaving.items() if thread.is_alive()}
        self._refused = {name: told for name, told in self._refused.items() if name in opened}
        for name in opened:
            if name not in self._leaving:
                self._keep(name)
        if (stamp := self._stamp()) != self._certificates:
            self._certificates, self._stale = stamp, True
        self._watch.keep()
        started = self._gateway.keep()
        if self._gateway.ends > self._gateway_ends:
            self._gateway_ends = self._gateway.ends
            self._tell("ended", part="gateway", how=self._gateway.how)
        if started:
            self._stale = False
            self._tell_start(self._gateway)
        self._reload()

    def _stamp(self) -> tuple[int, ...]:
        """What is another once a certificate was renewed."""
        return stamp_of([file for name in sorted(self._sites) for file in self._sites[name].certificate])

    def _keep(self, name: str) -> None:
        """Start a population if it doesn't run, by its configuration as it is now."""
        child = self._children.get(name)
        if child is not None and not child.is_due():
            return
        since, reason = self._refused.get(name, (-AGAIN, ""))
        if time.monotonic() - since < AGAIN:
            return
        former = self._sites.get(name)
        try:
            site = self.house.site(name)
            self.house.check(name, site, {each: there for each, there in self._sites.items() if each != name})
            if os.geteuid() == 0:
                _let_workers_through(site)
            self._sites[name] = site
            self._write()
            if child is None:
                log = site.logs / "supervisor.log"
                child = Child(name, self._command(site.folder), log=log, environment={}, patience=PATIENCE)
            started = child.keep()
        except (PalateError, OSError) as error:
            self._sites.pop(name, None)
            if former is not None:
                self._sites[name] = former
            self._refused[name] = time.monotonic(), str(error)
            if str(error) != reason:
                self._tell("not opened", population=name, reason=str(error))
            return
        self._refused.pop(name, None)
        if name not in self._children:
            self._children[name] = child
            self._tell("opened", population=name)
        if started:
            self._tell_start(child)

    def _tell_start(self, child: Child) -> None:
        self._starts.labels(child.name).inc()
        if child.starts > 1:
            self._tell("restarted", part=child.name)

    def _tell(self, event: str, **facts: Any) -> None:
        """Tell an event; a full disk ends no population."""
        with suppress(OSError):
            self._events.tell(event, **facts)

    def _shut(self, name: str) -> None:
        """Take a population from the gateway, then end it."""
        self._sites.pop(name, None)
        try:
            self._write()
        except (PalateError, OSError) as error:  # what is left was accepted before: the disk or nginx is broken
            self._tell("not written", reason=str(error))
        self._reload()
        self._end(name)
        self._tell("shut", population=name)

    def _end(self, name: str) -> None:
        """End a population in a thread: it may take half a minute, in which the others are looked after."""
        thread = threading.Thread(target=self._children.pop(name).stop, name=f"ending-{name}")
        self._leaving[name] = thread
        thread.start()

    def _front(self) -> Front:
        return Front.of_house(self.house, self._sites)

    def _write(self) -> None:
        """Make the gateway's configuration, if it is another than before; `_reload` lets nginx take it over."""
        front = self._front()
        if (text := configuration(front)) == self._written:
            return
        write_configuration(front)
        self._written, self._stale = text, True

    def _reload(self) -> None:
        """Let nginx take a new configuration over; before it is up, the signal would end it."""
        if self._stale and self._gateway.up:
            self._stale = False
            self._gateway.tell(signal.SIGHUP)

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + STARTING
        while not self._gateway.up:
            if time.monotonic() > deadline or self._stopping.is_set():
                raise PalateError(f"the gateway must start within {STARTING:g} s, and does not: see {self.house.logs}")
            self._look()
            time.sleep(0.2)

    def _application(self) -> Starlette:
        """The HTTP application of the house's loopback port.

        `/ready` is 503 only without a gateway: whoever starts a house again because one population fails would stop the
        others. `/health` is 503 if any isn't well.
        """

        async def health(_: Request) -> Response:
            found = await run_in_threadpool(self.health)
            return JSONResponse(found, status_code=200 if all(found.values()) else 503)

        async def ready(_: Request) -> Response:
            found = await run_in_threadpool(self.health, "ready")
            return JSONResponse(found, status_code=200 if found["gateway"] else 503)

        async def metrics(_: Request) -> Response:
            text = await run_in_threadpool(generate_latest, self._registry)
            return Response(text, media_type="text/plain; version=0.0.4")

        return Starlette(routes=[Route("/metrics", metrics), Route("/health", health), Route("/ready", ready)])


class _Up:
    """The gauge of what runs, asked at each scrape. Everything else is in the populations' own metrics."""

    def __init__(self, supervisor: HouseSupervisor) -> None:
        self._supervisor = supervisor

    def describe(self) -> list[GaugeMetricFamily]:
        """Empty: `collect` yields it."""
        return []

    def collect(self) -> list[GaugeMetricFamily]:
        """The gauge now."""
        up = GaugeMetricFamily("palate_house_up", "Whether a part of a house is ready.", labels=["part"])
        for part, ready in self._supervisor.health("ready").items():
            up.add_metric([part], float(ready))
        return [up]


def read_house_health(house: House) -> Mapping[str, bool]:
    """The health of a running house, part -> whether it is well; empty if it doesn't answer."""
    return read_answer(house.config.metrics_port, "health", folder=house.folder)


def _asked(site: Site, question: str, *, seconds: float = 5.0) -> bool:
    """Whether a population answers a question with all of its parts."""
    found = read_answer(site.config.gateway.metrics_port, question, folder=site.folder, seconds=seconds)
    return bool(found) and all(found.values())


def _let_workers_through(site: Site) -> None:
    """Where root runs the house: nginx's workers pass through a population's folder to `public` alone."""
    for path in site.folder.iterdir():
        if path != site.public and not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    site.folder.chmod(0o711)
