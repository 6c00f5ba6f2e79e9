"""Coverage: the share of the catalogue that is recommended to any user.

>>> import numpy as np
>>> from palate_common.interactions import Interactions
>>> coverage(np.array([[0, 1], [1, -1]]), Interactions.from_pairs([0], [0], n_users=1, n_items=4))
0.5
"""

import numpy as np

from palate_common.interactions import Interactions, Ints


def coverage(top: Ints, train: Interactions) -> float:
    """`coverage@k` = items in at least one user's top k / items in the catalogue.

    It grows with the number of users evaluated: compare only on the same users. Source: Ge, Delgado-Battenfeld and
    Jannach, Beyond Accuracy (RecSys 2010), catalog coverage.

    Args:
        top: int [n_users, k], items in rank order; -1 where a list ends early.
        train: what the model was trained on; gives the size of the catalogue.

    Returns:
        In [0, 1].
    """
    return np.unique(top[top >= 0]).size / train.n_items
