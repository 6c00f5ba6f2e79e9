"""Bandit trials: simulated users with a channel and an hour of their own, and what of their best response is reached.

A simulated user answers a message with the probability of its channel times that of its hour. The choice is the SDK's.
`responses` lets it choose among all channels each time; `capped` goes through the SDK's messenger, with the usual caps
and quiet hours, one message a day, and counts what no rule allows.

    >>> reached = responses(users=20, deliveries=50, seed=0)
    >>> reached.rates.shape, bool((reached.rates <= reached.best[:, None]).all())
    ((20, 50), True)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.worlds.deliveries import START, Handed, Life, violations
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import CHANNELS
from palate_client.delivery.choice import PARTS, DeliveryTrial, choose_channel, choose_part, part_of
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import SCHEMA, Record
from palate_client.rounds.survey_answers import as_interactions
from palate_common.interactions import Interactions
from palate_common.survey import MOST_SENT, Survey

TYPICAL = {"chat": 0.25, "digest": 0.15, "email": 0.12, "notification": 0.2, "sms": 0.1}
"""Rates of answering of a user in the middle: assumptions, not measurements."""
WAKING = (2, 3, 4, 5)
"""Parts of the day outside the quiet hours."""
WEEK, DAY, HOUR = 7, 86_400.0, 3600.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class User:
    """A simulated user.

    Attributes:
        rates: of answering, by channel in the order of `TYPICAL`, at the best hour.
        hours: what of it is left, by part of the day.
    """

    rates: Floats
    hours: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, spread: float) -> User:
        """One of a population.

        The rate of a channel is `TYPICAL`'s, moved on the logit scale by a normal number of the user's own with the
        standard deviation `spread`; each hour has a factor, uniform in [0.5, 1], and one of the waking hours has 1.
        """
        typical = np.array(list(TYPICAL.values()))
        rates = 1 / (1 + np.exp(-(np.log(typical / (1 - typical)) + rng.normal(0, spread, len(typical)))))
        hours = rng.uniform(0.5, 1.0, PARTS)
        hours[WAKING[int(rng.integers(len(WAKING)))]] = 1.0
        return cls(rates, hours)

    def answers(self, rng: np.random.Generator, channel: str, hour: float) -> bool:
        """Whether they answer a message."""
        return bool(rng.random() < self.rates[list(TYPICAL).index(channel)] * self.hours[part_of(hour)])


@dataclass(frozen=True)
class Reached:
    """What became of simulated users' deliveries.

    Attributes:
        rates: of the channel that was chosen, [users, deliveries].
        best: of each user's best channel, [users].
        trials: each user's deliveries, with their outcomes.
    """

    rates: Floats
    best: Floats
    trials: Sequence[Sequence[DeliveryTrial]]

    def response(self, deliveries: slice) -> float:
        """What users answer, as a share of what they would if each delivery had gone to their best channel."""
        return float(self.rates[:, deliveries].mean() / self.best.mean())

    def own_response(self, deliveries: slice) -> float:
        """The same of each user by themselves, mean over users: whoever answers little counts as much as others."""
        return float((self.rates[:, deliveries] / self.best[:, None]).mean())


def responses(
    *, users: int, deliveries: int, seed: int, spread: float = 1.5, expected: Mapping[str, float] | None = None
) -> Reached:
    """Deliveries that may go to any channel each time.

    Args:
        users: simulated users.
        deliveries: to each.
        seed: of users, answers and choices.
        spread: how much users differ, see `User.drawn`.
        expected: what the app knows of the population, see `Device.messenger`.
    """
    rng, channels = np.random.default_rng(seed), list(TYPICAL)
    rates, best, trials = np.zeros((users, deliveries)), np.zeros(users), []
    for number in range(users):
        user, tried = User.drawn(rng, spread), list[DeliveryTrial]()
        best[number] = user.rates.max()
        for delivery in range(deliveries):
            channel = choose_channel(channels, tried, rng, expected=expected or {})
            hour = choose_part(WAKING, tried, rng) * 24 / PARTS
            rates[number, delivery] = user.rates[channels.index(channel)]
            tried.append(DeliveryTrial(channel, hour, user.answers(rng, channel, hour)))
        trials.append(tried)
    return Reached(rates, best, trials)


def first_week(reached: Reached, survey: Survey) -> Interactions:
    """What the devices of such users say to a survey of their first week, a message a day."""
    given = []
    for tried in reached.trials:
        said = dict[str, float]()
        for channel in survey.channels:
            brought = [trial for trial in tried[:WEEK] if trial.channel == channel][:MOST_SENT]
            said[f"sent:{channel}"] = len(brought) / MOST_SENT
            said[f"answered:{channel}"] = sum(trial.answered for trial in brought) / MOST_SENT
        given.append(said)
    return as_interactions(given, survey)


def capped(
    *, users: int, deliveries: int, seed: int, spread: float = 1.5, expected: Mapping[str, float] | None = None
) -> tuple[Reached, list[str]]:
    """Deliveries through the SDK's messenger, with the usual channels, caps and quiet hours: a message a day.

    Returns:
        What was reached, the best being the mean of the best channels that weekly caps leave for seven messages; and
        what no rule allows of what reached a channel.
    """
    rng, broken = np.random.default_rng(seed), list[str]()
    rates, best, trials = np.zeros((users, deliveries)), np.zeros(users), []
    for number in range(users):
        user = User.drawn(rng, spread)
        best[number] = _best_of_a_week(user)
        life, tried = _lived(user, deliveries, rng, expected or {})
        rates[number] = [user.rates[list(TYPICAL).index(trial.channel)] for trial in tried]
        trials.append(tried)
        broken += violations(life)
    return Reached(rates, best, trials), broken


def _best_of_a_week(user: User) -> float:
    """The mean rate of a week's messages, one a day, if each goes to the best channel that has not reached its cap."""
    caps = [CHANNELS[name].per_week or WEEK for name in TYPICAL]
    rates = [rate for rate, cap in zip(user.rates.tolist(), caps, strict=True) for _ in range(cap)]
    return float(sum(sorted(rates, reverse=True)[:WEEK])) / WEEK


def _lived(
    user: User, deliveries: int, rng: np.random.Generator, expected: Mapping[str, float]
) -> tuple[Life, list[DeliveryTrial]]:
    """One user's days until so many messages were brought, and what became of each."""
    life, tried = Life(rng=None, now=START, agreed=True, allowed=set(TYPICAL)), list[DeliveryTrial]()  # type: ignore[arg-type]  # nothing is drawn from it
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)

    @contextmanager
    def record() -> Iterator[Record]:
        yield Record(connection)

    def sender(name: str) -> object:
        def send(messages: Sequence[Message]) -> None:
            life.handed.append(Handed(CHANNELS[name], life.now, "UTC", False, True, len(messages)))
            hour = life.now % DAY / HOUR
            for message in messages:
                tried.append(DeliveryTrial(name, hour, user.answers(rng, name, hour)))
                if tried[-1].answered:
                    answered.append(message.id)

        return send

    answered = list[str]()
    messenger = Messenger(
        record=record,
        agreed=lambda: True,
        clock=lambda: life.now,
        senders={name: sender(name) for name in TYPICAL},  # type: ignore[misc]  # a closure
        calendar=Calendar("UTC"),
        control=0.0,
        expected=expected,
        rng=rng,
    )
    for name in TYPICAL:
        messenger.allow(name)
    day = 0
    while len(tried) < deliveries:
        life.now = START + day * DAY + 9 * HOUR
        messenger.deliver(Message(f"{day}", title="t"))
        for _ in range(4):  # the app looks at what waits every four hours
            messenger.deliver_waiting()
            while answered:
                messenger.reacted(answered.pop(), "clicked")
            life.now += 4 * HOUR
        day += 1
    connection.close()
    return life, tried[:deliveries]
