"""Record: what was sent counts as long as a rule can ask for it, in the order it was sent, however much is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from palate_client.delivery import record as module
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import CHANNELS
from palate_client.delivery.message import Message
from palate_client.delivery.record import COUNTED, SCHEMA, Delivery, Record
from palate_client.delivery.rules import DAY, Reason, hold

NOON = 1_772_452_800.0  # Monday 2026-03-02 12:00 UTC
UTC = Calendar("UTC")


@pytest.fixture
def record() -> Iterator[Record]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    yield Record(connection)
    connection.close()


def waiting(record: Record, name: str) -> Delivery:
    made = Delivery(Message(name, title="t"), Reason.CAP_DAY, "email", NOON, NOON)
    record.put(made)
    return made


def sent(record: Record, name: str, time: float) -> None:
    record.put(Delivery(Message(name, title="t"), Reason.SENT, "email", NOON, None, time), UTC.moment(time))


def test_what_waited_behind_many_counts_when_it_is_sent(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    for number in range(30):
        waiting(record, f"m{number}")
    sent(record, "m0", NOON)
    record.settle(NOON)
    assert len(record.past("email")) == 1
    assert record.react("m0", "dismissed", NOON)
    assert hold(CHANNELS["email"], record.past("email"), now=NOON, calendar=UTC) is not None


def test_offers_that_fit_nobody_do_not_push_out_what_counts(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    sent(record, "m", NOON)
    for number in range(30):
        record.put(Delivery(Message(f"campaign:{number}", title="t"), Reason.NOT_FOR_THEM, "", NOON))
        record.settle(NOON)
    assert len(record.past("email")) == 1
    assert len(record.all()) == 11
    record.settle(NOON + COUNTED + 1)
    assert record.past("email") == []


def test_the_latest_is_what_was_sent_last_not_what_was_given_last(record: Record) -> None:
    waiting(record, "first")
    sent(record, "second", NOON)
    sent(record, "first", NOON + 3 * DAY)
    record.react("first", "dismissed", NOON + 3 * DAY)
    assert [each.time for each in record.past("email")] == [NOON, NOON + 3 * DAY]
    held = hold(CHANNELS["email"], record.past("email"), now=NOON + 3.9 * DAY, calendar=UTC)
    assert held is not None
    assert record.trials(now=NOON + 10 * DAY)[-1].answered is False


def test_what_was_sent_before_the_clock_was_set_counts_for_the_day_it_is_set(record: Record) -> None:
    sent(record, "m", 60.0)
    record.settle(90.0)
    assert record.past("email")[0].settled == 60.0
    record.settle(NOON)
    held = hold(CHANNELS["email"], record.past("email"), now=NOON, calendar=UTC)
    assert held is not None
    assert held.reason is Reason.CAP_DAY
