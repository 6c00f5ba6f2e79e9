"""Claims: whether canaries can be told apart better than the claim allows, and the bound on epsilon that follows.

Thresholds are fixed before anything is measured. A canary is called present if its score is above the middle between
present and absent, and, for rung L0, which uses the tails, above 1.5 deviations more. In one run the 1 % and 10 % most
certain canaries are guessed, and all of them. Where there are several thresholds, they share alpha.

L0 assumes independent canaries: orthogonal ones under independent noise are independent. L1 assumes in addition a
Gaussian trade-off curve, L2 Gaussian scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate_audit.evidence.evidence import LEAST_P, Bound, Finding, Rung
from palate_audit.harness.canaries import Bools, Floats
from palate_audit.harness.claim import Claim
from palate_audit.harness.target import Target
from palate_audit.harness.trials import Presence, Trial, Trials
from palate_audit.statistics.counting import (
    MOST_MU,
    ErrorCounts,
    epsilon_one_run,
    epsilon_raw,
    epsilon_trade_off,
    gaussian_trade_off,
    mu_counted,
    one_run_p,
    refuted,
)
from palate_audit.statistics.sampling import Sampled
from palate_audit.statistics.scored import Shift, known_null, two_samples
from palate_core.accounting import epsilon_of

ALPHA = 0.05
"""The level of each single bound."""
GUESSED = (0.01, 0.1, 1.0)
"""Shares of the canaries that are guessed in one run."""
TAIL = 1.5
LEAST = 20
"""Fewest canaries on a side for a bound."""
ROUNDED = 1e-3
"""Tolerance for an epsilon that is stated with three digits."""
STATED = 5e-3
"""Tolerance for another accountant's: its grid is its own."""


def thresholds(claim: Claim) -> tuple[float, float]:
    """The middle, and one in the tail; scores of a sampled mechanism are log-likelihood ratios."""
    return (0.0, TAIL) if claim.sampling < 1 else (0.5, 0.5 + TAIL / claim.strength)


def claim_tests(trials: Trials) -> list[Finding]:
    """The claim tests of all rungs, as findings with p-values."""
    claim, (inside, outside) = trials.claim, trials.pooled()
    if min(len(inside), len(outside)) < LEAST:
        return [Finding.missing("claims", f"at least {LEAST} canaries in, and as many out, are needed")]
    counts = [errors(inside, outside, threshold) for threshold in thresholds(claim)]
    curve = claim_curve(claim)
    found = [
        _least("L0 counts against epsilon and delta", counts, epsilon_trade_off(claim.epsilon, claim.delta)),
        _least("L1 counts against the claimed curve", counts, curve),
    ]
    if halves := trials.of(Presence.HALF):
        found.append(_one_run_test(halves[0], claim))
    if claim.mu is not None:
        found += [
            Finding.counted(f"L2 scores, {name}", max(LEAST_P, shift.p_value(claim.mu)), _said(shift, claim.mu))
            for name, shift in _shifts(trials)
        ]
    return found


def claim_curve(claim: Claim) -> Callable[[float], float]:
    """The trade-off curve that a claim implies."""
    if claim.mu is not None:
        return gaussian_trade_off(claim.mu)
    return Sampled.of(claim).trade_off


def lower_bounds(trials: Trials) -> list[Bound]:
    """Every rung's lower bound on epsilon, each at 95 % by itself."""
    claim, (inside, outside) = trials.claim, trials.pooled()
    if min(len(inside), len(outside)) < LEAST:
        return []
    counts = [errors(inside, outside, threshold) for threshold in thresholds(claim)]
    raw = max(epsilon_raw(each, delta=claim.delta, alpha=ALPHA / len(counts)) for each in counts)
    runs = f"{len(trials.runs)} run{'s' if len(trials.runs) > 1 else ''}"
    found = [Bound(Rung.L0, f"counts, {runs}", None, raw, claim.epsilon)]
    if claim.mu is None:
        sampled = Sampled.of(claim).lower(counts[0], alpha=ALPHA)
        return [*found, Bound(Rung.L1, f"counts, {runs}, sampled", None, sampled, claim.epsilon)]
    # As many on both sides: else the best test for all errors together isn't the one that looks at the middle.
    n = min(len(inside), len(outside))
    middle = errors(inside[:n], outside[:n], thresholds(claim)[0])
    found.append(_of_mu(Rung.L1, f"counts, {runs}", mu_counted(middle, alpha=ALPHA), claim))
    if halves := trials.of(Presence.HALF):
        found.append(_one_run_bound(halves[0], claim))
    return found + [_of_mu(Rung.L2, name, shift.lower(ALPHA), claim) for name, shift in _shifts(trials)]


def claim_cost(target: Target) -> list[Finding]:
    """G: whether the claimed epsilon is what the claimed releases cost, by this package and by dp-accounting's PLD.

    A target may say what its own library's accountant states of the same releases, at the same delta: `stated`.

    Args:
        target: one that claims releases.
    """
    claim = target.claim
    if not claim.releases:
        return [Finding.missing("cost of the claim", "nothing is claimed of the noise that epsilon could follow from")]
    if claim.mu is None:
        costs = {"dp-accounting, PLD": Sampled.of(claim).epsilon}
    else:
        from dp_accounting.pld import privacy_loss_distribution as pld  # type: ignore[import-untyped] # ships no types

        whole = pld.from_gaussian_mechanism(1 / claim.strength, value_discretization_interval=1e-3)
        costs = {
            "closed form": epsilon_of(mu=claim.strength, delta=claim.delta),
            "dp-accounting, PLD": float(whole.get_epsilon_for_delta(claim.delta)),
        }
    least = min(costs.values())
    told = ", ".join(f"{cost:.4g} ({name})" for name, cost in costs.items())
    about = f"delta {claim.delta:g}, unit {claim.unit}, adjacency {claim.adjacency}"
    found = [
        Finding.checked(
            "cost of the claim",
            claim.epsilon >= least * (1 - ROUNDED),
            f"epsilon {claim.epsilon:.4g} is claimed; its releases cost {told} ({about})",
        )
    ]
    for name, epsilon in dict(getattr(target, "stated", {})).items():
        said = f"{name} states {epsilon:.4g}; these releases cost {told} ({about})"
        found.append(Finding.checked(f"stated by {name}", epsilon >= least * (1 - STATED), said, stated=epsilon))
    return found


def errors(inside: Floats, outside: Floats, threshold: float) -> ErrorCounts:
    """The errors of a threshold."""
    misses, false = int((inside <= threshold).sum()), int((outside > threshold).sum())
    return ErrorCounts(misses, len(inside), false, len(outside))


def surest(scores: Floats, inside: Bools, part: float) -> dict[str, int]:
    """Call the highest scores present and equally many of the lowest absent: `canaries`, `guesses`, `correct` ones."""
    each = max(1, round(part * len(scores) / 2))
    each = min(each, len(scores) // 2)
    order = np.argsort(scores, kind="stable")
    right = int(inside[order[-each:]].sum()) + int((~inside[order[:each]]).sum())
    return {"canaries": len(scores), "guesses": 2 * each, "correct": right}


def _shifts(trials: Trials) -> list[tuple[str, Shift]]:
    """L2 statistics: of the first run with half of the canaries, and of the first with all."""
    halves, full = trials.of(Presence.HALF), trials.of(Presence.ALL)
    found = []
    if halves:
        run = halves[0]
        found.append(("two samples, one run", two_samples(run.scores[run.inside], run.scores[~run.inside])))
    if full:
        found.append(("known null, one run", known_null(full[0].scores)))
    return found


def _one_run_test(run: Trial, claim: Claim) -> Finding:
    """Steinke et al.'s test at the claimed pair, on the first run with half of the canaries."""
    looks = []
    for part in GUESSED:
        each = surest(run.scores, run.inside, part)
        p_value = one_run_p(**each, epsilon=claim.epsilon, delta=claim.delta)
        looks.append((p_value, f"{each['correct']:,} of the surest {each['guesses']:,} guesses were right"))
    p_value, said = min(looks)
    return Finding.counted("L0 guesses in one run", min(1.0, p_value * len(looks)), said)


def _one_run_bound(run: Trial, claim: Claim) -> Bound:
    """L0 from one run's guesses."""
    picks = [surest(run.scores, run.inside, part) for part in GUESSED]
    raw = max(epsilon_one_run(**each, delta=claim.delta, alpha=ALPHA / len(GUESSED)) for each in picks)
    return Bound(Rung.L0, "guesses, one run", None, raw, claim.epsilon)


def _least(test: str, counts: list[ErrorCounts], curve: Callable[[float], float]) -> Finding:
    """The claim test without assumptions at each threshold."""
    looks = [(refuted(each, curve), each) for each in counts]
    p_value, each = min(looks, key=lambda look: look[0])
    said = (
        f"missed {each.misses:,} of {each.inside:,} present, called {each.false:,} of {each.outside:,} absent present"
    )
    return Finding.counted(test, min(1.0, p_value * len(looks)), said)


def _of_mu(rung: Rung, name: str, mu: float, claim: Claim) -> Bound:
    """Convert a bound on mu to one on epsilon; without any noise mu is infinite, and is capped."""
    mu = min(mu, MOST_MU)
    return Bound(rung, name, mu, epsilon_of(mu=mu, delta=claim.delta), claim.epsilon)


def _said(shift: Shift, mu: float) -> str:
    return f"scores lie {shift.estimate:.4f} deviations apart, {mu:.4f} claimed"
