"""Histories: interactions written user by user, to arrays in memory or to files that every process maps.

A part of a split is one folder: `indptr.npy`, `indices.npy`, `weights.npy` (one number where all weights are the same)
and `n_items.npy`, which `map_interactions` maps.

    >>> writer = HistoryWriter(n_items=5)
    >>> writer.add(np.array([2, 0]), np.array([1, 4], np.int32), np.broadcast_to(np.float32(1), 2))
    >>> writer.finish().items_of(0).tolist()
    [1, 4]
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions, map_interactions, save_array
from palate_common.records.closing import Closing

_HEADER = 128  # bytes that numpy's header of a flat array takes


class HistoryWriter(Closing):
    """Takes users' interactions in order.

    Args:
        n_items: size of the catalogue.
        folder: where the files go; it is made. None: the arrays stay in memory.
    """

    def __init__(self, n_items: int, folder: Path | None = None) -> None:
        self._n_items, self._folder = n_items, folder
        self._counts: list[npt.NDArray[np.int64]] = []
        self._indices: list[npt.NDArray[np.int32]] = []
        self._weights: list[npt.NDArray[np.float32]] = []
        self._total, self._plain = 0, True
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        if folder is not None:
            folder.mkdir(parents=True)
            for name in ("indices", "weights"):
                self._files[name] = self._stack.enter_context((folder / f"{name}.npy").open("wb"))
                self._files[name].write(bytes(_HEADER))

    def add(
        self, counts: npt.NDArray[np.int64], indices: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
    ) -> None:
        """Add some users.

        Args:
            counts: int64 [n_users], how many items each has.
            indices: int32 [sum of counts], rising within a user.
            weights: float32 [sum of counts].

        Raises:
            OSError: the disk is full.
        """
        self._counts.append(counts.astype(np.int64))
        if self._plain and len(weights) and (weights.strides[0] or weights[0] != 1) and (weights != 1).any():
            self._plain = False
            self._put_weights(np.ones(self._total, np.float32))
        self._total += len(indices)
        if self._folder is None:
            self._indices.append(indices.astype(np.int32))
        else:
            self._files["indices"].write(np.ascontiguousarray(indices, np.int32).data)
        if not self._plain:
            self._put_weights(weights)

    def _put_weights(self, weights: npt.NDArray[np.float32]) -> None:
        if self._folder is None:
            self._weights.append(weights.astype(np.float32))
        else:
            self._files["weights"].write(np.ascontiguousarray(weights, np.float32).data)

    def finish(self) -> Interactions:
        """The interactions: arrays, or maps of the files, which are whole now.

        Raises:
            OSError: the disk is full.
        """
        indptr = np.concatenate(([0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *self._counts]))))
        if self._folder is None:
            indices = np.concatenate([np.zeros(0, np.int32), *self._indices])
            weights = np.concatenate([np.zeros(0, np.float32), *self._weights])
            return Interactions(
                indptr.astype(np.int64),
                indices,
                np.ones(len(indices), np.float32) if self._plain else weights,
                self._n_items,
            )
        _close_array(self._files["indices"], np.dtype(np.int32), self._total)
        if not self._plain:
            _close_array(self._files["weights"], np.dtype(np.float32), self._total)
        self.close()
        if self._plain:
            save_array(self._folder / "weights.npy", np.float32(1))
        save_array(self._folder / "indptr.npy", indptr.astype(np.int64))
        save_array(self._folder / "n_items.npy", np.int64(self._n_items))
        return map_interactions(self._folder)

    def close(self) -> None:
        """Close the files; what isn't finished is of no use."""
        self._stack.close()


def _close_array(file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
    """Write the header of a flat array into the room that was left for it."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
    if file.tell() != _HEADER:
        raise OSError(f"a header of {_HEADER} bytes must be written, got {file.tell()}")
