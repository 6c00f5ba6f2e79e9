"""Choice: the channel and the part of the day at which this user reacts most, learned from their own reactions.

Channel and part of the day are learned separately: with 6 parts and 5 channels there are 11 rates to learn instead of
30. A rate is the share of deliveries that the user reacts to. It has a Beta prior, which an app may take from what a
population reacts to; older deliveries count less, because a user may change. Only what the rules allow is chosen from.

The value of a channel is its estimated rate plus the value of trying it: by how much the best known rate should rise
if the channel is tried k more times, for the messages that follow. The second part has a large weight at first, and
none after `SETTLED` deliveries: exploring has to end, because a user gets few messages.

    >>> import numpy as np
    >>> tried = [DeliveryTrial("email", 9.5, False)] * 8 + [DeliveryTrial("chat", 9.5, True)] * 8
    >>> choose_channel(["chat", "email"], tried, np.random.default_rng(0), expected={})
    'chat'

Sources: Frazier and Powell, Paradoxes in Learning and the Marginal Value of Information (Decision Analysis 2010), for
the value of k trials; Thompson (1933) and Chapelle and Li (2011) for parts of the day.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HALF_LIFE = 120
"""A delivery has half its weight after this number of later deliveries."""
PRIOR = (0.5, 1.5)
"""Beta(a, b) of an unknown rate: its mean is one in four, and it weighs as much as two deliveries."""
KNOWN = 5.0
"""The weight, in deliveries, of a rate that the app expects."""
PARTS = 6
"""Number of parts of the day, each of four hours, from midnight."""
AHEAD = 50
"""Number of future deliveries for which the value of a trial is computed."""
SETTLED = 45
"""Number of deliveries after which exploring ends."""
CURIOSITY = 30.0
"""Factor on the value of a trial before the first delivery; it falls linearly to 0 at `SETTLED` deliveries."""
SHARPNESS = (2.0, 20.0)
"""Factor on the Beta parameters of a part of the day, without any delivery and with `SURE` of them."""
SURE = 40


@dataclass(frozen=True, slots=True)
class DeliveryTrial:
    """A delivery whose outcome is known.

    Attributes:
        channel: the channel it was sent on.
        hour: hour of the user's day.
        answered: whether the user reacted to it.
    """

    channel: str
    hour: float
    answered: bool


def part_of(hour: float) -> int:
    """The part of the day, from 0, that contains an hour."""
    return int(hour * PARTS / 24) % PARTS


def choose_channel(
    channels: Sequence[str],
    tried: Sequence[DeliveryTrial],
    rng: np.random.Generator,
    *,
    expected: Mapping[str, float],
) -> str:
    """The channel of the highest value; a random one of several with the same value.

    Args:
        channels: those that may be used now, at least one.
        tried: deliveries with their outcomes, oldest first.
        rng: this device's random numbers.
        expected: channel -> the share of deliveries that users react to, where the app knows it.
    """
    outcomes = [(trial.channel, trial.answered) for trial in tried]
    beliefs = [rate(name, outcomes, len(tried), prior=_prior(expected.get(name))) for name in channels]
    means = [yes / (yes + no) for yes, no in beliefs]
    curious = CURIOSITY * max(1.0 - len(tried) / SETTLED, 0.0)
    worth = list[float]()
    for place, (mean, belief) in enumerate(zip(means, beliefs, strict=True)):
        others = max((other for at, other in enumerate(means) if at != place), default=mean)
        worth.append(mean + (curious * _teaches(belief, others) if curious else 0.0))
    best = [name for name, value in zip(channels, worth, strict=True) if value == max(worth)]
    return best[int(rng.integers(len(best)))]


def choose_part(parts: Sequence[int], tried: Sequence[DeliveryTrial], rng: np.random.Generator) -> int:
    """The part of the day with the highest rate drawn from its posterior (Thompson sampling)."""
    first, last = SHARPNESS
    sharpness = first + (last - first) * min(len(tried) / SURE, 1.0)
    outcomes = [(part_of(trial.hour), trial.answered) for trial in tried]
    drawn = {}
    for each in parts:
        yes, no = rate(each, outcomes, len(tried))
        drawn[each] = float(rng.beta(yes * sharpness, no * sharpness))
    return max(drawn, key=lambda each: drawn[each])


def rate(
    name: object, tried: Iterable[tuple[object, bool]], total: int, *, prior: tuple[float, float] = PRIOR
) -> tuple[float, float]:
    """The two parameters of the Beta posterior of one rate."""
    yes, no = prior
    for place, (where, answered) in enumerate(tried):
        if where == name:
            weight = 0.5 ** ((total - 1 - place) / HALF_LIFE)
            yes, no = (yes + weight, no) if answered else (yes, no + weight)
    return yes, no


def _prior(expected: float | None) -> tuple[float, float]:
    return PRIOR if expected is None else (expected * KNOWN, (1 - expected) * KNOWN)


def _teaches(belief: tuple[float, float], others: float) -> float:
    """The value of trying a channel, per delivery: the maximum over k = 1, 2, 4, ... trials of the next `AHEAD`.

    Args:
        belief: Beta parameters of the channel's rate.
        others: the highest estimated rate of the other channels.
    """
    weight = sum(belief)
    mean = belief[0] / weight
    variance = mean * (1 - mean) / (weight + 1)
    most, trials = 0.0, 1
    while trials < AHEAD:
        # Standard deviation of the estimate after so many trials, around the present one.
        spread = math.sqrt(variance * trials / (trials + weight))
        away = -abs(mean - others) / spread if spread else -math.inf
        gain = spread * (away * _below(away) + _density(away)) if spread else 0.0
        most, trials = max(most, (AHEAD - trials) / trials * gain), trials * 2
    return most


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
