"""The user's own page of a store with many events: the first of a process, and one after one more event."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import palate

KEY = bytes(range(32))
COUNTS = (1_000, 100_000, 1_000_000)
KINDS = ("impression", "impression", "impression", "view", "like", "purchase")
DAYS = 700.0
BAR = 1.0
"""Seconds of a page with a million events, beside the first list by a model, which an app has made before."""

_INSERT = (
    "INSERT INTO events(id, kind, item, time, received, value, source, props, imported)"
    " VALUES (?, ?, ?, ?, ?, NULL, 'online', NULL, 1)"
)


def pages(repetitions: int) -> list[dict[str, float]]:
    """CPU seconds of each step, some times for each number of events."""
    figures = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as home:
            sample = palate.sample()
            options: dict[str, Any] = {"app": "bench", "key": KEY, "service": sample.service}
            options["limits"] = palate.Limits(max_events=10**7, max_bytes=2**32)
            with palate.open(f"{home}/store", **options) as device:
                device.consent.grant("store")
                device.update_model(sample.folder)
                _fill(device, count)
            for number in range(repetitions):
                with palate.open(f"{home}/store", **options) as device:
                    listed = _seconds(lambda device=device: device.recommend(8))
                    first = _seconds(lambda device=device: device.page(language="de"))
                    device.track("like", f"book-{number}")
                    following = _seconds(lambda device=device: device.page(language="de"))
                    size = len(device.page(language="de").encode())
                    figures.append({"events": count, "list": listed, "first": first, "next": following, "bytes": size})
    return figures


def page_rows(figures: list[dict[str, float]]) -> list[tuple[str, ...]]:
    """One row a number of events."""
    rows = []
    for count in COUNTS:
        chosen = [figure for figure in figures if figure["events"] == count]
        cells = [f"{median(figure[key] for figure in chosen):.2f}" for key in ("list", "first", "next")]
        slowest = max(figure["first"] for figure in chosen)
        bar = f"< {BAR:g} s: {'met' if slowest < BAR else 'missed'}"
        rows.append((f"{count:,}", *cells, f"{chosen[0]['bytes'] / 1000:.0f} kB", bar))
    return rows


def _fill(device: palate.Device, count: int) -> None:
    """Events in the order of time, written as an import writes them, but in one transaction."""
    now = time.time()
    with device.store.transaction(write=True) as connection:
        connection.executemany(
            _INSERT,
            (
                (f"event-{n}", KINDS[n % 6], f"book-{n * 7 % 160}", now - 86_400 * DAYS * (count - n) / count, now)
                for n in range(count)
            ),
        )


def _seconds(step: Callable[[], object]) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun
