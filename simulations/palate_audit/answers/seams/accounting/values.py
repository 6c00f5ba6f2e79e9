"""Values: numbers of every size, and values of every kind, most of which are refused."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from palate_audit.answers.dice import Dice

ODD: tuple[Any, ...] = (None, True, "1", math.nan, math.inf, -math.inf, -1, 0, 0.5, 63, np.int64(100), np.float32(0.25),
                        Fraction(1, 3), 1e4, 1.0, 1, 1e-101, 1e150, 64.0, 65)  # fmt: skip
"""Values of every kind, most of which are refused."""


def any_size(dice: Dice, low: int, high: int) -> float:
    """A number from 2^low to 2^(high + 1), any size alike."""
    return float(np.ldexp(dice.real(1.0, 2.0), dice.whole(low, high)))


def maybe_odd(dice: Dice, usual: Any, share: float = 0.1) -> Any:
    """A usual value, or now and then an odd one."""
    return dice.one_of(ODD) if dice.chance(share) else usual
