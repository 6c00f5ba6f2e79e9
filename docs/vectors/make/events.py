"""events.json: what kinds mean, what presets make of them, and what a store keeps of events that come late or twice."""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import asdict
from typing import Any

import numpy as np

from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.store.retention import Limits
from palate_common.kinds import KINDS, MOST, Kind
from palate_common.weighting import Weighting, weighting_names, weighting_of

from .digits import digits

DAY, START = 86_400.0, 1_790_000_000.0
LEAPS = (0.25, 0.5, 1.0, 60.0, 3600.0, DAY, 10 * DAY, 29 * DAY, 31 * DAY, 46 * DAY, 400 * DAY, 3650 * DAY)
VALUES = (None, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0, 4.0, 40.0, 1500.0)
RECORDED: tuple[Kind, ...] = ("like", "rate", "impression", "rate")


def events() -> dict[str, Any]:
    """Lives of a store: what is asked at which time, what the answers are, and what is kept."""
    limits = (
        Limits(keep_days=60.0, max_per_day=3, window_seconds=2.0),
        Limits(keep_days=40.0, max_events=30, max_per_day=9, window_seconds=0.0),
        Limits(keep_days=730.0, max_per_day=6, window_seconds=0.5),
        Limits(keep_days=1.0, max_per_day=50, window_seconds=86_400.0),
    )
    own = Weighting(
        {"view": 0.25, "Unboxed": 0.5, "sold on": -1.0, "*": 2.0},
        {0: 0.5, 4: 1.5},
        {"comment": {-1: 0, 0.5: 3}},
        cap=9.0,
    )
    judged = {name: _judged(weighting_of(name)) for name in weighting_names()} | {"own": _judged(own)}
    return {
        "kinds": {kind: json.dumps(_meaning(kind)) for kind in KINDS},
        "values": VALUES,
        "own": asdict(own),
        "judged": {name: {kind: json.dumps(each) for kind, each in kinds.items()} for name, kinds in judged.items()},
        "lives": [_life(each, seed) for seed, each in enumerate(limits)],
    }


def _meaning(kind: str) -> dict[str, Any]:
    """What a kind means; a bound that no number passes is null."""
    means = asdict(KINDS[kind])
    return means | {"says": int(means["says"]), "most": None if means["most"] == MOST else means["most"]}


def _judged(weighting: Weighting) -> dict[str, list[tuple[int, float]]]:
    """Of each kind: what an event of each of `VALUES` says, and its weight."""
    values = np.array([np.nan if each is None else each for each in VALUES])
    found = {}
    for code, kind in enumerate(weighting.known):
        says, weights = weighting.judge(np.full(len(values), code), values)
        found[kind] = list(zip(says.tolist(), digits(weights), strict=True))
    return found


def _life(limits: Limits, seed: int) -> dict[str, Any]:
    """One life: each step is [time by the clock, "open" or "add" or "import", events, answers, what is kept then]."""
    dice = random.Random(seed).random  # noqa: S311 # the same for ever
    clock, right, steps = [START], START, [[START, "open", [], [], 0, []]]

    def one(of: tuple[Any, ...]) -> Any:
        return of[int(dice() * len(of))]

    with tempfile.TemporaryDirectory() as folder:

        def opened() -> Device:
            return open_device(folder, app="events", key=bytes(32), limits=limits, clock=lambda: clock[0])

        device = opened()
        device.consent.grant("store")
        for _ in range(40):
            right += one(LEAPS[:8])
            # Mostly right; otherwise it was never set, or is wrong by anything, in either direction.
            clock[0] = right if dice() < 0.6 else 5.0 if dice() < 0.2 else right + one((-1, 1, 1)) * one(LEAPS)
            what, asked = one(("open", "add", "add", "import")), list[list[Any]]()
            for at in range(int(dice() * 4) if what != "open" else 0):
                kind = one(RECORDED)
                ago = None if dice() < 0.3 else clock[0] - one((0.0, 0.25, 1.0, 2.0, DAY, 39 * DAY, 41 * DAY, -5.0))
                own = f"{len(steps)}-{at}" if what == "import" else "till" if dice() < 0.1 else ""
                asked.append(
                    [kind, f"item-{int(dice() * 2)}", ago, 4.0 + int(dice() * 2) if kind == "rate" else None, own]
                )
            given = [Event(kind, item, time, value, id=own) for kind, item, time, value, own in asked]
            if what == "open":
                device.close()
                device = opened()
            answers = [str(each) for each in device.store.add(given, imported=what == "import")] if given else []
            kept = [[event.kind, event.item, event.time, event.value] for event in device.store.events()]
            steps.append([clock[0], what, asked, answers, len(kept), kept[-2:]])
        device.close()
    # A step a line: the whole file is read by people as well.
    return {"limits": asdict(limits), "steps": [json.dumps(step) for step in steps], "kept": json.dumps(kept)}
