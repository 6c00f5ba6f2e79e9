"""What a coordinator and an edge say to each other is read whole, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import IntegrityError
from palate_server.edge import batches
from palate_server.edge.batches import Frame, pack, split, unpack

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=30)), max_size=9)
HEADS = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5))


@given(HEADS, FRAMES)
def test_a_batch_is_read_as_it_was_made(head: dict[str, object], frames: list[Frame]) -> None:
    assert unpack(pack(head, frames)) == (head, frames)


@given(FRAMES, st.data())
def test_of_a_batch_that_was_cut_nothing_is_read_but_whole_frames(frames: list[Frame], data: st.DataObject) -> None:
    whole = pack({"ask": "look"}, frames)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        head, found = unpack(cut)
    except IntegrityError:
        return
    assert (head, found) == ({"ask": "look"}, frames[: len(found)])


@given(st.binary(max_size=60) | st.tuples(HEADS, st.binary(max_size=20)).map(lambda each: pack(each[0]) + each[1]))
def test_other_bytes_are_a_batch_or_an_integrity_error(data: bytes) -> None:
    try:
        head, frames = unpack(data)
    except IntegrityError:
        return
    assert unpack(pack(head, frames)) == (head, frames)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04\0\0",
        b"\xff\xff\xff\xff",
        b"\x02\0\0\0[]",
        b"\x04\0\0\0null",
        b"\x01\0\0\0{",
        b"\x02\0\0\0\xff\xfe",
        b"\x02\0\0\0{}\x01\0\0\0",
        b"\x02\0\0\0{}\x01\0\0\0\xff\xff\xff\xff?",
        (200_000).to_bytes(4, "little") + b"[" * 200_000,
    ],
)
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="must have a head and whole frames"):
        unpack(data)


def test_frames_are_split_where_a_batch_would_be_larger_and_one_that_is_larger_itself_goes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MOST_BATCH", 10)
    sizes = [4, 6, 1, 11, 3, 3, 3, 3]
    found = list(split((device, bytes(size)) for device, size in enumerate(sizes)))
    assert [[len(data) for _, data in each] for each in found] == [[4, 6], [1], [11], [3, 3, 3], [3]]
    assert [device for each in found for device, _ in each] == list(range(len(sizes)))
    assert list(split([])) == [[]], "an exchange is begun with none, too"
