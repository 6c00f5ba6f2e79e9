"""Survey answers: this device's answers to a survey, from its own events and messages.

    EventStore, Record -> OwnAnswers (a batch of one) -> clipping, noise and sending as in training

Each answer is a number from 0 to 1, with the bounds of `palate_common.survey`, whatever the user did.
"""

from __future__ import annotations

import logging
import math
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.record import GOOD, Delivery, arm_of, record_of
from palate_client.delivery.rules import Reason
from palate_client.events import Event
from palate_client.loyalty import DAY
from palate_client.rounds.loyalty_answers import SurveyEvent, loyalty_answers
from palate_client.store.activity import PASSIVE, money
from palate_client.store.store import EventStore
from palate_common.interactions import Interactions
from palate_common.kinds import is_answer
from palate_common.survey import MOST_ITEMS, MOST_SENT, OUTCOMES, RETENTION_DAYS, Survey
from palate_core.errors import RefusedError
from palate_core.plan import RoundPlan

logger = logging.getLogger("palate")

TAKEN_WITHIN = DAY
CUTOFF = 10
"""Length of the lists for HR and NDCG."""
MONTH = 30


def survey_of(plan: RoundPlan) -> Survey:
    """The survey of a plan.

    Raises:
        RefusedError: the plan's settings aren't a known survey's.
    """
    try:
        return Survey.model_validate(plan.settings)
    except ValidationError:
        raise RefusedError("a survey must be one that this device knows, got other settings") from None


@dataclass(frozen=True)
class Behaviour:
    """The data that answers are computed from.

    Attributes:
        events: the events, ascending in time.
        deliveries: the messages of this device.
        control: whether it is in the control group, which gets no messages; None if it has no messenger.
        arms: its arm, `a` or `b`, in each experiment that it takes part in.
        first: time of the user's first event, if it was deleted since; None if nothing was deleted.
    """

    events: Sequence[SurveyEvent]
    deliveries: Sequence[Delivery]
    control: bool | None
    arms: Mapping[str, str]
    first: float | None = None


@dataclass(frozen=True)
class OwnAnswers:
    """The user's answers as a batch of one, computed when needed.

    **Guarantees:** whether there are answers does not depend on what the user did.

    Attributes:
        store: the user's events; the record of messages lies beside it.
        survey: the questions.
        calendar: the user's calendar.
    """

    store: EventStore
    survey: Survey
    calendar: Calendar

    @property
    def n_users(self) -> int:
        """Number of users: one."""
        return 1

    @property
    def n_items(self) -> int:
        """Number of questions."""
        return len(self.survey.places)

    def users(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Interactions:
        """The user's answers."""
        return as_interactions([self._answers()], self.survey).users(rows)

    def _answers(self) -> Mapping[str, float]:
        """The answers; after an error none, because a missing answer would say something about the user."""
        try:
            return answers(self.survey, self._behaviour(), self.calendar)
        except Exception as error:
            logger.warning("a survey is answered as if there were no events: %r", error)
            return {}

    def _behaviour(self) -> Behaviour:
        now = self.store.clock()
        known = (
            SurveyEvent(min(event.time, now), event.kind, event.item, event.value, _position(event), *_amounts(event))
            for event in self.store.events()
            if isinstance(event.time, float)
        )
        events, first = sorted(known, key=lambda each: each.time), self.store.first()
        with record_of(self.store.file) as record:
            coins = record.coins()
            return Behaviour(
                events=events,
                deliveries=record.all(),
                control=record.in_control(),
                arms={name: arm_of(coins[f"arm:{name}"]) for name in self.survey.experiments if f"arm:{name}" in coins},
                first=first,
            )


def as_interactions(given: Sequence[Mapping[str, float]], survey: Survey) -> Interactions:
    """Answers by question as rows over the survey's catalogue, one per device; an answer of 0 is left out."""
    owners, places, values = [], [], []
    for owner, each in enumerate(given):
        for question, value in each.items():
            if value > 0:
                owners.append(owner)
                places.append(survey.places[question])
                values.append(min(value, 1.0))
    return Interactions.from_pairs(owners, places, values, n_users=len(given), n_items=len(survey.places))


def answers(survey: Survey, behaviour: Behaviour, calendar: Calendar) -> dict[str, float]:
    """One device's answers, by question; a missing one is 0.

    Args:
        survey: the questions.
        behaviour: the user's behaviour.
        calendar: the user's calendar.
    """
    dated = [(calendar.moment(event.time).day, event) for event in behaviour.events]
    days = sorted({day for day, event in dated if event.kind not in PASSIVE})
    week = set(survey.days)
    this_week = [event for day, event in dated if day in week]
    active = [day for day in days if day in week]
    found: dict[str, float] = {f"active:{day}": 1.0 for day in active}
    last = date.fromisoformat(survey.days[-1]).toordinal()
    found["week"] = float(bool(active))
    found["month"] = float(any(last - MONTH < date.fromisoformat(day).toordinal() <= last for day in days))
    gone = [] if behaviour.first is None else [calendar.moment(behaviour.first).day]
    found |= dict(_retention(survey, sorted({*gone, *days})))
    found |= _delivery(survey, behaviour.deliveries, calendar)
    found |= _online(this_week, behaviour.events)
    verdicts = [event.value for event in this_week if event.kind == "rate" and event.value is not None]
    if verdicts:
        found |= {"rated": 1.0, "verdict": min(max((sum(verdicts) / len(verdicts) - 1) / 4, 0.0), 1.0)}
    share = len(active) / 7
    if behaviour.control is not None:
        group = "control" if behaviour.control else "treated"
        found |= {group: 1.0, f"{group}_days": share}
    found |= {f"item:{item}": 1.0 for item in _items(survey, this_week)}
    chosen = loyalty_answers(survey, this_week, dated)
    found |= {question: value for question, value in chosen.items() if question in survey.places}
    for name in survey.experiments:
        if (arm := behaviour.arms.get(name)) is not None:
            outcome = {"days": share, **chosen}.get(OUTCOMES[survey.outcomes.get(name, "days")], 0.0)
            found |= {f"users:{name}:{arm}": 1.0, f"outcome:{name}:{arm}": outcome, f"square:{name}:{arm}": outcome**2}
    return found


def _retention(survey: Survey, days: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Answers for days 1, 7 and 30 after the first that fall into the week; two of them at most."""
    if not days:
        return
    first, known = date.fromisoformat(days[0]).toordinal(), {date.fromisoformat(day).toordinal() for day in days}
    start = date.fromisoformat(survey.first_day).toordinal()
    told = 0
    for n in RETENTION_DAYS:
        if start <= first + n < start + 7 and told < 2:
            told += 1
            later = any(first + n <= day < start + 7 for day in known)
            yield from ((f"eligible:{n}", 1.0), (f"exact:{n}", float(first + n in known)), (f"after:{n}", float(later)))


def _delivery(survey: Survey, deliveries: Sequence[Delivery], calendar: Calendar) -> dict[str, float]:
    """Messages of the week by channel, and how many of them got a reaction, without transactional ones."""
    found = dict[str, float]()
    week = set(survey.days)
    brought = [
        each
        for each in deliveries
        if each.reason is Reason.SENT
        and not each.message.transactional
        and each.sent is not None
        and calendar.moment(each.sent).day in week
    ]
    for channel in survey.channels:
        sent = [each for each in brought if each.channel == channel][:MOST_SENT]
        found[f"sent:{channel}"] = len(sent) / MOST_SENT
        found[f"answered:{channel}"] = sum(each.reaction in GOOD for each in sent) / MOST_SENT
    return found


def _online(this_week: Sequence[SurveyEvent], events: Sequence[SurveyEvent]) -> dict[str, float]:
    """HR and NDCG of the week's lists of recommendations. A list begins with the impression at position 0."""
    taken: dict[str, list[float]] = {}
    for event in events:
        if is_answer(event.kind, event.value):
            taken.setdefault(event.item, []).append(event.time)
    lists: list[list[tuple[int, bool]]] = []
    for event in this_week:
        if event.position is None:
            continue
        if event.position == 0 or not lists:
            lists.append([])
        times = taken.get(event.item, [])  # sorted, so that many events on an item cost little
        first = bisect_left(times, event.time)
        lists[-1].append((event.position, first < len(times) and times[first] - event.time <= TAKEN_WITHIN))
    if not lists:
        return {}
    hits, gains = [], []
    for each in lists:
        ranks = [position for position, good in each if good and 0 <= position < CUTOFF]
        relevant = sum(good for _, good in each)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(relevant, CUTOFF)))
        hits.append(float(bool(ranks)))
        gains.append(sum(1 / math.log2(place + 2) for place in ranks) / ideal if ideal else 0.0)
    return {"shown": 1.0, f"hr@{CUTOFF}": sum(hits) / len(hits), f"ndcg@{CUTOFF}": min(sum(gains) / len(gains), 1.0)}


def _items(survey: Survey, this_week: Iterable[SurveyEvent]) -> list[str]:
    """The survey's items on which the user has events; if there are too many, a random choice."""
    did = sorted({event.item for event in this_week if event.kind not in PASSIVE} & set(survey.items))
    while len(did) > MOST_ITEMS:
        did.pop(secrets.randbelow(len(did)))
    return did


def _amounts(event: Event) -> tuple[float | None, float | None]:
    """The amount and the length of an event."""
    props = event.props or {}
    return money(props.get("amount")), money(props.get("length"))


def _position(event: Event) -> int | None:
    """The position of an impression in its list, as `feedback` wrote it."""
    position = (event.props or {}).get("position") if event.kind == "impression" else None
    return position if isinstance(position, int) and not isinstance(position, bool) else None
