"""RatingMetric: an error of expected ratings, as a mean over ratings.

>>> import numpy as np
>>> RatingMetric(np.abs, lambda mean: mean)(np.array([1.0, -3.0]))
2.0
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RatingMetric:
    """`whole(mean of each(error))` over all held-out ratings; lower is better.

    Attributes:
        each: what one rating adds, float64 [n_ratings] -> float64 [n_ratings].
        whole: the mean of that in units of the scale.
    """

    each: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    whole: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

    def __call__(self, errors: npt.NDArray[np.float64]) -> float:
        """The metric of some errors, float64 [n_ratings], expected less given; not empty."""
        return float(self.whole(np.asarray(np.mean(self.each(errors)), np.float64)))
