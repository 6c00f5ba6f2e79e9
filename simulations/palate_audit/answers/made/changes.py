"""Changes: bytes that are almost those that they should be."""

from __future__ import annotations

from palate_audit.answers.dice import Dice


def altered(dice: Dice, data: bytes) -> bytes:
    """Bytes with one change at a place."""
    at, kind = dice.whole(0, max(0, len(data) - 1)), dice.whole(0, 5)
    one = bytes([data[at] ^ (1 << dice.whole(0, 7))]) if data else b""
    return (
        data[:at] + one + data[at + 1 :],
        data[:at],
        data[:at] + data[at + 1 :],
        data + dice.one_of((b"\n", b" ", b"\0", b"x")),
        data[:at] + dice.one_of((b" ", b"\n", b"0", b"\xff")) + data[at:],
        data[at:],
    )[kind]


def flipped(dice: Dice, data: bytes) -> bytes:
    """Bytes with one bit changed."""
    at = dice.whole(0, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1 << dice.whole(0, 7)]) + data[at + 1 :]


def resized(dice: Dice, data: bytes) -> bytes:
    """Some bytes too few or too many."""
    return dice.one_of((data[:-1], data + b"\0", data[: len(data) // 2], b"", data * 2, data[:7], data + bytes(64)))
