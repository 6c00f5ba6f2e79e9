"""Mechanism: the counted tests of a target, as one section of an audit.

canaries -> runs of the target -> scores, size and law of the noise, repeats, seeds --+
Palate's own round             -> the same path as a run's ---------------------------+-> verdicts together -> Section
somebody else's                -> neighbouring worlds, cost of the claim -------------+

>>> from palate_audit.harness.production import Production
>>> section = audit_mechanism(Production(users=64, counts=256, products=256, epsilon=8.0), seed=7, thorough=False)
>>> section.name, len(section.alarms)
('mechanism', 0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from palate_audit.counted import seeds
from palate_audit.counted.claims import claim_cost, claim_tests, lower_bounds, thresholds
from palate_audit.counted.correlation import adaptive_correlation, noise_correlation
from palate_audit.counted.neighbours import LATER, UNSEEN, neighbours
from palate_audit.counted.noise import noise_shape, noise_variance, output_lattice, repeated_numbers
from palate_audit.counted.pair import counted, pair_bounds, pair_tests, would_show
from palate_audit.counted.repeats import exact_repeats
from palate_audit.counted.sampled import sampling_tests
from palate_audit.counted.seeds import QUICK_SEEDS, birthdays, plan_seed, seed_search
from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import Bound, Finding, Section, judge
from palate_audit.evidence.guard import survived
from palate_audit.evidence.series import histogram
from palate_audit.harness.production import Production
from palate_audit.harness.target import Target
from palate_audit.harness.trials import Presence, Trials, conduct
from palate_audit.harness.worlds import TimeBudget
from palate_audit.run.path import same_sources
from palate_sim.steps import Notify, silent, step

Test = Callable[[Trials], list[Finding]]

COUNTED: tuple[Test, ...] = (
    claim_tests,
    noise_variance,
    noise_shape,
    noise_correlation,
    output_lattice,
    repeated_numbers,
    exact_repeats,
    seed_search,
)
"""Tests of the statistical part: they share the same runs."""
OF_PAIRS: tuple[Test, ...] = (pair_tests,)
"""The tests where only epsilon and delta are claimed."""
QUICK = (Presence.HALF, Presence.ALL, Presence.NONE)
DEEP = (*QUICK, Presence.HALF, Presence.ALL, Presence.HALF, Presence.NONE, Presence.HALF)
PAIRS = 2**14
"""Runs of a mechanism of unknown structure: enough to find half of the noise where epsilon is from 1 to 5."""
ORDINARY = 0.6
"""The part of a budget for the runs with all, half and none of the canaries; the rest is for neighbouring worlds."""

UNKNOWN = "nothing is claimed of its noise, as `noise_multiplier` or a Target's releases do"
NOT_OF_PAIRS = (
    "size of the noise", "law of the noise", "correlation of noises", "output lattice", "seeds", "repeats", "cost",
)  # fmt: skip
"""What a target isn't tested for that claims epsilon and delta alone."""

ASSUMPTIONS = (
    "Bounds, rung L0: canaries are independent; they share no coordinate, and correlations look for noise that does.",
    "Bounds, rung L1: the trade-off curve is the claimed kind, Gaussian without hidden sampling.",
    "Bounds, rung L2: scores are Gaussian and independent with one variance: a parametric estimate. The law of the "
    "noise and its correlations test this.",
    "Hidden sampling: users count 1 at most, which neighbouring worlds test; many are drawn, and many aren't.",
    "Size of the noise: it is Gaussian and independent, else its variance has another law than chi^2. Its law and its "
    "correlations test this.",
    "Law of the noise, remainders and repeats: numbers are independent. Correlations test this.",
    "Correlations: noise is symmetric and there is much of it, so that they are normal.",
    "Seeds: generators other than those listed, and seeds of more than 16 bits, are not tried.",
    "All: the code that was run here is the code that runs elsewhere; only its hashes say so.",
)

OF_COUNTS = (
    "Canaries are independent. Those of one run are tested; where they know of each other, one a run is counted.",
    "Noise of a run follows from no other's. The same in all of them shows, what changes from run to run may not.",
    ASSUMPTIONS[-1],
)


def statistical(trials: Trials, *, quick: bool = False) -> list[Finding]:
    """Every counted test that reads the runs; without verdicts yet. `quick`: with a quarter of the seeds."""
    tests = COUNTED if trials.claim.releases else OF_PAIRS
    fewer: dict[Test, Test] = {seed_search: partial(seed_search, seeds=QUICK_SEEDS)} if quick else {}
    return [finding for test in tests for finding in fewer.get(test, test)(trials)]


def audit_mechanism(
    *targets: Target,
    seed: int,
    deep: bool = False,
    quick: bool = False,
    thorough: bool = True,
    run: Path | None = None,
    pairs: int = PAIRS,
    budget: float | None = None,
    notify: Notify = silent,
) -> Section:
    """Run a target and test its releases.

    Args:
        targets: the audited mechanisms; with several, each finding and bound carries the target's name.
        seed: of the audit's own choices: the canaries' coordinates, and who takes part.
        deep: more runs, for smaller faults.
        quick: fewer seeds, and fewer fresh releases; every test is still made.
        thorough: also the tests that run the target again: fresh releases, the plan's seed.
        run: a run folder, whose ledger has the hashes of its sources.
        pairs: number of runs of a target that claims only epsilon and delta.
        budget: seconds after which runs of a foreign target end; what was made by then is tested. None: no limit.
        notify: receives the steps of a foreign target's runs, with the time left.

    Returns:
        Findings with verdicts at a joint family-wise alpha of 1e-6, bounds at 95 % each.

    Raises:
        InputError: a foreign target's first run fails. Whatever fails later is a finding.
    """
    # First, so that an unreadable folder fails before the long part.
    own = any(isinstance(target, Production) for target in targets)
    path = [same_sources(run)] if own else []
    findings: list[Finding] = []
    bounds: list[Bound] = []
    series: list[Mapping[str, Any]] = []
    for target in targets:
        gaussian = bool(target.claim.releases)
        presences = (DEEP if deep else QUICK) if gaussian else (Presence.HALF,) * pairs
        if isinstance(target, Production):
            kept: list[Trials] = []
            made = survived("the round itself", partial(_own_runs, target, presences, seed, thorough, quick, kept))
            if not kept:
                findings += made
                continue
            [trials], found = kept, made
        else:
            trials, found = _foreign_runs(target, presences, seed, thorough, budget, notify)
        low = lower_bounds(trials) if gaussian else pair_bounds(trials)
        mark = f" [{target.name}]" if len(targets) > 1 else ""
        findings += [replace(each, test=each.test + mark) for each in found]
        bounds += [replace(each, name=each.name + mark) for each in low]
        series.append(_series(trials))
    findings += path
    first = series[0] if series else {"facts": {}}
    joined: dict[str, Any] = {**first, "scores": [each for one in series for each in one["scores"]]}
    return Section(
        name="mechanism",
        subject=f"{'; '.join(map(_subject, targets))}; the audit's seed is {seed}",
        findings=judge(findings),
        bounds=tuple(bounds),
        assumptions=ASSUMPTIONS if any(target.claim.releases for target in targets) else OF_COUNTS,
        series=joined,
    )


def _own_runs(
    target: Target, presences: Sequence[Presence], seed: int, thorough: bool, quick: bool, kept: list[Trials]
) -> list[Finding]:
    """Findings of Palate's own round; `kept` receives its runs."""
    trials = conduct(target, runs=presences, seed=seed)
    kept.append(trials)
    return statistical(trials, quick=quick) + (again(trials, quick=quick) if thorough and trials.claim.releases else [])


def _foreign_runs(
    target: Target,
    presences: Sequence[Presence],
    seed: int,
    thorough: bool,
    budget: float | None,
    notify: Notify,
) -> tuple[Trials, list[Finding]]:
    """The runs of somebody else's mechanism, and their findings."""
    gaussian = bool(target.claim.releases)
    every, ordinary = TimeBudget.after(budget), TimeBudget.after(None if budget is None else ORDINARY * budget)
    with step(notify, "runs of the mechanism", of=len(presences), unit="runs") as tell:
        trials = conduct(
            target,
            runs=presences,
            seed=seed,
            deadline=None if gaussian else ordinary,
            tell=tell,
            lenient=True,
        )
    found = _faults(trials)
    tests = (*((*COUNTED, sampling_tests) if gaussian else OF_PAIRS), *((again,) if thorough and gaussian else ()))
    for test in tests:
        if thorough and test is noise_correlation:  # it has to know whether releases follow from each other
            continue
        found += survived(f"{test.__name__.replace('_', ' ')}", partial(test, trials), ours=False)
    if thorough:
        with step(notify, "neighbouring worlds", unit="runs") as tell:
            apart = neighbours(trials, deadline=every, tell=tell)
        found += apart
        if gaussian:
            found += survived(
                "noise correlation", partial(adaptive_correlation, trials, _steady(trials, apart)), ours=False
            )
        found += claim_cost(target) if gaussian else []
        found += [] if gaussian else [Finding.missing(name, UNKNOWN, unknown=True) for name in NOT_OF_PAIRS]
    return trials, found


def _steady(trials: Trials, found: Sequence[Finding]) -> int | None:
    """How many releases don't follow from former ones, by what neighbouring worlds have shown; None: not known."""
    said = {each.test: each for each in found}
    if UNSEEN in said:
        return None
    return int(said[LATER].figures["steady"]) if LATER in said else len(trials.claim.releases)


def _faults(trials: Trials) -> list[Finding]:
    """What runs ended with that failed after others didn't: where nobody takes part, that tells who doesn't."""
    idle = [fault for presence, fault in trials.faults if presence is Presence.NONE]
    others = [fault for presence, fault in trials.faults if presence is not Presence.NONE]
    found = [Finding.checked("empty rounds", False, f"with nobody in it: {idle[0]}")] if idle else []
    if others:
        said = f"{len(others):,} of {len(trials.runs) + len(trials.faults):,} runs failed, the first: {others[0]}"
        found.append(Finding.missing("failed runs", said))
    return found


def _subject(target: Target) -> str:
    """The targets' names and claims."""
    claim = target.claim
    said = f"epsilon {claim.epsilon:.4g} at delta {claim.delta:.3g} (unit {claim.unit}, adjacency {claim.adjacency})"
    return f"{target.name}: {said}" + (f", {len(claim.releases)} release(s)" if claim.releases else "")


def again(trials: Trials, *, quick: bool = False) -> list[Finding]:
    """Tests that run the target again; without verdicts yet. `quick`: fewer fresh releases."""
    return plan_seed(trials, quick=quick) + birthdays(trials, count=seeds.FRESH // 8 if quick else None)


def _series(trials: Trials) -> Mapping[str, Any]:
    """The claim, the runs, and the numbers of the charts."""
    claim, (inside, outside) = trials.claim, trials.pooled()
    known = None if claim.releases else counted(trials)
    return {
        "facts": {
            "claimed_epsilon": claim.epsilon,
            "delta": claim.delta,
            "unit": claim.unit,
            "adjacency": claim.adjacency,
            "sampling": claim.sampling,
            "runs": len(trials.runs),
            "canaries": trials.canaries.users,
            "coordinates": trials.target.dimension,
            **_of_the_noise(trials),
            **({} if known is None else {"would_show": would_show(known, claim)}),
            "alpha": ALPHA,
            "seed": trials.seed,
        },
        "scores": [histogram(f"{trials.target.name}, {len(trials.runs)} runs", inside, outside)],
    }


def _of_the_noise(trials: Trials) -> dict[str, Any]:
    """Facts of a claim that says what the noise is; a claim of epsilon and delta alone has a rule, held out."""
    claim = trials.claim
    if not claim.releases:
        return {"thresholds": "held out"}
    return {
        "mu": claim.mu,
        "rounds": len(claim.releases),
        "numbers": sum(len(residual) for _, _, residual in trials.noises()),
        "thresholds": ", ".join(f"{each:.4g}" for each in thresholds(claim)),
    }
