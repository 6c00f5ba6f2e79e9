"""Protocol Buffers' wire format, as far as Flower's Fleet messages need it.

A message is a sequence of fields, each a number and a varint, eight bytes, or a length and bytes; source:
https://protobuf.dev/programming-guides/encoding/. These few lines replace a package whose version an app may not be
free to choose.

    >>> message = uint(1, 300) + text(2, "palate") + double(7, 0.5)
    >>> fields = read(message)
    >>> last_uint(fields, 1), last_text(fields, 2), as_double(fields[7][0])
    (300, 'palate', 0.5)

Reading copies nothing: bytes are views of the message that they are in.
"""

from __future__ import annotations

import struct

from palate_core.errors import IntegrityError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_WORD = 2**64
MOST_FIELDS = 2**12
"""Most fields of a message that is read: a field of two bytes takes thirty times as much memory."""

Value = int | memoryview
Fields = dict[int, list[Value]]
"""Field number -> its values, in order: a varint or little-endian bytes as int, everything else as a view."""


def uint(number: int, value: int, *, always: bool = False) -> bytes:
    """Encode an unsigned field; zero is left out unless `always`."""
    return _key(number, _VARINT) + _varint(value) if value or always else b""


def double(number: int, value: float) -> bytes:
    """Encode a double; zero is left out."""
    return _key(number, _EIGHT) + struct.pack("<d", value) if value else b""


def blob(number: int, value: bytes, *, always: bool = False) -> bytes:
    """Encode bytes or an embedded message; empty ones are left out unless `always`."""
    return _key(number, _BYTES) + _varint(len(value)) + value if value or always else b""


def text(number: int, value: str) -> bytes:
    """Encode a string; an empty one is left out."""
    return blob(number, value.encode())


def zigzag(value: int) -> int:
    """A signed number as the unsigned one that `sint64` carries."""
    return (value << 1) ^ (value >> 63)


def as_signed(value: int) -> int:
    """The signed number of a `sint64`."""
    return (value >> 1) ^ -(value & 1)


def as_double(value: Value) -> float:
    """The double of eight bytes that `read` gave as an int.

    Raises:
        IntegrityError: the field is of another kind.
    """
    if not isinstance(value, int):
        raise IntegrityError("a double must be eight bytes, got a string")
    return float(struct.unpack("<d", value.to_bytes(8, "little"))[0])


def read(data: bytes | memoryview, *, most: int = MOST_FIELDS) -> Fields:
    """The fields of a message.

    Args:
        data: the message.
        most: fields that it may have.

    Raises:
        IntegrityError: not a message: cut off, too long a number, too many fields, or an obsolete kind of field.
    """
    data, fields = memoryview(data), Fields()
    place = count = 0
    while place < len(data):
        count += 1
        if count > most:
            raise IntegrityError(f"a message must have at most {most} fields, got more")
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        value: Value
        if kind == _VARINT:
            value, place = _read_varint(data, place)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
            value, place = int.from_bytes(_cut(data, place, size), "little"), place + size
        elif kind == _BYTES:
            size, place = _read_varint(data, place)
            value, place = _cut(data, place, size), place + size
        else:
            raise IntegrityError(f"a message must have fields of known kinds, got kind {kind}")
        if number == 0:
            raise IntegrityError("a message's fields must have numbers from 1, got 0")
        fields.setdefault(number, []).append(value)
    return fields


def last_uint(fields: Fields, number: int) -> int:
    """The number in a field, 0 without it; of several the last counts.

    Raises:
        IntegrityError: the field is of another kind.
    """
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise IntegrityError(f"field {number} must be a number, got bytes")
    return value


def last_bytes(fields: Fields, number: int) -> memoryview:
    """The bytes in a field, none without it; of several the last count.

    Raises:
        IntegrityError: the field is of another kind.
    """
    value = fields.get(number, [memoryview(b"")])[-1]
    if isinstance(value, int):
        raise IntegrityError(f"field {number} must be bytes, got a number")
    return value


def all_bytes(fields: Fields, number: int) -> list[memoryview]:
    """The bytes in a field that may be repeated; numbers in it are ignored."""
    return [value for value in fields.get(number, []) if not isinstance(value, int)]


def last_text(fields: Fields, number: int) -> str:
    """The string in a field, empty without it.

    Raises:
        IntegrityError: the field is of another kind, or isn't UTF-8.
    """
    try:
        return bytes(last_bytes(fields, number)).decode()
    except UnicodeDecodeError:
        raise IntegrityError(f"field {number} must be UTF-8, got other bytes") from None


def _key(number: int, kind: int) -> bytes:
    """The key before a field: its number and kind."""
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    """Encode a number: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """Decode a number: its value, and the place after it."""
    value = 0
    for index, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value % _WORD, place + index + 1
    raise IntegrityError("a message's numbers must end within ten bytes, got one that doesn't")


def _cut(data: memoryview, place: int, size: int) -> memoryview:
    """The next `size` bytes; refuse a message that has fewer."""
    if size > len(data) - place:
        raise IntegrityError("a message must be whole, got one that was cut off")
    return data[place : place + size]
