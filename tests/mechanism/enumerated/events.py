"""Where the unit is one event: each step has its own coins and noise, and one event moves its own terms alone.

- **W**: the steps of a device and of a node, for every registered algorithm whose unit is one event, with every
  setting, in every round: what is sent is the reference's number by number, of words of that call, all of which it
  takes. So there are as many noised sums as are charged, and each has coins of its own, one an event.
- **U**: an event that the algorithm fails on counts as none, in each step and in what is sent, whichever it is, in a
  node of several devices, too.
- **U**: real stores, to which one event more comes: days later, so that others lose weight by a half-life, or in one
  minute with many of them, so that all count as a burst. With the noised results of earlier steps held fixed, each
  step's sum moves by what that event gives alone, to the whole number.

Words are drawn anew in each audit, and with them what devices compute. That a number lies so near a whole one that two
ways of rounding differ has a probability below 1e-8 in all of them.

**Assumes:** as in test W.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mechanism.enumerated.noises import ROADS, plan_of
from mechanism.enumerated.separability import sums_of
from mechanism.enumerated.settings import ITEMS, RoundStage, SettingsCase, cases, names, rounds
from mechanism.harness.recording import recorded
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.recommend import evidence
from palate_client.rounds import contribution
from palate_client.service import Service
from palate_common.algorithms import Algorithm, EventAlgorithm, algorithm_class
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, Int64
from palate_common.system import memory_folder
from palate_common.weighting import Weighting, weighting_names
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_core.noise.randomness import SeededSource, Source
from palate_core.plan import RoundPlan, Sampling
from reference.message import noised

WORDS, SEPARABLE = "words", "separable"
SIGMA, GRID = 2**13, 2**14
COARSE = 2**8
"""Steps of the clip norm where words are looked at: so few that no two ways of rounding differ."""
NODES = (slice(0, 1), slice(1, 2), slice(3, 6))
"""Devices of a node: one with events, one without, three."""
OTHERS, QUICK_OTHERS = 4, 8
"""One of so many settings is looked at."""
START, DAY = 1_790_000_000.0, 86_400.0
LATER = (0.0, 3 * DAY)
MANY_ITEMS = 2**11 + 3
"""Events of a device that has many."""
MANY = 8
"""Events of a minute above which they count as a burst, here."""


def steps_of_words(*, quick: bool = False) -> list[Finding]:
    """W: each step of every algorithm for single events."""
    found = []
    for name in _of_events():
        some, steps, wrong = cases(name)[:: QUICK_OTHERS if quick else OTHERS], 0, ""
        for case in some:
            for algorithm, stage in rounds(case, sums_of(case, case.histories())):
                for node in NODES:
                    steps += algorithm.steps(stage.round)
                    said = next(_drawn(algorithm, stage, case.histories().users(node)), "")
                    wrong = wrong or (said and f"{case}, round {stage.round}: {said}")
        if not quick and not wrong:
            wrong = next(_of_many(name), "")
        said = f"{len(some)} settings, {steps} steps, each with words of its own"
        found.append(Finding.checked(f"{WORDS}: steps of {name}", not wrong, wrong or said))
    return found


def _chosen(case: SettingsCase) -> float:
    """The probability with which an event takes part in a step."""
    algorithm = case.algorithm()
    return algorithm.inclusion if isinstance(algorithm, EventAlgorithm) else 1.0


def _of_many(name: str) -> Iterator[str]:
    """The steps of a device with thousands of events, of which coins choose some."""
    case = max((each for each in cases(name, MANY_ITEMS) if _chosen(each) < 1), key=_chosen)
    everything = Interactions.from_pairs(
        np.zeros(MANY_ITEMS, np.int64), np.arange(MANY_ITEMS), n_users=1, n_items=MANY_ITEMS
    )
    for algorithm, stage in rounds(case, sums_of(case, case.histories())):
        if stage.round < 2:
            for said in _drawn(algorithm, stage, everything):
                yield f"{case}, round {stage.round}, {MANY_ITEMS:,} events: {said}"


def one_more_event(*, quick: bool = False) -> list[Finding]:
    """U: one event more in real stores, with every preset of weights."""
    presets: list[str | Weighting] = [Weighting(half_life_days=1.0, combine="sum")]
    presets += [] if quick else weighting_names()
    with mock.patch.object(evidence, "BURST", MANY):
        grown = [(each, *_grown(each, later=later)) for each in presets for later in LATER]
    found = []
    for name in _of_events():
        some, wrong = cases(name)[:: 2 * QUICK_OTHERS if quick else 2 * OTHERS], ""
        for case in some:
            for algorithm, stage in rounds(case, sums_of(case, case.histories())):
                for preset, before, after in grown:
                    said = next(moved(algorithm, stage, before, after), "")
                    wrong = wrong or (said and f"{case}, round {stage.round}, weights {preset}: {said}")
                said = next(_failed(algorithm, stage, case.histories().users(NODES[-1])), "")
                wrong = wrong or (said and f"{case}, round {stage.round}: {said}")
        said = f"{len(some)} settings, {len(grown)} stores: each event moves its own terms"
        found.append(Finding.checked(f"{SEPARABLE}: one event of a store, {name}", not wrong, wrong or said))
    return found


def _of_events() -> list[str]:
    """The registered algorithms whose unit is one event."""
    return [name for name in names() if algorithm_class(name).unit == "event"]


def _plan(algorithm: Algorithm, stage: RoundStage, *, inclusion: float) -> RoundPlan:
    """The round's plan, with noise that isn't chosen for a budget."""
    events = Sampling(inclusion=inclusion, steps=algorithm.steps(stage.round))
    plan = plan_of(ROADS[-1], sigma=SIGMA, layout=stage.layout)
    return plan.model_copy(update={"events": events, "round": stage.round, "grid": GRID, "clip_norm": 1.0})


def _message(
    algorithm: Algorithm, stage: RoundStage, plan: RoundPlan, histories: Interactions, source: Source
) -> Int64:
    """A node's message; the function is looked up where the device looks it up."""
    found: Int64 = vars(contribution)["event_steps"](algorithm, stage.state, plan, histories, source).steps
    return found


def _drawn(algorithm: Algorithm, stage: RoundStage, histories: Interactions) -> Iterator[str]:
    """How a message differs from the reference's of the same words."""
    plan = _plan(algorithm, stage, inclusion=algorithm.inclusion if isinstance(algorithm, EventAlgorithm) else 1.0)
    plan = plan.model_copy(update={"grid": COARSE})
    with recorded() as seen:
        source = vars(contribution)["share_source"](plan, range(histories.n_users))
        found = _message(algorithm, stage, plan, histories, source)
    if len(seen.sources) != 1 or not seen.sources[0].secure:
        yield f"words come from {len(seen.sources)} sources, one secure one is right"
        return
    words = iter(seen.sources[0].words.tolist())
    try:
        expected = noised(algorithm, stage.state, plan, histories, words)
    except PalateError:
        yield f"{len(seen.sources[0].words)} words were drawn, its coins and noise take more"
        return
    if wrong := int((found != np.array(expected)).sum()):
        yield f"{wrong} of {len(found)} numbers are not the reference's of the same words"
    if left := sum(1 for _ in words):
        yield f"{left} of {len(seen.sources[0].words)} words were drawn and not used"


@contextmanager
def _held(algorithm: Algorithm) -> Iterator[list[Float64]]:
    """Users' vectors are fixed ones after each step; the sums that the steps received are yielded."""
    told = list[Float64]()

    def user_step(users: Float64, sums: Float64) -> Float64:
        told.append(sums)
        return np.broadcast_to(np.linspace(-0.5, 0.6, users.shape[1]), users.shape).copy()

    with mock.patch.object(algorithm, "user_step", user_step):
        yield told


def moved(algorithm: Algorithm, stage: RoundStage, before: Interactions, after: Interactions) -> Iterator[str]:
    """How far sums move beside the new event's own terms."""
    plan, parts = _plan(algorithm, stage, inclusion=1.0), list[list[Int64]]()
    new = after.entries(~np.isin(after.indices, before.indices))
    nothing = before.entries(np.zeros(before.nnz, np.bool_))
    for histories in (after, before, new, nothing):
        with _held(algorithm) as told:
            sent = _message(algorithm, stage, plan, histories, SeededSource(b"one more"))
        sums = [np.rint(each.ravel() * (plan.grid / plan.clip_norm)).astype(np.int64) for each in told]
        parts.append([*sums, sent])
    for step, (one, other, own, none) in enumerate(zip(*parts, strict=True)):
        if wrong := int(((one - other) != (own - none)).sum()):
            length = float(np.linalg.norm((one - other) - (own - none)))
            yield f"one event more moves {wrong} numbers of step {step + 1} by {length:.0f} steps beside its own terms"


def _failed(algorithm: Algorithm, stage: RoundStage, histories: Interactions) -> Iterator[str]:
    """How a message differs from one without the events that the algorithm fails on."""
    plan, items = _plan(algorithm, stage, inclusion=1.0), np.unique(histories.indices)
    for bad in (items[:1], items[-1:], items[::2]):
        found = list[list[Float64 | Int64]]()
        for events in (histories, histories.entries(~np.isin(histories.indices, bad))):
            with _failing(algorithm, bad), _held(algorithm) as told:
                sent = _message(algorithm, stage, plan, events, SeededSource(b"failing"))
            found.append([*told, sent])
        if any((one != other).any() for one, other in zip(*found, strict=True)):
            yield f"{len(bad)} items on which the algorithm fails don't count as none"


@contextmanager
def _failing(algorithm: Algorithm, bad: npt.NDArray[np.int32]) -> Iterator[None]:
    """Let gradients fail where one of these items is among the events."""
    with ExitStack() as stack:
        for name in ("item_gradients", "user_gradients"):
            real = getattr(algorithm, name)

            def instead(*given: Any, real: Any = real) -> Any:
                if np.isin(given[-1].indices, bad).any():
                    raise ArithmeticError("a number that isn't one")
                return real(*given)

            stack.enter_context(mock.patch.object(algorithm, name, instead))
        yield


def _grown(preset: str | Weighting, *, later: float) -> tuple[Interactions, Interactions]:
    """What a real store says of its events, and what it says with one more, so many seconds after the last ones."""
    now, items = [START], [f"item-{row}" for row in range(ITEMS)]
    service = Service(public_key=SigningKey.generate().public, population="audited", epsilon=50.0, floors=Floors())
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as home:
        opened = open_device(
            Path(home) / "app", app="audit", key=bytes(range(32)), service=service, preset=preset, clock=lambda: now[0]
        )
        with opened as device:
            for purpose in ("store", "train"):
                device.consent.grant(purpose)
            for day, some in enumerate((items[:3], items[3:5], items[5 : ITEMS - 1])):
                now[0] = START + day * DAY
                device.track_many([Event("like", item) for item in some])
            before = _interactions(device, items)
            now[0] += later
            device.track_many([Event("like", items[-1])])
            return before, _interactions(device, items)


def _interactions(device: Device, items: list[str]) -> Interactions:
    """What a round reads."""
    return device.interests(items).interactions()
