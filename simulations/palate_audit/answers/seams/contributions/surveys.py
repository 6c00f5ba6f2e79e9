"""Surveys: questions of a week, one device's answers from what it did, and what a release says of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from unittest import mock

import numpy as np
from pydantic import ValidationError

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.playing import play, tell_scores
from palate_audit.answers.seam import Seam
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.message import Message
from palate_client.delivery.record import GOOD, REACTIONS, Delivery, record_of
from palate_client.delivery.rules import Reason
from palate_client.device import open_device
from palate_client.events import KINDS, VALUES, Event, Kind
from palate_client.rounds import survey_answers
from palate_client.rounds.survey_answers import Behaviour, OwnAnswers, SurveyEvent
from palate_client.store.retention import Limits
from palate_common import score_sources
from palate_common.algorithms import PublicFacts, first_state, make_algorithm
from palate_common.algorithms.parts.quarantine import inputs_of
from palate_common.interactions import Interactions
from palate_common.survey import Survey
from palate_core.errors import InputError, PalateError
from palate_core.plan import RoundPlan

WEEK = "2026-11-23"
MONDAY, DAY = 1_795_392_000.0, 86_400.0
"""2026-11-23 00:00 UTC."""
REACTED: tuple[Kind, ...] = ("click", "play", "like", "comment", "share", "purchase", "view")
ZONES = ("UTC", "Pacific/Kiritimati", "America/New_York")
SURVEYS = (
    Survey(first_day=WEEK),
    Survey(first_day=WEEK, channels=("email", "push"), items=tuple("abcdefg"), experiments=("x", "y")),
    Survey(first_day=WEEK, items=tuple("hgfedc"), experiments=("y",), shares={"active": 0.3, "experiment:y": 0.2}),
)


def _edge(dice: Dice) -> float:
    """A time: at midnights of days that matter, just beside them, or anywhere in two months."""
    day = dice.one_of((0, 0, 1, 3, 6, 7, -1, -7, -6, -24, -29, -30, -31, dice.whole(-40, 12)))
    return MONDAY + DAY * day + dice.one_of((0.0, -1.0, 1.0, 3600.0 * dice.whole(0, 23), DAY / 2))


def _events(dice: Dice, n: int) -> list[SurveyEvent]:
    """What a user did, in order of time: lists that were shown, and what was taken of them."""
    found: list[SurveyEvent] = []
    for _ in range(n):
        time, item = _edge(dice), dice.one_of("aabcdefghz")
        if dice.chance(0.5):
            places = dice.one_of(((0, 1, 2), (0,), (0, 9, 10, 11), (3,), (-1, 0), (None, 0)))
            for place in places:
                other = dice.one_of("abcdefgh")
                found.append(SurveyEvent(time + (place or 0), "impression", other, None, place))
                if dice.chance(0.5):
                    kind = dice.one_of(REACTED)
                    later = dice.one_of((0.0, 60.0, DAY, DAY + 1, -5.0))
                    found.append(SurveyEvent(time + (place or 0) + later, kind, other))
        else:
            kind = dice.one_of(KINDS)
            value = dice.one_of((None, 1.0, 3.0, 4.5, 5.0)) if kind in VALUES else None
            found.append(SurveyEvent(time, kind, item, value))
    return sorted(found, key=lambda each: each.time)


def _deliveries(dice: Dice, n: int) -> list[Delivery]:
    """Messages of every fate."""
    found = []
    for number in range(n):
        message = Message(str(number), title="t", transactional=dice.chance(0.15))
        reason = Reason.SENT if dice.chance(0.75) else dice.one_of(list(Reason))
        time, reaction = _edge(dice), dice.one_of(("", *REACTIONS, *GOOD))
        if dice.chance(0.6):
            time = MONDAY + 3600.0 * dice.whole(0, 7 * 24)
        sent = None if dice.chance(0.1) else time
        channel = dice.one_of(("email", "email", "push", "sms"))
        found.append(Delivery(message, reason, channel, time, None, sent, reaction))
    return found


def _answers(dice: Dice, answer: CaseAnswer) -> None:
    """What some devices say of a week, as batch, too."""
    survey, calendar, given = dice.one_of(SURVEYS), Calendar(dice.one_of(ZONES)), list[Mapping[str, float]]()
    for _ in range(3):
        behaviour = Behaviour(
            _events(dice, dice.one_of((0, 1, 2, 5, 12))),
            _deliveries(dice, dice.one_of((0, 1, 4, 14))),
            dice.one_of((None, True, False)),
            {name: dice.one_of("ab") for name in dice.some_of(("x", "y", "z"), 0.7)},
            dice.one_of((None, None, _edge(dice), MONDAY - 400 * DAY)),
        )
        found = survey_answers.answers(survey, behaviour, calendar)
        given.append(found)
    more = {**given[0], dice.one_of(survey.questions()): dice.one_of((1.0, 1.5, -0.5, 1e-9))}
    answer.brief(given, survey_answers.as_interactions([*given, {}, more], survey))


def _own(dice: Dice, answer: CaseAnswer) -> None:
    """Answers from a real store and the record of messages beside it, and after an error."""
    survey, now = dice.one_of(SURVEYS[1:]), MONDAY + DAY * dice.one_of((6, 8, 3))
    clock, limits = MadeClock(now), Limits(max_events=dice.one_of((4, 100)))
    with (
        made_folder(answer) as folder,
        open_device(folder / "app", app="audit", key=bytes(range(32)), limits=limits, clock=clock) as device,
    ):
        device.consent.grant("store")
        own = OwnAnswers(device.store, survey, Calendar(dice.one_of(ZONES)))
        answer.tell(own.n_users, own.n_items, own.users(slice(None)).nnz)
        acts = []
        for number, each in enumerate(_events(dice, 8)):
            props = dice.one_of(
                (None, {"position": each.position}, {"position": True}, {"position": "0"}, {"position": 1})
            )
            value = 3.0 if each.kind == "rate" else None
            time = each.time + dice.one_of((0.0, 0.0, 0.0, 9 * DAY))
            acts.append(Event(each.kind, each.item, time=time, value=value, id=str(number), props=props))
        device.track_many(acts)
        with record_of(device.store.file) as record:
            for delivery in _deliveries(dice, 4):
                moment = None if delivery.sent is None else own.calendar.moment(delivery.sent)
                record.put(delivery, moment)
                if delivery.sent is not None and delivery.reaction:
                    record.react(delivery.message.id, delivery.reaction, now)
            for name in dice.some_of(("x", "y"), 0.8):
                record.coin(f"arm:{name}", dice.one_of((0.0, 0.4999, 0.5, 0.9)))
            if dice.chance(0.6):
                record.control(dice.one_of((0.1, 0.9)))
        clock.now += DAY * dice.one_of((0, 0, -4, 3))  # set back, too: what was later then is of the future
        answer.brief(own.users(slice(None)), own.users(np.array([0])))
        answer.tell(device.store.first() is None)
    with mock.patch.object(survey_answers.logger, "disabled", new=True):
        answer.tell(own.users(slice(0, 1)).nnz)  # a closed store: no answers, and no error


def _surveys(dice: Dice, answer: CaseAnswer) -> None:
    """Surveys that are well made, and others."""
    mondays = ("2026-11-16", "2026-11-23", "2026-11-30", "2026-12-07")
    names = [f"n{number}" for number in range(201)]
    year = tuple((date.fromisoformat(WEEK) + timedelta(weeks=number)).isoformat() for number in range(53))
    good: Mapping[str, Sequence[Any]] = {
        "channels": (("email",), ("a", "b"), names[:200]),
        "items": (("i",), tuple("abcdef")),
        "experiments": (("x",), ("y", "x")),
        "looks": ({"x": mondays}, {"y": mondays[:2], "x": mondays}, {"z": year[:52]}, {"z": year[:51]}),
        "shares": ({"active": 0.5}, {"active": 0.2, "online": 0.1}, {"active": 1 - 2e-9}),
    }  # fmt: skip
    six = ("active", "reach", "retention", "satisfaction", "online", "control")
    odd: Mapping[str, Sequence[Any]] = {
        "first_day": ("2026-11-24", "20261123", "soon", "9999-12-20", "9999-12-13", "0001-01-01"),
        "channels": (("a", "a"), ("A",), ("x" * 41,), names),
        "items": (("i", "i"), names),
        "experiments": (("x", "x"), ("",)),
        "looks": (
            {"x": mondays[2:]}, {"x": ()}, {"x": mondays[::-1]}, {"x": (*mondays[:2], WEEK)}, {"x": ("2026-11-24",)},
            {"z": year}, {"x": mondays[:1]},
        ),
        "shares": (
            {"active": 1.0}, {"active": 0.0}, {"active": -0.1, "reach": 0.2}, {"other": 0.1}, {"active": 1 - 1e-9},
            {"delivery": 0.3}, dict.fromkeys(six, 1 / 6), {**dict.fromkeys(six, 0.1), "control": 0.4},
        ),
        "other": (1,),
    }  # fmt: skip
    fields: dict[str, Any] = {"first_day": dice.one_of(mondays[:2])}
    fields |= {name: dice.one_of(values) for name, values in good.items() if dice.chance(0.4)}
    if dice.chance(0.6):
        name = dice.one_of(("looks", "shares", "first_day", *odd))
        fields[name] = dice.one_of(odd[name])
        if name == "shares" and set(six) <= set(fields[name]):
            fields = {"first_day": WEEK, "shares": fields[name]}
    try:
        made = Survey.model_validate(fields)
    except ValidationError as error:
        for each in error.errors():
            answer.tell(each["loc"], each["type"], InputError(each["msg"]))
        return
    questions = made.questions()
    answer.tell(made.model_dump(mode="json", exclude={"shares"}), made.days, questions, made.places)
    answer.tell([made.looks_of(name) for name in ("x", "y", "z")])
    answer.brief([(block, made.share_of(block.name)) for block in made.blocks()])
    facts = PublicFacts(n_users=9, n_items=len(questions) + dice.one_of((0, 0, 0, 1)), mu=1.0)
    algorithm = answer.tried(make_algorithm, "analytics", fields, facts)
    if not isinstance(algorithm, PalateError):
        answer.tell(algorithm.leaves_items_out(), algorithm.hands_over())
        answer.tell(type(answer.tried(first_state, algorithm, inputs_of([0], facts.n_items, {}))).__name__)
        nnz = dice.one_of((0, 40))
        values = np.array([0.2, 1.0, 1.0, 3.0])[dice.wholes(0, 3, nnz)]
        users, items = dice.wholes(0, 3, nnz), dice.wholes(0, facts.n_items - 1, nnz)
        given = Interactions.from_pairs(users, items, values, n_users=4, n_items=facts.n_items)
        tell_scores(dice, answer, algorithm, play(dice, answer, algorithm, {}, given, loud=1.0))


def _read(dice: Dice, answer: CaseAnswer) -> None:
    """Settings of plans that may be surveys, and names of sources."""
    for settings in ({"first_day": WEEK}, {"first_day": "2026-11-24"}, {}, {"first_day": WEEK, "more": 1}):
        known: dict[str, Any] = {"settings": settings}
        found = answer.tried(survey_answers.survey_of, RoundPlan.model_construct(None, **known))
        answer.tell(found.questions() if isinstance(found, Survey) else "none")
    name = dice.one_of(("content", "content:titles", "a:b:c", ""))
    answer.tell(score_sources.family_of(name), score_sources.source_of("content", name), sorted(survey_answers.TAKEN))


SEAMS: tuple[Seam, ...] = (
    Seam("surveys: answers of devices", _answers, 60),
    Seam("surveys: answers from a store", _own, 7),
    Seam("surveys: questions and sums", _surveys, 72),
    Seam("surveys: settings that are read", _read, 6),
)
