"""Chance: the probability that a correct mechanism raises any alarm in a part of an audit, divided in one place.

    ALPHA = COUNTED, shared by all tests that have a p-value, by Holm's rule  +  the sum of BY_CHANCE

A test of `BY_CHANCE` compares, and yet depends on random numbers. Its bound follows from constants of its own, and is
worked out again by a test of this audit. Whatever is in neither compares what is the same in every audit: made cases,
seeded noise, bytes, or whole numbers that follow from recorded words.

    >>> COUNTED + sum(each.most for each in BY_CHANCE.values()) <= ALPHA
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALPHA = 1e-6
"""Family-wise error of one part of an audit: the chance that a correct mechanism raises any alarm."""


@dataclass(frozen=True)
class Chance:
    """A comparison of random numbers.

    Attributes:
        letter: of its test.
        what: could be wrong by chance, in words.
        most: the probability of that in one audit, at most.
    """

    letter: str
    what: str
    most: float


UNLIKELY = 1e-9
"""Below this p-value a vector is not uniform: the chi-square law is right up to a factor of 4 this far out."""
TIES = 2e-8
"""Most that whole numbers may differ by chance, between two ways to round numbers that follow from released noise."""
BY_CHANCE: Mapping[str, Chance] = {
    "masked vectors": Chance(
        "S", "a uniform masked vector that looks as if it weren't, in any of five, by the chi-square law", 2e-8
    ),
    "equal coordinates": Chance("S", "four of 4,096 coordinates of 24 bits that are equal by chance", 1e-12),
    "equal stretches": Chance("S", "a stretch of masks of a long vector that occurs twice by chance", 1e-12),
    "equal words": Chance("K", "two equal words of 64 bits among those of a source, or of thousands of them", 1e-9),
    "coins": Chance("K", "two equal draws of 40 coins, or fewer than 96 or more than 224 heads in 320", 1e-10),
    "fresh releases": Chance("K", "two equal releases of a thousand, of 80 numbers each", 1e-100),
    "ties": Chance("P", "a number so near a whole one that two ways of rounding differ", TIES),
    "ties of events": Chance("W", "the same, in steps of single events", TIES / 2),
}
"""What compares random numbers, by name."""
RESERVED = 0.06e-6
"""The share of `ALPHA` for all of that: more than they need, so that one may be added."""
COUNTED = ALPHA - RESERVED
"""The share for all tests that have a p-value, by Holm's rule."""
