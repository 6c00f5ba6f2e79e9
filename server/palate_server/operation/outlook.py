"""Outlook: when the server's next run is due and why, and what its budgets allow.

    ledger, configuration, clock -> Budgets -> when the next run is due, and what it could have

All of it is read from the server folder's files, whether the server runs or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from palate_core.accounting import epsilon_of
from palate_core.errors import PalateError
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventSummary, at
from palate_server.folder.server_folder import Site, site_signs
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import added_items
from palate_server.operation.restraint import restraint_of
from palate_server.operation.schedule import next_run, unfinished_run
from palate_server.operation.terms import Budget, budgets_of, cost_of
from palate_server.rounds.terms import noise_delta


@dataclass(frozen=True)
class Outlook:
    """The outlook. Epsilon: unit user (one installation), adjacency zero-out, at `privacy.delta`.

    Attributes:
        now: the time of the outlook, ISO 8601 in the zone of this machine, like every time here.
        period: end of the budget's period, and what is spent in it: epsilon, epsilon_limit, mu2, mu2_limit.
        next_run: when it is due (None: never, or not before somebody acts), why not sooner, and the epsilon that it
            could have; 0 if it is refused, for the period or for ever.
        voids: charged attempts in a row without a release; a running one is included.
    """

    now: str
    period: dict[str, Any]
    next_run: dict[str, Any]
    voids: int

    def as_dict(self) -> dict[str, Any]:
        """The outlook as JSON values."""
        return asdict(self)


def read_outlook(site: Site, *, now: float, told: EventSummary | None = None) -> Outlook:
    """Read the outlook of a server folder.

    Args:
        site: the server folder.
        now: seconds since 1970.
        told: what its events say; None: they are read.

    Raises:
        InputError, IntegrityError: one of its files is invalid.
    """
    config, delta = site.config, noise_delta(site.config.privacy.dp, site.config.privacy.delta)
    with site.reading() as ledger:
        entries = ledger.entries()
        lifetime, period = budgets_of(config, ledger, now=now)
        told = told or EventSummary(site.events).follow()
        due, why = _next(site, ledger, (lifetime, period), told, now=now)
    return Outlook(
        now=local(now),
        period={
            "until": local(period.until),
            "epsilon": epsilon(period.spent, delta),
            "epsilon_limit": config.privacy.period_epsilon,
            "mu2": period.spent,
            "mu2_limit": period.most,
        },
        next_run={
            "at": None if due is None else local(due),
            "why": why,
            "epsilon": could_have(config, (lifetime, period)),
        },
        voids=restraint_of(site).in_vain(entries),
    )


def could_have(config: ServerConfig, budgets: Iterable[Budget]) -> float:
    """The epsilon that one more run could have now if it used all that is left; 0: it is refused."""
    delta = noise_delta(config.privacy.dp, config.privacy.delta)
    cost = cost_of(config)
    left = [budget.left if budget.covers(cost) else 0.0 for budget in budgets]
    return epsilon(min(left), delta)


def local(time: float) -> str:
    """A time as text, in the zone of this machine."""
    return datetime.fromtimestamp(time, UTC).astimezone().isoformat(timespec="seconds")


def epsilon(mu2: float, delta: float) -> float:
    """Convert mu^2 of a composition to epsilon at delta."""
    return epsilon_of(mu=math.sqrt(mu2), delta=delta) if mu2 > 0 else 0.0


def _next(
    site: Site, ledger: Ledger, budgets: tuple[Budget, Budget], told: EventSummary, *, now: float
) -> tuple[float | None, str]:
    """When a run is due, and what it waits for; None: never, or not before somebody acts."""
    config, entries, restraint = site.config, ledger.entries(), restraint_of(site)
    if restraint.under_way:
        return now, "an attempt is under way"
    if not site_signs(site):
        return None, "the release key can't be read"
    if told.since("unwitnessed", "witnessed", "serving") is not None:
        return None, "`backup.witness` can't be written"
    if told.since("uncosigned", "cosigned", "serving") is not None:
        return None, f"too few of the {len(config.witnesses.keys)} witnesses cosign the ledger"
    vain = restraint.in_vain(entries)
    if restraint.exhausted(entries):
        return None, f"{vain} charges in a row have released nothing: training waits for `palate serve resume`"
    goes_on = unfinished_run(ledger) is not None
    try:
        added_items(site)
    except PalateError:
        if not goes_on:
            return None, "`items` can't be published"
    waits = [
        (now, "now, when enough devices are there"),
        (restraint.until(entries), f"{vain} charge(s) in a row have released nothing"),
    ]
    missed = told.last.get("no cohort")
    if missed is not None and missed.get("kind") != "survey":  # training doesn't wait for one
        waits.append((at(missed) + config.cohort.pause_seconds, "too few devices came"))
    if not goes_on:
        every, after = config.training.every_hours, config.cohort.pause_seconds
        waits.append((next_run(ledger, every_hours=every, pause=after), "`training.every_hours` after the last"))
        cost = cost_of(config)
        waits += [
            (budget.until, f"the {budget.name} budget can't pay for a whole run")
            for budget in budgets
            if not budget.covers(cost)
        ]
    due, why = max(waits, key=lambda wait: wait[0])
    return (None if math.isinf(due) else due), why
