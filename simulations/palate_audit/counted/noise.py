"""Whether every part of a release has the charged noise, with its distribution and on its grid.

B assumes Gaussian, independent noise, which B2, C and J test: then the sum of squares over the charged variance is
chi^2 distributed with one degree of freedom a coordinate. Parts are the blocks, the dummies that no user can touch,
the coordinates of canaries that took part, of those that did not and of neither, and 64 stretches of the vector. Each
single coordinate is tested over all releases, too, because one that never has noise is hidden in any sum with its
neighbours.

B2, shape, assumes independent numbers, which C and J test. Residuals divided by their own deviation are tested in four
ways: skewness and kurtosis about the mean, transformed to a normal scale (D'Agostino 1970; Anscombe and Glynn 1983),
because their own tails are far heavier; the number beyond 4 deviations, where truncated noise has none; and a histogram
of 64 bins that a Gaussian fills equally. Numbers on a grid are spread evenly over their step before they are binned.

H, lattice: the first test is exact and assumes nothing. The low bits of floating-point noise reveal the number it was
added to (Mironov 2012), so one number off the grid is an alarm. The second assumes noise of 16 steps or more, whose
remainders modulo a small number are then uniform: chi^2 over them finds noise that was rounded more coarsely.

H, repeats: two draws of a discrete Gaussian of sigma steps are equal with probability 1 / (2 sigma sqrt(pi)). Noise of
few random bits, or on a coarser grid that no remainder shows, repeats more often. The test uses releases without
canaries, where every number is noise, and assumes independent numbers: then the number of equal pairs is normal with a
known variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special, stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import LEAST_P, Finding
from palate_audit.harness.canaries import Bools, Floats
from palate_audit.harness.trials import Presence, Trial, Trials

STRETCHES = 64
LEAST = 16
"""Fewest coordinates of a part: smaller parts have no power."""


def noise_variance(trials: Trials) -> list[Finding]:
    """Too little noise in total, too little in some part, and, where a target states its noise exactly, too much."""
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
    over_all = Finding.counted(
        "noise variance",
        float(stats.chi2.cdf(squares, count)),
        f"noise is {ratio:.4f} of the charged standard deviation over {count:,} numbers",
        ratio=ratio,
        numbers=count,
    )
    return [over_all, _in_parts(parts), _coordinates(trials), *_excess(trials)]


def _in_parts(parts: Sequence[tuple[float, str, float]]) -> Finding:
    """The part with the least likely noise."""
    test = "noise in every part"
    if not parts:
        return Finding.missing(test, f"parts of at least {LEAST} numbers are needed")
    low, where, least = min(parts)
    return Finding.counted(
        test,
        min(1.0, low * len(parts)),
        f"the least likely of {len(parts):,} parts: {where}, {np.sqrt(least):.4f} of the charged deviation",
        parts=len(parts),
        where=where,
        ratio=float(np.sqrt(least)),
    )


def _coordinates(trials: Trials) -> Finding:
    """The coordinate with the least noise over all releases; half a grid step is added to each number."""
    test, runs = "noise on every coordinate", trials.quiet
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
    """More noise than the sum of independent shares has: the shares are not independent."""
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
            "noise as stated",
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
    """Start and end of each stretch of a vector."""
    edges = np.linspace(0, size, STRETCHES + 1).astype(int)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


BINS = 64
FAR = 4.0
LEAST_OF_SHAPE = 1000
"""Fewest numbers for which the approximations hold at p-values of one in a billion."""
MOMENTS = 10_000
"""The same for skewness and kurtosis: 1,000 numbers exceed 5 deviations 20 times as often as the p-values say."""


def noise_shape(trials: Trials) -> list[Finding]:
    """Skewness, kurtosis, tails and histogram, each at the release with the smallest p-value."""
    rng = np.random.default_rng([trials.seed, 0x4232])
    looks: dict[str, list[tuple[float, int, float]]] = {"skewness": [], "kurtosis": [], "tails": [], "histogram": []}
    for round_, release in enumerate(trials.claim.releases):
        numbers = np.concatenate([_standard(run.residuals[round_]) for run in trials.quiet])
        if len(numbers) < LEAST_OF_SHAPE:
            return [Finding.missing("noise shape", f"at least {LEAST_OF_SHAPE} numbers a release are needed")]
        if np.ptp(numbers) == 0:
            return [Finding.counted("noise shape", LEAST_P, f"release {round_}: all numbers are equal")]
        dither = 0.0 if release.spacing is None else release.spacing / release.sigma
        if len(numbers) >= MOMENTS:
            looks["skewness"].append((float(stats.skewtest(numbers).pvalue), round_, float(stats.skew(numbers))))
            looks["kurtosis"].append(
                (float(stats.kurtosistest(numbers).pvalue), round_, float(stats.kurtosis(numbers)))
            )
        looks["tails"].append((*_tails(numbers, round_),))
        looks["histogram"].append((*_histogram(numbers + dither * (rng.random(len(numbers)) - 0.5), round_),))
    words = {
        "skewness": "skewness {:.4f} where 0 is expected",
        "kurtosis": "excess kurtosis {:.4f} where 0 is expected",
        "tails": "{:.3f} of the expected numbers lie beyond 4 deviations",
        "histogram": "chi^2 is {:.3f} of its expectation over 64 equally likely bins",
    }
    found = []
    for name, values in looks.items():
        if not values:
            found.append(Finding.missing(f"{name}", f"at least {MOMENTS:,} numbers a release are needed"))
            continue
        p_value, round_, value = min(values)
        said = f"release {round_}: {words[name].format(value)}"
        found.append(Finding.counted(f"{name}", min(1.0, p_value * len(values)), said, value=value))
    return found


def _standard(residual: Floats) -> Floats:
    """Divide by the sample deviation; the mean is known to be 0."""
    deviation = math.sqrt(float(np.mean(residual**2)))
    return residual / deviation if deviation > 0 else residual


def _tails(numbers: Floats, round_: int) -> tuple[float, int, float]:
    """Two-sided p-value of the number of residuals beyond 4 deviations."""
    rate, count = 2 * float(stats.norm.sf(FAR)), int((np.abs(numbers) > FAR).sum())
    few, many = stats.binom.cdf(count, len(numbers), rate), stats.binom.sf(count - 1, len(numbers), rate)
    return min(1.0, 2 * float(min(few, many))), round_, count / (rate * len(numbers))


def _histogram(numbers: Floats, round_: int) -> tuple[float, int, float]:
    """Pearson's chi^2 over equally likely bins."""
    bins = np.minimum((special.ndtr(numbers) * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    # The deviation was estimated, which only removes degrees of freedom.
    even = stats.chisquare(counts)
    return float(even.pvalue), round_, float(even.statistic) / (BINS - 1)


MODULI = (2, 3, 4, 5, 7, 10, 16)
FINE = 16.0
"""Least noise, in steps, whose remainders are uniform."""


def output_lattice(trials: Trials) -> list[Finding]:
    """Numbers off the grid, and numbers on a coarser grid."""
    if any(release.spacing is None for release in trials.claim.releases):
        return [Finding.missing("output lattice", "the mechanism claims no grid: its noise is in floating point")]
    off, skipped = 0, False
    looks: list[tuple[float, str]] = []
    for round_, release in enumerate(trials.claim.releases):
        spacing = release.spacing or 1.0
        skipped |= release.sigma / spacing < FINE
        for run in trials.runs:
            steps = run.released.vectors[round_] / spacing
            whole = np.rint(steps)
            off += int((steps != whole).sum())
            if release.sigma / spacing >= FINE:
                looks += _remainders(whole.astype(np.int64), round_)
    found = [
        Finding.checked("output on the grid", off == 0, f"{off:,} released numbers are off the claimed grid", off=off)
    ]
    if skipped or not looks:
        return [*found, Finding.missing("remainders", f"noise of at least {FINE:g} steps is needed")]
    p_value, said = min(looks)
    return [*found, Finding.counted("remainders", min(1.0, p_value * len(looks)), said)]


def _remainders(steps: np.ndarray[tuple[int], np.dtype[np.int64]], round_: int) -> Iterator[tuple[float, str]]:
    """Pearson's chi^2 of the remainders modulo each number, from those modulo a multiple of all of them."""
    every = math.lcm(*MODULI)
    by_every = np.bincount(steps % every, minlength=every)
    for modulus in MODULI:
        even = stats.chisquare(by_every.reshape(-1, modulus).sum(axis=0))
        said = f"release {round_} modulo {modulus}: chi^2 is {even.statistic / (modulus - 1):.3f} of its expectation"
        yield float(even.pvalue), said


REPEATED = "repeated numbers"
LEAST_PAIRS = 100.0
"""Fewest expected equal pairs for which their number is normal."""


def repeated_numbers(trials: Trials) -> list[Finding]:
    """Too many equal numbers in a release of noise alone."""
    looks: list[tuple[float, str]] = []
    for run in trials.of(Presence.NONE):
        for round_, (vector, claim) in enumerate(zip(run.released.vectors, trials.claim.releases, strict=True)):
            if claim.spacing is None:
                continue
            expected, variance = _pairs(len(vector), claim.sigma / claim.spacing)
            if expected >= LEAST_PAIRS:
                _, counts = np.unique(vector, return_counts=True)
                found = float((counts * (counts - 1.0)).sum()) / 2
                p_value = float(stats.norm.sf((found - expected) / math.sqrt(variance)))
                looks.append((p_value, f"release {round_}: {found:,.0f} equal pairs, {expected:,.0f} expected"))
    if not looks:
        if any(claim.spacing is None for claim in trials.claim.releases):
            return [Finding.missing(REPEATED, "the mechanism claims no grid: its noise is in floating point")]
        return [Finding.missing(REPEATED, f"{LEAST_PAIRS:g} equal pairs must be expected: more numbers, or less noise")]
    p_value, said = min(looks)
    return [Finding.counted(REPEATED, min(1.0, p_value * len(looks)), said)]


def _pairs(n: int, sigma: float) -> tuple[float, float]:
    """Expected number of equal pairs among `n` draws, and its variance.

    With p the chance of a value, sums over values are integrals of powers of a Gaussian density: of p^2 it is
    1 / (2 sigma sqrt(pi)), of p^3 it is 1 / (2 pi sqrt(3) sigma^2). The variance of the number of pairs is
    C(n, 2) P2 (1 - P2) + 6 C(n, 3) (P3 - P2^2).
    """
    two, three = 1 / (2 * sigma * math.sqrt(math.pi)), 1 / (2 * math.pi * math.sqrt(3) * sigma**2)
    pairs, triples = n * (n - 1) / 2, n * (n - 1) * (n - 2) / 6
    return pairs * two, pairs * two * (1 - two) + 6 * triples * (three - two**2)
