"""Answers: what a device says to a survey is what its user did, by hand, and never above its bound."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

import palate
from benchmarks.worlds.surveys import World
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason
from palate_client.rounds.survey_answers import Behaviour, OwnAnswers, SurveyEvent, answers, as_interactions
from palate_client.store.store import EventStore
from palate_common.survey import CHOSEN, MOST_ITEMS, Survey
from palate_core import errors

MONDAY = 1_763_942_400.0 + 365 * 86_400.0 - 86_400.0  # 2026-11-23 00:00 UTC
DAY = 86_400.0
UTC = Calendar("UTC")
SURVEY = Survey(first_day="2026-11-23", channels=("email",), items=tuple("abcdefgh"), experiments=("x",))
ALL = SURVEY.model_copy(update={"asks": tuple(CHOSEN), "most_spent": 50.0})
NOBODY = Behaviour([], [], None, {})


def said(**changes: object) -> dict[str, float]:
    return {
        question: value
        for question, value in answers(SURVEY, replace(NOBODY, **changes), UTC).items()  # type: ignore[arg-type]  # as named
        if value
    }


def test_the_week_begins_when_it_says() -> None:
    assert UTC.moment(MONDAY).day == SURVEY.first_day


def test_somebody_who_did_nothing_says_nothing() -> None:
    assert said() == {}


def test_days_week_and_month() -> None:
    events = [
        SurveyEvent(MONDAY - 20 * DAY, "view", "z"),
        SurveyEvent(MONDAY + 3600, "view", "z"),
        SurveyEvent(MONDAY + 2 * DAY, "click", "z"),
    ]
    found = said(events=events)
    assert found == {"active:2026-11-23": 1, "active:2026-11-25": 1, "week": 1, "month": 1}
    assert said(events=events[:1]) == {"month": 1}
    assert said(events=[SurveyEvent(MONDAY - 40 * DAY, "view", "z")]) == {}


def test_what_was_only_shown_is_no_visit() -> None:
    found = said(events=[SurveyEvent(MONDAY, "impression", "z", None, 0)])
    assert found == {"shown": 1}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (MONDAY - 2 * DAY, {"eligible:7": 1}),
        (MONDAY - DAY, {"eligible:1": 1, "eligible:7": 1}),
        (MONDAY - 28 * DAY, {"eligible:30": 1}),
        (MONDAY - 10 * DAY, {}),
    ],
)
def test_retention_is_asked_where_its_day_is_in_the_week(first: float, expected: dict[str, float]) -> None:
    found = said(events=[SurveyEvent(first, "view", "z")])
    assert {
        question: value for question, value in found.items() if ":" in question and "active" not in question
    } == expected


def test_retention_on_the_day_and_later() -> None:
    found = said(events=[SurveyEvent(MONDAY - DAY, "view", "z"), SurveyEvent(MONDAY + 2 * DAY, "view", "z")])
    assert "exact:1" not in found
    assert (found["after:1"], found["eligible:7"]) == (1, 1)
    on_day = said(events=[SurveyEvent(MONDAY - DAY, "view", "z"), SurveyEvent(MONDAY, "view", "z")])
    assert on_day["exact:1"] == on_day["after:1"] == 1


def test_messages_are_capped() -> None:
    def sent(number: int, reaction: str) -> Delivery:
        time = MONDAY + number * 3600.0
        return Delivery(Message(str(number), title="t"), Reason.SENT, "email", time, None, time, reaction)

    few = said(deliveries=[sent(0, "clicked"), sent(1, "dismissed"), sent(2, "")])
    assert few == {"sent:email": 0.6, "answered:email": 0.2}
    many = said(deliveries=[sent(number, "opened") for number in range(50)])
    assert many == {"sent:email": 1.0, "answered:email": 1.0}
    before = said(deliveries=[sent(-5, "opened")])
    assert before == {}


@pytest.mark.parametrize(
    ("reason", "transactional"), [(Reason.FAILED, False), (Reason.LOST, False), (Reason.SENT, True)]
)
def test_what_no_channel_brought_and_receipts_are_no_messages(reason: Reason, *, transactional: bool) -> None:
    message = Message("1", title="t", transactional=transactional)
    assert said(deliveries=[Delivery(message, reason, "email", MONDAY, None, MONDAY, "opened")]) == {}


def test_who_has_come_for_years_is_nobody_new() -> None:
    events = [SurveyEvent(MONDAY, "view", "z"), SurveyEvent(MONDAY + DAY, "view", "z")]
    assert said(events=events)["exact:1"] == 1
    known = said(events=events, first=MONDAY - 400 * DAY)
    assert not any(question.startswith(("eligible", "exact", "after")) for question in known)
    assert said(events=events, first=MONDAY - 6 * DAY)["exact:7"] == 1


def test_lists_of_recommendations() -> None:
    shown = [SurveyEvent(MONDAY + n, "impression", item, None, n) for n, item in enumerate("pqr")]
    taken = said(events=[*shown, SurveyEvent(MONDAY + 60, "click", "q")])
    assert (taken["shown"], taken["hr@10"]) == (1, 1)
    assert taken["ndcg@10"] == pytest.approx(1 / np.log2(3))
    late = said(events=[*shown, SurveyEvent(MONDAY + 2 * DAY, "click", "q")])
    assert "hr@10" not in late
    twice = [*shown, *(each._replace(time=each.time + 3600) for each in shown), SurveyEvent(MONDAY + 3700, "play", "p")]
    assert said(events=twice)["hr@10"] == 1.0  # both lists had it within a day


def test_verdicts_from_0_to_1() -> None:
    found = said(events=[SurveyEvent(MONDAY, "rate", "z", 5.0), SurveyEvent(MONDAY + 1, "rate", "y", 2.0)])
    assert (found["rated"], found["verdict"]) == (1.0, 0.625)


def test_groups_and_arms() -> None:
    events = [SurveyEvent(MONDAY, "view", "z")]
    assert said(control=True)["control"] == 1
    treated = said(events=events, control=False, arms={"x": "b"})
    assert (treated["treated"], treated["treated_days"]) == (1, 1 / 7)
    assert (treated["users:x:b"], treated["outcome:x:b"], treated["square:x:b"]) == (1, 1 / 7, 1 / 49)
    assert not any(question.endswith(":a") for question in treated)


def bought(*each: tuple[float, str, float | None]) -> list[SurveyEvent]:
    """Purchases, and returns of an amount below 0, by days after Monday."""
    kinds = [
        (MONDAY + day * DAY, item, amount, "return" if (amount or 0) < 0 else "purchase") for day, item, amount in each
    ]
    return [SurveyEvent(time, kind, item, 1, None, amount and abs(amount)) for time, item, amount, kind in kinds]


SHOWN = SurveyEvent(MONDAY + DAY, "impression", "p", None, 0)
PLAYED = [
    SurveyEvent(MONDAY + n, "play", "p", seconds, None, None, length)
    for n, (seconds, length) in enumerate([(5400.0, 6000.0), (600.0, 6000.0), (1200.0, None), (None, 100.0)])
]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([SHOWN], {"saw": 1}),
        ([SHOWN, *bought((2, "p", None))], {"saw": 1, "converted": 1, "bought": 1, "customers": 1}),
        ([SHOWN, *bought((2, "q", None))], {"saw": 1, "bought": 1, "customers": 1}),
        ([*bought((0.5, "p", None)), SHOWN], {"saw": 1, "bought": 1, "customers": 1}),
        ([SHOWN, *bought((7.5, "p", 9.0))], {"saw": 1}),
        (bought((-364, "p", None), (-358, "p", 9.0)), {"customers": 1}),
        (bought((-200, "p", None), (-20, "p", 9.0)), {"customers": 1, "repeated": 1, "interval": 1}),
        (bought((-29, "p", None), (-29, "q", 9.0), (-20, "p", 9.0)), {"customers": 1, "repeated": 1, "interval": 0.1}),
        (bought((1, "p", 20.0), (1.001, "q", 5.0), (3, "p", 10.0), (4, "p", -10.0)),
         {"bought": 1, "customers": 1, "repeated": 1, "interval": 1 / 45, "spent": 1, "baskets": 0.4, "revenue": 0.5}),
        (bought((1, "p", 1e9), (2, "p", -1e12)),
         {"bought": 1, "customers": 1, "spent": 1, "baskets": 0.2}),
        (bought(*((day / 8, "p", 1e300) for day in range(56))),
         {"bought": 1, "customers": 1, "repeated": 1, "interval": 1 / 90, "spent": 1, "baskets": 1, "revenue": 1}),
        (PLAYED, {"watched": 1, "minutes": 120 / 1260, "played": 1, "finished": 0.5}),
        ([event._replace(value=1e300) for event in PLAYED], {"watched": 1, "minutes": 1, "played": 1, "finished": 1}),
    ],
)  # fmt: skip
def test_buying_and_watching(events: list[SurveyEvent], expected: dict[str, float]) -> None:
    asked = {question for questions in CHOSEN.values() for question in questions}
    found = answers(ALL, replace(NOBODY, events=events), UTC)
    assert {each: found[each] for each in asked & found.keys() if found[each]} == pytest.approx(expected)
    assert not asked & answers(SURVEY, replace(NOBODY, events=events), UTC).keys(), "it wasn't asked"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("days", 3 / 7), ("purchase", 1), ("revenue", 0.5), ("watch_minutes", 0), ("repurchase", 1)],
)
def test_a_test_compares_the_outcome_that_it_names(outcome: str, expected: float) -> None:
    events = bought((1, "p", 20.0), (3, "p", 15.0), (4, "p", -10.0))
    survey = ALL.model_copy(update={"outcomes": {"x": outcome}, "asks": ()})
    found = answers(survey, replace(NOBODY, events=events, arms={"x": "a"}), UTC)
    assert (found["users:x:a"], found["outcome:x:a"]) == (1, pytest.approx(expected))
    assert found["square:x:a"] == pytest.approx(expected**2)


def test_of_many_watched_items_a_few_are_drawn() -> None:
    events = [SurveyEvent(MONDAY, "view", item) for item in "abcdefgh"]
    drawn = {frozenset(question for question in said(events=events) if question.startswith("item")) for _ in range(50)}
    assert {len(each) for each in drawn} == {MOST_ITEMS}
    assert len(drawn) > 5


def test_days_are_the_users() -> None:
    event = SurveyEvent(MONDAY - 3600, "view", "z")
    there = answers(SURVEY, replace(NOBODY, events=[event]), Calendar("Europe/Berlin"))
    assert there.get("active:2026-11-23") == 1
    assert answers(SURVEY, replace(NOBODY, events=[event]), UTC).get("active:2026-11-23") is None


def test_no_answer_is_above_its_blocks_norm() -> None:
    survey = Survey(
        first_day="2026-11-23",
        channels=("email", "notification"),
        experiments=("new-model",),
        asks=tuple(CHOSEN),
        outcomes={"new-model": "revenue"},
    )
    given = World(devices=300, seed=3).answers(survey)
    dense = np.zeros((given.n_users, given.n_items))
    dense[given.owners(), given.indices] = given.weights
    assert dense.max() <= 1
    first = 0
    for block in survey.blocks():
        part = dense[:, first : first + len(block.questions)]
        assert np.linalg.norm(part, axis=1).max() <= block.norm + 1e-6
        first += len(block.questions)
    assert as_interactions([{}], survey).nnz == 0


@pytest.mark.parametrize(
    "change",
    ["UPDATE events SET kind = 'No kind'", "UPDATE events SET props = '" + "[" * 9000 + "'", "DROP TABLE events"],
    ids=["newer", "deep", "damaged"],
)
def test_events_that_cannot_be_read_are_no_reason_to_refuse_a_survey(
    open_device: Callable[..., palate.Device], change: str
) -> None:
    device = open_device()
    device.consent.grant("store")
    device.track("view", "z")
    with device.store.transaction(write=True) as connection:
        connection.execute(change)
    found = OwnAnswers(device.store, SURVEY, UTC).users(slice(None))
    assert (found.n_users, found.nnz) == (1, 0)


EVERY_ERROR = {
    kind
    for module in (builtins, sqlite3, errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not ExceptionGroup
}


@pytest.mark.parametrize("reader", ["events", "first"])
def test_whatever_reading_the_store_raises_a_survey_is_answered_as_if_there_were_no_events(
    open_device: Callable[..., palate.Device], reader: str
) -> None:
    """A missing answer would say that this user has something that can't be read."""
    device = open_device()
    device.consent.grant("store")
    device.track("view", "z")
    assert len(EVERY_ERROR) > 60
    for kind in EVERY_ERROR:
        with mock.patch.object(EventStore, reader, side_effect=kind.__new__(kind)):
            found = OwnAnswers(device.store, SURVEY, UTC).users(slice(None))
        assert (found.n_users, found.nnz) == (1, 0), kind


@pytest.mark.parametrize(
    ("after", "hit"), [([-1.0], 0), ([-1.0, 0.0], 1), ([DAY], 1), ([DAY + 1], 0), ([-5.0, 60.0], 1)]
)
def test_what_is_taken_within_a_day_after_it_was_shown_was_taken(after: list[float], hit: int) -> None:
    events = [
        SurveyEvent(MONDAY, "impression", "z", None, 0),
        *(SurveyEvent(MONDAY + time, "click", "z") for time in after),
    ]
    assert said(events=sorted(events, key=lambda each: each.time)).get("hr@10", 0) == hit
