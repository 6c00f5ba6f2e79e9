"""Outlook: when the server's next run is due and why, what its budgets allow, and the latest problem.

    ledger, configuration, clock -> Budgets -> when the next run is due, and what it could have
    events                       -> since when each part runs; the latest problem, and what to do about it

All of it is read from the server folder's files, whether the server runs or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from palate_core.accounting import epsilon_of
from palate_core.errors import PalateError
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventLog, told_reason
from palate_server.folder.server_folder import Site, site_signs
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import added_items
from palate_server.operation.restraint import restraint_of
from palate_server.operation.schedule import next_run, unfinished_run
from palate_server.operation.terms import Budget, budgets_of, cost_of
from palate_server.rounds.terms import noise_delta

TROUBLES = {
    "failed": "read logs/serverapp.log; the ServerApp is started again by itself",
    "restarted": "read the log of that part; it was started again by itself",
    "lost": "the ServerApp ended in a charged attempt: look at logs/serverapp.log, and at the machine's memory",
    "unwitnessed": "make `backup.witness` writable: nothing is charged until it is",
    "uncosigned": "see that enough of `witnesses.urls` answer, and watch this ledger: nothing is charged until they do",
    "aborted": "docs/operations.md has the reason; it is tried again, up to `cohort.attempts` charges in a row",
    "refused": "wait for the next period, or, where the lifetime is used up, begin a new population",
    "no cohort": "a longer `cohort.wait_seconds`, a smaller `cohort.size`, or more devices",
    "items refused": "mend `items`, or give the new list by `palate serve items`; no training begins before",
    "held": "leave the old model, from which the next run starts; or lower the gate and `palate serve release`",
    "survey refused": "the week stays unasked",
    "enrolment failed": "the SuperLink didn't answer: the device tries again by itself",
}
"""What to do about an event that reports a problem."""


@dataclass(frozen=True)
class Outlook:
    """The outlook. Epsilon: unit user (one installation), adjacency zero-out, at `privacy.delta`.

    Attributes:
        now: the time of the outlook, ISO 8601 in the zone of this machine, like every time here.
        period: end of the budget's period, and what is spent in it: epsilon, epsilon_limit, mu2, mu2_limit.
        next_run: when it is due (None: never, or not before somebody acts), why not sooner, and the epsilon that it
            could have; 0 if it is refused, for the period or for ever.
        voids: charged attempts in a row without a release; a running one is included.
        trouble: the latest problem: time, event, reason, what to do, and whether a round was released since; or None.
    """

    now: str
    period: dict[str, Any]
    next_run: dict[str, Any]
    voids: int
    trouble: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """The outlook as JSON values."""
        return asdict(self)


def read_outlook(site: Site, *, now: float, events: Sequence[Mapping[str, Any]] | None = None) -> Outlook:
    """Read the outlook of a server folder.

    Args:
        site: the server folder.
        now: seconds since 1970.
        events: its events in their order, the latest of each kind at least; None: they are read.

    Raises:
        InputError, IntegrityError: one of its files is invalid.
    """
    config, delta = site.config, noise_delta(site.config.privacy.dp, site.config.privacy.delta)
    with site.reading() as ledger:
        entries = ledger.entries()
        lifetime, period = budgets_of(config, ledger, now=now)
        events = EventLog(site.events).latest() if events is None else events
        at, why = _next(site, ledger, (lifetime, period), events, now=now)
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
            "at": None if at is None else local(at),
            "why": why,
            "epsilon": could_have(config, (lifetime, period)),
        },
        voids=restraint_of(site).in_vain(entries),
        trouble=latest_trouble(events),
    )


def could_have(config: ServerConfig, budgets: Iterable[Budget]) -> float:
    """The epsilon that one more run could have now if it used all that is left; 0: it is refused."""
    delta = noise_delta(config.privacy.dp, config.privacy.delta)
    cost = cost_of(config)
    left = [budget.left if budget.covers(cost) else 0.0 for budget in budgets]
    return epsilon(min(left), delta)


def latest_trouble(events: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The latest event that reports a problem, and what to do about it."""
    found: dict[str, Any] | None = None
    for event in events:
        kind = event["event"]
        if kind in TROUBLES:
            found = {"at": _told(event), "event": kind, "reason": told_reason(event)}
            found |= {"do": TROUBLES[kind], "over": False}
        elif kind == "round" and found is not None:
            found["over"] = True
    return found


def since(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Part -> when it was last started; "" is the whole server, "witness" and "witnesses" when last lost or back."""
    found: dict[str, str] = {}
    for event in events:
        match event["event"]:
            case "started":
                found = {"": _told(event)}
            case "restarted":
                found[event["part"]] = _told(event)
            case "serving":
                found["serverapp"] = found["witness"] = _told(event)
            case "witnessed" | "unwitnessed":
                found["witness"] = _told(event)
            case "cosigned" | "uncosigned":
                found["witnesses"] = _told(event)
    return found


def local(at: float) -> str:
    """A time as text, in the zone of this machine."""
    return datetime.fromtimestamp(at, UTC).astimezone().isoformat(timespec="seconds")


def epsilon(mu2: float, delta: float) -> float:
    """Convert mu^2 of a composition to epsilon at delta."""
    return epsilon_of(mu=math.sqrt(mu2), delta=delta) if mu2 > 0 else 0.0


def _told(event: Mapping[str, Any]) -> str:
    return local(_at(event))


def _at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _next(
    site: Site, ledger: Ledger, budgets: tuple[Budget, Budget], events: Sequence[Mapping[str, Any]], *, now: float
) -> tuple[float | None, str]:
    """When a run is due, and what it waits for; None: never, or not before somebody acts."""
    config, entries, restraint = site.config, ledger.entries(), restraint_of(site)
    if restraint.under_way:
        return now, "an attempt is under way"
    if not site_signs(site):
        return None, "the release key can't be read"
    told = {event["event"]: place for place, event in enumerate(events)}
    if told.get("unwitnessed", -1) > max(told.get("witnessed", -1), told.get("serving", -1)):
        return None, "`backup.witness` can't be written"
    if told.get("uncosigned", -1) > max(told.get("cosigned", -1), told.get("serving", -1)):
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
    if "no cohort" in told and events[told["no cohort"]].get("kind") != "survey":  # training doesn't wait for one
        waits.append((_at(events[told["no cohort"]]) + config.cohort.pause_seconds, "too few devices came"))
    if not goes_on:
        every, after = config.training.every_hours, config.cohort.pause_seconds
        waits.append((next_run(ledger, every_hours=every, pause=after), "`training.every_hours` after the last"))
        cost = cost_of(config)
        waits += [
            (budget.until, f"the {budget.name} budget can't pay for a whole run")
            for budget in budgets
            if not budget.covers(cost)
        ]
    at, why = max(waits, key=lambda wait: wait[0])
    return (None if math.isinf(at) else at), why
