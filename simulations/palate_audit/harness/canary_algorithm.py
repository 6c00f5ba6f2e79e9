"""Canary algorithm: an ordinary algorithm whose devices contribute what an auditor chose for them.

It takes the place of `als` in a production round; everything else is the production code. The auditor's table of
contributions is public, and the plan names its hash. Secret is who takes part: a user whose history has item u
contributes row u of the table, and a user without events contributes zero, which is zero-out adjacency.

    >>> table = CanaryTable(Contributions.of([[0.6, 0.8]]), (Part(name="x", size=2),))
    >>> with carried(table) as settings:
    ...     sorted(settings)
    ['parts', 'shares', 'table']
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_audit.harness.target import Contributions
from palate_common.algorithms import Algorithm, PublicFacts, State, lent
from palate_common.interactions import Interactions
from palate_common.mechanism.update import OuterBlock, Update
from palate_core.errors import InputError
from palate_core.layout import BlockSpec, Layout


class Part(BaseModel):
    """One block of the layout, sent as rows times a vector of `width` numbers, as item tables are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int = Field(ge=1)
    """Coordinates, rows times width."""
    width: int = Field(default=1, ge=1)
    weight: float = Field(default=1.0, gt=0, le=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one user's block."""
        return (self.size,) if self.width == 1 else (self.size // self.width, self.width)


@dataclass(frozen=True)
class CanaryTable:
    """The contribution of each user, and the blocks that it consists of."""

    rows: Contributions
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if sum(part.size for part in self.parts) != self.rows.dimension or any(p.size % p.width for p in self.parts):
            raise InputError(f"parts must be whole rows and sum to {self.rows.dimension} coordinates")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the whole table."""
        found = hashlib.sha256(repr((self.parts, self.rows.dimension)).encode())
        for array in (self.rows.indptr, self.rows.indices, self.rows.values):
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


_tables: dict[str, CanaryTable] = {}


@contextmanager
def carried(table: CanaryTable, *, shares: tuple[float, ...] = (1.0,)) -> Iterator[dict[str, Any]]:
    """Register the algorithm in this process; yields the settings that a plan names it with."""
    _tables[table.hash] = table
    try:
        with lent(CanaryAlgorithm):
            parts = [part.model_dump(mode="json") for part in table.parts]
            yield {"parts": parts, "shares": list(shares), "table": table.hash}
    finally:
        del _tables[table.hash]


class CanarySettings(BaseModel):
    """The plan's settings of the canary algorithm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Part, ...]
    shares: tuple[float, ...]
    """Shares of mu^2, one a release."""
    table: str
    """Hash of the auditor's table."""


class CanaryAlgorithm(Algorithm):
    """Each device contributes its row of the table, in every round."""

    name = "audit-carrier"
    Settings = CanarySettings

    def __init__(self, settings: CanarySettings, facts: PublicFacts) -> None:
        self.settings, self.facts = settings, facts
        if settings.table not in _tables:
            raise InputError("`algorithm.table` must be one that this process audits with, got another")
        self._table = _tables[settings.table]

    @property
    def shares(self) -> tuple[float, ...]:
        """Each release's share of mu^2."""
        return self.settings.shares

    def start(self) -> State:
        """The state only counts releases."""
        return {"releases": np.zeros(1, np.int64)}

    def layout(self, state: State, round_: int) -> Layout:
        """The table's blocks."""
        return tuple(BlockSpec(name=p.name, shape=p.shape, weight=p.weight) for p in self.settings.parts)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """The rows of the users that have an item, in the blocks' own units."""
        rows = _rows_of(self._table.rows, histories)
        ends = np.cumsum([part.size for part in self.settings.parts])
        blocks = [_block(rows, part, int(end) - part.size) for part, end in zip(self.settings.parts, ends, strict=True)]
        return Update(tuple(blocks), histories.n_users)

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Count the release; the audit reads the release itself."""
        return {"releases": state["releases"] + 1}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """All zero: the algorithm ranks nothing."""
        return np.zeros((histories.n_users, histories.n_items))


def members(contributions: Contributions) -> Interactions:
    """Histories by participation: user u has item u if its row isn't zero, and no events otherwise."""
    has = np.diff(contributions.indptr) > 0
    n_users = contributions.n_users
    return Interactions.from_pairs(np.flatnonzero(has), np.flatnonzero(has), n_users=n_users, n_items=n_users)


def _rows_of(table: Contributions, histories: Interactions) -> Contributions:
    """The table's rows of a batch of users; of several items of a user only the first counts."""
    item = np.full(histories.n_users, -1, np.int64)
    has = np.flatnonzero(histories.counts())
    item[has] = histories.indices[histories.indptr[has]]
    starts = np.where(item < 0, 0, table.indptr[item])
    counts = np.where(item < 0, 0, table.indptr[item + 1] - starts)
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    entries = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
    return Contributions(indptr, table.indices[entries], table.values[entries], table.dimension)


def _block(rows: Contributions, part: Part, start: int) -> OuterBlock:
    """One block of every user of a batch: single numbers, or one row of `width` numbers times its length."""
    inside = (rows.indices >= start) & (rows.indices < start + part.size)
    owners, places = rows.owners()[inside], rows.indices[inside] - start
    values, users = rows.values[inside] / part.weight, rows.n_users
    if part.width == 1:
        return OuterBlock(_ends(owners, users), places.astype(np.int32), values, np.ones((users, 1)), part.size)
    items = places // part.width
    if ((owners[1:] == owners[:-1]) & (items[1:] != items[:-1])).any():
        raise InputError(f"a contribution to `{part.name}` must be one row a user")
    columns, row_of = np.zeros((users, part.width)), np.zeros(users, np.int32)
    columns[owners, places % part.width], row_of[owners] = values, items
    lengths = np.linalg.norm(columns, axis=1)
    has = np.flatnonzero(lengths)
    columns[has] /= lengths[has, None]
    return OuterBlock(_ends(has, users), row_of[has], lengths[has], columns, part.size // part.width)


def _ends(owners: npt.NDArray[np.int64], n_users: int) -> npt.NDArray[np.int64]:
    """CSR index pointers of sorted owners."""
    return np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=n_users)))).astype(np.int64)
