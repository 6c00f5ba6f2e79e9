"""Values: canonical JSON, protocol buffers, and the entries of a ledger."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import plain, tell_result
from palate_audit.answers.seam import Seam
from palate_common.records import protobuf
from palate_core.log import canonical
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.entries import entry_from
from palate_core.log.notes import COSIGNATURE, ED25519, VerifierKey

_LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**53 + 1, -(2**63), 10**30, 0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, 1e16, 1e-7, -2.5e-9,
    "", "a", "é", "\u2028", "\x00\x1f", '"\\/', "\U0001f600", "\uffff", "zz", ED25519, np.float64(0.25),
)  # fmt: skip


_ODD: tuple[Any, ...] = (
    float("nan"), float("inf"), "\ud800", b"bytes", {1}, object, 10**5000, np.int64(3), {1: 2}, {None: 1}, {True: 0},
    {"\udfff": 1}, {"a": {2.0: 3}}, [[b""]], {"a": [{"b": {3}}]},
)  # fmt: skip


_SPELLINGS = (
    b'{"a":1,"a":1}', b'{"b":1,"a":2}', b'{"a":1,"b":2}', b"[1e0]", b"[1E2]", b"[1.00]", b"[1.0]", b"[NaN]",
    b"[-Infinity]",
    b'["\\u0061"]', b'["\\ud800"]', b'["\xc3\xa9"]', b'["\\u00e9"]', b"[ 1]", b"[1]\n", b"", b"\xff", b"[-0]",
    b"[-0.0]",
    b"1", b"nul", b"null", b"[" * 64 + b"]" * 64, b"[" * 65 + b"]" * 65, b"[" * 70 + b"]" * 70,
    b"[" + b"[]," * 66 + b"[]]",
    b'"' + b"[{" * 40 + b'"', b"[" * 2000, b'{"a":' * 65 + b"1" + b"}" * 65, b"9" * 5000, b"[1e400]",
    b'{"\xf0\x90\x80\x80":1,"\xef\xbf\xbf":2}',
    b'{"\xef\xbf\xbf":2,"\xf0\x90\x80\x80":1}', b"\xef\xbb\xbf1",
)  # fmt: skip


def _value(dice: Dice, levels: int) -> Any:
    """A value of JSON, or seldom something else."""
    if dice.chance(0.03):
        return dice.one_of(_ODD)
    if not levels or dice.chance(0.4):
        return dice.one_of(_LEAVES)
    items = [_value(dice, levels - 1) for _ in range(dice.whole(0, 4))]
    if dice.chance(0.5):
        return dice.one_of((list, tuple))(items)
    return {dice.one_of(("a", "b", "Z", "", "é", "\uffff", "\U00010000", "aa")): each for each in items}


def _canonical(dice: Dice, answer: CaseAnswer) -> None:
    """Values as bytes, and bytes as values."""
    data = tell_result(answer, canonical_json, _value(dice, 4)) or b"[0]"
    for change in (-1, 0, 1):
        tell_result(answer, read_canonical, data, most=len(data) + change)
    for spelled in (*(altered(dice, data) for _ in range(4)), *(dice.one_of(_SPELLINGS) for _ in range(6))):
        tell_result(answer, read_canonical, spelled, most=10**6)
    tell_result(answer, canonical_json, dice.one_of(_ODD))
    tell_result(answer, canonical_json, {"a": [dice.one_of(_ODD)]})
    deep: Any = dice.one_of((1, [], {}, (), b"", {"a": 1}))
    for level in range(levels := dice.whole(62, 66)):
        deep = dice.one_of(([deep], (deep,), {"a": deep}, {"b": 1, "a": deep}, [0, deep, 1]))
        if level >= levels - 4:
            tell_result(answer, canonical_json, deep)
    answer.tell(canonical.digest(data), canonical.digest(memoryview(data)))


_NUMBERS = (0, 1, 2, 127, 128, 129, 255, 300, 16383, 16384, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70 - 1)


def _field(dice: Dice) -> bytes:
    """A field of a message, as it is encoded or by hand."""
    number, kind = dice.one_of((1, 2, 3, 15, 16, 2047, 2048)), dice.whole(0, 7)
    always, data = dice.chance(0.5), dice.bytes(dice.one_of((0, 1, 2, 127, 128, 200)))
    if kind == 0:
        return protobuf.uint(number, dice.one_of(_NUMBERS), always=always)
    if kind == 1:
        return protobuf.double(number, dice.one_of((0.0, -0.0, 1.5, -2.0, float("inf"))))
    if kind == 2:
        return protobuf.blob(number, data, always=always)
    if kind == 3:
        return protobuf.text(number, dice.one_of(("", "palate", "é\0")))
    if kind == 4:
        return protobuf.blob(number, protobuf.uint(1, 5) + protobuf.text(2, "in"), always=always)
    if kind == 5:
        return protobuf.blob(number, dice.one_of((b"\xff", b"ok")), always=True)
    if kind == 6:
        return bytes([dice.one_of((8, 16)) | 5]) + dice.bytes(4)
    return dice.one_of((
        bytes([dice.whole(0, 127)]) + b"\x01", b"\x0a\x05ab", b"\x0a\x02ab", b"\x08" + b"\xff" * 9 + b"\x01",
        b"\x08" + b"\xff" * 9 + b"\x7f", b"\x08" + b"\x80" * 10 + b"\x01", b"\x08\x80\x00", b"\x0a\xff",
        b"\x09" + dice.bytes(7),
    ))  # fmt: skip


def _messages(dice: Dice, answer: CaseAnswer) -> None:
    """Fields there and back, cut off, too many, of other kinds."""
    parts = [_field(dice) for _ in range(dice.one_of((0, 1, 2, 3, 5, 9)))]
    message = b"".join(parts)
    answer.tell(message)
    for data in (message, memoryview(message), altered(dice, message), b"".join(dice.shuffled(parts)), message[:-1]):
        found = tell_result(answer, protobuf.read, data)
        for number in (*(found or {}), 99):
            for call in (protobuf.last_uint, protobuf.last_bytes, protobuf.all_bytes, protobuf.last_text):
                tell_result(answer, call, found or {}, number)
        tell_result(answer, protobuf.as_double, 2**64)
        for value in [values[-1] for values in (found or {}).values()][:2]:
            tell_result(answer, protobuf.as_double, value)
    for value, always in ((0, False), (0, True), (1, False), (5, True)):
        answer.tell(protobuf.uint(value + 1, value, always=always), protobuf.blob(1, b"x" * value, always=always))
    many = protobuf.uint(1, 3) * 3
    for most in (2, 3, 4):
        tell_result(answer, protobuf.read, many, most=most)
    if dice.chance(0.2):
        for count in (protobuf.MOST_FIELDS, protobuf.MOST_FIELDS + 1):
            answer.tell(len(tell_result(CaseAnswer(), protobuf.read, b"\x08\x01" * count) or ()))
    signed = dice.one_of((0, 1, -1, 2, -2, 63, -64, 2**62, -(2**62), 2**63 - 1, -(2**63)))
    answer.tell(protobuf.zigzag(signed), protobuf.as_signed(protobuf.zigzag(signed)), protobuf.as_signed(abs(signed)))


_FIELDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("population", {"population": "readers", "created": "2025-01-01"}),
    ("population", {"population": "readers", "created": "2025-01-01", "unit": "event"}),
    ("budget", {"mu2": 1.0, "epsilon": 4.5, "delta": 1e-5}),
    ("open", {"run": "a", "facts": {}}),
    ("charge", {"run": "a", "round": 0, "attempt": 1, "plan_hash": HASH, "mu2": 0.25, "run_limit": None,
    "facts": {"spent": 0.25}}),
    ("charge", {"run": "a", "round": 3, "attempt": 0, "plan_hash": HASH, "mu2": 0.25, "run_limit": 0.5, "facts": {}}),
    ("seal", {"run": "a", "round": 0, "attempt": 1, "release_hash": HASH}),
    ("close", {"run": "a", "facts": {"created": "x"}}),
    ("audit", {"run": "a", "facts": {}}),
    ("publish", {"run": "a", "model_hash": HASH}),
    ("publish", {"model_hash": HASH, "manifest": "cd" * 32}),
    ("publish", {"run": "a", "model_hash": HASH, "manifest": "cd" * 32}),
    ("lost", {}),
    ("restored", {"base": 3, "spent": 0.5, "witness_size": 4, "witness_root": HASH}),
    ("restored", {"base": 1, "spent": 0.0, "witness_size": 4, "witness_root": HASH, "created": "2025", "epoch": 1,
    "cosigned": "note"}),
    ("witnesses", {"keys": [str(VerifierKey.of(f"w{n}", release_key(n), COSIGNATURE)) for n in (1, 2)], "needed": 1}),
    ("witnesses", {"keys": [], "needed": 0}),
    ("handover", {"old_key": HASH, "new_key": "cd" * 32, "old_signature": "", "new_signature": "0f" * 64}),
    ("handover", {"old_key": HASH, "new_key": "cd" * 32, "old_signature": "0f" * 64, "new_signature": "0f" * 64}),
)  # fmt: skip


_ANYTHING: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.0, 1.0, 0.5, -0.5, float("nan"), float("inf"), 2**31 - 1, 2**31, 33, 10_000,
    10_001, "", "x", "x" * 200,
    "x" * 201, HASH, HASH.upper(), HASH + "\n", HASH[:-1], "0f" * 64, "0f" * 63, [], ["x"], [1], {},
    {"a": float("nan")}, {"b": b""}, b"x", "x" * 2**14,
    "x" * 2**14 + "x", "event", "user", "charge",
)  # fmt: skip


def _limits() -> tuple[dict[str, Any], ...]:
    """Entries at their limits, and beyond."""
    restored = {"kind": "restored", "seq": 5, "base": 3, "spent": 0.5, "witness_size": 4, "witness_root": HASH}
    keys = [str(VerifierKey(f"n{place}", COSIGNATURE, bytes([place]) * 32)) for place in range(33)]
    return (
        {}, {"kind": "lost", "seq": -1}, {"kind": "open", "seq": 0, "run": "a", "facts": {"a": [1, {"b": None}]}},
        {**restored, "epoch": 1}, {**restored, "cosigned": "x"}, {"kind": "publish", "seq": 1, "model_hash": HASH},
        {**restored, "epoch": 10_000, "cosigned": "x" * 2**14}, {**restored, "epoch": 10_001, "cosigned": "x"},
        {**restored, "epoch": 1, "cosigned": "x" * (2**14 + 1)}, {**restored, "epoch": 0, "cosigned": "x"},
        *({"kind": "witnesses", "seq": 1, "keys": keys[:count], "needed": count} for count in (32, 33)),
        {"kind": "witnesses", "seq": 1, "keys": [], "needed": 1},
        {"kind": "witnesses", "seq": 1, "keys": keys[:2], "needed": 0},
        *({"kind": "close", "seq": 1, "run": "x" * count, "facts": {}} for count in (0, 1, 200, 201)),
    )  # fmt: skip


_LIMITS = _limits()


def _entries(dice: Dice, answer: CaseAnswer) -> None:
    """Entries of a ledger: each kind, with fields that lack, are more, or are others."""
    for _ in range(8):
        kind, fields = dice.one_of(_FIELDS)
        whole = {"kind": kind, "seq": dice.one_of((0, 5, 2**40)), **fields}
        name = dice.one_of(sorted(whole))
        lacks = {each: whole[each] for each in whole if each != name}
        tries: list[dict[str, Any]] = [whole, lacks, {**whole, "extra": 1}, {**whole, "kind": dice.one_of(_FIELDS)[0]}]
        for each in (*tries, *({**whole, name: value} for value in dice.some_of(_ANYTHING))):
            found = tell_result(answer, entry_from, each)
            if found is not None:
                tell_result(answer, found.leaf)
                answer.tell(plain(found.body), found.kind)
    for value in _LIMITS:
        tell_result(answer, entry_from, value)


SEAMS = (
    Seam("canonical JSON: values, spellings and nesting", _canonical, 24),
    Seam("protocol buffers: fields there and back", _messages, 18),
    Seam("entries: each kind with other fields", _entries, 18),
)
