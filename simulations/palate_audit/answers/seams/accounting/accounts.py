"""Accounts: what several releases cost together, by both accountants, and what sampled steps cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.accounting.prices import MARGIN
from palate_audit.answers.seams.accounting.values import ODD, any_size, maybe_odd
from palate_common.accounting.releases import GaussianEvent
from palate_core import accounting


@contextmanager
def coarse_steps(cells: int = 300, most: int = 2**16, width: float = 9.0) -> Iterator[None]:
    """Sampled steps on a coarse grid, and a narrow one: all of the accounting, at a tenth of the time."""
    accounting._sampled.cache_clear()
    try:
        with mock.patch.multiple(accounting, _CELLS=cells, _MOST_CELLS=most, _WIDTH=width):
            yield
    finally:
        accounting._sampled.cache_clear()


def _event(dice: Dice, share: float) -> dict[str, Any]:
    """What one release says of itself."""
    usual: dict[str, Any] = {
        "sensitivity": dice.one_of((2**14, 0.5, dice.real(100, 4000))),
        "sigma": dice.one_of((64, 64, 2**14, dice.whole(64, 2**18))),
        "dimension": dice.one_of((1, 100, 10**30, 10**31)),
        "round": dice.whole(0, 3),
        "attempt": dice.whole(0, 3),
        "shares": dice.one_of((1, 1, 2, 900, 2**12, 2**20)),
        "inclusion": 1.0,
        "steps": dice.one_of((1, 1, 1, 2, 64)),
    }
    if usual["shares"] > 1:
        usual["dimension"] = dice.one_of((7, 10**11, 10**12))
    if dice.chance(share):
        usual |= {
            "sensitivity": 2**12,
            "sigma": 2 ** dice.whole(12, 14),
            "inclusion": dice.one_of((0.5, 0.25)),
            "steps": 2,
        }
    told = dict(dice.some_of(list(usual.items())[3:], 0.8)) | dict(list(usual.items())[:3])
    return told | ({dice.one_of(list(usual)): dice.one_of(ODD)} if dice.chance(0.15) else {})


class _Charged(GaussianEvent):
    """An event of a class of its own."""


def _accounts(dice: Dice, answer: CaseAnswer) -> None:
    """What the releases of a run cost together."""
    events = list[Any]()
    delta = dice.one_of((1e-5, 2.0**-20, 0.25, any_size(dice, -60, -1)))
    with coarse_steps():
        for _ in range(dice.one_of((0, 1, 2, 3, 3))):
            told = _event(dice, 0.2)
            for odd in dice.some_of(ODD, 0.1):
                answer.tried(GaussianEvent, **(told | {dice.one_of(list(told)): odd}))
            found = answer.tried(GaussianEvent, **told)
            if not isinstance(found, GaussianEvent):
                continue
            events += [found] * dice.one_of((1, 1, 2))
            answer.exact(found.dimension, found.round, found.attempt, found.shares, found.inclusion, found.steps)
            if found.inclusion == 1:
                answer.exact(found.mu2, found.noise_multiplier)
            answer.tell(found.mu2)
        if dice.chance(0.15):
            events.insert(0, dice.one_of((None, {}, _Charged(sensitivity=1.0, sigma=64, dimension=1))))
        total = answer.of(accounting.account, events, delta=dice.one_of((delta,) * 9 + (0, 1.0, math.nan, -1.0)))
        if total and all(event.inclusion == 1 for event in events):
            answer.exact(total.mu2)


def _second_accountant(dice: Dice, answer: CaseAnswer) -> None:
    """The second accountant: the closed form, and what is asked of the library, which here says what it was asked."""
    asked = list[Any]()

    class Accountant:
        def __init__(self, relation: str, interval: float) -> None:
            self._terms: list[Any] = [relation, interval]

        def compose(self, event: tuple[Any, ...], times: int) -> None:
            self._terms.append((event, times))

        def get_epsilon(self, delta: float) -> float:
            asked.append((*self._terms, delta))
            return float(len(asked))

    library, losses = ModuleType("dp_accounting"), ModuleType("dp_accounting.pld")
    vars(library).update(
        GaussianDpEvent=lambda z: ("gauss", z),
        PoissonSampledDpEvent=lambda q, event: ("sampled", q, event),
        NeighboringRelation=SimpleNamespace(REPLACE_SPECIAL="special", ADD_OR_REMOVE_ONE="add", REPLACE_ONE="replace"),
    )
    vars(losses)["PLDAccountant"] = Accountant
    zs = [maybe_odd(dice, dice.one_of((1.0, 2.5, dice.whole(1, 99))), 0.06) for _ in range(dice.whole(0, 4))]
    terms = [
        (maybe_odd(dice, dice.one_of((1.0, 0.5, 0.5, 1.05)), 0.06), dice.one_of((1, 2, 3, 3, 0, True))) for _ in zs
    ]
    answer.of(accounting.epsilon_closed, noise_multipliers=zs[:1], delta=dice.one_of((1e-5, 0.1)))
    answer.of(accounting.epsilon_closed, noise_multipliers=[*zs, dice.one_of((-1, math.inf, 1e150))], delta=0.999)
    accounting._composed_losses.cache_clear()
    with mock.patch.dict(sys.modules, {"dp_accounting": library, "dp_accounting.pld": losses}):
        for delta, interval, sampling in (
            (1e-6, 1e-4, None),
            (1e-6, 1e-4, terms),
            (1e-5, 0.5, terms),
            (1e-6, 0.5, None),
        ):
            more: dict[str, Any] = {} if interval == 1e-4 else {"interval": maybe_odd(dice, interval)}
            answer.of(accounting.epsilon_pld, noise_multipliers=zs, delta=delta, sampling=sampling, **more)
            answer.of(accounting.epsilon_pld, noise_multipliers=zs, delta=maybe_odd(dice, delta), **more)
    accounting._composed_losses.cache_clear()
    answer.exact(asked)


def _sampled(dice: Dice, answer: CaseAnswer) -> None:
    """Sampled steps: their cost on a coarse grid, one argument after the other changed."""
    usual: dict[str, Any] = {
        "sensitivity": dice.one_of((2**14, 3_000, 2.0**13)),
        "sigma": dice.one_of((2**13, 2**15, dice.whole(2**13, 2**16))),
        "inclusion": dice.one_of((0.5, 0.999, dice.real(0.01, 0.9), 1.0, 0.001)),
        "steps": dice.one_of((1, 2, 3, 4, 7, 33)),
    }
    if usual["steps"] == 33:
        usual |= {"sigma": 2**16, "inclusion": 0.03}
    other = {"sensitivity": 2**12, "sigma": 2**14 + 1, "inclusion": 0.125, "steps": 5}
    odd = {"sensitivity": ODD, "sigma": ODD, "inclusion": (*ODD, 0.0009, 1.0001), "steps": (*ODD, 64, 65, np.int64(2))}
    cells, mu, odds = 200, usual["sensitivity"] / usual["sigma"], min(usual["inclusion"], 0.999)
    with coarse_steps(cells):
        most = accounting._cells(mu, odds, usual["steps"]) * usual["steps"] - dice.whole(0, 1)
        for removed in (True, False):
            with mock.patch.object(accounting, "_WIDTH", 3.0):
                answer.tell(accounting._step(mu, odds, dice.one_of((0.01, 0.05)), removed=removed))
    with coarse_steps(cells, dice.one_of((2**16, most)), dice.one_of((9.0, 7.1))):
        changed = dice.one_of(list(usual))
        for told in (usual, usual | {changed: other[changed]}):
            found = accounting.sampled_mu2(**told)
            whole = accounting.charged_mu2(sensitivity=told["sensitivity"], sigma=told["sigma"]) * told["steps"]
            answer.tell(found, found <= whole * MARGIN, found < whole * 0.999)
        if usual["inclusion"] == 1:
            answer.exact(accounting.sampled_mu2(**usual))
        wrong = dice.one_of(list(usual))
        answer.of(accounting.sampled_mu2, **(usual | {"inclusion": 1.0} | {wrong: dice.one_of(odd[wrong])}))


def _sampled_fine(dice: Dice, answer: CaseAnswer) -> None:
    """Sampled steps as they are charged."""
    sigma, inclusion, steps = dice.whole(2**13, 2**16), dice.real(0.02, 0.7), dice.one_of((1, 1, 2))
    answer.of(accounting.sampled_mu2, sensitivity=2**14, sigma=sigma, inclusion=inclusion, steps=steps)
    answer.exact(
        accounting.TAIL, accounting._SPARE, accounting._WIDTH, accounting._MOST_CELLS, accounting._DELTA_MARGIN
    )


def _sampled_noise(dice: Dice, answer: CaseAnswer) -> None:
    """The noise with which sampled steps cost at most so much."""
    told: dict[str, Any] = {
        "mu_r": dice.one_of((0.5, 2.0, 8.0, dice.real(0.2, 16.0))),
        "sensitivity": dice.one_of((256.0, 300)),
        "inclusion": dice.one_of((1.0, 0.5, 0.5, dice.real(0.05, 0.9))),
        "steps": dice.whole(1, 4),
    }
    with coarse_steps(60):
        sigma = accounting.noise_for(**told)
        mu_r = told.pop("mu_r")
        answer.tell(sigma, accounting.sampled_mu2(sigma=sigma, **told) <= mu_r**2)
        for inclusion, steps in ((1.0, 0), (1.0001, 1), (0.0009, 2), (1.0, 65)):
            answer.of(accounting.noise_for, mu_r=1.0, sensitivity=256.0, inclusion=inclusion, steps=steps)
        answer.of(accounting.noise_for, mu_r=dice.one_of(ODD), sensitivity=256, inclusion=1.0, steps=dice.whole(1, 9))


SEAMS = (
    Seam("accounts: the releases of a run together", _accounts, 18),
    Seam("the second accountant: what it is asked", _second_accountant, 18),
    Seam("sampled steps: their cost", _sampled, 12),
    Seam("sampled steps: their cost on the grid that is charged", _sampled_fine, 3),
    Seam("sampled steps: noise for a budget", _sampled_noise, 6),
)
