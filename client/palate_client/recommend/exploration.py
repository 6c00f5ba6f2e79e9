"""Exploration: draws a taste that the user might have; the fewer events they have, the further from the known one.

Thompson sampling with a bootstrap: every event has a random weight from Exp(1), and two imagined events are added, on
items drawn by popularity. After many events a draw is close to the user's taste; without events it is that of a random
user. It uses the algorithm's own fold-in and so works with every algorithm.

Sources: Rubin, The Bayesian Bootstrap (Annals of Statistics 1981), for the weights; Osband and Van Roy, Bootstrapped
Thompson Sampling and Deep Exploration (2015), for events that never happened as the prior.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_common.weighting import LARGEST, SMALLEST

IMAGINED = 2
"""Number of imagined events."""


class RandomHistories:
    """Draws random histories by popularity.

    Args:
        popularity: noised popularity of each item, float [n_items]; values below 0 count as 0.
    """

    def __init__(self, popularity: npt.NDArray[np.floating]) -> None:
        self._popularity = popularity
        self._ends = np.cumsum(np.maximum(popularity, 0), dtype=np.float64)

    def draw(
        self, n: int, rng: np.random.Generator, among: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Draw n items by popularity, or evenly if no item is popular; from the rows `among`, or all."""
        if among is not None:
            return among[RandomHistories(self._popularity[among]).draw(n, rng)]
        if not self._ends[-1] > 0:
            return rng.integers(len(self._ends), size=n)
        drawn: npt.NDArray[np.int64] = np.searchsorted(self._ends, rng.random(n) * self._ends[-1], side="right")
        return drawn

    def history(
        self, known: Interactions, rng: np.random.Generator, among: npt.NDArray[np.int64] | None = None
    ) -> Interactions:
        """Draw a history: the known one, a batch of one, with random weights and imagined events.

        Args:
            known: the user's real events.
            rng: random numbers.
            among: rows of items for imagined events, at least one, such as those of a domain; None: all.
        """
        weights = _single(known.weights * rng.exponential(size=known.nnz))
        imagined = _single(rng.exponential(size=IMAGINED))
        drawn = Interactions(known.indptr, known.indices, weights, known.n_items)
        return drawn.with_interactions(self.draw(IMAGINED, rng, among), imagined)


def _single(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.clip(weights, SMALLEST, LARGEST).astype(np.float32)


def slots(share: float, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Sorted positions of a list of n that are explored: a random choice in its lower half, `share` of n on average."""
    wanted = share * n
    count = min(int(wanted) + int(rng.random() < wanted % 1), n - n // 2)
    if not count:
        return np.zeros(0, np.int64)
    return np.sort(rng.choice(np.arange(n // 2, n), count, replace=False))
