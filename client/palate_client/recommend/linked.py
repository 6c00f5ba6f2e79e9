"""Linked: the links of a model on a device, for one user's scores, their reasons, and what is alike.

    history, amounts -> what links add to the items that they reach -> with the products of vectors, the score

Links reach few items, and a user's links fewer: only those are touched. What is added has the same bits as in
`palate_common.algorithms.parts.links.Links.scores`, since it is summed in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Ints

Vector = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Triples = tuple[Places, Places, Vector]
"""Place of an item, place of another, and what the first says about the second."""


class Linked:
    """The links of a model by source, over the items that any of them reaches.

    Args:
        links: source -> links.
        n_items: size of the catalogue.

    Attributes:
        reached: int32, rows of the items that some item has a link to, rising.
    """

    def __init__(self, links: Mapping[str, Links], n_items: int) -> None:
        self._links = dict(links)
        found = np.zeros(n_items, np.bool_)
        for each in self._links.values():
            found[each.to] = True
        self.reached = np.flatnonzero(found).astype(np.int32)
        column = np.cumsum(found, dtype=np.int32) - 1
        whole = len(self.reached) == n_items  # then an item's column is its row
        self._columns = {source: each.to if whole else column[each.to] for source, each in self._links.items()}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources; none where no link reaches an item."""
        return tuple(self._links) if len(self.reached) else ()

    def sums(self, source: str, items: Ints, amounts: Vector) -> Vector:
        """What a source's links add to the items that are `reached`, float64 [len(reached)].

        Args:
            source: one of `sources`.
            items: rows of the user's items.
            amounts: how much the links of each count.
        """
        known, places = self._links[source].of(items)
        if not len(places):
            return np.zeros(len(self.reached))
        added = self._links[source].adds(places, amounts[known])
        cells = self._columns[source][places].ravel()
        return np.bincount(cells, added.ravel(), minlength=len(self.reached)).astype(np.float64, copy=False)

    def at(self, sums: Vector, rows: Ints) -> Vector:
        """The sums of some rows of the catalogue; 0 where no link reaches."""
        columns = self._columns_of(rows)
        return np.where(columns >= 0, sums[columns], 0.0)

    def between(self, source: str, items: Ints, rows: Ints) -> Triples:
        """What some items' links say about some rows, of which each is given once."""
        known, places = self._links[source].of(items)
        columns, mark = self._columns_of(rows), np.full(len(self.reached), -1, np.int32)
        mark[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
        links = self._columns[source][places].ravel()
        hits = np.flatnonzero((mark >= 0).take(links))  # a byte a link, and then few
        event, link = np.divmod(hits, max(self._columns[source].shape[1], 1))
        said = self._links[source].values_at(places[event], link)
        return np.flatnonzero(known)[event], mark[links[hits]].astype(np.int64), said

    def around(self, row: int) -> npt.NDArray[np.int32]:
        """Rows of the items that this one has a link to, or that have one to it, rising; without itself."""
        column = int(self._columns_of(np.array([row]))[0])
        found = [np.zeros(0, np.int32)]
        for source, links in self._links.items():
            found.append(links.to[links.of(np.array([row]))[1]].ravel())
            if column >= 0:
                width = max(links.to.shape[1], 1)
                found.append(links.items[np.flatnonzero(self._columns[source] == column) // width])
        rows = np.unique(np.concatenate(found))
        others: npt.NDArray[np.int32] = rows[rows != row]
        return others

    def scale(self, source: str, items: Ints) -> Vector:
        """The most that an item's links say about any other, float64 [len(items)]."""
        known, places = self._links[source].of(items)
        found = np.zeros(len(items))
        found[known] = self._links[source].scale[places]
        return found

    def _columns_of(self, rows: Ints) -> Places:
        """The column of each row in `reached`, -1 where there is none."""
        if not len(self.reached):
            return np.full(len(rows), -1)
        columns = np.minimum(np.searchsorted(self.reached, rows), len(self.reached) - 1)
        return np.where(self.reached[columns] == rows, columns, -1)


@dataclass(frozen=True)
class Bonds:
    """How much links bring items together that vectors would not, from -1 to 1; pairs without links have 0.

    Attributes:
        ends: int64 [n + 1]; the pairs of item i are `ends[i]:ends[i + 1]`.
        others: int64, the other item of each pair.
        strengths: float64.
    """

    ends: Places
    others: Places
    strengths: Vector

    @classmethod
    def of(cls, one: Places, other: Places, strengths: Vector, n: int) -> Bonds:
        """From what items say about others: a bond is the mean of both directions."""
        keys, at = np.unique(np.concatenate([one * n + other, other * n + one]), return_inverse=True)
        sums = np.bincount(at, np.concatenate([strengths, strengths]) / 2, minlength=len(keys))
        ends = np.searchsorted(keys, np.arange(n + 1) * n)
        return cls(ends, keys % n, np.clip(sums, -1.0, 1.0))

    def closer(self, cosines: Vector, place: int) -> Vector:
        """The similarities of all items to one of them: their cosines, and what bonds add."""
        part = slice(self.ends[place], self.ends[place + 1])
        likeness, others = cosines.copy(), self.others[part]
        likeness[others] = closer(cosines[others], self.strengths[part])
        return likeness


def closer(cosines: Vector, strengths: Vector) -> Vector:
    """Cosines that bonds bring nearer to 1, or where a bond is negative to -1, by that share of the way."""
    return cosines + strengths * (1 - np.sign(strengths) * cosines)
