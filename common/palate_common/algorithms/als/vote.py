"""Vote: users choose the weights of what is beside the private directions by held-out events, on the device.

Public item features, links from pair counts and an open panel's links: only what people do tells whether each helps.
So a device holds out every second of its items, ranks the catalogue from the others with each candidate weight of one
of them, and compares how many held-out items each weight finds. It sends a ballot of norm 1 at most for each election,
a block of the round like any other: clipped, noised and charged. The server's decision is post-processing of the noised
sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions, row_squares, segment_sum
from palate_common.mechanism.update import Float64
from palate_common.score_sources import CONTENT, PAIRS, PANEL

ALONE = 64.0
"""The weight of an open panel alone: everything else only decides between items that it scores alike."""
CHOICES: Mapping[str, Float64] = {
    CONTENT: np.array([0.0, 0.25, 0.5, 1.0]),
    PAIRS: np.array([0.0, 0.5, 1.0, 2.0]),
    PANEL: np.array([0.0, 0.5, 1.0, 2.0, 3.0, ALONE]),
}
"""Score source -> candidates for its weight. A ballot compares each of the others with the first."""
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


class ScorePart(Protocol):
    """What one of the elected sources adds to scores at weight 1, of some users, in the order of `VoteTables.place`."""

    def of(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """Float64 [len(rows), n]: of the first n items."""

    def bound(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """Float64 [len(rows)]: no item from place n on has more."""


@dataclass(frozen=True)
class ContentPart:
    """Content's part.

    Attributes:
        tables: of the catalogue.
        likes: float64 [n_users, c].
    """

    tables: VoteTables
    likes: Float64

    @cached_property
    def _rounded_likes(self) -> Float64:
        return _on_grid(self.likes, _lengths(self.likes)[:, None])

    def of(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """Exact products."""
        product: Float64 = self._rounded_likes[rows] @ self.tables.content[:n].T
        return product

    def bound(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """By Cauchy and Schwarz."""
        longest = float(self.tables.most[n, 2])
        return _lengths(self._rounded_likes[rows]) * longest


@dataclass(frozen=True)
class LinkPart:
    """The part of links.

    Attributes:
        tables: of the catalogue.
        links: of the catalogue.
        shown: the users' shown items.
        amounts: how much the links of each interaction of some users count, float64 [nnz].
    """

    tables: VoteTables
    links: Links
    shown: Interactions
    amounts: Callable[[Interactions], Float64]

    @cached_property
    def _links_by_place(self) -> Links:
        """The same links, to places instead of rows."""
        return Links(self.links.items, self.tables.place[self.links.to], self.links.shape, self.links.scale)

    def of(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """Sums in the order of a user's items."""
        shown = self.shown.users(rows)
        known, places = self.links.of(shown.indices)
        owners, to = shown.owners()[known].astype(np.int64), self._links_by_place.to[places]
        added = self.amounts(shown)[known, None] * self.links.values[places]
        near = to < n
        cells = (owners[:, None] * n + to)[near]
        return np.bincount(cells, added[near], len(rows) * n).astype(np.float64, copy=False).reshape(len(rows), n)

    def bound(self, rows: npt.NDArray[np.int64], n: int) -> Float64:
        """The sum of what each interaction says most of any item from place n on."""
        shown = self.shown.users(rows)
        far = np.where(self._links_by_place.to >= n, self.links.values, 0.0).max(axis=1, initial=0.0)
        known, places = self.links.of(shown.indices)
        most = np.zeros(shown.nnz)
        most[known] = self.amounts(shown)[known] * far[places]
        return np.asarray(segment_sum(most, shown.indptr), np.float64)


def ballots(
    tables: VoteTables,
    level: Float64,
    taste: Float64,
    parts: Mapping[str, ScorePart],
    weights: Mapping[str, float],
    elections: Sequence[str],
    shown: Interactions,
    hidden: Interactions,
) -> dict[str, Float64]:
    """Each user's ballots: source -> float64 [n_users, number of its choices - 1], norm 1 at most.

    Args:
        tables: of the catalogue.
        level: of each user, from the shown items alone, float64 [n_users].
        taste: float64 [n_users, d].
        parts: of each source beside the private directions.
        weights: of these, where another source is voted on.
        elections: the sources that are voted on.
        shown: the items that all this was computed from; they are not ranked.
        hidden: the items to be found, one at least a user.
    """
    taste = _on_grid(taste, _lengths(taste)[:, None])
    found = {name: np.zeros((len(level), len(CHOICES[name]))) for name in elections}
    for name in elections:
        left, n_ranked = np.arange(len(level)), min(FIRST_RANKED, len(tables.base))
        while len(left):
            at_once, undecided = max(1, SCORES_AT_ONCE // n_ranked), []
            for rows in (left[first : first + at_once] for first in range(0, len(left), at_once)):
                users = level[rows], taste[rows], shown.users(rows), hidden.users(rows)
                found[name][rows], decided = _count_found(tables, n_ranked, *users, rows, name, parts, weights)
                undecided.append(rows[~decided])
            left, n_ranked = np.concatenate(undecided), min(n_ranked * MORE_RANKED, len(tables.base))
    return {name: _ballot(each, hidden) for name, each in found.items()}


def _ballot(found: Float64, hidden: Interactions) -> Float64:
    """The gains over the first choice, clipped to norm 1."""
    gained = GAIN * (found[:, 1:] - found[:, :1]) / np.minimum(hidden.counts(), LIST)[:, None]
    cut: Float64 = gained / np.maximum(_lengths(gained), 1.0)[:, None]
    return cut


def _count_found(
    tables: VoteTables,
    n: int,
    level: Float64,
    taste: Float64,
    shown: Interactions,
    hidden: Interactions,
    rows: npt.NDArray[np.int64],
    name: str,
    parts: Mapping[str, ScorePart],
    weights: Mapping[str, float],
) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """How many hidden items each weight finds among the first n items, and of which users no others can be found."""
    plain = level[:, None] * tables.base[:n]
    head = tables.basis[:n]
    plain[:, : len(head)] += taste @ head.T
    beside = [other for other in parts if other != name and weights[other]]
    for other in beside:
        plain += weights[other] * parts[other].of(rows, n)
    own = parts[name].of(rows, n)
    seen = tables.place[shown.indices]
    ranked = np.flatnonzero(seen < n)
    plain[shown.owners()[ranked], seen[ranked]] = -np.inf  # and stays so, whatever finite parts add
    wanted = tables.place[hidden.indices]
    ranked = np.flatnonzero(wanted < n)
    owners, wanted = hidden.owners()[ranked], wanted[ranked]
    wanted_plain, wanted_own = plain[owners, wanted], own[owners, wanted]
    choices = CHOICES[name]
    found, decided = np.empty((len(level), len(choices))), np.ones(len(level), np.bool_)
    if n < len(tables.base):  # others have at most these scores
        others = np.maximum(level, 0) * tables.most[n, 0] + _lengths(taste) * tables.most[n, 1]
        for other in beside:
            others += weights[other] * parts[other].bound(rows, n)
        others_own = parts[name].bound(rows, n)
    scores, last = np.empty_like(plain), max(n - LIST, 0)
    for choice, weight in enumerate(choices):
        if weight:
            np.multiply(own, weight, out=scores)
            scores += plain
        else:
            scores[:] = plain
        scores.partition(last, axis=1)
        least = scores[:, last]
        in_list = wanted_own * weight + wanted_plain >= least[owners]
        found[:, choice] = np.minimum(np.bincount(owners[in_list], minlength=len(level)), LIST)
        if n < len(tables.base):
            decided &= (others + weight * others_own) * ROUNDING < least
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


def winning_weight(
    total: Float64, choices: Float64, *, noise: float, voted: float, expected: float, optimism: float = 0.0
) -> float:
    """The weight that wins by the noised sum of ballots.

    Args:
        total: noised sum of ballots, float64 [len(choices) - 1].
        choices: the candidates.
        noise: standard deviation of its noise.
        voted: about how many voted, by public facts.
        expected: the weight without a vote; a weight further from it needs more evidence.
        optimism: about how much better than it is a source may look to voters from whom it was learned, in recall.
    """
    recall = np.concatenate([[0.0], total]) / (GAIN * voted)
    error = np.hypot(noise / (GAIN * voted), SPREAD / np.sqrt(voted))
    away = np.abs(choices - expected) / np.maximum(np.maximum(choices, expected), 1.0)
    return float(choices[np.argmax(recall - (DOUBT * error + optimism) * away)])
