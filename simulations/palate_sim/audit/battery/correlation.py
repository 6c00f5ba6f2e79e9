"""C, C2 and J: whether noise knows of other noise: another release's, another run's, or its own further on.

Assumes nothing but symmetric, independent numbers, many of them: then a correlation times sqrt(n) is a standard normal
number. Each pair is compared at every shift, by one Fourier transform, and its squares at none, so that noise that was
used again, turned over, scaled, moved, tiled or cycled shows. A repeated stretch of about 8 sqrt(n) numbers is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import fft, stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_sim.audit.canaries import Floats
from palate_sim.audit.evidence import Finding
from palate_sim.audit.trials import Trials

Spectrum = npt.NDArray[np.complex128]


def noise_correlation(trials: Trials) -> list[Finding]:
    """C across the releases of a run, C2 across runs, J within a vector."""
    names, numbers = [], []
    for name, _, residual in trials.noises():
        names.append(name)
        numbers.append(_standard(residual))
    spectra = [np.asarray(fft.rfft(each)) for each in numbers]
    each_run = len(trials.claim.releases)
    within: list[tuple[float, str]] = []
    across: list[tuple[float, str]] = []
    for a, b in combinations(range(len(numbers)), 2):
        same = a // each_run == b // each_run
        pair = f"{names[a]} and {names[b]}"
        (within if same else across).append(_crossed(spectra[a], spectra[b], numbers[a], numbers[b], pair))
    own = [_own(spectrum, len(each), name) for spectrum, each, name in zip(spectra, numbers, names, strict=True)]
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


def _standard(residual: Floats) -> Floats:
    """At deviation 1, cut to a length that transforms fast."""
    cut = residual[: _fast(len(residual))]
    deviation = math.sqrt(float(np.mean(cut**2)))
    return cut / deviation if deviation > 0 else cut


def _fast(size: int) -> int:
    """The largest length up to `size` that has no prime factor above 11."""
    return int(fft.prev_fast_len(size, real=True))


def _crossed(one: Spectrum, other: Spectrum, a: Floats, b: Floats, pair: str) -> tuple[float, str]:
    """Two vectors at every shift, and their squares at none."""
    size = len(a)
    lags = fft.irfft(one * np.conj(other), n=size) / math.sqrt(size)
    lag = int(np.abs(lags).argmax())
    squares = float(((a**2 - 1) * (b**2 - 1)).sum() / (2 * math.sqrt(size)))
    p_lag = min(1.0, size * 2 * float(stats.norm.sf(abs(lags[lag]))))
    p_squares = min(1.0, 2 * float(stats.norm.sf(abs(squares))))
    if p_squares < p_lag:
        return min(1.0, 2 * p_squares), f"{pair}, squares correlate with {squares / math.sqrt(size):+.4f}"
    return min(1.0, 2 * p_lag), f"{pair}, shifted by {lag}, correlate with {lags[lag] / math.sqrt(size):+.4f}"


def _own(spectrum: Spectrum, size: int, name: str) -> tuple[float, str]:
    """A vector against itself at every shift but none."""
    lags = fft.irfft(np.abs(spectrum) ** 2, n=size)[1 : size // 2 + 1] / math.sqrt(size)
    if not len(lags):
        return 1.0, f"{name} has one number"
    lag = int(np.abs(lags).argmax())
    p_value = min(1.0, len(lags) * 2 * float(stats.norm.sf(abs(lags[lag]))))
    return p_value, f"{name} shifted by {lag + 1} correlates with itself with {lags[lag] / math.sqrt(size):+.4f}"
