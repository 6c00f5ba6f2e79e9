"""Hit rate: whether the list has any held-out item.

>>> import numpy as np
>>> hr(np.array([[False, True], [False, False]]), np.array([3, 1])).tolist()
[1.0, 0.0]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def hr(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`hr@k` = 1 when any held-out item is in the top k, else 0.

    With one held-out item a user it equals recall. Source: Deshpande and Karypis, Item-Based Top-N Recommendation
    Algorithms (ACM TOIS 2004).

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items; not used, every user metric takes it.

    Returns:
        float64 [n_users], 0 or 1.
    """
    return np.asarray(hits.any(axis=1), np.float64)
