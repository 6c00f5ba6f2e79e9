"""A of hidden sampling: whether users are drawn as the claim says, read from their scores in each step.

    score of a user in a step = 1 if drawn, else 0, plus noise of the charged size

1. **How often.** The mean over users and steps must not be above the claimed rate. Its law is binomial plus normal
   noise. **Assumes:** Gaussian noise, and users who count 1 at most, which D and F test. A lower rate costs no privacy.
2. **Each step anew.** Ranks of the scores in two steps must not go together (normal law, over all pairs of steps),
   neither by themselves nor more than those of absent users.
3. **Each user alone.** Means of steps must not be further apart than scores within a step say (F test): a coin that all
   users share is known to whoever knows the others. **Assumes:** many users are drawn, and many aren't.

Where scores of absent users go together, steps follow from former ones. Then the first step alone tells of the rate,
and the others are not checkable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import LEAST_P, Finding
from palate_audit.harness.canaries import Floats, OrthogonalCanaries
from palate_audit.harness.trials import Presence, Trial, Trials

RATE, ANEW, ALONE = "rate of the sampling", "each step's own sampling", "each user's own sampling"
DRAWN = 25.0
"""Fewest users that must be expected in a step, and left out of it, for normal laws."""
SHOWS = 6.0
"""So many standard errors are about what an alarm takes."""
TOGETHER = 3.0
"""So many standard errors between scores of absent users say that steps follow from former ones."""


def sampling_tests(trials: Trials) -> list[Finding]:
    """Tests of a claimed hidden sampling; none without one."""
    claim, canaries = trials.claim, trials.canaries
    runs = trials.of(Presence.HALF, Presence.ALL)
    if claim.sampling == 1:
        return []
    if not any(run.inside.any() for run in runs):
        said = "scores of users in a step can't be read without canaries that take part"
        return [Finding.missing(test, said) for test in (RATE, ANEW, ALONE)]
    scores = [(run, _scores(trials, canaries, run)) for run in runs]
    steps = [each[:, run.inside] for run, each in scores if run.inside.any()]
    absent = [each[:, ~run.inside] for run, each in scores if not run.inside.all()]
    apart = _together(absent)
    follows = abs(apart[0]) * math.sqrt(apart[1]) > TOGETHER
    return [
        _rate(trials, steps, follows=follows),
        _anew(steps, apart, follows=follows),
        _alone(trials, steps, follows=follows),
    ]


def _scores(trials: Trials, canaries: OrthogonalCanaries, run: Trial) -> Floats:
    """Each canary's score in each step, [steps, users], in sensitivities."""
    found = [
        (vector[canaries.places] * canaries.signs).sum(axis=1) / math.sqrt(canaries.places.shape[1]) / claim.sensitivity
        for vector, claim in zip(run.released.vectors, trials.claim.releases, strict=True)
    ]
    return np.stack(found)


def _rate(trials: Trials, steps: Sequence[Floats], *, follows: bool) -> Finding:
    """The mean of the scores against the claimed rate."""
    rate, claim = trials.claim.sampling, trials.claim
    used = [each[:1] if follows else each for each in steps]
    count, total = sum(each.size for each in used), sum(float(each.sum()) for each in used)
    charged = sum(each.shape[1] * release.mu**-2 for each in used for release in claim.releases[: len(each)]) / count
    spread = sum(float(((each - each.mean(axis=1, keepdims=True)) ** 2).sum()) for each in used) / count
    noise = max(charged, spread - rate * (1 - rate))  # more noise than charged is no fault
    drawn = np.arange(count + 1)
    beyond = stats.norm.sf((total - drawn) / math.sqrt(noise * count))
    p_value = float((stats.binom.pmf(drawn, count, rate) * beyond).sum())
    shows = rate + SHOWS * math.sqrt((rate * (1 - rate) + noise) / count)
    said = f"users are in a step with probability {total / count:.4f}, {rate:g} is claimed"
    if follows:
        said += ", by the first step, as later ones follow from it"
    would = (
        f"; a rate above {shows:.3g} would show" if shows < 1 else "; no rate would show with so few users and steps"
    )
    return Finding.counted(RATE, max(LEAST_P, min(1.0, p_value)), said + would, rate=total / count, shows=shows)


def _together(steps: Sequence[Floats]) -> tuple[float, float]:
    """The mean correlation of ranks over all pairs of steps, and the inverse of its variance if there is none."""
    along = weight = 0.0
    for each in steps:
        if each.shape[1] < 3:
            continue
        ranks = stats.rankdata(each, axis=1)
        ranks = ranks - ranks.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
        unit = ranks / np.maximum(lengths, 1e-300)
        for one, other in combinations(range(len(unit)), 2):
            along += float(unit[one] @ unit[other]) * (each.shape[1] - 1)
            weight += each.shape[1] - 1
    return (along / weight, weight) if weight else (0.0, 0.0)


def _anew(steps: Sequence[Floats], absent: tuple[float, float], *, follows: bool) -> Finding:
    """Whether who is in a step is likelier in another."""
    found, weight = _together(steps)
    if not weight or not absent[1]:
        return Finding.missing(ANEW, "it takes two steps at least, with users in them and users who are absent")
    if follows:
        said = f"steps follow from former ones: scores of absent users correlate by {absent[0]:+.3f}"
        return Finding.missing(ANEW, f"{said}, those of others by {found:+.3f}")
    more = (found - absent[0]) / math.sqrt(1 / weight + 1 / absent[1])
    own = found * math.sqrt(weight)
    p_value = float(stats.norm.sf(min(own, more)))
    shows = SHOWS * math.sqrt(1 / weight + 1 / absent[1])
    said = (
        f"scores of a user in two steps correlate by {found:+.3f}, those of absent ones by {absent[0]:+.3f}, 0 is "
        f"claimed; {shows:.2g} more would show"
    )
    return Finding.counted(ANEW, max(LEAST_P, p_value), said, correlation=found, shows=shows)


def _alone(trials: Trials, steps: Sequence[Floats], *, follows: bool) -> Finding:
    """Whether numbers of users in a step vary as draws of single users do, and not more."""
    rate = trials.claim.sampling
    if follows:
        return Finding.missing(ALONE, "steps follow from former ones, so that their sums differ anyway")
    within = between = 0.0
    free, left = 0, 0
    for each in steps:
        users = each.shape[1]
        if users * min(rate, 1 - rate) < DRAWN:
            continue
        means = each.mean(axis=1, keepdims=True)
        between += users * float(((means - means.mean()) ** 2).sum())
        within += float(((each - means) ** 2).sum())
        free, left = free + len(each) - 1, left + len(each) * (users - 1)
    if not free or not within:
        said = f"it takes two steps at least, with {DRAWN:.0f} users or more drawn and as many not"
        return Finding.missing(ALONE, said)
    ratio = between / free / (within / left)
    p_value = float(stats.f.sf(ratio, free, left))
    shows = math.sqrt(float(stats.f.isf(2 * stats.norm.sf(SHOWS), free, left)))
    said = f"sums of steps deviate by {math.sqrt(ratio):.3f} of what draws of single users give; {shows:.3g} would show"
    return Finding.counted(ALONE, max(LEAST_P, p_value), said, ratio=math.sqrt(ratio), shows=shows)
