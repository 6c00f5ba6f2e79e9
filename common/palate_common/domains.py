"""Domains: a history as the recommendations of one domain see it. On devices, and in the simulator's evaluation.

What a user did elsewhere tells about their taste; what they did in the domain itself tells more. It counts

    1 + min(1, 5 / k)        times as much, after k events there

so twice while it is little beside the rest, and about once when it speaks for itself. Chosen on validation users
(`simulations/benchmarks/domains`).

    >>> history = Interactions.from_pairs([0, 0, 0], [0, 1, 3], n_users=1, n_items=4)
    >>> focused(history, np.array([True, True, False, False])).weights.tolist()
    [2.0, 2.0, 1.0]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum

FEW = 5
"""Up to so many events in a domain count twice."""


def focused(histories: Interactions, within: npt.NDArray[np.bool_]) -> Interactions:
    """The same events, those of one domain weighing more.

    Args:
        histories: of any users, from all domains.
        within: which items are the domain's, bool [n_items].
    """
    own = within[histories.indices]
    counts = segment_sum(own.astype(np.int64), histories.indptr)
    factors = 1 + np.minimum(1.0, FEW / np.maximum(counts, 1))
    weights = histories.weights * np.where(own, np.repeat(factors, histories.counts()), 1.0)
    return Interactions(histories.indptr, histories.indices, weights.astype(np.float32), histories.n_items)
