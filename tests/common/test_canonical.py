import json
import math
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import MOST_LEVELS, canonical_json, digest, read_canonical

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(_SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": [None, True, 1.0]}, b'{"a":[null,true,1.0],"b":1}'),
        ({"é": "日本\n\x00"}, '{"é":"日本\\n\\u0000"}'.encode()),
        (("a", ("b",)), b'["a",["b"]]'),
        ([1e16, 0.1, -0.0, 5e-324, 1.7976931348623157e308], b"[1e+16,0.1,-0.0,5e-324,1.7976931348623157e+308]"),
        ([2**70, -1], b"[1180591620717411303424,-1]"),
        ({"a": 1, "B": 2, "é": 3, "😀": 4, "\uffff": 5}, '{"B":2,"a":1,"é":3,"\uffff":5,"😀":4}'.encode()),
        ({}, b"{}"),
        (np.float64(0.1), b"0.1"),
        (StrEnum("Mode", {"OFF": "off"}).OFF, b'"off"'),  # type: ignore[attr-defined]  # a functional enum
    ],
)
def test_one_value_has_these_bytes(value: object, data: bytes) -> None:
    assert canonical_json(value) == data
    assert canonical_json(read_canonical(data, most=2**20)) == data


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        {"a": {"b": math.nan}},
        {1: "a"},
        {None: 1},
        {True: 1},
        b"bytes",
        {1, 2},
        object(),
        np.int64(1),
        np.float32(1),
        "\ud800",
        {"\udfff": 1},
        [10**5000],
    ],
)
def test_what_json_would_rewrite_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(InputError, match=r"\A[^\n]*must be[^\n]*\Z"):
        canonical_json(value)


def test_a_value_nested_too_deeply_is_refused() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InputError, match="nested"):
        canonical_json(value)
    while value:  # free it level by level: the interpreter's own recursion is not the subject here
        value = value.pop()  # type: ignore[assignment]  # lists all the way down
    with pytest.raises(IntegrityError, match="canonical JSON"):
        read_canonical(b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), most=1000)
    circle: dict[str, object] = {}
    circle["itself"] = [circle]
    with pytest.raises(InputError, match="nested"):
        canonical_json(circle)
    circle["itself"] = circle
    with pytest.raises(InputError, match="nested"):
        canonical_json(circle)
    deepest = read_canonical(b"[" * MOST_LEVELS + b"]" * MOST_LEVELS, most=1000)
    assert canonical_json(deepest) == b"[" * MOST_LEVELS + b"]" * MOST_LEVELS
    with pytest.raises(IntegrityError):
        read_canonical(b"[" * 100_000 + b"]" * 100_000, most=2**20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b"[1e0]",
        b"[1.00]",
        b"[01]",
        b"NaN",
        b"[Infinity]",
        b'"\\u0041"',
        b'"\xff"',
        b'\xef\xbb\xbf"a"',
        '"a"'.encode("utf-16"),
        b"[1]\n",
        b'"\\ud800"',
        b"9" * 5000,
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"\A[^\n]*canonical JSON[^\n]*\Z"):
        read_canonical(data, most=2**20)


@given(_VALUES)
def test_reading_gives_the_value_back(value: object) -> None:
    data = canonical_json(value)
    assert read_canonical(data, most=2**20) == value
    assert json.loads(data) == value


@given(st.dictionaries(st.text(), _SCALARS, max_size=6), st.randoms(use_true_random=False))
def test_insertion_order_does_not_matter(value: dict[str, object], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]  # hypothesis' Random
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


def test_more_than_is_read_is_refused_before_it_is_taken_apart() -> None:
    assert read_canonical(b"[1]", most=3) == [1]
    with pytest.raises(IntegrityError, match="at most 2 bytes, got 3"):
        read_canonical(b"[1]", most=2)


def test_digest_is_sha256() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
