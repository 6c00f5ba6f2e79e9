"""Settings that every torch module has, whatever it computes: rounds, clip, server step, private side."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms import PublicFacts


class ModuleSettings(BaseModel):
    """Settings; what is None follows from the public facts. A module adds its own in a subclass, its `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    rounds: int | None = Field(default=None, ge=2, le=1024)
    """Releases in all, counts (round 0) included. None: few where the signal is weak."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that the module is given. None: by the signal; all without noise."""
    first_share: float = Field(default=0.2, gt=0, lt=1)
    """Round 0's share of mu^2."""
    clip_norm: float = Field(default=0.25, gt=0)
    """S, the L2 norm a user's change is clipped to."""
    shared_share: float = Field(default=0.05, gt=0, lt=1)
    """Part of a round's squared norm that parameters without a row an item get, where there are any."""
    user_exponent: float = Field(default=0.5, ge=0, le=0.5)
    """e: a user with k events weighs k^-e in the loss."""
    server_rate: float | None = Field(default=None, gt=0)
    """The server's step size for item rows. None: by whether there is noise."""
    shared_rate: float | None = Field(default=None, gt=0)
    """The server's step size for the other parameters. None: 0.1."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Momentum of the server's step."""
    local_steps: int = Field(default=1, ge=1, le=64)
    """Full-batch steps of a device on the item side in each round."""
    local_rate: float = Field(default=1.0, gt=0)
    """Step size of `local_steps`."""
    user_steps: int = Field(default=0, ge=0, le=256)
    """Steps of a device on its private side, from where the module starts it."""
    user_rate: float = Field(default=1.0, gt=0)
    """Step size of `user_steps`, on the mean loss of an item."""
    user_ridge: float = Field(default=0.0, ge=0)
    """Ridge that draws the private side back to where the module starts it."""
    negatives: int | None = Field(default=1, ge=0, le=64)
    """Sampled items for each own one. None: every head item."""
    max_events: int = Field(default=512, ge=1, le=65_536)
    """A user with more events trains on so many of them, drawn anew in each round."""


def later_rounds(settings: ModuleSettings, facts: PublicFacts) -> int:
    """Rounds after round 0."""
    if settings.rounds is not None:
        return settings.rounds - 1
    if facts.mu is None:
        return 48
    return int(np.clip(np.round(0.02 * facts.signal**0.7), 2, 24))


def server_rates(settings: ModuleSettings, facts: PublicFacts) -> tuple[float, float]:
    """Step sizes of the server for item rows and for shared parameters."""
    return settings.server_rate or (150.0 if facts.mu else 60.0), settings.shared_rate or 0.1
