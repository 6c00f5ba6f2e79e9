"""What a scrape of the metrics and a look at the operator's page cost, by the length of the ledger."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.ledger import Ledger
from palate_server.service.metrics import Metrics
from palate_server.service.report import read_report
from palate_server.service.setup import make_site, server_toml

LENGTHS = (2_000, 20_000)
"""Entries of a ledger: 20,000 are a run an hour for half a year."""
RUNS = {"gateway": True}


def looks(home: Path) -> dict[str, Any]:
    """CPU seconds of a scrape and of the page, with the ledger opened anew and with one that is kept; its memory."""
    return {"lengths": [_of_length(home / str(length), length) for length in LENGTHS]}


def _of_length(folder: Path, length: int) -> dict[str, Any]:
    settings = {"population": "looked at", "privacy.lifetime_epsilon": 100.0, "privacy.period_epsilon": 100.0}
    site = make_site(folder, server_toml(settings), tuple(f"item-{number}" for number in range(40)))
    with site.ledger() as ledger:
        while (entries := ledger.checkpoint().size) < length:
            _add_run(ledger, f"20261127T{entries:06d}-00")
    with WatchedSite(folder) as watched:
        found = {"entries": entries, "anew": _costs(Site.at(folder)), "kept": _costs(watched)}
    tracemalloc.start()
    with WatchedSite(folder) as watched, watched.reading() as ledger:
        ledger.entries()
        found["bytes"] = tracemalloc.get_traced_memory()[0] / entries
    tracemalloc.stop()
    return found


def _add_run(ledger: Ledger, run: str) -> None:
    """A run of two rounds, with facts as long as a real one's."""
    ledger.open_run(run, {"algorithm": "als", "about": {"period": 1}, "terms": "x" * 300})
    for round_ in range(2):
        facts = {"mechanism": "discrete Gaussian", "sensitivity": 16384, "sigma": 32768, "dimension": 64}
        place: dict[str, Any] = {"run": run, "round_": round_, "attempt": 0}
        ledger.charge(**place, plan_hash="ab" * 32, mu2=1e-6, facts=facts, run_limit=None)
        ledger.seal(**place, release_hash="cd" * 32)
    ledger.close_run(run, {"releases": 2, "rounds": 2, "created": "2026-11-27T00:00:00+00:00"})


def _costs(site: Site) -> dict[str, float]:
    """CPU seconds of the second look: the first reads what is kept."""
    metrics = Metrics(site, lambda: RUNS)
    page = _second(lambda: read_report(site, now=time.time(), parts=RUNS))
    return {"scrape": _second(lambda: generate_latest(metrics.registry)), "page": page}


def _second(look: Callable[[], object]) -> float:
    look()
    begun = time.process_time()
    look()
    return time.process_time() - begun
