"""The made log of any length: the same for the same numbers, of the asked size, and with taste in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.worlds.long_log import AT_ONCE, CLUSTERS, LIKED, LONGEST, SHORTEST, TASTE, World, write


def test_equal_numbers_give_equal_rows_and_users_come_in_order(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rows = write(tmp_path / name, users=AT_ONCE + 500, items=1000, mean=12)
    one, two = (pq.read_table(tmp_path / name) for name in ("one", "two"))
    assert one.equals(two)
    assert one.num_rows == rows
    assert pq.ParquetFile(tmp_path / "one").num_row_groups == 2
    users, items, times = (one[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    assert (np.diff(users) >= 0).all()
    assert (np.diff(times)[np.diff(users) == 0] >= 0).all()
    counts = np.bincount(users)
    assert len(counts) == AT_ONCE + 500
    assert SHORTEST <= counts.min() <= counts.max() <= LONGEST
    assert counts.mean() == pytest.approx(12, rel=0.1)
    assert 0 <= items.min() <= items.max() < 1000
    assert len(np.unique(users * 1000 + items)) < 0.95 * rows
    assert not list(tmp_path.glob("*.part"))


def test_a_user_likes_four_clusters_and_popular_items_stand_out() -> None:
    world = World(items=6400, mean=100)
    assert sorted(np.unique(world.table)) == list(range(6400))
    cluster = np.zeros(6400, int)
    for number, row in enumerate(world.table):
        cluster[row] = number
    users, items, _ = world.block(0, 500)
    held = np.zeros((500, CLUSTERS))
    np.add.at(held, (users, cluster[items]), 1)
    held = -np.sort(-held / held.sum(1, keepdims=True), axis=1)
    assert held[:, :LIKED].sum(1).mean() == pytest.approx(sum(TASTE), abs=0.06)
    popularity = -np.sort(-np.bincount(items, minlength=6400))
    assert popularity[:640].sum() > 0.4 * len(items)


def test_a_world_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="must have 64 items"):
        World(items=63, mean=10)
