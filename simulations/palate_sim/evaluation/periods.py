"""A log until a time, and who has something new after it, for whatever is judged on the future.

Each cut is made on the log before anything else, so that weights, users and catalogue know nothing of the future.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs
from palate_sim.preparation.preparation import weighed
from palate_sim.preparation.splits import Heldout


def rows_of(items: Sequence[str], catalogue: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each item in a catalogue, int64.

    Raises:
        InputError: the catalogue lacks one.
    """
    place = {item: row for row, item in enumerate(catalogue)}
    missing = [item for item in items if item not in place]
    if missing:
        raise InputError(
            f"a later catalogue must have every earlier item, and lacks {len(missing)}: {missing[0]!r:.80}"
        )
    return np.array([place[item] for item in items], np.int64)


def until(log: InteractionLog, end: float, config: SimulationConfig) -> Pairs:
    """The positives of the events before a time.

    Raises:
        InputError: there are none.
    """
    log = log.only(lambda block: np.zeros(len(block), np.bool_) if block.times is None else block.times < end)
    if not log.rows.total:
        raise InputError("each span of a series must have events to train on, got none: use fewer releases")
    return weighed(log, config)


def heldout_of(before: Pairs, after: Pairs, known: Sequence[str]) -> Heldout:
    """The users with new items: what they had before as fold-in, the new items as target.

    Args:
        before: the pairs until a cut.
        after: the pairs until a later one.
        known: the catalogue, with every item of both.

    Raises:
        InputError: nobody has a new item.
    """
    old, new = interactions_of(before, after.users, known), interactions_of(after, after.users, known)
    fresh = ~np.isin(_keys(new), _keys(old))
    target = Interactions.from_pairs(
        new.owners()[fresh], new.indices[fresh], new.weights[fresh], n_users=new.n_users, n_items=new.n_items
    )
    rows = np.flatnonzero(target.counts())
    if not len(rows):
        raise InputError("each span of a series must have new items of a user, got none: use fewer releases")
    return Heldout(old.users(rows), target.users(rows), tuple(after.users[int(row)] for row in rows), {})


def _keys(batch: Interactions) -> npt.NDArray[np.int64]:
    """One number for each (user, item) pair, different for different pairs."""
    return batch.owners().astype(np.int64) * batch.n_items + batch.indices


def interactions_of(pairs: Pairs, users: Sequence[str], items: Sequence[str]) -> Interactions:
    """Pairs as a batch over these users and items, with every one of the pairs."""
    user_rows, item_rows = rows_of(pairs.users, users)[pairs.user_rows], rows_of(pairs.items, items)[pairs.item_rows]
    return Interactions.from_pairs(user_rows, item_rows, pairs.weights, n_users=len(users), n_items=len(items))
