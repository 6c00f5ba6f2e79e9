"""Metrics and health, on a loopback port: `/metrics` for Prometheus, `/health`, `/ready`.

Counters follow the events log, so that they need no channel of their own; what is a state is read when it is asked for.
Nothing here names a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from palate_server.service.events import Tail
from palate_server.service.site import Site
from palate_server.service.status import Status, read_status

PARTS = ("superlink", "superexec", "serverapp", "enrolment", "gateway")


class Metrics:
    """The service's metrics.

    Args:
        site: the server folder.
        parts: whether each part runs, by name.
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
        self._enrolments = Counter("palate_enrolments", "Requests to enrol, by outcome.", ["outcome"], registry=own)
        self._restarts = Counter("palate_starts", "Starts of a part, the first included.", ["part"], registry=own)
        self._tail = Tail(site.events)
        own.register(_State(site, parts))

    def started(self, part: str) -> None:
        """A part was started."""
        self._restarts.labels(part).inc()

    def follow(self) -> list[dict[str, Any]]:
        """Count the events since the last call, and return them."""
        news = list(self._tail.news())
        for event in news:
            self._count(event)
        return news

    def _count(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "round":
                self._attempts.labels("released").inc()
                self._cohort.set(event["invited"])
                self._lost.inc(max(0, event["invited"] - event["users"]))
                self._seconds.observe(event["seconds"])
            case "aborted":
                self._attempts.labels("aborted").inc()
                self._aborts.labels(event.get("reason", "other")).inc()
                self._cohort.set(event["invited"])
                self._seconds.observe(event["seconds"])
            case "malformed":
                self._malformed.inc(event["devices"])
            case "opened" | "closed" | "published" | "held" | "no cohort" | "refused" as what:
                self._runs.labels(what).inc()
            case "enrolled" | "enrolment refused" | "enrolment failed" as what:
                self._enrolments.labels(what.removeprefix("enrolment ")).inc()

    def application(self) -> Starlette:
        """What the loopback port answers."""

        def metrics(_: Request) -> Response:
            self.follow()
            return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

        async def health(_: Request) -> Response:
            parts = dict(self.parts())
            return JSONResponse(parts, status_code=200 if all(parts.values()) else 503)

        async def scrape(request: Request) -> Response:
            return await run_in_threadpool(metrics, request)

        return Starlette(routes=[Route("/metrics", scrape), Route("/health", health), Route("/ready", health)])


class _State(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, site: Site, parts: Callable[[], Mapping[str, bool]]) -> None:
        self._site, self._parts = site, parts

    def describe(self) -> list[Metric]:
        """Nothing: what there is, `collect` says."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The state now."""
        status = read_status(self._site)
        yield from _budgets(status)
        up = GaugeMetricFamily("palate_up", "Whether a part runs.", labels=["part"])
        for part, runs in self._parts().items():
            up.add_metric([part], float(runs))
        yield up
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
    """Epsilon, with all that it means in its help text."""
    said = f"unit user (one installation), adjacency zero-out, delta {status.delta:g}, palate closed form"
    yield GaugeMetricFamily(
        "palate_epsilon_spent", f"Epsilon of all charges of the population so far; {said}.", status.epsilon_spent
    )
    yield GaugeMetricFamily(
        "palate_epsilon_left",
        f"Epsilon that one further run could have if it took all that is left of the lifetime budget; {said}.",
        status.epsilon_left,
    )
    yield GaugeMetricFamily("palate_epsilon_lifetime", f"The lifetime budget; {said}.", status.epsilon_lifetime)
