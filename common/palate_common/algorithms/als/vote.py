"""Vote: users choose the weight of public item features by held-out events, on the device.

Only what people do tells whether features help. So a device holds out every second of its items, ranks the catalogue
from the others with each candidate weight of content, and compares how many held-out items each weight finds. It sends
a ballot of norm 1 at most, a block of the round like any other: clipped, noised and charged. The server's decision is
post-processing of the noised sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, row_squares, segment_sum
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
ENOUGH = 1 / 300
"""Standard error of a difference in recall that is small enough: as many users vote as give it."""

FIRST_RANKED, MORE_RANKED = 1024, 4
"""So many items are scored first; users whose list may have others score this many times as many."""
SCORES_AT_ONCE = 2**17
"""Scores that are held at once: 1 MB each of a few arrays."""
LEAST = 2.0**-200
"""Shorter vectors count as zero."""
ROUNDING = 1 + 1e-6
"""More than a bound on scores can be too low by rounding."""


def thinning(n_users: int, noise: float) -> int:
    """n, where one user in n votes; as many vote as the decision needs, which are more where there is more noise.

    Of v votes the mean has an error of SPREAD / sqrt(v) by sampling and of noise / (GAIN v) by the noise of their sum.

    Args:
        n_users: installations that take part, as public facts have it.
        noise: standard deviation of the noise of the sum of ballots, as public facts have it.
    """
    sampling, noised = (SPREAD / ENOUGH) ** 2, noise / (GAIN * ENOUGH)
    needed = (sampling + float(np.sqrt(sampling**2 + 4 * noised**2))) / 2  # root of sampling / v + (noised / v)^2 = 1
    return max(1, int(n_users / needed))


def hide(histories: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Hide every second item of each user, in a public random order of the catalogue: (shown, hidden)."""
    keys = np.random.default_rng([seed, 1]).permutation(histories.n_items)[histories.indices]
    order = np.argsort(histories.owners().astype(np.int64) * histories.n_items + keys)  # each user's by themselves
    place = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], histories.counts())
    hidden = np.empty(histories.nnz, np.bool_)
    hidden[order] = place % 2 == 1
    return histories.entries(~hidden), histories.entries(hidden)


def voters(histories: Interactions, one_in: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of the users who vote: those with two items or more, if a hash of their items selects them, one in n."""
    words = np.random.default_rng([seed, 2]).integers(0, 2**62, histories.n_items)
    hashed = segment_sum(words[histories.indices], histories.indptr)  # wraps around, on every machine alike
    return np.flatnonzero((histories.counts() > 1) & (hashed % one_in == 0))


@dataclass(frozen=True)
class VoteTables:
    """What the vote ranks the catalogue with, those items first that can lead a list, so that few need be scored.

        score = level base + taste . basis + weight * likes . content

    The two products are of numbers on grids and exact: a user's scores have the same bits in whatever batch.

    Attributes:
        base: popularity's part at level 1, float64 [n_items], in the order of `place`, as all that follows.
        basis: on a grid, float64 [h, d], of the first h items.
        content: on a grid, float64 [n_items, c].
        place: int32 [n_items], where each item of the catalogue is in this order.
        most: of the items from a place on the largest base and the largest lengths of basis and content, float64
            [n_items, 3].
    """

    base: Float64
    basis: Float64
    content: Float64
    place: npt.NDArray[np.int32]
    most: Float64

    @classmethod
    def of(cls, base: Float64, head: npt.NDArray[np.int32], basis: Float64, content: Float64) -> VoteTables:
        """From `base` [n_items], the `head` [h] and its directions [h, d], and those of content [n_items, c]."""
        tail = np.ones(len(base), np.bool_)
        tail[head] = False
        order, place = np.lexsort((-base, tail)), np.empty(len(base), np.int32)
        place[order] = np.arange(len(base), dtype=np.int32)
        rows, columns = basis[np.argsort(place[head])], content[order]
        rows, columns = (_on_grid(each, _lengths(each).max(initial=0.0)) for each in (rows, columns))
        each = np.zeros((len(base), 3))
        each[:, 0], each[: len(head), 1], each[:, 2] = base[order], _lengths(rows), _lengths(columns)
        return cls(base[order], rows, columns, place, np.maximum.accumulate(each[::-1])[::-1])


def ballots(
    tables: VoteTables, level: Float64, taste: Float64, likes: Float64, shown: Interactions, hidden: Interactions
) -> Float64:
    """Each user's ballot: float64 [n_users, len(CHOICES) - 1], norm 1 at most.

    Args:
        tables: of the catalogue.
        level: of each user, from the shown items alone, float64 [n_users].
        taste: float64 [n_users, d].
        likes: float64 [n_users, c].
        shown: the items that these were computed from; they are not ranked.
        hidden: the items to be found, one at least a user.
    """
    found, n_items = np.zeros((len(level), len(CHOICES))), len(tables.base)
    taste, likes = (_on_grid(each, _lengths(each)[:, None]) for each in (taste, likes))
    left, n_ranked = np.arange(len(level)), min(FIRST_RANKED, n_items)
    while len(left):
        at_once, undecided = max(1, SCORES_AT_ONCE // n_ranked), []
        for rows in (left[first : first + at_once] for first in range(0, len(left), at_once)):
            users = level[rows], taste[rows], likes[rows], shown.users(rows), hidden.users(rows)
            found[rows], decided = _found(tables, n_ranked, *users)
            undecided.append(rows[~decided])
        left, n_ranked = np.concatenate(undecided), min(n_ranked * MORE_RANKED, n_items)
    gained = GAIN * (found[:, 1:] - found[:, :1]) / np.minimum(hidden.counts(), LIST)[:, None]
    cut: Float64 = gained / np.maximum(_lengths(gained), 1.0)[:, None]
    return cut


def _found(
    tables: VoteTables,
    n: int,
    level: Float64,
    taste: Float64,
    likes: Float64,
    shown: Interactions,
    hidden: Interactions,
) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """How many hidden items each weight finds among the first n items, and of which users no others can be found."""
    plain = level[:, None] * tables.base[:n]
    head = tables.basis[:n]
    plain[:, : len(head)] += taste @ head.T
    content = likes @ tables.content[:n].T
    seen = tables.place[shown.indices]
    ranked = np.flatnonzero(seen < n)
    plain[shown.owners()[ranked], seen[ranked]] = -np.inf  # and stays so, whatever finite content adds
    wanted = tables.place[hidden.indices]
    ranked = np.flatnonzero(wanted < n)
    owners, wanted = hidden.owners()[ranked], wanted[ranked]
    wanted_plain, wanted_content = plain[owners, wanted], content[owners, wanted]
    found, decided = np.empty((len(level), len(CHOICES))), np.ones(len(level), np.bool_)
    if n < len(tables.base):  # others have at most these scores (Cauchy-Schwarz)
        others = np.maximum(level, 0) * tables.most[n, 0] + _lengths(taste) * tables.most[n, 1]
        others_content = _lengths(likes) * tables.most[n, 2]
    scores, last = np.empty_like(plain), max(n - LIST, 0)
    for choice, weight in enumerate(CHOICES):
        if weight:
            np.multiply(content, weight, out=scores)
            scores += plain
        else:
            scores[:] = plain
        scores.partition(last, axis=1)
        least = scores[:, last]
        in_list = wanted_content * weight + wanted_plain >= least[owners]
        found[:, choice] = np.minimum(np.bincount(owners[in_list], minlength=len(level)), LIST)
        if n < len(tables.base):
            decided &= (others + weight * others_content) * ROUNDING < least
    return found, decided


def _lengths(rows: Float64) -> Float64:
    """L2 norm of each row."""
    return np.sqrt(row_squares(rows))


def _on_grid(rows: Float64, length: Float64) -> Float64:
    """The rows rounded to multiples of a power of two, about 2^-25 of `length`.

    Products of two such rows, and all partial sums, are whole numbers of one unit below 2^53 (Cauchy-Schwarz).
    """
    unit = np.exp2(np.ceil(np.log2(np.maximum(length, LEAST))) - 25)
    rounded: Float64 = np.rint(rows / unit) * unit
    return rounded


def elected(total: Float64, *, noise: float, voted: float, expected: float) -> float:
    """The weight that wins by the noised sum of ballots.

    Args:
        total: noised sum of ballots, float64 [len(CHOICES) - 1].
        noise: standard deviation of its noise.
        voted: about how many voted, by public facts.
        expected: the weight without a vote; a weight further from it needs more evidence.
    """
    recall = np.concatenate([[0.0], total]) / (GAIN * voted)
    error = np.hypot(noise / (GAIN * voted), SPREAD / np.sqrt(voted))
    return float(CHOICES[np.argmax(recall - DOUBT * error * np.abs(CHOICES - expected))])
