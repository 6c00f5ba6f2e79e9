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

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.errors import InputError
from palate_sim.data.log import InteractionLog


def k_core(log: InteractionLog, user_core: int, item_core: int) -> tuple[InteractionLog, dict[str, int]]:
    """Keep the largest part in which every user has `user_core` distinct items and every item `item_core` users.

    Args:
        log: any log.
        user_core: least number of distinct items a user, from 0.
        item_core: least number of distinct users an item, from 0.

    Returns:
        The narrowed log, and the number of users, items and rows dropped.

    Raises:
        InputError: a bound is negative, or nothing is left.
    """
    for name, bound in (("user_core", user_core), ("item_core", item_core)):
        if bound < 0:
            raise InputError(f"`{name}` must not be negative, got {bound}")
    users, items, pair_users, pair_items = _pairs(log)
    while True:
        per_user, per_item = np.bincount(pair_users), np.bincount(pair_items)
        kept = (per_user[pair_users] >= user_core) & (per_item[pair_items] >= item_core)
        if kept.all():
            break
        pair_users, pair_items = pair_users[kept], pair_items[kept]
    return _narrow(log, users, items, pair_users, pair_items, f"a {user_core}-{item_core} core")


def min_support(log: InteractionLog, item_min_users: int) -> tuple[InteractionLog, dict[str, int]]:
    """Keep the items that at least `item_min_users` distinct users have; applied once: a user may lose all items.

    Returns:
        The narrowed log, and the number of users, items and rows dropped.

    Raises:
        InputError: the bound is negative, or nothing is left.
    """
    if item_min_users < 0:
        raise InputError(f"`item_min_users` must not be negative, got {item_min_users}")
    users, items, pair_users, pair_items = _pairs(log)
    kept = np.bincount(pair_items)[pair_items] >= item_min_users
    wanted = f"an item with {item_min_users} users"
    return _narrow(log, users, items, pair_users[kept], pair_items[kept], wanted)


Rows = npt.NDArray[np.int64]


def _pairs(log: InteractionLog) -> tuple[Rows, Rows, Rows, Rows]:
    """The user and item number of each row, and of each distinct pair."""
    users, _ = pd.factorize(log.frame["user_id"])
    items, _ = pd.factorize(log.frame["item_id"])
    n_items = int(items.max()) + 1
    distinct = np.unique(users.astype(np.int64) * n_items + items)
    return users, items, distinct // n_items, distinct % n_items


def _narrow(
    log: InteractionLog, users: Rows, items: Rows, kept_users: Rows, kept_items: Rows, wanted: str
) -> tuple[InteractionLog, dict[str, int]]:
    """The log with only the pairs of kept users and kept items."""
    if not len(kept_users):
        raise InputError(f"`filters` must leave {wanted}, got none in a log of {users.max() + 1} users")
    kept = np.isin(users, kept_users) & np.isin(items, kept_items)
    dropped = {
        "users": int(users.max()) + 1 - len(np.unique(users[kept])),
        "items": int(items.max()) + 1 - len(np.unique(items[kept])),
        "rows": int((~kept).sum()),
    }
    return replace(log, frame=log.frame[kept].reset_index(drop=True)), dropped
