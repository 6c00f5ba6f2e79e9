"""Bandit trials: simulated users with a channel and an hour of their own, and what of their best response is reached.

A simulated user answers a message with the probability of its channel times that of its hour. The choice is the SDK's;
so are the days and caps: one message a day.

    >>> reached = responses(users=20, deliveries=50, seed=0)
    >>> reached.shape
    (50,)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_client.delivery.choice import PARTS, Trial, choose_channel, choose_part

TYPICAL = {"chat": 0.25, "digest": 0.15, "email": 0.12, "notification": 0.2, "sms": 0.1}
"""Rates of answering of a user in the middle: assumptions, not measurements."""
WAKING = (2, 3, 4, 5)
"""Parts of the day outside the quiet hours."""


def responses(*, users: int, deliveries: int, seed: int, spread: float = 1.5) -> npt.NDArray[np.float64]:
    """The rate of the channel that is chosen at each delivery as a share of the best one's, mean over users.

    Args:
        users: simulated users. The rate of a channel is `TYPICAL`'s, moved on the logit scale by a normal number of
            each user's own; each hour has a factor, uniform in [0.5, 1], and one of the day's waking hours has 1.
        deliveries: to each.
        seed: of users, answers and choices.
        spread: standard deviation of that number: how much users differ.
    """
    rng = np.random.default_rng(seed)
    typical = np.array(list(TYPICAL.values()))
    channels = list(TYPICAL)
    reached = np.zeros(deliveries)
    for _ in range(users):
        rates = 1 / (1 + np.exp(-(np.log(typical / (1 - typical)) + rng.normal(0, spread, len(typical)))))
        hours = rng.uniform(0.5, 1.0, PARTS)
        hours[WAKING[int(rng.integers(len(WAKING)))]] = 1.0
        tried = list[Trial]()
        for number in range(deliveries):
            place = channels.index(choose_channel(channels, tried, rng))
            part = choose_part(WAKING, tried, rng)
            reached[number] += rates[place] / rates.max() / users
            answered = bool(rng.random() < rates[place] * hours[part])
            tried.append(Trial(channels[place], part * 24 / PARTS, answered))
    return reached
