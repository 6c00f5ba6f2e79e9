"""Accounting: what noise of a given size costs, and what many charges cost together, in closed form.

Privacy unit: one installation. Adjacency: zero-out, i.e. one installation's events are emptied; it still takes part and
sends zero. Every figure here is for that unit and that adjacency, at full participation: without amplification by
sampling. The plan chooses sigma by it, the device and the server charge mu^2 by it, and the privacy card prints it.

    >>> mu = mu_of(epsilon=5.0, delta=1e-5)
    >>> sigma = sigma_for(mu_r=split_budget(mu=mu, shares=(1, 4))[1], sensitivity=2**14)
    >>> epsilon_spent(total_mu2([charged_mu2(sensitivity=2**14, sigma=sigma)]), delta=1e-5) < 5.0
    True

mu is the parameter of Gaussian differential privacy (Dong, Roth and Su 2022): releases compose as the sum of mu^2, and
the noise multiplier of one release is 1/mu. Every bound is rounded to the safe side: charges, eps and sigma up, budgets
down. Every function raises `InputError` for a value that is out of its range, not finite or not a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real

from palate_core.errors import InputError
from palate_core.noise.discrete_gaussian import MAX_SIGMA

ACCOUNTANT = "palate closed form"
ACCOUNTANT_VERSION = "1"
CENTRAL_SIGMA_FLOOR = 64
"""Smallest sigma, in grid steps, that a central release may have."""

MAX_MU = 1e4
# Beyond these a square is out of a float's range.
LEAST, MOST = 1e-100, 1e150
# Bound of the relative error of `_delta`, which is usually far smaller; eps is rounded up by it.
_DELTA_MARGIN = 1.0 + 1e-10
# Trapezoid rule of step 1/16 in x, where s = e^(x - e^(-x)): exponentially accurate for decays from 0 to infinity.
_NODES = tuple(
    (math.exp(x - math.exp(-x)), math.exp(x - math.exp(-x)) * (1 + math.exp(-x)) / 16)
    for x in (k / 16 for k in range(-60, 73))
)


def charged_mu2(*, sensitivity: float, sigma: int) -> float:
    """mu^2 of one discrete Gaussian release: sensitivity^2 / (sigma^2 - 4), both in grid steps, rounded up.

    **Guarantees:** discrete as continuous: with `discrete_slack` it covers the discrete Gaussian in any dimension.
    **Guarantees:** charge rounded up: never below the exact quotient.
    **Assumes:** integer noise: the noise is N_Z(0, sigma^2) on the grid in which the sensitivity is counted.
    **Assumes:** central floor: sigma is a whole number of at least 64 steps; less is refused.
    """
    variance = whole_number("sigma", sigma, CENTRAL_SIGMA_FLOOR) ** 2 - 4
    return round_up(Fraction(real_number("sensitivity", sensitivity, above=LEAST, below=MOST)) ** 2 / variance)


def discrete_slack(*, releases: int, dimension: int) -> float:
    """What discrete noise adds to eps: 4e-34 for every release and each of its `dimension` coordinates, rounded up."""
    return round_up(
        Fraction(4 * whole_number("releases", releases, 0) * whole_number("dimension", dimension, 0), 10**34)
    )


def delta_of(*, epsilon: float, mu: float) -> float:
    """The smallest delta for which mu-GDP implies (eps, delta): Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

    Balle and Wang (2018), theorem 8. eps = 0 is allowed and gives the total variation distance; mu in [0, 10^4).
    """
    return _delta(real_number("epsilon", epsilon, zero=True), real_number("mu", mu, below=MAX_MU, zero=True))


def epsilon_of(*, mu: float, delta: float) -> float:
    """The smallest eps for which mu-GDP implies (eps, delta), rounded up; mu in [0, 10^4), mu = 0 gives 0.

    **Guarantees:** epsilon rounded up: `delta_of` at the returned eps is at most delta.
    **Guarantees:** epsilon monotone: a mu larger by a part in 10^9 never gives a smaller eps.
    """
    return _epsilon(real_number("mu", mu, below=MAX_MU, zero=True), check_delta(delta))


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
    low, high = 0.0, MAX_MU
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
    budget = Fraction(real_number("mu", mu, below=MAX_MU)) ** 2
    parts = [Fraction(real_number("shares", share, below=MOST)) for share in shares]
    if not parts:
        raise InputError("`shares` must have at least one entry, got none")
    whole = sum(parts)
    return tuple(root_down(budget * part / whole) for part in parts)


def sigma_for(*, mu_r: float, sensitivity: float) -> int:
    """The smallest sigma, in whole grid steps from `CENTRAL_SIGMA_FLOOR` on, whose charge is at most mu_r^2.

    **Guarantees:** sigma enough: `charged_mu2` at the returned sigma is at most mu_r^2, compared exactly.
    """
    budget = Fraction(real_number("mu_r", mu_r, below=MAX_MU)) ** 2
    variance = 4 + Fraction(real_number("sensitivity", sensitivity, above=LEAST, below=MOST)) ** 2 / budget
    sigma = max(CENTRAL_SIGMA_FLOOR, math.isqrt(math.ceil(variance) - 1) + 1)
    if sigma > MAX_SIGMA:
        raise InputError(f"`sigma` must be at most {MAX_SIGMA} steps, got {sigma}; use a coarser grid or more budget")
    # The charge is rounded up, which can ask for one step more.
    while charged_mu2(sensitivity=sensitivity, sigma=sigma) > budget:
        sigma += 1
    return sigma


def default_delta(*, n_users: int) -> float:
    """min(1e-5, 1 / (10 N)) for the public number of users N."""
    return min(1e-5, 1 / (10 * whole_number("n_users", n_users, 1)))


def check_epsilon(epsilon: float) -> float:
    """The epsilon, if it can be a budget: positive and finite."""
    return real_number("epsilon", epsilon)


def check_delta(delta: float) -> float:
    """The delta, if it lies strictly between 0 and 1."""
    return real_number("delta", delta, below=1.0)


def epsilon_spent(mu2: float, *, delta: float) -> float:
    """The eps of a sum of mu^2, rounded up, its root included."""
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


def root_down(exact: Fraction) -> float:
    """The square root of a fraction, rounded down."""
    root = math.sqrt(min(exact, Fraction(2**1023)))
    while Fraction(root) ** 2 > exact:
        root = math.nextafter(root, 0.0)
    return root


def real_number(name: str, value: float, *, above: float = 0.0, below: float = math.inf, zero: bool = False) -> float:
    """The value as a float, if it is a number strictly between the bounds, or 0 where that is allowed."""
    if isinstance(value, bool) or not isinstance(value, Real) or not (above < value < below or (zero and value == 0)):
        bracket = "[" if zero else "("
        raise InputError(f"`{name}` must be a number in {bracket}{above:g}, {below:g}), got {value!r}")
    return float(value)


def whole_number(name: str, value: int, least: int) -> int:
    """The value as an int, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    return int(value)
