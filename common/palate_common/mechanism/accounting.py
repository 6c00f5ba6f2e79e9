"""Accounting: what a run's releases cost together, from sensitivity and noise to (eps, delta).

Privacy unit: one installation. Adjacency: zero-out, i.e. one installation's events are emptied; it still takes part and
sends zero. Every figure here is for that unit and that adjacency, at full participation: without amplification by
sampling, except for the sampled sums below. The plan chooses sigma by it, the ledger charges mu^2, and the privacy card
prints the results.

    >>> mu = mu_of(epsilon=5.0, delta=1e-5)
    >>> sigma = sigma_for(mu_r=split_budget(mu=mu, shares=(1, 4))[1], sensitivity=2**14)
    >>> account([GaussianEvent(sensitivity=2**14, sigma=sigma, dimension=100)], delta=1e-5).epsilon < 5.0
    True

mu is the parameter of Gaussian differential privacy (Dong, Roth and Su 2022): releases compose as the sum of mu^2, and
the noise multiplier of one release is 1/mu. `GaussianEvent` says what happened, `account` what it costs. Every bound is
rounded to the safe side: charges, eps and sigma up, budgets down. Every function raises `InputError` for a value that
is out of its range, not finite or not a number.

**Sampled sums.** Where the unit is one event, that is, one item of one user, zero-out removes the event, and secret
coins of the device may sample the events. In each of `steps` sums an event takes part with probability
q = `inclusion`, and moves the sum by `sensitivity` at most. So a step is dominated by the pair
(1 - q) N(0, z^2) + q N(1, z^2) and N(0, z^2), in either order, z = sigma / sensitivity. A sampled step isn't exactly
mu-GDP for a smaller mu: its loss has the tail of the unsampled step, however small q is. But it is, except with
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
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real

import numpy as np

from palate_common.errors import InputError
from palate_common.mechanism.cohort import shares_slack
from palate_common.mechanism.discrete_gaussian import MAX_SIGMA
from palate_common.mechanism.update import Float64

ACCOUNTANT = "palate closed form"
ACCOUNTANT_VERSION = "1"
CENTRAL_SIGMA_FLOOR = 64
"""Smallest sigma, in grid steps, that a central release may have."""
PLD_INTERVAL, PLD_FINE, PLD_MOST = 1e-4, 20.0, 100.0
"""Grid step of the second accountant up to an epsilon of 20 (user-level, zero-out); then in proportion, up to 100."""
TAIL = 2.0**-40
"""Probability, for each attempt, that the mu-GDP bound fails; it is a part of delta."""
MAX_STEPS = 64
LEAST_INCLUSION = 1e-3

_MAX_MU = 1e4
# Beyond these a square is out of a float's range.
_LEAST, _MOST = 1e-100, 1e150
# Bound of the relative error of `_delta`, which is usually far smaller; eps is rounded up by it.
_DELTA_MARGIN = 1.0 + 1e-10
# Trapezoid rule of step 1/16 in x, where s = e^(x - e^(-x)): exponentially accurate for decays from 0 to infinity.
_NODES = tuple(
    (math.exp(x - math.exp(-x)), math.exp(x - math.exp(-x)) * (1 + math.exp(-x)) / 16)
    for x in (k / 16 for k in range(-60, 73))
)
_CELLS = 6000  # of the grid of losses, for one step and for all
_MOST_CELLS = 2**16  # of the grid for all steps; above, sampling isn't credited: time is quadratic, 2 s here
_SPARE = TAIL * 1e-3  # probability that may be cut off at the far ends, and lost to rounding
_WIDTH = 9.0  # standard deviations of noise that a step's grid covers: beyond lies less than 1e-18
_erfc = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True, kw_only=True)
class GaussianEvent:
    """One release: an integer vector sum plus a discrete Gaussian on every coordinate.

    Attributes:
        sensitivity: largest L2 norm of one installation's contribution, grid steps.
        sigma: parameter of the noise, grid steps.
        dimension: number of released coordinates, dummies included.
        round: round of the run, 0 for popularity.
        attempt: attempt of the round; each answered attempt is a release.
        shares: how many devices' shares the noise is the sum of; 1 for a single draw.
        inclusion: where the unit is one event, the probability that it takes part in a step, by secret coins.
        steps: noised sums on each device; with inclusion below 1 the caller must reserve `TAIL` of delta.
    """

    sensitivity: float
    sigma: int
    dimension: int
    round: int = 0
    attempt: int = 0
    shares: int = 1
    inclusion: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        charged_mu2(sensitivity=self.sensitivity, sigma=self.sigma)
        _sampling(self.inclusion, self.steps)
        for name, least in (("dimension", 1), ("round", 0), ("attempt", 0), ("shares", 1)):
            _whole(name, getattr(self, name), least)

    @property
    def mu2(self) -> float:
        """The release's charge."""
        if (self.inclusion, self.steps) == (1.0, 1):
            return charged_mu2(sensitivity=self.sensitivity, sigma=self.sigma)
        return sampled_mu2(sensitivity=self.sensitivity, sigma=self.sigma, inclusion=self.inclusion, steps=self.steps)

    @property
    def noise_multiplier(self) -> float:
        """Noise multiplier of the continuous Gaussian with the same charge, rounded down."""
        return _root(1 / Fraction(self.mu2))


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a sequence of releases costs together, for one installation under zero-out adjacency."""

    mu2: float
    epsilon: float
    delta: float
    accountant: str = ACCOUNTANT
    version: str = ACCOUNTANT_VERSION


def charged_mu2(*, sensitivity: float, sigma: int) -> float:
    """mu^2 of one discrete Gaussian release: sensitivity^2 / (sigma^2 - 4), both in grid steps, rounded up.

    **Guarantees:** discrete as continuous: with `discrete_slack` it covers the discrete Gaussian in any dimension.
    **Guarantees:** charge rounded up: never below the exact quotient.
    **Assumes:** integer noise: the noise is N_Z(0, sigma^2) on the grid in which the sensitivity is counted.
    **Assumes:** central floor: sigma is a whole number of at least 64 steps; less is refused.
    """
    variance = _whole("sigma", sigma, CENTRAL_SIGMA_FLOOR) ** 2 - 4
    return round_up(Fraction(_real("sensitivity", sensitivity, above=_LEAST, below=_MOST)) ** 2 / variance)


def discrete_slack(*, releases: int, dimension: int) -> float:
    """What discrete noise adds to eps: 4e-34 for every release and each of its `dimension` coordinates, rounded up."""
    return round_up(Fraction(4 * _whole("releases", releases, 0) * _whole("dimension", dimension, 0), 10**34))


def delta_of(*, epsilon: float, mu: float) -> float:
    """The smallest delta for which mu-GDP implies (eps, delta): Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

    Balle and Wang (2018), theorem 8. eps = 0 is allowed and gives the total variation distance; mu in [0, 10^4).
    """
    return _delta(_real("epsilon", epsilon, zero=True), _real("mu", mu, below=_MAX_MU, zero=True))


def epsilon_of(*, mu: float, delta: float) -> float:
    """The smallest eps for which mu-GDP implies (eps, delta), rounded up; mu in [0, 10^4), mu = 0 gives 0.

    **Guarantees:** epsilon rounded up: `delta_of` at the returned eps is at most delta.
    **Guarantees:** epsilon monotone: a mu larger by a part in 10^9 never gives a smaller eps.
    """
    return _epsilon(_real("mu", mu, below=_MAX_MU, zero=True), check_delta(delta))


@lru_cache(maxsize=1024)  # a run asks for the same few, and each is a hundred integrals
def _epsilon(mu: float, delta: float) -> float:
    """`epsilon_of`, of numbers that are in range."""
    if _delta(0.0, mu) * _DELTA_MARGIN <= delta:
        return 0.0
    # delta <= Phi(mu/2 - eps/mu) <= e^(-(eps/mu - mu/2)^2 / 2) / 2, so that this eps is enough.
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(-2 * math.log(delta))
    while low < (middle := (low + high) / 2) < high:
        if _delta(middle, mu) * _DELTA_MARGIN <= delta:
            high = middle
        else:
            low = middle
    return high


def mu_of(*, epsilon: float, delta: float) -> float:
    """The largest mu, up to 10^4, for which `epsilon_of` is at most eps, rounded down.

    **Guarantees:** mu rounded down: `epsilon_of` at the returned mu is at most eps.
    **Guarantees:** mu leaves room: an account of releases whose mu^2 add up to its square says at most eps.
    """
    return _mu(check_epsilon(epsilon), check_delta(delta))


@lru_cache(maxsize=1024)
def _mu(epsilon: float, delta: float) -> float:
    """`mu_of`, of numbers that are in range."""
    low, high = 0.0, _MAX_MU
    while low < (middle := (low + high) / 2) < high:
        if _delta(epsilon, middle) * _DELTA_MARGIN <= delta:
            low = middle
        else:
            high = middle
    # Room for the last digits, in which the two bisections and a sum of charges may disagree.
    low *= 1 - 1e-11
    while _epsilon(low, delta) > epsilon:
        low *= 1 - 1e-11
    return low


def split_budget(*, mu: float, shares: Sequence[float]) -> tuple[float, ...]:
    """The mu of each release: their squares are in proportion to `shares` (any unit) and add up to at most mu^2.

    **Guarantees:** split within budget: the exact sum of the squares is at most mu^2.
    """
    budget = Fraction(_real("mu", mu, below=_MAX_MU)) ** 2
    parts = [Fraction(_real("shares", share, below=_MOST)) for share in shares]
    if not parts:
        raise InputError("`shares` must have at least one entry, got none")
    whole = sum(parts)
    return tuple(_root(budget * part / whole) for part in parts)


def sigma_for(*, mu_r: float, sensitivity: float) -> int:
    """The smallest sigma, in whole grid steps from `CENTRAL_SIGMA_FLOOR` on, whose charge is at most mu_r^2.

    **Guarantees:** sigma enough: `charged_mu2` at the returned sigma is at most mu_r^2, compared exactly.
    """
    budget = Fraction(_real("mu_r", mu_r, below=_MAX_MU)) ** 2
    variance = 4 + Fraction(_real("sensitivity", sensitivity, above=_LEAST, below=_MOST)) ** 2 / budget
    sigma = max(CENTRAL_SIGMA_FLOOR, math.isqrt(math.ceil(variance) - 1) + 1)
    if sigma > MAX_SIGMA:
        raise InputError(f"`sigma` must be at most {MAX_SIGMA} steps, got {sigma}; use a coarser grid or more budget")
    # The charge is rounded up, which can ask for one step more.
    while charged_mu2(sensitivity=sensitivity, sigma=sigma) > budget:
        sigma += 1
    return sigma


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
    inclusion, steps = _sampling(inclusion, steps)
    one = charged_mu2(sensitivity=sensitivity, sigma=sigma)
    whole = round_up(Fraction(one) * steps)
    return whole if inclusion == 1 else min(whole, _sampled(one, inclusion, steps))


def noise_for(*, mu_r: float, sensitivity: float, inclusion: float, steps: int) -> int:
    """The noise of each sum, in whole grid steps, with which all steps cost at most mu_r^2.

    **Guarantees:** sampled noise enough: `sampled_mu2` at the returned sigma is at most mu_r^2.
    """
    inclusion, steps = _sampling(inclusion, steps)
    mu_r = _real("mu_r", mu_r, below=_MAX_MU)
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


def account(events: Sequence[object], *, delta: float) -> Account:
    """What the releases cost together.

    **Guarantees:** composition: also holds where later releases depend on earlier ones, if the total was fixed before.
    **Guarantees:** unknown events refused: anything but a `GaussianEvent` raises; nothing is skipped.
    **Assumes:** every attempt listed: a retry is an event of its own.
    """
    known: list[GaussianEvent] = []
    for event in events:
        # Exactly this type: a subclass could charge less.
        if type(event) is not GaussianEvent:
            raise InputError(f"`events` must be GaussianEvent only, got {type(event).__name__}: its cost is unknown")
        known.append(event)
    mu2 = round_up(sum((Fraction(event.mu2) for event in known), Fraction(0)))
    slack = sum((Fraction(discrete_slack(releases=e.steps, dimension=e.dimension)) for e in known), Fraction(0))
    shared = sum((Fraction(shares_slack(sigma=e.sigma, shares=e.shares)) * e.dimension for e in known), Fraction(0))
    check_delta(delta)
    within = delta * (1 - round_up(shared)) if shared else delta  # e^-x >= 1 - x
    return Account(mu2=mu2, epsilon=round_up(Fraction(_composed(mu2, within)) + slack + 2 * shared), delta=delta)


def epsilon_closed(*, noise_multipliers: Sequence[float], delta: float) -> float:
    """The eps of continuous Gaussian releases with these multipliers together, in closed form, rounded up."""
    inverses = (1 / Fraction(_real("noise_multipliers", z, below=_MOST)) for z in noise_multipliers)
    return _composed(round_up(sum((x**2 for x in inverses), Fraction(0))), delta)


def epsilon_pld(
    *,
    noise_multipliers: Sequence[float],
    delta: float,
    interval: float = 1e-4,
    sampling: Sequence[tuple[float, int]] | None = None,
) -> float:
    """`epsilon_closed` by composing privacy loss distributions: the second accountant. Needs `palate[server]`.

    **Assumes:** fixed schedule: the multipliers were chosen before the first release.

    Args:
        noise_multipliers: noise over sensitivity of each release.
        delta: in (0, 1).
        interval: width of the grid of privacy losses. The error falls with its square and grows with the releases.
        sampling: for each multiplier, the probability that the unit secretly takes part, and the number of sums.
    """
    delta = check_delta(delta)
    terms = [(1.0, 1)] * len(noise_multipliers) if sampling is None else sampling
    equal = Counter[tuple[float, float]]()
    for z, (inclusion, steps) in zip(noise_multipliers, terms, strict=True):
        chance = _real("inclusion", inclusion, below=math.nextafter(1.0, 2.0))
        equal[_real("noise_multipliers", z, below=_MOST), chance] += _whole("steps", steps, 1)
    return _composed_losses(tuple(equal.items()), delta, _real("interval", interval, below=1.0))


@lru_cache(maxsize=256)
def _composed_losses(releases: tuple[tuple[tuple[float, float], int], ...], delta: float, interval: float) -> float:
    """`epsilon_pld` of ((multiplier, inclusion), times) each; cached, as an audit computes what its run did."""
    from dp_accounting import (  # type: ignore[import-untyped]  # ships no types
        GaussianDpEvent,
        NeighboringRelation,
        PoissonSampledDpEvent,
    )
    from dp_accounting.pld import PLDAccountant  # type: ignore[import-untyped]  # ships no types

    # Zero-out: one record is replaced by the empty one.
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, interval)
    for (multiplier, inclusion), times in releases:
        noised = GaussianDpEvent(multiplier)
        accountant.compose(noised if inclusion == 1 else PoissonSampledDpEvent(inclusion, noised), times)
    return float(accountant.get_epsilon(delta))


def pld_interval(epsilon: float) -> float:
    """Grid step for `epsilon_pld`: five times coarser from 1 on, which changes the result by a part in 10^6."""
    return PLD_INTERVAL * (1.0 if epsilon < 1 else 5.0 * max(1.0, epsilon / PLD_FINE))


def default_delta(*, n_users: int) -> float:
    """min(1e-5, 1 / (10 N)) for the public number of users N."""
    return min(1e-5, 1 / (10 * _whole("n_users", n_users, 1)))


def check_epsilon(epsilon: float) -> float:
    """The epsilon, if it can be a budget: positive and finite."""
    return _real("epsilon", epsilon)


def check_delta(delta: float) -> float:
    """The delta, if it lies strictly between 0 and 1."""
    return _real("delta", delta, below=1.0)


def _composed(mu2: float, delta: float) -> float:
    """The eps of a sum of mu^2, rounded up."""
    return epsilon_of(mu=math.nextafter(math.sqrt(mu2), math.inf) if mu2 else 0.0, delta=delta)


def _delta(epsilon: float, mu: float) -> float:
    """`delta_of`, for t = eps/mu - mu/2: density(t) times the integral of e^(-t s - s^2/2) (1 - e^(-mu s)), s > 0."""
    t = epsilon / mu - mu / 2 if mu else math.inf
    if t > 40:  # below the smallest float
        return 0.0
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    if t > -1:
        return density * _excess(t, mu)
    # Here mu > 2 and the difference is above 0.6: nothing cancels.
    return math.erfc(t / math.sqrt(2)) / 2 - density * _excess(t + mu, math.inf)


def _excess(t: float, mu: float) -> float:
    """The integral in `_delta`, for t > -1; with mu infinite, Mills' ratio. All terms are positive: nothing cancels."""
    scale = 1 / (1 + max(t, 0.0))
    exp, expm1 = math.exp, math.expm1
    return math.fsum([w * scale * exp(-(u := s * scale) * (t + u / 2)) * -expm1(-mu * u) for s, w in _NODES])


def round_up(exact: Fraction) -> float:
    """The smallest float that is not below a fraction."""
    try:
        near = float(exact)
    except OverflowError:
        return math.inf
    return near if near >= exact else math.nextafter(near, math.inf)


def total_mu2(charges: Iterable[float | Fraction]) -> float:
    """The sum of charges: added exactly, then rounded up to the next float if it isn't one."""
    try:
        return round_up(sum((Fraction(charge) for charge in charges), Fraction(0)))
    except (OverflowError, ValueError, TypeError):
        raise InputError("`charges` must be finite numbers, got one that is none") from None


def _root(exact: Fraction) -> float:
    """The square root of a fraction, rounded down."""
    root = math.sqrt(min(exact, Fraction(2**1023)))
    while Fraction(root) ** 2 > exact:
        root = math.nextafter(root, 0.0)
    return root


def _real(name: str, value: float, *, above: float = 0.0, below: float = math.inf, zero: bool = False) -> float:
    """The value as a float, if it is a number strictly between the bounds, or 0 where that is allowed."""
    if isinstance(value, bool) or not isinstance(value, Real) or not (above < value < below or (zero and value == 0)):
        bracket = "[" if zero else "("
        raise InputError(f"`{name}` must be a number in {bracket}{above:g}, {below:g}), got {value!r}")
    return float(value)


def _sampling(inclusion: float, steps: int) -> tuple[float, int]:
    """Both as they are counted, if they can be: a step that was cut to a whole number would be charged too little."""
    found = _real("inclusion", inclusion)
    if not LEAST_INCLUSION <= found <= 1:
        raise InputError(f"`inclusion` must be in [{LEAST_INCLUSION:g}, 1], got {inclusion!r}")
    if _whole("steps", steps, 1) > MAX_STEPS:
        raise InputError(f"`steps` must be from 1 to {MAX_STEPS}, got {steps!r}")
    return found, int(steps)


def _whole(name: str, value: int, least: int) -> int:
    """The value as an int, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    return int(value)


@lru_cache(maxsize=256)
def _sampled(mu2: float, q: float, steps: int) -> float:
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
