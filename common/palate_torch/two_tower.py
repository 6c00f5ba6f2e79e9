"""`torch-two-tower`: an item tower of an embedding plus a network on public features, a user tower of the history.

    item    z_i = E_i + MLP(features_i)
    user    u   = the direction of the summed z of own items, at a fixed length, + what `user_steps` add
    score   z_i . u + sigma_i

The fixed length keeps a user's change from being mostly biases, which popularity already knows. The features of the
head are part of the model. They are public, so that costs bytes and no privacy: without them a device could compute
neither a gradient of the MLP nor an item's vector.

Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations (RecSys 2019), for
towers over content; the private vector is that of Singhal et al. (NeurIPS 2021).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from palate_torch.recommender import Catalogue, Events, Recommender, User, direction_of_own, log_odds
from palate_torch.settings import ModuleSettings


class TwoTowerSettings(ModuleSettings):
    """Settings of `torch-two-tower`."""

    embedding_size: int = Field(default=24, ge=1, le=256)
    """d."""
    hidden_size: int = Field(default=32, ge=1, le=1024)
    """Width of the MLP's hidden layer."""
    user_length: float = Field(default=4.0, gt=0)
    """Length of a user's vector before the device's own steps."""
    start_scale: float = Field(default=0.03, gt=0)
    """Standard deviation of the starting embeddings."""
    shared_rate: float | None = Field(default=0.3, gt=0)
    """The server's step size for the MLP."""
    content_scale: float = Field(default=0.5, gt=0)
    """Factor on the MLP's part of an item's vector."""


class TwoTower(Recommender):
    """Embeddings and content on the item side; pooled history and a private vector on the user side."""

    Settings: ClassVar[type[ModuleSettings]] = TwoTowerSettings
    item_rows: ClassVar[tuple[str, ...]] = ("vectors", "bias")

    features: Tensor

    def __init__(self, settings: TwoTowerSettings, catalogue: Catalogue) -> None:
        super().__init__()
        size, self.user_length = settings.embedding_size, settings.user_length
        self.content_scale = settings.content_scale
        self.vectors = torch.nn.Parameter(torch.randn(catalogue.n_items, size) * settings.start_scale)
        self.bias = torch.nn.Parameter(torch.zeros(catalogue.n_items))
        self.register_buffer("features", torch.zeros(catalogue.n_items, catalogue.n_features))
        self.content: torch.nn.Module | None = None
        if catalogue.n_features:
            self.content = torch.nn.Sequential(
                torch.nn.Linear(catalogue.n_features, settings.hidden_size, bias=False),
                torch.nn.Tanh(),
                torch.nn.Linear(settings.hidden_size, size, bias=False),
            )

    @torch.no_grad()
    def start(self, popularity: Tensor) -> None:
        """Set biases to the log-odds of the popularity."""
        self.bias.copy_(log_odds(popularity))

    def items(self) -> Tensor:
        """Vectors z of the items at hand, [n, d]."""
        return self.vectors if self.content is None else self.vectors + self.content_scale * self.content(self.features)

    def private(self, events: Events) -> User:
        """The direction of the user's items' vectors, at a fixed length."""
        return {"vector": self.user_length * direction_of_own(self.items(), events)}

    def forward(self, user: User, events: Events) -> Tensor:
        """Scores [n]."""
        return self.items() @ user["vector"] + self.bias
