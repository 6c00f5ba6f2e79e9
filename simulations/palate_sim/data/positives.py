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
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.errors import InputError
from palate_common.weighting import Combine, Weighting
from palate_sim.data.columns import show
from palate_sim.data.log import InteractionLog


@dataclass(frozen=True)
class Pairs:
    """Weighted positive pairs in canonical order: by user id, then by item id.

    Attributes:
        users: ids of the users with a positive, sorted; row u is `users[u]`.
        items: ids of ALL items of the log, sorted, those without a positive included.
        user_rows: int64 [n_pairs].
        item_rows: int64 [n_pairs].
        weights: float32 [n_pairs], positive and finite.
        times: float64 [n_pairs], time of the user's first event with the item, seconds since 1970; NaN where unknown.
        groups: group column -> one value a user, "unknown" where it is not given.
        excluded: what does not count as a positive, reason -> number of rows or users.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    user_rows: npt.NDArray[np.int64]
    item_rows: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)


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

    Raises:
        InputError: a setting is out of range, or no positive is left.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"`threshold` must be a finite number, got {threshold}")
    weighting = Weighting(weights, value_weights, kind_values or {}, combine, cap, half_life_days)
    frame = log.frame
    kept = np.ones(len(frame), np.bool_)
    excluded: dict[str, int] = {}
    values = frame["value"].to_numpy(np.float64)
    codes, uniques = pd.factorize(frame["kind"])
    kinds = [str(kind) for kind in uniques]
    factors = np.append(weighting.of_kinds(kinds), 1.0)[codes]
    if threshold is not None:
        kept &= values >= threshold
        excluded["rows_below_threshold"] = int((~kept).sum())
    excluded["rows_of_kinds_without_weight"] = int((factors == 0).sum())
    by_value = weighting.of_values(values, codes, kinds)
    excluded["rows_of_values_without_weight"] = int(((by_value == 0) & (factors > 0) & kept).sum())
    factors *= by_value
    kept &= factors > 0
    if not kept.any():
        named = ", ".join(map(show, kinds[:8])) or "none"
        raise InputError(
            f"`positives` must leave a positive interaction, got none of {len(frame)} rows (kinds: {named})"
        )

    user_codes, user_names = _sorted_codes(frame["user_id"])
    item_codes, item_names = _sorted_codes(frame["item_id"])
    users, items, times = user_codes[kept], item_codes[kept], frame["timestamp"].to_numpy(np.float64)[kept]
    factors = factors[kept]
    if half_life_days is not None:
        latest = np.full(len(user_names), -np.inf)
        np.maximum.at(latest, users[~np.isnan(times)], times[~np.isnan(times)])
        factors *= weighting.decay(times, latest[users])
    present = np.unique(users)
    excluded["users_without_positive"] = len(user_names) - len(present)
    order = np.argsort(users * len(item_names) + items, kind="stable")
    keys = (users * len(item_names) + items)[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    excluded["repeats_merged"] = len(keys) - len(starts)
    ids = tuple(user_names[row] for row in present)
    return Pairs(
        users=ids,
        items=item_names,
        user_rows=np.searchsorted(present, keys[starts] // len(item_names)),
        item_rows=keys[starts] % len(item_names),
        weights=weighting.combined(factors[order], starts),
        times=np.fmin.reduceat(times[order], starts),
        groups=_groups(log.users, ids),
        excluded={reason: count for reason, count in excluded.items() if count},
    )


def _sorted_codes(ids: pd.Series) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Row numbers of ids in sorted order, and the sorted ids: the same for any order of rows."""
    codes, uniques = pd.factorize(ids)
    names = np.asarray(uniques, dtype=object)
    order = np.argsort(names, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], tuple(names[order])


def _groups(users: pd.DataFrame | None, ids: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Each group column in the order of `ids`."""
    if users is None:
        return {}
    table = users.drop_duplicates("user_id").set_index("user_id").reindex(list(ids))
    return {str(column): tuple(table[column].fillna("unknown").astype(str)) for column in table.columns}
