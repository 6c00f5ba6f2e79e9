"""B, noise: whether every part of a release has at least the noise that was charged.

Assumes Gaussian, independent noise, which B2, C and J test: then the sum of squares over the charged variance is
chi^2 distributed with a degree of freedom a coordinate. Parts are the blocks, the dummies that no user can touch, the
coordinates of canaries that took part, of those that did not and of nobody, and 64 stretches of the vector. Each single
coordinate is looked at over all releases, too: one that never has noise is lost in any sum over its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Bools
from palate_audit.harness.trials import Trial, Trials

STRETCHES = 64
LEAST = 16
"""Parts of fewer coordinates are left out: they tell nothing."""


def noise_variance(trials: Trials) -> list[Finding]:
    """Too little noise over all, too little in some part, and, where a target states its noise exactly, too much."""
    squares, count = 0.0, 0
    parts: list[tuple[float, str, float]] = []
    for number, run in enumerate(trials.quiet):
        for round_, residual in enumerate(run.residuals):
            square = residual**2
            squares, count = squares + float(square.sum()), count + len(square)
            for name, members in _parts(trials, run):
                part = square[members]
                if len(part) >= LEAST:
                    low = float(stats.chi2.cdf(part.sum(), len(part)))
                    parts.append((low, f"{name}, run {number}, release {round_}", float(part.mean())))
    ratio = float(np.sqrt(squares / count))
    low, where, least = min(parts)
    found = [
        Finding.counted(
            "B noise variance",
            float(stats.chi2.cdf(squares, count)),
            f"noise is {ratio:.4f} of the charged standard deviation over {count:,} numbers",
            ratio=ratio,
            numbers=count,
        ),
        Finding.counted(
            "B noise in every part",
            min(1.0, low * len(parts)),
            f"the least likely of {len(parts):,} parts: {where}, {np.sqrt(least):.4f} of the charged deviation",
            parts=len(parts),
            where=where,
            ratio=float(np.sqrt(least)),
        ),
    ]
    return [*found, _coordinates(trials), *_excess(trials)]


def _coordinates(trials: Trials) -> Finding:
    """The coordinate with the least noise over all releases: a number is taken as large as its rounding allows."""
    test, runs = "B noise on every coordinate", trials.quiet
    if not runs:
        return Finding.missing(test, "no release shows noise alone")
    squares, numbers = np.zeros(len(runs[0].residuals[0])), 0
    for run in runs:
        for claim, residual in zip(trials.claim.releases, run.residuals, strict=True):
            squares += (np.abs(residual) + (claim.spacing or 0.0) / (2 * claim.sigma)) ** 2
            numbers += 1
    at = int(squares.argmin())
    p_value = min(1.0, len(squares) * float(stats.chi2.cdf(squares[at], numbers)))
    least = float(np.sqrt(squares[at] / numbers))
    said = f"coordinate {at} has the least, {least:.4f} of the charged deviation over {numbers} releases"
    return Finding.counted(test, p_value, said, coordinate=at, ratio=least)


def _excess(trials: Trials) -> list[Finding]:
    """More noise than shares of independent noise sum to: they are not independent."""
    stated = [release.stated for release in trials.claim.releases]
    worst: list[tuple[float, int, float]] = []
    for round_, (release, exact) in enumerate(zip(trials.claim.releases, stated, strict=True)):
        if exact is not None:
            squares = [run.residuals[round_] ** 2 * (release.sigma / exact) ** 2 for run in trials.quiet]
            total, count = sum(float(each.sum()) for each in squares), sum(len(each) for each in squares)
            worst.append((float(stats.chi2.sf(total, count)), round_, float(np.sqrt(total / count))))
    if not worst:
        return []
    high, round_, ratio = min(worst)
    return [
        Finding.counted(
            "B noise as stated",
            min(1.0, high * len(worst)),
            f"release {round_}: {ratio:.4f} of the stated deviation; more would mean noises that know of each other",
            ratio=ratio,
        )
    ]


def _parts(trials: Trials, run: Trial) -> Iterator[tuple[str, Bools | slice]]:
    """Named parts of a release, as masks or slices."""
    size, start = len(run.residuals[0]), 0
    for number, block in enumerate(trials.target.blocks):
        yield f"block {number}", slice(start, start + block)
        start += block
    if run.released.dummies:
        yield "dummies", slice(start, size)
    present, absent = trials.canaries.touched(run.inside, size)
    yield "coordinates of canaries that took part", present
    yield "coordinates of canaries that did not", absent
    untouched = ~(present | absent)
    untouched[start:] = False
    yield "coordinates of nobody", untouched
    for number, (first, last) in enumerate(_ends(size)):
        yield f"stretch {number}", slice(first, last)


def _ends(size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a vector."""
    edges = np.linspace(0, size, STRETCHES + 1).astype(int)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
