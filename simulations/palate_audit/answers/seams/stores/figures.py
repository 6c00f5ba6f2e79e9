"""Figures: events of all members, and how loyal those are who made them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.stores import NOW
from palate_audit.answers.made.telling import as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_client.delivery.calendar import Calendar
from palate_client.events import KINDS, Event, check_items, event_from, event_line, kept_event, seconds
from palate_client.loyalty import churn_risk, loyalty, visits_of
from palate_client.store.activity import past_of
from palate_client.store.retention import DAY


def _member(dice: Dice, name: str) -> Any:
    """A member of an event, good or bad, as Python or JSON has it."""
    deep: Any = 1
    shape = dice.whole(0, 2)
    for _ in range(dice.whole(14, 17)):
        deep = [deep] if shape == 0 else (deep,) if shape == 1 else {"a": deep}
    zone = timezone(timedelta(hours=dice.whole(-11, 11)))
    options: dict[str, tuple[Any, ...]] = {
        "kind": (*KINDS, *KINDS, "wave", None, 3),
        "item": ("a", "a", "b" * 512, "b" * 513, "", None, 7, "\ud800", "ü"),
        "time": (None, 5, 5.5, NOW, 1e11, 1e11 - 1, -1e11, 1 - 1e11, float("nan"), True, "yesterday", "12",
                 datetime(2026, 3, 1, 4, tzinfo=zone), datetime(2026, 3, 1), "2026-01-31", "2026-01-31T05:06:07Z",
                 "2026-01-31T05:06:07", "2026-01-31T05:06:07+02:00"),
        "value": (None, 0, 1, 5, 5.01, 0.99, -1, -0.5, 3.5, True, "4", float("inf"), 10**400, float("nan"), 1.7e308),
        "source": ("online", "offline", "till", None),
        "id": ("", "i1", "i" * 128, "i" * 129, 7, None, "\udfff"),
        "props": (None, {}, {"a": 1}, {"b": deep}, {"a": "x" * 4088}, {"a": "x" * 4089}, [1], {"a": float("nan")},
                  {"a": [0] * 5000}, {"ü": [(1, 2)]}, {"a": {}}),
    }  # fmt: skip
    return dice.one_of(options[name])


def _events(dice: Dice, answer: CaseAnswer) -> None:
    """Events of all members."""
    for _ in range(14):
        given: dict[str, Any] = {"kind": dice.one_of(KINDS), "item": "a"}
        if given["kind"] == "rate" and dice.chance(0.8):
            given["value"] = _member(dice, "value")
        for name in dice.some_of(("kind", "item", "time", "value", "source", "id", "props"), 0.25):
            given[name] = _member(dice, name)
        made = tell_text(answer, lambda given=given: Event(**given))
        if dice.chance(0.1):
            given["more"] = 1
        read = tell_refusal(answer, event_from, given)
        for each in (made, read):
            if each is not None:
                answer.tell(as_text(each), event_line(each), bool(each == read))
        if read is not None:
            tell_text(answer, event_from, json.loads(event_line(read)))
    tell_text(answer, event_from, {"time": 3})
    tell_text(answer, event_from, {})
    tell_text(answer, kept_event, dice.one_of((*KINDS, "wave")), "a", None, 7.0, "till", "", None)
    tell_text(answer, seconds, _member(dice, "time"))
    for ids in (None, "abc", b"ab", ["a"], 7, dice.one_of((iter("a"), {"a": 1}, 1.5))):
        tell_text(answer, check_items, "exclude", ids)


def _loyalty(dice: Dice, answer: CaseAnswer) -> None:
    """Figures of users who come often, seldom, once or never."""
    now = NOW - NOW % DAY + dice.one_of((0.0, 900.0, DAY / 2, DAY - 0.25))
    zone: Any = dice.one_of(("UTC", timezone(timedelta(hours=dice.whole(-11, 13)))))
    spans = (3, 100, 3000, 40_000)
    n = dice.one_of((0, 1, 2, 3, 12, 40))
    steps = dice.wholes(0, dice.one_of(spans), n) * 900
    edges = [30 * DAY, DAY, 7 * DAY, 30 * DAY + 900.0, 365 * DAY, 365 * DAY - 0.25, 1800.0, 1800.25, -900.0, 0.0]
    times = [now - float(each) for each in steps] + (
        [now - each for each in dice.some_of(edges, 0.4)] if dice.chance(0.5) else []
    )
    if dice.chance(0.4) and times:
        times += [min(times) + day * DAY for day in dice.some_of((1, 7, 30, 2), 0.5)]
    rows = [(time, dice.one_of(("view", "view", "impression", "purchase", "rate")), dice.one_of((None, 1.0, 2.5)),
             dice.one_of((None, 9.5, 0.0, 3.25))) for time in times]  # fmt: skip
    if dice.chance(0.3):
        rows = [(time, kind, number, None) for time, kind, number, _ in rows]
    past = past_of(dice.shuffled(rows))
    answer.tell(as_text(past))
    first = dice.one_of((None, None, now - 900 * DAY, now - 31 * DAY, now - 8 * DAY, now + DAY))
    found = loyalty(past, now=now, calendar=Calendar(zone), first=first)
    answer.tell(
        as_text(
            [
                each
                for name, each in asdict(found).items()
                if name not in ("churn_risk", "visit_minutes", "recency_days", "stickiness")
            ]
        )
    )
    answer.tell(found.churn_risk, found.visit_minutes, found.recency_days, found.stickiness)
    begun, ended = visits_of(np.minimum(past.active, now))
    answer.tell(as_text(begun), as_text(ended))
    if len(begun):
        answer.tell(churn_risk(begun, now=now - dice.one_of((0.0, 1e9, -1e9))))
    if dice.chance(0.2):
        answer.tell(churn_risk([0.0, *[1e5 + k for k in range(3000)]], now=1e12))


SEAMS: tuple[Seam, ...] = (
    Seam("events: every member, good and bad", _events, 36),
    Seam("loyalty: visits, money and who is gone", _loyalty, 36),
)
