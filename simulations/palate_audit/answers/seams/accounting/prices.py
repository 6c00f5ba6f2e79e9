"""Prices: what one release costs, what noise a budget buys, and epsilon, delta and mu into each other."""

from __future__ import annotations

import math
from fractions import Fraction

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.accounting.values import ODD, any_size, maybe_odd
from palate_core import accounting

MARGIN = 1.0 + 1e-10
"""By which the accountant's delta may be off."""


def _costs(dice: Dice, answer: CaseAnswer) -> None:
    """Epsilon, delta and mu into each other."""
    epsilon, delta, mu = any_size(dice, -7, 5), any_size(dice, -40, -13), any_size(dice, -5, 3)
    answer.of(accounting.epsilon_of, mu=mu, delta=delta)
    answer.of(accounting.delta_of, epsilon=epsilon, mu=mu)
    if dice.chance(0.2):
        answer.of(accounting.mu_of, epsilon=dice.one_of((epsilon, 1.0)), delta=dice.one_of((delta, 0.3)))


def _safe_sides(dice: Dice, answer: CaseAnswer) -> None:
    """Whether each of epsilon and mu is rounded to its safe side, and not a digit further."""
    epsilon, delta, mu = any_size(dice, -7, 5), any_size(dice, -40, -2), any_size(dice, -7, 3)
    best = accounting.mu_of(epsilon=epsilon, delta=delta)
    answer.tell(best)
    answer.tell(accounting.delta_of(epsilon=epsilon, mu=best * (1 + 5e-12)) * MARGIN <= delta)
    answer.tell(accounting.delta_of(epsilon=epsilon, mu=best * (1 + 1e-10)) * MARGIN > delta)
    for owed in (delta, dice.one_of((delta / 2, 0.4, 0.9))):
        found = accounting.epsilon_of(mu=mu, delta=owed)
        answer.tell(found, accounting.delta_of(epsilon=found, mu=mu) * MARGIN <= owed)
        before = math.nextafter(found, 0.0)
        answer.tell(found > 0 and accounting.delta_of(epsilon=before, mu=mu) * MARGIN > owed)


def _deltas(dice: Dice, answer: CaseAnswer) -> None:
    """Delta for every size of epsilon and mu, and what is refused."""
    for _ in range(3):
        epsilon, mu = dice.one_of((0, 0.0, any_size(dice, -30, 9))), dice.one_of((0, any_size(dice, -30, 12), 3.0, 0.0))
        answer.of(accounting.delta_of, epsilon=epsilon, mu=mu)
        near = max(mu * mu / 2 + mu * dice.real(-3, 8), 0.0)
        answer.of(accounting.delta_of, epsilon=near, mu=mu)
    for call, usual in ((accounting.delta_of, {"epsilon": 0.0, "mu": 9999.5}),
                        (accounting.epsilon_of, {"mu": 0.0, "delta": 0.125}),
                        (accounting.epsilon_of, {"mu": 0.25, "delta": 0.99}),
                        (accounting.mu_of, {"epsilon": 0.5, "delta": 0.5})):  # fmt: skip
        for wrong in usual:
            answer.of(call, **{**usual, wrong: dice.one_of((*ODD[:8], 1.0, 1e4, math.nextafter(1e4, 0)))})
    for value in dice.some_of(ODD, 0.3):
        answer.exact(answer.tried(accounting.check_epsilon, value), answer.tried(accounting.check_delta, value))
    for users in (*dice.some_of(ODD, 0.3), dice.one_of((1, 9_999, 10_000, 10_001, 10**7))):
        answer.exact(answer.tried(accounting.default_delta, n_users=users))
    answer.exact(*map(accounting.pld_interval, (dice.one_of((0.5, 1.0, math.nextafter(1, 0))), dice.real(1, 60), 20.0)))


def _charges(dice: Dice, answer: CaseAnswer) -> None:
    """Charges of single releases, the noise that a budget buys, and budgets that are split."""
    sensitivity = maybe_odd(dice, dice.one_of((2**14, 2**20, any_size(dice, -8, 26), dice.whole(1, 10**6), 1.0)))
    sigma = maybe_odd(dice, dice.one_of((64, 65, dice.whole(64, 4096), dice.whole(64, 2**30), 2**40)))
    charge = answer.tried(accounting.charged_mu2, sensitivity=sensitivity, sigma=sigma)
    answer.exact(charge)
    budgets = [maybe_odd(dice, any_size(dice, -12, 8), 0.2)]
    if isinstance(charge, float) and 0 < charge < 1e8:
        budgets += [math.sqrt(charge), math.nextafter(math.sqrt(charge), 0.0), math.nextafter(math.sqrt(charge), 1e9)]
    for mu_r in budgets:
        answer.of(accounting.sigma_for, mu_r=mu_r, sensitivity=sensitivity)
    answer.of(accounting.sigma_for, mu_r=2.0**-9, sensitivity=float(2**21 - dice.whole(-1, 2)))  # about the largest
    for odd in dice.some_of(ODD, 0.25):
        answer.exact(answer.tried(accounting.charged_mu2, sensitivity=100, sigma=odd))
        answer.exact(answer.tried(accounting.charged_mu2, sensitivity=odd, sigma=64))
        answer.exact(answer.tried(accounting.sigma_for, mu_r=odd, sensitivity=2**10))
        answer.exact(answer.tried(accounting.sigma_for, mu_r=1.0, sensitivity=odd))
        answer.exact(answer.tried(accounting.discrete_slack, releases=odd, dimension=1))
        answer.exact(answer.tried(accounting.discrete_slack, releases=1, dimension=odd))
    round_mu = dice.whole(2**12, 2**20) / 2**16
    close = round_mu * math.sqrt(dice.whole(65, 999) ** 2 - 4)
    for _ in range(5):  # with one of them the charge is all of the budget
        answer.of(accounting.sigma_for, mu_r=round_mu, sensitivity=close)
        close = math.nextafter(close, 0.0)
    shares = [maybe_odd(dice, dice.one_of((1, 4, 0.25, dice.real())), 0.04) for _ in range(dice.whole(0, 5))]
    mu = maybe_odd(dice, any_size(dice, -4, 4))
    answer.exact(answer.tried(accounting.split_budget, mu=mu, shares=shares))
    sizes = [
        dice.one_of((any_size(dice, -60, 3), Fraction(dice.whole(0, 99), 7), 1, 0.1)) for _ in range(dice.whole(0, 7))
    ]
    answer.exact(answer.tried(accounting.total_mu2, sizes))
    answer.exact(answer.tried(accounting.total_mu2, [*sizes, dice.one_of((*ODD[3:6], "x", None, 0.5, -1.0))]))
    exact = Fraction(dice.whole(-(2**60), 2**60), dice.one_of((1, 3, 2**70, 10**30)))
    answer.exact(*map(accounting.round_up, (exact, exact * 2**990, Fraction(2**1024), Fraction(dice.real()))))
    releases, dimension = (maybe_odd(dice, dice.one_of((0, 1, 7, 10**6, 10**28)), 0.15) for _ in range(2))
    answer.exact(answer.tried(accounting.discrete_slack, releases=releases, dimension=dimension))


SEAMS = (
    Seam("epsilon, delta and mu", _costs, 24),
    Seam("epsilon and mu: rounded to their safe sides", _safe_sides, 6),
    Seam("delta: every size, and what is refused", _deltas, 36),
    Seam("charges: releases, noise for a budget, budgets that are split", _charges, 60),
)
