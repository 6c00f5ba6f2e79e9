"""Odd input is repaired, and every repair is counted: duplicates, times, ids, encodings, widths."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate_sim.data import InteractionLog, read_log
from palate_sim.data.repair import REPAIRS


def read(tmp_path: Path, content: bytes) -> InteractionLog:
    (tmp_path / "log.csv").write_bytes(content)
    return read_log(tmp_path / "log.csv")


NOW = int(time.time())
ODD: dict[str, tuple[bytes, dict[str, int], list[str]]] = {
    "exact duplicates": (b"user,item,ts\n1,a,5\n1,a,5\n1,b,6\n", {"exact_duplicates": 1}, ["1 a", "1 b"]),
    "repeated pairs": (b"user,item,ts\n1,a,5\n1,a,6\n", {"repeated_pairs": 1}, ["1 a", "1 a"]),
    "unordered times": (b"user,item,ts\n1,a,9\n1,b,5\n", {"times_out_of_order": 1}, ["1 b", "1 a"]),
    "future times": (
        f"user,item,ts\n1,a,{NOW + 10**7}\n1,b,5\n".encode(),
        {"times_in_the_future": 1},
        ["1 b", "1 a"],
    ),
    "missing times": (b"user,item,ts\n1,a,\n1,b,5\n", {"times_missing": 1}, ["1 b", "1 a"]),
    "unreadable times": (b"user,item,ts\n1,a,soon\n1,b,5\n", {"times_missing": 1}, ["1 b", "1 a"]),
    "milliseconds": (b"user,item,ts\n1,a,1500000000000\n1,b,1500000001000\n", {"times_rescaled": 2}, ["1 a", "1 b"]),
    "mixed id types": (
        b"user,item,ts\n1,a,1\n1.0,b,2\n2,a,3\n2,7.00,4\n2,7,5\n",
        {"ids_unified": 2, "repeated_pairs": 1},
        ["1 a", "1 b", "2 a", "2 7", "2 7"],
    ),
    "white space": (b"user,item\n 1,a\n1 ,b\n1,c\t\n", {"ids_trimmed": 3}, ["1 a", "1 b", "1 c"]),
    "rows without ids": (b"user,item\n1,a\n,a\n1,NULL\n1,b\n", {"rows_without_id": 2}, ["1 a", "1 b"]),
    "latin-1 names": (b"user,item\nJos\xe9,a\nJos\xc3\xa9,b\n", {"names_read_as_latin1": 1}, ["José a", "José b"]),
    "byte-order mark": (b"\xef\xbb\xbfuser,item\n1,a\n1,b\n", {"byte_order_mark": 1}, ["1 a", "1 b"]),
    "utf-16": ("user,item\n1,ä\n1,b\n".encode("utf-16"), {"read_as_utf16": 1}, ["1 ä", "1 b"]),
    "single-event users": (b"user,item\n1,a\n2,a\n2,b\n", {"single_event_users": 1}, ["1 a", "2 a", "2 b"]),
    "other widths": (b"user,item\n1,a\n1,b,c\n1,d\n", {"lines_of_another_width": 1}, ["1 a", "1 d"]),
    "blank lines": (b"\n  \r\nuser,item\n\n1,a\n\n1,b\n\n", {}, ["1 a", "1 b"]),
    "old line ends": (b"user,item\r1,a\r1,b\r", {}, ["1 a", "1 b"]),
    "line break in quotes": (b'user,item,note\n1,a,"x\ny"\n1,b,z\n', {}, ["1 a", "1 b"]),
    "blank values of an event log": (b"user,item,event,value\n1,a,view,\n1,b,buy,2\n", {}, ["1 a", "1 b"]),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_input_is_repaired_and_counted(tmp_path: Path, case: str) -> None:
    content, repairs, rows = ODD[case]
    log = read(tmp_path, content)
    assert log.repairs == repairs
    assert (log.frame["user_id"] + " " + log.frame["item_id"]).tolist() == rows
    assert set(log.repairs) <= set(REPAIRS)


def test_ids_of_all_types_in_a_frame_are_one_id() -> None:
    frame = pd.DataFrame({"user": ["1", 1, 1.0, " 1 ", np.int64(1), b"1"], "item": list("abcdef")})
    log = read_log(frame)
    assert set(log.frame["user_id"]) == {"1"}
    assert log.repairs["ids_unified"] == 3
    assert log.repairs["ids_trimmed"] == 1


def test_whole_floats_and_missing_ids_as_pandas_makes_them() -> None:
    frame = pd.DataFrame({"user": [10.0, np.nan, 10.0], "item": pd.Categorical(["a", "b", None])})
    log = read_log(frame)
    assert log.frame[["user_id", "item_id"]].values.tolist() == [["10", "a"]]
    assert log.repairs["rows_without_id"] == 2


def test_large_ids_keep_every_digit(tmp_path: Path) -> None:
    log = read(tmp_path, b"user,item\n-8845298781299428018,9007199254740993\n")
    assert log.frame.iloc[0][["user_id", "item_id"]].tolist() == ["-8845298781299428018", "9007199254740993"]


def test_leading_zeros_are_another_id(tmp_path: Path) -> None:
    assert read(tmp_path, b"user,item\n1,07\n1,7\n").frame["item_id"].nunique() == 2


DATES = {
    "iso": ("2011-03-12T10:00:00", 1299924000.0),
    "iso with zone": ("2011-03-12T12:00:00+02:00", 1299924000.0),
    "zulu": ("2011-03-12T10:00:00Z", 1299924000.0),
    "space": ("2011-03-12 10:00", 1299924000.0),
    "month first": ("3/12/2011 10:00", 1299924000.0),
    "seconds as text": (" 1299924000.0 ", 1299924000.0),
}


@pytest.mark.parametrize("case", DATES)
def test_dates_become_seconds(tmp_path: Path, case: str) -> None:
    written, seconds = DATES[case]
    log = read(tmp_path, f"user,item,date\n1,a,{written}\n".encode())
    assert log.frame["timestamp"].tolist() == [seconds]


def test_a_day_above_twelve_shows_that_days_come_first(tmp_path: Path) -> None:
    log = read(tmp_path, b"user,item,date\n1,a,12/3/2011 10:00\n1,b,13/3/2011 10:00\n")
    assert log.frame["timestamp"].tolist() == [1299924000.0, 1299924000.0 + 86_400]


@pytest.mark.parametrize(
    "times",
    [
        [None, -1e291, None, 5.0, -1e291],
        [None, 1e-9, 0.0, -(2.0**39)],
        [None, 1.5, 0.25, -7.75, 1.5],
        [None, 0.5, -(2.0**41), None, 7.0],
        [3.0, None, 2.0, 10.0**9],
        [None, 1.5e-9],
        [None, -1e291],
    ],
)
def test_rows_are_in_order_whatever_their_times(times: list[float | None]) -> None:
    frame = pd.DataFrame({"user": ["v", *"u" * len(times)], "item": range(len(times) + 1), "ts": [None, *times]})
    read = read_log(frame).frame
    places = np.argsort(np.array([np.inf if time is None else time for time in times]), kind="stable") + 1
    assert read["item_id"].tolist() == ["0", *map(str, places)]


def test_datetime_columns_of_a_frame() -> None:
    stamps = pd.to_datetime(["2011-03-12T10:00:00Z", None], utc=True)
    zoned = stamps.tz_convert("Europe/Berlin")
    for column in (stamps, stamps.tz_localize(None), zoned):
        log = read_log(pd.DataFrame({"user": [1, 1], "item": ["a", "b"], "time": column}))
        assert log.frame["timestamp"].tolist()[0] == 1299924000.0
        assert log.repairs == {"times_missing": 1}
