"""Waiting messages: what holds when they are handed over is what holds then, not what held when the first one was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.delivery.channel import Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import Record
from palate_client.delivery.rules import DAY, Reason
from palate_core.errors import InputError, PalateError

NOON = 1_772_452_800.0  # Monday 2026-03-02 12:00 UTC
NIGHT = NOON + 12 * 3600
FREE = Channel(name="chat", per_day=None, per_week=None, quiet=Quiet(21, 8))


@pytest.fixture
def device(open_device: Callable[..., palate.Device], clock: Any) -> palate.Device:
    clock.now = NIGHT
    device = open_device(zone="UTC")
    device.consent.grant("messaging")
    return device


def waiting(device: palate.Device, send: Callable[[Sequence[Message]], None], clock: Any, names: str) -> Messenger:
    """A messenger with messages that waited for the end of the night, and for no better hour."""
    messenger = device.messenger({"chat": send}, channels=[FREE], control=0.0)
    messenger.allow("chat")
    for name in names:
        assert messenger.deliver(Message(name, title=name)).reason is Reason.QUIET
    clock.now = NOON + DAY
    return messenger


def settled(messenger: Messenger, clock: Any) -> list[Any]:
    """Look again until nothing waits."""
    while messenger.deliver_waiting() and any(each.waiting for each in messenger.deliveries()):
        clock.now = max(clock.now, min(each.due or clock.now for each in messenger.deliveries() if each.waiting))
    return list(messenger.deliveries())


def test_a_channel_that_is_disallowed_meanwhile_gets_no_more(device: palate.Device, clock: Any) -> None:
    got: list[str] = []

    def send(messages: Sequence[Message]) -> None:
        got.extend(each.id for each in messages)
        messenger.disallow("chat")

    messenger = waiting(device, send, clock, "abc")
    reasons = sorted(each.reason.value for each in settled(messenger, clock))
    assert len(got) == 1
    assert reasons == ["no channel", "no channel", "sent"]


def test_a_night_that_begins_behind_a_slow_channel_holds(device: palate.Device, clock: Any) -> None:
    got: list[float] = []

    def send(messages: Sequence[Message]) -> None:
        got.append(clock.now)
        clock.now += 13 * 3600.0

    messenger = waiting(device, send, clock, "abcd")
    settled(messenger, clock)
    assert len(got) == 4
    assert all(8 * 3600 <= time % DAY < 21 * 3600 for time in got)


def test_a_kill_loses_the_one_that_was_handed_over_and_no_other(device: palate.Device, clock: Any) -> None:
    class Killed(BaseException):
        pass

    def send(messages: Sequence[Message]) -> None:
        raise Killed

    messenger = waiting(device, send, clock, "abc")
    with pytest.raises(Killed):
        settled(messenger, clock)
    assert sorted(each.waiting for each in messenger.deliveries()) == [False, True, True]


def test_what_was_sent_is_told_though_the_record_is_full(
    device: palate.Device, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise PalateError("the disk is full")

    got: list[str] = []
    messenger = device.messenger({"feed": lambda messages: got.extend(each.id for each in messages)}, control=0.0)
    messenger.allow("feed")
    monkeypatch.setattr(Record, "set_reason", full)
    receipt = Message("r", title="Receipt", transactional=True)
    assert messenger.deliver(receipt).reason is Reason.SENT
    assert messenger.deliver(receipt).reason is Reason.LOST  # it counts as sent
    assert got == ["r"]


def digest(device: palate.Device, send: Callable[[Sequence[Message]], None], **others: Any) -> Messenger:
    """A messenger that collects."""
    messenger = device.messenger({"digest": send, **others}, control=0.0)
    messenger.allow("digest")
    return replace(messenger, rng=np.random.default_rng(0))


def test_a_message_does_not_wait_for_a_bundle_that_goes_too_late(device: palate.Device, clock: Any) -> None:
    got: list[str] = []
    clock.now = NOON
    messenger = digest(device, lambda messages: got.extend(each.id for each in messages))
    collected = messenger.deliver(Message("a", title="a"))
    with messenger.record() as record:
        record.put(replace(collected, due=NOON + DAY))
    made = messenger.deliver(Message("b", title="b", expires=NOON + 3600))
    assert made.reason is Reason.BUNDLED
    clock.now = made.due
    messenger.deliver_waiting()
    assert got == ["b"]


def test_what_a_channel_collected_goes_another_way_when_it_is_taken_away(device: palate.Device, clock: Any) -> None:
    got: list[str] = []
    clock.now = NOON
    messenger = digest(device, got.extend, chat=lambda messages: got.extend(each.id for each in messages))  # type: ignore[arg-type]  # never called
    assert messenger.deliver(Message("a", title="a")).reason is Reason.BUNDLED
    messenger.allow("chat")
    messenger.disallow("digest")
    settled(messenger, clock)
    clock.now += DAY
    assert settled(messenger, clock)[0].channel == "chat"


def test_a_sender_is_a_function(device: palate.Device) -> None:
    with pytest.raises(InputError, match="`senders` must be functions that take messages, got 'mailto:me"):
        device.messenger({"email": "mailto:me@example.org"})  # type: ignore[dict-item]  # a newcomer's mistake


def test_a_message_is_a_message(device: palate.Device) -> None:
    with pytest.raises(InputError, match=r"`message` must be a `palate\.Message`, got 'hello'"):
        device.messenger({}).deliver("hello")  # type: ignore[arg-type]  # a newcomer's mistake


def test_what_another_process_put_off_meanwhile_is_put_off(device: palate.Device, clock: Any) -> None:
    got: list[str] = []

    def send(messages: Sequence[Message]) -> None:
        got.extend(each.id for each in messages)
        with messenger.record() as record:
            put_off = [each for each in record.all() if each.waiting]
            for each in put_off:
                record.put(replace(each, reason=Reason.BETTER_LATER, due=NOON + 2 * DAY))

    messenger = waiting(device, send, clock, "abc")
    while not got:
        messenger.deliver_waiting()
        clock.now += 3600
    messenger.deliver_waiting()
    assert len(got) == 1


def test_an_app_that_never_looks_at_the_better_hour_sends_all_the_same(
    device: palate.Device, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best part of the day is its last hour before the night, and the app looks at nine, one, five and nine."""
    monkeypatch.setattr("palate_client.delivery.judge.choose_part", lambda parts, tried, rng: 5)
    got: list[float] = []
    messenger = device.messenger({"chat": lambda _: got.append(clock.now)}, channels=[FREE], control=0.0)
    messenger.allow("chat")
    clock.now = NOON - 3 * 3600
    messenger.deliver(Message("a", title="a"))
    for _ in range(7):
        clock.now += 4 * 3600 if clock.now % DAY < 21 * 3600 else 12 * 3600
        messenger.deliver_waiting()
    assert got == [NOON - 3 * 3600 + DAY]
