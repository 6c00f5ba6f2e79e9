"""MAE: how far expected ratings lie from the held-out ones.

>>> mae(np.array([0.5, -0.5, 2.0]))
1.0
"""

import numpy as np

from palate_sim.metrics.rating_metric import RatingMetric

mae = RatingMetric(np.abs, np.positive)
"""`mae`: the mean absolute error over all held-out ratings, so that active users count for more.

Source: Herlocker et al., Evaluating Collaborative Filtering Recommender Systems (TOIS 2004), section 4.1.
"""
