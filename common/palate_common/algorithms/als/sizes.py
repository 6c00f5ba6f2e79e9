"""What a run of `als` is like, from settings and public facts alone: rounds, sizes and budget."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.als.compression import Sizes
from palate_common.algorithms.base import PublicFacts
from palate_common.errors import InputError

CAUTIOUS_WEIGHT = 0.5
"""How much features count where users are too few for collaborative rounds: what did no harm on any set."""
VOTE_FROM = 100.0
"""Below this mu x users a vote would be noise."""
VOTE_SIGNAL = 60.0
"""A vote in a round of its own takes (this / signal)^2 of mu^2, within 0.01 .. 0.1."""
VOTE_BESIDE_PRODUCTS = 0.02
"""The vote's share of the squared norm beside the last round's products."""
FEWEST = 2
"""Collaborative rounds of a compressed run: for as many numbers in all, two larger ones were better than three."""
WARM_SHARE = 0.3
"""Round 0's share of mu^2 where a run starts from a former release: one round is left beside it."""


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
    """How much public features count before the vote, and without one; 0.5 without collaborative rounds, else 1."""
    vote_share: float | None = Field(default=None, ge=0, lt=1)
    """The vote's share of the last round's squared norm, or of mu^2 if it has a round of its own; 0: no vote."""
    feature_sources: dict[str, int] | None = None
    """Public features of several sources: name -> width, their columns in alphabetical order; None: there is one."""
    contribution_exponent: float = Field(default=-0.15, ge=-2, le=2)
    """Which of their items a user's norm is spent on: weight proportional to popularity to this power."""
    fold_exponent: float = Field(default=-0.3, ge=-2, le=2)
    """An item's weight in a user's history: popularity to this power."""
    score_exponent: float = Field(default=0.1, ge=-2, le=2)
    """Popularity's part in the ranking."""
    whitening: float = Field(default=-0.3, ge=-1, le=0)
    """The next table's directions are scaled by their singular value to this power."""
    former_discount: float = Field(default=0.5, gt=0, le=1)
    """How much of its evidence a former table keeps when a run starts from it."""
    compression: float = Field(default=1.0, ge=1, le=1024)
    """How many times fewer numbers a device sends over the run than the other settings would have it send; see
    docs/algorithm.md#compression."""


class AlsPlan:
    """Rounds, sizes and budget from public numbers only.

    `signal` is mu x users: how far a count that all users share stands above noise of multiplier 1/mu. With dp local it
    is mu x sqrt(users), as every user adds such noise. A former release adds its own, as mu^2 adds up.

    Attributes:
        shares: each release's share of mu^2, round 0 first.
        counts: numbers of round 0, as many as items unless they are compressed.
        later: collaborative rounds after round 0.
        embedding_size: d.
        head_items: items in the collaborative rounds.
        content_weight: how much public features count until there is a vote on it.
        sources: name -> columns of the public features; {"": all of them} where there is one source.
        vote_share: the vote's share of the squared norm in the last round, 0 without a vote. It is 1 where no
            round is collaborative: the vote then has the last round to itself.
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
        sizes = sizes.compressed(settings.compression, fewest=FEWEST)
        self.counts, self.later, self.head_items, self.embedding_size = (
            sizes.counts, sizes.rounds, sizes.rows, sizes.width,
        )  # fmt: skip
        cautious = 1.0 if self.later else CAUTIOUS_WEIGHT
        self.content_weight = cautious if settings.content_weight is None else settings.content_weight
        share = self._vote_share(settings, signal) if content else 0.0
        if self.later:
            self.vote_share = share
            first = settings.popularity_share or (WARM_SHARE if warm else float(np.clip(150 / signal, 0.04, 0.5)))
            doubling = 2.0 ** np.arange(self.later)  # later rounds count more: the last one is the model
            rest = (1 - first) * doubling / doubling.sum()
            self.shares = (first, *(float(each) for each in rest))
        else:
            self.vote_share = 1.0 if share else 0.0
            self.shares = (1 - share, share) if share else (1.0,)

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
        """As set; else what keeps the vote's noise down beside products, or alone, where that doesn't cost too much."""
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
    """The columns of each source."""
    if widths is None:
        return {"": slice(0, n_features)}
    if not widths or min(widths.values()) < 1 or sum(widths.values()) != n_features:
        raise InputError(f"`{SOURCES}` must have widths that sum to {n_features}, the features' own, got {widths}")
    columns, end = dict[str, slice](), 0
    for name in sorted(widths):  # as canonical JSON has them
        columns[name] = slice(end, end + widths[name])
        end += widths[name]
    return columns
