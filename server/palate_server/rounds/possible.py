"""Possible: whether a noised sum is one that clipped contributions and the known noise can make, before it is released.

    noised --> require_possible --> persist -> seal -> post-processing

Under masks nobody sees a vector, and a modified device may send any. Only the sum can be looked at. So a sum that n
contributions within the plan's bounds cannot make, whoever they are from, is never applied: the attempt is void. The
look is at the noised sum, in every mode: what it says is post-processing of what was charged, also where the exact sum
is known.

What is bounded, with n users, G grid steps a clip norm, and noise of standard deviation v on every coordinate:

- each coordinate: n times the largest that one contribution can have there, G, or less where the algorithm promises it
  (`palate_common.algorithms.base.Reach`); from below 0 where it promises that no number is negative;
- the dummies, which no contribution touches: 0;
- the norm of each block, of the dummies, and of all: n times that of one contribution; where no number is negative, the
  norm of those below 0: none, as they are no longer than the noise there.

Noise adds to each. A discrete Gaussian of parameter s is sub-Gaussian, E exp(tX) <= exp(t^2 s^2 / 2) (Canonne, Kamath
and Steinke 2020), so a sum of independent ones is sub-Gaussian with the root of the sum of squares: v. From that, with
Q the exact sum and N the noise:

- a coordinate of N is beyond v sqrt(2 x) with probability at most e^-x on either side (Chernoff);
- |N|^2 > v^2 (d + 2 sqrt(d x) + 2 x) with probability at most e^-x (Hsu, Kakade and Zhang 2012, theorem 2.1);
- <Q, N> > |Q| v sqrt(2 x) with probability at most e^-x, as N is independent of Q;
- and |Q + N|^2 = |Q|^2 + 2 <Q, N> + |N|^2.

x is chosen so that all of these events together have probability below 2^-40.

What remains: a device that keeps within these limits. |S| <= R for every sum S that passes, so the one that is released
and the one without that device are at most |S| + R apart, R being about n clip norms. No test of one sum can do much
better: two populations may differ by as much, and the sum of each must be possible. Where no number is negative, two
sums are closer: <S, S'> is at least -nu (|S| + |S'|), nu being the norm of noise alone, so that they are at most the
root of |S|^2 + R^2 + 2 nu (|S| + R) apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from palate_common.algorithms.base import Reach
from palate_common.mechanism.update import Int64
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES
from palate_core.plan import RoundPlan
from palate_server.rounds.noise import NoisyAggregate

FALSE_VOID = -40.0
"""Log2 of the probability with which an honest sum is called impossible, at most."""
ROUNDING = 1 + 2.0**-30
"""More than all rounding of these bounds and of the sums of squares that are compared with them."""


@dataclass(frozen=True)
class Limit:
    """What one part of a sum can be.

    Attributes:
        name: the block's, or what it is.
        first: its first coordinate.
        last: the one after its last.
        lowest: the least number of a coordinate, steps.
        highest: the largest.
        norm: the largest L2 norm, steps.
        below: the largest L2 norm of the numbers below 0 alone: noise, where contributions have none; else `norm`.
    """

    name: str
    first: int
    last: int
    lowest: float
    highest: float
    norm: float
    below: float

    def excess(self, total: Int64) -> str:
        """How a sum, int64 [released size], is beyond this limit, in words; empty if it isn't."""
        part = total[self.first : self.last]
        if part.max(initial=0) > self.highest or part.min(initial=0) < self.lowest:
            worst = max(int(part.max(initial=0)), -int(part.min(initial=0)))
            return f"a number of {worst} steps, where {self.lowest:.0f} to {self.highest:.0f} are possible"
        for what, numbers, most in (("", part, self.norm), (" below 0", np.minimum(part, 0), self.below)):
            norm = float(np.linalg.norm(numbers.astype(np.float64)))
            if norm > most:
                return f"a norm of {norm:.0f} steps{what}, where at most {most:.0f} is possible"
        return ""


def limits_of(plan: RoundPlan, *, users: int, sigma: float, reach: Callable[[str], Reach]) -> tuple[Limit, ...]:
    """The limits of a sum.

    Args:
        plan: of the attempt.
        users: contributions in it.
        sigma: standard deviation of its noise, in steps; 0 without noise.
        reach: what the algorithm promises of a block.

    Returns:
        One for each block, one for the dummies, one for all together.
    """
    sizes = [*(spec.size for spec in plan.layout), DUMMIES]
    size, tests = sum(sizes), len(sizes) + 1
    # Half of the probability for 2 tests of each coordinate, half for 3 events of each part's norms.
    single = sigma * math.sqrt(2 * (math.log(2 * size) + _surely()))
    doubt = math.log(3 * tests) + _surely()

    def norm(most: float, numbers: int) -> float:
        noise = sigma**2 * (numbers + 2 * math.sqrt(numbers * doubt) + 2 * doubt)
        return ROUNDING * math.sqrt(most**2 + 2 * most * sigma * math.sqrt(2 * doubt) + noise)

    found, first = list[Limit](), 0
    for spec in plan.layout:
        promised = reach(spec.name)
        share = min(1.0, spec.weight / plan.clip_norm) if promised.unit else 1.0
        most = users * min(plan.grid, math.floor(plan.grid * share * ROUNDING) + 1)
        highest = most + ROUNDING * single
        lowest = -ROUNDING * single if promised.positive else -highest
        whole = norm(most, spec.size)
        below = norm(0.0, spec.size) if promised.positive else whole
        found.append(Limit(spec.name, first, first + spec.size, lowest, highest, whole, below))
        first += spec.size
    nothing, single = norm(0.0, DUMMIES), ROUNDING * single
    found.append(Limit("dummies", first, size, -single, single, nothing, nothing))
    all_of_it, whole = users * plan.grid + single, norm(users * plan.grid, size)
    found.append(Limit("the whole", 0, size, -all_of_it, all_of_it, whole, whole))
    return tuple(found)


def require_possible(noisy: NoisyAggregate, reach: Callable[[str], Reach]) -> None:
    """Refuse a noised sum that no contributions within the plan's bounds can make.

    With single events as the unit nothing is looked at: a device with many events may send as much more.

    Args:
        noisy: the sum, with its noise.
        reach: what the algorithm promises of a block.

    **Guarantees:** an impossible sum is never applied: nothing of it is stored, sealed or learned from.
    **Guarantees:** an honest sum is called impossible with probability below 2^-40: whatever users did.
    **Assumes:** honest contributions are clipped, keep what the algorithm promises, and have noise of their own.

    Raises:
        IntegrityError: the sum is impossible; the attempt is void and stays charged.
    """
    if noisy.plan.events is not None:
        return
    for limit in limits_of(noisy.plan, users=noisy.users, sigma=noisy.sigma, reach=reach):
        if excess := limit.excess(noisy.steps):
            raise IntegrityError(
                f"an impossible sum: {limit.name} of {noisy.users} installations has {excess}: somebody sends what no "
                "device sends; nothing is released, and the attempt stays charged"
            )


def _surely() -> float:
    """Minus the natural logarithm of the probability that is left to each half: a quarter of all."""
    return -(FALSE_VOID - 2) * math.log(2)
