"""Settings of `sgd`, and what follows from the public facts where they leave it open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from palate_common.algorithms.base import PublicFacts
from palate_common.algorithms.head import signal
from palate_common.algorithms.sgd.losses import ImplicitLoss, LogisticLoss, Loss, RatingLoss

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
"""What is None, by the loss. Those of ratings were chosen on validation ratings: the benchmark `sgd`, part `tune`."""
_OTHERS = {"first_share": 0.2, "clip_norm": 1.0, "momentum": 0.5, "moments_share": 0.05}
_OTHERS |= {"residual_variance": 0.15, "feature_scale": 0.15, "regularization": 0.5}
BY_LOSS |= {"implicit": _OTHERS, "logistic": _OTHERS | {"clip_norm": 0.5}}
RATES = {"newton": 0.5, "momentum": 15.0, "adam": 0.05}


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
    clip_quantile: float | None = Field(default=None, gt=0, lt=1)
    """S follows this quantile of the changes' norms, which is released too. None: S stays."""
    user_exponent: float | None = Field(default=None, ge=0, le=0.5)
    """e: a user with k events weighs k^-e in the loss. None: 0.5 under noise, where a user's whole change has one norm
    anyway; 0 for ratings without, where every rating counts alike."""
    optimizer: Literal["newton", "momentum", "adam"] | None = None
    """The server's step. newton also releases the second moments of the user side, a few hundred numbers. None: newton
    without noise and for ratings, which need it; momentum for implicit feedback under noise."""
    server_rate: float | None = Field(default=None, gt=0)
    """The server's step size. None: by the optimizer."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Of the server's step. None: 0 for ratings, 0.5 for implicit feedback."""
    moments_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of a round's squared norm that the second moments get; newton only. None: 0.1 for ratings, else 0.05."""
    residual_variance: float | None = Field(default=None, gt=0)
    """Variance of an error, on a scale where ratings lie in [-1, 1]: what a row's noise is weighed against. None: 0.4
    for ratings, 0.15 for implicit feedback."""
    item_ridge: float = Field(default=0.5, ge=0)
    """The ridge of item vectors for implicit feedback, in users' weights."""
    use_features: bool = True
    """Start from the public item features, if a run has any."""
    feature_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of a starting vector made of features. None: 0.2 for ratings, 0.15 for implicit feedback."""
    start_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of the starting vectors. None: 0.05 for ratings, else 0.15 for newton, 0.03 for the others."""
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
    """How much a natural logarithm of popularity adds to an expected rating where items are ranked; ratings only."""
    compression: float = Field(default=1.0, ge=1, le=1024)
    """How many times fewer numbers a device sends over the run than the other settings would have it send."""

    @model_validator(mode="after")
    def _a_scale_has_two_ends(self) -> SgdSettings:
        """Refuse a scale upside down."""
        if not self.lowest < self.highest:
            raise PydanticCustomError("scale", "`lowest` must be below `highest`")
        return self

    @model_validator(mode="after")
    def _ratings_need_newton(self) -> SgdSettings:
        """Refuse steps that know neither an item's count nor its ridge, where counts differ a thousandfold."""
        if self.loss == "ratings" and self.optimizer not in (None, "newton"):
            raise PydanticCustomError("optimizer", "`optimizer` must be newton for ratings")
        return self


@dataclass(frozen=True)
class Filled:
    """What is None in the settings, by the loss and the optimizer.

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


def filled(settings: SgdSettings, optimizer: str) -> Filled:
    """The settings that have a default by the loss, with nothing left open."""
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


def chosen_optimizer(settings: SgdSettings, facts: PublicFacts) -> Literal["newton", "momentum", "adam"]:
    """The server's step."""
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
    return int(np.clip(np.round(0.02 * signal(facts) ** 0.7), 2, 24))


def embedding_size(settings: SgdSettings, facts: PublicFacts) -> int:
    """Width of an item vector, d."""
    if settings.embedding_size is not None:
        return settings.embedding_size
    if settings.loss == "ratings":
        return 12
    return 32 if facts.mu is None else 24
