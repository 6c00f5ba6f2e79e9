"""Metrics of ranked lists, one a file; the evaluator runs every one of them at each cut-off.

A name with its cut-off says the whole definition: `recall@20` divides by the number of held-out items,
`recall_capped@20` by min(20, that number). A user metric judges one user's list, a list metric all lists together. A
rating metric judges expected ratings, of an algorithm that has them, and has no cut-off.

    >>> sorted(LIST_METRICS)
    ['coverage', 'gini', 'novelty']
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, Ints
from palate_sim.metrics.average_precision import average_precision
from palate_sim.metrics.coverage import coverage
from palate_sim.metrics.gini import gini
from palate_sim.metrics.hr import hr
from palate_sim.metrics.mae import mae
from palate_sim.metrics.mrr import mrr
from palate_sim.metrics.ndcg import ndcg
from palate_sim.metrics.novelty import novelty
from palate_sim.metrics.rating_metric import RatingMetric
from palate_sim.metrics.recall import recall
from palate_sim.metrics.recall_capped import recall_capped
from palate_sim.metrics.rmse import rmse

UserMetric = Callable[[npt.NDArray[np.bool_], Ints], npt.NDArray[np.float64]]
"""(hits bool [n_users, k], n_relevant int [n_users]) -> float64 [n_users]."""

ListMetric = Callable[[Ints, Interactions], float]
"""(top int [n_users, k], training interactions) -> one number."""

USER_METRICS: dict[str, UserMetric] = {
    "recall": recall,
    "recall_capped": recall_capped,
    "ndcg": ndcg,
    "hr": hr,
    "mrr": mrr,
    "average_precision": average_precision,
}

LIST_METRICS: dict[str, ListMetric] = {"coverage": coverage, "gini": gini, "novelty": novelty}

RATING_METRICS: dict[str, RatingMetric] = {"rmse": rmse, "mae": mae}
"""The first is the headline of a run that learns ratings. Lower is better, as for no other metric of a headline."""

__all__ = [
    "LIST_METRICS",
    "RATING_METRICS",
    "USER_METRICS",
    "ListMetric",
    "RatingMetric",
    "UserMetric",
    "average_precision",
    "coverage",
    "gini",
    "hr",
    "mae",
    "mrr",
    "ndcg",
    "novelty",
    "recall",
    "recall_capped",
    "rmse",
]
