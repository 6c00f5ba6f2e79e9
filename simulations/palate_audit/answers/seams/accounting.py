"""Accounting: what releases cost, what noise a budget buys, and what a run's terms, cohort and budget follow from."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts
from palate_common.errors import PalateError
from palate_common.mechanism import accounting, cohort
from palate_common.mechanism.accounting import GaussianEvent
from palate_common.mechanism.cohort import CohortTerms
from palate_common.records.canonical import digest
from palate_common.records.entries import ChargeEntry
from palate_common.rounds.plan import Noise, Sampling, attempt_mu2
from palate_common.rounds.privacy_mode import MODES, DpMode, mode_of
from palate_server.rounds import budget
from palate_server.rounds import cohort as cohorts
from palate_server.rounds.budget import BudgetSchedule
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms, make_terms, noise_delta

MARGIN = 1.0 + 1e-10
"""By which the accountant's delta may be off."""
ODD: tuple[Any, ...] = (None, True, "1", math.nan, math.inf, -math.inf, -1, 0, 0.5, 63, np.int64(100), np.float32(0.25),
                        Fraction(1, 3), 1e4, 1.0, 1, 1e-101, 1e150, 64.0, 65)  # fmt: skip
"""Values of every kind, most of which are refused."""


def _size(dice: Dice, low: int, high: int) -> float:
    """A number from 2^low to 2^(high + 1), any size alike."""
    return float(np.ldexp(dice.real(1.0, 2.0), dice.whole(low, high)))


def _maybe_odd(dice: Dice, usual: Any, share: float = 0.1) -> Any:
    """A usual value, or now and then an odd one."""
    return dice.one_of(ODD) if dice.chance(share) else usual


@contextmanager
def _coarse(cells: int = 300, most: int = 2**16, width: float = 9.0) -> Iterator[None]:
    """Sampled steps on a coarse grid, and a narrow one: all of the accounting, at a tenth of the time."""
    accounting._sampled.cache_clear()
    try:
        with mock.patch.multiple(accounting, _CELLS=cells, _MOST_CELLS=most, _WIDTH=width):
            yield
    finally:
        accounting._sampled.cache_clear()


def _costs(dice: Dice, answer: Answer) -> None:
    """Epsilon, delta and mu into each other, and whether each is rounded to its safe side."""
    epsilon, delta, mu = _size(dice, -7, 5), _size(dice, -40, -2), _size(dice, -7, 3)
    best = answer.of(accounting.mu_of, epsilon=epsilon, delta=delta)
    if dice.chance(0.4):
        answer.of(accounting.mu_of, epsilon=epsilon, delta=0.3)
    if best:
        answer.tell(accounting.delta_of(epsilon=epsilon, mu=best * (1 + 5e-12)) * MARGIN <= delta)
        answer.tell(accounting.delta_of(epsilon=epsilon, mu=best * (1 + 1e-10)) * MARGIN > delta)
    for owed in (delta, dice.one_of((delta / 2, 0.4, 0.9))):
        found = answer.of(accounting.epsilon_of, mu=mu, delta=owed)
        answer.tell(accounting.delta_of(epsilon=found, mu=mu) * MARGIN <= owed)
        before = math.nextafter(found, 0.0)
        answer.tell(found > 0 and accounting.delta_of(epsilon=before, mu=mu) * MARGIN > owed)


def _deltas(dice: Dice, answer: Answer) -> None:
    """Delta for every size of epsilon and mu, and what is refused."""
    for _ in range(3):
        epsilon, mu = dice.one_of((0, 0.0, _size(dice, -30, 9))), dice.one_of((0, _size(dice, -30, 12), 3.0, 0.0))
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


def _charges(dice: Dice, answer: Answer) -> None:
    """Charges of single releases, the noise that a budget buys, and budgets that are split."""
    sensitivity = _maybe_odd(dice, dice.one_of((2**14, 2**20, _size(dice, -8, 26), dice.whole(1, 10**6), 1.0)))
    sigma = _maybe_odd(dice, dice.one_of((64, 65, dice.whole(64, 4096), dice.whole(64, 2**30), 2**40)))
    charge = answer.tried(accounting.charged_mu2, sensitivity=sensitivity, sigma=sigma)
    answer.exact(charge)
    budgets = [_maybe_odd(dice, _size(dice, -12, 8), 0.2)]
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
    shares = [_maybe_odd(dice, dice.one_of((1, 4, 0.25, dice.real())), 0.04) for _ in range(dice.whole(0, 5))]
    mu = _maybe_odd(dice, _size(dice, -4, 4))
    answer.exact(answer.tried(accounting.split_budget, mu=mu, shares=shares))
    sizes = [
        dice.one_of((_size(dice, -60, 3), Fraction(dice.whole(0, 99), 7), 1, 0.1)) for _ in range(dice.whole(0, 7))
    ]
    answer.exact(answer.tried(accounting.total_mu2, sizes))
    answer.exact(answer.tried(accounting.total_mu2, [*sizes, dice.one_of((*ODD[3:6], "x", None, 0.5, -1.0))]))
    exact = Fraction(dice.whole(-(2**60), 2**60), dice.one_of((1, 3, 2**70, 10**30)))
    answer.exact(*map(accounting.round_up, (exact, exact * 2**990, Fraction(2**1024), Fraction(dice.real()))))
    releases, dimension = (_maybe_odd(dice, dice.one_of((0, 1, 7, 10**6, 10**28)), 0.15) for _ in range(2))
    answer.exact(answer.tried(accounting.discrete_slack, releases=releases, dimension=dimension))


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


def _accounts(dice: Dice, answer: Answer) -> None:
    """What the releases of a run cost together."""
    events = list[Any]()
    delta = dice.one_of((1e-5, 2.0**-20, 0.25, _size(dice, -60, -1)))
    with _coarse():
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


def _second(dice: Dice, answer: Answer) -> None:
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
    zs = [_maybe_odd(dice, dice.one_of((1.0, 2.5, dice.whole(1, 99))), 0.06) for _ in range(dice.whole(0, 4))]
    terms = [
        (_maybe_odd(dice, dice.one_of((1.0, 0.5, 0.5, 1.05)), 0.06), dice.one_of((1, 2, 3, 3, 0, True))) for _ in zs
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
            more: dict[str, Any] = {} if interval == 1e-4 else {"interval": _maybe_odd(dice, interval)}
            answer.of(accounting.epsilon_pld, noise_multipliers=zs, delta=delta, sampling=sampling, **more)
            answer.of(accounting.epsilon_pld, noise_multipliers=zs, delta=_maybe_odd(dice, delta), **more)
    accounting._composed_losses.cache_clear()
    answer.exact(asked)


def _sampled(dice: Dice, answer: Answer) -> None:
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
    with _coarse(cells):
        most = accounting._cells(mu, odds, usual["steps"]) * usual["steps"] - dice.whole(0, 1)
        for removed in (True, False):
            with mock.patch.object(accounting, "_WIDTH", 3.0):
                answer.tell(accounting._step(mu, odds, dice.one_of((0.01, 0.05)), removed=removed))
    with _coarse(cells, dice.one_of((2**16, most)), dice.one_of((9.0, 7.1))):
        changed = dice.one_of(list(usual))
        for told in (usual, usual | {changed: other[changed]}):
            found = accounting.sampled_mu2(**told)
            whole = accounting.charged_mu2(sensitivity=told["sensitivity"], sigma=told["sigma"]) * told["steps"]
            answer.tell(found, found <= whole * MARGIN, found < whole * 0.999)
        if usual["inclusion"] == 1:
            answer.exact(accounting.sampled_mu2(**usual))
        wrong = dice.one_of(list(usual))
        answer.of(accounting.sampled_mu2, **(usual | {"inclusion": 1.0} | {wrong: dice.one_of(odd[wrong])}))


def _sampled_fine(dice: Dice, answer: Answer) -> None:
    """Sampled steps as they are charged."""
    sigma, inclusion, steps = dice.whole(2**13, 2**16), dice.real(0.02, 0.7), dice.one_of((1, 1, 2))
    answer.of(accounting.sampled_mu2, sensitivity=2**14, sigma=sigma, inclusion=inclusion, steps=steps)
    answer.exact(
        accounting.TAIL, accounting._SPARE, accounting._WIDTH, accounting._MOST_CELLS, accounting._DELTA_MARGIN
    )


def _sampled_noise(dice: Dice, answer: Answer) -> None:
    """The noise with which sampled steps cost at most so much."""
    told: dict[str, Any] = {
        "mu_r": dice.one_of((0.5, 2.0, 8.0, dice.real(0.2, 16.0))),
        "sensitivity": dice.one_of((256.0, 300)),
        "inclusion": dice.one_of((1.0, 0.5, 0.5, dice.real(0.05, 0.9))),
        "steps": dice.whole(1, 4),
    }
    with _coarse(60):
        sigma = accounting.noise_for(**told)
        mu_r = told.pop("mu_r")
        answer.tell(sigma, accounting.sampled_mu2(sigma=sigma, **told) <= mu_r**2)
        for inclusion, steps in ((1.0, 0), (1.0001, 1), (0.0009, 2), (1.0, 65)):
            answer.of(accounting.noise_for, mu_r=1.0, sensitivity=256.0, inclusion=inclusion, steps=steps)
        answer.of(accounting.noise_for, mu_r=dice.one_of(ODD), sensitivity=256, inclusion=1.0, steps=dice.whole(1, 9))


def _shares(dice: Dice, answer: Answer) -> None:
    """Cohorts of devices: what they may be, each one's share of the noise, its distance, and the bits of a sum."""
    c_max = dice.one_of((0, 1, 2, dice.whole(0, 20_011)))
    n_min = c_max + dice.one_of((0, 1, 2, dice.whole(0, 20_011)))
    told: dict[str, Any] = {
        "n_max": n_min + dice.one_of((-1, 0, 1, dice.whole(0, 10**4), 2**26 - n_min, 2**26 + 1 - n_min)),
        "n_min": n_min,
        "c_max": c_max,
        "masks": dice.chance(0.5),
        "directory": dice.one_of((None, "ab" * 32, "AB" * 32, "ab" * 31)),
        "max_tosses": dice.one_of((16, 0, 1, 1024, 1025)),
    }
    if dice.chance(0.6):
        told |= {"masks": told["directory"] is not None, "c_max": max(1, c_max), "n_min": max(n_min, c_max + 2)}
    if dice.chance(0.6):
        told |= {"n_max": max(told["n_max"], told["n_min"])}
        told.pop("max_tosses")
    found = answer.tried(CohortTerms, **told)
    answer.tell(found, found.shares if isinstance(found, CohortTerms) else None)
    shares = dice.one_of((1, 2, 3, dice.whole(1, 20_011), 0, -1, 2**26))
    near = math.isqrt(abs(shares) * dice.whole(3, 9) ** 2) + dice.whole(0, 1)  # a share is just a whole number, or not
    for sigma in (64, near, dice.one_of((0, 1, 2, 3, dice.whole(1, 1000), dice.whole(1, 2**40)))):
        share = answer.of(cohort.share_sigma, sigma=sigma, shares=shares)
        slack = answer.of(cohort.shares_slack, sigma=sigma, shares=shares)
        answer.tell(None if slack is None else (slack == 0, round(1e3 * math.log(slack)) // 4 if slack else 0))
        grid = dice.one_of((1, 2**14, 2**26, dice.whole(1, 2**26)))
        for n_max in (1, dice.one_of((2, 3, 4, 2**26, dice.whole(1, 10**5))), 2 ** dice.whole(30, 40)):
            answer.of(cohort.modulus_bits, n_max=n_max, grid=grid, share=share or 0)
    answer.of(cohort.modulus_bits, n_max=1, grid=2**61 - 128 + dice.whole(-1, 2), share=1)


def _modes(dice: Dice, answer: Answer) -> None:
    """Modes of privacy: who adds how much noise, and what is refused."""
    name = dice.one_of((*MODES, *MODES, "Central", "", None, DpMode.LOCAL, "offf"))
    mode = answer.tried(mode_of, name)
    if isinstance(mode, PalateError):
        return
    answer.tell(mode, mode.alone, mode.trusts_server)
    many = CohortTerms(n_max=dice.whole(100, 999), n_min=50, c_max=dice.whole(1, 49), masks=False)
    users, sigma, grid = dice.whole(0, 9), dice.whole(0, 10**6), dice.whole(1, 2**20)
    for group in (None, many):
        for events in (None, object()):
            try:
                answer.tell(mode.check(group, events))
            except ValueError:
                answer.tell("refused", group, events is None)
        answer.of(mode.device_sigma, sigma=sigma + 1, cohort=group)
        answer.of(mode.released_sigma, users, sigma=sigma + 1, cohort=group)
        for n in (users, 1, 2 ** dice.whole(8, 45)):
            answer.of(mode.bits, n, grid=grid, sigma=sigma + 1, cohort=group)
    answer.tell(mode.released_sigma(users, sigma=0, cohort=many) if sigma % 2 and not mode.cohort else None)
    for inclusion in (None, 1.0, 1, 0.5, 0.0):
        answer.exact(mode.reserved_delta(inclusion))
    answer.exact(mode.reserved_delta())


def _cohorts(dice: Dice, answer: Answer) -> None:
    """A run's cohort, and a grid on which its sum and its noise fit."""
    n_users = dice.one_of((0, 1, 2, 3, 5, 10, dice.whole(3, 250), 249, 250, 251, 300, 1000))
    corrupt, dropout = (dice.one_of((0.0, 0.1, 0.25, 0.5, dice.real(), 1.0, 1e-9)) for _ in range(2))
    directory = dice.one_of((None, "cd" * 32))
    answer.tell(cohorts.least_of(n_users, dropout=dropout))
    answer.of(cohorts.choose_cohort, n_users=n_users, corrupt=corrupt, dropout=dropout, directory=directory)
    answer.of(cohorts.choose_cohort, n_users=n_users + 1, corrupt=corrupt / 8, dropout=dropout / 8, directory=directory)
    for corrupted in range(1, 5):
        few = {"n_users": 5, "dropout": dice.one_of((0.0, 0.1)), "directory": directory}
        answer.of(cohorts.choose_cohort, corrupt=corrupted / 5 - 0.01, **few)
    most = CohortTerms(n_max=2**26, n_min=2, c_max=1, masks=False)
    for local, group in ((True, None), (False, None), (False, most), (True, most)):
        far = {"grid": 2**35, "epsilon": 1.0, "local": local}
        answer.of(cohorts.spendable_grid, group, [dice.one_of((63.0, 33.0))] * 2, **far)
    n_max = dice.one_of((2, 10, dice.whole(2, 2**22), 2**26))
    shared = CohortTerms(n_max=n_max, n_min=dice.whole(2, n_max), c_max=1, masks=False)
    mus = [_size(dice, -14, 4) for _ in range(dice.whole(1, 4))]
    for group in (None, shared):
        answer.of(cohorts.choose_grid, group, mus=mus)
        answer.of(cohorts.choose_grid, group, mus=[dice.one_of((2.0, 2.0**-5, 2.0**-7, 2.0**-9))])
        for local in (False, True):
            told = {"grid": dice.one_of((None, None, 0, 2**8, 2**14, 2**26)), "epsilon": dice.one_of((1.0, 0.125))}
            answer.of(cohorts.spendable_grid, group, dice.one_of((mus, mus[::-1], [])), local=local, **told)


@contextmanager
def _most_attempts(most: int) -> Iterator[None]:
    """Fewer attempts that delta is reserved for."""
    with mock.patch.object(budget, "MAX_ATTEMPTS", most):
        yield


def _terms(dice: Dice, **changes: Any) -> dict[str, Any]:
    """A run's terms, of any mode."""
    dp = dice.one_of(("central", "distributed", "local", "off"))
    events = dice.one_of((None, 1.0, 0.5)) if dp == "local" else None
    mu, epsilon, delta = dice.one_of(((0.125, 1.0, 1e-5), (0.5, 3.0, 2.0**-20), (2.0, 30.0, 1e-6), (8.0, 80.0, 1e-3)))
    private = dp != "off"
    many = CohortTerms(n_max=90, n_min=80, c_max=dice.whole(1, 20), masks=False)
    return {
        "population": "readers",
        "run": "run-1",
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=90, n_items=9, mu=mu if private else None, local=dp == "local"),
        "catalogue": "ab" * 32,
        "dp": dp,
        "epsilon": epsilon if private else None,
        "delta": delta,
        "grid": dice.one_of((2**8, 2**14, 2**20, 2**26)),
        "cohort": many if dp == "distributed" else None,
        "events": events,
        **changes,
    }


def _schedules(dice: Dice, answer: Answer) -> None:
    """A run's budget: the price of each attempt, with void ones between, until nothing is left."""
    parts = [dice.whole(1, 8) for _ in range(dice.whole(1, 4))]
    shares = [part / sum(parts) for part in parts]
    if dice.chance(0.2):
        shares = dice.one_of(([1 + 2e-9], [0.5, 0.5 + 5e-10], [-0.5, 1.5], [0.0, 1.0], [1 / 3] * 3, [0.5]))
    facts = _terms(dice)
    terms = RunTerms.model_validate(facts)
    charges, spent = list[ChargeEntry](), [0.0]
    steps = dice.whole(1, 3)
    with _coarse(60), _most_attempts(dice.one_of((3, 4, 99))):
        plan = answer.tried(BudgetSchedule, terms, shares, lambda: spent[0], lambda round_: steps + round_)
        if isinstance(plan, PalateError):
            return
        answer.exact(plan.budget)
        round_ = 0
        for _ in range(2 if terms.events == 0.5 else 7):
            if round_ == len(shares):
                break
            answer.tell(plan.affords(round_), plan.sampling(round_))
            found = answer.tried(plan.price, round_, charges)
            if isinstance(found, PalateError) or not terms.mode.private:
                break
            sigma, mu2, attempt = found
            if terms.events == 0.5:
                answer.tell(sigma, attempt, mu2)
            else:
                answer.exact(sigma, mu2, attempt)
            run = dice.one_of(("run-1", "run-1", "run-2"))
            charges.append(_charge(run, round_, attempt, mu2))
            spent[0] += dice.one_of((mu2, mu2, mu2, 0.7 * plan.budget * shares[round_], 0.0))
            round_ += dice.one_of((0, 1, 1))
        spent[0] = plan.budget - dice.one_of((0.05, 0.0499, 0.0501, -1.0)) * plan.budget * shares[-1]
        answer.tell([plan.affords(n) for n in range(len(shares))])


def _charge(run: str, round_: int, attempt: int, mu2: float) -> ChargeEntry:
    """A ledger's entry of one attempt."""
    return ChargeEntry(
        seq=3, run=run, round=round_, attempt=attempt, plan_hash="ab" * 32, mu2=mu2, run_limit=None, facts={}
    )


def _runs(dice: Dice, answer: Answer) -> None:
    """A run's terms: what they must be, and what follows from what a caller says."""
    told = _terms(dice)
    answer.of(RunTerms, **told)
    wrong: dict[str, Any] = {
        "population": "",
        "run": "",
        "dp": dice.one_of(("off", "central", "local", "distributed", "none")),
        "epsilon": dice.one_of((None, 0.0, 0.01, math.inf, 1.0)),
        "delta": dice.one_of((0.0, 1.0, cohort.RESERVED_DELTA, math.nextafter(cohort.RESERVED_DELTA, 1.0), 0.5)),
        "clip_norm": dice.one_of((1e-7, 1e-6, 1e6, 1.1e6)),
        "grid": dice.one_of((2**8 - 1, 2**26, 2**26 + 1)),
        "cohort_floor": dice.one_of((0, 1, 7)),
        "cohort": dice.one_of((None, CohortTerms(n_max=3, n_min=2, c_max=1, masks=False))),
        "per_node": dice.one_of((0, 1, 2**26, 2**26 + 1)),
        "events": dice.one_of((None, 0.0009, 0.001, 1.0, 1.01)),
        "plan_seconds": dice.one_of((0, 1)),
        "noise": dice.one_of(("seeded", "secure", "none")),
        "inputs": dice.one_of((None, "ef" * 32)),
        "about": {"a": 1},
        "other": 1,
        "facts": PublicFacts(n_users=1, n_items=1, mu=dice.one_of((None, 0.125, 90.0)), local=dice.chance(0.5)),
    }
    close, spare = cohort.RESERVED_DELTA * 1.25, dice.one_of((0.25, 1.25))
    allowed = round(accounting.epsilon_of(mu=0.5, delta=cohort.RESERVED_DELTA * spare), 2)
    if told["epsilon"]:
        facts = told["facts"].model_copy(update={"mu": 0.5})
        answer.of(
            RunTerms, **(told | {"facts": facts, "delta": close, "epsilon": allowed + dice.one_of((0.01, -0.01))})
        )
    for name in wrong:
        found = answer.tried(RunTerms, **(told | {name: wrong[name]}))
        if isinstance(found, RunTerms):
            answer.tell(found.model_dump_json(exclude={"facts"}), found.unit, found.mode.name, found.facts)
            answer.exact(found.noise_delta)


def _made_terms(dice: Dice, answer: Answer) -> None:
    """Terms that are made from public facts, of an algorithm with any inputs."""
    dp = DpMode(dice.one_of(("central", "distributed", "local", "off")))
    events = dice.one_of((None, 0.5, 1.0)) if dp == "local" else None
    inputs: dict[str, Any] = {
        "features": dice.floats(5, dice.whole(1, 3)).astype(np.float32),
        "former_signal": np.array([dice.real(0, 50)]),
        "panel_users": np.array([dice.whole(0, 9)]),
        "other": np.arange(dice.whole(1, 3)),
    }
    inputs = dict(dice.some_of(list(inputs.items())))
    told: dict[str, Any] = {
        "population": dice.one_of(("readers", "")),
        "run": "run-7",
        "algorithm": "popularity" if events is None else "event-mf",
        "settings": {} if events is None else {"inclusion": events, "rounds": 2},
        "n_users": dice.whole(2, 5000),
        "n_items": 5,
        "catalogue": "ab" * 32,
        "inputs": inputs,
        "seed": dice.whole(0, 99),
        "dp": dp,
        "noise": dice.one_of(tuple(Noise)),
        "epsilon": None if dp == "off" else 5.0,
        "delta": dice.one_of((1e-6, 2.0**-20)),
        "cohort": CohortTerms(n_max=40, n_min=30, c_max=3, masks=False) if dp == "distributed" else None,
        "cohort_floor": dice.whole(1, 9),
        "per_node": dice.whole(1, 9),
        "about": {"version": "1"},
        "events": events,
    }
    more = {"clip_norm": dice.one_of((0.5, 2.0)), "grid": dice.one_of((2**10, 2**26, None)), "plan_seconds": 60}
    terms = answer.tried(make_terms, **told, **dict(dice.some_of(list(more.items()))))
    if isinstance(terms, RunTerms):
        answer.tell(terms.model_dump(exclude={"facts", "inputs"}), terms.facts.model_dump())
        answer.tell(terms.inputs == (digest(pack_inputs(inputs)) if inputs else None))
    for mode in DpMode:
        delta = dice.one_of((cohort.RESERVED_DELTA, 2.0**-20, math.nextafter(cohort.RESERVED_DELTA, 1.0), 0.0))
        for inclusion in (None, dice.one_of((1.0, 0.5))):
            answer.exact(answer.tried(noise_delta, mode, delta, inclusion))
    steps = Sampling(inclusion=dice.one_of((1.0, 0.5)), steps=dice.whole(1, 3))
    with _coarse(100):
        answer.tell(attempt_mu2(256, 400 + dice.whole(0, 9), None), attempt_mu2(256, 400, steps))


SEAMS = (
    Seam("epsilon, delta and mu", _costs, 12),
    Seam("delta: every size, and what is refused", _deltas, 36),
    Seam("charges: releases, noise for a budget, budgets that are split", _charges, 60),
    Seam("accounts: the releases of a run together", _accounts, 24),
    Seam("the second accountant: what it is asked", _second, 18),
    Seam("sampled steps: their cost", _sampled, 18),
    Seam("sampled steps: their cost on the grid that is charged", _sampled_fine, 3),
    Seam("sampled steps: noise for a budget", _sampled_noise, 6),
    Seam("cohorts: shares of the noise and bits of a sum", _shares, 48),
    Seam("modes of privacy: who adds noise, and how much", _modes, 36),
    Seam("cohorts of a run, and grids for their sums", _cohorts, 30),
    Seam("budgets: prices of attempts, void ones between", _schedules, 36),
    Seam("terms: what they must be", _runs, 18),
    Seam("terms: made from public facts", _made_terms, 12),
)
