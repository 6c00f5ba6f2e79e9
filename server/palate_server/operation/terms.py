"""Terms of the next run, from the operator's configuration and public facts alone; and budgets.

No filter, size or choice depends on users' behaviour: the cohort's size stands for the number of users, and the
catalogue is the operator's.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from palate_common.algorithms import State, algorithm_class
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.links import panel_size
from palate_common.algorithms.parts.panel import PANEL_INPUTS, has_panel, takes_panel
from palate_common.algorithms.registry import only_counts
from palate_common.algorithms.verdict import NAME as JUDGING
from palate_common.algorithms.verdict import JudgedPair
from palate_common.survey import SURVEYING, Survey
from palate_core.accounting import mu_of, total_mu2
from palate_core.cohort_terms import MAX_ATTEMPTS
from palate_core.errors import BudgetError, InputError
from palate_core.log.canonical import digest
from palate_core.privacy_mode import DpMode, mode_of
from palate_server.folder.config import ServerConfig
from palate_server.ledger.history import ChargeEntry, Entry, RestoredEntry, reserves
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms, make_terms, noise_delta
from palate_server.surveys.verdict import hidden

DAY = 86400.0
ENOUGH = tuple(round(1.1**step, 1) for step in range(-20, 60))
"""Epsilons of a verdict, of which the least that tells anything is named."""
GIVEN = "given by the operator"
"""Where a deployment's panel comes from."""


def period_of(config: ServerConfig, now: float) -> int:
    """The number of the budget's period at a time."""
    return int(now // (config.privacy.period_days * DAY))


def next_terms(
    config: ServerConfig,
    *,
    catalogue: str,
    n_items: int,
    inputs: State,
    about: dict[str, Any],
    now: float | None = None,
) -> RunTerms:
    """Make the terms of the next run.

    Args:
        config: the operator's configuration.
        catalogue: hash of the item ids.
        n_items: number of items.
        inputs: public arrays that the run starts from.
        about: further facts for the ledger.
        now: seconds since 1970.

    Raises:
        InputError: the configuration's cohort, epsilon and algorithm don't fit each other.
    """
    now = time.time() if now is None else now
    privacy, size = config.privacy, config.cohort.size
    distributed = privacy.mode.cohort
    shares = {"corrupt": privacy.corrupt, "dropout": privacy.dropout}
    bounds = choose_cohort(n_users=size, **shares, masks=distributed, subcohorts=config.cohort.subcohorts)
    features, training = inputs.get(FEATURES), config.training
    if features is not None and features.shape[1] and FEATURES not in algorithm_class(training.algorithm).public_inputs:
        raise InputError(f"`training.features` must be empty: {training.algorithm} has no use for features")
    if has_panel(inputs) and not takes_panel(algorithm_class(training.algorithm).public_inputs):
        raise InputError(f"a panel must be left out: {training.algorithm} has no use for it")
    return make_terms(
        population=config.population,
        run=f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        algorithm=training.algorithm,
        settings=training.settings,
        n_users=size,
        n_items=n_items,
        catalogue=catalogue,
        inputs=inputs,
        seed=training.seed,
        dp=privacy.dp,
        noise=privacy.noise,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        cohort=bounds if distributed else None,
        cohort_floor=bounds.n_min,
        per_node=1,
        clip_norm=privacy.clip_norm,
        grid=privacy.grid,
        plan_seconds=config.cohort.plan_seconds,
        about={**about, **_panel(inputs), **_profile(config), "deployed": True, "period": period_of(config, now)},
    )


def _profile(config: ServerConfig) -> dict[str, Any]:
    """What a run's terms say about the server's profile; {} without one."""
    return {} if config.profile is None else {"profile": config.profile}


def _panel(inputs: State) -> dict[str, Any]:
    """What a run's terms say about its panel; {} without one."""
    if not has_panel(inputs):
        return {}
    opened = {name: inputs[name] for name in PANEL_INPUTS}
    return {"panel": {"users": panel_size(inputs), "origin": GIVEN, "hash": digest(pack_inputs(opened))}}


def check_config(config: ServerConfig, *, n_items: int, inputs: State) -> None:
    """Refuse a configuration with which no run could be opened, before devices are invited.

    Raises:
        InputError: its cohort, epsilon, algorithm, features or delta don't fit each other, or its verdicts could tell
            nothing.
    """
    if config.cohort.subcohorts > 1 and not config.privacy.mode.cohort:
        raise InputError(f"`cohort.subcohorts` must be 1 with dp {config.privacy.dp}, got {config.cohort.subcohorts}")
    next_terms(config, catalogue="", n_items=n_items, inputs=inputs, about={}, now=0.0)
    if config.judging.epsilon:
        privacy, name = config.privacy, config.training.algorithm
        if config.judging.quarantine_runs and not algorithm_class(name).leaves_items_out():
            raise InputError(
                "`judging.quarantine_runs` must be 0 with an algorithm that can't leave items out, as it has no "
                f"`item_rows`, got {config.judging.quarantine_runs} with {name!r:.80}"
            )
        check_judging(
            config.judging.epsilon,
            dp=privacy.dp,
            delta=privacy.delta,
            devices=config.cohort.size,
            n_items=n_items,
            subcohorts=config.cohort.subcohorts,
        )


def check_judging(epsilon: float, *, dp: DpMode, delta: float, devices: int, n_items: int, subcohorts: int = 1) -> None:
    """Refuse verdicts that would be charged and tell nothing: whether everybody loses, or anybody finds anything.

    Args:
        epsilon: of a verdict.
        dp: the privacy mode.
        delta: as promised.
        devices: the most that judge.
        n_items: items of the catalogue.
        subcohorts: into which they are split.

    Raises:
        InputError: noise would hide all; the message has the least epsilon that tells something.
    """
    for_noise, alone = noise_delta(dp, delta), mode_of(dp).alone

    def lost(tried: float) -> str:
        mu = mu_of(epsilon=tried, delta=for_noise) / math.sqrt(devices if alone else subcohorts)  # of the whole sum's
        return hidden(mu=mu, devices=devices, n_items=n_items)

    if said := lost(epsilon):
        enough = next((each for each in ENOUGH if not lost(each)), None)
        way_out = "with so few devices" if enough is None else f"or at least {enough:g}"
        raise InputError(
            f"`judging.epsilon` must be 0, which judges nothing, {way_out} for a cohort of {devices}, got "
            f"{epsilon:g}: {said}"
        )


def counting(config: ServerConfig, kind: type[BaseModel], settings: dict[str, Any], epsilon: float) -> ServerConfig:
    """The configuration of a run that trains nothing, a survey or a verdict: its algorithm and epsilon.

    Args:
        config: the operator's configuration; the rest of it is unchanged.
        kind: `Survey` or `JudgedPair`.
        settings: what is asked.
        epsilon: of the run.
    """
    algorithm = {Survey: SURVEYING, JudgedPair: JUDGING}[kind]
    training = config.training.model_copy(update={"algorithm": algorithm, "settings": settings, "warm_start": False})
    privacy = config.privacy.model_copy(update={"epsilon": epsilon})
    return config.model_copy(update={"training": training, "privacy": privacy})


def cost_of(config: ServerConfig) -> float:
    """mu^2 of a whole run; of a training with the verdict on its model, where there is one."""
    delta = noise_delta(config.privacy.dp, config.privacy.delta)
    judged = config.judging.epsilon if not only_counts(config.training.algorithm) else 0.0
    return sum(mu_of(epsilon=each, delta=delta) ** 2 for each in (config.privacy.epsilon, judged) if each)


@dataclass(frozen=True)
class Budget:
    """A budget of several runs together.

    Attributes:
        name: "lifetime" or "period".
        most: the most mu^2 to spend.
        spent: mu^2 spent so far.
        until: when it ends, seconds since 1970; infinity: never.
        open: whether it pays for any further attempt: the reserved part of delta is for a limited number only.
    """

    name: str
    most: float
    spent: float
    until: float
    open: bool = True

    @property
    def left(self) -> float:
        """The mu^2 that is left."""
        return max(0.0, self.most - self.spent) if self.open else 0.0

    def covers(self, cost: float) -> bool:
        """Whether it can pay for another whole run."""
        return self.open and self.spent + cost <= self.most * (1 + 1e-9)


def budgets_of(config: ServerConfig, ledger: Ledger, *, now: float) -> tuple[Budget, Budget]:
    """The budgets of the population's lifetime and of its present period.

    Lost charges of a restored ledger count in the period of its restoration, as the start of their runs is unknown.

    Args:
        config: the operator's configuration.
        ledger: the population's ledger.
        now: seconds since 1970.
    """
    entries, period = ledger.entries(), period_of(config, now)
    delta = noise_delta(config.privacy.dp, config.privacy.delta)
    lifetime = min((entry.mu2 for entry in entries if entry.kind == "budget"), default=0.0)
    runs = {
        entry.run for entry in entries if entry.kind == "open" and entry.facts.get("about", {}).get("period") == period
    }
    return (
        Budget("lifetime", lifetime, ledger.spent(), math.inf, open=not _exhausted(config, ledger)),
        Budget(
            "period",
            mu_of(epsilon=config.privacy.period_epsilon, delta=delta) ** 2,
            total_mu2(
                [
                    *(entry.mu2 for entry in entries if entry.kind == "charge" and entry.run in runs),
                    *(lost for at, lost in _lost(entries) if period_of(config, at) == period),
                ]
            ),
            (period + 1) * config.privacy.period_days * DAY,
        ),
    )


def _lost(entries: Iterable[Entry]) -> Iterator[tuple[float, float]]:
    """Each restoration's time, seconds since 1970, and the mu^2 that was spent before and is in no charge."""
    known = 0.0
    for entry in entries:
        if isinstance(entry, ChargeEntry):
            known += entry.mu2
        elif isinstance(entry, RestoredEntry):
            if entry.created is not None:
                yield datetime.fromisoformat(entry.created).timestamp(), max(0.0, entry.spent - known)
            known = max(known, entry.spent)


def check_budgets(config: ServerConfig, ledger: Ledger, *, now: float) -> None:
    """Refuse to open a run that the budget of the population's lifetime or period can't pay for as a whole.

    Raises:
        BudgetError: it is refused; the message has the budget and its rest. Unit: user; adjacency: zero-out.
    """
    if _exhausted(config, ledger):
        raise BudgetError(
            f"the lifetime's attempts must be fewer than {MAX_ATTEMPTS}, for which a part of delta is kept, and are as "
            "many: no further run with dp distributed can be charged to this population"
        )
    cost = cost_of(config)
    for budget in budgets_of(config, ledger, now=now):
        if not budget.covers(cost):
            raise BudgetError(
                f"the {budget.name} budget must cover a whole run, got mu^2 {budget.spent:.4g} spent + {cost:.4g} > "
                f"{budget.most:.4g} (unit user, zero-out, delta {config.privacy.delta:g}): wait for the next period or "
                "use a smaller `privacy.epsilon`"
            )


def _exhausted(config: ServerConfig, ledger: Ledger) -> bool:
    """Whether the population has had all attempts for which a part of delta is reserved, and a run would need more."""
    return config.privacy.mode.cohort and sum(map(reserves, ledger.entries())) >= MAX_ATTEMPTS
