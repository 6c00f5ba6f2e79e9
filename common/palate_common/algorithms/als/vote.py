"""Vote: users choose the weight of public item features by held-out events, on the device.

Only what people do tells whether features help. So a device holds out every second of its items, ranks the catalogue
from the others with each candidate weight of content, and compares how many held-out items each weight finds. It sends
a ballot of norm 1 at most, a block of the round like any other: clipped, noised and charged. The server's decision is
post-processing of the noised sum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Float64

CHOICES = np.array([0.0, 0.25, 0.5, 1.0])
"""Candidate weights of content. A ballot compares each of the others with the first."""
LIST = 20
"""A hidden item is found if it is among this many top items."""
GAIN = 8.0
"""A ballot is the difference in recall times this, clipped to norm 1: few users see a difference as large as 1/8."""
SPREAD = 0.1
"""About the standard deviation of a user's differences in recall: the sampling error without any noise."""
DOUBT = 1.5
"""Standard errors by which a weight must win, times its distance from the expected weight."""
VOTERS = 4096
"""About the most users who vote, chosen by a hash of their items: more votes would not change the result."""


def thinning(n_users: int) -> int:
    """n, where one user in n votes."""
    return max(1, n_users // VOTERS)


def hide(histories: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Hide every second item of each user, in a public random order of the catalogue: (shown, hidden)."""
    keys = np.random.default_rng([seed, 1]).permutation(histories.n_items)[histories.indices]
    owners = histories.owners()
    order = np.argsort(owners.astype(np.int64) * histories.n_items + keys)
    place = np.empty(histories.nnz, np.int64)
    place[order] = np.arange(histories.nnz) - histories.indptr[owners[order]]
    hidden = place % 2 == 1
    return histories.entries(~hidden), histories.entries(hidden)


def voters(histories: Interactions, n_users: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of the users who vote: those with two items or more, if a hash of their items selects them."""
    words = np.random.default_rng([seed, 2]).integers(0, 2**62, histories.n_items)
    hashed = segment_sum(words[histories.indices], histories.indptr)  # wraps around, on every machine alike
    return np.flatnonzero((histories.counts() > 1) & (hashed % thinning(n_users) == 0))


def ballot(plain: Float64, content: Float64, shown: npt.NDArray[np.int32], hidden: npt.NDArray[np.int32]) -> Float64:
    """One user's ballot: float64 [len(CHOICES) - 1], norm 1 at most.

    Args:
        plain: scores of all items without content, from the shown items alone, float64 [n_items].
        content: what content adds to them at weight 1.
        shown: item rows that the scores were computed from.
        hidden: item rows to be found, one at least.
    """
    place = max(len(plain) - LIST, 0)
    unseen = plain.copy()
    unseen[shown] = -np.inf  # and stays so, whatever finite content adds
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
    """The weight that wins by the noised sum of ballots.

    Args:
        total: noised sum of ballots, float64 [len(CHOICES) - 1].
        noise: standard deviation of its noise.
        n_users: installations that took part, as public facts have it.
        expected: the weight without a vote; a weight further from it needs more evidence.
    """
    voted = n_users / thinning(n_users)
    recall = np.concatenate([[0.0], total]) / (GAIN * voted)
    error = np.hypot(noise / (GAIN * voted), SPREAD / np.sqrt(voted))
    return float(CHOICES[np.argmax(recall - DOUBT * error * np.abs(CHOICES - expected))])
