"""Readers: all formats give the same log; malformed input is refused in one line."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_core.errors import InputError
from palate_sim.data import InteractionLog, read_log

ROWS = [("u1", "i1", 4.0, 100.0), ("u1", "i2", 3.5, 200.0), ("u2", "i1", 5.0, 300.0)]
PLAIN = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])


def text(separator: str, header: str | None, rows: list[tuple[Any, ...]] = ROWS) -> bytes:
    lines = [] if header is None else [separator.join(header.split())]
    return "\n".join([*lines, *(separator.join(map(str, row)) for row in rows), ""]).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("log.csv", "user,item\n1,2\n")
    return buffer.getvalue()


def read(tmp_path: Path, content: bytes, name: str = "log.csv", **options: Any) -> InteractionLog:
    (tmp_path / name).write_bytes(content)
    return read_log(tmp_path / name, **options)


FORMATS: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "csv": ("log.csv", text(",", "user_id item_id rating timestamp"), {}),
    "csv, camel case": ("log.csv", text(",", "userId movieId Rating Timestamp"), {}),
    "csv, crlf": ("log.csv", text(",", "user item rating ts").replace(b"\n", b"\r\n"), {}),
    "csv.gz": ("log.csv.gz", gzip.compress(text(",", "uid sku quantity time")), {}),
    "gzip by content": ("log.csv", gzip.compress(text(",", "visitorid itemid weight date")), {}),
    "tsv": ("log.tsv", text("\t", "CustomerID StockCode score InvoiceDate"), {}),
    "semicolon": ("log.csv", text(";", "user item value ts"), {}),
    "bar": ("log.txt", text("|", "user item stars ts"), {}),
    "inter": ("x.inter", text("\t", "user_id:token item_id:token rating:float timestamp:float"), {}),
    "parquet": ("log.parquet", parquet(PLAIN), {}),
    "parquet by content": ("log", parquet(PLAIN), {}),
    "movielens": (
        "ratings.dat",
        text("::", None),
        {"columns": {"user_id": 0, "item_id": 1, "value": 2, "timestamp": 3}},
    ),
    "tab, no header": (
        "u.data",
        text("\t", None),
        {"columns": {"user_id": 0, "item_id": 1, "value": 2, "timestamp": 3}},
    ),
    "mapped": (
        "log.csv",
        text(",", "a b c d"),
        {"columns": {"user_id": "a", "item_id": "b", "value": "c", "timestamp": "d"}},
    ),
    "quoted": ("log.csv", b'"user","item","rating","ts"\n"u1","i1","4","100"\nu1,i2,3.5,200\nu2,"i1",5.0,300\n', {}),
}


@pytest.mark.parametrize("case", FORMATS)
def test_every_format_gives_the_same_log(tmp_path: Path, case: str) -> None:
    name, content, options = FORMATS[case]
    log = read(tmp_path, content, name, **options)
    expected = read_log(PLAIN)
    pd.testing.assert_frame_equal(log.frame, expected.frame)
    assert log.frame["user_id"].tolist() == ["u1", "u1", "u2"]
    assert log.frame["timestamp"].tolist() == [100.0, 200.0, 300.0]
    assert log.repairs == {"single_event_users": 1}


def test_a_log_has_the_columns_of_the_contract() -> None:
    frame = read_log(pd.DataFrame({"user": [1], "item": [2]})).frame
    assert list(frame.columns) == ["user_id", "item_id", "kind", "value", "timestamp"]
    assert frame["kind"].tolist() == [None]
    assert np.isnan(frame["value"]).all()
    assert np.isnan(frame["timestamp"]).all()


def test_the_name_of_a_log() -> None:
    assert read_log(PLAIN).name == "frame"
    assert read_log(PLAIN, name="mine").name == "mine"


GOOD = b"user,item,rating\n1,2,3\n"
MALFORMED: dict[str, tuple[str, bytes | None, dict[str, Any]]] = {
    "missing file": ("no.csv", None, {}),
    "empty": ("a.csv", b"", {}),
    "empty gz": ("a.csv.gz", gzip.compress(b""), {}),
    "white space only": ("a.csv", b"\n \n\n", {}),
    "header only": ("a.csv", b"user,item,rating\n", {}),
    "header only, no newline": ("a.csv", b"user,item", {}),
    "header only inter": ("a.inter", b"user_id:token\titem_id:token\n", {}),
    "no item column": ("a.csv", b"user,rating\n1,2\n", {}),
    "no user column": ("a.csv", b"movieId,rating\n1,2\n", {}),
    "one endless line": ("a.csv", b'"' + b"x" * 200_000, {}),
    "no known column": ("a.csv", b"a,b,c\n1,2,3\n", {}),
    "no header": ("u.data", b"1\t2\t3\t4\n", {}),
    "two user columns": ("a.csv", b"user,customer_id,item\n1,2,3\n", {}),
    "two item columns": ("a.csv", b"user,artist,track\n1,2,3\n", {}),
    "two value columns": ("a.csv", b"user,item,rating,quantity\n1,2,3,4\n", {}),
    "one name twice": ("a.csv", b"user,item,item\n1,2,3\n", {}),
    "picture": ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", {}),
    "random bytes": ("a.csv", bytes(np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)), {}),
    "zip": ("a.csv", archive(), {}),
    "cut gzip": ("a.csv.gz", gzip.compress(GOOD * 99)[:-20], {}),
    "flipped gzip": ("a.csv.gz", gzip.compress(GOOD)[:-8] + b"\x00" * 8, {}),
    "gzip by name only": ("a.csv.gz", GOOD, {}),
    "parquet by name only": ("a.parquet", GOOD, {}),
    "cut parquet": ("a.parquet", parquet(PLAIN)[:-40], {}),
    "parquet without columns": ("a.parquet", parquet(pd.DataFrame({"a": [1]})), {}),
    "broken utf-16": ("a.csv", b"\xff\xfe" + b"u\x00s", {}),
    "nan rating": ("a.csv", b"user,item,rating\n1,2,3\n1,3,nan\n", {}),
    "inf rating": ("a.csv", b"user,item,rating\n1,2,inf\n", {}),
    "huge rating": ("a.csv", b"user,item,rating\n1,2,1e999\n", {}),
    "word rating": ("a.csv", b"user,item,rating\n1,2,five\n", {}),
    "blank rating": ("a.csv", b"user,item,rating\n1,2,\n", {}),
    "nan rating in an event log": ("a.csv", b"user,item,event,value\n1,2,view,nan\n", {}),
    "no user in any row": ("a.csv", b"user,item\n,2\nnull,3\n  ,4\n", {}),
    "no item in any row": ("a.csv", b"user,item\n1,\n2,NaN\n", {}),
    "mostly other widths": ("a.csv", b"user,item\n1,2\n1,2,3\n4\n", {}),
    "mapped to nothing": ("a.csv", GOOD, {"columns": {"user_id": "uid"}}),
    "unknown field": ("a.csv", GOOD, {"columns": {"who": "user"}}),
    "field switched off": ("a.csv", GOOD, {"columns": {"user_id": None}}),
    "position too high": ("a.csv", GOOD, {"columns": {"user_id": 0, "item_id": 9}}),
    "position negative": ("a.csv", GOOD, {"columns": {"user_id": 0, "item_id": -1}}),
    "position twice": ("a.csv", GOOD, {"columns": {"user_id": 0, "item_id": 0}}),
    "position and name": ("a.csv", GOOD, {"columns": {"user_id": 0, "item_id": "item"}}),
    "position of the user only": ("a.csv", GOOD, {"columns": {"user_id": 0}}),
}


def one_line(error: InputError) -> None:
    message = str(error)
    assert error.exit_code == 2
    assert message.startswith("`")
    assert " must " in message
    assert "got" in message
    assert message.isprintable(), repr(message)
    assert len(message) < 400


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, options = MALFORMED[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as caught:
        read_log(tmp_path / name, **options)
    one_line(caught.value)
    assert sorted(tmp_path.iterdir()) == before


SOURCES: dict[str, Callable[[], Any]] = {
    "empty frame": lambda: pd.DataFrame(),
    "frame without rows": lambda: pd.DataFrame({"user": [], "item": []}),
    "frame without items": lambda: pd.DataFrame({"user": [1]}),
    "frame with lists as ids": lambda: pd.DataFrame({"user": [[1]], "item": ["a"]}),
    "frame with missing ratings": lambda: pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [1.0, None]}),
    "frame with dates as ratings": lambda: pd.DataFrame({"user": ["1"], "item": ["1"], "rating": ["2020-01-01"]}),
    "number": lambda: 7,
    "none": lambda: None,
    "name with a NUL": lambda: "a\0b.csv",
}


@pytest.mark.parametrize("case", SOURCES)
def test_malformed_sources_are_refused_in_one_line(case: str) -> None:
    with pytest.raises(InputError) as caught:
        read_log(SOURCES[case]())
    one_line(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder") as caught:
        read_log(tmp_path)
    one_line(caught.value)


def test_the_message_says_what_was_found_and_how_to_choose(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'who', 'what', 'rating'"):
        read(tmp_path, b"who,what,rating\n1,2,3\n")
    with pytest.raises(InputError, match=r"'user', 'customer_id'; choose, for example columns=\{'user_id': 'user'\}"):
        read(tmp_path, b"user,customer_id,item\n1,2,3\n")
    with pytest.raises(InputError, match="'five' in row 2"):
        read(tmp_path, b"user,item,rating\n1,2,3\n1,3,five\n")


def test_a_choice_settles_what_is_ambiguous(tmp_path: Path) -> None:
    content = b"user,item,rating,quantity,date,ts\n1,2,3,4,2020-01-01,50\n"
    log = read(tmp_path, content, columns={"value": "quantity", "timestamp": None})
    assert log.frame["value"].tolist() == [4.0]
    assert log.frame["timestamp"].isna().all()


def test_a_log_does_not_depend_on_its_source_afterwards() -> None:
    frame = PLAIN.copy()
    log = read_log(frame)
    frame.loc[:, "user_id"] = "x"
    assert log.frame["user_id"].tolist() == ["u1", "u1", "u2"]


HOSTILE = st.binary(max_size=60) | st.text(alphabet='userit,;|:\t"\r\n 0179.-e\ufeff\xa0\u2028', max_size=80).map(
    str.encode
)


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from([b"", b"user,item,rating,ts\n", b"user\titem\tevent\n", b"\x1f\x8b"]), tail=HOSTILE)
def test_any_bytes_are_a_log_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(head + tail)
    try:
        log = read_log(path)
    except InputError as error:
        message = str(error)
    else:
        message = ""
        assert len(log.frame) > 0
        assert (log.frame["user_id"].str.strip() != "").all()
    assert message == "" or message.isprintable()
