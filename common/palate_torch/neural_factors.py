"""`torch-neumf`: a product of user and item vectors beside a small network over both.

    score   h . (a_u * b_i) + MLP([p_u, q_i]) + sigma_i

The item side is (b, q, sigma), the network's and h's parameters are shared, and (a, p) is private: it starts in
the direction of the own items' vectors, and `user_steps` gradient steps on the device move it.

Source: He et al., Neural Collaborative Filtering (WWW 2017), section 3.4, with an item bias and a private user side.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from palate_torch.recommender import Catalogue, Events, Recommender, User, direction_of_own, log_odds
from palate_torch.settings import ModuleSettings


class NeuralFactorsSettings(ModuleSettings):
    """Settings of `torch-neumf`."""

    embedding_size: int = Field(default=16, ge=1, le=256)
    """Width of the product's vectors."""
    network_size: int = Field(default=8, ge=1, le=256)
    """Width of the network's vectors."""
    hidden_size: int = Field(default=16, ge=1, le=1024)
    """Width of the network's hidden layer."""
    user_length: float = Field(default=4.0, gt=0)
    """Length of a user's vectors before the device's own steps."""
    start_scale: float = Field(default=0.03, gt=0)
    """Standard deviation of the starting vectors."""


class NeuralFactors(Recommender):
    """Generalised matrix factorisation and a multilayer perceptron, added."""

    Settings: ClassVar[type[ModuleSettings]] = NeuralFactorsSettings
    item_rows: ClassVar[tuple[str, ...]] = ("vectors", "inputs", "bias")

    def __init__(self, settings: NeuralFactorsSettings, catalogue: Catalogue) -> None:
        super().__init__()
        self.user_length = settings.user_length
        n_items, size, inner = catalogue.n_items, settings.embedding_size, settings.network_size
        self.vectors = torch.nn.Parameter(torch.randn(n_items, size) * settings.start_scale)
        self.inputs = torch.nn.Parameter(torch.randn(n_items, inner) * settings.start_scale)
        self.bias = torch.nn.Parameter(torch.zeros(n_items))
        self.weights = torch.nn.Parameter(torch.ones(size))
        self.user_layer = torch.nn.Linear(inner, settings.hidden_size, bias=False)
        self.item_layer = torch.nn.Linear(inner, settings.hidden_size)
        self.last = torch.nn.Linear(settings.hidden_size, 1, bias=False)

    @torch.no_grad()
    def start(self, popularity: Tensor) -> None:
        """Set biases to the log-odds of the popularity."""
        self.bias.copy_(log_odds(popularity))

    def private(self, events: Events) -> User:
        """The directions of the user's items' vectors, at a fixed length."""
        rows = {"vector": self.vectors, "input": self.inputs}
        return {name: self.user_length * direction_of_own(table, events) for name, table in rows.items()}

    def forward(self, user: User, events: Events) -> Tensor:
        """Scores [n]. The first layer over [p, q] is the sum of a layer over p and one over q."""
        product = self.vectors @ (self.weights * user["vector"])
        hidden = torch.relu(self.user_layer(user["input"]) + self.item_layer(self.inputs))
        scores: Tensor = product + self.last(hidden).squeeze(-1) + self.bias
        return scores
