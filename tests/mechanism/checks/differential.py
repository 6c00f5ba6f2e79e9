"""Production does what the reference does, number by number.

The reference (`reference`) clips, sums, draws and charges in plain Python numbers, one user and one number
after the other, from the same raw contributions and the same random words. Two kinds of cases are compared:

- **made ones**: blocks of every kind, shape and size, clip norms below and above 1, grids that are powers and not,
  users that are cut into parts, and users who name a row twice;
- **whole runs** of every registered algorithm, with the layouts, contributions and rounds that it really has, and of a
  survey: what each node sends, what is released, and what is charged.

Cases are the same in every audit, noise is seeded, and whole numbers are compared, so there is no chance in it.

**Assumes:** what an algorithm contributes is that user's alone, as the reference starts from raw contributions. A
seeded source goes through the code that a secure one goes through, which test W looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np

from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.quiet_runs import SURVEY
from mechanism.harness.recording import RecordedSource, recorded
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.algorithms import algorithm_names
from palate_common.interactions import Interactions
from palate_common.mechanism import pairs, update
from palate_common.rounds.wire import decode, decode_share
from palate_common.survey import SURVEYING
from palate_core.errors import InputError, PalateError
from palate_core.layout import DUMMIES
from palate_core.plan import RoundPlan
from palate_core.privacy_mode import LOCAL, PrivacyMode
from reference.cases import Case, cases, named_twice
from reference.contribution import total
from reference.cost import charge
from reference.message import noised, summed_up
from reference.noise import discrete_gaussian

TEST = "reference"
CASES, QUICK_CASES = 300, 75
SEED = 18
USERS, ITEMS = 17, 30
PARTS: Mapping[Any, Mapping[str, int]] = {
    update: {"USERS_AT_ONCE": 4, "DENSE_AT_ONCE": 64},
    pairs: {"PAIRS_AT_ONCE": 8, "DENSE_AT_ONCE": 64, "FEWEST_DENSE": 1},
    contribution: {"USERS_AT_ONCE": 3},
}
"""Where production cuts its work into parts; so small that made cases come in several."""


@dataclass(frozen=True)
class Whole:
    """A whole run of an algorithm.

    Attributes:
        algorithm: its name.
        settings: that give it all of its blocks.
        clip_norm: of the run.
        grid: of the run.
        per_node: users of a node; the last node has what is left.
        mode: who adds the noise.
        events: the probability with which an event takes part, where the unit is one event.
        parts: whether nodes cut their users into parts.
    """

    algorithm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float = 1.0
    grid: int = 2**14
    per_node: int = 5
    mode: PrivacyMode = Setting.mode
    events: float | None = None
    parts: bool = False


_ALS = {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}
RUNS: Mapping[str, Whole] = {
    "als": Whole("als", _ALS, clip_norm=0.4),
    "als, pairs and votes": Whole("als", {**_ALS, "pair_items": 12, "vote_share": 0.2}, grid=2**20, per_node=7),
    "als, in parts": Whole("als", _ALS, clip_norm=2.5, per_node=USERS, parts=True),
    "event-mf": Whole("event-mf", {**_ALS, "user_steps": 2}, per_node=1, mode=LOCAL, events=1.0),
    "event-mf, sampled": Whole("event-mf", {**_ALS, "inclusion": 0.5}, per_node=1, mode=LOCAL, events=0.5),
    "popularity": Whole("popularity", clip_norm=0.3, grid=1000),
    "sgd": Whole("sgd", {"rounds": 3, "embedding_size": 4}, clip_norm=0.05, per_node=6),
    "sgd, newton": Whole("sgd", {"rounds": 3, "embedding_size": 4, "optimizer": "newton"}),
    "a survey": Whole(SURVEYING, SURVEY.model_dump(mode="json"), per_node=1),
}
"""Every algorithm that comes with Palate without torch; others that are registered are run as they come."""
SLOW = ("event-mf, sampled",)
"""What the quick form leaves out: its server takes seconds to find its noise."""


def differential(*, quick: bool = False) -> list[Finding]:
    """All cases; `quick` leaves out some made ones, what is slow, and algorithms that are not listed here."""
    runs = {name: run for name, run in RUNS.items() if not quick or name not in SLOW}
    if not quick:
        listed = {each.algorithm for each in RUNS.values()}
        runs |= {name: Whole(name, {"rounds": 3}) for name in algorithm_names() if name not in listed}
    return [*_made(QUICK_CASES if quick else CASES), *(_whole(name, run) for name, run in runs.items())]


def _made(count: int) -> Iterator[Finding]:
    """Made contributions, whole and in parts."""
    for how, parts in (("whole", False), ("in parts", True)):
        with _cut(parts):
            wrong = next(filter(None, (_differs(case) for case in cases(count, seed=SEED + parts))), "")
        said = f"{count} batches have the same integers"
        yield Finding.checked(f"{TEST}: sums, {how}", not wrong, wrong or said)
    wrong = next(filter(None, map(_too_long, named_twice())), "")
    yield Finding.checked(f"{TEST}: rows named twice", not wrong, wrong or "refused, or within the bound")


def _clipped(case: Case) -> list[int]:
    """Production's sum of a case; the clip is looked up where the path looks it up."""
    clip = vars(contribution)["clip"]
    found: list[int] = clip(case.update, case.layout, clip_norm=case.clip_norm, grid=case.grid).total().tolist()
    return found


def _differs(case: Case) -> str:
    """How production's sum differs from the reference's; empty if it doesn't."""
    try:
        found = _clipped(case)
    except PalateError as error:
        return f"{case.name}: there must be a sum, got: {error}"
    expected = total(case.update, case.layout, clip_norm=case.clip_norm, grid=case.grid)
    return _first(case.name, found, expected)


def _too_long(case: Case) -> str:
    """Whether one user who names a row twice moves the sum by more than the grid."""
    try:
        square = sum(step**2 for step in _clipped(case))
    except InputError:
        return ""
    return f"{case.name}: one user moves the sum by {square**0.5:.0f} steps" if square > case.grid**2 else ""


def _first(name: str, found: list[int], expected: list[int]) -> str:
    """The first number that differs."""
    if len(found) != len(expected):
        return f"{name}: {len(found)} numbers, {len(expected)} are right"
    wrong = [place for place, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other]
    if not wrong:
        return ""
    place = wrong[0]
    return f"{name}: {len(wrong)} numbers differ, the first is {found[place]}, {expected[place]} is right"


@contextmanager
def _cut(parts: bool) -> Iterator[None]:
    """Let production cut its work into small parts."""
    with ExitStack() as stack:
        for module, sizes in PARTS.items() if parts else ():
            for name, size in sizes.items():
                stack.enter_context(mock.patch.object(module, name, size))
        yield


def _whole(name: str, run: Whole) -> Finding:
    """A whole run: its messages, its releases and its charges."""
    setting = Setting(
        mode=run.mode, users_per_node=run.per_node, clip_norm=run.clip_norm, grid=run.grid,
        algorithm=run.algorithm, settings=dict(run.settings), epsilon=20.0, events=run.events,
    )  # fmt: skip
    test, wrong, rounds = f"{TEST}: {name}", "", 0
    try:
        with _cut(run.parts), probe_run(setting, _histories(run)) as stage:
            while not stage.coordinator.finished and not wrong:
                wrong, rounds = next(filter(None, _round(stage, run)), ""), rounds + 1
    except PalateError as error:
        wrong = f"the run must end, got: {error}"
    return Finding.checked(test, not wrong, wrong or f"{rounds} rounds: messages, releases and charges are the same")


def _histories(run: Whole) -> Interactions:
    """Users with many items and with few, one of them without any; of a survey, with answers."""
    items = len(SURVEY.questions()) if run.algorithm == SURVEYING else ITEMS
    rng = np.random.default_rng(SEED)
    odds = 1 / np.arange(1, items + 1)
    acts = [rng.choice(items, min(items, 2 * user), replace=False, p=odds / odds.sum()).tolist() for user in range(9)]
    return crowd([*acts, *acts][:USERS], n_items=items)


def _round(stage: WatchedRun, run: Whole) -> Iterator[str]:
    """One round: what differs from the reference's, in the order in which it happens."""
    algorithm, state = stage.coordinator.model.algorithm, stage.coordinator.model.state
    with recorded() as seen:
        stage.play(rounds=1)
    plan = stage.seen.plans[-1].plan
    place = f"round {plan.round}"
    sources = iter(seen.sources)
    at_once = PARTS[contribution]["USERS_AT_ONCE"] if run.parts else run.per_node
    summed = [0] * (sum(spec.size for spec in plan.layout) + DUMMIES)
    for node, first in enumerate(range(0, stage.histories.n_users, run.per_node)):
        mine = stage.histories.users(slice(first, first + run.per_node))
        if run.mode.noised_by_devices:
            expected = noised(algorithm, state, plan, mine, _words(next(sources, None)))
        else:
            expected = summed_up(algorithm, state, plan, mine, at_once=at_once) + [0] * DUMMIES
        yield _first(f"{place}, node {node}", _sent(stage, plan, node), expected)
        summed = [one + other for one, other in zip(summed, expected, strict=True)]
    if not run.mode.noised_by_devices:
        words = _words(next(sources, None))
        drawn = discrete_gaussian(words, len(summed), plan.sigma)
        summed = [one + other for one, other in zip(summed, drawn, strict=True)]
    yield _first(f"{place}, release", stage.sealed(plan.round, plan.attempt).tolist(), summed)
    if next(sources, None) is not None:
        yield f"{place}: {len(seen.sources)} sources of random words were used"
    yield _cost(stage, plan)


def _words(source: RecordedSource | None) -> Iterator[int]:
    return iter([] if source is None else source.words.tolist())


def _sent(stage: WatchedRun, plan: RoundPlan, node: int) -> list[int]:
    """The numbers of a node's message, and zeros for the dummies that it doesn't send."""
    answer = stage.seen.replies[plan.round, plan.attempt, node][0] or b""
    if plan.mode.noised_by_devices:
        return [int(each) for each in decode_share(answer, bits=plan.bits(1)).total]
    return [int(each) for each in decode(answer, grid=plan.grid).total] + [0] * DUMMIES


def _cost(stage: WatchedRun, plan: RoundPlan) -> str:
    """Whether the ledger has what the noise costs, and no less."""
    if plan.events is not None and plan.events.inclusion < 1:
        return ""  # test G looks at sampled sums
    owed = charge(grid=plan.grid, sigma=plan.sigma) * (1 if plan.events is None else plan.events.steps)
    charged = [
        Fraction(entry.mu2)
        for entry in stage.ledger.entries()
        if entry.kind == "charge" and (entry.round, entry.attempt) == (plan.round, plan.attempt)
    ]
    if len(charged) == 1 and owed <= charged[0] <= owed * (1 + Fraction(1, 10**12)):
        return ""
    return f"round {plan.round} costs mu^2 {float(owed):.9g}, charged was {[float(each) for each in charged]}"
