"""Chance: with which probability a check of principle fails on right code; all of them together in a part of 1e-6.

A check that is named here compares random numbers. Its bound follows from constants of its own, and a test works it out
again. Whatever isn't here, and has no p-value, compares what is the same in every run: made cases, seeded noise,
bytes, or whole numbers that follow from recorded words.
"""

from __future__ import annotations

from collections.abc import Mapping

UNLIKELY = 1e-9
"""Below this p-value a vector is not uniform: the chi-square law is right up to a factor of 4 this far out."""
TIES = 2e-8
"""Most that whole numbers may differ by chance, between two ways to round numbers that follow from released noise."""
BY_CHANCE: Mapping[str, float] = {
    "masked vectors": 2e-8,  # a uniform one that looks as if it weren't, in any of five, by the chi-square law
    "equal coordinates": 1e-12,  # four of 4,096 of 24 bits
    "equal stretches": 1e-12,  # of masks of a long vector
    "equal words": 1e-9,  # two of 64 bits among those of a source, or of thousands of them
    "coins": 1e-10,  # two equal draws of 40, or fewer than 96 or more than 224 heads in 320
    "ties": TIES,  # a number so near a whole one that two ways of rounding differ
    "ties of events": TIES / 2,  # the same, in steps of single events
}
"""What may be wrong by chance -> its probability in one run of the battery, at most."""
