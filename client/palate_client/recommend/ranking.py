"""Ranking: exact maximum inner product search over a catalogue without computing all products, in numpy.

Items are sorted by descending length, in blocks. No item of a block can score more than the sum over the parts of

    |part of the user's vector| * the longest such part in the block          (Cauchy and Schwarz)

so blocks are searched in order of descending bound: one, then eight, then 64 at a time. Before each step the blocks are
dropped whose bound is below the n-th best score found so far: they can't contain a better item, so the result is exact.
Adjacent blocks are one product. If all items have the same length, no block is dropped; the search then takes a few
products over the whole table, and costs the same as a plain one.

    >>> table = np.array([[3, 0], [0, 2], [1, 1]], np.float32)
    >>> Ranking(table, {"popularity": slice(0, 1), "collaborative": slice(1, 2)}).top(np.array([1.0, 2.0]), n=2)
    array([1, 0])

Source: Teflioudi and Gemulla, Exact and Approximate Maximum Inner Product Search with LEMP (TODS 2016), for the order
by length and the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Ints

BLOCK = 2048
"""Items in a block."""
GROWTH, MOST = 8, 64
"""Factor by which the number of blocks grows with each step, and the most blocks of a step."""
FEW = 256
"""The most items of a group whose highest score represents it."""
SCATTERED = 4
"""Rows here and there cost so many times as much as rows one after the other: above that share, all are multiplied."""
LOWEST = np.finfo(np.float32).min


class Ranking:
    """A table of item vectors, prepared for searching.

    Args:
        table: item vectors, float32 [n_items, k].
        parts: name -> columns; together all columns, in order.
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
        self._compared: tuple[Floats, npt.NDArray[np.float32]] | None = None
        longest = np.maximum.reduceat(lengths[order], np.arange(0, self.n_items, BLOCK), axis=0)
        # Increased by the rounding error of a product of k numbers: Higham, Accuracy and Stability (2002), eq. 3.5.
        self._longest = longest.astype(np.float64) * (1 + (table.shape[1] + 2) * np.finfo(np.float32).eps)

    def top(
        self,
        vector: Floats,
        *,
        n: int,
        without: Ints | None = None,
        among: Ints | None = None,
        added: tuple[Ints, npt.NDArray[np.float64]] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Rows of the n items with the highest scores, best first; of equals the lower row first.

        Products are in single precision. With `added`, a margin for their rounding is kept, and those that reach it are
        ordered in double precision.

        Args:
            vector: the user's vector, float [k].
            n: the most rows to return.
            without: rows to leave out.
            among: the only rows to consider; None: all.
            added: rows, each once, and what is added to the product of each: they are all scored, and not searched.
        """
        single = vector.astype(np.float32)
        bounds = self._longest @ [math.sqrt(vector[columns] @ vector[columns]) for columns in self.parts.values()]
        hidden = (np.zeros if among is None else np.ones)(self.n_items, bool)  # zeros cost nothing until one is set
        for rows, is_hidden in ((among, False), (without, True)):
            if rows is not None:
                hidden[self._places[rows]] = is_hidden
        best, places = np.zeros(0, np.float32), np.zeros(0, np.int64)
        least, blocks, step, unsure = LOWEST, np.argsort(-bounds, kind="stable"), 1, 0.0
        if added is not None:
            best, places = self._with(single, *added, hidden)
            highest = bounds.max(initial=0.0) + np.abs(added[1]).max(initial=0.0)
            unsure = 2 * (len(vector) + 8) * float(np.finfo(np.float32).eps) * highest
            best, places, least = _cut(best, places, n, unsure)
        while len(blocks):
            for first, end in _stretches(blocks[:step].tolist(), self.n_items):
                scores = self._table[first:end] @ single
                high = (scores >= least).nonzero()[0]
                high = high[~hidden[first:end][high]]
                best, places = np.concatenate([best, scores[high]]), np.concatenate([places, high + first])
                best, places, least = _cut(best, places, n, unsure)
            blocks, step = blocks[step:], min(step * GROWTH, MOST)
            blocks = blocks[bounds[blocks] >= least]
        found = self._rows[places]
        if added is None:
            return found[np.lexsort((found, -best))][:n].astype(np.int64)
        exact, more = self.scores(vector, found), np.zeros(self.n_items)
        more[added[0]] = added[1]
        return found[np.lexsort((found, -(exact + more[found])))][:n].astype(np.int64)

    def alike(
        self,
        row: int,
        columns: npt.NDArray[np.float64],
        *,
        n: int,
        among: Ints | None = None,
        without: Ints | None = None,
    ) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Rows of the n items most similar to one, best first, of equals the lower row first; and their cosines.

        A product in single precision finds the candidates; their exact order is computed in double precision.

        Args:
            row: the item, which is not returned itself.
            columns: float64 [k]; factor on each column of the vectors before they are compared.
            n: the most rows to return.
            among: the only rows to consider; None: all.
            without: rows to leave out.
        """
        if self._compared is None or not np.array_equal(self._compared[0], columns):
            squares = (columns**2).astype(np.float32)
            lengths = np.concatenate([part**2 @ squares for part in np.array_split(self._table, len(self._longest))])
            self._compared = columns, np.divide(1.0, np.sqrt(lengths), np.zeros_like(lengths), where=lengths > 0)
        own = self.vectors(np.array([row]))[0] * columns
        length = math.sqrt(own @ own)
        if not length:  # its cosine with every item is 0
            rows = np.arange(self.n_items) if among is None else among
            rows = rows[rows != row] if without is None else np.setdiff1d(rows, np.append(without, row))
            return rows[:n], np.zeros(len(rows[:n]))
        cosines = (self._table @ (own * columns / length).astype(np.float32)) * self._compared[1]
        if without is not None:
            cosines[self._places[without]] = -np.inf
        near = cosines if among is None else cosines[self._places[among]]
        # The largest rounding error of the two products: see `_longest`.
        unsure = 2 * (len(columns) + 8) * np.finfo(np.float32).eps
        high = np.flatnonzero(near >= _lower_bound(near, n + 1) - unsure)
        found = np.sort(self._rows[high]) if among is None else among[high]
        found = found[found != row] if without is None else np.setdiff1d(found, np.append(without, row))
        vectors = self.vectors(found) * columns
        exact = vectors @ own / np.maximum(np.linalg.norm(vectors, axis=1) * length, 1e-30)
        order = np.argsort(-exact, kind="stable")[:n]
        return found[order].astype(np.int64), exact[order]

    def scores(self, vector: Floats, rows: Ints) -> npt.NDArray[np.float64]:
        """Scores of some items in double precision, float64 [len(rows)]."""
        scores: npt.NDArray[np.float64] = self.vectors(rows) @ vector.astype(np.float64)
        return scores

    def vectors(self, rows: Ints) -> npt.NDArray[np.float64]:
        """Vectors of some items, float64 [len(rows), k]."""
        return self._table[self._places[rows]].astype(np.float64)

    def _with(
        self, single: Floats, rows: Ints, more: npt.NDArray[np.float64], hidden: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Scores and places of the rows that aren't hidden, with what is added; then they are all hidden."""
        places = self._places[rows].astype(np.int64)
        shown = ~hidden[places]
        hidden[places] = True
        places, more = places[shown], more[shown]
        many = len(places) * SCATTERED > self.n_items
        products = (self._table @ single)[places] if many else self._table[places] @ single
        return (products + more).astype(np.float32), places

    def _split(self, vectors: Floats) -> list[Floats]:
        return [vectors[:, columns] for columns in self.parts.values()]


def _cut(
    best: npt.NDArray[np.float32], places: npt.NDArray[np.int64], n: int, unsure: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], np.float32]:
    """The n best scores and their places, and those within `unsure` of them; and the least that is of interest."""
    if len(best) < n:
        return best, places, LOWEST
    least = np.partition(best, -n)[-n] - np.float32(unsure)
    kept = best >= least
    return best[kept], places[kept], least


def _lower_bound(scores: npt.NDArray[np.float32], n: int) -> float:
    """A lower bound of the n-th highest score: the n-th highest of the maxima of small groups."""
    few = max(min(len(scores) // (4 * n), FEW), 1)
    highest = np.maximum.reduceat(scores, np.arange(0, len(scores), few)) if len(scores) else scores
    return float(np.partition(highest, -n)[-n]) if len(highest) >= n else -np.inf


def _stretches(blocks: list[int], n_items: int) -> Iterator[tuple[int, int]]:
    """The ranges [first, end) of these blocks' items; adjacent blocks are one range."""
    blocks.sort()
    first, end = 0, 0
    for block in blocks:
        if block != end:
            if end:
                yield first * BLOCK, end * BLOCK
            first = block
        end = block + 1
    yield first * BLOCK, min(end * BLOCK, n_items)
