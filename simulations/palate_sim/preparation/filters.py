"""Filters: they narrow a log before an experiment, and count what they drop.

Between reading and splitting, optional. A filter looks at everybody's raw data, which a deployed server never could:
what it drops is an exclusion on the privacy card of every run that uses one.

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> log = read_log(pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": ["a", "b", "a", "b", "c"]}))
    >>> small, dropped = k_core(log, 2, 2)
    >>> sorted(set(small.frame["user_id"])), dropped
    (['1', '2'], {'users': 1, 'items': 1, 'rows': 1})
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError
from palate_sim.data.log import InteractionLog, distinct_pairs
from palate_sim.steps import Notify, silent, step


def k_core(
    log: InteractionLog, user_core: int, item_core: int, notify: Notify = silent
) -> tuple[InteractionLog, dict[str, int]]:
    """Keep the largest part in which every user has `user_core` distinct items and every item `item_core` users.

    Args:
        log: any log.
        user_core: least number of distinct items a user, from 0.
        item_core: least number of distinct users an item, from 0.
        notify: called with progress events.

    Returns:
        The narrowed log, and the number of users, items and rows dropped.

    Raises:
        InputError: a bound is negative, or nothing is left.
    """
    for name, bound in (("user_core", user_core), ("item_core", item_core)):
        if bound < 0:
            raise InputError(f"`{name}` must not be negative, got {bound}")
    users, items = _everybody(log)
    sweeps = 0
    while True:
        sweeps += 1
        per_user, per_item = _degrees(log, users, items, notify, f"filtering, sweep {sweeps}")
        kept_users, kept_items = users & (per_user >= user_core), items & (per_item >= item_core)
        if (kept_users == users).all() and (kept_items == items).all():
            break
        users, items = kept_users, kept_items
    return _narrow(log, users, items, f"a {user_core}-{item_core} core")


def _everybody(log: InteractionLog) -> tuple[Mask, Mask]:
    """The users and items that have a row."""
    return log.events_of_users > 0, log.events_of_items > 0


def _degrees(log: InteractionLog, users: Mask, items: Mask, notify: Notify, what: str) -> tuple[Counts, Counts]:
    """How many distinct chosen items each chosen user has, and how many chosen users each chosen item."""
    per_user, per_item = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    with step(notify, what, of=log.rows.total, unit="rows") as advance:
        for block in log.rows:
            keys = distinct_pairs(block, len(items))
            pair_users, pair_items = keys // len(items), keys % len(items)
            kept = users[pair_users] & items[pair_items]
            first = int(block.users[0])
            own = np.bincount(pair_users[kept] - first)
            per_user[first : first + len(own)] += own
            per_item += np.bincount(pair_items[kept], minlength=len(items))
            advance(len(block))
    return per_user, per_item


def _narrow(log: InteractionLog, users: Mask, items: Mask, wanted: str) -> tuple[InteractionLog, dict[str, int]]:
    """The log with only the rows of kept users and kept items."""
    narrowed = log.only(lambda block: users[block.users] & items[block.items])
    if not narrowed.rows.total:
        had = int((log.events_of_users > 0).sum())
        raise InputError(f"`filters` must leave {wanted}, got none in a log of {had} users")
    dropped = {
        "users": int((log.events_of_users > 0).sum() - (narrowed.events_of_users > 0).sum()),
        "items": int((log.events_of_items > 0).sum() - (narrowed.events_of_items > 0).sum()),
        "rows": log.rows.total - narrowed.rows.total,
    }
    return narrowed, dropped


Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
