"""What of a device's reply is given to Flower to read."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from palate_common.records.protobuf import blob
from palate_server.flower.inbox import MOST_SMALL, has_reply_shape


def record(body: bytes) -> bytes:
    return f"ConfigRecord  {len(body)}".encode() + b"\0" + body


@pytest.mark.parametrize("value", [b"", b"x" * 2**17, 0, 7, -3])
def test_answers_of_ours_are_read(value: Any) -> None:
    own = ConfigRecord({"answer": value})
    assert has_reply_shape([own.deflate(), RecordDict({"palate": own}).deflate(), b"Message  2\0ab"])


@pytest.mark.parametrize(
    "other",
    [
        ConfigRecord({"a": 1, "b": 2}).deflate(),
        ConfigRecord({"a": [1, 2]}).deflate(),
        ConfigRecord({"a": "text"}).deflate(),
        record(blob(1, b"", always=True) * 1000),
        record(blob(1, blob(1, b"a") + blob(2, b"\x10\x02" * 1000))),
        record(b"\xff" * 100),
        ArrayRecord().deflate(),
        b"RecordDict  1\0" + b" " * MOST_SMALL,
        b"Message  1\0" + b" " * MOST_SMALL,
        b" " * 1000 + b"\0",
        b"",
    ],
)
def test_a_reply_of_another_shape_is_not_given_to_flower(other: bytes) -> None:
    assert not has_reply_shape([ConfigRecord({"answer": b"x"}).deflate(), other])
