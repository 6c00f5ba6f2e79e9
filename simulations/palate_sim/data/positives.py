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

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pa_compute  # type: ignore[import-untyped]  # it ships no types

from palate_common.weighting import Combine, Weighting
from palate_core.errors import InputError
from palate_sim.data.columns import show
from palate_sim.data.events import EventBlock, Place, Rows, stable_order
from palate_sim.data.ids import IdList
from palate_sim.data.log import InteractionLog
from palate_sim.steps import Notify, silent, step

STEPS_OF_TIMES = 1 << 16
"""Steps by which times are counted to find one of a given place in their order."""


@dataclass(frozen=True)
class UserPairs:
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
        rows: the pairs, a row each, by the place of their user among all of the log; `values` are weights.
        numbers: int64, the row of the user in each such place, -1 for one without a positive.
        n_timed: how many pairs have a known time.
        table: groups of users, `user_id` and one column a group; None without any.
        excluded: what does not count as a positive, reason -> number of rows or users.
    """

    users: Sequence[str]
    items: tuple[str, ...]
    indptr: npt.NDArray[np.int64]
    rows: Rows
    numbers: npt.NDArray[np.int64]
    n_timed: int
    table: pd.DataFrame | None = None
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return int(self.indptr[-1])

    def blocks(self) -> Iterator[UserPairs]:
        """The pairs in canonical order: at once where they are in memory, some thousand users at a time from disk."""
        if self.rows.on_disk:
            yield from map(self._in_order, self.rows)
        else:
            yield self.whole

    @cached_property
    def whole(self) -> UserPairs:
        """All pairs as one block, for a log that fits into memory."""
        return self._in_order(EventBlock.joined(list(self.rows)))

    def _in_order(self, block: EventBlock) -> UserPairs:
        """Pairs of whole users, whose items rise already, by user."""
        if (np.diff(block.users) < 0).any():
            block = block.rows(stable_order((block.users - block.users.min(), int(np.ptp(block.users)) + 1)))
        first, last = int(self.numbers[block.users[0]]), int(self.numbers[block.users[-1]])
        ones, unknown = np.broadcast_to(np.float32(1), len(block)), np.broadcast_to(np.nan, len(block))
        return UserPairs(
            first,
            self.indptr[first : last + 2] - self.indptr[first],
            block.items,
            ones if block.values is None else block.values.astype(np.float32),
            unknown if block.times is None else block.times,
        )

    def times_in_order(self, *places: int) -> list[float]:
        """The known times in these places of their rising order.

        Three passes, whatever their number: for the least and the largest, to count times by equal steps between these,
        and to sort those of the steps that hold the places.
        """
        ends = [(np.nanmin(times, initial=np.inf), np.nanmax(times, initial=-np.inf)) for times in self._times()]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        width = (high - low) / STEPS_OF_TIMES or 1.0

        def steps_of(times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
            return np.minimum((times - low) / width, STEPS_OF_TIMES - 1).astype(np.int64)

        counts = np.zeros(STEPS_OF_TIMES, np.int64)
        for times in self._times():
            counts += np.bincount(steps_of(times), minlength=STEPS_OF_TIMES)
        before = np.cumsum(counts) - counts
        holding = {place: int(np.searchsorted(before, place, "right")) - 1 for place in places}
        within: dict[int, list[npt.NDArray[np.float64]]] = {one: [] for one in holding.values()}
        for times in self._times():
            numbers = steps_of(times)
            for one, found in within.items():
                found.append(times[numbers == one])
        in_order = {one: np.sort(np.concatenate(found)) for one, found in within.items()}
        return [float(in_order[holding[place]][place - before[holding[place]]]) for place in places]

    def _times(self) -> Iterator[npt.NDArray[np.float64]]:
        """The known times, block after block."""
        for block in self.rows:
            if block.times is not None:
                yield block.times[~np.isnan(block.times)]

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
    if (least := min((weights or {}).values(), default=0)) < 0:  # a log's rows speak for items alone
        raise InputError(f"`weights` must be finite and not negative, got {least}")
    rule = _Rule(
        Weighting(weights, value_weights, kind_values or {}, combine, cap, half_life_days), threshold, log.kinds
    )
    with step(notify, "sorting ids"):
        item_order, items = _sorted(log.item_ids, log.events_of_items > 0)
        user_order, users = _sorted(log.user_ids, log.events_of_users > 0)
    item_places, user_places = _places(item_order, len(log.item_ids)), _places(user_order, len(log.user_ids))
    has = [
        name
        for name, there in {"values": not rule.plain, "times": timed and "times" in log.rows.names}.items()
        if there
    ]
    rows = log.rows.like(frozenset(has), folder=folder, on_disk=log.rows.on_disk)
    counts, n_timed = np.zeros(len(user_order), np.int64), 0
    with step(notify, "weighing", of=log.rows.total, unit="rows") as advance:
        for block in log.rows:
            pairs = _pairs(block, rule, user_places, item_places, timed="times" in rows.names)
            ends = np.flatnonzero(np.concatenate((pairs.users[1:] != pairs.users[:-1], np.ones(min(len(pairs), 1)))))
            counts[pairs.users[ends]] = np.diff(ends, prepend=-1)  # a block has whole users
            n_timed += 0 if pairs.times is None else int((~np.isnan(pairs.times)).sum())
            rows.add(pairs)
            advance(len(block))
    if not rows.total:
        named = ", ".join(map(show, log.kinds[:8])) or "none"
        raise InputError(
            f"`positives` must leave a positive interaction, got none of {log.rows.total} rows (kinds: {named})"
        )
    present = np.flatnonzero(counts)
    own = users if len(present) == len(users) else users.take(pa.array(present))
    excluded = rule.excluded | {
        "users_without_positive": len(users) - len(own),
        "repeats_merged": rule.kept - rows.total,
    }
    return Pairs(
        users=IdList(own) if rows.on_disk else tuple(own.to_pylist()),
        items=tuple(items.to_pylist()),
        indptr=np.concatenate(([0], np.cumsum(counts[present]))),
        rows=rows,
        numbers=_places(present, len(counts)).astype(np.int64),
        n_timed=n_timed,
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
        kept: rows that count.
    """

    weighting: Weighting
    threshold: float | None
    kinds: tuple[str, ...]
    excluded: dict[str, int] = field(default_factory=dict)
    kept: int = 0

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

    def weigh(self, block: EventBlock) -> tuple[EventBlock, npt.NDArray[np.float64] | None]:
        """The events of a block that count, and their weights, float64; None: 1 each."""
        kept = np.ones(len(block), np.bool_)
        if self.threshold is not None:
            kept = np.zeros_like(kept) if block.values is None else block.values >= self.threshold
            self.excluded["rows_below_threshold"] += int((~kept).sum())
        if self.plain:
            self.kept += int(kept.sum())
            return (block if kept.all() else block.rows(kept)), None
        codes = np.full(len(block), -1, np.int32) if block.kinds is None else block.kinds
        values = np.full(len(block), np.nan) if block.values is None else block.values
        factors = np.append(self.weighting.of_kinds(self.kinds), 1.0)[codes]
        self.excluded["rows_of_kinds_without_weight"] += int((factors == 0).sum())
        by_value = self.weighting.of_values(values, codes, self.kinds)
        self.excluded["rows_of_values_without_weight"] += int(((by_value == 0) & (factors > 0) & kept).sum())
        factors *= by_value
        kept &= factors > 0
        self.kept += int(kept.sum())
        block, factors = block.rows(kept), factors[kept]
        if self.weighting.half_life_days is not None and block.times is not None and len(block):
            users = block.users - block.users[0]
            latest = np.full(int(users[-1]) + 1, -np.inf)
            known = ~np.isnan(block.times)
            np.maximum.at(latest, users[known], block.times[known])
            factors *= self.weighting.decay(block.times, latest[users])
        return block, factors


def _pairs(
    block: EventBlock,
    rule: _Rule,
    user_places: npt.NDArray[np.int32],
    item_places: npt.NDArray[np.int32],
    *,
    timed: bool,
) -> EventBlock:
    """The pairs of a block of whole users, by the places of user and item in sorted order."""
    block, factors = rule.weigh(block)
    users, items, n_items = user_places[block.users], item_places[block.items], len(item_places)
    if not len(block):
        return EventBlock(users, items, None, factors, block.times if timed else None)
    if factors is None and not timed:
        keys = users.astype(np.int64) * n_items + items
        keys.sort()
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
        return EventBlock((keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32))
    order = stable_order((users, len(user_places)), (items, n_items))
    users, items = users[order], items[order]
    fresh = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    starts = np.flatnonzero(np.concatenate(([True], fresh)))
    weights = None if factors is None else rule.weighting.pair_weights(factors[order], starts).astype(np.float64)
    times = np.fmin.reduceat(block.times[order], starts) if timed and block.times is not None else None
    return EventBlock(users[starts], items[starts], None, weights, times)


def _places(order: npt.NDArray[np.int64], end: int) -> npt.NDArray[np.int32]:
    """The place of each number in [0, end) in an order, -1 for one that isn't in it."""
    places = np.full(end, -1, np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


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
