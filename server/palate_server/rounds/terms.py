"""RunTerms: the terms of a run, which are entered in the ledger before it starts and never change.

All of them are public and fixed before the run. `make_terms` computes what follows from a caller's facts: the public
facts for the algorithm, the part of delta for the noise, and a grid for which the sum fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palate_common.algorithms import PublicFacts, State, make_algorithm
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.als.warm import signal_of
from palate_common.algorithms.parts.links import panel_size
from palate_common.models.manifest import STARTS
from palate_core.accounting import epsilon_of, mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError
from palate_core.layout import CLIP_NORMS, MAX_GRID
from palate_core.log.canonical import digest
from palate_core.plan import LEAST_INCLUSION, MAX_USERS, Noise
from palate_core.privacy_mode import DpMode, PrivacyMode, mode_of
from palate_server.rounds.cohort import spendable_grid
from palate_server.rounds.registry import pack_inputs


class RunTerms(BaseModel):
    """The fixed terms of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    population: str = Field(min_length=1)
    """The population whose ledger is charged."""
    run: str = Field(min_length=1)
    algorithm: str
    settings: dict[str, Any]
    facts: PublicFacts
    catalogue: str
    """Hash of the item ids in row order."""
    inputs: str | None = None
    """Hash of the public arrays that the run starts from, such as item features; None without any."""
    dp: DpMode = DpMode.CENTRAL
    noise: Noise = Noise.SECURE
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The run's epsilon at `delta`; None with `off`. Unit: user; adjacency: zero-out."""
    delta: float = Field(gt=0, lt=1)
    clip_norm: float = Field(default=1.0, ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    grid: int = Field(default=2**20, ge=2**8, le=MAX_GRID)
    """Grid steps per clip norm."""
    cohort_floor: int = Field(default=1, ge=1)
    cohort: CohortTerms | None = None
    """The devices that share the noise; only with `distributed`."""
    per_node: int = Field(default=1, ge=1, le=MAX_USERS, exclude_if=lambda installations: installations == 1)
    """The most installations in one answer: one, unless nodes are simulated."""
    events: float | None = Field(default=None, ge=LEAST_INCLUSION, le=1, exclude_if=lambda events: events is None)
    """The probability with which an event takes part in a noised step if the unit is one event; None for users."""
    plan_seconds: int = Field(default=3600, ge=1)
    """Seconds in which a plan may be answered."""
    about: dict[str, Any] = Field(default_factory=dict)
    """Further facts for the ledger and the card: data preparation, exclusions, versions."""

    @property
    def noise_delta(self) -> float:
        """The part of delta for the noise; the rest is for the masking graph, or the tail of sampling."""
        return self.delta - self.mode.reserved_delta(self.events)

    @property
    def least(self) -> int:
        """Fewest devices with which an attempt begins."""
        return self.cohort_floor if self.cohort is None else self.cohort.n_min * self.cohort.subcohorts

    @property
    def mode(self) -> PrivacyMode:
        """The privacy mode of `dp`."""
        return mode_of(self.dp)

    @property
    def still_from(self) -> dict[str, Any]:
        """What the manifest says of a model made elsewhere, as long as that one was learned from more people; or {}."""
        start = self.about.get("builds_on", {}).get(STARTS)
        return {} if start is None or self.facts.n_users >= start["users"] else {STARTS: start}

    @property
    def unit(self) -> str:
        """The unit of privacy: "user", that is, all data of a user, or "event"."""
        return "user" if self.events is None else "event"

    @model_validator(mode="after")
    def _budget_fits_mode(self) -> RunTerms:
        if not self.mode.private == (self.epsilon is not None) == (self.facts.mu is not None):
            raise ValueError("epsilon and mu are given with privacy, and only then")
        self.mode.check(self.cohort, self.events, cohort_floor=self.cohort_floor)
        if self.mode.alone != self.facts.local:
            raise ValueError("the public facts must say local with dp local, and only then")
        if self.facts.subcohorts != (1 if self.cohort is None else self.cohort.subcohorts):
            raise ValueError("the public facts must have the cohort's number of sub-cohorts")
        if self.noise_delta <= 0:
            raise ValueError(f"delta must be above {self.delta - self.noise_delta:.2g}, which dp {self.dp} needs")
        if self.epsilon is not None and self.facts.mu is not None:
            implied = epsilon_of(mu=self.facts.mu, delta=self.noise_delta)
            if implied > self.epsilon:
                raise ValueError(f"mu must be one that epsilon {self.epsilon} allows, got one of epsilon {implied:.6g}")
        return self


def noise_delta(dp: DpMode, delta: float, events: float | None = None) -> float:
    """The part of delta for the noise; the rest is for failures of the masking graph, or for the tail of sampled steps.

    Args:
        dp: who adds the noise.
        delta: delta as promised.
        events: the probability with which an event takes part in a step, if the unit is one event.

    Raises:
        InputError: nothing is left for the noise.
    """
    reserved = mode_of(dp).reserved_delta(events)
    if delta <= reserved:
        raise InputError(f"`privacy.delta` must be above {reserved:.2g} with dp {dp}, got {delta:g}")
    return delta - reserved


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
    """Make a run's terms, from public facts alone.

    Args:
        population: the population whose ledger is charged.
        run: the run's id.
        algorithm: the algorithm's name.
        settings: the algorithm's settings.
        n_users: number of users.
        n_items: number of items of the catalogue.
        catalogue: hash of the item ids.
        inputs: public arrays that the run starts from.
        seed: seed of public randomness.
        dp: who adds the noise.
        noise: the source of the noise.
        epsilon: epsilon of the whole run, at `delta`; None without privacy.
        delta: delta, with the mode's reserve for its attempts.
        cohort: the devices that share the noise; with `distributed`.
        cohort_floor: the least number of contributions for a release.
        per_node: the most installations in one answer.
        about: further facts for the ledger.
        events: the probability with which an event takes part in a step, if the unit is one event.
        clip_norm: L2 norm to which a contribution is clipped.
        grid: grid steps per clip norm; None: as many as fit the sum.
        plan_seconds: seconds in which a plan may be answered.

    Raises:
        InputError: no delta is left for the noise, or the budget's noise doesn't fit the grid.
    """
    for_noise = noise_delta(dp, delta, events)
    features = inputs.get(FEATURES)
    facts = PublicFacts(
        n_users=n_users,
        n_items=n_items,
        n_features=0 if features is None else int(features.shape[1]),
        former_signal=signal_of(inputs),
        panel_users=panel_size(inputs),
        mu=None if epsilon is None else mu_of(epsilon=epsilon, delta=for_noise),
        seed=seed,
        local=mode_of(dp).alone,
        subcohorts=1 if cohort is None else cohort.subcohorts,
    )
    learner = make_algorithm(algorithm, settings, facts)
    # If the unit is one event, a round's noised steps share its cost.
    mus = [] if facts.mu is None else [facts.mu * math.sqrt(s / learner.steps(n)) for n, s in enumerate(learner.shares)]
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
