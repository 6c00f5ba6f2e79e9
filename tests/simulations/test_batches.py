"""A text read in batches of a few bytes is the text read whole, and so is a parquet file of a few rows at once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError
from palate_sim.data import InteractionLog, Workspace, read_log, tables


@contextmanager
def small_batches(size: int, rows: int = 3) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CHUNK", size)
        patch.setattr(tables, "ROWS_AT_ONCE", rows)
        yield


def same(path: Path, size: int) -> InteractionLog:
    """The log, read whole and in batches with the same result."""
    whole = read_log(path)
    with small_batches(size):
        parted = read_log(path)
    pd.testing.assert_frame_equal(parted.frame, whole.frame)
    assert parted.repairs == whole.repairs
    return parted


LINES = b"user,item,value,ts\n" + b"".join(
    b"%d,item-%d,%d.5,%d\n" % (row * 7 % 11, row * 5 % 13, row % 4, 10**9 - row) for row in range(60)
)
TEXTS: dict[str, bytes] = {
    "plain": LINES,
    "no line end": LINES.rstrip(),
    "latin-1 lines, late": LINES + "José,x,1,5\nJosé,y,1,6\n".encode("latin-1") + "José,z,1,7\n".encode(),
    "byte-order mark": b"\xef\xbb\xbf" + LINES,
    "utf-16": LINES.replace(b"item", "ï𝄞".encode()).decode().replace("user,ï𝄞", "user,item").encode("utf-16"),
    "utf-16, the other end first": b"\xfe\xff" + LINES.decode().encode("utf-16-be"),
    "blank lines": b"\n\n  \n" + LINES.replace(b"\n", b"\n\n"),
    "windows line ends": LINES.replace(b"\n", b"\r\n"),
    "old line ends": LINES.replace(b"\n", b"\r"),
    "two colons": LINES.replace(b",", b"::"),
    "tabs": LINES.replace(b",", b"\t"),
    "semicolons": LINES.replace(b",", b";"),
    "ragged lines": LINES + b"1,a\n" * 5 + b"1,a,2,3,4\n" + b"9,b,1,4\n",
    "quoted line breaks": LINES.replace(b"user,item,value", b"user,item,note,value")
    .replace(b".5,", b'.5,"one ""line"",\nand, more\r\n",')
    .replace(b"note,value", b"value,note"),
    "quotes that begin late": LINES + b'5,"a, b",1,5\n6,c,1,"5"\n' * 20,
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", TEXTS)
def test_a_text_in_batches_is_the_text(tmp_path: Path, case: str, packed: bool) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(TEXTS[case]) if packed else TEXTS[case])
    for size in (128, 301, 1001):
        log = same(path, size)
    assert len(log.frame) >= 59


def test_two_packed_parts_are_one_text(tmp_path: Path) -> None:
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]))
    assert len(same(tmp_path / "log.csv.gz", 100).frame) == 60


cell = st.one_of(
    st.integers(0, 9).map(str), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=4)
)


def outcome(path: Path) -> str:
    """The rows and repairs of a log, or why it is refused."""
    try:
        log = read_log(path)
    except InputError as error:
        return str(error)
    return log.frame.to_json() + str(log.repairs)


@given(
    rows=st.lists(st.tuples(cell, cell, st.integers(-9, 9)), min_size=1, max_size=30),
    size=st.integers(40, 200),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_any_quoted_text_in_batches_is_the_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]], size: int, ending: str
) -> None:
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row[:2]] + [str(row[2])] for row in rows]
    path = tmp_path_factory.mktemp("text") / "log.csv"
    path.write_bytes(ending.join(["user,item,rating", *map(",".join, quoted), "u,i,1", ""]).encode())
    whole = outcome(path)
    with small_batches(size):
        assert outcome(path) == whole


def test_a_broken_value_in_a_late_batch_is_named_by_its_row(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(LINES + b"1,a,good,5\n")
    for size in (80, 1 << 20):
        with small_batches(size), pytest.raises(InputError, match="got 'good' in row 61 of data"):
            read_log(tmp_path / "log.csv")


def test_a_notation_of_times_that_later_rows_show_is_used_for_all(tmp_path: Path) -> None:
    early = b"".join(b"1,%d,%d\n" % (row, 10**8 + row) for row in range(20))
    late = b"".join(b"2,%d,%d\n" % (row, 10**12 + row * 1000) for row in range(200))
    (tmp_path / "millis.csv").write_bytes(b"user,item,ts\n" + early + late)
    log = same(tmp_path / "millis.csv", 100)
    assert log.repairs["times_rescaled"] == 220
    assert log.frame["timestamp"].max() == 10**9 + 199

    months = b"".join(b"1,%d,0%d/02/2011\n" % (row, row % 9 + 1) for row in range(20))
    (tmp_path / "days.csv").write_bytes(b"user,item,ts\n" + months + b"1,x,13/02/2011\n")
    log = same(tmp_path / "days.csv", 100)
    stamps = pd.to_datetime(log.frame["timestamp"], unit="s")
    assert set(stamps.dt.month) == {2}


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LONGEST_LINE", 1000)
    (tmp_path / "log.csv").write_bytes(LINES + b"x" * 5000)
    with small_batches(100), pytest.raises(InputError, match="one of more than 1000 bytes"):
        read_log(tmp_path / "log.csv")


def test_a_row_too_long_for_a_batch_is_refused_in_clear_words(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(LINES + b'1,"' + b"x\n" * 500 + b'",1,1\n' + LINES * 20)
    with small_batches(300), pytest.raises(InputError, match="must have rows of less than 300 bytes, got a longer one"):
        read_log(tmp_path / "log.csv")


def test_what_is_packed_and_cut_short_late_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 10**9, (3000, 2))
    text = b"user,item\n" + b"".join(b"%d,%d\n" % tuple(row) for row in noise)
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(text)[:-500])
    with (
        small_batches(1000),
        pytest.raises(InputError, match="must be a whole gzip file, got a broken one"),
    ):
        read_log(tmp_path / "log.csv.gz", workspace=Workspace(folder=lambda: tmp_path / "rows", limit=10))
    assert not list((tmp_path / "rows").iterdir())


PARQUET = {
    "text ids": {"user": ["a", "b", None, "a"] * 5, "item": ["x", "y", "z", ""] * 5},
    "whole numbers with nulls": {
        "user": pd.array([1, None, 2**53 + 1, 3] * 5, dtype="Int64"),
        "item": pd.array([7, 8, None, -9] * 5, dtype="Int64"),
    },
    "large and negative numbers": {
        "user": np.array([-1, 2**63 - 1, -(2**63), 0] * 5),
        "item": np.array([2**64 - 1, 2**63, 5, 6] * 5, np.uint64),
    },
    "large numbers with nulls": {
        "user": pd.array([2**64 - 1, None, 2**63, 0] * 5, dtype="UInt64"),
        "item": pd.array([-(2**63), 2**63 - 1, None, 0] * 5, dtype="Int64"),
    },
    "small numbers, then large ones": {"user": [*range(10), *range(2**40, 2**40 + 10)], "item": [*range(20)]},
    "categories": {"user": pd.Categorical(["b", "a", "b", None] * 5), "item": pd.Categorical([3, 1, 2, 3] * 5)},
    "floats": {"user": [1.0, 2.5, np.nan, 1e20] * 5, "item": [0.0, -0.0, 3.0, 1e-7] * 5},
    "dates": {
        "user": [1, 2, 3, 4] * 5,
        "item": [5, 6, 7, 8] * 5,
        "ts": pd.to_datetime(
            ["2020-02-29", None, "1969-12-31 23:59:59.5", "2001-01-01"] * 5, format="ISO8601"
        ).tz_localize("Asia/Tokyo"),
    },
    "whole numbers and values": {
        "user": np.arange(20, dtype=np.uint8),
        "item": np.arange(20, dtype=np.int16),
        "rating": pd.array([1.5, 2.0, 3.0, 4.5] * 5, dtype="Float32"),
        "ts": pd.array([10**9, None, 10**9 + 1, 5] * 5, dtype="Int64"),
    },
}


@pytest.mark.parametrize("case", PARQUET)
def test_parquet_in_batches_is_the_frame(tmp_path: Path, case: str) -> None:
    frame = pd.DataFrame(PARQUET[case])
    frame.to_parquet(tmp_path / "log.parquet", row_group_size=7)
    log = same(tmp_path / "log.parquet", 1 << 20)
    pd.testing.assert_frame_equal(log.frame, read_log(frame).frame)
