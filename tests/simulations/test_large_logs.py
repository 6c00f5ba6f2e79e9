"""A log on disk gives what the same log in memory gives, whatever the size of its blocks."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_common.interactions import Interactions, save_array
from palate_core.errors import InputError
from palate_sim.data import InteractionLog, Pairs, Workspace, describe, positives, read_log
from palate_sim.data.events import EventBlock, Rows, stable_order
from palate_sim.data.ids import IdList
from palate_sim.data.readers import purchases_only
from palate_sim.preparation.filters import k_core
from palate_sim.preparation.histories import HistoryWriter
from palate_sim.preparation.preparation import fingerprint_of
from palate_sim.preparation.splits import SPLITS, Heldout, split

KINDS, VALUES = ("view", "buy", "Like", None), (0.5, 1.0, 3.0, 4.5, np.nan)


def odd_frame(seed: int, rows: int = 200) -> pd.DataFrame:
    """Rows in any order with repeats, missing ids, times that are unknown or tie, kinds and values that are missing."""
    rng = np.random.default_rng(seed)
    users = rng.zipf(1.6, rows).clip(max=30)
    frame = pd.DataFrame(
        {
            "user": pd.Series([f"u{user}" if user % 7 else str(user) for user in users], dtype=object),
            "item": pd.Series([int(item) for item in rng.zipf(1.4, rows).clip(max=40)], dtype=object),
            "event": rng.choice(np.array(KINDS, dtype=object), rows),
            "value": rng.choice(VALUES, rows),
            "ts": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(10**9, 10**9 + 50, rows) + 0.5),
        }
    )
    frame.loc[rng.random(rows) < 0.02, "user"] = None
    return pd.concat([frame, frame.sample(20, random_state=seed)], ignore_index=True)


@contextmanager
def small_blocks(users: int = 3) -> Iterator[None]:
    """Files of a few users, and times counted by a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("palate_sim.data.events"), "USERS_IN_FILE", users)
        patch.setattr(import_module("palate_sim.data.positives"), "STEPS_OF_TIMES", 4)
        yield


def read(frame: pd.DataFrame, tmp_path: Path, *, limit: int = 1) -> InteractionLog:
    log = read_log(frame, workspace=Workspace(folder=lambda: tmp_path, limit=limit))
    assert log.rows.on_disk
    return log


def same_histories(ours: Interactions, theirs: Interactions) -> None:
    for name in ("indptr", "indices", "weights"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)
    assert ours.n_items == theirs.n_items


def same_pairs(ours: Pairs, theirs: Pairs) -> None:
    assert list(ours.users) == list(theirs.users)
    assert (ours.items, ours.excluded, ours.groups) == (theirs.items, theirs.excluded, theirs.groups)
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    for name in ("item_rows", "weights", "times"):
        np.testing.assert_array_equal(getattr(ours.whole, name), getattr(theirs.whole, name), strict=True)


def same_heldout(ours: Heldout | None, theirs: Heldout | None) -> None:
    assert (ours is None) == (theirs is None)
    if ours is None or theirs is None:
        return
    assert list(ours.users) == list(theirs.users)
    assert ours.groups == theirs.groups
    same_histories(ours.foldin, theirs.foldin)
    same_histories(ours.target, theirs.target)
    assert (ours.withheld is None) == (theirs.withheld is None)
    if ours.withheld is not None and theirs.withheld is not None:
        same_histories(ours.withheld, theirs.withheld)


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "threshold": {"threshold": 1.0},
    "kinds": {"weights": {"view": 1, "buy": 5}},
    "values": {"value_weights": {1.0: 0.5, 4.0: 2.0}, "combine": "sum", "cap": 3.0},
    "half-life": {"weights": {"*": 1.0, "view": 0.0}, "half_life_days": 1e-4, "combine": "sum"},
    "values of kinds": {"kind_values": {"buy": {1.0: 7.0}}},
}


@given(
    seed=st.integers(0, 10**6), limit=st.integers(1, 150), users=st.integers(1, 9), rule=st.sampled_from(sorted(RULES))
)
def test_a_log_on_disk_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory, seed: int, limit: int, users: int, rule: str
) -> None:
    frame, folder = odd_frame(seed), tmp_path_factory.mktemp("rows")
    whole = read_log(frame)
    with small_blocks(users):
        parted = read(frame, folder, limit=limit)
        pd.testing.assert_frame_equal(parted.frame, whole.frame)
        assert parted.repairs == whole.repairs
        assert parted.kinds == whole.kinds
        assert describe(parted) == describe(whole)
        same_pairs(positives(parted, folder=lambda: folder, **RULES[rule]), positives(whole, **RULES[rule]))
        del parted
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_on_disk_is_the_same_split(tmp_path: Path, name: str) -> None:
    frame = odd_frame(3, 900)
    frame["item"] = frame["item"].astype(object) if name != "loo-heldout-excluded" else np.arange(len(frame)) % 190
    groups = pd.DataFrame({"user_id": [f"u{user}" for user in range(20)], "age": ["young", "old"] * 10})
    rule: dict[str, Any] = {"weights": {"*": 1.0, "buy": 2.5}}
    object.__setattr__(whole := read_log(frame), "users", groups)
    theirs = split(positives(whole, **rule), name, seed=5)
    with small_blocks():
        object.__setattr__(parted := read(frame, tmp_path), "users", groups)
        ours = split(positives(parted, folder=lambda: tmp_path, **rule), name, seed=5, folder=tmp_path / "split")
    assert isinstance(ours.train.indices.base, np.memmap)
    same_histories(ours.train, theirs.train)
    same_heldout(ours.validation, theirs.validation)
    same_heldout(ours.test, theirs.test)
    assert list(ours.train_users) == list(theirs.train_users)
    for attribute in ("name", "items", "skipped", "notes", "sampled_negatives"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    np.testing.assert_array_equal(ours.candidates, theirs.candidates)  # type: ignore[arg-type]  # both may be None
    assert fingerprint_of(ours) == fingerprint_of(theirs)


def test_weights_of_one_are_one_number_on_disk(tmp_path: Path) -> None:
    frame = odd_frame(4).drop(columns=["event", "value"])
    theirs = split(read_log(frame), "strong", seed=1)
    ours = split(positives(read(frame, tmp_path), folder=lambda: tmp_path), "strong", seed=1, folder=tmp_path / "split")
    assert ours.train.weights.strides == (0,)
    assert (tmp_path / "split" / "train" / "weights.npy").stat().st_size < 200
    same_histories(ours.train, theirs.train)
    assert fingerprint_of(ours) == fingerprint_of(theirs)


def test_filters_on_disk_keep_the_same(tmp_path: Path) -> None:
    frame = odd_frame(8, 600)
    theirs, dropped = k_core(read_log(frame), 3, 4)
    with small_blocks():
        ours, also_dropped = k_core(read(frame, tmp_path), 3, 4)
        assert ours.rows.on_disk
        pd.testing.assert_frame_equal(ours.frame, theirs.frame)
        assert also_dropped == dropped
        assert ours.present_items == theirs.present_items
        same_pairs(positives(ours, folder=lambda: tmp_path), positives(theirs))


def test_returns_on_disk_are_dropped_as_in_memory(tmp_path: Path) -> None:
    frame = odd_frame(2).assign(value=lambda rows: np.arange(len(rows)) % 3 - 1).drop(columns="event")
    theirs = purchases_only(read_log(frame))
    with small_blocks():
        ours = purchases_only(read(frame, tmp_path))
        pd.testing.assert_frame_equal(ours.frame, theirs.frame)
        assert ours.repairs == theirs.repairs


def test_the_files_of_a_log_are_private_and_go_with_it(tmp_path: Path) -> None:
    log = read(odd_frame(1), tmp_path)
    folders = list(tmp_path.iterdir())
    assert len(folders) == 1
    assert folders[0].stat().st_mode & 0o777 == 0o700
    del log
    assert not list(tmp_path.iterdir())


def test_a_log_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    frame = odd_frame(1).drop(columns="event")
    frame["value"] = frame["value"].fillna(1.0).astype(object)
    frame.loc[150, "value"] = "many"
    parts = [frame.iloc[:100], frame.iloc[100:]]
    for number, part in enumerate(parts):
        part.astype({"user": str, "item": str, "value": str}).to_parquet(tmp_path / f"{number}.parquet")
    (tmp_path / "rows").mkdir()
    with pytest.raises(InputError, match="got 'many' in row 151 of data"):
        read_log(tmp_path, workspace=Workspace(folder=lambda: tmp_path / "rows", limit=10))
    assert not list((tmp_path / "rows").iterdir())


def test_blocks_hold_whole_users_whose_numbers_rise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with small_blocks(users=4):
        rows = Rows(has=frozenset({"times"}), folder=lambda: tmp_path, limit=50)
        users = rng.integers(0, 33, 300)
        for part in np.split(np.arange(300), 10):
            rows.add(EventBlock.of(users=users[part], items=part, times=part / 7))
        blocks = list(rows)
        assert len(blocks) == rows.blocks() == 9
        assert all(before.users.max() < after.users.min() for before, after in itertools.pairwise(blocks))
        joined = EventBlock.joined(blocks)
        order = stable_order((joined.users, 33))
        theirs = np.argsort(users, kind="stable")
        np.testing.assert_array_equal(joined.items[order], theirs)
        np.testing.assert_array_equal(joined.times[order], theirs / 7)  # type: ignore[index]  # it has times
        assert rows.total == 300
        assert sum(map(len, rows.taken())) == 300
        assert not list(rows)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**31 - 2), st.integers(0, 2**40)), min_size=1, max_size=30)
)
def test_a_stable_order_is_numpys(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    for ends in ((6, 2**31 - 1, 2**40 + 1), (6, 2**31 - 1), (6,)):
        keys = list(zip(columns, ends, strict=False))
        theirs = np.lexsort([key for key, _ in reversed(keys)])
        np.testing.assert_array_equal(stable_order(*keys), theirs)


@given(st.lists(st.text(max_size=3), max_size=12), st.data())
def test_a_list_of_ids_is_a_sequence(ids: list[str], data: Any) -> None:
    listed = IdList(pa.chunked_array([pa.array(ids, pa.large_string())]))
    assert len(listed) == len(ids)
    assert list(listed) == ids
    part = data.draw(st.slices(len(ids)))
    assert list(listed[part]) == ids[part]
    if ids:
        place = data.draw(st.integers(-len(ids), len(ids) - 1))
        assert listed[place] == ids[place]
    with pytest.raises(IndexError):
        listed[len(ids)]
    assert ("no such id" in listed) is False


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing fails beyond so many bytes of a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def written_rows(folder: Path) -> None:
    rows = Rows(has=frozenset(), folder=lambda: folder, limit=0)
    rows.add(EventBlock.of(users=np.zeros(1500, np.int32), items=np.arange(1500)))


def written_histories(folder: Path, *, users: int = 1, items: int = 1500) -> None:
    counts = np.zeros(users, np.int64)
    counts[0] = items
    with HistoryWriter(items, folder / "train") as writer:
        writer.add(counts, np.arange(items, dtype=np.int32), np.broadcast_to(np.float32(1), items))
        writer.finish()


WRITERS: dict[str, Callable[[Path], None]] = {
    "rows": written_rows,
    "items of users": written_histories,
    "users": partial(written_histories, users=700, items=3),
    "an array": lambda folder: save_array(folder / "array.npy", np.ones(6000, np.bool_)),
}


@pytest.mark.parametrize("what", WRITERS)
def test_nothing_is_lost_without_a_word_on_a_full_disk(tmp_path: Path, what: str) -> None:
    with largest_file(4000), pytest.raises(OSError, match="File too large"):
        WRITERS[what](tmp_path)
