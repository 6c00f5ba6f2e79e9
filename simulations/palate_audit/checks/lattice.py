"""H, lattice: whether every released number lies on the grid that the accounting is for, and on no coarser one.

The first look is exact and assumes nothing: noise in floating point leaves low bits that tell of what it was added to
(Mironov 2012), so one number off the grid is an alarm. The second assumes noise of 64 steps or more, whose remainders
modulo a small number are then uniform to within 10^-30: chi^2 over them finds noise that was rounded more coarsely.
"""

from __future__ import annotations

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.trials import Trials

MODULI = (2, 3, 4, 5, 7, 10, 16)
FINE = 16.0
"""Noise of fewer steps doesn't fill remainders evenly."""


def output_lattice(trials: Trials) -> list[Finding]:
    """Off the grid, and on a coarser one."""
    if any(release.spacing is None for release in trials.claim.releases):
        return [Finding.missing("H output lattice", "the mechanism claims no grid: its noise is in floating point")]
    off, looks, skipped = 0, [], False
    for round_, release in enumerate(trials.claim.releases):
        spacing = release.spacing or 1.0
        skipped |= release.sigma / spacing < FINE
        for run in trials.runs:
            steps = run.released.vectors[round_] / spacing
            whole = np.rint(steps)
            off += int((steps != whole).sum())
            if release.sigma / spacing >= FINE:
                looks += [_remainders(whole.astype(np.int64), modulus, round_) for modulus in MODULI]
    found = [
        Finding.checked("H output on the grid", off == 0, f"{off:,} released numbers are off the claimed grid", off=off)
    ]
    if skipped or not looks:
        return [*found, Finding.missing("H remainders", f"noise of at least {FINE:g} steps is needed")]
    p_value, said = min(looks)
    return [*found, Finding.counted("H remainders", min(1.0, p_value * len(looks)), said)]


def _remainders(steps: np.ndarray[tuple[int], np.dtype[np.int64]], modulus: int, round_: int) -> tuple[float, str]:
    """Pearson's chi^2 of the remainders."""
    counts = np.bincount(steps % modulus, minlength=modulus)
    expected = len(steps) / modulus
    statistic = float(((counts - expected) ** 2).sum() / expected)
    said = f"release {round_} modulo {modulus}: chi^2 is {statistic / (modulus - 1):.3f} of its expectation"
    return float(stats.chi2.sf(statistic, modulus - 1)), said
