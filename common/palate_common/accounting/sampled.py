"""Sampled sums: what noised sums cost in which secret coins of the device sample single events.

Where the unit is one event, that is, one item of one user, zero-out removes the event. In each of `steps` sums an event
takes part with probability q = `inclusion`, and moves the sum by `sensitivity` at most. So a step is dominated by the
pair (1 - q) N(0, z^2) + q N(1, z^2) and N(0, z^2), in either order, z = sigma / sensitivity. A sampled step isn't
exactly mu-GDP for a smaller mu: its loss has the tail of the unsampled step, however small q is. But it is, except with
probability `TAIL`. `sampled_mu2` finds the mu with

    delta(eps) of all steps <= TAIL + (1 - TAIL) delta(eps) of mu-GDP     for every eps, in both orders,

that is, steps are mu-GDP tensor (0, TAIL)-DP in the sense of Dong, Roth and Su. So they compose with everything else in
a ledger: mu^2 adds up, and so does TAIL, for which a run reserves a part of its delta. The losses of a step are rounded
up to a grid and convolved directly: all terms are positive, so that no digits cancel (Koskela, Jaelkoe and Honkela
2020; Doroshenko et al. 2022 for the rounding). It needs numpy only: a device computes it from the plan itself instead
of trusting the server.

    >>> one = sampled_mu2(sensitivity=2**14, sigma=2**15, inclusion=1.0, steps=3)
    >>> half = sampled_mu2(sensitivity=2**14, sigma=2**15, inclusion=0.5, steps=3)
    >>> round(one, 4), half < 0.5 * one
    (0.75, True)
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from palate_core.accounting import MAX_MU, charged_mu2, real_number, round_up, sigma_for, whole_number
from palate_core.errors import InputError
from palate_core.plan import LEAST_INCLUSION, MAX_STEPS, RoundPlan, Sampling

Float64 = npt.NDArray[np.float64]

TAIL = 2.0**-40
"""Probability, for each attempt, that the mu-GDP bound fails; it is a part of delta."""
_CELLS = 6000  # of the grid of losses, for one step and for all
_MOST_CELLS = 2**16  # of the grid for all steps; above, sampling isn't credited: time is quadratic, 2 s here
_SPARE = TAIL * 1e-3  # probability that may be cut off at the far ends, and lost to rounding
_WIDTH = 9.0  # standard deviations of noise that a step's grid covers: beyond lies less than 1e-18
_erfc = np.frompyfunc(math.erfc, 1, 1)


def sampled_mu2(*, sensitivity: float, sigma: int, inclusion: float, steps: int) -> float:
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
    inclusion, steps = check_sampling(inclusion, steps)
    one = charged_mu2(sensitivity=sensitivity, sigma=sigma)
    whole = round_up(Fraction(one) * steps)
    return whole if inclusion == 1 else min(whole, _mu2_of_sampled(one, inclusion, steps))


def attempt_mu2(grid: int, sigma: int, events: Sampling | None) -> float:
    """What an attempt costs a user, as mu^2; with event steps, what it costs one event."""
    if events is None:
        return charged_mu2(sensitivity=grid, sigma=sigma)
    return sampled_mu2(sensitivity=grid, sigma=sigma, inclusion=events.inclusion, steps=events.steps)


def event_mu2(plan: RoundPlan) -> float:
    """What an attempt costs one event, as mu^2: `palate_core.plan.EventPrice` of a device that answers such plans."""
    return attempt_mu2(plan.grid, plan.sigma, plan.events)


def noise_for(*, mu_r: float, sensitivity: float, inclusion: float, steps: int) -> int:
    """The noise of each sum, in whole grid steps, with which all steps cost at most mu_r^2.

    **Guarantees:** sampled noise enough: `sampled_mu2` at the returned sigma is at most mu_r^2.
    """
    inclusion, steps = check_sampling(inclusion, steps)
    mu_r = real_number("mu_r", mu_r, below=MAX_MU)
    budget = Fraction(mu_r) ** 2
    sigma = sigma_for(mu_r=mu_r / math.sqrt(steps) * (1 - 1e-12), sensitivity=sensitivity)
    if inclusion == 1:
        while sampled_mu2(sensitivity=sensitivity, sigma=sigma, inclusion=1.0, steps=steps) > budget:
            sigma += 1
        return sigma
    best = sigma
    for factor in (0.7, 0.9, 0.97, 0.99, 0.997):  # ever smaller steps down
        tried = max(64, math.ceil(best * factor))
        while (
            tried < best
            and sampled_mu2(sensitivity=sensitivity, sigma=tried, inclusion=inclusion, steps=steps) <= budget
        ):
            best, tried = tried, max(64, math.ceil(tried * factor))
    return best


def check_sampling(inclusion: float, steps: int) -> tuple[float, int]:
    """Both as they are counted, if they can be: a step that was cut to a whole number would be charged too little."""
    found = real_number("inclusion", inclusion)
    if not LEAST_INCLUSION <= found <= 1:
        raise InputError(f"`inclusion` must be in [{LEAST_INCLUSION:g}, 1], got {inclusion!r}")
    if whole_number("steps", steps, 1) > MAX_STEPS:
        raise InputError(f"`steps` must be from 1 to {MAX_STEPS}, got {steps!r}")
    return found, int(steps)


@lru_cache(maxsize=256)
def _mu2_of_sampled(mu2: float, q: float, steps: int) -> float:
    """mu^2 of the sampled steps, each of mu2 without sampling; infinite where computing it would take too long."""
    if _cells(mu2**0.5, q, steps) * steps > _MOST_CELLS:
        return math.inf
    curves = [_Curve.of(mu2**0.5, q, steps, removed=removed) for removed in (True, False)]
    low, high = 0.0, (mu2 * steps) ** 0.5
    for _ in range(40):
        middle = (low + high) / 2
        # What is too small a mu at a few points is so for them alone from here on: delta rises with mu at each.
        over = [curve.over(middle) for curve in curves]
        if any(len(each.deltas) for each in over):
            low, curves = middle, over
        else:
            high = middle
    return math.nextafter(high * high, math.inf)


def _cells(mu: float, q: float, steps: int) -> int:
    """Cells of one step's grid, for the order that needs more."""
    width = _reach(mu, q, steps) / _CELLS
    return max(len(_step(mu, q, width, removed=removed)[1]) for removed in (True, False))


class _Curve:
    """An upper bound of delta(eps) of all steps: between two points the left one's delta counts.

    Attributes:
        epsilons: float64 [n], up to where each delta counts, the last infinite; or some of them.
        deltas: float64 [n].
    """

    def __init__(self, epsilons: Float64, deltas: Float64) -> None:
        self.epsilons, self.deltas = epsilons, deltas

    @classmethod
    def of(cls, mu: float, q: float, steps: int, *, removed: bool) -> _Curve:
        """The curve of the pair in one order: mixture against noise alone (`removed`), or noise against mixture."""
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
        deltas = infinite + np.maximum(above - np.exp(epsilons) * scaled, 0.0) + above * 1e-12
        return cls(np.concatenate([losses, [math.inf]]), deltas)

    def over(self, mu: float) -> _Curve:
        """The points that TAIL and mu-GDP don't bound; none if they bound the curve everywhere."""
        allowed = TAIL * (1 - 1e-6) + (1 - TAIL) * _gaussian_delta(self.epsilons, mu) * (1 - 1e-9)
        unbounded = ~(self.deltas <= allowed)
        return _Curve(self.epsilons[unbounded], self.deltas[unbounded])


def _reach(mu: float, q: float, steps: int) -> float:
    """A loss that all steps together exceed with a small part of TAIL only, by Chernoff's bound on their moments."""
    orders = np.arange(2, 257, dtype=np.float64)
    whole = mu * mu * orders * (orders - 1) / 2
    # The moment of a mixture is at most the mixture of moments: E e^((a-1) L) <= 1 - q + q e^(a (a-1) mu^2 / 2).
    bound = steps * np.logaddexp(math.log1p(-q), math.log(q) + whole) / (orders - 1)
    return float((bound - math.log(_SPARE) / (orders - 1)).min())


def _step(mu: float, q: float, width: float, *, removed: bool) -> tuple[int, Float64, float]:
    """One step's losses, rounded up to multiples of `width`: first multiple, probabilities from it on, part cut off.

    Noise has standard deviation 1, an event moves it by mu. The loss of the mixture over the noise at x is
    log(1 - q + q e^(mu x - mu^2 / 2)), rising in x; in the other order it has the other sign.
    """

    def at(loss: Float64) -> Float64:
        """The x at which the mixture's loss has this value; minus infinity below its least value."""
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
    masses[0] += _above(edges[0])  # losses below the grid are rounded up to its first
    return int(cells[1]), masses, 0.0


def _power(masses: Float64, steps: int) -> Float64:
    """The distribution of the sum of `steps` independent losses: by squaring, convolved directly."""
    result: Float64 | None = None
    while True:
        if steps & 1:
            result = masses if result is None else np.convolve(result, masses)
        steps >>= 1
        if not steps:
            return result if result is not None else np.ones(1)
        masses = np.convolve(masses, masses)


def _between(edges: Float64) -> Float64:
    """Probabilities of a standard normal variable between neighbouring edges, rising; small ones keep their digits."""
    upper, lower = _above_all(edges), _above_all(-edges)
    return np.maximum(np.where(edges[:-1] > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1]), 0.0)


def _above_all(places: Float64) -> Float64:
    return np.asarray(_erfc(places / math.sqrt(2)), np.float64) / 2


def _above(place: float) -> float:
    return math.erfc(float(place) / math.sqrt(2)) / 2


def _gaussian_delta(epsilons: Float64, mu: float) -> Float64:
    """Delta of mu-GDP; not below zero, and zero for mu = 0."""
    if mu <= 0:
        return np.zeros_like(epsilons)
    near, far = _above_all(epsilons / mu - mu / 2), _above_all(epsilons / mu + mu / 2)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.maximum(np.nan_to_num(near - np.exp(epsilons) * far, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
