"""Blocks: work on many users in parts, on all cores, with the same result on any number of them.

numpy's products and sorts release the interpreter's lock, so threads are enough. Each thread gets one thread of BLAS: a
product that BLAS divides among threads may differ in its last bits.

    >>> list(over_blocks(lambda rows: int(rows.sum()), np.arange(10), 4, threads=2))
    [6, 22, 17]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_sim.cores import one_blas_thread, usable_cores

MOST_THREADS = 16
"""Threads at most: each holds a few arrays of a block's scores."""

Found = TypeVar("Found")


def cores() -> int:
    """Cores that this process may use, `MOST_THREADS` at most."""
    return min(usable_cores(), MOST_THREADS)


def over_blocks(
    work: Callable[[npt.NDArray[np.int64]], Found],
    rows: npt.NDArray[np.int64],
    size: int,
    *,
    threads: int,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Found]:
    """What `work` finds in each block of rows, in their order.

    Args:
        work: called with the rows of one block; from several threads at once where there are several.
        rows: int64 [n].
        size: rows in a block.
        threads: how many blocks are worked on at once.
        advance: called with the number of rows after each block.
    """
    blocks = [rows[first : first + size] for first in range(0, len(rows), size)]
    with one_blas_thread():
        if threads < 2 or len(blocks) < 2:
            for block in blocks:
                yield work(block)
                if advance is not None:
                    advance(len(block))
            return
        pool = ThreadPoolExecutor(min(threads, len(blocks)), "palate-block")
        try:
            for block, found in zip(blocks, pool.map(work, blocks), strict=True):
                yield found
                if advance is not None:
                    advance(len(block))
        finally:
            pool.shutdown(cancel_futures=True)


def users_of(batch: Interactions, rows: npt.NDArray[np.int64]) -> Interactions:
    """The batch of rising rows; a view where they follow each other."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return batch.users(slice(int(rows[0]), int(rows[-1]) + 1))
    return batch.users(rows)
