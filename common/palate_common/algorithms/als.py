"""`als`: private alternating least squares on a centred item table. Palate's default.

Round 0 releases noised popularity. Each later round alternates once: with the item table fixed, a device projects
its history onto it and normalises (the user side); with all users fixed, the noised sum of the outer products of
item weights and user vectors gives the next table (the item side, its right-hand side only: no Gramian is released).

The table is CENTRED: its mean under popularity is zero. A user's vector then carries taste and no popularity, and
none of the norm-1 budget is spent on the one direction that round 0 has already released. How strong each taste
direction is follows from what the spectrum shows above the known noise, and above what histories drawn at random from
the popularity would show. Where no taste is visible, the scores are noised popularity: private training must not harm.

Public item features cost nothing: their principal directions, weighted by noised popularity, are further taste
directions of ALL items. What the released directions already cover, at their accuracy, is taken out of them, so that
the prior fades as the noise does. Rounds and payload stay as they are.

Sources: Hu et al. 2008 and Chien et al. 2021 (DP-ALS); Hardt and Price 2014 (noisy power method: a projection followed
by a noised product is one step of it); Krichene et al. 2023 (adaptive item weights in the place of sampling).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.content import content_state, content_taste
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update
from palate_common.algorithms.protocol import PublicFacts, State
from palate_common.algorithms.taste import (
    TINY,
    centred,
    chance_direction,
    folded,
    relative_popularity,
    signed,
    taste_weights,
)
from palate_common.errors import InputError
from palate_common.interactions import Interactions, row_squares, segment_sum
from palate_common.update import BlockSpec, Float64, Layout, OuterBlock, Update

PRODUCTS = "products"
FEATURES = "features"


class AlsSettings(BaseModel):
    """Settings; what is None follows from the public facts (see `AlsPlan`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int | None = Field(default=None, ge=1, le=64)
    """Releases in all, popularity (round 0) included."""
    embedding_size: int | None = Field(default=None, ge=1, le=4096)
    """d, taste directions."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that take part in rounds 1 and later."""
    popularity_share: float | None = Field(default=None, gt=0, lt=1)
    """Round 0's share of mu^2."""
    popularity_only_below: float | None = Field(default=None, ge=0)
    """Below this mu x users, all of the budget goes to round 0; 350, or 600 with features."""
    contribution_exponent: float = Field(default=-0.15, ge=-2, le=2)
    """w_uj ~ popularity^e: which of their items a user's norm is spent on."""
    fold_exponent: float = Field(default=-0.3, ge=-2, le=2)
    """An item's weight in a user's history ~ popularity^e."""
    score_exponent: float = Field(default=0.25, ge=-2, le=2)
    """Popularity's part in the ranking."""
    whitening: float = Field(default=-0.3, ge=-1, le=0)
    """The next table's directions are scaled by singular value^this."""


class AlsPlan:
    """Rounds, sizes and budget from public numbers only.

    `signal` is mu x users: how far a count that all users share stands above noise of multiplier 1/mu.

    Attributes:
        shares: each release's share of mu^2, round 0 first.
        embedding_size: d.
        head_items: items in rounds 1 and later.
    """

    def __init__(self, settings: AlsSettings, facts: PublicFacts) -> None:
        signal = float("inf") if facts.mu is None else facts.mu * facts.n_users
        content = facts.n_features > 0
        few = settings.popularity_only_below
        later = 4 if signal >= 20_000 else 3
        if settings.rounds is not None:
            later = settings.rounds - 1
        elif signal < ((600.0 if content else 350.0) if few is None else few):
            later = 0
        # Content covers the tail, so that with features the head grows more slowly.
        wanted = 10 * np.sqrt(signal) if content else 1.2 * signal**0.75
        head = int(np.clip(wanted, 50, facts.n_items)) if facts.n_items > 50 else facts.n_items
        self.head_items = min(settings.head_items or head, facts.n_items)
        size = 96 if facts.mu is None else int(np.clip(4 * np.round(0.1125 * np.sqrt(signal)), 8, 96))
        self.embedding_size = min(settings.embedding_size or size, self.head_items)
        first = settings.popularity_share or float(np.clip(150 / signal, 0.04, 0.5))
        doubling = 2.0 ** np.arange(later)  # later rounds count more: the last one is the model
        rest = (1 - first) * doubling / max(doubling.sum(), 1.0)
        self.shares = (1.0,) if later == 0 else (first, *(float(share) for share in rest))


class Als:
    """Noised popularity, then alternating steps on a centred table.

    State, all of it public: `counts` [n_items], noised; `floor` [1], what a count is raised to at least; `head` [h],
    item rows; `weight` [h], popularity relative to the head's mean; `table` [h, d], what the next round's devices sum
    over their history; `basis` [h, d], orthonormal taste directions; `strength` [d], variance of taste per item;
    `accuracy` [d], the cosine between a direction and its noise-free one; with features, `content` [n_items, c],
    further directions, and `new_items` [m + 1, 1 + c + d], what makes item vectors of a new item's features.
    """

    name = "als"
    Settings = AlsSettings
    public_inputs = (FEATURES,)

    def __init__(self, settings: AlsSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.plan = AlsPlan(settings, facts)

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then doubling ones."""
        return self.plan.shares

    def start(self) -> State:
        """Nothing is known yet."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32), "floor": np.zeros(1, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Counts, then the products over the head."""
        if round_ == 0:
            return popularity_layout(self.facts.n_items)
        return (BlockSpec(name=PRODUCTS, shape=tuple(int(n) for n in state["table"].shape), weight=1.0),)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: the items, norm 1. Later: w_u p_u' over the head, |w_u| = |p_u| = 1."""
        if round_ == 0:
            return popularity_update(histories)
        seen = histories.columns(state["head"])
        weighted = None if (seen.weights == 1).all() else seen.weights
        users = seen.matmul(state["table"], weighted).astype(np.float64)
        users /= np.maximum(np.sqrt(row_squares(users)), TINY)[:, None]
        rows = (state["weight"].astype(np.float64) ** self.settings.contribution_exponent)[seen.indices]
        if weighted is not None:
            rows *= weighted
        lengths = np.sqrt(segment_sum(rows**2, seen.indptr))
        rows /= np.repeat(lengths, seen.counts())
        return Update((OuterBlock(seen.indptr, seen.indices, rows, users, seen.n_items),), histories.n_users)

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and starting table after round 0, then each round's directions, strengths and next table."""
        features = state.get(FEATURES)
        if round_ == 0:
            state = self._first(sums[COUNTS], noise[COUNTS])
        else:
            state = state | self._next(state, sums[PRODUCTS], noise[PRODUCTS])
        return state if features is None else state | self._with_content(state, features)

    def _first(self, counts: Float64, noise: float) -> State:
        """Noised popularity, the head it shows, and random directions to start from."""
        floor = max(noise, 0.01 * float(counts.max()), TINY)
        state: State = {COUNTS: counts.astype(np.float32), "floor": np.array([floor], np.float32)}
        if len(self.shares) == 1:
            return state
        head = np.sort(np.argsort(-counts, kind="stable")[: self.plan.head_items])
        weight = relative_popularity(counts, floor, len(head))[head]
        rng = np.random.default_rng(self.facts.seed)
        random = rng.normal(size=(len(head), self.plan.embedding_size)) * np.sqrt(weight)[:, None]
        table = np.linalg.qr(random)[0] * (weight**self.settings.fold_exponent)[:, None]
        state |= {"head": head.astype(np.int32), "weight": weight.astype(np.float32)}
        return state | {"table": centred(table, weight).astype(np.float32)}

    def _next(self, state: State, products: Float64, noise: float) -> State:
        """One item step: singular vectors of the noised products, with popularity's direction taken out."""
        weight = state["weight"].astype(np.float64)
        fold = weight**self.settings.fold_exponent
        chance = chance_direction(weight, self.settings.fold_exponent)
        scaled = fold[:, None] * products
        scaled -= np.outer(chance, chance @ scaled)
        basis, values, _ = np.linalg.svd(scaled, full_matrices=False)
        basis = signed(basis)
        # In any one direction the noise has energy noise^2 |fold|^2; what is left of the squared singular value is
        # signal, and its share is the squared cosine between the direction and its noise-free one.
        cosine2 = np.clip(1 - noise**2 * (fold @ fold) / np.maximum(values**2, TINY**2), 0, 1)
        clean = values * np.sqrt(cosine2)
        # Histories drawn at random from the popularity, without taste, would show users^2 expected / sum(clean).
        expected = np.maximum((weight * fold**2) @ basis**2 / len(weight), TINY)
        excess = np.maximum(clean * clean.sum() / (self.facts.n_users**2 * expected) - 1, 0)
        counts = state[COUNTS].astype(np.float64)
        # A user with k items adds sqrt(k) to the counts in all: about the mean number of head items in a history.
        length = max(counts.sum() * counts[state["head"]].sum() / self.facts.n_users**2, 1.0)
        spread = np.maximum(values / max(values[0], TINY), 1e-3) ** self.settings.whitening
        arrays = {
            "table": centred(fold[:, None] * basis * spread, weight),
            "basis": basis,
            "strength": excess / length,
            "accuracy": np.sqrt(cosine2),
        }
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}

    def _with_content(self, state: State, features: npt.NDArray[np.floating[Any]]) -> State:
        """Content directions that the released ones don't cover, and the map for new items."""
        released = {name: state[name] for name in ("head", "basis", "accuracy")} if "basis" in state else {}
        found = content_state(self._popularity(state), features, self.settings.fold_exponent, released)
        return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Popularity, moved by the user's taste as far as their history and the noise allow.

        Items outside the head have popularity's and content's part only, on the same scale.
        """
        counts = state[COUNTS].astype(np.float64)
        if "basis" not in state and "content" not in state:
            return np.broadcast_to(counts, (histories.n_users, histories.n_items))
        popularity, exponent = self._popularity(state), self.settings.score_exponent
        base, level = self._base(state, histories, popularity)
        # The last term only orders items that share the floor.
        scores: Float64 = level * (base + 1e-9 * counts / max(float(np.abs(counts).max()), TINY))
        if "basis" in state:
            head = state["head"]
            taste = self._taste(state, histories)
            scores[:, head] += (taste @ state["basis"].astype(np.float64).T) * popularity[head] ** exponent
        if "content" in state:
            content = state["content"].astype(np.float64)
            taste = content_taste(histories, popularity, content, self.settings.fold_exponent)
            scores += (taste @ content.T) * popularity**exponent
        return scores

    def new_item_scores(
        self, state: State, histories: Interactions, features: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.floating[Any]]:
        """Scores of items that no training user had, from their features: float64 [n_users, n_new].

        Args:
            state: of a run with features.
            histories: over the run's catalogue.
            features: of the new items, made like the catalogue's, float [n_new, m].

        Raises:
            InputError: the run had no features, or these are of another width.
        """
        mapped = state.get("new_items")
        if mapped is None or mapped.shape[0] != features.shape[1] + 1:
            width = 0 if mapped is None else mapped.shape[0] - 1
            raise InputError(f"new items need the {width} features that the run had, got {features.shape[1]}")
        popularity, fold = self._popularity(state), self.settings.fold_exponent
        content = state["content"].astype(np.float64)
        vectors = np.concatenate([features, np.ones((len(features), 1))], axis=1) @ mapped.astype(np.float64)
        expected = np.exp(np.minimum(vectors[:, 0], np.log(popularity.max())))
        level = self._base(state, histories, popularity)[1]
        norm = np.linalg.norm(self._reference(state, popularity) ** (1 + fold))
        scores: Float64 = level * expected ** (self.settings.score_exponent + 1 + fold) / norm
        lift = expected ** (1 + fold + self.settings.score_exponent)
        taste = content_taste(histories, popularity, content, fold)
        scores += (taste @ vectors[:, 1 : 1 + content.shape[1]].T) * lift
        if "basis" in state:
            scores += (self._taste(state, histories) @ vectors[:, 1 + content.shape[1] :].T) * lift
        return scores

    def _popularity(self, state: State) -> Float64:
        """Relative popularity of all items."""
        return relative_popularity(state[COUNTS].astype(np.float64), float(state["floor"][0]), self.plan.head_items)

    def _reference(self, state: State, popularity: Float64) -> Float64:
        """The items over which the chance direction is normalised: the head, or all without one."""
        return popularity[state["head"]] if "basis" in state else popularity

    def _base(self, state: State, histories: Interactions, popularity: Float64) -> tuple[Float64, Float64]:
        """Popularity's part of a score [n_items], and how much of it each history shows [n_users, 1]."""
        fold = self.settings.fold_exponent
        reference = self._reference(state, popularity)
        seen = histories.columns(state["head"]) if "basis" in state else histories
        chance = chance_direction(reference, fold)
        along = folded(seen, (reference**fold * chance)[:, None])
        level = np.where(seen.counts()[:, None] > 0, along, 1.0)
        base = popularity ** (self.settings.score_exponent + 1 + fold) / np.linalg.norm(reference ** (1 + fold))
        return base, level

    def _taste(self, state: State, histories: Interactions) -> Float64:
        """Each user's taste along the released directions: [n_users, d]."""
        seen, weight = histories.columns(state["head"]), state["weight"].astype(np.float64)
        rows = (weight**self.settings.fold_exponent)[:, None] * state["basis"].astype(np.float64)
        strength, accuracy = state["strength"].astype(np.float64), state["accuracy"].astype(np.float64)
        return folded(seen, rows) * taste_weights(seen.counts(), strength, accuracy)
