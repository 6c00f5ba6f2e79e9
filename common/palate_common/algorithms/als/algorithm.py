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

from palate_common.algorithms.als import warm
from palate_common.algorithms.als.content import content_state
from palate_common.algorithms.als.factors import GAINS, LINKS, AlsFactors
from palate_common.algorithms.als.pairs import balance_factor, item_map, pair_blocks
from palate_common.algorithms.als.plan import AlsPlan, AlsSettings
from palate_common.algorithms.als.taste import TINY, centre, directions, relative_popularity, scaled_table
from palate_common.algorithms.als.vote import (
    CHOICES,
    ContentPart,
    LinkPart,
    ScorePart,
    VoteTables,
    ballots,
    hide,
    thinning,
    voters,
    winning_weight,
)
from palate_common.algorithms.als.warm import FORMER_COUNTS, FORMER_PRODUCTS
from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, Reach, State
from palate_common.algorithms.parts.links import MOST_LINKS, Links
from palate_common.algorithms.parts.panel import PANEL_INPUTS
from palate_common.algorithms.popularity import COUNTS, Ranked, popularity_layout, popularity_update
from palate_common.interactions import Interactions, row_squares, segment_sum
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, Float64, OuterBlock, Update, whole_direction
from palate_common.score_sources import COLLABORATIVE, CONTENT, PAIRS, PANEL
from palate_core.errors import InputError
from palate_core.layout import BlockSpec, Layout

PRODUCTS = "products"
FEATURES = "features"
BALLOTS: Mapping[str, str] = {CONTENT: "vote", PAIRS: "pairs_vote", PANEL: "panel_vote"}
"""Score source -> the block of the vote on its weight."""
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
PAIRS_BLOCK, TRACE, TRACE_SHARE = "pairs", "trace", 0.002
"""Blocks of pair counts and of their trace; the trace's share of the pairs' squared norm."""
OPTIMISM = 0.02
"""What links may seem to find beyond what they do, in recall, for each of their items a user (Efron 2004: it falls with
the users that a model of so many parameters is fitted to)."""


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
    item_arrays = (COUNTS,)

    def __init__(self, settings: AlsSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.plan = AlsPlan(settings, facts)

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
            return popularity_layout(self.facts.n_items)
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
            noise *= np.sqrt(self.facts.n_users if self.facts.local else self.facts.subcohorts)
        return thinning(self.facts.n_users, float(noise))

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: item weights. Later: w_u p_u' over the head; in round 1 also pairs, in the last also ballots.

        Each block has norm 1 at most by itself, and the layout's weights give each its share.
        """
        if round_ == 0:
            return popularity_update(histories)
        votes, blocks = self._votes(round_), list[Block]()
        if not votes or self.plan.vote_share < 1:
            blocks.append(self._products(state, histories))
            if round_ == 1 and PAIR_HEAD in state:
                blocks += self._pairs(state, histories)
        if votes:
            cast = self._ballots(state, histories)
            blocks += (DenseBlock(cast[source]) for source in votes)
        return Update(tuple(blocks), histories.n_users)

    def reach(self, block: str) -> Reach:
        """Each block's norm is 1 at most by itself; counts, pairs and trace are never negative."""
        if type(self).contribute is not Als.contribute:
            return Reach()
        return Reach(unit=True, positive=block in (COUNTS, PAIRS_BLOCK, TRACE))

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
        given = seen.indptr, seen.indices
        if "along" in state:
            along = state["along"].astype(np.int64)
            return OuterBlock.build_centred(*given, rows, users, seen.n_items, along=along, least_left=LEAST_LEFT)
        rows /= np.repeat(np.sqrt(segment_sum(rows**2, seen.indptr)), seen.counts())
        return OuterBlock(*given, rows, users, seen.n_items)

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
        tables, parts, weights = VoteTables.of(*factors.tables()), dict[str, ScorePart](), dict[str, float]()
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
            state = self._first(sums[COUNTS], noise[COUNTS], state)
            if panel:
                state |= self._link_arrays(PANEL, Links.of_state(panel, PANEL), self.plan.panel_weight)
        else:
            if PRODUCTS in sums:
                state = state | self._next(state, sums[PRODUCTS], noise[PRODUCTS])
            if PAIRS_BLOCK in sums:
                state = state | self._links_of_pairs(state, sums, noise)
        if features is not None:
            state = state | self._with_content(state, features)
        state = state | self._balance_factors(state)
        for source in self.plan.votes:
            if BALLOTS[source] in sums:
                state = state | self._winning_weight(source, sums[BALLOTS[source]], noise[BALLOTS[source]])
        return state

    def _links_of_pairs(self, state: State, sums: Mapping[str, Float64], noise: Mapping[str, float]) -> State:
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
        return self._link_arrays(PAIRS, Links.strongest(head, found, most=MOST_LINKS), PAIRS_WEIGHT)

    @staticmethod
    def _link_arrays(source: str, links: Links, weight: float) -> State:
        """The arrays of links before they are balanced."""
        name, ones = LINKS[source], np.ones(1, np.float32)
        return links.state(name) | {f"{name}_weight": ones * np.float32(weight), f"{name}_balance": ones}

    def _balance_factors(self, state: State) -> State:
        """The factors that bring links to the scale of the other parts."""
        found: State = {}
        for source, name in LINKS.items():
            if f"{name}_weight" in state:
                popularity, links = self._popularity(state), Links.of_state(state, name)
                length = self._length(state, np.arange(self.facts.n_items))
                scores = self._factors(state).scores_without_links
                given = {"gain": GAINS[source], "length": length}
                balance = balance_factor(links, scores, popularity, **given, seed=self.facts.seed)
                found[f"{name}_balance"] = np.array([balance], np.float32)
        return found

    def _winning_weight(self, source: str, total: Float64, noise: float) -> State:
        """The weight that wins a vote."""
        expected = {CONTENT: self.plan.content_weight, PAIRS: PAIRS_WEIGHT, PANEL: self.plan.panel_weight}[source]
        voted = self.facts.n_users / self._one_votes_in()
        # Voters have sent the pairs that they judge: the fewer users an item, the more of what they find is their own.
        optimism = OPTIMISM * self.plan.pair_items / self.facts.n_users if source == PAIRS else 0.0
        chosen = winning_weight(total, CHOICES[source], noise=noise, voted=voted, expected=expected, optimism=optimism)
        return {f"{LINKS.get(source, source)}_weight": np.array([chosen], np.float32)}

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """What a later run can start from, as its public inputs; see `warm.hand_over`."""
        fold, users = self.settings.fold_exponent, self.facts.n_users
        return warm.hand_over(state, n_users=users, fold_exponent=fold, rows=rows, n_items=n_items)

    def grown(self, state: State, n_items: int) -> State:
        """The same, with zeros as counts of new items, and content from their features where there are some."""
        found, features = super().grown(state, n_items), state.get(FEATURES)
        if CONTENT not in state:
            return found
        had, width = state[CONTENT].shape
        content = np.zeros((n_items, width), np.float32)
        content[:had] = state[CONTENT]
        if features is not None and len(state["new_items"]) == features.shape[1] + 1:
            vectors = np.concatenate([features[had:], np.ones((n_items - had, 1))], axis=1) @ state["new_items"]
            power = 1 + self.settings.fold_exponent  # what the map gives is for each use
            content[had:] = vectors[:, 1 : 1 + width] * self._popularity(found)[had:, None] ** power
        return found | {CONTENT: content}

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
        people = max(self.facts.n_users, warm.users_of(former))
        common = int((counts * max(counts.sum(), 0.0) * people >= LEAST_PEOPLE * self.facts.n_users**2).sum())
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
        return state | {"table": centre(table, weight).astype(np.float32)}

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
            "table": centre(scaled_table(basis, values, weight, power, self.settings.whitening), weight),
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
            head_items=self._head_size(state),
            sources=tuple(self.plan.sources),
        )

    def _popularity(self, state: State) -> Float64:
        """Relative popularity of all items."""
        return relative_popularity(state[COUNTS].astype(np.float64), float(state["floor"][0]), self._head_size(state))

    def _head_size(self, state: State) -> int:
        """Items whose mean popularity is 1: those of the head, perhaps fewer than the plan says; else the plan's."""
        return len(state["head"]) if "head" in state else self.plan.head_items
