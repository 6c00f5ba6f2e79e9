"""Ranking: the exact top of a catalogue by product with a vector, without looking at all of it. In numpy.

Items are kept by falling length, in blocks. No item of a block can score more than the sum over the parts of

    |part of the user's vector| * the longest such part in the block          (Cauchy and Schwarz)

so blocks are looked at by falling bound, and the search ends at the first that can't reach the n-th best found. What
is left out is proven to be below: the result is exact. Where all items are equally long, nothing can be left out, and
it costs what a product costs.

    >>> table = np.array([[3, 0], [0, 2], [1, 1]], np.float32)
    >>> Ranking(table, {"popularity": slice(0, 1), "collaborative": slice(1, 2)}).top(np.array([1.0, 2.0]), n=2)
    array([1, 0])

Source: Teflioudi and Gemulla, Exact and Approximate Maximum Inner Product Search with LEMP (TODS 2016), for the order
by length and the bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Ints

FIRST_BLOCK, LARGEST_BLOCK = 2048, 32_768
"""Items in the first block, and in later ones, which double: each is a product that numpy makes at once."""
LOWEST = float(np.finfo(np.float32).min)
SLACK = 1.0 + 1e-5
"""Bounds are raised by what rounding in single precision could hide."""


class Ranking:
    """A table of item vectors, prepared for searching.

    Args:
        table: float32 [n_items, k].
        parts: name -> columns; together all of them, in order.
    """

    def __init__(self, table: npt.NDArray[np.float32], parts: Mapping[str, slice]) -> None:
        self.n_items = len(table)
        self.parts = dict(parts)
        lengths = np.stack([np.sqrt(np.einsum("ij,ij->i", part, part)) for part in self._split(table)], axis=1)
        usual = np.sqrt(np.mean(lengths.astype(np.float64) ** 2, axis=0))
        order = np.argsort(-(lengths @ (1 / np.maximum(usual, 1e-30))), kind="stable")
        self._rows = order.astype(np.int32)
        self._places = np.empty(self.n_items, np.int32)
        self._places[order] = np.arange(self.n_items, dtype=np.int32)
        self._table = table[order]
        starts = _block_starts(self.n_items)
        self._edges = [*starts, self.n_items]
        self._longest = np.maximum.reduceat(lengths[order], starts, axis=0).astype(np.float64)

    def top(self, vector: Floats, *, n: int, without: Ints | None = None) -> npt.NDArray[np.int64]:
        """Rows of the n best items, best first; of equals the lower row first.

        Args:
            vector: float [k].
            n: how many; fewer come back where there are fewer.
            without: rows that must not come back.
        """
        single = vector.astype(np.float32)
        sizes = np.array([np.linalg.norm(part) for part in self._split(vector[None])])
        bounds = self._longest @ sizes * SLACK
        hidden = np.zeros(0, np.int64) if without is None else np.sort(self._places[without])
        cuts = np.searchsorted(hidden, self._edges).tolist()
        best, rows = np.zeros(0, np.float32), np.zeros(0, np.int64)
        least = -np.inf
        for block in np.argsort(-bounds, kind="stable").tolist():
            if bounds[block] < least:
                break
            first, end = self._edges[block], self._edges[block + 1]
            scores = self._table[first:end] @ single
            scores[hidden[cuts[block] : cuts[block + 1]] - first] = -np.inf
            found = np.flatnonzero(scores >= max(least, LOWEST))
            if not len(found):
                continue
            best, rows = np.concatenate([best, scores[found]]), np.concatenate([rows, self._rows[first + found]])
            if len(best) >= n:
                least = float(np.partition(best, len(best) - n)[len(best) - n])
                kept = best >= least
                best, rows = best[kept], rows[kept]
        return rows[np.lexsort((rows, -best))][:n]

    def scores(self, vector: Floats, rows: Ints) -> npt.NDArray[np.float64]:
        """Scores of some items in double precision, float64 [len(rows)]."""
        scores: npt.NDArray[np.float64] = self.vectors(rows) @ vector.astype(np.float64)
        return scores

    def vectors(self, rows: Ints) -> npt.NDArray[np.float64]:
        """Vectors of some items, float64 [len(rows), k]."""
        return self._table[self._places[rows]].astype(np.float64)

    def _split(self, vectors: Floats) -> list[Floats]:
        """The parts of vectors [m, k]."""
        return [vectors[:, columns] for columns in self.parts.values()]


def _block_starts(n_items: int) -> list[int]:
    """Where blocks begin: a small first one, then each as large as all before it, to a limit."""
    starts, size = [0], FIRST_BLOCK
    while starts[-1] + size < n_items:
        starts.append(starts[-1] + size)
        size = min(starts[-1], LARGEST_BLOCK)
    return starts
