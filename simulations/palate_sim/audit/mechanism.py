"""Mechanism: the counted tests of a target, as one section of an audit.

canaries -> runs of the target -> A B B2 C C2 H J K -> verdicts made together -> Section

>>> from palate_sim.audit.production import Production
>>> section = audit_mechanism(Production(users=64, counts=256, products=256, epsilon=8.0), seed=7, thorough=False)
>>> section.name, len(section.alarms)
('mechanism', 0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from palate_common.accounting import delta_of
from palate_sim.audit.battery.claims import claim_tests, lower_bounds
from palate_sim.audit.battery.correlation import noise_correlation
from palate_sim.audit.battery.lattice import output_lattice
from palate_sim.audit.battery.noise import noise_variance
from palate_sim.audit.battery.seeds import birthdays, plan_seed, seed_search
from palate_sim.audit.battery.shape import noise_shape
from palate_sim.audit.evidence import ALPHA, Bound, Finding, Section, judge
from palate_sim.audit.path import masks_change_nothing, same_sources
from palate_sim.audit.production import Production
from palate_sim.audit.target import Target
from palate_sim.audit.trials import Presence, Trials, conduct
from palate_sim.provenance import mechanism_sources

Test = Callable[[Trials], list[Finding]]

COUNTED: tuple[Test, ...] = (
    claim_tests,
    noise_variance,
    noise_shape,
    noise_correlation,
    output_lattice,
    seed_search,
)
"""Tests of the statistical part: they read the same runs, and run nothing themselves."""
QUICK = (Presence.HALF, Presence.ALL, Presence.NONE)
DEEP = (*QUICK, Presence.HALF, Presence.ALL, Presence.HALF, Presence.NONE, Presence.HALF)
BINS = 80
_EPSILONS = 120

ASSUMPTIONS = (
    "A, rungs L0: canaries are independent; they share no coordinate, and C and J look for noise that does.",
    "A, rung L1: the trade-off curve is the claimed kind, Gaussian without hidden sampling.",
    "A, rung L2: scores are Gaussian and independent with one variance: a parametric estimate. B2, C and J test this.",
    "B: noise is Gaussian and independent, else its variance has another law than chi^2. B2, C and J test this.",
    "B2, H remainders: numbers are independent. C and J test this.",
    "C, C2, J: noise is symmetric and there is much of it, so that correlations are normal.",
    "K: generators other than those listed, and seeds of more than 16 bits, are not tried.",
    "All: the code that was run here is the code that runs elsewhere; only its hashes say so.",
)


def statistical(trials: Trials) -> list[Finding]:
    """Every counted test that reads the runs; not judged."""
    return [finding for test in COUNTED for finding in test(trials)]


def audit_mechanism(
    target: Target, *, seed: int, deep: bool = False, thorough: bool = True, run: Path | None = None
) -> Section:
    """Run a target and test what comes out.

    Args:
        target: what is audited.
        seed: of the audit's own choices: whose coordinates are whose, and who takes part.
        deep: more runs, for smaller faults.
        thorough: also the tests that run the target again: fresh releases, the plan's seed, masks.
        run: a run folder, whose ledger names the sources it ran with.

    Returns:
        Findings judged together at a family-wise alpha of 1e-6, bounds at 95 % each.
    """
    trials = conduct(target, runs=DEEP if deep else QUICK, seed=seed)
    findings = statistical(trials)
    if thorough:
        findings += plan_seed(trials) + birthdays(trials)
    if isinstance(target, Production):
        findings.append(same_sources(run))
        if thorough and target.dp == "distributed" and not target.masks:
            findings.append(masks_change_nothing(target, seed=seed))
    bounds = tuple(lower_bounds(trials))
    return Section(
        name="mechanism",
        subject=target.name,
        findings=judge(findings),
        bounds=bounds,
        assumptions=ASSUMPTIONS,
        series=_series(trials, bounds),
    )


def _series(trials: Trials, bounds: tuple[Bound, ...]) -> Mapping[str, Any]:
    """What was claimed, what was run, and the numbers of the plots."""
    claim, inside_outside = trials.claim, trials.pooled()
    found: dict[str, Any] = {
        "claim": {
            "epsilon": claim.epsilon,
            "delta": claim.delta,
            "mu": claim.mu,
            "unit": claim.unit,
            "adjacency": claim.adjacency,
            "sampling": claim.sampling,
            "releases": [
                {"sensitivity": each.sensitivity, "sigma": each.sigma, "spacing": each.spacing}
                for each in claim.releases
            ],
        },
        "runs": [run.presence.value for run in trials.runs],
        "canaries": trials.canaries.users,
        "coordinates": trials.target.dimension,
        "numbers": sum(len(residual) for _, _, residual in trials.noises()),
        "seed": trials.seed,
        "alpha": ALPHA,
        "scores": _histogram(*inside_outside),
    }
    if claim.mu is not None:
        found["curve"] = _curve(claim.mu, claim.epsilon, bounds)
    if isinstance(trials.target, Production):
        found["sources"] = mechanism_sources()
    return found


def _histogram(inside: np.ndarray[Any, Any], outside: np.ndarray[Any, Any]) -> Mapping[str, list[float]]:
    """Scores of canaries that took part, and of those that did not."""
    both = np.concatenate((inside, outside))
    low, high = np.quantile(both, (0.0005, 0.9995))
    edges = np.linspace(float(low), float(high), BINS + 1)
    return {
        "edges": edges.tolist(),
        "present": np.histogram(inside, edges)[0].tolist(),
        "absent": np.histogram(outside, edges)[0].tolist(),
    }


def _curve(mu: float, epsilon: float, bounds: tuple[Bound, ...]) -> Mapping[str, Any]:
    """delta(eps) as claimed, and as each bound on mu leaves it at least."""
    epsilons = np.linspace(0.0, 1.5 * epsilon, _EPSILONS)
    lines = {
        f"{bound.rung.value} {bound.name}": [delta_of(epsilon=float(each), mu=bound.mu) for each in epsilons]
        for bound in bounds
        if bound.mu is not None
    }
    claimed = [delta_of(epsilon=float(each), mu=mu) for each in epsilons]
    return {"epsilon": epsilons.tolist(), "claimed": claimed, "measured": lines}
