"""`torch-mf`: matrix factorisation with biases, the model of `sgd`, as a torch module.

It computes the changes that `sgd` has in closed form for the same loss; `sgd` is faster. This module is there to build
on, and to test the interface for torch modules.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from palate_torch.recommender import Catalogue, Events, Recommender, User, log_odds, mean_of_own
from palate_torch.settings import ModuleSettings

TINY = 1e-12


class MatrixFactorizationSettings(ModuleSettings):
    """Settings of `torch-mf`."""

    embedding_size: int = Field(default=24, ge=1, le=256)
    """d."""
    loss: Literal["implicit", "logistic"] = "implicit"
    """implicit: every item is a weak negative, user vectors are ridge solutions. logistic: negatives are sampled, user
    vectors are means of own items' vectors."""
    negatives: int | None = Field(default=None, ge=0, le=64)
    """Sampled items for each own one. None: every head item, as implicit needs it."""
    clip_norm: float = Field(default=1.0, gt=0)
    """S, the L2 norm a user's change is clipped to."""
    server_rate: float | None = Field(default=15.0, gt=0)
    """The server's step size for item rows."""
    start_scale: float = Field(default=0.03, gt=0)
    """Standard deviation of the starting vectors."""
    unobserved_weight: float = Field(default=0.3, gt=0)
    """a0, the weight of every head item as a negative; implicit only."""
    regularization: float = Field(default=0.5, ge=0)
    """The ridge of user vectors, relative to the table's scale; implicit only."""


class MatrixFactorization(Recommender):
    """b_i . a_u + sigma_i, with a_u rebuilt from the user's own items."""

    Settings: ClassVar[type[ModuleSettings]] = MatrixFactorizationSettings
    item_rows: ClassVar[tuple[str, ...]] = ("vectors", "bias")

    def __init__(self, settings: MatrixFactorizationSettings, catalogue: Catalogue) -> None:
        super().__init__()
        self.settings = settings
        shape = (catalogue.n_items, settings.embedding_size)
        self.vectors = torch.nn.Parameter(torch.randn(shape) * settings.start_scale)
        self.bias = torch.nn.Parameter(torch.zeros(catalogue.n_items))

    @torch.no_grad()
    def start(self, popularity: Tensor) -> None:
        """Set biases that predict popularity; for implicit, scale vectors by its square root."""
        if self.settings.loss == "logistic":
            self.bias.copy_(log_odds(popularity))
            return
        self.bias.copy_(popularity / (popularity + self.settings.unobserved_weight))
        self.vectors.mul_((popularity / popularity.mean()).sqrt()[:, None])

    def private(self, events: Events) -> User:
        """The mean of own vectors, or the ridge solution."""
        if self.settings.loss == "logistic":
            return {"vector": mean_of_own(self.vectors, events)}
        size, a0 = self.vectors.shape[1], self.settings.unobserved_weight
        common = a0 * (self.vectors.T @ self.vectors)
        ridge = self.settings.regularization * common.diagonal().sum() / size + TINY
        weighted = events.weights[:, None] * self.vectors
        matrix = self.vectors.T @ weighted + common + ridge * torch.eye(size)
        right = weighted.T @ (1 - self.bias) - a0 * (self.bias @ self.vectors)
        return {"vector": torch.linalg.solve(matrix, right)}

    def forward(self, user: User, events: Events) -> Tensor:
        """Scores [n]."""
        return self.vectors @ user["vector"] + self.bias

    def loss(self, scores: Tensor, events: Events) -> Tensor:
        """Cross-entropy, or half the weighted squares."""
        if self.settings.loss == "logistic":
            return super().loss(scores, events)
        squares = events.weights * (1 - scores) ** 2 + self.settings.unobserved_weight * scores**2
        return (squares * events.counted).sum() / 2
