"""Frames: what a 60 Hz loop that tracks waits while other threads work on 100,000 events, and what those cost."""

from __future__ import annotations

import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import palate
from benchmarks.ranking.run import synthetic, tiled
from palate_client.recommend.scoring import ByFactors
from palate_sim.evaluation.rehearsal import rehearse

EVENTS, ITEMS, TOUCHED = 100_000, 100_000, 5_000
FRAME, LATE, SHARE_BAR = 1 / 60, 16.0, 0.005
NEXT_BAR, SIMILAR_BAR = 5.0, 1.6
SECONDS, CALLS = 6.0, 50
KEY = bytes(range(32))
LIMITS = palate.Limits(max_events=10**7, max_per_day=10**7, max_bytes=2**32)
KINDS: tuple[palate.Kind, ...] = ("click", "view", "impression", "like")


def framed() -> list[dict[str, Any]]:
    """Milliseconds of `track` in a loop of 60 frames a second, alone and beside each kind of work."""
    figures = []
    with tempfile.TemporaryDirectory() as home, filled(f"{home}/store") as device:
        now = time.time()
        files = [Path(home) / f"{number}.jsonl" for number in range(40)]
        for number, file in enumerate(files):  # not in the thread: that is the app's own work
            lines = (
                json.dumps({"kind": "click", "item": f"item-{n}", "time": now - n, "id": f"{number}-{n}"})
                for n in range(5000)
            )
            file.write_text("\n".join(lines))

        works: dict[str, Callable[[int], object] | None] = {
            "nothing": None,
            "export": lambda _: device.export(f"{home}/export.jsonl"),
            "import": lambda number: device.import_jsonl(files[number % len(files)]),
            "privacy report": lambda _: device.privacy_report(),
            "loyalty": lambda _: device.loyalty(),
            "interests, read anew": lambda _: device.interests(["item-1"]).look(),
            "nothing, again": None,
        }
        for label, work in works.items():
            figures.append({"work": label, **_loop(device, label, work)})
    return figures


def _loop(device: palate.Device, label: str, work: Callable[[int], object] | None) -> dict[str, Any]:
    """One loop; the work is done again and again in a thread."""
    end = threading.Event()
    done = [0]

    def again() -> None:
        while work is not None and not end.is_set():
            work(done[0])
            done[0] += 1

    thread = threading.Thread(target=again)
    thread.start()
    taken, calm = list[float](), list[bool]()
    begun = due = time.perf_counter()
    while due - begun < SECONDS:
        switches, start = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw, time.perf_counter()
        device.track("view", f"item-{len(taken)}", id=f"{label}-{len(taken)}")
        ended = time.perf_counter()
        taken.append(1000 * (ended - start))
        calm.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == switches)
        due = max(due + FRAME, ended)
        time.sleep(due - ended)
    end.set()
    thread.join()
    times, quiet = np.array(taken), np.array(taken)[calm]
    return {
        "frames": len(times),
        "median": float(np.median(times)),
        "99 %": float(np.quantile(times, 0.99)),
        "slowest": float(times.max()),
        "late": int((times > LATE).sum()),
        "undisturbed": len(quiet),
        "late, undisturbed": int((quiet > LATE).sum()),
        "done": done[0],
    }


def frame_rows(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the table."""
    rows = []
    for each in figures:
        met = each["late"] <= SHARE_BAR * each["frames"]
        judged = "" if each["work"].startswith("nothing") else f"<= 0.5 %: {'met' if met else 'MISSED'}"
        cells = (f"{each[key]:.2f}" for key in ("median", "99 %", "slowest"))
        late = f"{each['late']} of {each['frames']}"
        quiet = f"{each['late, undisturbed']} of {each['undisturbed']}"
        rows.append((each["work"], *cells, late, quiet, str(each["done"]), judged))
    return rows


def kept() -> list[dict[str, Any]]:
    """CPU milliseconds of calls on a store of 100,000 events, and on one without any."""
    base = rehearse(synthetic(3000, 5000), algorithm="als", settings={"embedding_size": 63, "rounds": 4},
                    epsilon=1.0, delta=1e-5, seed=0)  # fmt: skip
    model, items = tiled(base, ITEMS), [f"item-{n}" for n in range(ITEMS)]
    figures = []
    for preset in ("shop", "news"):
        with (
            tempfile.TemporaryDirectory() as home,
            filled(f"{home}/full", preset=preset) as full,
            filled(f"{home}/empty", preset=preset, count=0) as empty,
        ):
            for device in (full, empty):
                device.use_model(model, items)
            figures.append({"preset": preset, **_calls(full, empty, items)})
    return figures


def _calls(full: palate.Device, empty: palate.Device, items: list[str]) -> dict[str, float]:
    """The calls on two stores, in turn, for the machine is shared."""
    taken: dict[str, list[float]] = {"full": [], "empty": [], "product": [], "similar": [], "loyalty": []}
    first = {"first": _cpu(lambda: full.recommend(10)), "loyalty, first": _cpu(full.loyalty)}
    empty.recommend(10)
    scorer = full.recommendations.recommender()._scorer
    if not isinstance(scorer, ByFactors):
        raise TypeError("als has factors")
    table = scorer._ranking._table
    vector = np.random.default_rng(0).standard_normal(table.shape[1], np.float32)
    full.similar_items(items[0], 10)
    for number in range(CALLS):
        for device in (full, empty):
            device.track("view", items[7 * number], id=f"next-{number}")
        taken["full"].append(_cpu(lambda: full.recommend(10)))
        taken["empty"].append(_cpu(lambda: empty.recommend(10)))
        taken["product"].append(_cpu(lambda: table @ vector))
        taken["similar"].append(_cpu(lambda item=items[number]: full.similar_items(item, 10)))
        taken["loyalty"].append(_cpu(full.loyalty))
    return first | {name: float(np.median(times)) for name, times in taken.items()}


def kept_rows(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the table."""
    rows = []
    for each in figures:
        above, ratio = each["full"] - each["empty"], each["similar"] / each["product"]
        said = [f"<= {bar:g}: {'met' if value <= bar else 'MISSED'}"
                for value, bar in ((above, NEXT_BAR), (ratio, SIMILAR_BAR))]  # fmt: skip
        lines = (
            ("`recommend`, the first", each["first"], ""),
            ("`recommend` after one more event", each["full"], ""),
            ("the same on an empty store", each["empty"], ""),
            ("the difference", above, said[0]),
            ("numpy's product of the item vectors with one", each["product"], ""),
            ("`similar_items`", each["similar"], f"{ratio:.2f} x the product, {said[1]}"),
            ("`loyalty`, the first", each["loyalty, first"], ""),
            ("`loyalty` after one more event", each["loyalty"], ""),
        )
        rows += [(each["preset"], label, f"{value:.2f}", judged) for label, value, judged in lines]
    return rows


def filled(path: str, *, preset: str = "shop", count: int = EVENTS) -> palate.Device:
    """A store with events on some of the items, of several kinds and 300 days."""
    device = palate.open(path, app="bench", key=KEY, preset=preset, limits=LIMITS)
    device.consent.grant("store")
    rng, now = np.random.default_rng(0), time.time()
    for first in range(0, count, 5000):
        device.track_many([_event(n, f"item-{rng.integers(TOUCHED)}", now) for n in range(first, first + 5000)])
    return device


def _event(n: int, item: str, now: float) -> palate.Event:
    """One of those; one in twenty is a purchase."""
    time_, known = now - 86_400 * (n % 300) - n, f"kept-{n}"
    if n % 20:
        return palate.Event(KINDS[n % 4], item, time_, id=known)
    return palate.Event("purchase", item, time_, 1.0, id=known, props={"amount": 9.5})


def _cpu(step: Callable[[], object]) -> float:
    """CPU milliseconds of this thread."""
    begun = time.thread_time()
    step()
    return 1000 * (time.thread_time() - begun)
