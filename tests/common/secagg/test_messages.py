"""Records: what is written is read back, and everything else is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import IntegrityError
from palate_core.masks.messages import (
    BOX_BYTES,
    Advert,
    BoxReceipt,
    CheckRequest,
    Commit,
    Complaint,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    UnmaskRequest,
    pack_flags,
    read,
    split_pieces,
    unpack_flags,
    write,
)

CONTEXT = bytes(range(32))


def advert(committed: bool) -> Advert:
    return Advert(os.urandom(32) if committed else b"", *(os.urandom(size) for size in (32, 32, 32, 64)))


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("answer", [False, True])
def test_a_record_is_read_only_as_what_it_is(step: Step, answer: bool) -> None:
    record = write(Header(step, 513, 70_000, CONTEXT), b"body", answer=answer)
    right = {"step": step, "device": 70_000, "context": CONTEXT, "answer": answer}
    assert read(record, **right) == (513, b"body")
    others = [{"step": other} for other in Step if other != step]
    for wrong in [*others, {"device": 7}, {"context": bytes(32)}, {"answer": not answer}]:
        with pytest.raises(IntegrityError, match="a record must be"):
            read(record, **{**right, **wrong})
    for other in (1, 2, 4):
        with pytest.raises(IntegrityError, match=f"version 3, got {other}: device and server must be of one"):
            read(bytes([other]) + record[1:], **right)
    for end in range(40):
        with pytest.raises(IntegrityError, match="a header of 40 bytes"):
            read(record[:end], **right)


def test_a_receipt_names_a_root_and_slots_and_is_nothing_but_that_and_a_signature() -> None:
    accused = np.arange(11) % 3 == 0
    body = BoxReceipt(CONTEXT, accused, bytes(64)).encode()
    assert len(body) == BoxReceipt.length(11) == 32 + 2 + 64
    assert BoxReceipt.decode(body, k=11).accused.tolist() == accused.tolist()
    for wrong in (body[:-1], body + b"\0", body[:33] + b"\x08" + body[34:]):
        with pytest.raises(IntegrityError):
            BoxReceipt.decode(wrong, k=11)


def test_an_open_request_holds_whole_complaints_and_not_more_than_may_be_answered() -> None:
    receipt = BoxReceipt(CONTEXT, np.arange(5) == 2, bytes(64))
    complaints = tuple(Complaint(device, receipt, (bytes([device]) * 32,) * 3) for device in range(3))
    body = b"".join(each.encode() for each in complaints)
    found = Complaint.decode_all(body, k=5, depth=3, most=3)
    assert [(each.device, each.path) for each in found] == [(each.device, each.path) for each in complaints]
    for wrong, most in ((body, 2), (b"", 3), (body[:-1], 3), (body + b"\0", 3)):
        with pytest.raises(IntegrityError):
            Complaint.decode_all(wrong, k=5, depth=3, most=most)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_bitmap_has_one_spelling(members: list[bool]) -> None:
    flags = np.array(members)
    data = pack_flags(flags)
    assert unpack_flags(data, len(flags)).tolist() == members
    for wrong in (data + b"\0", data[:-1]):
        with pytest.raises(IntegrityError):
            unpack_flags(wrong, len(flags))
    for bit in range(len(flags) % 8 or 8, 8):
        with pytest.raises(IntegrityError, match="no bit set behind the last"):
            unpack_flags(data[:-1] + bytes([data[-1] | 1 << bit]), len(flags))


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_bodies_are_read_back_and_no_byte_may_be_missing_or_more(committed: bool, n: int) -> None:
    entries = tuple((i, os.urandom(32), os.urandom(32)) for i in range(n)) if committed else ()
    share = ShareRequest(entries, tuple((i, advert(committed)) for i in range(n)))
    u1 = np.arange(n) % 2 == 0
    check, masked = CheckRequest(u1, tuple(os.urandom(BOX_BYTES) for _ in range(n))), InputRequest(u1, os.urandom(64))
    unmask = UnmaskRequest(u1, tuple(os.urandom(64) for _ in range(int(u1.sum()))), tuple([os.urandom(64)] * (n // 2)))
    commit, sent = Commit(os.urandom(32), os.urandom(64)), advert(committed)
    for value, decode in (
        (share, lambda body: ShareRequest.decode(body, committed=committed, n_max=n)),
        (check, lambda body: CheckRequest.decode(body, n=n)),
        (masked, lambda body: InputRequest.decode(body, n=n)),
        (unmask, lambda body: UnmaskRequest.decode(body, n=n)),
        (commit, Commit.decode),
        (sent, lambda body: Advert.decode(body, committed=committed)),
    ):
        body = value.encode()
        assert decode(body).encode() == body
        for wrong in (body + b"\0", body[:-1], b""):
            with pytest.raises(IntegrityError):
                decode(wrong)


@pytest.mark.parametrize("counts", [(4, 3), (0, 4), (2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (1, 0)])
def test_counts_are_checked_before_they_are_used(counts: tuple[int, int]) -> None:
    with pytest.raises(IntegrityError):
        ShareRequest.decode(b"".join(c.to_bytes(4, "little") for c in counts) + bytes(100), committed=False, n_max=3)


def test_no_request_has_more_boxes_or_signatures_than_there_are_members() -> None:
    check = CheckRequest(np.ones(3, bool), (bytes(BOX_BYTES),) * 4)
    unmask = UnmaskRequest(np.ones(3, bool), (bytes(64),) * 3, (bytes(64),))
    with pytest.raises(IntegrityError, match="at most 3 boxes"):
        CheckRequest.decode(check.encode(), n=3)
    with pytest.raises(IntegrityError, match="at most 3 signatures"):
        UnmaskRequest.decode(unmask.encode(), n=3)


def test_a_list_of_survivors_has_its_whole_signature() -> None:
    body = InputRequest(np.ones(3, bool), bytes(64)).encode()
    assert InputRequest.decode(body, n=3).signature == bytes(64)
    for wrong in (body[:-1], body[:1], b"", body + b"1"):
        with pytest.raises(IntegrityError, match="an input request must have 65 bytes"):
            InputRequest.decode(wrong, n=3)


def test_pieces_are_whole() -> None:
    assert split_pieces("boxes", b"abcd", 2) == (b"ab", b"cd")
    for body, count in ((b"abc", None), (b"abcd", 3), (b"", 1)):
        with pytest.raises(IntegrityError, match="boxes must"):
            split_pieces("boxes", body, 2, count)


@given(st.binary(max_size=500), st.integers(1, 40), st.booleans())
def test_other_bytes_are_refused_or_have_this_spelling(body: bytes, n: int, committed: bool) -> None:
    for decode in (
        lambda: ShareRequest.decode(body, committed=committed, n_max=n),
        lambda: CheckRequest.decode(body, n=n),
        lambda: InputRequest.decode(body, n=n),
        lambda: BoxReceipt.decode(body, k=n),
        lambda: UnmaskRequest.decode(body, n=n),
        lambda: Commit.decode(body),
        lambda: Advert.decode(body, committed=committed),
    ):
        try:
            assert decode().encode() == body
        except IntegrityError:
            continue
