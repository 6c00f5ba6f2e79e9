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
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.als import warm
from palate_common.algorithms.als.content import content_state
from palate_common.algorithms.als.factors import AlsFactors
from palate_common.algorithms.als.taste import TINY, centred, directions, relative_popularity, scaled_table
from palate_common.algorithms.als.vote import CHOICES, VoteTables, ballots, elected, hide, thinning, voters
from palate_common.algorithms.als.warm import FORMER_COUNTS, FORMER_PRODUCTS
from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, State
from palate_common.algorithms.parts.compression import Sizes
from palate_common.algorithms.parts.sketch import Sketch
from palate_common.algorithms.popularity import COUNTS, Ranked, popularity_block, popularity_layout
from palate_common.errors import InputError
from palate_common.interactions import Interactions, row_squares, segment_sum
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
from palate_common.score_sources import COLLABORATIVE

PRODUCTS = "products"
FEATURES = "features"
VOTE = "vote"
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
ALONG = 0.85
"""The direction that a device takes off what it sends is popularity to this power."""
LEAST_LEFT = 0.25
"""Of a history that is nearly all along popularity, what is left is scaled up by 4 at most."""
DIRECTION_GRID = 2**20
"""Steps of the usual grid, for which the direction's whole numbers are chosen; others can bear them."""
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
    """The vote's share of the last round's squared norm, or of mu^2 if it has a round of its own; 0: no vote."""
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
        """As set; else a constant beside products, or a share by the signal for a vote in a round of its own."""
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
    `new_items` [m + 1, 1 + c + d], the map from a new item's features to its vectors.
    """

    name = "als"
    Settings = AlsSettings
    public_inputs: ClassVar[tuple[str, ...]] = (FEATURES, *warm.FORMER)
    training_only = ("table",)

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
        blocks, share = [], self._vote_share(round_)
        if share < 1:
            shape = tuple(int(n) for n in state["table"].shape)
            blocks.append(BlockSpec(name=PRODUCTS, shape=shape, weight=float(np.sqrt(1 - share))))
        if share > 0:
            blocks.append(BlockSpec(name=VOTE, shape=(len(CHOICES) - 1,), weight=float(np.sqrt(share))))
        return tuple(blocks)

    def _vote_share(self, round_: int) -> float:
        """The vote's part of a round's squared norm."""
        return self.plan.vote_share if round_ == len(self.shares) - 1 else 0.0

    def _one_votes_in(self) -> int:
        """n, where one user in n votes: by the noise that the last round has, which public facts tell."""
        share, noise = self.plan.vote_share, 0.0
        if self.facts.mu is not None:
            noise = 1 / (self.facts.mu * np.sqrt(self.shares[-1] * share))
            noise *= np.sqrt(self.facts.n_users) if self.facts.local else 1.0
        return thinning(self.facts.n_users, float(noise))

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: item weights, norm 1. Later: w_u p_u' over the head, |w_u| = |p_u| = 1; in the last also ballots."""
        if round_ == 0:
            return Update((self.sketch.fold(popularity_block(histories)),), histories.n_users)
        share, blocks = self._vote_share(round_), list[Block]()
        if share < 1:
            blocks.append(self._products(state, histories))
        if share > 0:
            blocks.append(DenseBlock(self._ballots(state, histories)))
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
        along = whole_direction(weight**ALONG, grid=DIRECTION_GRID)
        own, square = along.astype(np.float64), float(along @ along)
        shift = segment_sum(rows * own[seen.indices], seen.indptr) / square
        squares = segment_sum(rows**2, seen.indptr)
        lengths = np.sqrt(np.maximum(squares - shift**2 * square, LEAST_LEFT**2 * squares))
        rows /= np.repeat(lengths, seen.counts())
        shift /= np.maximum(lengths, TINY)
        return OuterBlock(seen.indptr, seen.indices, rows, users, seen.n_items, along, shift)

    def _ballots(self, state: State, histories: Interactions) -> Float64:
        """Each user's ballot on the weight of content; zeros for users who don't vote."""
        cast = np.zeros((histories.n_users, len(CHOICES) - 1))
        rows = voters(histories, self._one_votes_in(), self.facts.seed)
        shown, hidden = hide(histories.users(rows), self.facts.seed)
        factors = self._factors(state)
        vectors, taste = factors.users(shown), factors.parts.get(COLLABORATIVE, slice(0, 0))
        tables, likes = VoteTables.of(*factors.tables()), factors.content
        cast[rows] = ballots(tables, vectors[:, 0], vectors[:, taste], vectors[:, likes], shown, hidden)
        return cast

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and starting table after round 0, then each round's directions, strengths and next table."""
        features = state.get(FEATURES)
        if round_ == 0:
            counts, unsure = self.sketch.recovered(sums[COUNTS], noise[COUNTS])
            state = self._first(counts, unsure, state)
        else:
            if PRODUCTS in sums:
                state = state | self._next(state, sums[PRODUCTS], noise[PRODUCTS])
            if VOTE in sums:
                state = state | {"content_weight": self._elected(sums[VOTE], noise[VOTE])}
        return state if features is None else state | self._with_content(state, features)

    def _elected(self, total: Float64, noise: float) -> npt.NDArray[np.float32]:
        """The weight of content that wins the vote, float32 [1]."""
        voted = self.facts.n_users / self._one_votes_in()
        chosen = elected(total, noise=noise, voted=voted, expected=self.plan.content_weight)
        return np.array([chosen], np.float32)

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
        head = np.sort(np.argsort(-counts, kind="stable")[: self.plan.head_items]).astype(np.int32)
        weight = relative_popularity(counts, floor, len(head))[head]
        rng, fold, size = np.random.default_rng(self.facts.seed), self.settings.fold_exponent, self.plan.embedding_size
        random = rng.normal(size=(len(head), size)) * np.sqrt(weight)[:, None]
        table = np.linalg.qr(random)[0] * (weight**fold)[:, None]
        if FORMER_PRODUCTS in former:
            basis, values = directions(warm.former_table(head, former), weight, fold, size)
            table[:, : len(values)] = scaled_table(basis, values, weight, fold, self.settings.whitening)
        state |= {"head": head, "weight": weight.astype(np.float32)}
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
        energy, length = self._energy_and_length(state)
        excess = np.maximum(clean * clean.sum() / (energy * expected) - 1, 0)
        arrays = {
            "table": centred(scaled_table(basis, values, weight, power, self.settings.whitening), weight),
            "basis": basis,
            "values": values,
            "strength": excess / length,
            "accuracy": np.sqrt(cosine2),
            "noise": np.array([state["noise"][0], noise]),
        }
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}

    def _energy_and_length(self, state: State) -> tuple[float, float]:
        """The squared sum of what users send, and about the mean number of head items in a history."""
        counts, users = state[COUNTS].astype(np.float64), self.facts.n_users
        # A user with k items adds sqrt(k) to the counts in all.
        return users**2, max(counts.sum() * counts[state["head"]].sum() / users**2, 1.0)

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
        if "basis" not in state and "content" not in state:
            return np.broadcast_to(state[COUNTS].astype(np.float64), (histories.n_users, histories.n_items))
        return self._factors(state).scores(histories)

    def factors(self, state: State) -> Factors:
        """The scores in factorised form."""
        if "basis" not in state and "content" not in state:
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
