"""RMSE: how far expected ratings lie from the held-out ones, large errors counting for more.

>>> round(rmse(np.array([0.5, -0.5, 2.0])), 4)
1.2247
"""

import numpy as np

from palate_sim.metrics.rating_metric import RatingMetric

rmse = RatingMetric(np.square, np.sqrt)
"""`rmse`: the root of the mean squared error over all held-out ratings, so that active users count for more.

Source: Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems (Computer 2009).
"""
