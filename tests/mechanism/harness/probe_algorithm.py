"""Probe algorithm: devices contribute exactly what a probe says, to test the production path.

A history's items name gestures, and a user contributes the sum of theirs, as raw numbers: anything that a learning
algorithm might compute, and invalid values too. Everything after `contribute` is the production path.

    >>> from palate_common.algorithms import make_algorithm
    >>> with performing([Gesture(plain=np.full(PLAIN, 1e30))]) as name:
    ...     algorithm = make_algorithm(name, {"rounds": 2}, PublicFacts(n_users=1, n_items=1))
    ...     one = Interactions.from_pairs([0], [0], n_users=1, n_items=1)
    ...     float(algorithm.contribute(algorithm.start(), 0, one).blocks[0].values[0, 0])
    1e+30
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms import Algorithm, PublicFacts, State, lent
from palate_common.interactions import Interactions
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import DenseBlock, Int64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout

Floats = npt.NDArray[np.float64]

NAME = "audit-gestures"
PLAIN, ROWS, COLUMNS, SQUARE = 24, 12, 4, 3
ALONG = 1 + np.arange(ROWS, dtype=np.int64) % 3
"""The direction of the centred table."""
WEIGHTS = {"plain": 0.6, "table": 0.64, "square": 0.288, "centred": 0.3072, "pairs": 0.2304}
"""Weights of the blocks, of every kind; their squares sum to 1."""


@dataclass(frozen=True)
class Gesture:
    """One raw contribution, in the blocks' own units; what is left out is zero.

    Attributes:
        plain: float64 [width] or shorter.
        rows: float64 [k], the factor a of the block a b'.
        column: float64 [COLUMNS], the factor b of both tables.
        square: float64 [SQUARE, SQUARE].
        at: int [k], the indices of `rows`; 0, 1, ... if None. A row may occur twice.
        centred: float64 [k], the factor a of the block (a - t c) b', at rows 0, 1, ...
        shift: the factor t.
        pairs: float64 [k], the rows 0, 1, ... whose pairs are sent.
        fails: whether the algorithm raises an error for a user with this gesture.
    """

    plain: Floats = field(default_factory=lambda: np.zeros(0))
    rows: Floats = field(default_factory=lambda: np.zeros(0))
    column: Floats = field(default_factory=lambda: np.zeros(COLUMNS))
    square: Floats = field(default_factory=lambda: np.zeros((SQUARE, SQUARE)))
    at: tuple[int, ...] | None = None
    centred: Floats = field(default_factory=lambda: np.zeros(0))
    shift: float = 0.0
    pairs: Floats = field(default_factory=lambda: np.zeros(0))
    fails: bool = False


_script: ContextVar[tuple[Gesture, ...]] = ContextVar("_script")


@contextmanager
def performing(script: Sequence[Gesture]) -> Iterator[str]:
    """Register the algorithm under the name that is yielded, until the context ends."""
    token = _script.set(tuple(script))
    try:
        with lent(ProbeAlgorithm):
            yield NAME
    finally:
        _script.reset(token)


class GestureSettings(BaseModel):
    """The settings that a probe may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=1, ge=1)
    width: int = Field(default=PLAIN, ge=1)
    """Coordinates of the block `plain`."""


class ProbeAlgorithm(Algorithm):
    """Each user contributes the gestures that their history names; the model is the latest noised sum."""

    name = NAME
    Settings = GestureSettings

    def __init__(self, settings: GestureSettings, facts: PublicFacts) -> None:
        self.settings, self.facts = settings, facts

    @property
    def shares(self) -> tuple[float, ...]:
        """Equal shares for all rounds."""
        return (1 / self.settings.rounds,) * self.settings.rounds

    def start(self) -> State:
        """The empty state."""
        return {spec.name: np.zeros(spec.shape) for spec in self.layout({}, 0)}

    def layout(self, state: State, round_: int) -> Layout:
        """The blocks, in every round."""
        shapes = {
            "plain": (self.settings.width,),
            "table": (ROWS, COLUMNS),
            "square": (SQUARE, SQUARE),
            "centred": (ROWS, COLUMNS),
            "pairs": (ROWS * (ROWS - 1) // 2,),
        }
        return tuple(BlockSpec(name=name, shape=shape, weight=WEIGHTS[name]) for name, shape in shapes.items())

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """The sum of each user's gestures."""
        script, n = _script.get(), histories.n_users
        plain, square = np.zeros((n, self.settings.width)), np.zeros((n, SQUARE, SQUARE))
        columns, shift = np.zeros((n, COLUMNS)), np.zeros(n)
        tables, centred, pairs = ([dict[int, float]() for _ in range(n)] for _ in range(3))
        given: dict[int, Gesture] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for user, item in zip(histories.owners().tolist(), histories.indices.tolist(), strict=True):
                gesture = script[item]
                if gesture.fails:
                    raise ArithmeticError(f"a gesture that fails, of user {user}")
                plain[user, : len(gesture.plain)] += gesture.plain
                square[user] += gesture.square
                columns[user] += gesture.column
                shift[user] += gesture.shift
                for found, numbers in ((tables, gesture.rows), (centred, gesture.centred), (pairs, gesture.pairs)):
                    for row, value in enumerate(numbers.tolist()):
                        found[user][row] = found[user].get(row, 0.0) + value
                if gesture.at is not None:
                    given[user] = gesture
        at, rows = _listed(tables)
        for user, gesture in given.items():
            at[user], rows[user] = gesture.at or (), gesture.rows.tolist()
        table = OuterBlock(*_sparse(at, rows), columns, ROWS)
        taken = OuterBlock(*_sparse(*_listed(centred)), columns, ROWS, ALONG, shift)
        both = PairBlock(*_sparse(*_listed(pairs)), ROWS)
        return Update((DenseBlock(plain), table, DenseBlock(square), taken, both), n)

    def release(self, state: State, round_: int, sums: Mapping[str, Floats], noise: Mapping[str, float]) -> State:
        """Keep the noised sum."""
        return dict(sums)

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """All zero: the algorithm ranks nothing."""
        return np.zeros((histories.n_users, histories.n_items))


def _listed(found: Sequence[Mapping[int, float]]) -> tuple[list[Sequence[int]], list[Sequence[float]]]:
    """Each user's rows, rising, and their numbers."""
    at: list[Sequence[int]] = [sorted(each) for each in found]
    return at, [[found[user][row] for row in rows] for user, rows in enumerate(at)]


def _sparse(
    at: Sequence[Sequence[int]], rows: Sequence[Sequence[float]]
) -> tuple[Int64, npt.NDArray[np.int32], Floats]:
    """All users' rows one after the other."""
    ends = np.cumsum([0, *(len(each) for each in at)], dtype=np.int64)
    return ends, _joined(at, np.int32), _joined(rows, np.float64)


def _joined(parts: Sequence[Sequence[float]], kind: Any) -> npt.NDArray[Any]:
    """Concatenate all users' entries."""
    return np.asarray([value for part in parts for value in part], kind)
