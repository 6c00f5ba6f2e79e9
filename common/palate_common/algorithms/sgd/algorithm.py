"""`sgd`: federated averaging of a matrix factorisation with biases, for implicit feedback and for ratings.

The model is r_ui = b_i . a_u + sigma_i (+ c_u). The item side (b, sigma) is public. A device rebuilds its own side
(a_u, c_u) from its own events under the frozen item side, in every round, and never sends it. Then it takes one step on
the item side. The step's change is an outer product, error_i (a_u, 1) for item i, clipped in L2 norm. The server adds
noise to the sum and steps.

Round 0 releases noised counts and, for ratings, how far each item's ratings lie from their users' means: item biases
start from that. The server's step of each later round uses two more quantities:

- The loss's second derivative in row i is about count_i M, M = sum_u w_u (a_u, 1)(a_u, 1)' / sum_u w_u. The optimizer
  `newton` has M released beside the change, d^2/2 numbers for all items together, and solves with it, so that rare and
  frequent items learn alike in about ten rounds.
- The standard deviation of the noise: steps are damped in rows whose events carry less than it.

Sources: McMahan et al., Learning Differentially Private Recurrent Language Models (ICLR 2018), algorithm 1, flat
clipping, with every user in every round and no amplification by sampling claimed; Singhal et al., Federated
Reconstruction (NeurIPS 2021), algorithm 1; Reddi et al., Adaptive Federated Optimization (ICLR 2021), for momentum on
the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from palate_common.algorithms.base import Algorithm, PublicFacts, Reach, State
from palate_common.algorithms.parts.head import HEAD, WEIGHT, choose_head, head_size, split_budget, with_tail
from palate_common.algorithms.parts.reconstruction import TINY, matrices, outer_svec, symmetric_size
from palate_common.algorithms.parts.server_steps import momentum_step, newton_direction
from palate_common.algorithms.popularity import COUNTS, user_weights
from palate_common.algorithms.sgd.biases import item_biases
from palate_common.algorithms.sgd.losses import Errors, ImplicitLoss, LogisticLoss, Loss, RatingLoss
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Block, DenseBlock, Float64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout

TABLE, MOMENTUM, BIAS, OFFSET = "table", "momentum", "bias", "offset"
CHANGE, MOMENTS, RATINGS, MEAN, FEATURES = "change", "moments", "ratings", "mean", "features"
DEVIATION = 0.5  # about how far a user's ratings spread, on [-1, 1]
BY_LOSS: dict[str, dict[str, float]] = {
    "ratings": {
        "first_share": 0.4,
        "clip_norm": 0.3,
        "server_rate": 1.0,
        "momentum": 0.0,
        "moments_share": 0.1,
        "residual_variance": 0.4,
        "feature_scale": 0.2,
        "start_scale": 0.05,
        "regularization": 6.0,
    }
}
"""Defaults of settings, by the loss. Those of ratings were chosen on validation data: benchmark `sgd`, part `tune`."""
_OTHERS = {"first_share": 0.2, "clip_norm": 1.0, "momentum": 0.5, "moments_share": 0.05}
_OTHERS |= {"residual_variance": 0.15, "feature_scale": 0.15, "regularization": 0.5}
BY_LOSS |= {"implicit": _OTHERS, "logistic": _OTHERS | {"clip_norm": 0.5}}
RATES = {"newton": 0.5, "momentum": 15.0}
"""The server's step size, by the optimizer."""


class SgdSettings(BaseModel):
    """Settings; what is None follows from the loss and the public facts. Chosen on validation data of MovieLens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    loss: Literal["implicit", "logistic", "ratings"] = "implicit"
    """What a device fits: every item as a weak negative, sampled negatives, or ratings (interaction weights)."""
    rounds: int | None = Field(default=None, ge=2, le=1024)
    """Releases in all, counts (round 0) included. None: few where the signal is weak."""
    embedding_size: int | None = Field(default=None, ge=1, le=256)
    """d. None: 12 for ratings, 24 for implicit feedback under noise, 32 without."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that get a vector. None: by the signal; all without noise, and for ratings."""
    first_share: float | None = Field(default=None, gt=0, lt=1)
    """Round 0's share of mu^2. None: 0.4 for ratings, 0.2 for implicit feedback."""
    clip_norm: float | None = Field(default=None, gt=0)
    """S, the L2 norm a user's change is clipped to. None: by the loss."""
    user_exponent: float | None = Field(default=None, ge=0, le=0.5)
    """e: a user with k events weighs k^-e in the loss. None: 0.5 under noise, where a user's whole change has one norm
    anyway; 0 for ratings without, where every rating counts alike."""
    optimizer: Literal["newton", "momentum"] | None = None
    """The server's step. newton also releases the second moments of the user side, a few hundred numbers. None: newton
    without noise and for ratings, which need it; momentum for implicit feedback under noise."""
    server_rate: float | None = Field(default=None, gt=0)
    """The server's step size. None: by the optimizer."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Momentum of the server's step. None: 0 for ratings, 0.5 for implicit feedback."""
    moments_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of a round's squared norm that the second moments get; newton only. None: 0.1 for ratings, else 0.05."""
    residual_variance: float | None = Field(default=None, gt=0)
    """Variance of an error, on a scale where ratings lie in [-1, 1]; a row's noise is compared with it. None: 0.4 for
    ratings, 0.15 for implicit feedback."""
    item_ridge: float = Field(default=0.5, ge=0)
    """The ridge of item vectors for implicit feedback, in users' weights."""
    use_features: bool = True
    """Start from the public item features, if a run has any."""
    feature_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of a starting vector made of features. None: 0.2 for ratings, 0.15 for implicit feedback."""
    start_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of the starting vectors. None: 0.05 for ratings, else 0.15 for newton, 0.03 for momentum."""
    unobserved_weight: float = Field(default=0.3, gt=0)
    """a0, the weight of every head item as a negative; implicit only."""
    negatives: int = Field(default=1, ge=1, le=64)
    """Sampled items for each own one; logistic only."""
    regularization: float | None = Field(default=None, ge=0)
    """The ridge of user vectors and, for ratings, item vectors. None: 6 for ratings, 0.5 for implicit feedback, where
    it is relative to the table's scale."""
    bias_regularization: float = Field(default=5.0, ge=0)
    """The ridge of item biases and of a user's own offset, in events."""
    lowest: float = 1.0
    """Lowest rating of the scale; ratings only."""
    highest: float = 5.0
    """Highest rating of the scale; ratings only."""
    popularity_weight: float = Field(default=0.0, ge=0)
    """Weight of the natural logarithm of popularity, which is added to expected ratings for rankings; ratings only."""

    @model_validator(mode="after")
    def _a_scale_has_two_ends(self) -> SgdSettings:
        """Refuse a scale whose lowest rating isn't below its highest."""
        if not self.lowest < self.highest:
            raise PydanticCustomError("scale", "`lowest` must be below `highest`")
        return self

    @model_validator(mode="after")
    def _ratings_need_newton(self) -> SgdSettings:
        """Ratings need `newton`: momentum ignores items' counts, which differ a thousandfold."""
        if self.loss == "ratings" and self.optimizer not in (None, "newton"):
            raise PydanticCustomError("optimizer", "`optimizer` must be newton for ratings")
        return self


@dataclass(frozen=True)
class Filled:
    """Settings whose default depends on the loss or the optimizer, with that default filled in.

    Attributes:
        first_share, clip_norm, server_rate, momentum, moments_share, residual_variance, feature_scale, start_scale,
        regularization: as in `SgdSettings`.
    """

    first_share: float
    clip_norm: float
    server_rate: float
    momentum: float
    moments_share: float
    residual_variance: float
    feature_scale: float
    start_scale: float
    regularization: float


def fill_defaults(settings: SgdSettings, optimizer: str) -> Filled:
    """Fill in the settings whose default depends on the loss or the optimizer."""
    values = {"server_rate": RATES[optimizer], "start_scale": 0.15 if optimizer == "newton" else 0.03}
    values |= BY_LOSS[settings.loss]
    given = {name: getattr(settings, name) for name in values}
    return Filled(**(values | {name: value for name, value in given.items() if value is not None}))


def make_loss(settings: SgdSettings) -> Loss:
    """The loss that the settings name."""
    ridge = settings.regularization
    if ridge is None:
        ridge = BY_LOSS[settings.loss]["regularization"]
    if settings.loss == "ratings":
        # A ridge of zero would leave a user without ratings undetermined.
        ridge, offset = max(ridge, 1e-6), max(settings.bias_regularization, 1e-6)
        return RatingLoss(settings.lowest, settings.highest, regularization=ridge, offset_regularization=offset)
    if settings.loss == "logistic":
        return LogisticLoss(settings.negatives)
    return ImplicitLoss(settings.unobserved_weight, regularization=ridge)


def chosen_optimizer(settings: SgdSettings, facts: PublicFacts) -> Literal["newton", "momentum"]:
    """The optimizer of the server's step."""
    if settings.optimizer is not None:
        return settings.optimizer
    return "newton" if facts.mu is None or settings.loss == "ratings" else "momentum"


def later_rounds(settings: SgdSettings, facts: PublicFacts) -> int:
    """Rounds after round 0."""
    if settings.rounds is not None:
        return settings.rounds - 1
    if settings.loss == "ratings":
        return 19 if facts.mu is None else 2
    if facts.mu is None:
        return 8 if chosen_optimizer(settings, facts) == "newton" else 48
    return int(np.clip(np.round(0.02 * facts.signal**0.7), 2, 24))


def embedding_size(settings: SgdSettings, facts: PublicFacts) -> int:
    """Width of an item vector, d."""
    if settings.embedding_size is not None:
        return settings.embedding_size
    if settings.loss == "ratings":
        return 12
    return 32 if facts.mu is None else 24


class Sgd(Algorithm):
    """Noised counts, then noised steps on the item side.

    State, all of it public: `counts` [n_items]; `head` and `weight` [h] (see `choose_head`); `bias` [n_items], sigma of
    every item after round 0, and `offset` [1], the mean rating, on [-1, 1]; `table` [h, d + 1], b and sigma less the
    offset; `momentum` [h, d + 1], the server's running step.
    """

    name = "sgd"
    Settings = SgdSettings
    public_inputs = (FEATURES,)
    training_only = (MOMENTUM,)
    item_arrays = (COUNTS, BIAS)

    def __init__(self, settings: SgdSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.loss = make_loss(settings)
        self.ratings = settings.loss == "ratings"
        # The user side of ratings is fitted to public features too, and those are known of all items.
        chosen = settings.head_items or (facts.n_items if self.ratings else None)
        self.head_items = head_size(facts, 0.9, chosen)
        self.optimizer = chosen_optimizer(settings, facts)
        self.filled = fill_defaults(settings, self.optimizer)
        self.later, self.size = later_rounds(settings, facts), min(embedding_size(settings, facts), self.head_items)
        even = self.ratings and facts.mu is None
        self.exponent = (0.0 if even else 0.5) if settings.user_exponent is None else settings.user_exponent
        # A user with every item then has norm 1 in round 0, and nobody more.
        self.scale = facts.n_items ** (self.exponent - 0.5)
        self.server_rate = self.filled.server_rate

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then equal shares."""
        return split_budget(self.filled.first_share, self.later)

    def start(self) -> State:
        """Zero counts."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Round 0: counts, and sums of ratings. Later: the item side's change, and the user side's moments."""
        size = self.facts.n_items
        if round_ == 0 and not self.ratings:
            return (BlockSpec(name=COUNTS, shape=(size,), weight=1.0),)
        if round_ == 0:
            weights = {COUNTS: (size, 0.49), RATINGS: (size, 0.49), MEAN: (1, 0.02)}
            return tuple(BlockSpec(name=name, shape=(n,), weight=share**0.5) for name, (n, share) in weights.items())
        shape, share = (len(state[HEAD]), self.size + 1), self._moments_share
        blocks: Layout = (BlockSpec(name=CHANGE, shape=shape, weight=(1 - share) ** 0.5),)
        if share:
            blocks += (BlockSpec(name=MOMENTS, shape=(symmetric_size(self.size + 1),), weight=share**0.5),)
        return blocks

    @property
    def _moments_share(self) -> float:
        """The moments' part of a round's squared norm."""
        return self.filled.moments_share if self.optimizer == "newton" else 0.0

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: weighted items, norm 1 at most. Later: the change of the item side over S, to be clipped."""
        weights = self._weights(histories)
        if round_ == 0:
            return self._first_update(histories, np.repeat(weights, histories.counts()))
        seen = histories.columns(state[HEAD])
        users, errors = self._errors(state, seen, key=(self.facts.seed << 16) + round_)
        columns = users.copy()
        columns[:, self.size] = 1
        sent = weights * (seen.counts() > 0) / self.filled.clip_norm
        rows = errors.rows * np.repeat(sent, np.diff(errors.indptr))
        blocks: list[Block] = [OuterBlock(errors.indptr, errors.indices, rows, columns, seen.n_items)]
        if self._moments_share:
            blocks.append(DenseBlock(outer_svec(columns) * sent[:, None]))
        return Update(tuple(blocks), histories.n_users)

    def reach(self, block: str) -> Reach:
        """Counts are never negative. A change may have the whole norm."""
        own = type(self).contribute is Sgd.contribute
        return Reach(positive=own and block == COUNTS)

    def _weights(self, histories: Interactions) -> Float64:
        """How much each user counts in the loss."""
        strength = histories.counts().astype(np.float64)
        if not self.ratings:
            strength = segment_sum(histories.weights.astype(np.float64) ** 2, histories.indptr)
        return user_weights(strength, exponent=self.exponent, n_items=self.facts.n_items)

    def _first_update(self, histories: Interactions, rows: Float64) -> Update:
        """Counts; and how far each rating lies from the user's mean, with that mean."""
        factors = [rows * histories.weights]
        dense: list[Block] = []
        if isinstance(self.loss, RatingLoss):
            ratings, counts = self.loss.internal(histories.weights), histories.counts()
            means = segment_sum(ratings, histories.indptr) / np.maximum(counts, 1)
            factors = [rows, rows * (ratings - np.repeat(means, counts)) / DEVIATION]
            dense = [DenseBlock(means[:, None])]
        ones = np.ones((histories.n_users, 1))
        outer = [OuterBlock(histories.indptr, histories.indices, f, ones, histories.n_items) for f in factors]
        return Update((*outer, *dense), histories.n_users)

    def _errors(self, state: State, seen: Interactions, key: int) -> tuple[Float64, Errors]:
        """The private user side, and the errors of its predictions."""
        users = self.loss.users(state[TABLE], seen)
        return users, self.loss.errors(state[TABLE], seen, users, key=key)

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head, biases and starting table after round 0, then one step."""
        if round_ == 0:
            return self._first(sums, noise, state.get(FEATURES))
        clip_norm = self.filled.clip_norm
        table, change = state[TABLE].astype(np.float64), sums[CHANGE] * clip_norm
        # Constant steps, then smaller ones, over which the noise averages out.
        rate = self.server_rate * min(1.0, 2 * (self.later + 1 - round_) / (self.later + 1))
        momentum, decay = state[MOMENTUM].astype(np.float64), self.filled.momentum
        if self.optimizer == "newton":
            direction = self._newton(state, change, sums[MOMENTS] * clip_norm, noise[CHANGE] * clip_norm)
        else:
            direction = change / (self.facts.n_users * self.scale)
        step = momentum_step(momentum, direction, rate=rate, decay=decay)
        return state | {TABLE: (table + step).astype(np.float32), MOMENTUM: step.astype(np.float32)}

    def _newton(self, state: State, change: Float64, svec: Float64, noise: float) -> Float64:
        """Each row's Newton direction, float64 [h, d + 1]: the second derivative is count_i M plus the ridges."""
        moments = matrices(svec[None], self.size + 1)[0]
        users = max(float(moments[-1, -1]), 0.01 * self.scale * self.facts.n_users ** (1 - self.exponent), TINY)
        counts = np.maximum(state[COUNTS][state[HEAD]].astype(np.float64), 0) / users
        unobserved = self.loss.unobserved + self.loss.negatives * float(counts.mean())
        typical = users / self.facts.n_users
        ridge = np.full(self.size + 1, self.settings.item_ridge)
        if isinstance(self.loss, RatingLoss):
            ridge[:-1], ridge[-1] = self.loss.regularization, self.settings.bias_regularization
        ridge *= typical
        excess = state[TABLE].astype(np.float64)
        if self.ratings:
            excess[:, -1] -= state[OFFSET]
        return newton_direction(
            change - ridge * excess,
            moments=self.loss.curvature * moments,
            counts=counts + unobserved,
            ridge=ridge,
            noise=noise,
            prior=self.filled.residual_variance * typical,
        )

    def _first(
        self,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
        features: npt.NDArray[np.floating[Any]] | None,
    ) -> State:
        """The state after round 0: counts, head, item biases and starting vectors."""
        counts, unsure = sums[COUNTS], noise[COUNTS]
        state = choose_head(counts, unsure, self.head_items)
        head, weight = state[HEAD], state[WEIGHT].astype(np.float64)
        events = np.maximum(counts, 0)
        # A user's k events weigh k^-e each: the sum of all weights is N k^(1 - e) for a typical k.
        length = max(float(events.sum()) / (self.scale * self.facts.n_users), 1.0) ** (1 / (1 - self.exponent))
        typical = self.scale * length**-self.exponent
        vectors = self._vectors(head, features)
        offset = 0.0
        if self.ratings:
            offset = float(np.clip(sums[MEAN][0] / self.facts.n_users, -1, 1))
            bias = offset + item_biases(
                sums[RATINGS] * DEVIATION,
                events,
                counts_noise=unsure,
                noise=noise[RATINGS] * DEVIATION,
                ridge=self.settings.bias_regularization * typical,
                prior=self.filled.residual_variance * typical,
                features=features,
            )
        elif self.settings.loss == "logistic":
            bias = np.log(np.maximum(events, max(unsure, 0.01 * float(events.max()), TINY)))
            bias -= np.log(max(float(events[head].mean()), TINY) * self.settings.negatives)
        else:
            vectors *= np.sqrt(weight)[:, None]
            share = events / (typical * self.facts.n_users)
            bias = share / (share + self.settings.unobserved_weight)
        table = np.concatenate([vectors, bias[head, None]], axis=1).astype(np.float32)
        state |= {TABLE: table, BIAS: bias.astype(np.float32), OFFSET: np.array([offset], np.float32)}
        return state | {MOMENTUM: np.zeros_like(table)}

    def grown(self, state: State, n_items: int) -> State:
        """The same; a new item is rated as items are on the mean."""
        found = super().grown(state, n_items)
        if BIAS in state:
            found[BIAS][len(state[BIAS]) :] = state[OFFSET]
        return found

    def _vectors(self, head: npt.NDArray[np.integer[Any]], features: npt.NDArray[np.floating[Any]] | None) -> Float64:
        """Starting item vectors, float64 [h, d]: public features, and random numbers in the other columns."""
        rng = np.random.default_rng(self.facts.seed)
        vectors = rng.normal(size=(len(head), self.size)) * self.filled.start_scale
        if features is not None and self.settings.use_features:
            width = min(features.shape[1], self.size)
            public = features[head, :width].astype(np.float64)
            public -= public.mean(axis=0)
            vectors[:, :width] = public * (self.filled.feature_scale / max(float(public.std()), TINY))
        return vectors

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Predictions over the head, tail items below; or expected ratings, see `expected_ratings`."""
        if TABLE not in state:
            return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))
        seen = histories.columns(state[HEAD])
        if self.ratings:
            counts = np.maximum(state[COUNTS].astype(np.float64), 0)
            popular = np.log1p(counts / max(float(counts.max()), TINY) * 1e3)
            return self._internal(state, seen) + self.settings.popularity_weight * popular
        return with_tail(state, self._head_scores(state, seen), seen.counts() > 0)

    def expected_ratings(self, state: State, histories: Interactions) -> Float64 | None:
        """Expected ratings on the scale of the settings, or None where no ratings are learned, or none yet.

        Args:
            state: the public state after a release.
            histories: whose weights are ratings.

        Returns:
            Float64 [n_users, n_items], within [lowest, highest].
        """
        if not isinstance(self.loss, RatingLoss) or TABLE not in state:
            return None
        return self.loss.rating(self._internal(state, histories.columns(state[HEAD])))

    def _head_scores(self, state: State, seen: Interactions) -> Float64:
        """b_i . a_u + sigma_i + c_u of the head, [n_users, h]."""
        table = state[TABLE].astype(np.float64)
        users = self.loss.users(state[TABLE], seen)
        return users[:, :-1] @ table[:, :-1].T + table[:, -1] + users[:, -1:]

    def _internal(self, state: State, seen: Interactions) -> Float64:
        """Expected ratings on [-1, 1], not cut, of all items: those outside the head have their bias only."""
        users = self.loss.users(state[TABLE], seen)
        table = state[TABLE].astype(np.float64)
        everything = state[BIAS].astype(np.float64) + users[:, -1:]
        everything[:, state[HEAD]] = users[:, :-1] @ table[:, :-1].T + table[:, -1] + users[:, -1:]
        return everything
