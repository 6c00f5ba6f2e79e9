"""C, C2 and J: whether noise knows of other noise: another release's, another run's, or its own further on.

Assumes nothing but symmetric, independent numbers, many of them: then a correlation times sqrt(n) is a standard normal
number. Two faces of each vector are compared: its numbers, and how large each is among Gaussian ones, whatever its
sign. Each pair at every shift, forwards and mirrored, by one Fourier transform: so noise that was used again, turned
over, scaled, moved, reflected, tiled, cycled, or given other signs shows. A repeated stretch of about 8 sqrt(n) numbers
is enough.

Sizes are spread evenly, and not squares: a sum of products of squares has tails so heavy that a correct mechanism of a
thousand numbers would be accused.
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
    """One way to look at a vector: numbers of deviation 1, with their transform."""

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
    """The least likely look, times how many there were."""
    if not looks:
        return Finding.missing(test, f"there is {otherwise} only")
    p_value, said = min(looks)
    return Finding.counted(test, min(1.0, p_value * len(looks)), f"the least likely of {len(looks)}: {said}")


def _faces(residual: Floats) -> Faces:
    """At deviation 1, cut to a length that transforms fast; and how large each is among Gaussian ones, evenly."""
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
    """The same of a vector with itself; what a number has with itself left out."""
    for face in faces:
        size = face.size
        lags = fft.irfft(np.abs(face.spectrum) ** 2, n=size)[1 : size // 2 + 1] / math.sqrt(size)
        if size % 2 == 0 and size:
            lags[-1] /= math.sqrt(2)  # half way round, each product is there twice
        yield lags
        # A mirrored vector meets itself in pairs, each there twice, and in one or two numbers that stay where they are.
        stay = np.bincount(2 * np.arange(size) % size, face.numbers**2, size)
        yield (fft.irfft(face.spectrum**2, n=size) - stay) / math.sqrt(2 * size)


def _least(looks: Iterator[Floats], pair: str) -> tuple[float, str]:
    """The least likely of the correlations of a pair, times how many there were."""
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
