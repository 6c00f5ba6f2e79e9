"""Recency: when a device recommends, recent events count more than old ones.

Nothing else sees it: not training, and nothing that a device sends. With a half-life h, an event of age a weighs
0.5^(a / h) times as much. A history's weights are scaled to keep their sum: what counts is how much older one event is
than another, and not the time of the call, so lists don't change while nothing happens. The model trusts a history as
far as its effective number of events goes (`Interactions.effective_counts`).

    >>> history = Interactions.from_pairs([0, 0], [0, 1], n_users=1, n_items=2)
    >>> recent(history, np.array([0.25, 1.0])).weights.astype(float).round(3).tolist()
    [0.4, 1.6]

The half-life belongs to the model: `palate simulate` chooses one on a log (`palate_sim.evaluation.recency`), the
operator sets it, and the manifest of the published model tells the devices. The simulator evaluates with this code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum
from palate_common.weighting import LARGEST, SMALLEST, Weighting


def decaying(weighting: Weighting, half_life_days: float) -> Weighting:
    """The weighting with a further decay by age; two decays together have one half-life.

    Raises:
        InputError: the half-life is not positive and finite.
    """
    further = replace(weighting, half_life_days=half_life_days)  # which is checked there
    if weighting.half_life_days is None:
        return further
    return replace(weighting, half_life_days=1 / (1 / weighting.half_life_days + 1 / half_life_days))


def recent(histories: Interactions, decayed: npt.NDArray[np.floating]) -> Interactions:
    """The same events with decayed weights, scaled so that each user's sum stays as it was.

    Args:
        histories: of any users, with their weights.
        decayed: positive weights of the same events after their decay, float [nnz].
    """
    before = segment_sum(histories.weights.astype(np.float64), histories.indptr)
    after = segment_sum(decayed.astype(np.float64), histories.indptr)
    scale = np.divide(before, after, out=np.ones_like(before), where=after > 0)
    weights = np.clip(decayed * np.repeat(scale, histories.counts()), SMALLEST, LARGEST).astype(np.float32)
    return Interactions(histories.indptr, histories.indices, weights, histories.n_items)
