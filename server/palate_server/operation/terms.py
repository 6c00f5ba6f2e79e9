"""Terms of the next run, from the operator's configuration and public facts alone; and budgets.

No filter, size or choice depends on users' behaviour: the cohort's size stands for the number of users, and the
catalogue is the operator's.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from palate_common.algorithms import State, algorithm_class
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.links import panel_size
from palate_common.algorithms.parts.panel import PANEL_INPUTS, has_panel, takes_panel
from palate_core.accounting import mu_of, total_mu2
from palate_core.cohort_terms import MAX_ATTEMPTS
from palate_core.errors import BudgetError, InputError
from palate_core.log.canonical import digest
from palate_server.folder.config import ServerConfig
from palate_server.ledger.history import ChargeEntry, Entry, RestoredEntry, reserves
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms, make_terms, noise_delta

DAY = 86400.0
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
        about={
            **about,
            **_panel(inputs, about),
            **_profile(config),
            "deployed": True,
            "period": period_of(config, now),
        },
    )


def _profile(config: ServerConfig) -> dict[str, Any]:
    """What a run's terms say about the server's profile; {} without one."""
    return {} if config.profile is None else {"profile": config.profile}


def _panel(inputs: State, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's terms say about its panel, with what the operator said of it; {} without one."""
    if not has_panel(inputs):
        return {}
    opened = {name: inputs[name] for name in PANEL_INPUTS}
    facts = {"users": panel_size(inputs), "hash": digest(pack_inputs(opened))}
    return {"panel": {"origin": GIVEN, **about.get("panel", {}), **facts}}


def check_config(config: ServerConfig, *, n_items: int, inputs: State) -> None:
    """Refuse a configuration with which no run could be opened, before devices are invited.

    Raises:
        InputError: its cohort, epsilon, algorithm, features or delta don't fit each other.
    """
    if config.cohort.subcohorts > 1 and not config.privacy.mode.cohort:
        raise InputError(f"`cohort.subcohorts` must be 1 with dp {config.privacy.dp}, got {config.cohort.subcohorts}")
    next_terms(config, catalogue="", n_items=n_items, inputs=inputs, about={}, now=0.0)


def cost_of(config: ServerConfig) -> float:
    """mu^2 of a whole run."""
    return mu_of(epsilon=config.privacy.epsilon, delta=noise_delta(config.privacy.dp, config.privacy.delta)) ** 2


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
