"""What noised sums cost whose terms a device draws by secret coins: the subsampled Gaussian, as mu^2 for the ledger.

Privacy unit: one event, that is, one item of one user. Adjacency: zero-out, i.e. the event is replaced by none. In each
of `steps` sums an event takes part with probability `inclusion`, by coins of the device that nobody sees, and moves
the sum by `sensitivity` at most. So a step is dominated by the pair (1 - q) N(0, z^2) + q N(1, z^2) and N(0, z^2), in
either order, z = sigma / sensitivity.

No such mechanism is Gaussian: its loss has the tail of the whole noise, however small q is. But but for a probability
of `TAIL` it is. `sampled_mu2` finds the mu with

    delta(eps) of all steps <= TAIL + (1 - TAIL) delta(eps) of mu-GDP     for every eps, in both orders,

that is, steps are mu-GDP tensor (0, TAIL)-DP in the sense of Dong, Roth and Su (2022). So they compose with everything
else in a ledger: mu^2 adds up, and so does TAIL, for which a run keeps a part of its delta.

The losses of a step are put on a grid, each rounded up, and convolved directly: all terms are positive, so that sums
keep their digits (Koskela, Jaelkoe and Honkela 2020; Doroshenko et al. 2022 for the rounding). Numpy is all it needs: a
device works it out again from the plan, and believes nobody.

    >>> one = sampled_mu2(sensitivity=2**14, sigma=2**15, inclusion=1.0, steps=3)
    >>> half = sampled_mu2(sensitivity=2**14, sigma=2**15, inclusion=0.5, steps=3)
    >>> round(one, 4), half < 0.5 * one
    (0.75, True)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError
from palate_common.mechanism.accounting import charged_mu2, round_up

Floats = npt.NDArray[np.float64]

TAIL = 2.0**-40
"""Probability, an attempt, with which nothing is promised; paid for in delta."""
MAX_STEPS = 64
LEAST_INCLUSION = 1e-3

_CELLS = 6000  # of the grid of losses, for one step and for all
_MOST_CELLS = 2**16  # of the grid for all steps; above, sampling counts for nothing: time is quadratic, 2 s here
_SPARE = TAIL * 1e-3  # what may be cut off at the far ends, and lost to rounding
_WIDTH = 9.0  # deviations of noise that a step's grid covers: beyond lies less than 1e-18
_erfc = np.frompyfunc(math.erfc, 1, 1)


def sampled_mu2(*, sensitivity: int, sigma: int, inclusion: float, steps: int) -> float:
    """mu^2 of `steps` discrete Gaussian sums with secret Poisson inclusion, rounded up.

    **Guarantees:** sampled dominated: but for TAIL, what the steps reveal is what mu-GDP allows, in both orders.
    **Guarantees:** sampled at most whole: never above the charge without sampling, which is exact at inclusion 1.
    **Guarantees:** sampled in bounded time: what would take more than some seconds is charged as if not sampled.
    **Assumes:** secret coins: each event's part in each step is an independent coin that nobody but the device has.

    Args:
        sensitivity: largest L2 norm of one event's term, grid steps.
        sigma: of the noise of each sum, grid steps.
        inclusion: q, in [0.001, 1].
        steps: sums, from 1.

    Raises:
        InputError: a number out of range, or less noise than the accounting has a rule for.
    """
    if not LEAST_INCLUSION <= inclusion <= 1:
        raise InputError(f"`inclusion` must be in [{LEAST_INCLUSION:g}, 1], got {inclusion!r}")
    if not 1 <= steps <= MAX_STEPS:
        raise InputError(f"`steps` must be from 1 to {MAX_STEPS}, got {steps!r}")
    one = charged_mu2(sensitivity=sensitivity, sigma=sigma)
    whole = round_up(Fraction(one) * steps)
    return whole if inclusion == 1 else min(whole, _sampled(one, float(inclusion), int(steps)))


@lru_cache(maxsize=256)
def _sampled(mu2: float, q: float, steps: int) -> float:
    """mu^2 of the sampled steps, each of mu2 without sampling; infinite where counting it would take too long."""
    if _cells(mu2**0.5, q, steps) * steps > _MOST_CELLS:
        return math.inf
    curves = [_Curve.of(mu2**0.5, q, steps, removed=removed) for removed in (True, False)]
    low, high = 0.0, (mu2 * steps) ** 0.5
    for _ in range(40):
        middle = (low + high) / 2
        if all(curve.below(middle) for curve in curves):
            high = middle
        else:
            low = middle
    return math.nextafter(high * high, math.inf)


def _cells(mu: float, q: float, steps: int) -> int:
    """Cells of one step's grid, in the longer order."""
    width = _reach(mu, q, steps) / _CELLS
    return max(len(_step(mu, q, width, removed=removed)[1]) for removed in (True, False))


class _Curve:
    """An upper bound of delta(eps) of all steps, at points that rise from 0.

    Attributes:
        epsilons: float64 [n].
        deltas: float64 [n].
    """

    def __init__(self, epsilons: Floats, deltas: Floats) -> None:
        self.epsilons, self.deltas = epsilons, deltas

    @classmethod
    def of(cls, mu: float, q: float, steps: int, *, removed: bool) -> _Curve:
        """The curve of the pair in one order: of the mixture over noise alone (`removed`), or the other way round."""
        width = _reach(mu, q, steps) / _CELLS
        first, masses, lost = _step(mu, q, width, removed=removed)
        offset, whole = first * steps, _power(masses, steps)
        infinite = steps * lost
        losses = (offset + np.arange(len(whole))) * width
        inside = losses > 0
        losses, whole = losses[inside], whole[inside]
        # delta(eps) = infinite + sum over losses above eps of mass (1 - e^(eps - loss)), at eps = 0 and at each loss.
        epsilons = np.concatenate([[0.0], losses])
        above = np.concatenate([np.cumsum(whole[::-1])[::-1], [0.0]])
        scaled = np.concatenate([np.cumsum((whole * np.exp(-losses))[::-1])[::-1], [0.0]])
        return cls(epsilons, infinite + np.maximum(above - np.exp(epsilons) * scaled, 0.0) + above * 1e-12)

    def below(self, mu: float) -> bool:
        """Whether TAIL and mu-GDP cover the curve everywhere: between two points by the left one's delta."""
        right = self.epsilons[1:]
        allowed = TAIL * (1 - 1e-6) + (1 - TAIL) * _gaussian_delta(right, mu) * (1 - 1e-9)
        return bool((self.deltas[:-1] <= allowed).all() and self.deltas[-1] <= TAIL * (1 - 1e-6))


def _reach(mu: float, q: float, steps: int) -> float:
    """A loss that all steps together stay below, but for a part of TAIL: by Chernoff's bound on their moments."""
    orders = np.arange(2, 257, dtype=np.float64)
    whole = mu * mu * orders * (orders - 1) / 2
    # The moment of a mixture is at most the mixture of moments: E e^((a-1) L) <= 1 - q + q e^(a (a-1) mu^2 / 2).
    bound = steps * np.logaddexp(math.log1p(-q), math.log(q) + whole) / (orders - 1)
    return float((bound - math.log(_SPARE) / (orders - 1)).min())


def _step(mu: float, q: float, width: float, *, removed: bool) -> tuple[int, Floats, float]:
    """One step's losses, rounded up to multiples of `width`: the first, the probabilities from it on, and what is cut.

    Noise has deviation 1, an event moves it by mu. The loss of the mixture over the noise at x is
    log(1 - q + q e^(mu x - mu^2 / 2)), rising in x; in the other order it is the same with the other sign.
    """

    def at(loss: Floats) -> Floats:
        """Where the mixture's loss has this value; minus infinity below its least."""
        inner = np.expm1(loss) + q
        with np.errstate(divide="ignore", invalid="ignore"):
            place = (np.log(np.where(inner > 0, inner, 1.0) / q) + mu * mu / 2) / mu
        return np.where(inner > 0, place, -np.inf)

    top = float(np.logaddexp(math.log1p(-q), math.log(q) + mu * (_WIDTH + mu) - mu * mu / 2))
    least = math.log1p(-q)
    if removed:
        cells = np.arange(math.floor(least / width), math.ceil(top / width) + 1)
        edges = at(np.asarray(cells * width, np.float64))
        masses = (1 - q) * _between(edges) + q * _between(edges - mu)
        lost = (1 - q) * _above(edges[-1]) + q * _above(edges[-1] - mu)
        return int(cells[1]), masses, lost
    cells = np.arange(math.floor(-top / width), math.ceil(-least / width) + 1)
    edges = at(np.asarray(-cells * width, np.float64))
    masses = _between(edges[::-1])[::-1]
    masses[0] += _above(edges[0])  # losses below the grid count as its first, which is more
    return int(cells[1]), masses, 0.0


def _power(masses: Floats, steps: int) -> Floats:
    """The distribution of the sum of `steps` independent losses: by squaring, convolved directly."""
    result: Floats | None = None
    while True:
        if steps & 1:
            result = masses if result is None else np.convolve(result, masses)
        steps >>= 1
        if not steps:
            return result if result is not None else np.ones(1)
        masses = np.convolve(masses, masses)


def _between(edges: Floats) -> Floats:
    """Probability of a standard normal number between neighbours of rising edges; small ones keep their digits."""
    upper, lower = _above_all(edges), _above_all(-edges)
    return np.maximum(np.where(edges[:-1] > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1]), 0.0)


def _above_all(places: Floats) -> Floats:
    return np.asarray(_erfc(places / math.sqrt(2)), np.float64) / 2


def _above(place: float) -> float:
    return math.erfc(float(place) / math.sqrt(2)) / 2


def _gaussian_delta(epsilons: Floats, mu: float) -> Floats:
    """Delta of mu-GDP; not below zero, and zero for mu = 0."""
    if mu <= 0:
        return np.zeros_like(epsilons)
    near, far = _above_all(epsilons / mu - mu / 2), _above_all(epsilons / mu + mu / 2)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.maximum(np.nan_to_num(near - np.exp(epsilons) * far, nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def noise_for(*, mu_r: float, sensitivity: int, inclusion: float, steps: int) -> int:
    """The noise of each sum, in whole grid steps, with which all steps cost at most mu_r^2.

    **Guarantees:** sampled noise enough: `sampled_mu2` at the returned sigma is at most mu_r^2.
    """
    from palate_common.mechanism.accounting import sigma_for

    budget = Fraction(mu_r) ** 2
    sigma = sigma_for(mu_r=mu_r / math.sqrt(steps) * (1 - 1e-12), sensitivity=sensitivity)
    if inclusion == 1:
        while sampled_mu2(sensitivity=sensitivity, sigma=sigma, inclusion=1.0, steps=steps) > budget:
            sigma += 1
        return sigma
    best = sigma
    for factor in _narrowed():
        tried = max(64, math.ceil(best * factor))
        while (
            tried < best
            and sampled_mu2(sensitivity=sensitivity, sigma=tried, inclusion=inclusion, steps=steps) <= budget
        ):
            best, tried = tried, max(64, math.ceil(tried * factor))
    return best


def _narrowed() -> Iterator[float]:
    """Ever smaller steps down."""
    yield from (0.7, 0.9, 0.97, 0.99, 0.997)
