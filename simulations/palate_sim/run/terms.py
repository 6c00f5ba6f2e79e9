"""The terms of a simulated run, from its configuration, its data and the release it starts from."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

from palate_common.algorithms import State, algorithm_class
from palate_common.models.model import catalogue_hash
from palate_core.accounting import check_delta, check_epsilon, default_delta
from palate_core.errors import InputError
from palate_core.plan import MAX_USERS
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.terms import RunTerms, make_terms
from palate_sim.config import SimulationConfig
from palate_sim.preparation.preparation import Prepared
from palate_sim.provenance import run_sources
from palate_sim.run.versions import versions
from palate_sim.run.warm_start import FormerRelease

NAME = 200
"""Longest name in a ledger."""


def all_inputs(prepared: Prepared, former: FormerRelease | None) -> State:
    """Every public array that a run starts from."""
    return prepared.inputs | ({} if former is None else former.inputs)


def _inclusion(config: SimulationConfig) -> float | None:
    """The probability that an event takes part in a step; None where the unit is the user."""
    if config.privacy.unit == "user":
        return None
    settings = algorithm_class(config.algorithm.name).Settings.model_validate(config.algorithm.settings)
    return float(vars(settings)["inclusion"])


def simulated_terms(
    config: SimulationConfig,
    prepared: Prepared,
    *,
    population: str,
    run: str,
    former: FormerRelease | None = None,
) -> RunTerms:
    """The terms of a run, from its configuration, its data and `former`."""
    privacy, split = config.privacy, prepared.split
    n_users, cohort = split.train.n_users, None
    if privacy.mode.cohort:
        bounds = {"corrupt": privacy.corrupt, "dropout": privacy.dropout}
        masks, number = privacy.masks == "on", privacy.subcohorts
        cohort = choose_cohort(n_users=n_users, **bounds, masks=masks, subcohorts=number)
    if privacy.cohort_floor > n_users:
        raise InputError(
            f"`privacy.cohort_floor` must be at most the {n_users} training users, got {privacy.cohort_floor}"
        )
    if cohort is not None and privacy.cohort_floor > cohort.n_min:
        raise InputError(
            f"`privacy.cohort_floor` must be at most the {cohort.n_min} devices whose sum is released after dropout, "
            f"got {privacy.cohort_floor}"
        )
    return make_terms(
        population=population,
        run=f"{run[: NAME // 2]}-{datetime.fromtimestamp(time.time(), UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        algorithm=config.algorithm.name,
        settings=config.algorithm.settings,
        n_users=n_users,
        n_items=split.train.n_items,
        catalogue=catalogue_hash(split.items),
        inputs=all_inputs(prepared, former),
        seed=config.seed,
        dp=privacy.dp,
        noise=privacy.noise,
        epsilon=check_epsilon(privacy.epsilon) if privacy.mode.private else None,
        delta=check_delta(default_delta(n_users=n_users) if privacy.delta is None else privacy.delta),
        cohort=cohort,
        cohort_floor=privacy.cohort_floor,
        per_node=1 if cohort is not None and cohort.masks else MAX_USERS,
        events=_inclusion(config),
        grid=privacy.grid,
        about={
            "versions": versions(),
            "mechanism": run_sources(),
            "data": prepared.name,
            "exclusions": prepared.exclusions(),
            **({} if former is None else {"builds_on": former.about}),
            **({} if prepared.panel is None else {"panel": prepared.panel.about()}),
        },
    )
