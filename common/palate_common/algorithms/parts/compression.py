"""Compression: sizes with which a device sends fewer numbers, derived from public facts alone.

A device sends counts of all items in round 0, then a table of `rows` x `width` in each later round. For 1/c of that, it
sends

- counts as a sketch (`palate_common.algorithms.parts.sketch`) where they would take more than half of the numbers,
- a table of fewer rows, those of the most popular items, and fewer columns, in fewer rounds.

    >>> plain = Sizes(counts=1_000_000, rounds=4, rows=4_500, width=96)
    >>> small = plain.compress(8, fewest=2)
    >>> small, round(plain.numbers / small.numbers, 2)
    (Sizes(counts=170500, rounds=2, rows=1469, width=58, beside=0), 8.0)

The table is not sketched: it is dense and noisy, so rows that share a bucket could not be separated again, while rows
that are left out are those that noise would hide anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate_core.errors import InputError

SHAPE = 25.0
"""Rows for each column of a compressed table: about the best for compression 8 to 32, with noise and without."""
LEAST = 16
"""Fewest numbers of a table: with fewer, nothing is learned."""


@dataclass(frozen=True)
class Sizes:
    """How many numbers a device sends over a run.

    Attributes:
        counts: numbers in round 0.
        rounds: rounds after round 0.
        rows: rows of the table that each of these sends.
        width: columns of the table.
        beside: numbers beside the table in each later round.
    """

    counts: int
    rounds: int
    rows: int
    width: int
    beside: int = 0

    @property
    def numbers(self) -> int:
        """The total."""
        return self.counts + self.rounds * (self.rows * self.width + self.beside)

    def compress(self, factor: float, *, fewest: int) -> Sizes:
        """Sizes with at most 1/`factor` of the numbers; the same sizes for 1.

        Args:
            factor: at least 1.
            fewest: rounds after round 0 that are enough for the algorithm; more are dropped.

        Raises:
            InputError: too few numbers are left to learn from.
        """
        if factor <= 1:
            return self
        budget, rounds = int(self.numbers / factor), min(self.rounds, fewest)
        if not rounds:
            return Sizes(max(budget, 1), 0, self.rows, self.width)
        counts = min(self.counts, budget // 2)
        each = (budget - counts) // rounds - self.beside
        if not counts or each < min(LEAST, self.rows * self.width):
            left = max(each, 0) if counts else 0
            raise InputError(f"`compression` must leave a round {LEAST} numbers or more, got {factor:g}: {left}")
        width = int(np.clip(np.sqrt(each / SHAPE), 1, self.width))
        rows = min(each // width, self.rows)
        return Sizes(counts, rounds, rows, min(each // rows, self.width), self.beside)
