"""A, pair: tests of epsilon and delta alone, for a mechanism of which nothing else is known.

There are many runs, in each of which a coin decides for each canary. An eighth of the runs selects a rule by which a
canary is called present. The rule is evaluated on the other runs, so it was fixed before (Jagielski et al. 2020).

**Assumes:** independent canaries (rung L0). Canaries of different runs are, by the coins. Those of one run are if the
mechanism's noise is independent, so that is tested first: if the scores of one run know of each other, one canary a run
is counted, and nothing is assumed. What the scores of the others foretell of its noise is taken off: the claim is made
against those who know everybody else.

Counts that would not refute the claim even if the rule were never wrong say nothing: that is "not checkable", no pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.counted.claims import ALPHA, errors
from palate_audit.evidence.chance import ALPHA as ALARM
from palate_audit.evidence.evidence import Bound, Finding, Rung, Verdict
from palate_audit.harness.canaries import Floats
from palate_audit.harness.claim import Claim
from palate_audit.harness.trials import Trials
from palate_audit.statistics.counting import ErrorCounts, epsilon_raw, epsilon_trade_off, epsilons_raw, refuted
from palate_core.accounting import mu_of

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
        errors: on runs that the rule hadn't seen.
        runs: how many they were.
        canaries: that were counted in each.
        of: canaries that were in each.
        p_independent: of the correlations between scores of one run, if there are none.
    """

    errors: ErrorCounts
    runs: int
    canaries: int
    of: int
    p_independent: float


def pair_tests(trials: Trials) -> list[Finding]:
    """The claim test on counts alone, and whether canaries of one run are independent; without verdicts yet."""
    claim, found = trials.claim, counted(trials)
    if found is None:
        return [Finding.missing(TEST, "a rule needs runs with a canary and runs without it: `runs` must be larger")]
    curve, wrong = epsilon_trade_off(claim.epsilon, claim.delta), found.errors
    if refuted(ErrorCounts(0, wrong.inside, 0, wrong.outside), curve) > ALARM:
        unsure = [each for each in [_independent(found)] if each.verdict is Verdict.UNCHECKABLE]
        return [*unsure, Finding.missing(TEST, _too_few(found, claim))]
    p_value = refuted(wrong, curve)
    said = (
        f"missed {wrong.misses:,} of {wrong.inside:,} present, called {wrong.false:,} of {wrong.outside:,} absent "
        f"present, in {found.runs:,} runs that the rule hadn't seen"
    )
    return [_independent(found), Finding.counted(TEST, p_value, said)]


def pair_bounds(trials: Trials) -> list[Bound]:
    """The lower bound on epsilon from counts alone, at 95 %."""
    claim, found = trials.claim, counted(trials)
    if found is None:
        return []
    raw = epsilon_raw(found.errors, delta=claim.delta, alpha=ALPHA)
    return [Bound(Rung.L0, f"counts, {found.runs:,} runs of {found.canaries}", None, raw, claim.epsilon)]


def counted(trials: Trials) -> Counted | None:
    """Choose a rule on some runs and count it on the others; None where those show no canary, or no absent one."""
    scores = np.stack([run.scores for run in trials.runs])
    inside = np.stack([run.inside for run in trials.runs])
    chosen = len(scores) // CHOOSING
    early, late = slice(None, chosen), slice(chosen, None)
    if inside[early].all() or not inside[early].any():
        return None
    # Noise that is the same in every run is known to whoever runs the mechanism: it is taken off.
    known = np.where(inside[early], 0.0, scores[early]).sum(axis=0) / np.maximum(1, (~inside[early]).sum(axis=0))
    scores = scores - known
    apart = scores[early][inside[early]].mean() - scores[early][~inside[early]].mean()
    scores = scores if apart >= 0 else -scores
    noise = np.where(inside, scores - apart, scores)
    p_independent = _p_independent(noise[late])
    if p_independent <= ALARM:
        scores, inside = _alone(scores, noise, chosen), inside[:, :1]
        if inside[early].all() or not inside[early].any():
            return None
    cut, _ = threshold(scores[early][inside[early]], scores[early][~inside[early]], trials.claim.delta)
    kept, present = scores[late], inside[late]
    wrong = errors(kept[present], kept[~present], cut)
    return Counted(wrong, len(kept), kept.shape[1], noise.shape[1], p_independent)


def _alone(scores: Floats, noise: Floats, chosen: int) -> Floats:
    """The first canary's scores [runs, 1] without what the others' noise foretells of its own.

    Half of the runs that choose the rule fit that, and the other half says whether it is any good.
    """
    half = chosen // 2
    foretold, *_ = np.linalg.lstsq(noise[:half, 1:], noise[:half, 0])
    rest = scores[:, 0] - noise[:, 1:] @ foretold
    tried = slice(half, chosen)
    better = np.square(noise[tried, 0] - noise[tried, 1:] @ foretold).sum() < np.square(noise[tried, 0]).sum()
    return (rest if better else scores[:, 0])[:, None]


def threshold(inside: Floats, outside: Floats, delta: float, *, grow: float = CHOOSING - 1) -> tuple[float, float]:
    """Choose the score above which a canary is called present: the one with the largest bound at an alarm's level.

    Args:
        inside: scores of canaries that took part.
        outside: scores of canaries that did not.
        delta: of the claim.
        grow: how many times as many scores the rule will be counted on.

    Returns:
        The score, and the bound on epsilon that is to be expected.
    """
    parts = np.concatenate((np.geomspace(1 / len(outside), 0.5, CANDIDATES), 1 - np.geomspace(0.5, 1e-4, CANDIDATES)))
    looks = np.unique(np.concatenate((np.quantile(outside, parts), np.quantile(inside, parts))))

    misses = np.searchsorted(np.sort(inside), looks, side="right")
    false = len(outside) - np.searchsorted(np.sort(outside), looks, side="right")
    # Scaled to the other runs, with one more error of each kind: a rule without errors was lucky.
    wrong = [np.rint((each + 1) * grow).astype(np.int64) for each in (misses, false)]
    sizes = [round((len(each) + 1) * grow) for each in (inside, outside)]
    bounds = epsilons_raw(*wrong, inside=sizes[0], outside=sizes[1], delta=delta, alpha=ALARM)
    best = int(bounds.argmax())
    return float(looks[best]), float(bounds[best])


def would_show(found: Counted, claim: Claim) -> str:
    """How large a fault these runs would have shown: noise of a Gaussian mechanism, and the largest epsilon."""
    few = min(found.errors.inside, found.errors.outside)
    curve, mu = epsilon_trade_off(claim.epsilon, claim.delta), mu_of(epsilon=claim.epsilon, delta=claim.delta)

    def shows(part: float) -> bool:
        centre = mu / part
        for cut in np.linspace(-5.0, centre + 5.0, 64).tolist():
            rates = stats.norm.cdf(cut - centre), stats.norm.sf(cut)
            wrong = ErrorCounts(round(few * rates[0]), few, round(few * rates[1]), few)
            if refuted(wrong, curve) <= ALARM:
                return True
        return False

    part = next((part / 20 for part in range(19, 0, -1) if shows(part / 20)), None)
    most = few and 1 - (ALARM / 2) ** (1 / few)
    largest = math.log((1 - most) / most) if 0 < most < 0.5 else 0.0
    less = "no smaller noise" if part is None else f"{part:.0%} of a Gaussian's noise, and less"
    return f"{found.runs:,} runs would show {less}; without noise, an epsilon of up to {largest:.3g}"


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
    if found.p_independent <= ALARM:
        return Finding.missing(test, "canaries of a run know of each other: one a run is counted")
    said = "one canary a run" if found.of == 1 else "scores of a run don't know of each other"
    return Finding.checked(test, True, f"{said} (p = {found.p_independent:.2g})")


def _too_few(found: Counted, claim: Claim) -> str:
    """How many runs it would take until a rule without errors refuted the claim."""
    least = math.log(ALARM / 2) / math.log1p(-(1 - claim.delta) / (1 + math.exp(claim.epsilon)))
    runs = 2 * least * CHOOSING / (CHOOSING - 1) / found.canaries
    needed = f"{runs:,.0f}" if runs < 1e9 else f"{runs:.0e}"
    return (
        f"{found.runs:,} runs of {found.canaries} would not refute epsilon {claim.epsilon:g} even of a mechanism "
        f"without noise: that takes about {needed} `runs`"
    )
