"""Average precision: the precision at each hit, averaged over all held-out items.

>>> import numpy as np
>>> average_precision(np.array([[True, False, True]]), np.array([2])).round(4).tolist()
[0.8333]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def average_precision(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`average_precision@k` = sum over the hits of (hits so far / rank) / number of held-out items.

    The denominator isn't capped at k, as in trec_eval. Source: Buckley and Voorhees, Evaluating Evaluation Measure
    Stability (SIGIR 2000).

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; a user with none scores 0.

    Returns:
        float64 [n_users], in [0, 1].
    """
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / np.maximum(n_relevant, 1), np.float64)
