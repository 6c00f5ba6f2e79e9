"""MRR: how early the first hit comes.

>>> import numpy as np
>>> mrr(np.array([[False, True, True], [False, False, False]]), np.array([2, 1])).tolist()
[0.5, 0.0]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def mrr(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`mrr@k` = 1 / rank of the first hit in the top k, 0 when there is none; its mean over users is the MRR.

    Source: Voorhees, The TREC-8 Question Answering Track Report (1999).

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; not used, every user metric takes it.

    Returns:
        float64 [n_users], in [0, 1].
    """
    return np.asarray(hits.any(axis=1) / (hits.argmax(axis=1) + 1), np.float64)
