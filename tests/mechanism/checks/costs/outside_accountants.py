"""Another accountant: what generated runs cost, by an implementation that other people wrote.

Each case is made up: budgets of epsilon 0.1 to 13, one release to twelve, noise from the smallest that is allowed up to
millions of steps, attempts that came to nothing, events that take part by secret coins in up to eight steps, runs of a
population for its whole life. What production says of it is compared with dp-accounting's privacy loss distributions,
composed one release after the other.

production: budget -> mu -> noise of each attempt -> charges -> epsilon     |
outside:                   the noise of each attempt         -> epsilon     | compared

It has errors of its own: distributions are rounded to a grid, whose width follows the case. `ROOM` is far above
them, and far below what any of the errors that matter changes.

**Assumes:** discrete noise costs what continuous noise of variance sigma^2 - 4 does; `costs.accountants` compares it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.evidence.evidence import Finding
from palate_audit.evidence.guard import BROKEN
from palate_common.accounting.sampled import noise_for, sampled_mu2
from palate_common.system import memory_folder
from palate_core import accounting
from palate_core.accounting import mu_of, sigma_for
from palate_core.cohort_terms import GRAPH_FAILURE, MAX_ATTEMPTS, CohortTerms
from palate_core.errors import BudgetError
from palate_core.plan import Noise
from palate_core.privacy_mode import DpMode
from palate_server.folder.server_folder import Site
from palate_server.ledger.history import ChargeEntry
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.budget import BudgetSchedule
from palate_server.rounds.terms import RunTerms, make_terms
from palate_server.service.setup import make_databases, server_toml
from palate_sim import accounting as releases
from palate_sim.accounting import GaussianEvent
from reference.cost import ATTEMPT_FAILS

TEST = "accountants of others"
SEED = 0x4F75
"""Of the cases: the same in every audit, so that nothing here can be wrong by chance."""
EPSILONS, DELTAS = (0.1, 13.0), (1e-5, 1e-6, 1e-9)
MOST_RELEASES = 12
GRIDS = (300, 1001, 2**14, 2**20)
"""Grid steps per clip norm; with the first, large budgets meet the least noise that is allowed."""
SIZE = 1000
"""Numbers of a release."""
RELEASES, VOID, SAMPLED, LIVES = 20, 8, 12, 2
"""Cases of each kind."""
ROOM = 2e-3
"""By how much outside and inside may differ, of epsilon; of delta, where that is compared, ten times as much."""
STEPS, INCLUSIONS = (1, 2, 3, 5, 8), (0.01, 0.05, 0.1, 0.3, 0.5, 0.9)
LEAST = 64
"""Steps of noise that a release has at least."""
PARTS = (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Where curves of sampled sums are compared, in epsilons of the claim."""
CHOSEN = 8
"""Of so many cases of sampled steps, one has noise that was chosen for a budget, which is slow."""
DIGITS, DUST = 1e-9, 1e-13
"""Relative room for last digits; and probability that dp-accounting may invent in its Fourier transforms."""


def outside_accountants(*, seed: int = SEED, quick: bool = False) -> list[Finding]:
    """Several releases, void attempts, sampled steps, lives of a population, and random variables.

    Args:
        seed: of the cases.
        quick: a sixth of the cases of each kind.
    """
    return [compared(kind, seed=seed, quick=quick) for kind in CHECKS]


def compared(kind: str, *, seed: int = SEED, quick: bool = False) -> Finding:
    """The finding of one kind of case, of `CHECKS`."""
    check, cases = CHECKS[kind]
    test, number = f"{TEST}: {kind}", math.ceil(cases / 6) if quick else cases
    try:
        wrong = next(check(np.random.default_rng([seed, cases]), number), "")
    except ImportError as error:
        return Finding.missing(test, f"{error.name} is not installed: pip install palate[server]")
    except BROKEN as error:
        wrong = f"it must be possible to work out what a run costs, got: {error}"
    return Finding.checked(test, not wrong, wrong or f"{number} made-up cases cost what others say")


@dataclass(frozen=True)
class _Case:
    """A budget, and the noise of the releases that share it."""

    epsilon: float
    delta: float
    grid: int
    sigmas: tuple[int, ...]
    sums: tuple[int, ...]
    """Noised sums of each release, in which everybody takes part."""

    @property
    def multipliers(self) -> list[float]:
        """Noise over sensitivity of each release: so many Gaussian sums tell as much as one with less noise."""
        each = zip(multipliers(self.grid, self.sigmas), self.sums, strict=True)
        return [multiplier / math.sqrt(sums) for multiplier, sums in each]

    def __str__(self) -> str:
        """For people."""
        return f"noise of {', '.join(map(str, self.sigmas))} for {self.grid} steps, in {self.sums} sums"


def multipliers(grid: int, sigmas: Sequence[int]) -> list[float]:
    """Noise over sensitivity, of continuous noise that is as good as these discrete ones."""
    return [math.sqrt(sigma**2 - 4) / grid for sigma in sigmas]


def losses(multipliers: Sequence[float], *, width: float) -> Any:
    """The privacy loss distribution of Gaussian releases together, by dp-accounting; an upper bound.

    Args:
        multipliers: noise over sensitivity of each.
        width: of the grid of losses.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld  # type: ignore[import-untyped]  # ships no types

    whole = None
    for each in multipliers:
        one = pld.from_gaussian_mechanism(each, value_discretization_interval=width)
        whole = one if whole is None else whole.compose(one)
    return whole


def _width(epsilon: float) -> float:
    """Width of the grid of losses for a budget; with this one they are right to a fifteenth of `ROOM`."""
    return max(1e-5, epsilon / 500)


def _budget(rng: np.random.Generator) -> tuple[float, float]:
    """Epsilon, evenly on a logarithmic scale, and delta."""
    return float(np.exp(rng.uniform(*np.log(EPSILONS)))), float(rng.choice(DELTAS))


def _case(rng: np.random.Generator) -> _Case:
    """A budget divided among releases, by the functions that divide a run's."""
    (epsilon, delta), grid = _budget(rng), int(rng.choice(GRIDS))
    shares = rng.dirichlet(np.full(int(rng.integers(1, MOST_RELEASES + 1)), 2.0)) + 1e-3
    mus = accounting.split_budget(mu=mu_of(epsilon=epsilon, delta=delta), shares=shares.tolist())
    sums = tuple(int(rng.choice(STEPS)) if rng.random() < 0.5 else 1 for _ in mus)
    sigmas = tuple(
        sigma_for(mu_r=mu, sensitivity=grid)
        if steps == 1
        else noise_for(mu_r=mu, sensitivity=grid, inclusion=1.0, steps=steps)
        for mu, steps in zip(mus, sums, strict=True)
    )
    return _Case(epsilon, delta, grid, sigmas, sums)


def _said(case: _Case) -> float:
    """Epsilon of the releases, as production has it."""
    events = [
        GaussianEvent(sensitivity=case.grid, sigma=sigma, dimension=SIZE, round=place, steps=steps)
        for place, (sigma, steps) in enumerate(zip(case.sigmas, case.sums, strict=True))
    ]
    return releases.account(events, delta=case.delta).epsilon


def _releases(rng: np.random.Generator, cases: int) -> Iterator[str]:
    """Releases that share a budget: what they cost, and that it is within the budget."""
    for case in (_case(rng) for _ in range(cases)):
        told = _said(case)
        owed = float(losses(case.multipliers, width=_width(case.epsilon)).get_epsilon_for_delta(case.delta))
        if not owed * (1 - ROOM) <= told <= owed * (1 + ROOM):
            yield f"{case} costs epsilon {owed:.6g} by dp-accounting, {told:.6g} is said"
        if told > case.epsilon:
            yield f"{case} costs epsilon {told:.6g}, and was to cost {case.epsilon:.6g} at most"


def _terms(epsilon: float, delta: float, *, dp: DpMode, shares: int) -> RunTerms:
    """The terms of a run, made as every run's are; `shares`: rounds of its budget."""
    cohort = CohortTerms(n_max=100, n_min=90, c_max=5, masks=False) if dp is DpMode.DISTRIBUTED else None
    return make_terms(
        population="audit",
        run="run",
        algorithm="als",
        settings={"rounds": shares, "popularity_only_below": 0.0},
        n_users=100,
        n_items=50,
        catalogue="00",
        inputs={},
        seed=0,
        dp=dp,
        noise=Noise.SECURE,
        epsilon=epsilon,
        delta=delta,
        cohort=cohort,
        cohort_floor=1,
        per_node=1,
        about={},
    )


def _void(rng: np.random.Generator, cases: int) -> Iterator[str]:
    """Runs in which attempts come to nothing: all of them, released or not, cost the run's budget at most."""
    for number in range(cases):
        epsilon, delta = _budget(rng)
        dp = (DpMode.CENTRAL, DpMode.DISTRIBUTED)[number % 2]
        shares = rng.dirichlet(np.full(int(rng.integers(1, 6)), 3.0)).tolist()
        terms, sigmas = _terms(epsilon, delta, dp=dp, shares=len(shares)), list[int]()
        with Ledger(":memory:", population="audit") as ledger:
            ledger.open_run("run", {})
            schedule = BudgetSchedule(terms, shares, lambda: ledger.spent("run"), lambda _: 1)
            for round_, void in zip(range(len(shares)), rng.geometric(0.6, len(shares)), strict=True):
                for _ in range(int(void)):
                    charges = [entry for entry in ledger.entries() if isinstance(entry, ChargeEntry)]
                    try:
                        sigma, mu2, attempt = schedule.price(round_, charges)
                    except BudgetError:
                        break
                    _charge(ledger, round_, attempt, sigma, mu2, terms, limit=schedule.budget)
                    sigmas.append(sigma)
        owed = float(losses(multipliers(terms.grid, sigmas), width=_width(epsilon)).get_delta_for_epsilon(epsilon))
        failures = GRAPH_FAILURE * MAX_ATTEMPTS if terms.mode.cohort else 0.0
        if owed + failures > delta * (1 + 10 * ROOM):
            yield (
                f"{len(sigmas)} attempts at {len(shares)} rounds have delta {owed + failures:.4g} at the run's epsilon "
                f"of {epsilon:.4g}, and {delta:g} is claimed"
            )


def _charge(
    ledger: Ledger, round_: int, attempt: int, sigma: int, mu2: float, terms: RunTerms, *, limit: float | None
) -> None:
    """Charge an attempt as the coordinator does."""
    facts = {"sensitivity": terms.grid, "sigma": sigma, "dimension": SIZE, "dp": terms.dp}
    ledger.charge(
        run=terms.run, round_=round_, attempt=attempt, plan_hash="00" * 32, mu2=mu2, facts=facts, run_limit=limit
    )


def _sampled(rng: np.random.Generator, cases: int) -> Iterator[str]:
    """Sampled steps: both orders of the pair stay below the curve of what is charged, but for the tail."""
    for number in range(cases):
        (epsilon, delta), grid = _budget(rng), int(rng.choice(GRIDS[1:]))
        steps, inclusion = int(rng.choice(STEPS if epsilon > 1 else STEPS[:2])), float(rng.choice(INCLUSIONS))
        if chosen := number % CHOSEN == CHOSEN - 1:
            epsilon = max(epsilon, 2.0)  # with less, it takes ten seconds
        mu = mu_of(epsilon=epsilon, delta=delta - ATTEMPT_FAILS)
        if chosen:
            steps = min(steps, 2)
            sigma = noise_for(mu_r=mu, sensitivity=grid, inclusion=inclusion, steps=steps)
        else:
            whole = sigma_for(mu_r=mu / math.sqrt(steps), sensitivity=grid)
            sigma = max(LEAST, round(whole * min(1.0, 3 * inclusion)))
        cost = sampled_mu2(sensitivity=grid, sigma=sigma, inclusion=inclusion, steps=steps)
        said = f"{steps} steps of noise {sigma} for {grid} with a coin of {inclusion:g}"
        if chosen and cost > mu * mu:
            yield f"{said} cost mu^2 {cost:.6g}, and were to cost {mu * mu:.6g} at most"
        yield from _orders(said, multipliers(grid, [sigma])[0], inclusion, steps, cost, epsilon)


def _orders(said: str, multiplier: float, inclusion: float, steps: int, cost: float, epsilon: float) -> Iterator[str]:
    """Deltas of sampled steps in both orders, by dp-accounting, above those of what they are charged with."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    # Rounded down: what dp-accounting says here is at most the truth.
    whole = pld.from_gaussian_mechanism(
        multiplier,
        sampling_prob=inclusion,
        value_discretization_interval=max(1e-4, epsilon / 1000 / steps),
        pessimistic_estimate=False,
        use_connect_dots=False,
    ).self_compose(steps)
    for order, one in (("removed", whole._pmf_remove), ("added", whole._pmf_add)):
        for at in (part * epsilon for part in PARTS):
            owed = float(one.get_delta_for_epsilon(at))
            allowed = ATTEMPT_FAILS + accounting.delta_of(epsilon=at, mu=math.sqrt(cost))
            if owed > allowed * (1 + DIGITS) + DUST:
                yield f"{said} have delta {owed:.4g} at epsilon {at:.4g}, {order}; {allowed:.4g} is said"


def _lives(rng: np.random.Generator, cases: int) -> Iterator[str]:
    """Runs of a population until its server's budget for ever is used up: epsilon and delta of all of them."""
    for number in range(cases):
        life, delta = _budget(rng)[0], DELTAS[-1 - number % len(DELTAS)]
        epsilons = {"epsilon": life / 4, "lifetime_epsilon": life, "period_epsilon": life, "delta": delta}
        config = server_toml({"population": "audit"} | {f"privacy.{key}": value for key, value in epsilons.items()})
        with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
            site = Site(Path(folder).resolve())
            site.config_file.write_text(config)
            site.make_folders()
            make_databases(site)
            with site.ledger() as ledger:
                sigmas, grid = _lived(rng, ledger, site.config.privacy.epsilon, delta)
        owed = float(losses(multipliers(grid, sigmas), width=_width(life)).get_delta_for_epsilon(life))
        if owed + MAX_ATTEMPTS * GRAPH_FAILURE > delta * (1 + 10 * ROOM):
            yield (
                f"{len(sigmas)} attempts of a population have delta {owed:.4g} and {MAX_ATTEMPTS * GRAPH_FAILURE:.4g} "
                f"at its epsilon of {life:.4g}, and {delta:g} is claimed"
            )


def _lived(rng: np.random.Generator, ledger: Ledger, epsilon: float, delta: float) -> tuple[list[int], int]:
    """Runs, with void attempts, until nothing can be charged any more: the noise of all, and the grid."""
    sigmas, terms = list[int](), _terms(epsilon, delta, dp=DpMode.DISTRIBUTED, shares=1)
    for number in count():
        run = terms.model_copy(update={"run": f"run {number}"})
        ledger.open_run(run.run, {})
        for attempt in range(int(rng.integers(1, 4))):
            budget = ledger.entries()
            most = min((entry.mu2 for entry in budget if entry.kind == "budget"), default=math.inf) - ledger.spent()
            wanted = float(rng.uniform(0.2, 1.0)) * mu_of(epsilon=epsilon, delta=run.noise_delta)
            if most < 1e-3 * wanted**2:
                return sigmas, terms.grid
            sigma = sigma_for(mu_r=min(wanted, math.sqrt(most) * (1 - 1e-12)), sensitivity=run.grid)
            mu2 = accounting.charged_mu2(sensitivity=run.grid, sigma=sigma)
            _charge(ledger, 0, attempt, sigma, mu2, run, limit=None)
            sigmas.append(sigma)
    return sigmas, terms.grid


CHECKS: Mapping[str, tuple[Callable[[np.random.Generator, int], Iterator[str]], int]] = {
    "several releases": (_releases, RELEASES),
    "void attempts": (_void, VOID),
    "sampled steps, both orders": (_sampled, SAMPLED),
    "a population's life": (_lives, LIVES),
}
"""Kinds of cases: what looks for a wrong one, and how many there are."""
