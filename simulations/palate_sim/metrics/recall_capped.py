"""Capped recall: recall whose denominator a list of k items can reach.

>>> import numpy as np
>>> recall_capped(np.array([[True, False, True]]), np.array([4])).round(3).tolist()
[0.667]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def recall_capped(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`recall_capped@k` = hits in the top k / min(k, number of held-out items).

    Source: Liang et al., Variational Autoencoders for Collaborative Filtering (WWW 2018), section 4.2, where it is
    called Recall@R.

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; a user with none scores 0.

    Returns:
        float64 [n_users], in [0, 1].
    """
    return np.asarray(hits.sum(axis=1) / np.clip(n_relevant, 1, hits.shape[1]), np.float64)
