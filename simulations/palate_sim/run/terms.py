"""Promise: the terms of a run, from its configuration, the size of its data and the release it starts from.

Everything in them is public and fixed before the run; the ledger keeps them from its opening on.
"""

from __future__ import annotations

import math
import secrets
from datetime import UTC, datetime

from palate_common.algorithms import PublicFacts, State, algorithm_class, make_algorithm
from palate_common.algorithms.als.warm import signal_of
from palate_common.errors import InputError
from palate_common.mechanism.accounting import check_delta, check_epsilon, default_delta, mu_of
from palate_common.mechanism.cohort import RESERVED_DELTA
from palate_common.models.model import catalogue_hash
from palate_common.records.canonical import digest
from palate_common.rounds.plan import MAX_USERS, DpMode
from palate_server.rounds.cohort import choose_cohort, spendable_grid
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms
from palate_sim.config import SimulationConfig
from palate_sim.features.features import features_width
from palate_sim.preparation.preparation import Prepared
from palate_sim.run.provenance import mechanism_sources
from palate_sim.run.versions import versions
from palate_sim.run.warm_start import FormerRelease

NAME = 200
"""Longest name in a ledger."""


def all_inputs(prepared: Prepared, former: FormerRelease | None) -> State:
    """Every public array that a run starts from."""
    return prepared.inputs | ({} if former is None else former.inputs)


def _inclusion(config: SimulationConfig) -> float | None:
    """With which probability an event takes part in a step; None where the unit is the user."""
    if config.privacy.unit == "user":
        return None
    settings = algorithm_class(config.algorithm.name).Settings.model_validate(config.algorithm.settings)
    return float(vars(settings)["inclusion"])


def make_terms(
    config: SimulationConfig,
    prepared: Prepared,
    *,
    population: str,
    run: str,
    former: FormerRelease | None = None,
    directory: str | None = None,
) -> RunTerms:
    """What the run promises, from its configuration, its data and `former`; `directory` is the devices', for masks."""
    inputs = all_inputs(prepared, former)
    privacy, split = config.privacy, prepared.split
    private = privacy.dp is not DpMode.OFF
    cohort = None
    if privacy.dp is DpMode.DISTRIBUTED:
        cohort = choose_cohort(
            n_users=split.train.n_users, corrupt=privacy.corrupt, dropout=privacy.dropout, directory=directory
        )
    delta = check_delta(default_delta(n_users=split.train.n_users) if privacy.delta is None else privacy.delta)
    epsilon = check_epsilon(privacy.epsilon) if private else None
    inclusion = _inclusion(config)
    reserved = 0.0 if cohort is None and inclusion in (None, 1.0) else RESERVED_DELTA
    if delta <= reserved:
        raise InputError(f"`privacy.delta` must be above {reserved:.2g} with dp {privacy.dp}, got {delta:g}")
    facts = PublicFacts(
        n_users=split.train.n_users,
        n_items=split.train.n_items,
        n_features=features_width(inputs),
        former_signal=signal_of(inputs),
        mu=None if epsilon is None else mu_of(epsilon=epsilon, delta=delta - reserved),
        seed=config.seed,
        local=privacy.dp is DpMode.LOCAL,
    )
    learner = make_algorithm(config.algorithm.name, config.algorithm.settings, facts)
    # Where the unit is one event, a round's noised steps share what it may cost.
    mus = (
        [(facts.mu or 0.0) * math.sqrt(share / learner.steps(n)) for n, share in enumerate(learner.shares)]
        if private
        else []
    )
    grid = spendable_grid(cohort, mus, grid=privacy.grid, epsilon=epsilon, local=facts.local)
    if privacy.cohort_floor > facts.n_users:
        raise InputError(
            f"`privacy.cohort_floor` must be at most the {facts.n_users} training users, got {privacy.cohort_floor}"
        )
    return RunTerms(
        population=population,
        run=f"{run[: NAME // 2]}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        algorithm=config.algorithm.name,
        settings=config.algorithm.settings,
        facts=facts,
        catalogue=catalogue_hash(split.items),
        inputs=digest(pack_inputs(inputs)) if inputs else None,
        dp=privacy.dp,
        noise=privacy.noise,
        epsilon=epsilon,
        delta=delta,
        grid=grid,
        cohort_floor=privacy.cohort_floor,
        cohort=cohort,
        per_node=1 if cohort is not None and cohort.masks else MAX_USERS,
        events=inclusion,
        about={
            "versions": versions(),
            "mechanism": mechanism_sources(),
            "data": prepared.name,
            "exclusions": prepared.exclusions(),
            **({} if former is None else {"builds_on": former.about}),
        },
    )
