"""A, pair: tests of epsilon and delta alone, for a mechanism of which nothing else is known.

There are many runs, in each of which a coin decides for each canary. An eighth of the runs selects a rule by which a
canary is called present. The rule is evaluated on the other runs, so it was fixed before (Jagielski et al. 2020).

**Assumes:** independent canaries (rung L0). Canaries of different runs are independent, by the coins. Those of one run
are if the mechanism's noise is independent, so that is tested first: if scores within a run are dependent, one canary
a run is counted, and nothing is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.checks.claims import ALPHA, errors
from palate_audit.evidence.evidence import ALPHA as ALARM
from palate_audit.evidence.evidence import Bound, Finding, Rung
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Trials
from palate_audit.statistics.counting import ErrorCounts, epsilon_raw, epsilon_trade_off, refuted

CHOOSING = 8
"""One of this many runs is used to select the rule."""
LEAST = 64
"""Fewest runs for a rule."""
CANDIDATES = 100
TEST = "A L0 counts against epsilon and delta"


@dataclass(frozen=True)
class Counted:
    """The errors of the rule.

    Attributes:
        errors: on the runs that were not used to select it.
        runs: the number of those runs.
        canaries: how many were counted in each.
        p_independent: p-value of the correlations between scores within a run.
    """

    errors: ErrorCounts
    runs: int
    canaries: int
    p_independent: float


def pair_tests(trials: Trials) -> list[Finding]:
    """The claim test on counts alone, and whether canaries of one run are independent; without verdicts yet."""
    claim, found = trials.claim, counted(trials)
    p_value = refuted(found.errors, epsilon_trade_off(claim.epsilon, claim.delta))
    wrong = found.errors
    said = (
        f"missed {wrong.misses:,} of {wrong.inside:,} present, called {wrong.false:,} of {wrong.outside:,} absent "
        f"present, in {found.runs:,} runs that the rule hadn't seen"
    )
    return [_independent(found), Finding.counted(TEST, p_value, said)]


def pair_bounds(trials: Trials) -> list[Bound]:
    """The lower bound on epsilon from counts alone, at 95 %."""
    claim, found = trials.claim, counted(trials)
    raw = epsilon_raw(found.errors, delta=claim.delta, alpha=ALPHA)
    return [Bound(Rung.L0, f"counts, {found.runs:,} runs of {found.canaries}", None, raw, claim.epsilon)]


def counted(trials: Trials) -> Counted:
    """Select a rule on some runs and evaluate it on the others."""
    scores = np.stack([run.scores for run in trials.runs])
    inside = np.stack([run.inside for run in trials.runs])
    chosen = len(scores) // CHOOSING
    early, late = slice(None, chosen), slice(chosen, None)
    # Noise that is the same in every run is known to an attacker: it is subtracted.
    known = np.where(inside[early], 0.0, scores[early]).sum(axis=0) / np.maximum(1, (~inside[early]).sum(axis=0))
    scores = scores - known
    apart = scores[early][inside[early]].mean() - scores[early][~inside[early]].mean()
    scores = scores if apart >= 0 else -scores
    p_independent = _p_independent(np.where(inside, scores - apart, scores)[late])
    used = slice(None) if p_independent > ALARM else slice(1)
    threshold = _threshold(scores[early][inside[early]], scores[early][~inside[early]], trials.claim.delta)
    kept, present = scores[late, used], inside[late, used]
    return Counted(errors(kept[present], kept[~present], threshold), len(kept), kept.shape[1], p_independent)


def _threshold(inside: Floats, outside: Floats, delta: float) -> float:
    """The score above which a canary is called present: the one with the largest bound at the level of an alarm."""
    parts = np.concatenate((np.geomspace(1 / len(outside), 0.5, CANDIDATES), 1 - np.geomspace(0.5, 1e-4, CANDIDATES)))
    looks = np.unique(np.concatenate((np.quantile(outside, parts), np.quantile(inside, parts))))

    def bound(threshold: float) -> float:
        found = errors(inside, outside, threshold)
        # Scaled to the other runs, with one more error of each kind: a rule without errors was lucky.
        misses, false = ((each + 1) * (CHOOSING - 1) for each in (found.misses, found.false))
        sizes = ((found.inside + 1) * (CHOOSING - 1), (found.outside + 1) * (CHOOSING - 1))
        return epsilon_raw(ErrorCounts(misses, sizes[0], false, sizes[1]), delta=delta, alpha=ALARM)

    return float(max(looks.tolist(), key=bound))


def _p_independent(scores: Floats) -> float:
    """The sum of squared correlations between canaries, over the runs, is chi^2 distributed for independent scores."""
    centred = scores - scores.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    spread = centred[:, lengths > 1e-12 * max(1.0, float(lengths.max()))]
    if spread.shape[1] < 2:
        return 1.0
    unit = spread / np.linalg.norm(spread, axis=0)
    correlations = (unit.T @ unit)[np.triu_indices(spread.shape[1], 1)]
    return float(stats.chi2.sf((len(scores) - 1) * float((correlations**2).sum()), len(correlations)))


def _independent(found: Counted) -> Finding:
    """Whether canaries of one run may be counted as independent."""
    test = "A independent canaries"
    if found.canaries == 1 and found.p_independent <= ALARM:
        return Finding.missing(test, "canaries of a run know of each other: one a run is counted")
    said = "one canary a run" if found.canaries == 1 else "scores of a run don't know of each other"
    return Finding.checked(test, True, f"{said} (p = {found.p_independent:.2g})")
