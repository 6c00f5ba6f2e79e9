"""`als`: private alternating least squares on a centred item table. Palate's default.

Round 0 releases noised popularity. Each later round alternates once: with the item table fixed, a device projects
its history onto it and normalises (the user side); with all users fixed, the noised sum of the outer products of
item weights and user vectors gives the next table (the item side, its right-hand side only: no Gramian is released).

The table is CENTRED: its mean under popularity is zero. A user's vector then carries taste and no popularity, and
none of the norm-1 budget is spent on the one direction that round 0 has already released. The strength of a taste
direction is estimated from its singular value: the part above the known noise, and above what histories drawn at random
by popularity would show. Where no taste is visible, the scores are noised popularity, so that training does no harm.

Public item features cost no privacy. Their principal directions, weighted by noised popularity, are further taste
directions of ALL items. What the released directions already cover is removed, as far as these are accurate: with less
noise, features count less. In the last round users vote on their weight (see `vote`), so that features that say nothing
about what people like do no harm.

Sources: Hu et al. 2008 and Chien et al. 2021 (DP-ALS); Hardt and Price 2014 (noisy power method: a projection followed
by a noised product is one step of it); Krichene et al. 2023 (adaptive item weights in the place of sampling).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.als import warm
from palate_common.algorithms.als.content import content_state
from palate_common.algorithms.als.factors import LINKS, AlsFactors
from palate_common.algorithms.als.pairs import MOST_LINKS, balanced, item_map, pair_blocks
from palate_common.algorithms.als.taste import TINY, centred, directions, relative_popularity, scaled_table
from palate_common.algorithms.als.vote import (
    CHOICES,
    ContentPart,
    LinkPart,
    VotedPart,
    VoteTables,
    ballots,
    elected,
    hide,
    thinning,
    voters,
)
from palate_common.algorithms.als.warm import FORMER_COUNTS, FORMER_PRODUCTS
from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, State
from palate_common.algorithms.parts.compression import Sizes
from palate_common.algorithms.parts.links import LINK_PARTS, PANEL_USERS, Links
from palate_common.algorithms.parts.sketch import Sketch
from palate_common.algorithms.popularity import COUNTS, Ranked, popularity_block, popularity_layout
from palate_common.errors import InputError
from palate_common.interactions import Interactions, row_squares, segment_sum
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import (
    Block,
    BlockSpec,
    DenseBlock,
    Float64,
    Layout,
    OuterBlock,
    Update,
    whole_direction,
)
from palate_common.score_sources import COLLABORATIVE, CONTENT, PAIRS, PANEL

PRODUCTS = "products"
FEATURES = "features"
BALLOTS: Mapping[str, str] = {CONTENT: "vote", PAIRS: "pairs_vote", PANEL: "panel_vote"}
"""Score source -> the block of the vote on its weight."""
PANEL_INPUTS = (*(f"panel_{part}" for part in LINK_PARTS), PANEL_USERS)
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
LEAST_PEOPLE, LEAST_HEAD = 3.0, 50
"""So many people have each item of the head, if it has more than so many items."""
ALONG = 0.85
"""The direction that a device takes off what it sends is popularity to this power."""
LEAST_LEFT = 0.25
"""Of a history that is nearly all along popularity, what is left is scaled up by 4 at most."""
DIRECTION_GRID = 2**20
"""Steps of the usual grid, for which the direction's whole numbers are chosen; others can bear them."""
LEAST_ALONG = 0.08
"""It is taken off where histories drawn at random by popularity have this share of their square along it, or more."""
PAIR_HEAD, PAIRS_WEIGHT = "pair_head", 0.5
"""The items whose pairs are counted; the weight of their links before the vote."""
PAIRS_BLOCK, TRACE, PAIR_SHARE, TRACE_SHARE = "pairs", "trace", 0.5, 0.002
"""Blocks of pair counts and of their trace; the pairs' share of mu^2 after round 0, and the trace's of the pairs'."""
PAIRS_FROM, SIGNAL_AN_ITEM, MOST_PAIR_ITEMS = 25_000.0, 40.0, 2800
"""Pairs are counted from this signal on; signal for each of their items; and most items: 4 M numbers."""
OPTIMISM = 0.02
"""What links may seem to find beyond what they do, in recall, for each of their items a user (Efron 2004: it falls with
the users that a model of so many parameters is fitted to)."""
PANEL_WEIGHT, MOST_PANEL_WEIGHT = 0.2, 2.0
"""An open panel's weight before the vote: this times its people over the root of the signal, and the most."""
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
        sizes = sizes.compressed(settings.compression, fewest=FEWEST)
        self.counts, self.later, self.head_items, self.embedding_size = (
            sizes.counts, sizes.rounds, sizes.rows, sizes.width,
        )  # fmt: skip
        cautious = 1.0 if self.later else CAUTIOUS_WEIGHT
        self.content_weight = cautious if settings.content_weight is None else settings.content_weight
        self.panel_weight = float(np.clip(PANEL_WEIGHT * facts.panel_users / np.sqrt(signal), 0.0, MOST_PANEL_WEIGHT))
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
        elif facts.signal < PAIRS_FROM:
            return 0
        else:
            products = self.later * self.head_items * self.embedding_size
            wanted = int(min(facts.signal / SIGNAL_AN_ITEM, 2 * np.sqrt(products), MOST_PAIR_ITEMS))
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


class Als(Algorithm):
    """Noised popularity, then alternating steps on a centred table.

    State, all of it public: `counts` [n_items], noised; `floor` [1], the least value of a count; `head` [h], item rows;
    `weight` [h], popularity relative to the head's mean; `table` [h, d], the rows that devices sum over their history
    in the next round; `basis` [h, d], orthonormal taste directions; `strength` [d], variance of taste per item;
    `accuracy` [d], the cosine between a direction and its noise-free one; `values` [d], singular values; `noise` [2],
    standard deviations in counts and in products; with features, `content` [n_items, c], further directions,
    `content_widths` [s], how many of them each of several sources has, `content_weight` [1], their weight, and
    `new_items` [m + 1, 1 + c + d], the map from a new item's features to its vectors; with pair counts `pair_head` [p],
    item rows, and links (see `palate_common.algorithms.parts.links`) under `pairs`; with an open panel, links under
    `open`; with links, `pairs_weight` and `pairs_balance` [1] (or `open_...`), their weight and the factor that
    brings them to the scale of the other parts; where devices take popularity off, `along` [h], its direction in whole
    numbers.
    """

    name = "als"
    Settings = AlsSettings
    public_inputs: ClassVar[tuple[str, ...]] = (FEATURES, *warm.FORMER, *PANEL_INPUTS)
    training_only = ("table", "along", "pair_head")

    def __init__(self, settings: AlsSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.plan = AlsPlan(settings, facts)
        self.sketch = Sketch(facts.n_items, self.plan.counts, facts.seed)

    @property
    def feature_sources(self) -> tuple[str, ...]:
        """Names of the sources of public features; "" for the only one."""
        return tuple(self.plan.sources)

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then shares that double with each round, or the vote's share."""
        return self.plan.shares

    def start(self) -> State:
        """Zero counts and a zero floor."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32), "floor": np.zeros(1, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Round 0: counts. Later: products over the head, and in the last round the vote."""
        if round_ == 0:
            return popularity_layout(self.sketch.n_buckets)
        blocks, votes = [], self._votes(round_)
        voted = self.plan.vote_share if votes else 0.0
        if voted < 1:
            paired = self.plan.pair_share if round_ == 1 and PAIR_HEAD in state else 0.0
            shape = tuple(int(n) for n in state["table"].shape)
            sizes = {PRODUCTS: (shape, 1 - paired)}
            if paired:
                n = len(state[PAIR_HEAD])
                sizes[PAIRS_BLOCK] = (n * (n - 1) // 2,), paired * (1 - TRACE_SHARE)
                sizes[TRACE] = (1,), paired * TRACE_SHARE
            for name, (shape, share) in sizes.items():
                blocks.append(BlockSpec(name=name, shape=shape, weight=float(np.sqrt((1 - voted) * share))))
        for source in votes:
            weight = float(np.sqrt(voted / len(votes)))
            blocks.append(BlockSpec(name=BALLOTS[source], shape=(len(CHOICES[source]) - 1,), weight=weight))
        return tuple(blocks)

    def _votes(self, round_: int) -> tuple[str, ...]:
        """The score sources that a round's votes are about."""
        return self.plan.votes if round_ == len(self.shares) - 1 else ()

    def _one_votes_in(self) -> int:
        """n, where one user in n votes: by the noise that the last round has, which public facts tell."""
        share, noise = self.plan.vote_share / max(len(self.plan.votes), 1), 0.0
        if self.facts.mu is not None:
            noise = 1 / (self.facts.mu * np.sqrt(self.shares[-1] * share))
            noise *= np.sqrt(self.facts.n_users) if self.facts.local else 1.0
        return thinning(self.facts.n_users, float(noise))

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: item weights. Later: w_u p_u' over the head; in round 1 also pairs, in the last also ballots.

        Each block has norm 1 at most by itself, and the layout's weights give each its share.
        """
        if round_ == 0:
            return Update((self.sketch.fold(popularity_block(histories)),), histories.n_users)
        votes, blocks = self._votes(round_), list[Block]()
        if not votes or self.plan.vote_share < 1:
            blocks.append(self._products(state, histories))
            if round_ == 1 and PAIR_HEAD in state:
                blocks += self._pairs(state, histories)
        if votes:
            cast = self._ballots(state, histories)
            blocks += (DenseBlock(cast[source]) for source in votes)
        return Update(tuple(blocks), histories.n_users)

    def _products(self, state: State, histories: Interactions) -> OuterBlock:
        """w_u p_u' over the head, |p_u| = 1 and |w_u| = 1 after its part along popularity is taken off.

        The server drops that part, which round 0 has told: what it would take of the norm is left for taste.
        """
        seen = histories.columns(state["head"])
        weighted = None if (seen.weights == 1).all() else seen.weights
        users = seen.matmul(state["table"], weighted).astype(np.float64)
        users /= np.maximum(np.sqrt(row_squares(users)), TINY)[:, None]
        weight = state["weight"].astype(np.float64)
        rows = (weight**self.settings.contribution_exponent)[seen.indices]
        if weighted is not None:
            rows *= weighted
        squares = segment_sum(rows**2, seen.indptr)
        if "along" not in state:
            rows /= np.repeat(np.sqrt(squares), seen.counts())
            return OuterBlock(seen.indptr, seen.indices, rows, users, seen.n_items)
        along = state["along"].astype(np.int64)
        own, square = along.astype(np.float64), float(along @ along)
        shift = segment_sum(rows * own[seen.indices], seen.indptr) / square
        lengths = np.sqrt(np.maximum(squares - shift**2 * square, LEAST_LEFT**2 * squares))
        rows /= np.repeat(lengths, seen.counts())
        shift /= np.maximum(lengths, TINY)
        return OuterBlock(seen.indptr, seen.indices, rows, users, seen.n_items, along, shift)

    def _pairs(self, state: State, histories: Interactions) -> tuple[PairBlock, DenseBlock]:
        """The pairs of the head's items, and the trace.

        Pairs are as many as the square of what a state takes, so no device believes a state that has more.
        """
        head = state[PAIR_HEAD]
        if len(head) != self.plan.pair_items:
            raise InputError(f"`{PAIR_HEAD}` must have the plan's {self.plan.pair_items} items, got {len(head)}")
        return pair_blocks(histories.columns(head), self._length(state, head))

    def _ballots(self, state: State, histories: Interactions) -> dict[str, Float64]:
        """Each user's ballots, score source -> [n_users, choices - 1]; zeros for users who don't vote."""
        rows = voters(histories, self._one_votes_in(), self.facts.seed)
        shown, hidden = hide(histories.users(rows), self.facts.seed)
        factors = self._factors(state)
        vectors, taste = factors.users(shown), factors.parts.get(COLLABORATIVE, slice(0, 0))
        tables, parts, weights = VoteTables.of(*factors.tables()), dict[str, VotedPart](), dict[str, float]()
        if CONTENT in state:
            parts[CONTENT], weights[CONTENT] = ContentPart(tables, vectors[:, factors.content]), factors.weight
        for source, name in LINKS.items():
            if f"{name}_weight" in state:
                amounts = partial(factors.balanced_amounts, source)
                parts[source] = LinkPart(tables, Links.of_state(state, name), shown, amounts)
                weights[source] = factors.link_weight(source)
        found = ballots(tables, vectors[:, 0], vectors[:, taste], parts, weights, self.plan.votes, shown, hidden)
        cast = {source: np.zeros((histories.n_users, len(CHOICES[source]) - 1)) for source in self.plan.votes}
        for source, each in cast.items():
            each[rows] = found[source]
        return cast

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and starting table after round 0, then each round's directions, strengths and next table."""
        features, panel = state.get(FEATURES), {name: state[name] for name in PANEL_INPUTS if name in state}
        if round_ == 0:
            counts, unsure = self.sketch.recovered(sums[COUNTS], noise[COUNTS])
            state = self._first(counts, unsure, state)
            if panel:
                state |= self._weighted(PANEL, Links.of_state(panel, "panel"), self.plan.panel_weight)
        else:
            if PRODUCTS in sums:
                state = state | self._next(state, sums[PRODUCTS], noise[PRODUCTS])
            if PAIRS_BLOCK in sums:
                state = state | self._paired(state, sums, noise)
        if features is not None:
            state = state | self._with_content(state, features)
        state = state | self._balanced(state)
        for source in self.plan.votes:
            if BALLOTS[source] in sums:
                state = state | self._elected(source, sums[BALLOTS[source]], noise[BALLOTS[source]])
        return state

    def _paired(self, state: State, sums: Mapping[str, Float64], noise: Mapping[str, float]) -> State:
        """Links from the noised pairs."""
        head = state[PAIR_HEAD]
        found = item_map(
            sums[PAIRS_BLOCK],
            float(sums[TRACE][0]),
            noise=noise[PAIRS_BLOCK],
            popularity=self._popularity(state)[head],
            events=self.facts.n_users * self._length(state, head),
            exponent=self.settings.score_exponent,
        )
        return self._weighted(PAIRS, Links.strongest(head, found, most=MOST_LINKS), PAIRS_WEIGHT)

    @staticmethod
    def _weighted(source: str, links: Links, weight: float) -> State:
        """The arrays of links before they are balanced."""
        name, ones = LINKS[source], np.ones(1, np.float32)
        return links.state(name) | {f"{name}_weight": ones * np.float32(weight), f"{name}_balance": ones}

    def _balanced(self, state: State) -> State:
        """The factors that bring links to the scale of the other parts."""
        found: State = {}
        for name in LINKS.values():
            if f"{name}_weight" in state:
                popularity, links = self._popularity(state), Links.of_state(state, name)
                length = self._length(state, np.arange(self.facts.n_items))
                scores = self._factors(state).scores_without_links
                balance = balanced(links, scores, popularity, length=length, seed=self.facts.seed)
                found[f"{name}_balance"] = np.array([balance], np.float32)
        return found

    def _elected(self, source: str, total: Float64, noise: float) -> State:
        """The weight that wins a vote."""
        expected = {CONTENT: self.plan.content_weight, PAIRS: PAIRS_WEIGHT, PANEL: self.plan.panel_weight}[source]
        voted = self.facts.n_users / self._one_votes_in()
        # Voters have sent the pairs that they judge: the fewer users an item, the more of what they find is their own.
        optimism = OPTIMISM * self.plan.pair_items / self.facts.n_users if source == PAIRS else 0.0
        chosen = elected(total, CHOICES[source], noise=noise, voted=voted, expected=expected, optimism=optimism)
        return {f"{LINKS.get(source, source)}_weight": np.array([chosen], np.float32)}

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """What a later run can start from, as its public inputs; see `warm.hand_over`."""
        fold, users = self.settings.fold_exponent, self.facts.n_users
        return warm.hand_over(state, n_users=users, fold_exponent=fold, rows=rows, n_items=n_items)

    def _first(self, counts: Float64, noise: float, former: State) -> State:
        """The state after round 0: noised popularity, its head, and a starting table, random or a former release's."""
        if FORMER_COUNTS in former:
            counts, noise = warm.combined_counts(counts, noise, former, self.facts.n_users)
        floor = max(noise, 0.01 * float(counts.max()), TINY)
        state: State = {COUNTS: counts.astype(np.float32), "floor": np.array([floor], np.float32)}
        state["noise"] = np.array([noise, 0.0], np.float32)
        if self.facts.n_features:
            state["content_weight"] = np.array([self.plan.content_weight], np.float32)
        if not self.plan.later:
            return state
        if self.plan.pair_items:
            state[PAIR_HEAD] = np.sort(np.argsort(-counts, kind="stable")[: self.plan.pair_items]).astype(np.int32)
        # A user with k items adds 1 / sqrt(k) to each; what fewer than three people have teaches nothing about others.
        common = int((counts * max(counts.sum(), 0.0) >= LEAST_PEOPLE * self.facts.n_users).sum())
        size = min(self.plan.head_items, max(common, LEAST_HEAD, self.plan.embedding_size))
        head = np.sort(np.argsort(-counts, kind="stable")[:size]).astype(np.int32)
        weight = relative_popularity(counts, floor, len(head))[head]
        rng, fold, size = np.random.default_rng(self.facts.seed), self.settings.fold_exponent, self.plan.embedding_size
        random = rng.normal(size=(len(head), size)) * np.sqrt(weight)[:, None]
        table = np.linalg.qr(random)[0] * (weight**fold)[:, None]
        if FORMER_PRODUCTS in former:
            basis, values = directions(warm.former_table(head, former), weight, fold, size)
            table[:, : len(values)] = scaled_table(basis, values, weight, fold, self.settings.whitening)
        state |= {"head": head, "weight": weight.astype(np.float32)}
        state |= self._along(state)
        return state | {"table": centred(table, weight).astype(np.float32)}

    def _next(self, state: State, products: Float64, noise: float) -> State:
        """One item step: directions from the noised products, joined with a former release's."""
        weight, power = state["weight"].astype(np.float64), self.settings.fold_exponent
        fold = weight**power
        if FORMER_PRODUCTS in state:
            discount, users = self.settings.former_discount, self.facts.n_users
            products, noise = warm.combined_products(products, noise, state, users, discount)
        basis, values = directions(products, weight, power, self.plan.embedding_size)
        # In any one direction the noise has energy noise^2 |fold|^2; what is left of the squared singular value is
        # signal, and its share is the squared cosine between the direction and its noise-free one.
        cosine2 = np.clip(1 - noise**2 * (fold @ fold) / np.maximum(values**2, TINY**2), 0, 1)
        clean = values * np.sqrt(cosine2)
        # Histories drawn at random from the popularity, without taste, would show users^2 expected / sum(clean).
        expected = np.maximum((weight * fold**2) @ basis**2 / len(weight), TINY)
        length = self._length(state, state["head"])
        excess = np.maximum(clean * clean.sum() / (self.facts.n_users**2 * expected) - 1, 0)
        arrays = {
            "table": centred(scaled_table(basis, values, weight, power, self.settings.whitening), weight),
            "basis": basis,
            "values": values,
            "strength": excess / length,
            "accuracy": np.sqrt(cosine2),
            "noise": np.array([state["noise"][0], noise]),
        }
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}

    def _along(self, state: State) -> State:
        """Popularity's direction, if histories drawn at random have enough of their square along it."""
        weight = state["weight"].astype(np.float64)
        direction, rows = weight**ALONG, weight**self.settings.contribution_exponent
        dots, chance = rows * direction / np.linalg.norm(direction), weight / weight.sum()
        mean, length = chance @ dots, self._length(state, state["head"])
        along = (mean**2 * length + chance @ dots**2 - mean**2) / (chance @ rows**2)
        if self.facts.mu is None or along < LEAST_ALONG:
            return {}
        return {"along": whole_direction(direction, grid=DIRECTION_GRID).astype(np.int32)}

    def _length(self, state: State, items: npt.NDArray[np.integer[Any]]) -> float:
        """About the mean number of these items in a history, weighted by its length; at least 1."""
        counts = state[COUNTS].astype(np.float64)
        # A user with k items adds sqrt(k) to the counts in all.
        return float(max(counts.sum() * counts[items].sum() / self.facts.n_users**2, 1.0))

    def _with_content(self, state: State, features: npt.NDArray[np.floating[Any]]) -> State:
        """Content directions that the released ones don't cover, and the map for new items."""
        released = {name: state[name] for name in ("head", "basis", "accuracy")} if "basis" in state else {}
        sources = self.plan.sources.values()
        found = content_state(self._popularity(state), features, self.settings.fold_exponent, released, sources)
        kept = {name: np.ascontiguousarray(array) for name, array in found.items()}
        return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in kept.items()}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Popularity, adjusted by the user's taste as far as their history and the noise support it.

        Items outside the head have popularity's and content's part only, on the same scale.
        """
        if self._is_ranked(state):
            return np.broadcast_to(state[COUNTS].astype(np.float64), (histories.n_users, histories.n_items))
        return self._factors(state).scores(histories)

    def factors(self, state: State) -> Factors:
        """The scores in factorised form."""
        if self._is_ranked(state):
            return Ranked(state[COUNTS])
        return self._factors(state)

    def new_item_scores(
        self, state: State, histories: Interactions, features: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.floating[Any]]:
        """Scores of items that no training user had, from their features: float64 [n_users, n_new].

        Args:
            state: public state of a run with features.
            histories: over the run's catalogue.
            features: features of the new items, computed like the catalogue's, float [n_new, m].

        Raises:
            InputError: the run had no features, or these are of another width.
        """
        mapped = state.get("new_items")
        if mapped is None or mapped.shape[0] != features.shape[1] + 1:
            width = 0 if mapped is None else mapped.shape[0] - 1
            raise InputError(f"new items need the {width} features that the run had, got {features.shape[1]}")
        factors = self._factors(state)
        users = factors.users(histories)
        fold, exponent, parts = self.settings.fold_exponent, self.settings.score_exponent, factors.parts
        vectors = np.concatenate([features, np.ones((len(features), 1))], axis=1) @ mapped.astype(np.float64)
        expected = np.exp(np.minimum(vectors[:, 0], np.log(factors.popularity.max())))
        scores: Float64 = users[:, :1] * expected ** (exponent + 1 + fold) / factors.norm
        lift, width = expected ** (1 + fold + exponent), state["content"].shape[1]
        scores += factors.weight * (users[:, factors.content] @ vectors[:, 1 : 1 + width].T) * lift
        if COLLABORATIVE in parts:
            scores += (users[:, parts[COLLABORATIVE]] @ vectors[:, 1 + width :].T) * lift
        return scores

    @staticmethod
    def _is_ranked(state: State) -> bool:
        """Whether a state has counts alone."""
        return not any(name in state for name in ("basis", CONTENT, *(f"{name}_weight" for name in LINKS.values())))

    def _factors(self, state: State) -> AlsFactors:
        """A state, prepared for scoring."""
        return AlsFactors(
            state,
            fold_exponent=self.settings.fold_exponent,
            score_exponent=self.settings.score_exponent,
            head_items=self.plan.head_items,
            sources=tuple(self.plan.sources),
        )

    def _popularity(self, state: State) -> Float64:
        """Relative popularity of all items."""
        return relative_popularity(state[COUNTS].astype(np.float64), float(state["floor"][0]), self.plan.head_items)
