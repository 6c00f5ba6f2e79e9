"""Whether noise is correlated with another release's, another run's, or with itself at a distance.

It assumes only many symmetric, independent numbers: then a correlation times sqrt(n) is standard normal. Each vector is
compared in two forms: its numbers, and the rank of each one's size among Gaussian sizes, without its sign. A Fourier
transform gives the correlations of each pair at every shift, forwards and mirrored. So noise that was reused, negated,
scaled, shifted, mirrored, tiled, cycled, or given other signs is found. A repeated stretch of about 8 sqrt(n) numbers
is enough.

Ranks are used instead of squares, because a sum of products of squares has such heavy tails that a correct mechanism
with a thousand numbers would raise an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import fft, special, stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import LEAST_P, Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Presence, Trials

Spectrum = npt.NDArray[np.complex64]
FACES = ("numbers", "sizes")
RELEASES, RUNS = "correlation across releases", "correlation across runs"
WITHIN, LEFT = "correlation within a vector", "noise beside former releases"
DIRECTIONS = ("shifted", "mirrored and shifted")


@dataclass(frozen=True)
class _Face:
    """One form of a vector: numbers with deviation 1, and their Fourier transform."""

    numbers: Floats
    spectrum: Spectrum

    @property
    def size(self) -> int:
        """How many numbers."""
        return len(self.numbers)


Faces = tuple[_Face, ...]


def noise_correlation(trials: Trials) -> list[Finding]:
    """C across the releases of a run, C2 across runs, J within a vector; no release follows from a former one."""
    within, across, own = _looks(trials)
    return [
        _finding(RELEASES, [look for _, look in within], "one release a run"),
        _finding(RUNS, [look for _, look in across], "one run"),
        _finding(WITHIN, [look for _, look in own], "no release"),
    ]


def adaptive_correlation(trials: Trials, steady: int | None) -> list[Finding]:
    """C, C2 and J of a mechanism whose releases may follow from former ones, as adaptive composition allows.

    Then residuals have more in them than noise: what users contributed because of a former release. It follows from
    that release, and may correlate with it. Noise is new all the same if enough of a release is left beside the former
    one: whatever it has from there, what stands across has the energy of all its numbers but one, at least.

    Args:
        trials: the ordinary runs.
        steady: so many releases, from the first on, have sums that don't follow from former ones; None: not known.
    """
    made = noise_correlation(trials)
    if len(trials.claim.releases) < 2 or trials.claim.sampling < 1:
        return made
    if steady is not None and steady >= len(trials.claim.releases):
        return made
    found = []
    for finding, looks in zip(made, _looks(trials), strict=True):
        sure = [look for later, look in looks if later < (steady or 1)]
        rest = [look for later, look in looks if later >= (steady or 1)]
        beyond = min(1.0, min(rest)[0] * len(rest)) if rest else 1.0
        # What isn't known to follow from former releases counts as before, unless it would be an alarm.
        if beyond > ALPHA and (steady is None or finding.test != RELEASES):
            found.append(finding)
            continue
        if sure:
            found.append(_finding(finding.test, sure, "one release a run"))
        why = f"from release {steady} on, sums follow from former releases"
        if steady is None:
            why = "whether later sums follow from former releases can't be seen, as its noise can't be repeated"
        said = f"{why}: that correlates and is no fault; the most: {min(rest)[1]}"
        found.append(Finding.missing(f"{finding.test}, later" if sure else finding.test, said))
    return [*found, _left(trials)]


def _left(trials: Trials) -> Finding:
    """How much noise a release has beside what a former one of its run foretells of it, at the best shift.

    Given all former releases, a release is a function of them, plus its own noise of the charged size or more. So its
    energy across a former one, in whichever direction and at whichever shift, is no less than chi^2 with one degree of
    freedom less than it has numbers.
    """
    looks: list[tuple[float, str]] = []
    for number, run in enumerate(trials.quiet):
        faces = [_faces(residual)[0] for residual in run.residuals]
        for first, second in combinations(range(len(faces)), 2):
            one, other = faces[first], faces[second]
            size = other.size
            energy = float(np.square(run.residuals[second][:size]).sum())
            tried = [np.abs(each).max() / math.sqrt(size) for each in list(_crossed((one,), (other,)))]
            part = max(0.0, 1 - max(tried) ** 2)
            p_value = min(1.0, float(stats.chi2.cdf(energy * part, size - 1)) * size * len(tried)) if size > 1 else 1.0
            said = f"run {number}: beside release {first}, release {second} has {math.sqrt(energy * part / size):.4f}"
            looks.append((p_value, f"{said} of the charged deviation"))
    return _finding(LEFT, [(max(LEAST_P, p_value), said) for p_value, said in looks], "one release a run")


Look = tuple[int, tuple[float, str]]
"""From which release on it is one of later releases only, and the p-value with words."""


def _looks(trials: Trials) -> tuple[list[Look], list[Look], list[Look]]:
    """Comparisons across releases, across runs and within a vector."""
    seen = [(name, _faces(residual)) for name, _, residual in trials.noises()]
    each_run = len(trials.claim.releases)
    idle = [run.presence is Presence.NONE for run in trials.quiet]
    within: list[Look] = []
    across: list[Look] = []
    for (a, (first, one)), (b, (second, other)) in combinations(enumerate(seen), 2):
        (run_a, round_a), (run_b, round_b) = divmod(a, each_run), divmod(b, each_run)
        look = _least(_crossed(one, other), f"{first} and {second}")
        if run_a == run_b:
            within.append((max(round_a, round_b), look))
        else:
            # Runs without users share nothing with others, whatever their sums follow from.
            across.append((0 if idle[run_a] or idle[run_b] else min(round_a, round_b), look))
    own = [(at % each_run, _least(_own(faces), f"{name} and itself")) for at, (name, faces) in enumerate(seen)]
    return within, across, own


def _finding(test: str, looks: Sequence[tuple[float, str]], otherwise: str) -> Finding:
    """The smallest p-value of all comparisons, times their number."""
    if not looks:
        return Finding.missing(test, f"there is {otherwise} only")
    p_value, said = min(looks)
    return Finding.counted(test, min(1.0, p_value * len(looks)), f"the least likely of {len(looks)}: {said}")


def _faces(residual: Floats) -> Faces:
    """Both forms of a vector, cut to a length with a fast Fourier transform."""
    cut = residual[: _fast(len(residual))]
    deviation = math.sqrt(float(np.mean(cut**2)))
    numbers = cut / deviation if deviation > 0 else cut
    ranks = special.erf(np.abs(numbers) / math.sqrt(2))
    sizes = (ranks - ranks.mean()) / (float(ranks.std()) or 1.0)
    # Single precision: its errors are a millionth of a standard error, and it takes half of the time.
    return tuple(_Face(each, np.asarray(fft.rfft(each.astype(np.float32)))) for each in (numbers, sizes))


def _fast(size: int) -> int:
    """The largest length up to `size` that has no prime factor above 11."""
    return int(fft.prev_fast_len(size, real=True))


def _crossed(one: Faces, other: Faces) -> Iterator[Floats]:
    """Correlations of two vectors in standard errors: by face and direction, at every shift."""
    for a, b in zip(one, other, strict=True):
        for turned in (np.conj(b.spectrum), b.spectrum):
            yield fft.irfft(a.spectrum * turned, n=a.size) / math.sqrt(a.size)


def _own(faces: Faces) -> Iterator[Floats]:
    """The autocorrelations of a vector in standard errors; the product of a number with itself is left out."""
    for face in faces:
        size = face.size
        lags = fft.irfft(np.abs(face.spectrum) ** 2, n=size)[1 : size // 2 + 1] / math.sqrt(size)
        if size % 2 == 0 and size:
            lags[-1] /= math.sqrt(2)  # at half the length, each product occurs twice
        yield lags
        # In a mirrored vector each product of two numbers occurs twice; one or two numbers meet themselves.
        stay = np.bincount(2 * np.arange(size) % size, face.numbers**2, size)
        yield (fft.irfft(face.spectrum**2, n=size) - stay) / math.sqrt(2 * size)


def _least(looks: Iterator[Floats], pair: str) -> tuple[float, str]:
    """The smallest p-value of the correlations of a pair, times their number."""
    found: list[tuple[float, str]] = []
    for number, scores in enumerate(looks):
        if not len(scores):
            continue
        at = int(np.abs(scores).argmax())
        p_value = min(1.0, len(scores) * 2 * float(stats.norm.sf(abs(scores[at]))))
        how = f"{FACES[number // 2]} {DIRECTIONS[number % 2]}"
        found.append((p_value, f"{pair}, {how}, correlate by {scores[at]:+.1f} standard errors"))
    if not found:
        return 1.0, f"{pair} have one number"
    p_value, said = min(found)
    return min(1.0, p_value * len(found)), said
