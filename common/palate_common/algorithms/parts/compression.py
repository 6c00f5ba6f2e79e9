"""Compression: how an algorithm spends fewer numbers a device, from public facts alone.

An algorithm that learns a table sends counts of all items, then some rounds of a table of `rows` x `width`. Asked for
1/c of that, it sends

- counts as a sketch (`palate_common.algorithms.parts.sketch`) where they would take more than half of what is left,
- a table of fewer rows, those of the most popular items, and fewer columns, in few rounds.

    >>> plain = Sizes(counts=1_000_000, rounds=4, rows=4_500, width=96)
    >>> small = plain.compressed(8, fewest=2)
    >>> small, round(plain.numbers / small.numbers, 2)
    (Sizes(counts=170500, rounds=2, rows=1469, width=58, beside=0), 8.0)

Why not the whole table in hashed rows: a table has rank `width`, and noise in every number. Rows that share a bucket
can't be told apart again by what else is known of them, while rows left out are those that noise would hide anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate_common.errors import InputError

SHAPE = 25.0
"""Rows for each column of a compressed table: about the best from 8 x to 32 x, with noise and without."""
LEAST = 16
"""A table of fewer numbers teaches nothing."""


@dataclass(frozen=True)
class Sizes:
    """Numbers that a device sends over a run.

    Attributes:
        counts: in round 0.
        rounds: later ones.
        rows: of the table, in each of them.
        width: of the table.
        beside: numbers beside the table in each later round.
    """

    counts: int
    rounds: int
    rows: int
    width: int
    beside: int = 0

    @property
    def numbers(self) -> int:
        """In all."""
        return self.counts + self.rounds * (self.rows * self.width + self.beside)

    def compressed(self, factor: float, *, fewest: int) -> Sizes:
        """Sizes that send 1/`factor` of the numbers at most; the same ones for 1.

        Args:
            factor: at least 1.
            fewest: later rounds that the algorithm makes do with.

        Raises:
            InputError: so few numbers teach nothing.
        """
        if factor <= 1:
            return self
        budget, rounds = int(self.numbers / factor), min(self.rounds, fewest)
        if not rounds:
            return Sizes(max(budget, 1), 0, self.rows, self.width)
        counts = min(self.counts, budget // 2)
        each = (budget - counts) // rounds - self.beside
        if each < min(LEAST, self.rows * self.width):
            raise InputError(
                f"`compression` must leave a round {LEAST} numbers or more, got {factor:g}: {max(each, 0)}"
            )
        width = int(np.clip(np.sqrt(each / SHAPE), 1, self.width))
        rows = min(each // width, self.rows)
        return Sizes(counts, rounds, rows, min(each // rows, self.width), self.beside)
