"""Recall: the share of a user's held-out items that are in the list.

>>> import numpy as np
>>> recall(np.array([[True, False, True]]), np.array([4])).tolist()
[0.5]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def recall(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`recall@k` = hits in the top k / number of held-out items.

    A user with more than k held-out items can't reach 1; `recall_capped` can. Source: Manning, Raghavan and Schütze,
    Introduction to Information Retrieval (2008), section 8.3.

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; a user with none scores 0.

    Returns:
        float64 [n_users], in [0, 1].
    """
    return np.asarray(hits.sum(axis=1) / np.maximum(n_relevant, 1), np.float64)
