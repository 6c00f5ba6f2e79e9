"""Choice: which channel and which part of the day this user answers, learned from their own reactions alone.

Thompson sampling (Thompson 1933; Chapelle and Li 2011) on two independent questions, the channel and the part of the
day: with 6 parts and 5 channels there are 11 rates to learn in the place of 30. A rate has a Beta prior; older
deliveries count less, so that a user may change. It chooses among what the rules leave open.

    >>> import numpy as np
    >>> tried = [Trial("email", 9.5, False)] * 8 + [Trial("chat", 9.5, True)] * 8
    >>> choose_channel(["chat", "email"], tried, np.random.default_rng(0))
    'chat'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

HALF_LIFE = 120
"""After so many later deliveries one counts half."""
PRIOR = (0.5, 1.5)
"""Beta(a, b) of a rate nobody knows: one delivery in four is answered, with the weight of two deliveries."""
PARTS = 6
"""Of the day, of four hours each, from midnight."""
SHARPNESS = (2.0, 20.0)
"""How much more than its evidence a rate is believed, with no delivery and with `SURE` of them: a user has few, so
exploring has to end."""
SURE = 40


@dataclass(frozen=True, slots=True)
class Trial:
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


def choose_channel(channels: Sequence[str], tried: Sequence[Trial], rng: np.random.Generator) -> str:
    """The channel with the best drawn rate.

    Args:
        channels: that may be used now, at least one.
        tried: deliveries with their outcomes, oldest first.
        rng: of this device.
    """
    drawn = {
        each: _draw(each, ((trial.channel, trial.answered) for trial in tried), len(tried), rng) for each in channels
    }
    return max(drawn, key=lambda each: drawn[each])


def choose_part(parts: Sequence[int], tried: Sequence[Trial], rng: np.random.Generator) -> int:
    """The part of the day with the best drawn rate; of equals the earlier one in `parts`."""
    drawn = {
        each: _draw(each, ((part_of(trial.hour), trial.answered) for trial in tried), len(tried), rng) for each in parts
    }
    return max(drawn, key=lambda each: drawn[each])


def rate(name: object, tried: Iterable[tuple[object, bool]], total: int) -> tuple[float, float]:
    """The Beta posterior of one rate: its two parameters."""
    yes, no = PRIOR
    for place, (where, answered) in enumerate(tried):
        if where == name:
            weight = 0.5 ** ((total - 1 - place) / HALF_LIFE)
            yes, no = (yes + weight, no) if answered else (yes, no + weight)
    return yes, no


def _draw(name: object, tried: Iterable[tuple[object, bool]], total: int, rng: np.random.Generator) -> float:
    """One draw of a rate."""
    yes, no = rate(name, tried, total)
    first, last = SHARPNESS
    sharpness = first + (last - first) * min(total / SURE, 1.0)
    return float(rng.beta(yes * sharpness, no * sharpness))
