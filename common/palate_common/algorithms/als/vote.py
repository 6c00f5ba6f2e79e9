"""Vote: users say how much public item features should count, from events that they hold back on the device.

Features may be a great help or none, and only what people do tells which. So a device hides every second of its items
from itself, ranks the catalogue by the others with content at each of some weights, and looks which weight finds more
of the hidden ones. What it sends is a ballot of norm 1 at most, a block of a round like any other: clipped, noised and
charged. What the server makes of the noised sum, whose noise it knows, is post-processing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Float64

CHOICES = np.array([0.0, 0.25, 0.5, 1.0])
"""Weights of content to choose from. A ballot has one number for each but the first, which it is compared with."""
LIST = 20
"""A hidden item is found if it is among so many."""
GAIN = 8.0
"""A ballot is the difference in recall times this, cut to norm 1: few users see a difference as large as 1/8."""
SPREAD = 0.1
"""Standard deviation of one user's differences, about: what the users themselves leave uncertain."""
DOUBT = 1.5
"""A weight further from the expected one by 1 must be better by this many standard errors."""
VOTERS = 4096
"""About so many users vote at most, chosen by a hash of their items: more would say the same."""


def thinning(n_users: int) -> int:
    """One user in so many votes."""
    return max(1, n_users // VOTERS)


def hide(histories: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Every second item of each user, in a public random order of the catalogue: those that are shown, those hidden."""
    keys = np.random.default_rng([seed, 1]).permutation(histories.n_items)[histories.indices]
    owners = histories.owners()
    order = np.argsort(owners.astype(np.int64) * histories.n_items + keys)
    place = np.empty(histories.nnz, np.int64)
    place[order] = np.arange(histories.nnz) - histories.indptr[owners[order]]
    hidden = place % 2 == 1
    return histories.entries(~hidden), histories.entries(hidden)


def voters(histories: Interactions, n_users: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of those who vote: they have an item to hide and one to show, and are drawn by a hash of their items."""
    words = np.random.default_rng([seed, 2]).integers(0, 2**62, histories.n_items)
    hashed = segment_sum(words[histories.indices], histories.indptr)  # wraps around, alike everywhere
    return np.flatnonzero((histories.counts() > 1) & (hashed % thinning(n_users) == 0))


def ballot(plain: Float64, content: Float64, shown: npt.NDArray[np.int32], hidden: npt.NDArray[np.int32]) -> Float64:
    """One user's ballot: float64 [len(CHOICES) - 1], norm 1 at most.

    Args:
        plain: scores of all items without content, from the shown items alone, float64 [n_items].
        content: what content adds to them at weight 1.
        shown: item rows that the scores were made of.
        hidden: item rows to be found, one at least.
    """
    place = max(len(plain) - LIST, 0)
    unseen = plain.copy()
    unseen[shown] = -np.inf  # and stays it, whatever finite content adds
    found, scores = np.empty(len(CHOICES)), np.empty(len(plain))
    for choice, weight in enumerate(CHOICES):
        np.multiply(content, weight, out=scores)
        scores += unseen
        wanted = scores[hidden]
        scores.partition(place)
        found[choice] = min(int(np.count_nonzero(wanted >= scores[place])), LIST)
    gained = GAIN * (found[1:] - found[0]) / min(len(hidden), LIST)
    cut: Float64 = gained / max(float(np.sqrt((gained**2).sum())), 1.0)
    return cut


def elected(total: Float64, *, noise: float, n_users: int, expected: float) -> float:
    """The weight that the noised sum of ballots speaks for.

    Args:
        total: noised sum of ballots, float64 [len(CHOICES) - 1].
        noise: standard deviation of its noise.
        n_users: installations that took part, as public facts have it.
        expected: the weight without a vote; what is further from it needs more evidence.
    """
    voted = n_users / thinning(n_users)
    recall = np.concatenate([[0.0], total]) / (GAIN * voted)
    error = np.hypot(noise / (GAIN * voted), SPREAD / np.sqrt(voted))
    return float(CHOICES[np.argmax(recall - DOUBT * error * np.abs(CHOICES - expected))])
