"""MAE: how far expected ratings lie from the held-out ones.

>>> import numpy as np
>>> mae(np.array([0.5, -0.5, 2.0]))
1.0
"""

import numpy as np
import numpy.typing as npt


def mae(errors: npt.NDArray[np.float64]) -> float:
    """`mae`: the mean absolute error over all held-out ratings, so that active users count for more.

    Source: Herlocker et al., Evaluating Collaborative Filtering Recommender Systems (TOIS 2004), section 4.1.

    Args:
        errors: float64 [n_ratings], expected less given, in units of the scale; not empty.
    """
    return float(np.mean(np.abs(errors)))
