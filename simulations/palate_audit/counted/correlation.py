"""C, C2 and J: whether noise is correlated with another release's, another run's, or with itself at a distance.

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

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Trials

Spectrum = npt.NDArray[np.complex128]
FACES = ("numbers", "sizes")
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
    """C across the releases of a run, C2 across runs, J within a vector."""
    seen = [(name, _faces(residual)) for name, _, residual in trials.noises()]
    each_run = len(trials.claim.releases)
    within: list[tuple[float, str]] = []
    across: list[tuple[float, str]] = []
    for (a, (first, one)), (b, (second, other)) in combinations(enumerate(seen), 2):
        same = a // each_run == b // each_run
        (within if same else across).append(_least(_crossed(one, other), f"{first} and {second}"))
    own = [_least(_own(faces), f"{name} and itself") for name, faces in seen]
    return [
        _finding("C correlation across releases", within, "one release a run"),
        _finding("C2 correlation across runs", across, "one run"),
        _finding("J correlation within a vector", own, "no release"),
    ]


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
    return tuple(_Face(each, np.asarray(fft.rfft(each))) for each in (numbers, sizes))


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
