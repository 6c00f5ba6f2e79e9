"""Gini: how unequally the recommendations are distributed over the catalogue.

>>> import numpy as np
>>> from palate_common.interactions import Interactions
>>> catalogue = Interactions.from_pairs([0], [0], n_users=1, n_items=4)
>>> gini(np.array([[0, 1], [2, 3]]), catalogue), gini(np.array([[0], [0]]), catalogue)
(0.0, 0.75)
"""

import numpy as np

from palate_common.interactions import Interactions, Ints


def gini(top: Ints, train: Interactions) -> float:
    """`gini@k` = Gini coefficient of how often each item of the catalogue stands in a top k.

    0: every item equally often; (n - 1) / n for n items: one item gets everything. Items never recommended count.
    Source: Fleder and Hosanagar, Blockbuster Culture's Next Rise or Fall (Management Science 2009).

    Args:
        top: int [n_users, k], items in rank order; -1 where a list ends early.
        train: what the model was trained on; gives the size of the catalogue.

    Returns:
        In [0, 1); 0 when nothing is recommended.
    """
    n = train.n_items
    times = np.sort(np.bincount(top[top >= 0], minlength=n))
    total = max(int(times.sum()), 1)
    return float((2 * np.arange(1, n + 1) - n - 1) @ times / (n * total))
