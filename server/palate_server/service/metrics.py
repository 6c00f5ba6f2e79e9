"""Metrics and health, on a loopback port: `/metrics` for Prometheus, `/health`, `/ready`.

A server is ready if all its parts run. It is healthy if it can also train: its witness can be written, and its charges
lead to releases. Counters are computed from the events log; gauges are read at each request. No metric identifies a
device.
"""

from __future__ import annotations

import math
import os
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from palate_core.errors import InputError
from palate_server.folder.config import Elsewhere, MetricsSettings
from palate_server.folder.events import EventFollower, EventSummary
from palate_server.folder.server_folder import Site
from palate_server.operation.outlook import could_have
from palate_server.operation.terms import budgets_of
from palate_server.service.listener import ForLoopback, Listener, WithToken
from palate_server.service.problems import BROKEN, ServerProblem, line_of, problems
from palate_server.service.status import Status, read_status

OWN_NAMES = {"witness": "witness_unwritable", "witnesses": "witnesses_missing", "attempts": "runs_void"}
"""What `/health` always has, by names of its own, and the code of its problem."""


class Metrics:
    """The service's metrics.

    Args:
        site: the server folder.
        parts: returns name -> whether the part runs.
    """

    def __init__(self, site: Site, parts: Callable[[], Mapping[str, bool]]) -> None:
        self.registry = CollectorRegistry()
        self.parts = parts
        own = self.registry
        self._attempts = Counter("palate_attempts", "Attempts, by outcome.", ["outcome"], registry=own)
        self._aborts = Counter("palate_aborts", "Attempts that released nothing, by reason.", ["reason"], registry=own)
        self._cohort = Gauge("palate_cohort_devices", "Devices invited to the latest attempt.", registry=own)
        self._lost = Counter("palate_dropouts", "Devices invited that are in no sum.", registry=own)
        self._malformed = Counter("palate_malformed", "Devices that sent malformed answers.", registry=own)
        self._seconds = Histogram(
            "palate_attempt_seconds", "From the charge to the release, or to the abort.",
            buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600), registry=own,
        )  # fmt: skip
        self._runs = Counter("palate_runs", "Runs, by what became of them.", ["event"], registry=own)
        self._silent = Counter("palate_silent", "Devices invited that said nothing, passed over.", registry=own)
        self._voids = Gauge("palate_voids", "Charged attempts in a row that have released nothing.", registry=own)
        self._in_vain = 0
        self._enrolments = Counter("palate_enrolments", "Requests to enrol, by outcome.", ["outcome"], registry=own)
        self._restarts = Counter("palate_starts", "Starts of a part, the first included.", ["part"], registry=own)
        self._site, self._tail, self._told = site, EventFollower(site.events), EventSummary(site.events)
        self._lock = threading.Lock()
        own.register(_State(self, site))

    def started(self, part: str) -> None:
        """Count the start of a part."""
        self._restarts.labels(part).inc()

    def follow(self) -> None:
        """Count the events since the last call."""
        with self._lock:
            for event in self._tail.news():
                with suppress(KeyError):  # one of another version lacks what this one counts
                    self._count(event)
                self._told.read(event)

    def problems(self) -> tuple[ServerProblem, ...]:
        """What is wrong now."""
        self.follow()
        return problems(self._site, now=time.time(), parts=self.parts(), told=self._told)

    def health(self) -> dict[str, bool]:
        """Part, what else a server needs, or code of another problem that is an error -> whether it is well."""
        wrong = {problem.code for problem in self.problems() if problem.severity == "error"}
        own = [name for name in OWN_NAMES if name != "witnesses" or self._site.config.witnesses.keys]
        found = {name: OWN_NAMES[name] not in wrong for name in own}
        return {**self.parts(), **found, **dict.fromkeys(sorted(wrong - {*OWN_NAMES.values(), "part_down"}), False)}

    def _count(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "round":
                self._attempts.labels("released").inc()
                self._cohort.set(event["invited"])
                self._lost.inc(max(0, event["invited"] - event["users"]))
                self._seconds.observe(event["seconds"])
                self._tell_voids(0)
            case "resumed":
                self._tell_voids(0)
            case "aborted":
                self._attempts.labels("aborted").inc()
                self._aborts.labels(event.get("reason", "other")).inc()
                self._cohort.set(event["invited"])
                self._seconds.observe(event["seconds"])
                self._tell_voids(self._in_vain + bool(event.get("charged")))
            case "lost":
                self._attempts.labels("lost").inc()
                self._tell_voids(self._in_vain + 1)
            case "silent":
                self._silent.inc(event["devices"])
            case "malformed" | "unsigned" | "named":  # the last two under masks
                self._malformed.inc(event["devices"])
            case "opened" | "closed" | "published" | "held" | "no cohort" | "refused" as what:
                self._runs.labels(what).inc()
            case "enrolled" | "enrolment refused" | "enrolment failed" as what:
                self._enrolments.labels(what.removeprefix("enrolment ")).inc(event.get("count", 1))

    def _tell_voids(self, count: int) -> None:
        """Set the number of charged attempts in a row without a release."""
        self._in_vain = count
        self._voids.set(count)

    def application(self) -> Starlette:
        """The HTTP application of the loopback port."""

        def metrics(_: Request) -> Response:
            self.follow()
            return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

        def said(found: Mapping[str, bool]) -> Response:
            return JSONResponse(found, status_code=200 if all(found.values()) else 503)

        async def health(_: Request) -> Response:
            return said(await run_in_threadpool(self.health))

        async def ready(_: Request) -> Response:
            return said(dict(self.parts()))

        async def scrape(request: Request) -> Response:
            return await run_in_threadpool(metrics, request)

        async def wrong(_: Request) -> Response:
            found = await run_in_threadpool(self.problems)
            return JSONResponse([problem.as_dict() for problem in found])

        return Starlette(
            routes=[
                Route("/metrics", scrape), Route("/health", health), Route("/ready", ready), Route("/problems", wrong),
            ]
        )  # fmt: skip


class _State(Collector):
    """Gauges that are computed at each request."""

    def __init__(self, metrics: Metrics, site: Site) -> None:
        self._metrics, self._site = metrics, site

    def describe(self) -> list[Metric]:
        """Empty: `collect` yields all metrics."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges now. What can't be read of a folder that is damaged is left out: that is a problem, too."""
        wrong = GaugeMetricFamily(
            "palate_problem", "A problem that there is now, by code.", labels=["code", "severity"]
        )
        found = dict(sorted((each.code, each.severity) for each in self._metrics.problems()))
        for code, severity in found.items():
            wrong.add_metric([code, severity], 1.0)
        yield wrong
        for name, what in (("witness", "the witness folder can be written"), ("witnesses", "enough witnesses cosign")):
            yield GaugeMetricFamily(f"palate_{name}", f"Whether {what}.", float(OWN_NAMES[name] not in found))
        up = GaugeMetricFamily("palate_up", "Whether a part runs.", labels=["part"])
        for part, runs in self._metrics.parts().items():
            up.add_metric([part], float(runs))
        yield up
        with suppress(*BROKEN):
            yield from self._read()

    def _read(self) -> Iterator[Metric]:
        """What ledger, register and disk say."""
        status = read_status(self._site)
        yield from _budgets(status)
        with self._site.reading() as ledger:
            could = could_have(self._site.config, budgets_of(self._site.config, ledger, now=time.time()))
        yield GaugeMetricFamily(
            "palate_epsilon_next_run",
            f"Epsilon that one more run could have of what lifetime and period have left; 0: refused; {_said(status)}.",
            could,
        )
        devices = GaugeMetricFamily("palate_devices", "Devices and open invitations, by state.", labels=["state"])
        for state, count in status.devices.items():
            devices.add_metric([state], count)
        yield devices
        version = status.models[0]["version"] if status.models else math.nan
        yield GaugeMetricFamily("palate_model_version", "Version of the latest model: size of the ledger.", version)
        files = GaugeMetricFamily("palate_file_bytes", "Size of a database, its log included.", labels=["file"])
        for name, size in status.sizes.items():
            files.add_metric([name], size)
        yield files


def _budgets(status: Status) -> Iterator[Metric]:
    """The spending, as epsilon with unit, adjacency and delta in its help text, and as mu^2, which adds up."""
    for name, mu2, eps, what in (
        ("spent", status.mu2_spent, status.epsilon_spent, "All charges of the population so far"),
        ("left", status.mu2_left, status.epsilon_left, "The lifetime budget without what is spent"),
        ("lifetime", status.mu2_lifetime, status.epsilon_lifetime, "The lifetime budget"),
    ):
        yield GaugeMetricFamily(f"palate_epsilon_{name}", f"{what}, as epsilon; {_said(status)}.", eps)
        yield GaugeMetricFamily(f"palate_mu2_{name}", f"{what}, as mu^2 of Gaussian differential privacy.", mu2)


def _said(status: Status) -> str:
    """Unit, adjacency, delta and accountant, which are given with each epsilon."""
    return f"unit user (one installation), adjacency zero-out, delta {status.delta:g}, palate closed form"


LEAST_TOKEN, MOST_TOKEN = 32, 4096
"""Characters of the shortest token, and bytes of the longest file of one."""


def metrics_listeners(
    application: Starlette, *, port: int, settings: MetricsSettings, folder: Path
) -> dict[str, Listener]:
    """The listeners of metrics and health: on the loopback interface, and on an address of their own, if there is one.

    Args:
        application: what answers.
        port: on the loopback interface, without a token.
        settings: the address of their own.
        folder: the server folder, which files are relative to.

    Raises:
        InputError: the token can't be read or is too short, or other accounts may read it, or a certificate is missing.
    """
    found = {"metrics": Listener(ForLoopback(application), host="127.0.0.1", port=port)}
    if settings.address:
        found["metrics elsewhere"] = guarded_listener(application, settings=settings, folder=folder)
    return found


def guarded_listener(application: Starlette, *, settings: Elsewhere, folder: Path) -> Listener:
    """The listener of an address of its own, which answers to who has the token.

    Args:
        application: what answers.
        settings: the address, the token, and the certificate if there is one.
        folder: the folder that its files are relative to.

    Raises:
        InputError: the token can't be read or is too short, or other accounts may read it, or a certificate is missing.
    """
    host, port = settings.place()
    pair = None
    if settings.certificate:
        pair = folder / settings.certificate, folder / settings.certificate_key
        check_pair(*pair)
    guarded = WithToken(application, read_token(folder / settings.token))
    return Listener(guarded, host=host.strip("[]"), port=port, certificate=pair)


def read_token(path: Path) -> str:
    """The token by which metrics are read from elsewhere.

    Raises:
        InputError: it can't be read, is too short or has spaces, or other accounts may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            facts, data = os.fstat(descriptor), b""
            if stat.S_ISREG(facts.st_mode):
                data = file.read(MOST_TOKEN + 1)
        token, owners = data.decode("ascii").strip(), {0, os.geteuid(), path.parent.stat().st_uid}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a token must be a file with a token, got {path}: {line_of(error)}") from None
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode) or len(data) > MOST_TOKEN:
        raise InputError(f"a token must be a file of at most {MOST_TOKEN} bytes, got {path}")
    if facts.st_uid not in owners:
        raise InputError(f"a token must be the server's account's or root's own, got user {facts.st_uid}'s: {path}")
    if mode & 0o077:
        raise InputError(f"a token must be readable by its owner alone, got mode {mode:04o}: chmod 600 {path}")
    if len(token) < LEAST_TOKEN or not token.isprintable() or " " in token:
        raise InputError(
            f"a token must have at least {LEAST_TOKEN} characters and no spaces, got {len(token)}: "
            f"openssl rand -hex 32 > {path}"
        )
    return token


def check_pair(chain: Path, key: Path) -> None:
    """Refuse a certificate and a key with which nobody could be served.

    Raises:
        InputError: they can't be read, or don't belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"a certificate must be a PEM chain with its key, got {chain}: {error}") from None
