"""PageFacts: everything that the user's page tells, read from the store at one moment. Reading changes nothing.

    store, consent, privacy report, statement, record of messages, recommender -> PageFacts -> page.py

All of it is bounded, whatever the store holds: counts are made by the database (`totals.py`), and of lists the latest
entries are taken, with the number of those before.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

from palate_client.consent import PURPOSES, Decision, Purpose
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.record import Allowance, Delivery, kept_record
from palate_client.delivery.rules import Reason
from palate_client.events import Event, kept_event
from palate_client.leaving.statement import Statement, most_right
from palate_client.ledger.reliance import Reliance, worst_case_costs
from palate_client.page.totals import EventCounts
from palate_client.recommend.recommender import ModelRecommender, Recommendation
from palate_client.rounds.report import PrivacyReport
from palate_client.service import Service
from palate_client.store.store import EventStore
from palate_common.models.published import Published
from palate_core.accounting import total_mu2
from palate_core.errors import InputError, IntegrityError, PalateError

EVENTS, SHOWN, ROUNDS, MESSAGES, TASTES, WEEKS = 12, 8, 12, 8, 8, 26
"""The most events, recommendations, rounds, messages, parts of the taste and weeks on a page."""

_Made = TypeVar("_Made")

Tags = Mapping[str, str | Sequence[str]]
"""Item id -> its tags, such as genres."""


@dataclass(frozen=True)
class SpentBudget:
    """What was spent of the user's limit, and what can be told from it.

    Attributes:
        spent: share of the limit, from 0 to 1; None if something left without noise.
        shares: (run, round, attempt) -> the share of the limit that it cost.
        right: the most right answers of 100 to whether the user's data was in; None if nothing bounds it.
        right_at_end: the same once the whole limit is spent.
        right_alone: the same as `right` if all other devices are the operator's; None if nothing bounds it.
        relies: the assumptions of `right`.
    """

    spent: float | None
    shares: Mapping[tuple[str, int, int], float]
    right: float | None
    right_at_end: float
    right_alone: float | None
    relies: Reliance


@dataclass(frozen=True, kw_only=True)
class PageFacts:
    """What a page tells.

    Attributes:
        app: the app's name.
        time: of the page, seconds since 1970.
        calendar: the user's days and hours.
        counted: the counts of all events.
        first: when the first event was, if it was deleted since.
        days: number of the user's active days, and the first.
        weeks: Monday of each of the latest weeks -> the user's actions in it, oldest first.
        events: the latest events, newest first.
        tastes: parts of the taste with their shares, largest first; the rest under "".
        shown: what is recommended.
        learned: of how many people the model says something: of others, where it was made elsewhere and too few have
            taken part in its population; 0 of nobody; None: of its own.
        unranked: why nothing is, in words, if that is an error; empty if there is no model, or there are some.
        report: the privacy report.
        statement: what would remain if the user left now; None if it can't be made.
        unstated: why not, in words.
        budget: what was spent; None without a service, or if the ledger can't be read.
        decided: purpose -> the latest decision.
        messages: the latest messages, newest first, and reason -> number of all that are kept.
        allowances: channel -> the latest decision.
    """

    app: str
    time: float
    calendar: Calendar
    counted: EventCounts
    first: float | None
    days: tuple[int, date | None]
    weeks: Mapping[date, int]
    events: tuple[Event, ...]
    tastes: tuple[tuple[str, float], ...]
    shown: tuple[Recommendation, ...]
    learned: int | None
    unranked: str
    report: PrivacyReport
    statement: Statement | None
    unstated: str
    budget: SpentBudget | None
    decided: Mapping[Purpose, Decision]
    messages: tuple[tuple[Delivery, ...], Mapping[Reason, int]]
    allowances: Mapping[str, Allowance]


def facts_of(
    *,
    app: str,
    store: EventStore,
    service: Service | None,
    calendar: Calendar,
    counted: EventCounts,
    report: PrivacyReport,
    statement: Callable[[], Statement],
    recommender: Callable[[], ModelRecommender | None],
    model: Callable[[], Published | None],
    tags: Tags,
) -> PageFacts:
    """Read the facts.

    Args:
        app: the app's name.
        store: the user's events.
        service: the service; None: the app has none.
        calendar: the user's calendar.
        counted: the counts of all events.
        report: the privacy report of this moment.
        statement: makes the statement.
        recommender: returns the recommender, or None if there is no model.
        model: returns the published model in use, or None if there is none.
        tags: item id -> its tags; an item without any counts for its domain.

    Raises:
        PalateError: a file of the store can't be read.
    """
    by_day = counted.days(calendar)
    stated, unstated = _try_to_make(statement)
    ranker, unranked = _try_to_make(recommender)
    published, _ = _try_to_make(model)  # of one that is damaged the recommender says so
    with kept_record(store.file) as record:
        messages = ((), {}) if record is None else (record.latest(MESSAGES), record.reasons())
        allowances = () if record is None else record.allowances()
    return PageFacts(
        app=app,
        time=report.time,
        calendar=calendar,
        counted=counted,
        first=store.first(),
        days=(len(by_day), next(iter(by_day), None)),
        weeks=_weeks(by_day, calendar, report.time),
        events=_latest(store),
        tastes=() if ranker is None else _tastes(ranker.liked_items(), tags),
        shown=() if ranker is None else tuple(ranker.recommend(SHOWN, explore=0.0)),
        learned=None if published is None else published.elsewhere,
        unranked=unranked,
        report=report,
        statement=stated,
        unstated=unstated,
        budget=None if service is None else _budget(report, service),
        decided={decision.purpose: decision for decision in report.decisions if decision.purpose in PURPOSES},
        messages=messages,
        allowances={each.channel: each for each in allowances},
    )


def _try_to_make(make: Callable[[], _Made]) -> tuple[_Made | None, str]:
    """What a function makes, or why it can't."""
    try:
        return make(), ""
    except (InputError, IntegrityError) as error:
        return None, str(error)


def _latest(store: EventStore) -> tuple[Event, ...]:
    """The latest events, newest first, without those that only a newer version can read."""
    query = "SELECT kind, item, time, value, source, id FROM events ORDER BY seq DESC LIMIT ?"
    with store.transaction() as connection:
        rows = connection.execute(query, (EVENTS,)).fetchall()
    found = []
    for row in rows:
        try:
            found.append(kept_event(*row, None))
        except (PalateError, ValueError, TypeError):
            continue
    return tuple(sorted(found, key=_when, reverse=True))


def _when(event: Event) -> float:
    return event.time if isinstance(event.time, int | float) else 0.0


def _weeks(by_day: Mapping[date, int], calendar: Calendar, now: float) -> dict[date, int]:
    """The actions in each of the latest weeks, from the first with any."""
    today = date.fromisoformat(calendar.moment(now).day)
    monday = today - timedelta(days=today.weekday())
    weeks = [monday - timedelta(weeks=back) for back in reversed(range(WEEKS))]
    found = dict.fromkeys(weeks, 0)
    for day, count in by_day.items():
        if (week := day - timedelta(days=day.weekday())) in found:
            found[week] += count
    while found and len(found) > 1 and not found[first := next(iter(found))]:
        del found[first]
    return found


def _tastes(liked: Sequence[tuple[str, float, str | None]], tags: Tags) -> tuple[tuple[str, float], ...]:
    """The parts of the taste: an item's weight is shared among its tags."""
    found = defaultdict[str, float](float)
    for item, weight, domain in liked:
        own = tags.get(item) or domain or ()
        named = (own,) if isinstance(own, str) else tuple(own)
        for tag in named:
            found[str(tag)] += weight / len(named)
    total = math.fsum(found.values())
    if not total > 0:
        return ()
    best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    shares = [(tag, weight / total) for tag, weight in best[:TASTES]]
    rest = math.fsum(weight for _, weight in best[TASTES:]) / total
    return (*shares, ("", rest)) if rest > 0 else tuple(shares)


def _budget(report: PrivacyReport, service: Service) -> SpentBudget | None:
    """What was spent; in mu^2, in which the costs of rounds add up."""
    spending = report.spending
    if spending is None:
        return None
    limit, reserved = service.limit_mu2, service.delta - service.noise_delta
    trusts = [receipt.trust for receipt in spending.receipts]
    costs = worst_case_costs(trusts)
    bounded = spending.epsilon is not None
    return SpentBudget(
        spent=min(1.0, spending.mu2 / limit) if bounded else None,
        shares={(each.run, each.round, each.attempt): each.mu2 / limit for each in spending.receipts},
        right=_of_100(spending.mu2, reserved) if bounded else None,
        right_at_end=_of_100(limit, reserved),
        right_alone=None if costs is None or not bounded else _of_100(total_mu2(costs), reserved),
        relies=Reliance.of(trusts),
    )


def _of_100(mu2: float, reserved: float) -> float:
    """The most right answers of 100, rounded up to a tenth."""
    right = most_right(mu=math.nextafter(math.sqrt(mu2), math.inf) if mu2 else 0.0, reserved=reserved)
    return math.ceil(right * 1000 - 1e-9) / 10
