"""Loyalty answers: what a device answers to a survey's blocks about buying and watching, from the user's own events.

Each is a number from 0 to 1, as all `palate_client.rounds.survey_answers`; `palate_common.survey.CHOSEN` names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np

from palate_client.loyalty import visits_of
from palate_common.survey import FINISHED, MOST_BASKETS, MOST_INTERVAL, MOST_MINUTES, YEAR, Survey


class SurveyEvent(NamedTuple):
    """One event, with the members that surveys need.

    Attributes:
        time: seconds since 1970.
        kind: what the user did.
        item: the item's id.
        value: see `palate_common.kinds.KINDS`.
        position: position of an impression in its list, from 0.
        amount: what was paid for a purchase, or paid back for a return.
        length: seconds that a whole play takes.
    """

    time: float
    kind: str
    item: str
    value: float | None = None
    position: int | None = None
    amount: float | None = None
    length: float | None = None


def loyalty_answers(
    survey: Survey, week: Sequence[SurveyEvent], dated: Iterable[tuple[str, SurveyEvent]]
) -> dict[str, float]:
    """The answers to the blocks that a survey may choose.

    Args:
        survey: the questions.
        week: the events of its week, ascending in time.
        dated: all events, with the user's day of each.
    """
    return (
        _conversion(week)
        | _repurchase(survey, [day for day, event in dated if event.kind == "purchase"])
        | _spending(week, survey.most_spent)
        | _watching(week)
    )


def _conversion(week: Sequence[SurveyEvent]) -> dict[str, float]:
    seen = dict[str, float]()
    bought = converted = False
    for event in week:
        if event.position is not None:
            seen.setdefault(event.item, event.time)
        if event.kind == "purchase":
            bought, converted = True, converted or event.item in seen
    return {"saw": float(bool(seen)), "converted": float(converted), "bought": float(bought)}


def _repurchase(survey: Survey, bought: Sequence[str]) -> dict[str, float]:
    last = date.fromisoformat(survey.days[-1]).toordinal()
    days = sorted({number for day in bought if last - YEAR < (number := date.fromisoformat(day).toordinal()) <= last})
    if len(days) < 2:
        return {"customers": float(len(days))}
    apart = (days[-1] - days[0]) / (len(days) - 1)
    return {"customers": 1.0, "repeated": 1.0, "interval": min(apart, MOST_INTERVAL) / MOST_INTERVAL}


def _spending(week: Sequence[SurveyEvent], most: float) -> dict[str, float]:
    paid = [event for event in week if event.kind in ("purchase", "return") and event.amount is not None]
    times = np.array([event.time for event in paid if event.kind == "purchase"])
    if not len(times):
        return {}
    total = sum((event.amount or 0.0) * (1 if event.kind == "purchase" else -1) for event in paid)
    baskets = len(visits_of(times)[0])
    return {
        "spent": 1.0,
        "baskets": min(baskets, MOST_BASKETS) / MOST_BASKETS,
        "revenue": min(max(total, 0.0), most) / most,
    }


def _watching(week: Sequence[SurveyEvent]) -> dict[str, float]:
    played = [event for event in week if event.kind == "play" and event.value]
    if not played:
        return {}
    minutes = sum(event.value or 0.0 for event in played) / 60
    found = {"watched": 1.0, "minutes": min(minutes, MOST_MINUTES) / MOST_MINUTES}
    whole = [(event.value or 0.0) >= FINISHED * event.length for event in played if event.length]
    return found | ({"played": 1.0, "finished": sum(whole) / len(whole)} if whole else {})
