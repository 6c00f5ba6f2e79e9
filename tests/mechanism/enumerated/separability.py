"""U: what a node sums is the sum of what each of its users gives alone, and nobody else's part moves.

Clipping bounds what one user sends. That is the sensitivity of the sum only if nothing that others send follows from
that user. So contributions are made by the production functions, for every registered algorithm, with every setting, in
every round:

- of all together, and of two parts in another order: the same whole numbers;
- of all, where one user's events are emptied: what that user gives alone is missing, and no other number moves;
- of each of these users alone, and of each beside nobody's: neither is ever longer than the grid.

Where the unit is one event, the same holds of events, with the users' noised vectors held fixed.

Cases are the same in every audit and whole numbers are compared, so there is no chance in it.

**Assumes:** no other value of a setting goes another way; `palate_audit.enumerated.settings` says which values there
are. Algorithms in torch are looked at as they come, and with steps that diverge; their floats depend a little on who
else is computed, so that what moves a number by less than 2^-12 of a clip norm isn't found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from palate_audit.enumerated.settings import (
    GRID,
    ITEMS,
    SIZES,
    RoundStage,
    SettingsCase,
    cases,
    in_torch,
    names,
    rounds,
)
from palate_audit.harness.sharing import once

from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.algorithms import Algorithm, EventAlgorithm, PublicFacts
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, Int64, Update
from palate_common.rounds import event_steps
from palate_core.layout import BlockSpec

TEST = "U separable"
TIES = 2**8
"""Steps by which a sum may follow from who else is computed in torch, of 2^20 in a clip norm: floats are rounded."""
DIVERGING: Mapping[str, Any] = {"local_rate": 1000.0, "local_steps": 4}
"""Steps on a device that diverge, further for who has many events: whatever tames them may follow from one user."""
QUICK = 4
"""The quick form has one of so many settings."""
EMPTIED = 2
"""So many users are emptied in a round, others in each."""
FIRST = 4
"""Of a long run the first rounds and the last are looked at."""


@dataclass(frozen=True)
class Summed:
    """What a batch comes to in a round.

    Attributes:
        units: how many users there are, or events.
        of: the production sum of some of them, in an order, int64 [size].
        without: of all of them, where one is emptied.
        nothing: what a unit without events gives.
    """

    units: int
    of: Callable[[npt.NDArray[np.int64]], Int64]
    without: Callable[[int], Int64]
    nothing: Int64


def separability(*, quick: bool = False) -> list[Finding]:
    """Every algorithm; `quick` has fewer settings, and leaves out those in torch."""
    found = [_separable(name, cases(name)[:: QUICK if quick else 1]) for name in names()]
    return found + ([] if quick else [_separable(name, _plain(name), ties=TIES) for name in in_torch()])


def _plain(name: str) -> tuple[SettingsCase, ...]:
    """An algorithm in torch of two rounds, as it comes and with steps by which somebody's numbers diverge."""
    facts = PublicFacts(n_users=len(SIZES), n_items=ITEMS, mu=2.0)
    return tuple(SettingsCase(name, {"rounds": 2, **steps}, facts) for steps in ({}, DIVERGING))


def _separable(name: str, found: tuple[SettingsCase, ...], *, ties: int = 0) -> Finding:
    """One algorithm in its cases; `ties`: by how many steps numbers may differ."""
    places, wrong = 0, ""
    for case in found:
        histories = case.histories()
        try:
            for algorithm, stage in rounds(case, sums_of(case, histories)):
                if FIRST <= stage.round < len(algorithm.shares) - 1:
                    continue
                *_, released = parts = list(_parts(algorithm, stage, histories))
                for part, summed in parts:
                    places += 1
                    whole = sums_of(case, histories)(algorithm, stage) if summed is released[1] else None
                    emptied = min(EMPTIED, summed.units)
                    said = next(_differs(summed, whole, first=places, emptied=emptied, ties=ties), "")
                    wrong = wrong or (said and f"{case}, round {stage.round}{part}: {said}")
        except Exception as error:
            wrong = wrong or f"{case}: its rounds must end, got {type(error).__name__}: {error}"
        if wrong:
            break
    said = f"{len(found)} settings, {places} sums are those of single users"
    return Finding.checked(f"{TEST}: {name}", not wrong, wrong or said)


def sums_of(case: SettingsCase, histories: Interactions) -> Callable[[Algorithm, RoundStage], Int64]:
    """(algorithm, stage of a round of the case) -> the sum that is released; tests of one audit share it.

    Args:
        case: the algorithm and its settings.
        histories: the case's.
    """

    def sums(algorithm: Algorithm, stage: RoundStage) -> Int64:
        return once(("sum", case, stage.round), partial(everybody, algorithm, stage, histories))

    return sums


def everybody(algorithm: Algorithm, stage: RoundStage, histories: Interactions) -> Int64:
    """The sum that is released."""
    *_, (_, summed) = _parts(algorithm, stage, histories)
    return summed.of(np.arange(summed.units))


def _parts(algorithm: Algorithm, stage: RoundStage, histories: Interactions) -> Iterator[tuple[str, Summed]]:
    """The sums of a round: one over users, or, where the unit is one event, two over events."""
    if isinstance(algorithm, EventAlgorithm):
        yield from _over_events(algorithm, stage, histories)
    else:
        yield "", _over_users(algorithm, stage, histories)


def _over_users(algorithm: Algorithm, stage: RoundStage, histories: Interactions) -> Summed:
    """Of the users' contributions."""

    def of(some: Interactions) -> Int64:
        return _clipped(algorithm.contribute(stage.state, stage.round, some), stage.layout)

    def without(user: int) -> Int64:
        return of(histories.only(np.arange(histories.n_users) != user))

    nobody = histories.user(0).only(np.zeros(1, np.bool_))
    return Summed(histories.n_users, lambda rows: of(histories.users(rows)), without, of(nobody))


def _over_events(algorithm: EventAlgorithm, stage: RoundStage, histories: Interactions) -> Iterator[tuple[str, Summed]]:
    """Of the events' gradients: by the users' own vectors, and by what is sent."""
    rng = np.random.default_rng(stage.round)
    vectors = algorithm.user_start(stage.state, histories.n_users)
    vectors = np.asarray(vectors + rng.normal(size=vectors.shape))
    own = (BlockSpec(name="user", shape=vectors.shape[1:], weight=1.0),)

    def sent(events: Interactions) -> Int64:
        return _clipped(algorithm.item_gradients(stage.state, stage.round, vectors, events), stage.layout, event_steps)

    def kept(events: Interactions) -> Int64:
        gradients = algorithm.user_gradients(stage.state, vectors, events)
        return _clipped(Update((DenseBlock(gradients),), events.nnz), own, event_steps)

    for part, of in ((", user step", kept), ("", sent)):
        if part and stage.round == 0:
            continue  # there is no table yet that vectors follow
        yield (
            part,
            Summed(
                histories.nnz,
                lambda rows, of=of: of(histories.entries(np.isin(np.arange(histories.nnz), rows))),  # type: ignore[misc]
                lambda event, of=of: of(histories.entries(np.arange(histories.nnz) != event)),  # type: ignore[misc]
                np.zeros_like(of(histories.entries(np.zeros(histories.nnz, np.bool_)))),
            ),
        )


def _clipped(update: Update, layout: tuple[BlockSpec, ...], path: object = contribution) -> Int64:
    """The sum of clipped contributions; the clip is looked up where the path looks it up."""
    total: Int64 = vars(path)["clip"](update, layout, clip_norm=1.0, grid=GRID).total()
    return total


def _differs(summed: Summed, whole: Int64 | None, *, first: int, emptied: int, ties: int) -> Iterator[str]:
    """How sums differ from those of others: of parts, in another order, and where some units are emptied.

    Args:
        summed: the batch.
        whole: its sum, where that is known.
        first: of which units are emptied.
        emptied: how many of them.
        ties: by how many steps numbers may differ.
    """
    everybody = np.arange(summed.units)
    total = summed.of(everybody) if whole is None else whole
    yield from _not(
        summed.of(everybody[::-2]) + summed.of(everybody[-2::-2]), total, "two parts, in another order,", ties
    )
    for unit in ((first * emptied + place) % summed.units for place in range(emptied)):
        alone = summed.of(everybody[unit : unit + 1])
        for vector, beside in ((alone, ""), (alone - summed.nothing, " beside one without events")):
            if (square := _square(vector)) > GRID**2:
                yield f"number {unit} alone gives {math.sqrt(square):.0f} steps{beside}, {GRID} are charged"
        rest = total - alone + summed.nothing
        yield from _not(summed.without(unit), rest, f"all, number {unit} emptied,", ties)


def _not(found: Int64, expected: Int64, who: str, ties: int) -> Iterator[str]:
    """Where a sum isn't as it must be."""
    moved = found - expected
    if wrong := int((np.abs(moved) > ties).sum()):
        length = math.sqrt(_square(moved))
        yield f"{who} give other sums than each alone, in {wrong} of {len(found)} numbers, by {length:.0f} steps"


def _square(steps: Int64) -> int:
    """The exact square of a vector's length."""
    return sum(step**2 for step in steps[steps != 0].tolist())
