"""Exploration: a taste that the user might have, drawn as far from the known one as the events leave open.

Thompson sampling with a bootstrap: every event counts a random Exp(1) instead of 1, and two events that never happened
join them, on items drawn from popularity. After many events a draw is close to the user's taste; after none it is that
of somebody in the crowd. It goes through the algorithm's own fold-in, whatever the algorithm.

Sources: Rubin, The Bayesian Bootstrap (Annals of Statistics 1981), for the weights; Osband and Van Roy, Bootstrapped
Thompson Sampling and Deep Exploration (2015), for events that never happened as the prior.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_common.weighting import LARGEST, SMALLEST

IMAGINED = 2
"""Events that never happened."""


class Crowd:
    """Who the user might be: histories of chance, drawn from popularity.

    Args:
        popularity: of each item, noised, float [n_items]; what is below 0 counts 0.
    """

    def __init__(self, popularity: npt.NDArray[np.floating]) -> None:
        self._popularity = popularity
        self._ends = np.cumsum(np.maximum(popularity, 0), dtype=np.float64)

    def draw(
        self, n: int, rng: np.random.Generator, among: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.int64]:
        """So many items by popularity, evenly where nothing is popular; among some rows, or all."""
        if among is not None:
            return among[Crowd(self._popularity[among]).draw(n, rng)]
        if not self._ends[-1] > 0:
            return rng.integers(len(self._ends), size=n)
        drawn: npt.NDArray[np.int64] = np.searchsorted(self._ends, rng.random(n) * self._ends[-1], side="right")
        return drawn

    def history(
        self, known: Interactions, rng: np.random.Generator, among: npt.NDArray[np.int64] | None = None
    ) -> Interactions:
        """A history that could have been: the known one, batch of one, with random weights and imagined events.

        Args:
            known: the events that happened.
            rng: what chance is drawn from.
            among: rows that events are imagined on, one at least, such as those of a domain; None: all.
        """
        weights = _single(known.weights * rng.exponential(size=known.nnz))
        imagined = _single(rng.exponential(size=IMAGINED))
        drawn = Interactions(known.indptr, known.indices, weights, known.n_items)
        return drawn.joined(self.draw(IMAGINED, rng, among), imagined)


def _single(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Weights in single precision, positive and finite."""
    return np.clip(weights, SMALLEST, LARGEST).astype(np.float32)


def slots(share: float, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which positions of a list of n explore: a share of them on average, all in the lower half, sorted."""
    wanted = share * n
    count = min(int(wanted) + int(rng.random() < wanted % 1), n - n // 2)
    if not count:
        return np.zeros(0, np.int64)
    return np.sort(rng.choice(np.arange(n // 2, n), count, replace=False))
