"""RMSE: how far expected ratings lie from the held-out ones, large errors counting for more.

>>> import numpy as np
>>> round(rmse(np.array([0.5, -0.5, 2.0])), 4)
1.2247
"""

import numpy as np
import numpy.typing as npt


def rmse(errors: npt.NDArray[np.float64]) -> float:
    """`rmse`: the root of the mean squared error over all held-out ratings, so that active users count for more.

    Source: Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems (Computer 2009).

    Args:
        errors: float64 [n_ratings], expected less given, in units of the scale; not empty.
    """
    return float(np.sqrt(np.mean(errors**2)))
