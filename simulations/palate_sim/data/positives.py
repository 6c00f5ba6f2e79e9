"""Positives: which interactions count as a sign of liking, and how much.

Third step of the data path: an `InteractionLog` becomes one weighted pair a user and item. By default every
interaction is a positive of weight 1. A threshold on the value, weights by kind of event, a table of weights by value
and a half-life are configuration (a preset's `[positives]`, `[data.weights]`, `[data.value_weights]`).

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> events = pd.DataFrame({"user": ["u"] * 3, "item": ["a", "a", "b"], "event": ["view", "like", "view"]})
    >>> pairs = positives(read_log(events), weights={"view": 1, "like": 3})
    >>> pairs.items, pairs.weights.tolist()
    (('a', 'b'), [3.0, 1.0])
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pa_compute  # type: ignore[import-untyped]  # it ships no types

from palate_common.errors import InputError
from palate_common.weighting import Combine, Weighting
from palate_sim.data.columns import show
from palate_sim.data.events import Block, Place, PrivateFolder, stable_order
from palate_sim.data.id_list import IdList
from palate_sim.data.log import InteractionLog
from palate_sim.steps import Notify, silent, step

PAIRS_AT_ONCE = 1 << 22
"""Pairs of a block of `Pairs.blocks`, where they lie on disk."""
TIMES_AT_ONCE, STEPS_OF_TIMES = 1 << 24, 1 << 16
"""Times that are looked at together, and steps by which they are counted."""


@dataclass(frozen=True)
class PairBlock:
    """The pairs of consecutive users.

    Attributes:
        first: the row of the first user.
        indptr: int64 [n_users + 1]; user u of the block owns entries `indptr[u]:indptr[u + 1]`.
        item_rows: int32 [n_pairs], rising within a user.
        weights: float32 [n_pairs].
        times: float64 [n_pairs]; NaN where unknown.
    """

    first: int
    indptr: npt.NDArray[np.int64]
    item_rows: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """The user of each pair within the block, int64 [n_pairs]."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


@dataclass(frozen=True)
class Pairs:
    """Weighted positive pairs in canonical order: by user id, then by item id.

    Attributes:
        users: ids of the users with a positive, sorted; row u is `users[u]`.
        items: ids of ALL items of the log, sorted, those without a positive included.
        indptr: int64 [n_users + 1]; user u has `indptr[u + 1] - indptr[u]` pairs.
        shelf: where the pairs lie, user by user in the order of the log.
        place: int64 [n_users], each user's place there.
        table: groups of users, `user_id` and one column a group; None without any.
        excluded: what does not count as a positive, reason -> number of rows or users.
    """

    users: Sequence[str]
    items: tuple[str, ...]
    indptr: npt.NDArray[np.int64]
    shelf: Shelf
    place: npt.NDArray[np.int64]
    table: pd.DataFrame | None = None
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return int(self.indptr[-1])

    def blocks(self) -> Iterator[PairBlock]:
        """The pairs in canonical order: at once where they are in memory, some millions at a time from disk."""
        if not self.shelf.on_disk:
            yield self.whole
            return
        first, end = 0, len(self.users)
        while first < end:
            last = max(first + 1, int(np.searchsorted(self.indptr, self.indptr[first] + PAIRS_AT_ONCE, "right")) - 1)
            yield self._block(first, last)
            first = last

    def _block(self, first: int, last: int) -> PairBlock:
        indptr = self.indptr[first : last + 1] - self.indptr[first]
        starts = self.shelf.starts[self.place[first:last]]
        entries = np.repeat(starts - indptr[:-1], np.diff(indptr)) + np.arange(indptr[-1])
        return PairBlock(first, indptr, *self.shelf.entries(entries))

    @cached_property
    def whole(self) -> PairBlock:
        """All pairs as one block, for a log that fits into memory."""
        return self._block(0, len(self.users))

    @property
    def user_rows(self) -> npt.NDArray[np.int64]:
        """The user of each pair, int64 [n_pairs]."""
        return self.whole.owners

    @property
    def item_rows(self) -> npt.NDArray[np.int32]:
        """The item of each pair, int32 [n_pairs]."""
        return self.whole.item_rows

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The weight of each pair, float32 [n_pairs], positive and finite."""
        return self.whole.weights

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """When the user first met the item, float64 [n_pairs], seconds since 1970; NaN where unknown."""
        return self.whole.times

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group column -> one value a user, "unknown" where it is not given."""
        return groups_of(self.table, self.users)


class Shelf:
    """Pairs as they are made, one user after the other: in memory, or in files of a private folder.

    Args:
        users: how many users there are.
        folder: where to make the folder.
        on_disk: whether to.
        timed: whether times are kept.
    """

    def __init__(self, users: int, *, folder: Place | None, on_disk: bool, timed: bool) -> None:
        self.on_disk, self.timed = on_disk, timed
        self._counts = np.zeros(users, np.int64)
        self._parts: dict[str, list[npt.NDArray[Any]]] = {"items": [], "weights": [], "times": []}
        self._plain = True  # every weight is 1 so far
        self._total = self._known = 0
        self._folder = PrivateFolder(folder) if on_disk else None

    def add(
        self,
        first: int,
        counts: npt.NDArray[np.int64],
        items: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float32] | None,
        times: npt.NDArray[np.float64] | None,
    ) -> None:
        """Add the pairs of users `first` and following, each with `counts`; None: weights of 1, times unknown."""
        self._counts[first : first + len(counts)] += counts
        if weights is not None and self._plain and (weights != 1).any():
            self._plain = False
            self._keep("weights", np.ones(self._total, np.float32))
        self._total += len(items)
        self._keep("items", items)
        if not self._plain:
            self._keep("weights", np.ones(len(items), np.float32) if weights is None else weights)
        if self.timed:
            times = np.full(len(items), np.nan) if times is None else times
            self._known += int((~np.isnan(times)).sum())
            self._keep("times", times)

    def _keep(self, name: str, values: npt.NDArray[Any]) -> None:
        if self._folder is None:
            self._parts[name].append(values)
        else:
            with (self._folder.path / name).open("ab") as file:
                file.write(np.ascontiguousarray(values).data)  # `tofile` says nothing where the disk is full

    @property
    def n_timed(self) -> int:
        """How many pairs have a known time."""
        return self._known

    def times_in_order(self, *places: int) -> list[float]:
        """The known times in these places of their rising order.

        Two passes, whatever their number: the first counts times by equal steps between the least and the largest, the
        second sorts those of the steps that hold the places.
        """
        times = self.columns["times"]
        parts = [slice(first, first + TIMES_AT_ONCE) for first in range(0, len(times), TIMES_AT_ONCE)]
        low = min(float(np.nanmin(times[part], initial=np.inf)) for part in parts)
        high = max(float(np.nanmax(times[part], initial=-np.inf)) for part in parts)
        width = (high - low) / STEPS_OF_TIMES or 1.0

        def steps_of(part: slice) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
            known = np.asarray(times[part])
            known = known[~np.isnan(known)]
            return np.minimum((known - low) / width, STEPS_OF_TIMES - 1).astype(np.int64), known

        counts = sum(np.bincount(steps_of(part)[0], minlength=STEPS_OF_TIMES) for part in parts)
        before = np.cumsum(counts) - counts
        holding = {place: int(np.searchsorted(before, place, "right")) - 1 for place in places}
        within: dict[int, list[npt.NDArray[np.float64]]] = {one: [] for one in holding.values()}
        for part in parts:
            numbers, known = steps_of(part)
            for one, found in within.items():
                found.append(known[numbers == one])
        in_order = {one: np.sort(np.concatenate(found)) for one, found in within.items()}
        return [float(in_order[holding[place]][place - before[holding[place]]]) for place in places]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Pairs of each user, int64 [n_users]."""
        return self._counts

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each user's pairs begin, int64 [n_users]."""
        return np.cumsum(self._counts) - self._counts

    @cached_property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept, by name: `items`, `weights` unless all are 1, `times` if they are known."""
        types: dict[str, Any] = {"items": np.int32, "weights": np.float32, "times": np.float64}
        if self._folder is None:
            return {name: np.concatenate(parts) for name, parts in self._parts.items() if parts}
        paths = {name: self._folder.path / name for name in types}
        return {name: np.memmap(path, types[name], "r") for name, path in paths.items() if path.exists()}

    def entries(
        self, places: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Item rows, weights and times in these places."""
        found = {name: np.asarray(column[places]) for name, column in self.columns.items()}
        ones, unknown = np.broadcast_to(np.float32(1), len(places)), np.broadcast_to(np.nan, len(places))
        return found["items"], found.get("weights", ones), found.get("times", unknown)


def positives(
    log: InteractionLog,
    *,
    threshold: float | None = None,
    weights: Mapping[str, float] | None = None,
    value_weights: Mapping[float, float] | None = None,
    kind_values: Mapping[str, Mapping[float, float]] | None = None,
    combine: Combine = "max",
    cap: float = math.inf,
    half_life_days: float | None = None,
    timed: bool = True,
    notify: Notify = silent,
    folder: Place | None = None,
) -> Pairs:
    """Turn a log into weighted positive pairs.

    Each event is weighed by a `Weighting`; one of weight 0 is no positive. A user's events for one item are combined by
    their largest weight: a page reloaded a hundred times then says no more than one view. With `combine="sum"`
    frequency counts, up to `cap`.

    Args:
        log: the log.
        threshold: least value that counts as a positive; rows without a value fall below it.
        weights: weight by kind of event, compared without case; "*" is for kinds not named, which are otherwise left
            out and counted. Rows without a kind weigh 1.
        value_weights: steps, value -> weight: an event takes the weight of the largest step not above its value; below
            the smallest step it is left out. Rows without a value weigh 1.
        kind_values: such steps by kind of event, for rows of that kind in the place of `value_weights`.
        combine: "max" or "sum".
        cap: largest weight of a pair.
        half_life_days: an event loses half its weight for each of these many days between it and its user's latest
            event; events of unknown time keep their weight.
        timed: whether to keep the times of pairs.
        notify: called with progress events.
        folder: gives the folder for pairs whose log is on disk; None: the user's cache.

    Raises:
        InputError: a setting is out of range, or no positive is left.
        OSError: the disk is full.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"`threshold` must be a finite number, got {threshold}")
    rule = _Rule(
        Weighting(weights, value_weights, kind_values or {}, combine, cap, half_life_days), threshold, log.kinds
    )
    item_order, items = _sorted(log.item_ids, log.events_of_items > 0)
    rank = np.full(len(log.item_ids), -1, np.int32)
    rank[item_order] = np.arange(len(item_order), dtype=np.int32)
    shelf = Shelf(len(log.user_ids), folder=folder, on_disk=log.rows.on_disk, timed=timed and "times" in log.rows.names)
    merged = 0
    with step(notify, "weighing", of=log.rows.total, unit="rows") as advance:
        for block in log.rows:
            merged += _shelve(block, rule, rank, shelf, len(items))
            advance(len(block))
    has = shelf.counts > 0
    if not has.any():
        named = ", ".join(map(show, log.kinds[:8])) or "none"
        raise InputError(
            f"`positives` must leave a positive interaction, got none of {log.rows.total} rows (kinds: {named})"
        )
    place, users = _sorted(log.user_ids, has)
    excluded = rule.excluded | {
        "users_without_positive": int((log.events_of_users > 0).sum()) - len(place),
        "repeats_merged": merged,
    }
    return Pairs(
        users=IdList(users) if log.rows.on_disk else tuple(users.to_pylist()),
        items=tuple(items.to_pylist()),
        indptr=np.concatenate(([0], np.cumsum(shelf.counts[place]))),
        shelf=shelf,
        place=place,
        table=log.users,
        excluded={reason: count for reason, count in excluded.items() if count},
    )


@dataclass
class _Rule:
    """Weighs the events of blocks, and counts what is left out.

    Attributes:
        weighting: the weights.
        threshold: least value that counts, or None.
        kinds: the names of kinds.
        excluded: reason -> number of rows.
    """

    weighting: Weighting
    threshold: float | None
    kinds: tuple[str, ...]
    excluded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threshold is not None:
            self.excluded["rows_below_threshold"] = 0
        self.excluded |= {"rows_of_kinds_without_weight": 0, "rows_of_values_without_weight": 0}

    @property
    def plain(self) -> bool:
        """Whether every event weighs 1, and a pair of several events too."""
        rule = self.weighting
        named = rule.kinds is not None or rule.values is not None or bool(rule.kind_values)
        return not named and rule.half_life_days is None and rule.combine == "max" and rule.cap >= 1

    def weigh(self, block: Block) -> tuple[Block, npt.NDArray[np.float64] | None]:
        """The events of a block that count, and their weights, float64; None: 1 each."""
        kept = np.ones(len(block), np.bool_)
        if self.threshold is not None:
            kept = np.zeros_like(kept) if block.values is None else block.values >= self.threshold
            self.excluded["rows_below_threshold"] += int((~kept).sum())
        if self.plain:
            return (block if kept.all() else block.rows(kept)), None
        codes = np.full(len(block), -1, np.int32) if block.kinds is None else block.kinds
        values = np.full(len(block), np.nan) if block.values is None else block.values
        factors = np.append(self.weighting.of_kinds(self.kinds), 1.0)[codes]
        self.excluded["rows_of_kinds_without_weight"] += int((factors == 0).sum())
        by_value = self.weighting.of_values(values, codes, self.kinds)
        self.excluded["rows_of_values_without_weight"] += int(((by_value == 0) & (factors > 0) & kept).sum())
        factors *= by_value
        kept &= factors > 0
        block, factors = block.rows(kept), factors[kept]
        if self.weighting.half_life_days is not None and block.times is not None and len(block):
            users = block.users - block.users[0]
            latest = np.full(int(users[-1]) + 1, -np.inf)
            known = ~np.isnan(block.times)
            np.maximum.at(latest, users[known], block.times[known])
            factors *= self.weighting.decay(block.times, latest[users])
        return block, factors


def _shelve(block: Block, rule: _Rule, rank: npt.NDArray[np.int32], shelf: Shelf, n_items: int) -> int:
    """Add the pairs of a block of whole users to the shelf; returns how many events were merged into others."""
    block, factors = rule.weigh(block)
    if not len(block):
        return 0
    first, users, items = int(block.users[0]), block.users - block.users[0], rank[block.items]
    n_users, times = int(users[-1]) + 1, None
    if factors is None and not shelf.timed:
        keys = users.astype(np.int64) * n_items + items
        keys.sort()
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
        owners, own_items, weights = keys // n_items, (keys % n_items).astype(np.int32), None
    else:
        order = stable_order((users, n_users), (items, n_items))
        users, items = users[order], items[order]
        fresh = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
        starts = np.flatnonzero(np.concatenate(([True], fresh)))
        owners, own_items = users[starts], items[starts]
        weights = None if factors is None else rule.weighting.combined(factors[order], starts)
        if shelf.timed and block.times is not None:
            times = np.fmin.reduceat(block.times[order], starts)
    shelf.add(first, np.bincount(owners, minlength=n_users), own_items, weights, times)
    return len(block) - len(owners)


def _sorted(ids: pa.ChunkedArray, present: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], pa.ChunkedArray]:
    """The numbers of the ids that are present, in sorted order, and these ids.

    UTF-8 sorts as code points do, which is how Python sorts text.
    """
    numbers = np.flatnonzero(present)
    own = ids if present.all() else ids.take(pa.array(numbers))
    order = pa_compute.sort_indices(own)
    return numbers[order.to_numpy()], own.take(order)


def groups_of(table: pd.DataFrame | None, users: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each group column of a table in the order of `users`, "unknown" where it is not given."""
    if table is None:
        return {}
    known = table.drop_duplicates("user_id").set_index("user_id").reindex(list(users))
    return {str(column): tuple(known[column].fillna("unknown").astype(str)) for column in known.columns}
