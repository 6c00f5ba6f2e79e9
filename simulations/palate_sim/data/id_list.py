"""IdList: many ids as a sequence of texts that need not be in memory.

A small log's ids are a tuple. Ten million of them as Python texts would take a gigabyte; here they are one Arrow array,
mapped from a file where it lies in one.

    >>> ids = IdList(pa.chunked_array([["ann", "bob", "cid"]], pa.large_string()))
    >>> len(ids), ids[1], list(ids[1:]), ids.take(np.array([2, 0]))[0]
    (3, 'bob', ['bob', 'cid'], 'cid')
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_common.interactions import Ints

AT_ONCE = 65_536  # ids made into Python texts at once


class IdList(Sequence[str]):
    """Ids in order.

    Args:
        array: of `large_string`, without nulls.
    """

    def __init__(self, array: pa.ChunkedArray) -> None:
        self.array = array

    def __len__(self) -> int:
        """How many there are."""
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> IdList: ...

    def __getitem__(self, place: int | slice) -> str | IdList:
        """One id, or those of a slice."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step == 1:
                return IdList(self.array.slice(start, max(0, stop - start)))
            return self.take(np.fromiter(range(start, stop, step), np.int64))
        return str(self.array[int(place)].as_py())

    def __iter__(self) -> Iterator[str]:
        """Each id, some thousands made at once."""
        for first in range(0, len(self), AT_ONCE):
            yield from self.array.slice(first, AT_ONCE).to_pylist()

    def take(self, rows: Ints) -> IdList:
        """The ids in these rows, in their order."""
        return IdList(self.array.take(pa.array(rows)))

    def save(self, path: Path) -> None:
        """Write them to a file that `load` maps."""
        schema = pa.schema([("id", pa.large_string())])
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for chunk in self.array.chunks:
                writer.write_batch(pa.record_batch([chunk], schema=schema))

    @classmethod
    def load(cls, path: Path) -> IdList:
        """Map a file that `save` wrote.

        Raises:
            OSError: it is missing or cut short.
        """
        with pa.memory_map(str(path)) as source:
            return cls(pa.ipc.open_file(source).read_all().column("id"))


def in_order(ids: Sequence[str], rows: Ints) -> Sequence[str]:
    """The ids in these rows, in the form that `ids` has."""
    return ids.take(rows) if isinstance(ids, IdList) else tuple(ids[row] for row in rows)
