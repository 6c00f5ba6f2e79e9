"""The seam between Palate and a learning algorithm.

An algorithm says what a device contributes and what the server makes of the noised sum. It never sees clipping,
noise, accounting, signing or transport: whatever `contribute` returns is clipped to norm 1 and charged.

    public state --contribute (device, private histories)--> Update
    noised sums  --release (server, post-processing)-------> next public state
    public state --scores (device, private history)--------> one score an item

To add one: write a class with these members, and name it under the entry point group `palate.algorithms`. A class
with a class method `as_algorithm(name)`, which returns such a class, may be named there too: torch modules have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.interactions import Interactions
from palate_common.mechanism.update import Layout, Update

State = dict[str, npt.NDArray[Any]]
"""Named public arrays: all that an algorithm knows between rounds, and what a model file holds."""


class PublicFacts(BaseModel):
    """What everybody knows before the first release, and settings may be derived from for free."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_users: int = Field(ge=1)
    """Installations expected to take part. Participation is not protected."""
    n_items: int = Field(ge=1)
    """Items in the catalogue."""
    mu: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The whole run's privacy parameter (mu-GDP); None without noise."""
    n_features: int = Field(default=0, ge=0)
    """Width of the public item features, 0 without any."""
    seed: int = 0
    """Seed of public randomness, such as a starting table."""
    local: bool = Field(default=False, exclude_if=lambda local: not local)
    """Whether each device adds all of its noise: a sum then has that of `n_users` draws. Not written where False."""
    former_signal: float = Field(default=0.0, ge=0, allow_inf_nan=False, exclude_if=lambda signal: signal == 0)
    """mu x users of the former release a run starts from; 0, and then not written, without a warm start."""

    @property
    def signal(self) -> float:
        """How far a count that all users share stands above the noise of a sum, with the whole budget; inf without.

        mu x users where a sum holds one draw of the charged noise; mu x sqrt(users) where it holds one a user.
        """
        if self.mu is None:
            return math.inf
        return self.mu * (math.sqrt(self.n_users) if self.local else self.n_users)


class Algorithm(Protocol):
    """One way to learn from noised sums.

    A class carries `name` and `Settings` (a pydantic model whose unknown keys are refused), and is made by
    `cls(settings, facts)`. One that can use public inputs, such as item features, names them in a class attribute
    `public_inputs: tuple[str, ...]`, and finds those that a run has in the state that `release` is given. They stay on
    the server, unless `release` puts what a device needs of them into the state, under another name. Arrays of the
    state that `contribute` needs and `scores` doesn't are named in `training_only: tuple[str, ...]`, and are left out
    of what devices download to rank by. One that can go on from a former release of its own has a method
    `hand_over(state, rows, n_items)`, which makes such inputs of a final state; `rows` are its items' places among
    `n_items` later ones. One that learns ratings has a method `expected_ratings(state, histories)`: float64
    [n_users, n_items] in the log's own units, or None where its settings learn none. One whose unit is a single event
    has `unit = "event"`, and in the place of `contribute` the members that `palate_common.rounds.event_steps` asks for.
    """

    name: str
    Settings: type[BaseModel]

    def __init__(self, settings: Any, facts: PublicFacts) -> None:
        """Bind validated `Settings` to the public facts."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Each release's share of mu^2, in order; positive, sum 1. Their number is the number of rounds."""

    def start(self) -> State:
        """The public state before round 0."""

    def layout(self, state: State, round_: int) -> Layout:
        """The blocks of round `round_`'s contribution; squared weights sum to 1."""

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """On the device: one raw contribution a user. Anything above norm 1 is clipped away.

        Each user's must follow from that user's history and the state alone, whoever else is in the batch: clipping
        bounds what a user sends, not what they do to what others send. A user without events contributes too.
        """

    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """On the server, post-processing only: the next public state.

        Args:
            state: the public state the devices contributed to.
            round_: the round that was released.
            sums: noised sum of each block over the cohort, in the block's own units and shape.
            noise: standard deviation of the noise in each coordinate of that block, 0 without DP.
        """

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """On the device: float [n_users, n_items], higher is better, finite; seen items are not masked."""
