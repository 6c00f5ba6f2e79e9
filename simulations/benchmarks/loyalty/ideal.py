"""Ideal: what could be reached by somebody who knows the law that users are drawn from, and has no other aim.

Top-two Thompson sampling (Russo, Simple Bayesian Algorithms for Best-Arm Identification, Operations Research 2020) with
the true means and spreads of the population as its prior spends `SEEK` deliveries on finding the best channel, whatever
they bring, and the rest on the best that is known. No device has that prior, and no user wants those deliveries.
"""

from __future__ import annotations

import numpy as np

from benchmarks.worlds.bandit import WAKING, Floats, Reached, User

SEEK = 45
DRAWS = 30
"""After so many draws that agree, the second of the two is the first."""


def ideal(*, users: int, deliveries: int, seed: int, spread: float) -> Reached:
    """The same users as `benchmarks.worlds.bandit.responses` has for other seeds, under the ideal."""
    rng = np.random.default_rng(seed)
    drawn = [User.drawn(rng, spread) for _ in range(users)]
    rates, hours = np.array([user.rates for user in drawn]), np.array([user.hours for user in drawn])
    yes, no = (np.tile(each, (users, 1)) for each in _law(spread))
    everybody, chosen = np.arange(users), np.zeros((users, deliveries))
    for delivery in range(deliveries):
        best = (yes / (yes + no)).argmax(axis=1)
        if delivery < SEEK:
            best = rng.beta(yes, no).argmax(axis=1)
            second = best.copy()
            for _ in range(DRAWS):
                second = np.where(second == best, rng.beta(yes, no).argmax(axis=1), second)
            best = np.where(rng.random(users) < 0.5, best, second)
        parts = rng.choice(WAKING, users)
        answered = rng.random(users) < rates[everybody, best] * hours[everybody, parts]
        chosen[:, delivery] = rates[everybody, best]
        yes[everybody, best] += answered
        no[everybody, best] += ~answered
    return Reached(chosen, rates.max(axis=1), ())


def _law(spread: float) -> tuple[Floats, Floats]:
    """Beta parameters of each channel's answers at a random hour, by the moments of many users."""
    rng = np.random.default_rng(0)
    many = [User.drawn(rng, spread) for _ in range(20_000)]
    seen = np.array([user.rates * user.hours[list(WAKING)].mean() for user in many])
    mean, variance = seen.mean(axis=0), seen.var(axis=0)
    weight = mean * (1 - mean) / variance - 1
    return mean * weight, (1 - mean) * weight
