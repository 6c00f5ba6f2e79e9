"""Delivery trials: random lives of a user and their device, and a judge of deliveries that knows nothing of the code.

A life has a user who travels, clocks that change to summer time, leap and fall back, channels that are allowed and
disallowed, messages that come in bursts, channels that are slow, reactions, and an app that looks at what waits
whenever it likes. The messenger of the SDK decides; `violations` counts, from what was handed to the channels alone,
what no rule allows.

    >>> life = live(seed=1)
    >>> violations(life)
    []
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import REACTIONS, SCHEMA, Record

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati",
    "Pacific/Pago_Pago", "America/St_Johns", "Africa/Casablanca", "UTC",
)  # fmt: skip
"""Summer time by an hour and by half of one, offsets by a quarter, both sides of the date line."""
START, SPAN = 1_767_225_600.0, 365 * 86_400.0
"""2026, UTC: a life begins somewhere in it."""


@dataclass(frozen=True)
class Handed:
    """What reached a channel.

    Attributes:
        channel: its rules.
        time: of the device's clock.
        zone: where the user was.
        transactional: whether it was such a message.
        agreed: whether user and channel had consent.
        messages: how many came as one.
    """

    channel: Channel
    time: float
    zone: str
    transactional: bool
    agreed: bool
    messages: int


@dataclass
class Life:
    """One random life, as it goes on.

    Attributes:
        rng: of everything in it.
        zone: where the user is.
        now: what the device's clock shows.
        agreed: whether the user wants messages.
        allowed: the channels that they allow.
        control: whether the device is in the control group.
        handed: what reached a channel, in order.
    """

    rng: random.Random
    zone: str = "UTC"
    now: float = START
    agreed: bool = False
    allowed: set[str] = field(default_factory=set)
    control: bool = False
    handed: list[Handed] = field(default_factory=list)


def live(*, seed: int, steps: int = 40) -> Life:
    """One random life under the SDK's messenger, its record in memory.

    Args:
        seed: of the life, and of the choices.
        steps: things that happen.
    """
    rng = random.Random(seed)  # noqa: S311 # a simulated life
    life = Life(rng, zone=rng.choice(ZONES), now=START + rng.random() * SPAN)
    channels = {each.name: each for each in _channels(rng)}
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)

    @contextmanager
    def record() -> Iterator[Record]:
        yield Record(connection)

    def sender(channel: Channel) -> object:
        def send(messages: list[Message]) -> None:
            agreed = life.agreed and channel.name in life.allowed
            transactional = all(each.transactional for each in messages)
            life.handed.append(Handed(channel, life.now, life.zone, transactional, agreed, len(messages)))
            if rng.random() < 0.1:  # a slow channel: hours pass, and the user may decide something
                life.now += rng.random() * 12 * 3600.0
                _consents(life, messenger)
            if rng.random() < 0.1:
                raise OSError("the channel is down")

        return send

    messenger = Messenger(
        record=record,
        agreed=lambda: life.agreed,
        clock=lambda: life.now,
        senders={name: sender(channel) for name, channel in channels.items()},  # type: ignore[misc]  # a closure
        channels=channels,
        calendar=Calendar(lambda: ZoneInfo(life.zone)),
        control=0.02,
        rng=np.random.default_rng(seed),
    )
    life.agreed = rng.random() < 0.9
    for name in sorted(channels):
        if rng.random() < 0.8:
            messenger.allow(name)
            life.allowed.add(name)
    for step in range(steps):
        _happens(life, messenger, step)
    life.control = messenger.in_control()
    connection.close()
    return life


def violations(life: Life) -> list[str]:
    """What no rule allows, from what reached the channels alone."""
    found = [f"{each.channel.name} without consent" for each in life.handed if not each.agreed]
    marketing = [each for each in life.handed if not each.transactional]
    found += ["a message in the control group"] * (len(marketing) if life.control else 0)
    for each in marketing:
        if each.channel.quiet is not None and _is_quiet(each.channel.quiet, _local(each.time, each.zone)):
            found.append(f"{each.channel.name} in quiet hours")
    days = Counter((each.channel, f"{_local(each.time, each.zone):%Y-%m-%d}") for each in marketing)
    weeks = Counter((each.channel, f"{_local(each.time, each.zone):%G-%V}") for each in marketing)
    found += [f"{c.name}: {n} on {day}" for (c, day), n in days.items() if c.per_day is not None and n > c.per_day]
    found += [f"{c.name}: {n} in {week}" for (c, week), n in weeks.items() if c.per_week is not None and n > c.per_week]
    for place, each in enumerate(marketing):
        # The same, where the user is now: what came before, on a day that is today here.
        before = [other for other in marketing[:place] if other.channel == each.channel]
        today = _local(each.time, each.zone)
        same = sum(other.time <= each.time and _local(other.time, each.zone).date() == today.date() for other in before)
        if each.channel.per_day is not None and same >= each.channel.per_day:
            found.append(f"{each.channel.name}: {same + 1} on {today:%Y-%m-%d} of {each.zone}")
    return found


def _channels(rng: random.Random) -> list[Channel]:
    """Channels with rules of all sorts."""
    made = []
    for name in ("feed", "notification", "digest", "email"):
        quiet = None if rng.random() < 0.2 else Quiet(rng.randrange(96) / 4, 8.125)
        day = rng.choice([None, 0, 1, 1, 2, 3])
        week = rng.choice([None, 1, 2, 5])
        made.append(Channel(name=name, per_day=day, per_week=week, quiet=quiet, bundles=name == "digest"))
    return made


def _happens(life: Life, messenger: Messenger, step: int) -> None:
    """Something."""
    rng = life.rng
    match rng.choices(range(8), (10, 4, 8, 1, 3, 1, 1, 1))[0]:
        case 0:
            for number in range(rng.choice([1, 1, 1, 2, 5])):
                expires = rng.choice([None, life.now + rng.random() * 3 * 86_400])
                transactional = rng.random() < 0.1
                messenger.deliver(Message(f"{step}-{number}", title="t", transactional=transactional, expires=expires))
        case 1:
            life.now += rng.choice([60.0, 1800.0, 3600.0, 86_400.0]) * rng.random()
        case 2:
            life.now += rng.random() * 86_400.0
            messenger.deliver_waiting()
        case 3:
            _consents(life, messenger)
        case 4:
            sent = [each for each in messenger.deliveries() if each.sent is not None]
            if sent:
                chosen = rng.choice(sent)
                reaction = rng.choice(REACTIONS)
                messenger.reacted(chosen.message.id, reaction)
                if reaction == "unsubscribed":
                    life.allowed.discard(chosen.channel)
        case 5:
            life.zone = rng.choice(ZONES)
        case 6:  # a clock that was wrong, or is now
            life.now += rng.choice([-1.0, 1.0]) * rng.choice([3600.0, 86_400.0, 8 * 86_400.0])
        case 7:
            life.now += rng.random() * 20 * 86_400.0


def _consents(life: Life, messenger: Messenger) -> None:
    """The user decides on something."""
    if life.rng.random() < 0.3:
        life.agreed = life.rng.random() < 0.8
        return
    channel = life.rng.choice(sorted(messenger.channels))
    if life.rng.random() < 0.8:
        messenger.allow(channel)
        life.allowed.add(channel)
    else:
        messenger.disallow(channel)
        life.allowed.discard(channel)


def _local(time: float, zone: str) -> datetime:
    """What the user's wall shows."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time)).astimezone(ZoneInfo(zone))


def _is_quiet(quiet: Quiet, local: datetime) -> bool:
    """Whether a wall's time lies between two of the day's, over midnight or not."""
    minutes = local.hour * 60 + local.minute + local.second / 60
    start, end = quiet.start * 60, quiet.end * 60
    return (start <= minutes < end) if start < end else not (end <= minutes < start)
