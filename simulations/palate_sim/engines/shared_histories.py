"""Shared histories: how the histories of a run reach its worker processes without a copy in each.

Where they lie in a folder already, each worker maps its files. Otherwise they are written once to a file without a
name: the operating system removes it with the last process that has it open, however the run ends.

    with SharedHistories(histories, folder=None, scratch=run_folder) as shared:
        Popen(..., pass_fds=shared.descriptors)  # there: shared.place.open()
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, map_interactions
from palate_common.records.closing import Closing
from palate_core.errors import InputError, PalateError

ENTRIES_AT_ONCE = 2**22
"""Entries that are copied to the file at once: 16 MB."""
_TYPES: dict[str, npt.DTypeLike] = {"indptr": np.int64, "indices": np.int32, "weights": np.float32}


@dataclass(frozen=True)
class Place:
    """Where histories lie; it travels to a worker.

    Attributes:
        folder: as `map_interactions` maps it; empty: `descriptor`.
        descriptor: an open file that the worker inherits: `indptr`, `indices` and `weights`, one after the other.
        n_users: number of users.
        n_items: number of items.
        nnz: number of interactions.
        one_weight: whether `weights` is one number for all.
    """

    folder: str
    descriptor: int
    n_users: int
    n_items: int
    nnz: int
    one_weight: bool

    def open(self) -> Interactions:
        """The histories, mapped into memory.

        Raises:
            InputError: the folder holds none, or others.
        """
        if self.folder:
            found = map_interactions(Path(self.folder))
            if (found.n_users, found.n_items, found.nnz) != (self.n_users, self.n_items, self.nnz):
                raise InputError(f"`histories` must be a folder of the run's own histories, got others: {self.folder}")
            return found
        if self.descriptor < 0:
            raise InputError("`histories` must lie in a folder that this machine sees, got none")
        arrays, offset = dict[str, npt.NDArray[Any]](), 0
        lengths = {"indptr": self.n_users + 1, "indices": self.nnz, "weights": 1 if self.one_weight else self.nnz}
        with os.fdopen(self.descriptor, "rb") as file:
            for name, length in lengths.items():
                kind = np.dtype(_TYPES[name])
                mapped = np.memmap(file, kind, "r", offset, (length,)) if length else np.zeros(0, kind)
                arrays[name] = np.asarray(mapped)
                offset += length * kind.itemsize
        weights = np.broadcast_to(arrays["weights"][0], (self.nnz,)) if self.one_weight else arrays["weights"]
        return Interactions(arrays["indptr"], arrays["indices"], weights, self.n_items)


class SharedHistories(Closing):
    """Histories that other processes can open.

    Args:
        histories: one row a user.
        folder: where they lie already; None: they are written to a file without a name.
        scratch: the folder on whose disk that file lies.

    Raises:
        InputError: the folder holds other histories.
        PalateError: the disk is full.
    """

    def __init__(self, histories: Interactions, *, folder: Path | None, scratch: Path) -> None:
        h = histories
        self._file: IO[bytes] | None = None
        one_weight = bool(h.nnz) and h.weights.strides == (0,)
        place = Place("", -1, n_users=h.n_users, n_items=h.n_items, nnz=h.nnz, one_weight=one_weight)
        if folder is not None:
            self.place = replace(place, folder=str(folder.resolve()))
            self.place.open()
            return
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by `close`; mode 0600; it never has a name that others could open
        try:
            for part in _parts(h, one_weight=one_weight):
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            with suppress(OSError):  # what it still holds fits no better now
                self._file.close()
            raise PalateError(
                f"the histories need room for {_size(h, one_weight=one_weight):,} bytes in {scratch} while the run "
                f"lasts, got {error.strerror}: nothing more is charged; go on with `--resume`"
            ) from None
        except BaseException:
            self._file.close()
            raise
        self.place = replace(place, descriptor=self._file.fileno())

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files that a worker must inherit."""
        return () if self._file is None else (self._file.fileno(),)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._file is not None:
            self._file.close()


def _parts(histories: Interactions, *, one_weight: bool) -> Iterator[memoryview]:
    """The arrays' bytes, in pieces."""
    weights = histories.weights[:1] if one_weight else histories.weights
    arrays: dict[str, npt.NDArray[Any]] = {"indptr": histories.indptr, "indices": histories.indices, "weights": weights}
    for name, array in arrays.items():
        for first in range(0, len(array), ENTRIES_AT_ONCE):
            yield np.ascontiguousarray(array[first : first + ENTRIES_AT_ONCE], _TYPES[name]).data.cast("B")


def _size(histories: Interactions, *, one_weight: bool) -> int:
    """How many bytes that is."""
    return sum(part.nbytes for part in _parts(histories, one_weight=one_weight))
