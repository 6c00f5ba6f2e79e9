"""Novelty: the mean self-information of the recommended items; popular items have little.

>>> import numpy as np
>>> from palate_common.interactions import Interactions
>>> train = Interactions.from_pairs([0, 1, 2, 3, 0], [0, 0, 0, 0, 1], n_users=4, n_items=2)
>>> novelty(np.array([[0, 1]]), train)
1.0
"""

import numpy as np

from palate_common.interactions import Interactions, Ints


def novelty(top: Ints, train: Interactions) -> float:
    """`novelty@k` = mean of log2(training users / training users who have the item) over all recommended items, bits.

    An item no training user has counts as if one had it, so that the mean stays finite. Source: Zhou et al., Solving
    the Apparent Diversity-Accuracy Dilemma of Recommender Systems (PNAS 2010), self-information.

    Args:
        top: int [n_users, k], items in rank order; -1 where a list ends early.
        train: what the model was trained on; gives the popularity.

    Returns:
        At least 0, in bits; 0 when nothing is recommended.
    """
    listed = top[top >= 0]
    owners = np.maximum(train.item_counts, 1)[listed]
    return float(np.log2(max(train.n_users, 1) / owners).mean()) if listed.size else 0.0
