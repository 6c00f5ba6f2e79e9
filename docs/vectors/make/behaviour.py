"""behaviour.json: what a device says of its user, and when it may tell them something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from palate_client.delivery.calendar import Calendar, Moment
from palate_client.delivery.channel import CHANNELS
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import CountedDelivery, Reason, hold
from palate_client.loyalty import loyalty, visits_of
from palate_client.recommend.adaptation.tuning import tuning
from palate_client.rounds.survey_answers import Behaviour, SurveyEvent, answers
from palate_client.store.activity import past_of
from palate_common.survey import CHOSEN, Survey

from .digits import digits


def behaviour() -> dict[str, Any]:
    """What a device says of its user, and when it may tell them something."""
    zones = ("Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns")
    times = (1_767_225_600.0, 1_774_746_000.5, 1_792_889_999.0, 1_798_761_599.0)
    start, day = 1_790_000_000.0, 86_400.0
    kinds = ("view", "impression", "like", "purchase", "rate", "click", "play", "impression", "share", "return", "view")
    rows = [(start + 40_000 * at, kinds[at % 11], f"item-{at % 5}", at) for at in range(40)]
    events = [
        {"time": time, "kind": kind, "item": item}
        | ({"value": 1 + at % 5} if kind in ("rate", "purchase") else {"value": 900 * at} if kind == "play" else {})
        | ({"props": {"amount": 2.5 * at}} if kind == "purchase" and at % 2 else {})
        | ({"props": {"amount": at}} if kind == "return" else {"props": {"length": 18_000}} if kind == "play" else {})
        | ({"props": {"position": at % 3}} if kind == "impression" else {})
        for time, kind, item, at in rows
    ]
    past = past_of((e["time"], e["kind"], e.get("value"), e.get("props", {}).get("amount")) for e in events)
    nows = [start + 40_000 * 40, start + 60 * day]
    visits = visits_of(past.active)[0].tolist()
    tuned = [
        ((200.0, 20.0), (30.0, 0.0), 0.5), ((200.0, 20.0), (30.0, 6.0), 0.5), ((0.0, 0.0), (0.0, 0.0), 90.0),
        ((50.0, 25.0), (50.0, 2.0), 40.0),
    ]  # fmt: skip
    moments = Calendar("Europe/Berlin").moment
    sent = [start + 0.3 * day, start + 0.9 * day, start + 2 * day, start + 3.1 * day]
    liked = [None, True, False, False]
    holds = []
    for name in ("feed", "notification", "email", "sms"):
        for count in (0, 2, 4):
            for later in (0.05, 0.7, 1.5, 5.0):
                before = [CountedDelivery(t, t, moments(t), s) for t, s in zip(sent[:count], liked, strict=False)]
                now = (sent[count - 1] if count else start) + later * day
                held = hold(CHANNELS[name], before, now=now, calendar=Calendar("Europe/Berlin"))
                told = None if held is None else [held.reason.value, digits(held.until)]
                holds.append(
                    {
                        "channel": name,
                        "past": [[t, s] for t, s in zip(sent[:count], liked, strict=False)],
                        "now": now,
                        "hold": told,
                    }
                )
    survey = Survey(
        first_day="2026-09-21",
        channels=("email",),
        items=("item-1", "item-3"),
        experiments=("spring",),
        outcomes={"spring": "revenue"},
        asks=tuple(CHOSEN),
        most_spent=80.0,
    )
    message = Message("new-1", title="A book")
    brought = [Delivery(message, Reason.SENT, "email", start, None, start + day, "opened")]
    rated = [
        SurveyEvent(
            *(each.get(name) for name in ("time", "kind", "item", "value")),
            *(each.get("props", {}).get(name) for name in ("position", "amount", "length")),
        )
        for each in events
    ]
    did = Behaviour(rated, brought, control=False, arms={"spring": "b"}, first=start - 3 * day)
    answered = answers(survey, did, Calendar("Europe/Berlin"))
    return {
        "moments": [[zone, time, *_moment(Calendar(zone).moment(time))] for zone in zones for time in times],
        "events": events,
        "loyalty": [
            {"now": now, "zone": zone, "first": first}
            | {"figures": _plain(loyalty(past, now=now, calendar=Calendar(zone), first=first))}
            for now in nows for zone in zones[:2] for first in (None, start - 20 * day)
        ],
        "visits": visits,
        "tuning": [
            {"usual": usual, "lately": lately, "now": visits[-1] + after * day}
            | {"found": _plain(tuning(visits, usual, lately, now=visits[-1] + after * day))}
            for usual, lately, after in tuned
        ],
        "zone": "Europe/Berlin",
        "holds": holds,
        "survey": {
            "settings": survey.model_dump(mode="json"),
            "deliveries": [{"channel": "email", "sent": start + day, "reaction": "opened"}],
            "coins": {"control": 0.5, "control share": 0.05, "arm:spring": 0.75},
            "first": start - 3 * day,
            "now": nows[0],
            "answers": {name: digits(value) for name, value in answered.items() if value},
        },
    }  # fmt: skip


def _moment(moment: Moment) -> tuple[str, str, float]:
    return moment.day, moment.week, digits(moment.hour)


def _plain(figures: Any) -> dict[str, Any]:
    return {
        name: digits(value) if isinstance(value, float) else dict(value) if isinstance(value, Mapping) else value
        for name, value in asdict(figures).items()
    }
