"""Domain weights: for recommendations of one domain, events in that domain have a larger weight.

Events in other domains tell about a user's taste too, but less. With k events in the domain, the weight of each of
these is multiplied by

    1 + min(1, 5 / k)

so by 2 up to five events, and by about 1 after many. Devices and the simulator's evaluation use it. The formula was
chosen on validation users (`simulations/benchmarks/domains`).

    >>> history = Interactions.from_pairs([0, 0, 0], [0, 1, 3], n_users=1, n_items=4)
    >>> focus(history, np.array([True, True, False, False])).weights.tolist()
    [2.0, 2.0, 1.0]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum

FEW = 5
"""Up to this many events in a domain, each counts twice."""


def focus(histories: Interactions, within: npt.NDArray[np.bool_]) -> Interactions:
    """The same events with larger weights for those of one domain.

    Args:
        histories: of any users, over all domains.
        within: which items belong to the domain, bool [n_items].
    """
    own = within[histories.indices]
    counts = segment_sum(own.astype(np.int64), histories.indptr)
    factors = 1 + np.minimum(1.0, FEW / np.maximum(counts, 1))
    weights = histories.weights * np.where(own, np.repeat(factors, histories.counts()), 1.0)
    return Interactions(histories.indptr, histories.indices, weights.astype(np.float32), histories.n_items)
