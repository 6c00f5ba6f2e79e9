"""RunTerms: what a run promises before it starts, entered in the ledger and never changed; and how they are made.

Everything in them is public and fixed before the run. `make_terms` works out what follows from a caller's facts: the
public facts an algorithm may know, how much of delta the noise has, and the grid that a sum fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palate_common.algorithms import PublicFacts, State, make_algorithm
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.als.warm import signal_of
from palate_common.errors import InputError
from palate_common.mechanism.accounting import epsilon_of, mu_of
from palate_common.mechanism.clipping import CLIP_NORMS, MAX_GRID
from palate_common.mechanism.cohort import CohortTerms
from palate_common.mechanism.sampled_gaussian import LEAST_INCLUSION
from palate_common.records.canonical import digest
from palate_common.rounds.plan import MAX_USERS, Noise
from palate_common.rounds.privacy_mode import DpMode, PrivacyMode, mode_of
from palate_server.rounds.cohort import spendable_grid
from palate_server.rounds.registry import pack_inputs


class RunTerms(BaseModel):
    """The fixed terms of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    population: str = Field(min_length=1)
    """Whose ledger is charged."""
    run: str = Field(min_length=1)
    algorithm: str
    settings: dict[str, Any]
    facts: PublicFacts
    catalogue: str
    """Hash of the item ids in row order."""
    inputs: str | None = None
    """Hash of the public arrays the run starts from, such as item features; None without any."""
    dp: DpMode = DpMode.CENTRAL
    noise: Noise = Noise.SECURE
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Asked for, at `delta`; None with `off`. Unit: user; adjacency: zero-out."""
    delta: float = Field(gt=0, lt=1)
    clip_norm: float = Field(default=1.0, ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    grid: int = Field(default=2**20, ge=2**8, le=MAX_GRID)
    """Steps per clip norm."""
    cohort_floor: int = Field(default=1, ge=1)
    cohort: CohortTerms | None = None
    """Who shares the noise; with `distributed`, and only then."""
    per_node: int = Field(default=1, ge=1, le=MAX_USERS, exclude_if=lambda installations: installations == 1)
    """Installations that one answer may speak for: one, unless nodes are simulated."""
    events: float | None = Field(default=None, ge=LEAST_INCLUSION, le=1, exclude_if=lambda events: events is None)
    """Where the unit is one event and not the user: the probability with which one takes part in a noised step."""
    plan_seconds: int = Field(default=3600, ge=1)
    """How long a plan may be answered."""
    about: dict[str, Any] = Field(default_factory=dict)
    """What else the ledger and the card should say: data preparation, exclusions, versions."""

    @property
    def noise_delta(self) -> float:
        """What of delta is left to the noise: the rest is for the graph of `distributed`, or the tail of sampling."""
        return self.delta - self.mode.reserved_delta(self.events)

    @property
    def mode(self) -> PrivacyMode:
        """What follows from who adds the noise."""
        return mode_of(self.dp)

    @property
    def unit(self) -> str:
        """Whose data is protected: a user's, all of it, or one event."""
        return "user" if self.events is None else "event"

    @model_validator(mode="after")
    def _budget_fits_mode(self) -> RunTerms:
        if not self.mode.private == (self.epsilon is not None) == (self.facts.mu is not None):
            raise ValueError("epsilon and mu are given with privacy, and only then")
        self.mode.check(self.cohort, self.events)
        if self.mode.alone != self.facts.local:
            raise ValueError("the public facts must say local with dp local, and only then")
        if self.noise_delta <= 0:
            raise ValueError(f"delta must be above {self.delta - self.noise_delta:.2g}, which dp {self.dp} needs")
        if self.epsilon is not None and self.facts.mu is not None:
            implied = epsilon_of(mu=self.facts.mu, delta=self.noise_delta)
            if implied > self.epsilon:
                raise ValueError(f"mu must be one that epsilon {self.epsilon} allows, got one of epsilon {implied:.6g}")
        return self


def make_terms(
    *,
    population: str,
    run: str,
    algorithm: str,
    settings: Mapping[str, Any],
    n_users: int,
    n_items: int,
    catalogue: str,
    inputs: State,
    seed: int,
    dp: DpMode,
    noise: Noise,
    epsilon: float | None,
    delta: float,
    cohort: CohortTerms | None,
    cohort_floor: int,
    per_node: int,
    about: dict[str, Any],
    events: float | None = None,
    clip_norm: float = 1.0,
    grid: int | None = None,
    plan_seconds: int = 3600,
) -> RunTerms:
    """What a run promises, from public facts alone.

    Args:
        population: whose ledger is charged.
        run: its id.
        algorithm: its name.
        settings: the algorithm's own.
        n_users: how many take part.
        n_items: items of the catalogue.
        catalogue: hash of their ids.
        inputs: public arrays that the run starts from.
        seed: of public randomness.
        dp: who adds the noise.
        noise: where it comes from.
        epsilon: of the whole run, at `delta`; None without privacy.
        delta: the mode's reserve for its attempts included.
        cohort: who shares the noise; with `distributed`.
        cohort_floor: fewer contributions release nothing.
        per_node: installations that one answer may speak for.
        about: what else the ledger should say.
        events: where the unit is one event, the probability with which it takes part in a step.
        clip_norm: of one contribution.
        grid: steps per clip norm; None: what fits the sum.
        plan_seconds: how long a plan may be answered.

    Raises:
        InputError: delta has nothing left for the noise, or the budget needs more noise than the grid holds.
    """
    mode = mode_of(dp)
    reserved = mode.reserved_delta(events)
    if delta <= reserved:
        raise InputError(f"`privacy.delta` must be above {reserved:.2g} with dp {dp}, got {delta:g}")
    features = inputs.get(FEATURES)
    facts = PublicFacts(
        n_users=n_users,
        n_items=n_items,
        n_features=0 if features is None else int(features.shape[1]),
        former_signal=signal_of(inputs),
        mu=None if epsilon is None else mu_of(epsilon=epsilon, delta=delta - reserved),
        seed=seed,
        local=mode.alone,
    )
    learner = make_algorithm(algorithm, settings, facts)
    # Where the unit is one event, a round's noised steps share what it may cost.
    steps = getattr(learner, "steps", lambda round_: 1)
    mus = [] if facts.mu is None else [facts.mu * math.sqrt(s / steps(n)) for n, s in enumerate(learner.shares)]
    return RunTerms(
        population=population,
        run=run,
        algorithm=algorithm,
        settings=dict(settings),
        facts=facts,
        catalogue=catalogue,
        inputs=digest(pack_inputs(inputs)) if inputs else None,
        dp=dp,
        noise=noise,
        epsilon=epsilon,
        delta=delta,
        clip_norm=clip_norm,
        grid=spendable_grid(cohort, mus, grid=grid, epsilon=epsilon, local=facts.local),
        cohort_floor=cohort_floor,
        cohort=cohort,
        per_node=per_node,
        events=events,
        plan_seconds=plan_seconds,
        about=about,
    )
