"""Choice: which channel and which part of the day this user answers, learned from their own reactions.

Two independent questions, the channel and the part of the day: with 6 parts and 5 channels there are 11 rates to learn
in the place of 30. A rate has a Beta prior, which an app may bring from what a population answers; older deliveries
count less, so that a user may change. It chooses among what the rules leave open.

A channel is worth its rate, as far as is known, and what trying it may teach: by how much the best known rate should
rise if the channel is tried k more times, for the messages that follow. What may be learned counts much at first, and
nothing once a user's deliveries have said enough: exploring has to end, for a user has few.

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
"""After so many later deliveries one counts half."""
PRIOR = (0.5, 1.5)
"""Beta(a, b) of a rate nobody knows: one delivery in four is answered, with the weight of two deliveries."""
KNOWN = 5.0
"""The weight, in deliveries, of a rate that the app expects."""
PARTS = 6
"""Of the day, of four hours each, from midnight."""
AHEAD = 50
"""Deliveries that what is learned is for."""
SETTLED = 45
"""After so many deliveries nothing is tried for the sake of learning."""
CURIOSITY = 30.0
"""How much more than its value learning counts before the first delivery; less and less until `SETTLED`."""
SHARPNESS = (2.0, 20.0)
"""How much more than its evidence a part of the day is believed, with no delivery and with `SURE` of them."""
SURE = 40


@dataclass(frozen=True, slots=True)
class DeliveryTrial:
    """A delivery whose outcome is known.

    Attributes:
        channel: it was sent on.
        hour: of the user's day.
        answered: whether the user did something with it.
    """

    channel: str
    hour: float
    answered: bool


def part_of(hour: float) -> int:
    """The part of the day an hour is in."""
    return int(hour * PARTS / 24) % PARTS


def choose_channel(
    channels: Sequence[str],
    tried: Sequence[DeliveryTrial],
    rng: np.random.Generator,
    *,
    expected: Mapping[str, float],
) -> str:
    """The channel that is worth most; of equals a random one.

    Args:
        channels: that may be used now, at least one.
        tried: deliveries with their outcomes, oldest first.
        rng: of this device.
        expected: channel -> the rate that users answer it with, where the app knows one.
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
    """The part of the day with the best drawn rate; of equals the earlier one in `parts`."""
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
    """The Beta posterior of one rate: its two parameters."""
    yes, no = prior
    for place, (where, answered) in enumerate(tried):
        if where == name:
            weight = 0.5 ** ((total - 1 - place) / HALF_LIFE)
            yes, no = (yes + weight, no) if answered else (yes, no + weight)
    return yes, no


def _prior(expected: float | None) -> tuple[float, float]:
    """The Beta prior of a channel."""
    return PRIOR if expected is None else (expected * KNOWN, (1 - expected) * KNOWN)


def _teaches(belief: tuple[float, float], others: float) -> float:
    """What trying a channel may teach, a delivery: at best over 1, 2, 4, ... trials of the next `AHEAD`.

    Args:
        belief: Beta parameters of its rate.
        others: the best rate of the others, as far as is known.
    """
    weight = sum(belief)
    mean = belief[0] / weight
    variance = mean * (1 - mean) / (weight + 1)
    most, trials = 0.0, 1
    while trials < AHEAD:
        # The mean after so many trials is spread about the mean now by this much.
        spread = math.sqrt(variance * trials / (trials + weight))
        away = -abs(mean - others) / spread if spread else -math.inf
        gain = spread * (away * _below(away) + _density(away)) if spread else 0.0
        most, trials = max(most, (AHEAD - trials) / trials * gain), trials * 2
    return most


def _below(z: float) -> float:
    """The standard normal's distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _density(z: float) -> float:
    """The standard normal's density."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
