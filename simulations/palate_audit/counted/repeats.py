"""Of releases: no stretch of noise occurs twice, in a release, across releases, or across runs.

Exact matching, not correlation: noise of a known grid with thousands of steps never repeats four numbers or five by
chance, so that a single repeated stretch is proof (`palate_audit.statistics.repeats`). Looked at is what is nothing but
noise: coordinates of canaries that don't take part, of nobody, and the dummies.
"""

from __future__ import annotations

import numpy as np

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.trials import Trials
from palate_audit.statistics.repeats import gaussian_chance, search

TEST = "repeats across releases"


def exact_repeats(trials: Trials) -> list[Finding]:
    """One search over all noises of all runs."""
    if any(release.spacing is None for release in trials.claim.releases):
        return [Finding.missing(TEST, "the mechanism claims no grid: its noise is in floating point")]
    noises, kept, chances = {}, {}, [0.0]
    for number, run in enumerate(trials.quiet):
        for round_, (vector, claim) in enumerate(zip(run.released.vectors, trials.claim.releases, strict=True)):
            present, _ = trials.canaries.touched(run.inside, len(vector))
            spacing = claim.spacing or 1.0
            name = f"run {number}, release {round_}"
            noises[name] = np.rint(vector / spacing).astype(np.int64) if spacing != 1 else vector.astype(np.int64)
            kept[name] = ~present
            chances.append(gaussian_chance(claim.sigma / spacing))
    found = search(noises, chance=max(chances), kept=kept)
    return [Finding.counted(TEST, found.p_value, str(found), by_chance=found.probability)]
