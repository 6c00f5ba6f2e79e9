"""Who takes part: ordinary runs with all, half and none of the canaries, compared with each other.

1. The noise has one size in all of them (F test). A canary moves the release by as much beside all others as beside
   half (normal test). **Assumes:** Gaussian noise of the charged size, which B and B2 test.
2. What one run saw doesn't show in the next (Student's test of the scores of those who were in before, so that noise of
   any size is no memory). **Assumes:** Gaussian noise.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import LEAST_P, Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Presence, Trial, Trials

SIZE, SCALE, SHOWN = "noise whoever takes part", "share whoever takes part", "users of the run before"


def whoever_takes_part(trials: Trials, steady: int | None) -> list[Finding]:
    """Size of the noise, and a canary's share, in runs with all, half and none of the canaries.

    Where a release follows from former ones, so may both: then releases before it are compared. If that isn't known,
    later ones count unless they would raise an alarm that the first doesn't.
    """
    found = list[Finding]()
    last = len(trials.claim.releases)
    if trials.claim.sampling < 1:  # only runs without users are compared
        steady = last
    for test in (_sizes, _shares):
        finding = test(trials, last if steady is None else steady)
        if steady is None and last > 1 and finding.p_value is not None and finding.p_value <= ALPHA:
            said = "whether later sums follow from former releases can't be seen, as its noise can't be repeated"
            found.append(Finding.missing(f"{finding.test}, later", f"{said}: {finding.said}"))
            finding = test(trials, 1)
        found.append(finding)
    return found


def run_before(trials: Trials) -> Finding:
    """Whether canaries of the run before show in a run in which they are not."""
    claim = trials.claim
    if claim.sampling < 1:
        return Finding.missing(SHOWN, "with hidden sampling, scores are no sums")
    before, after = [run.inside for run in trials.runs[:-1]], trials.runs[1:]
    if claim.releases:
        # Student's test: noise of any size, as of a divisor that depends on data, is no memory.
        kept = [run.scores[~run.inside & was] for was, run in zip(before, after, strict=True)]
        scores = np.concatenate(kept) if kept else np.zeros(0)
        spread = float(scores.std(ddof=1)) if len(scores) > 2 else 0.0
        if not 0 < spread < math.inf:
            return Finding.missing(SHOWN, "too few canaries were in a run and not in the next")
        apart = float(scores.mean()) / spread * math.sqrt(len(scores))
        p_value = 2 * float(stats.t.sf(abs(apart), len(scores) - 1))
        said = (
            f"canaries that were in the run before count {scores.mean():+.4f} where they are not, {apart:+.1f} standard"
            " errors"
        )
        return Finding.counted(SHOWN, max(LEAST_P, min(1.0, p_value)), said)
    if not after:
        return Finding.missing(SHOWN, "there is one run only")
    # Coins of two runs are independent, so that shuffling them, given all scores, gives the law: here its normal limit.
    was = np.stack(before).astype(np.float64) - 0.5
    scores = np.stack([run.scores for run in after])
    present = np.stack([run.inside for run in after])
    apart = scores[present].mean() - scores[~present].mean() if present.any() and not present.all() else 0.0
    rest = np.where(present, scores - apart, scores)
    rest = rest - rest.mean(axis=0)
    spread = math.sqrt(float((rest**2).sum()) * 0.25)
    along = float((was * rest).sum())
    if spread <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        return Finding.missing(SHOWN, "scores are the same in every run")
    p_value = min(1.0, 2 * float(stats.norm.sf(abs(along) / spread)))
    said = f"scores know who was in the run before by {along / spread:+.1f} standard errors"
    return Finding.counted(SHOWN, max(LEAST_P, p_value), said)


def _sizes(trials: Trials, kept: int) -> Finding:
    """Whether the noise of the first releases has one size, whoever takes part."""
    looks: list[tuple[float, str]] = []
    for round_ in range(kept):
        sizes = [(run, float((run.residuals[round_] ** 2).sum()), len(run.residuals[round_])) for run in trials.quiet]
        for number, (one, square, count) in enumerate(sizes):
            for other, square_, count_ in sizes[number + 1 :]:
                ratio = max(square / count, 1e-300) / max(square_ / count_, 1e-300)
                law = stats.f(count, count_)
                said = (
                    f"release {round_}: noise with {one.presence.value} is {math.sqrt(ratio):.4f} of that with "
                    f"{other.presence.value}"
                )
                looks.append((min(1.0, 2 * float(min(law.cdf(ratio), law.sf(ratio)))), said))
    if not looks:
        return Finding.missing(SIZE, "with hidden sampling, noise shows only where nobody takes part")
    p_value, said = min(looks)
    return Finding.counted(SIZE, max(LEAST_P, min(1.0, p_value * len(looks))), said)


def _shares(trials: Trials, kept: int) -> Finding:
    """Whether a canary moves the first releases by as much beside all others as beside half."""
    halves, full = trials.of(Presence.HALF), trials.of(Presence.ALL)
    if trials.claim.sampling < 1 or not halves or not full:
        return Finding.missing(SCALE, "with hidden sampling, who is in a step isn't known")
    claim = replace(trials.claim, releases=trials.claim.releases[:kept])

    def scores(run: Trial) -> Floats:
        return trials.canaries.scores(replace(run.released, vectors=run.released.vectors[:kept]), claim)

    inside = np.concatenate([scores(run)[run.inside] for run in halves])
    beside = np.concatenate([scores(run) for run in full])
    if min(len(inside), len(beside)) < 1:
        return Finding.missing(SCALE, "no canary took part in a run with half of them")
    apart = float(inside.mean() - beside.mean()) * claim.strength
    p_value = 2 * float(stats.norm.sf(abs(apart) / math.sqrt(1 / len(inside) + 1 / len(beside))))
    said = f"a canary counts {inside.mean():.3f} beside half of the others, and {beside.mean():.3f} beside all"
    return Finding.counted(SCALE, max(LEAST_P, min(1.0, p_value)), said)
