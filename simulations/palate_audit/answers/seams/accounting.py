"""Accounting: what releases cost, and what noise a budget buys."""

from __future__ import annotations

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.mechanism import accounting


def _costs(dice: Dice, answer: Answer) -> None:
    """Epsilon, delta and mu into each other."""
    epsilon, delta = 10 ** dice.real(-1, 1.2), 10.0 ** -dice.whole(4, 9)
    mu = answer.of(accounting.mu_of, epsilon=epsilon, delta=delta)
    answer.of(accounting.epsilon_of, mu=mu, delta=delta)
    answer.of(accounting.delta_of, epsilon=epsilon, mu=mu)


SEAMS = (Seam("epsilon, delta and mu", _costs, 30),)
