"""NDCG: hits discounted by their rank, against the best order possible.

>>> import numpy as np
>>> ndcg(np.array([[False, True], [True, False]]), np.array([1, 1])).round(4).tolist()
[0.6309, 1.0]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def ndcg(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`ndcg@k` = sum of 1 / log2(rank + 1) over the hits / the same sum over min(k, held-out items) leading hits.

    Binary gain; the ideal list is cut at k as well. Source: Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of
    IR Techniques (ACM TOIS 2002), with the discount log2(rank + 1).

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; a user with none scores 0.

    Returns:
        float64 [n_users], in [0, 1].
    """
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.cumsum(discount)[np.clip(n_relevant, 1, hits.shape[1]) - 1]
    return np.asarray((hits * discount).sum(axis=1) / ideal, np.float64)
