"""Projection: what the users of a log say of the quality with more users, and what they can't say by themselves.

A rehearsal for a larger population multiplies the sums of the users it has and leaves the noise. Its noise is right,
but its users are the same ones again: what they have by chance is multiplied with what they have in common, so that the
projection stays below the truth, the more so the fewer they are. How much is lost can be seen: half of the users,
projected to the same population, lose more. The variance of a mean falls as one over the number of users; where the
loss falls likewise,

    truth(N)  =  projection(n -> N)  +  (projection(n -> N) - projection(n/2 -> N)) (1 - n/N)

which is Richardson's extrapolation in 1/n. The power was chosen on validation users, and the outcome compared with
measured quality on test users: `simulations/benchmarks/population`, docs/population.md.

    >>> round(with_new_users(0.30, [0.27, 0.29], trained=1000, users=10_000), 3)
    0.318
    >>> with_new_users(0.30, [0.27, 0.29], trained=1000, users=1000)
    0.3
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate_common.interactions import Interactions
from palate_core.errors import InputError

HALVED = 25
"""The purpose of this draw among those of `sampling`."""


def halves(train: Interactions, *, seed: int) -> tuple[Interactions, Interactions]:
    """The users in two halves at random, each in its old order; of an odd number, one is in neither."""
    size = train.n_users // 2
    order = np.random.default_rng([seed, HALVED]).permutation(train.n_users)
    first, second = (train.users(np.sort(order[rows])) for rows in (slice(0, size), slice(size, 2 * size)))
    return first, second


def with_new_users(repeated: float, halved: Sequence[float], *, trained: int, users: int) -> float:
    """Quality with `users` users, of whom `trained` are known and the others are new.

    Args:
        repeated: quality of the rehearsal whose sums were multiplied up to `users`.
        halved: the same of rehearsals with half of the users each, multiplied up to `users`.
        trained: users who trained in the first of these.
        users: at least as many.

    Raises:
        InputError: no half, or fewer users than trained.
    """
    if not halved or not 0 < trained <= users:
        raise InputError(
            f"a projection needs halves and more users than trained, got {len(halved)}, {users} and {trained}"
        )
    return repeated + (repeated - float(np.mean(halved))) * (1 - trained / users)
