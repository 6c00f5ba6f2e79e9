"""Plan: how many rounds, of which sizes, and what of the budget each has; part of `als`.

    settings, public facts -> AlsPlan -> layouts and shares of mu^2

Every rule is here, with its numbers, and each follows from public facts alone, because a plan is public. They were
chosen on validation users of public data sets; docs/algorithm.md#rules has them in a table.

    >>> plan = AlsPlan(AlsSettings(), PublicFacts(n_users=537, n_items=9066, mu=1.12))
    >>> plan.later, plan.embedding_size, plan.head_items
    (3, 12, 145)
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.base import PublicFacts
from palate_common.algorithms.parts.compression import Sizes
from palate_common.score_sources import CONTENT, PAIRS, PANEL
from palate_core.errors import InputError

CAUTIOUS_WEIGHT = 0.5
"""Weight of features where users are too few for collaborative rounds: it did no harm on any data set."""
VOTE_FROM = 100.0
"""Below this signal, mu x users, there is no vote: it would be mostly noise."""
VOTE_SIGNAL = 60.0
"""A vote in a round of its own takes (this / signal)^2 of mu^2, within 0.01 .. 0.1."""
VOTE_BESIDE_PRODUCTS = 0.02
"""The vote's share of the squared norm beside the last round's products."""
FEWEST = 2
"""Collaborative rounds of a compressed run: at equal total size, two larger rounds were better than three."""
WARM_SHARE = 0.3
"""Round 0's share of mu^2 with a warm start, which has one more round."""
PAIRS_FROM, SIGNAL_AN_ITEM = 25_000.0, 40.0
"""Pairs are counted from this signal on; and signal for each of their items."""
PAIRS_FROM_AN_ITEM = 3.0
"""And from this signal an item of the catalogue on: where popular items are a small part of what people have, half of
the budget for their pairs is missed in the products."""
MOST_NUMBERS, LEFT_FOR_PAIRS = 4_000_000, 1_000_000
"""Pairs and products of a round are so many numbers at most, what a server takes in a request; but a million pairs."""
PAIR_SHARE = 0.5
"""The pairs' share of mu^2 after round 0."""
PANEL_WEIGHT, MOST_PANEL_WEIGHT, BESIDE_TASTE = 0.2, 2.0, 1.5
"""An open panel's weight before the vote: this times its people over the root of the signal, and the most; times the
last number beside collaborative rounds, as people have more taste than the histories that links are scaled by."""
SOURCES = "feature_sources"
"""The setting that names the sources of public features."""


class AlsSettings(BaseModel):
    """Settings; what is None follows from the public facts (see `AlsPlan`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    rounds: int | None = Field(default=None, ge=1, le=64)
    """Releases in all, popularity (round 0) included."""
    embedding_size: int | None = Field(default=None, ge=1, le=4096)
    """d, the number of taste directions."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that take part in rounds 1 and later."""
    popularity_share: float | None = Field(default=None, gt=0, lt=1)
    """Round 0's share of mu^2."""
    popularity_only_below: float = Field(default=350.0, ge=0)
    """Below this mu x users, no round is collaborative."""
    content_weight: float | None = Field(default=None, ge=0, le=4)
    """Weight of public features before the vote, and without one. None: 0.5 without collaborative rounds, else 1."""
    vote_share: float | None = Field(default=None, ge=0, lt=1)
    """A vote's share of the last round's squared norm, or of mu^2 if it has a round of its own; 0: no vote. Of all
    votes together it is below 1."""
    pair_items: int | None = Field(default=None, ge=0, le=4096)
    """Most popular items whose pairs are counted in round 1; 0: none."""
    feature_sources: dict[str, int] | None = None
    """Public features of several sources: name -> width, their columns in alphabetical order; None: there is one."""
    contribution_exponent: float = Field(default=-0.15, ge=-2, le=2)
    """How a user's norm is split over their items: an item's weight is its popularity to this power."""
    fold_exponent: float = Field(default=-0.3, ge=-2, le=2)
    """An item's weight in a user's history: popularity to this power."""
    score_exponent: float = Field(default=0.1, ge=-2, le=2)
    """Popularity's part in the ranking: a score is multiplied by popularity to this power."""
    whitening: float = Field(default=-0.3, ge=-1, le=0)
    """The next table's directions are scaled by their singular value to this power."""
    former_discount: float = Field(default=0.5, gt=0, le=1)
    """Warm start: the share of its evidence that the former table keeps."""
    compression: float = Field(default=1.0, ge=1, le=1024)
    """Factor by which a device sends fewer numbers over the run than the other settings say; see
    docs/algorithm.md#compression."""


class AlsPlan:
    """Rounds, sizes and budget, derived from public numbers only.

    `signal` is that of `PublicFacts`; with a warm start, the former release's signal is added in squares, as mu^2 is.

    Attributes:
        shares: each release's share of mu^2, round 0 first.
        counts: numbers of round 0, as many as items unless they are compressed.
        later: collaborative rounds after round 0.
        embedding_size: d.
        head_items: items in the collaborative rounds.
        content_weight: weight of public features before the vote.
        sources: name -> columns of the public features; {"": all of them} where there is one source.
        votes: the score sources whose weight is voted on in the last round.
        vote_share: their share of its squared norm, 0 without a vote. It is 1 where no round is collaborative: the
            votes then have the last round to themselves.
        pair_items: items whose pairs are counted in round 1, 0 without.
        pair_share: the pairs' share of that round's squared norm.
        panel_weight: weight of an open panel's links before the vote.
    """

    def __init__(self, settings: AlsSettings, facts: PublicFacts) -> None:
        self.sources = _columns(settings.feature_sources, facts.n_features)
        warm = facts.former_signal > 0
        signal = float(np.hypot(facts.signal, facts.former_signal))
        content = facts.n_features > 0
        later = self._later(settings, signal, warm=warm)
        # Content covers the tail, so that with features the head grows more slowly.
        wanted = 10 * np.sqrt(signal) if content else 1.2 * signal**0.75
        head = int(np.clip(wanted, 50, facts.n_items)) if facts.n_items > 50 else facts.n_items
        head = min(settings.head_items or head, facts.n_items)
        size = 96 if facts.mu is None else int(np.clip(4 * np.round(0.1125 * np.sqrt(signal)), 8, 96))
        sizes = Sizes(facts.n_items, later, head, min(settings.embedding_size or size, head))
        sizes = sizes.compress(settings.compression, fewest=FEWEST)
        self.counts, self.later, self.head_items, self.embedding_size = (
            sizes.counts, sizes.rounds, sizes.rows, sizes.width,
        )  # fmt: skip
        cautious = 1.0 if self.later else CAUTIOUS_WEIGHT
        self.content_weight = cautious if settings.content_weight is None else settings.content_weight
        most = MOST_PANEL_WEIGHT * (BESIDE_TASTE if later else 1.0)
        self.panel_weight = float(np.clip(PANEL_WEIGHT * facts.panel_users / np.sqrt(signal), 0.0, most))
        self.pair_items = self._pair_items(settings, facts)
        elections = {CONTENT: content, PAIRS: self.pair_items > 0 and self.later > 1, PANEL: facts.panel_users > 0}
        share = self._vote_share(settings, signal) if any(elections.values()) else 0.0
        self.votes = tuple(name for name, held in elections.items() if held and share)
        share *= len(self.votes)
        if share >= 1:
            raise InputError(
                f"`vote_share` must be below 1 / {len(self.votes)} where {len(self.votes)} weights are voted on "
                f"({', '.join(self.votes)}), got {settings.vote_share}"
            )
        if self.later:
            self.vote_share = share
            first = settings.popularity_share or (WARM_SHARE if warm else float(np.clip(150 / signal, 0.04, 0.5)))
            doubling = 2.0 ** np.arange(self.later)  # later rounds count more: the last one is the model
            pairs = PAIR_SHARE if self.pair_items else 0.0
            rest = (1 - first) * (1 - pairs) * doubling / doubling.sum()
            rest[0] += (1 - first) * pairs
            self.pair_share = float((1 - first) * pairs / rest[0])
            self.shares = (first, *(float(each) for each in rest))
        else:
            self.vote_share, self.pair_share = 1.0 if share else 0.0, 0.0
            self.shares = (1 - share, share) if share else (1.0,)

    def _pair_items(self, settings: AlsSettings, facts: PublicFacts) -> int:
        """As set; else by the signal an item, where there is enough, for at most twice the numbers of all products."""
        if not self.later or settings.compression > 1:
            return 0
        if settings.pair_items is not None:
            wanted = settings.pair_items
        elif facts.signal < max(PAIRS_FROM, PAIRS_FROM_AN_ITEM * facts.n_items):
            return 0
        else:
            products = self.later * self.head_items * self.embedding_size
            left = max(MOST_NUMBERS - self.head_items * self.embedding_size, LEFT_FOR_PAIRS)
            wanted = int(min(facts.signal / SIGNAL_AN_ITEM, 2 * np.sqrt(products), np.sqrt(2 * left)))
        size = min(wanted, facts.n_items)
        return size if size > 1 else 0

    @staticmethod
    def _later(settings: AlsSettings, signal: float, *, warm: bool) -> int:
        """How many rounds are collaborative."""
        if settings.rounds is not None:
            return settings.rounds - 1
        if signal < settings.popularity_only_below:
            return 0
        if warm:
            return 1  # a table that is known needs no rounds to be found
        return 4 if signal >= 20_000 else 3

    def _vote_share(self, settings: AlsSettings, signal: float) -> float:
        """Of one vote: as set; else a constant beside products, or by the signal in a round of its own."""
        if settings.vote_share is not None:
            chosen = settings.vote_share
        elif self.later:
            chosen = VOTE_BESIDE_PRODUCTS
        elif signal < VOTE_FROM:
            chosen = 0.0
        else:
            chosen = float(np.clip((VOTE_SIGNAL / signal) ** 2, 0.01, 0.1))
        return 0.0 if settings.rounds == 1 else chosen


def _columns(widths: dict[str, int] | None, n_features: int) -> dict[str, slice]:
    """Feature source -> its columns."""
    if widths is None:
        return {"": slice(0, n_features)}
    if not widths or min(widths.values()) < 1 or sum(widths.values()) != n_features:
        raise InputError(f"`{SOURCES}` must have widths that sum to {n_features}, the features' own, got {widths}")
    columns, end = dict[str, slice](), 0
    for name in sorted(widths):  # the order of canonical JSON
        columns[name] = slice(end, end + widths[name])
        end += widths[name]
    return columns
