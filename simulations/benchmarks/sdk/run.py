"""What the device SDK costs its host.

PYTHONPATH=simulations python simulations/benchmarks/sdk/run.py [--seeds REPETITIONS] \\
    [--parts start,speed,interests,frames,kept,rounds,page]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import palate
from benchmarks.sdk.frames import frame_rows, framed, kept_rows
from benchmarks.sdk.frames import kept as kept_
from benchmarks.sdk.pages import page_rows, pages
from benchmarks.sdk.rounds import EVENTS, ITEMS, WIDTH, as_rows, measured
from benchmarks.sheet import Part, Table, main
from palate_core.errors import PalateError

KEY = bytes(range(32))
LIMITS = palate.Limits(max_events=10**7, max_per_day=10**7, max_bytes=2**32)
ONE_BAR, BATCH_BAR, P99_BAR, START_BAR, STEP_BAR = 5_000, 50_000, 5.0, 0.5, 30.0
REPETITIONS = 5
SINGLE, BATCHED, BATCH = 20_000, 100_000, 1000
SHARES = {"median": 0.5, "99 %": 0.99, "99.9 %": 0.999, "slowest": 1.0}

START = """
import sys, time
begun = time.process_time()
import palate
loaded = time.process_time()
device = palate.open(sys.argv[1], app="bench", key=bytes(range(32)))
device.consent.grant("store")
device.track("view", "a")
print(loaded - begun, time.process_time() - begun, sum(name in sys.modules for name in ("torch", "flwr", "scipy")))
"""


def start(_: Path, repetitions: int) -> Any:
    """Import and open, a new store and one of 100,000 events, each in a process of its own."""
    figures = []
    with tempfile.TemporaryDirectory() as home:
        with palate.open(f"{home}/full", app="bench", key=KEY, limits=LIMITS) as device:
            device.consent.grant("store")
            for batch in _batches(BATCHED):
                device.track_many(batch)
        for number in range(min(repetitions, REPETITIONS)):
            for store in (f"new-{number}", "full"):
                call = [sys.executable, "-c", START, f"{home}/{store}"]
                done = subprocess.run(call, capture_output=True, text=True, check=True)
                loaded, ready, heavy = map(float, done.stdout.split())
                figures.append({"store": store.partition("-")[0], "import": loaded, "ready": ready, "heavy": heavy})
    return figures


def start_tables(figures: Any) -> list[Table]:
    """One row a store."""
    rows = []
    for store, label in (("new", "a new store"), ("full", "a store of 100,000 events")):
        chosen = [figure for figure in figures if figure["store"] == store]
        ready = [figure["ready"] for figure in chosen]
        met = max(ready) < START_BAR and not any(figure["heavy"] for figure in chosen)
        loaded = float(np.median([figure["import"] for figure in chosen]))
        cells = (f"{loaded:.3f}", f"{float(np.median(ready)):.3f}", f"{max(ready):.3f}")
        rows.append((label, *cells, f"< {START_BAR}: {'met' if met else 'MISSED'}"))
    note = "CPU-seconds above bare Python; to the first acknowledged event. torch, flwr and scipy are not loaded."
    header = ("opening", "import, median", "import to first event, median", "max", "bar")
    return [Table("From `import palate` to the first event", header, rows, note)]


def speed(_: Path, repetitions: int) -> Any:
    """Events one by one and in batches, and how long the slowest of a hundred takes."""
    figures = []
    for _number in range(min(repetitions, REPETITIONS)):
        with tempfile.TemporaryDirectory() as home, _device(home) as device:
            begun = time.perf_counter(), time.process_time()
            times = _times(lambda n: device.track("click", f"item-{n % 10_000}", id=f"event-{n}"))
            one = _rates(SINGLE, *begun)
            if device.problem:
                raise PalateError(f"every event must be stored, got {device.problem}")
        with tempfile.TemporaryDirectory() as home, _device(home) as device:
            begun = time.perf_counter(), time.process_time()
            for batch in _batches(BATCHED):
                device.track_many(batch)
            many = _rates(BATCHED, *begun)
            before = time.perf_counter()
            device.flush()
            flush = 1000 * (time.perf_counter() - before)
        figures.append({"one": one, "batch": many, "track": times, "flush_ms": flush})
    return figures


def speed_tables(figures: Any) -> list[Table]:
    """Rates, and how long one call takes."""
    rows = []
    for key, label, bar in (
        ("one", "`track`, one by one", ONE_BAR),
        ("batch", f"`track_many`, {BATCH} at a time", BATCH_BAR),
    ):
        by_cpu, by_wall = ([figure[key][clock] for figure in figures] for clock in ("cpu", "wall"))
        met = f">= {bar:,}: {'met' if min(by_cpu) >= bar else 'MISSED'}"
        rows.append((f"{label}, events per CPU-second", *_cells(by_cpu, 0), met))
        rows.append((f"{label}, events per second of the wall's clock", *_cells(by_wall, 0), ""))
    for share in SHARES:
        for which, label in (("all", "of all"), ("undisturbed", "of the undisturbed")):
            values = [figure["track"][which][share] for figure in figures]
            judged = which == "undisturbed" and share == "99 %"
            met = f"< {P99_BAR:g}: {'met' if max(values) < P99_BAR else 'MISSED'}" if judged else ""
            rows.append((f"one `track`, {share} {label}, ms", *_cells(values, 3), met))
    calm = [100 * figure["track"]["counts"]["undisturbed"] / SINGLE for figure in figures]
    rows.append(("calls that were undisturbed, %", *_cells(calm, 1), ""))
    rows.append(("`flush` after 100,000 events, ms", *_cells([figure["flush_ms"] for figure in figures], 1), ""))
    note = (
        f"{len(figures)} runs; bars hold for the worst. The machine is shared: rates are judged by CPU-seconds. "
        "A call is undisturbed if the kernel gave its processor to nobody else meanwhile (no involuntary switch); "
        "waiting for the disk counts. A call that is disturbed waits for the others' turns, some 4 ms each, whatever "
        "it does; the slowest of the undisturbed move 1,000 pages of the WAL to the main file. "
        "`track`: each event is committed to the encrypted WAL before it returns. Making the `Event` objects counts."
    )
    return [Table("Tracking", ("what", "min", "median", "max", "bar"), rows, note)]


def interests(_: Path, repetitions: int) -> Any:
    """From the file to a user's CSR row, at once and after one more event."""
    figures = []
    catalogue = [f"item-{n}" for n in range(10_000)]
    for count in (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as home, _device(home) as device:
            for batch in _batches(count):
                device.track_many(batch)
            for _number in range(min(repetitions, REPETITIONS)):
                found = device.interests(catalogue)
                begun = time.process_time()
                found.interactions()
                whole = time.process_time() - begun
                device.track("like", f"item-{_number}")
                begun = time.process_time()
                found.interactions()
                figures.append({"events": count, "whole": whole, "next": time.process_time() - begun})
    return figures


def interests_tables(figures: Any) -> list[Table]:
    """One row a number of events."""
    rows = []
    for count in (1_000, 10_000, 100_000):
        chosen = [figure for figure in figures if figure["events"] == count]
        cells = [f"{1000 * float(np.median([figure[key] for figure in chosen])):.1f}" for key in ("whole", "next")]
        rows.append((f"{count:,}", *cells))
    note = "CPU milliseconds, median; a catalogue of 10,000 items, weights of the preset shop."
    return [Table("Interests", ("events", "all of them", "after one more event"), rows, note)]


def frames(_: Path, __: int) -> Any:
    """`track` in a loop of 60 Hz beside other work."""
    return framed()


def frames_tables(figures: Any) -> list[Table]:
    """One row a kind of work."""
    note = (
        "Milliseconds of one `track` in the main thread, 60 times a second, by the wall's clock, while another thread "
        "does the work again and again; 100,000 events are kept. Late: above 16 ms. The machine is shared: the loop "
        "beside nothing is what it takes by itself, and a call is undisturbed if the kernel gave its processor to "
        "nobody else meanwhile."
    )
    header = ("beside", "median", "99 %", "slowest", "late", "late, of the undisturbed", "times done", "bar")
    return [Table("A loop of 60 Hz", header, frame_rows(figures), note)]


def kept(_: Path, __: int) -> Any:
    """What is asked of a store of 100,000 events."""
    return kept_()


def kept_tables(figures: Any) -> list[Table]:
    """What is asked of each store."""
    note = (
        "CPU milliseconds, median of 50 calls taken in turn; 100,000 events on 5,000 items of 100,000, 64 numbers an "
        "item; `recommend` as it is by default. The processor is shared: compare figures of one preset with each other."
    )
    return [Table("100,000 events kept", ("preset", "what", "ms", "bar"), kept_rows(figures), note)]


def _device(home: str) -> palate.Device:
    """A new store without bounds to speak of."""
    device = palate.open(f"{home}/store", app="bench", key=KEY, preset="shop", limits=LIMITS)
    device.consent.grant("store")
    return device


def _batches(count: int) -> Iterator[list[palate.Event]]:
    """So many events on 10,000 items, in batches."""
    for first in range(0, count, BATCH):
        yield [palate.Event("click", f"item-{n % 10_000}", id=f"event-{n}") for n in range(first, first + BATCH)]


def _rates(count: int, wall: float, cpu: float) -> dict[str, float]:
    """Events a second, by the wall's clock and the processor's."""
    return {"wall": count / (time.perf_counter() - wall), "cpu": count / (time.process_time() - cpu)}


def _times(step: Callable[[int], object]) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by the wall's clock, of all and of the undisturbed: median, slowest of 100 and of 1000."""
    taken: dict[str, list[float]] = {"all": [], "undisturbed": []}
    for n in range(SINGLE):
        switches, begun = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw, time.perf_counter()
        step(n)
        spent = time.perf_counter() - begun
        taken["all"].append(spent)
        if resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == switches:
            taken["undisturbed"].append(spent)
    quantiles = {
        which: {share: float(1000 * np.quantile(times, at)) for share, at in SHARES.items()}
        for which, times in taken.items()
    }
    return quantiles | {"counts": {which: float(len(times)) for which, times in taken.items()}}


def _cells(values: list[float], digits: int) -> tuple[str, ...]:
    """Least, median and most."""
    return tuple(f"{value:,.{digits}f}" for value in (min(values), float(np.median(values)), max(values)))


def rounds(_: Path, repetitions: int) -> Any:
    """A device in a round at 10,000 items and 64 dimensions."""
    return measured(min(repetitions, REPETITIONS))


def rounds_tables(figures: Any) -> list[Table]:
    """One row a step."""
    sizes = figures[0]
    note = (
        f"CPU milliseconds; {ITEMS:,} items, d = {WIDTH}, all items in the table, {EVENTS} events; the second round of "
        f"a real run. It sends {sizes['sent_bytes']:,.0f} bytes. The plan's model file has "
        f"{sizes['model_bytes']:,.0f} bytes. What devices download to rank by is in the benchmark `download`."
    )
    return [Table("A round", ("what", "min", "median", "max", "bar"), as_rows(figures, STEP_BAR), note)]


def page(_: Path, repetitions: int) -> Any:
    """The user's own page, of few and of many events."""
    return pages(min(repetitions, REPETITIONS))


def page_tables(figures: Any) -> list[Table]:
    """One row a number of events."""
    note = (
        "CPU seconds, median; a process that has just opened the store. For a page the database counts the events, "
        "once; a list by a model reads them, once, and an app has made one before."
    )
    head = ("events", "first list", "first page", "page after one more event", "its size", "bar of the first page")
    return [Table("The user's own page", head, page_rows(figures), note)]


PARTS = {
    "start": Part(start, start_tables),
    "speed": Part(speed, speed_tables),
    "interests": Part(interests, interests_tables),
    "frames": Part(frames, frames_tables),
    "kept": Part(kept, kept_tables),
    "rounds": Part(rounds, rounds_tables),
    "page": Part(page, page_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=REPETITIONS, needs_data=False)
