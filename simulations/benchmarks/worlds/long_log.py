"""Long log: a made log of any length with taste in it, written as it is made: for what a benchmark measures at scale.

Items lie in 64 clusters. Within a cluster they are as popular as a shifted Zipf law says, and so are the clusters. A
user likes four clusters, the first one most; one event in eight goes to anything, by popularity. Lengths of histories
are log-normal. Draws are with replacement: who draws an item again has used it again, as in logs of shops and of music.
Times rise within a history.

    PYTHONPATH=simulations python -m benchmarks.worlds.long_log 1000000 100000 100 million.parquet

The first number is of users, the second of items, the third the mean length of a history. Equal numbers and seeds give
equal rows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = write(Path(folder) / "log.parquet", users=200, items=640, mean=20)
    ...     pq.read_metadata(Path(folder) / "log.parquet").num_rows == rows
    True
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

CLUSTERS, LIKED = 64, 4
TASTE = (0.42, 0.22, 0.14, 0.09)
"""Shares of a user's events in the liked clusters; the rest goes to anything."""
ZIPF, SHIFT = 0.95, 3.0
"""An item's weight within its cluster: (rank + SHIFT) to the power of -ZIPF."""
SPREAD = 1.0
"""Standard deviation of the logarithm of a history's length."""
SHORTEST, LONGEST = 3, 5000
BEGIN, SPAN = 1_577_836_800, 3 * 365 * 86_400
"""2020, UTC, and three years."""
AT_ONCE = 10_000
"""Users in a row group."""
ANY_BITS = 12
SLOTS = 32
"""Places of an item of mean popularity in the table that items are drawn from."""

Ints = npt.NDArray[np.integer[Any]]


class World:
    """Items and their clusters, by seed.

    Args:
        items: how many; at least one a cluster.
        mean: length of a history.
        seed: of everything.
    """

    def __init__(self, *, items: int, mean: float, seed: int = 0) -> None:
        if items < CLUSTERS or mean <= SHORTEST:
            raise ValueError(f"a world must have {CLUSTERS} items and a mean above {SHORTEST}, got {items} and {mean}")
        self.seed = seed
        self.mean = mean
        rng = np.random.default_rng([seed, 0])
        named = rng.permutation(items).astype(np.int32)
        clusters = np.array_split(named, CLUSTERS)
        self.appeal = _zipf(CLUSTERS)
        self.bits = int(np.ceil(np.log2(SLOTS * len(clusters[0]))))
        weights = [_zipf(len(each)) for each in clusters]
        tables = [_slots(each, own, 2**self.bits) for each, own in zip(clusters, weights, strict=True)]
        self.table = np.stack(tables)
        """int32 [CLUSTERS, 2^bits]: an item for each equally likely place."""
        self.any = _slots(np.arange(CLUSTERS), self.appeal, 2**ANY_BITS)
        """int64 [2^ANY_BITS]: a cluster for each equally likely place, for events that go to anything."""

    def block(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Users, items and times of the users `first` to `last`, row by row.

        Args:
            first: a multiple of `AT_ONCE`, for the seed.
            last: exclusive.
        """
        rng, users = np.random.default_rng([self.seed, 1, first]), last - first
        # The mean of a log-normal number is exp(m + s^2 / 2).
        lengths = rng.lognormal(np.log(self.mean) - SPREAD**2 / 2, SPREAD, users)
        counts = np.clip(np.rint(lengths), SHORTEST, LONGEST).astype(np.int64)
        keys = rng.exponential(size=(users, CLUSTERS)) / self.appeal  # the smallest: drawn without replacement
        liked = np.argpartition(keys, LIKED, axis=1)[:, :LIKED]
        liked = rng.permuted(liked, axis=1)
        owner = np.repeat(np.arange(users), counts)
        bits = rng.integers(0, 2**63, len(owner), dtype=np.int64)
        which = np.repeat(np.arange(LIKED + 1), _of(256))[bits & 255]
        cluster = liked.ravel()[owner * LIKED + np.minimum(which, LIKED - 1)]
        anything = which == LIKED
        cluster[anything] = self.any[(bits[anything] >> 40) & (2**ANY_BITS - 1)]
        items = self.table.ravel()[(cluster << self.bits) + ((bits >> 8) & (2**self.bits - 1))]
        begin = rng.integers(0, SPAN // 2, users)
        gap = (rng.random(users) * (SPAN - begin) / counts).astype(np.int64) + 1
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        times = BEGIN + begin[owner] + place * gap[owner] + (bits >> 24) % gap[owner]
        return owner + first, items, times

    def blocks(self, users: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The rows of that many users, block after block."""
        for first in range(0, users, AT_ONCE):
            yield self.block(first, min(first + AT_ONCE, users))


def _zipf(count: int) -> npt.NDArray[np.float64]:
    """Shares that sum to 1, the largest first."""
    weights = (np.arange(count) + SHIFT) ** -ZIPF
    return np.asarray(weights / weights.sum())


def _of(places: int) -> Ints:
    """How many of the places each liked cluster has, and anything."""
    liked = np.rint(np.array(TASTE) * places).astype(int)
    return np.append(liked, places - liked.sum())


def _slots(items: Ints, weights: npt.NDArray[np.float64], places: int) -> Ints:
    """Each item as often as its weight asks, in all `places` times."""
    ends = np.rint(np.cumsum(weights) / weights.sum() * places).astype(np.int64)
    return np.repeat(items, np.diff(ends, prepend=0))


def write(path: Path, *, users: int, items: int, mean: float, seed: int = 0) -> int:
    """Write a log as parquet with the columns user_id, item_id and timestamp; returns the number of its rows.

    Memory holds one block of users; a file appears under its name when it is whole.
    """
    world, rows = World(items=items, mean=mean, seed=seed), 0
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("timestamp", pa.int64())])
    encodings = {"user_id": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED", "item_id": "PLAIN"}
    part = path.with_name(path.name + ".part")
    options = {
        "use_dictionary": False,
        "column_encoding": encodings,
        "compression": "snappy",
        "write_statistics": False,
    }
    with pq.ParquetWriter(part, schema, **options) as file:
        for block in world.blocks(users):
            columns = [pa.array(column.astype(np.int64, copy=False)) for column in block]
            file.write_table(pa.table(columns, schema=schema), row_group_size=len(columns[0]))
            rows += len(columns[0])
    part.replace(path)
    return rows


if __name__ == "__main__":
    made, of, length = (int(number) for number in sys.argv[1:4])
    sys.stdout.write(f"{write(Path(sys.argv[4]), users=made, items=of, mean=length):,} rows\n")
