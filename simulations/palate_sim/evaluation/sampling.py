"""Sampling: some of the users in the place of all, where a log has more than a figure needs.

A sample is uniform and without replacement, follows from the seed, and keeps the users' order.

    >>> from palate_sim.preparation.splits import Heldout
    >>> batch = Interactions.from_pairs([0, 1, 2], [0, 1, 0], n_users=3, n_items=2)
    >>> heldout = Heldout(batch, batch, users=("ann", "bob", "cid"), groups={})
    >>> len(some_heldout(heldout, 2, seed=0, purpose=LOOKED).users)
    2
    >>> some_heldout(heldout, 3, seed=0, purpose=LOOKED) is heldout
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions

if TYPE_CHECKING:
    from palate_sim.preparation.splits import Heldout

LOOKED, TESTED, FITTED, PROJECTED, DATED, SHOWN = 21, 22, 23, 24, 25, 26
"""Purposes: each draws for itself."""


def some_rows(n_users: int, most: int | None, *, seed: int, purpose: int) -> npt.NDArray[np.int64] | None:
    """The rows of `most` users, rising; None where all users are to be taken."""
    if most is None or n_users <= most:
        return None
    return np.sort(np.random.default_rng([seed, purpose]).choice(n_users, most, replace=False, shuffle=False))


def some_users(batch: Interactions, most: int | None, *, seed: int, purpose: int) -> Interactions:
    """At most so many users of a batch; the batch itself where it has no more."""
    rows = some_rows(batch.n_users, most, seed=seed, purpose=purpose)
    return batch if rows is None else batch.users(rows)


def some_heldout(heldout: Heldout, most: int | None, *, seed: int, purpose: int) -> Heldout:
    """At most so many held-out users; the set itself where it has no more. Other users' histories aren't read."""
    rows = some_rows(heldout.target.n_users, most, seed=seed, purpose=purpose)
    if rows is None:
        return heldout
    return type(heldout)(
        heldout.foldin.users(rows),
        heldout.target.users(rows),
        tuple(heldout.users[row] for row in rows.tolist()),
        {name: tuple(labels[row] for row in rows.tolist()) for name, labels in heldout.groups.items()},
        None if heldout.withheld is None else heldout.withheld.users(rows),
    )
