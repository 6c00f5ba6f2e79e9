r"""Messages: every record that a device and the server exchange in one masked attempt, as strict bytes.

    commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask

A record is a header of 40 bytes and a body. Integers are little endian:

    u8 version, u8 kind (the step; + 128 from a device), u16 toss, u32 device, 32 bytes context, body

Lengths follow from what the reader already knows and are checked before anything is used; a byte too few or too many,
another version, step, device or attempt, and bits set where a bitmap has no member are refused.

    >>> record = write(Header(Step.CONSISTENCY, 0, 7, bytes(32)), b"\x05", answer=True)
    >>> read(record, step=Step.CONSISTENCY, device=7, context=bytes(32), answer=True)
    (0, b'\x05')
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from palate_core.errors import IntegrityError

Flags = npt.NDArray[np.bool_]
Data = TypeVar("Data", bytes, memoryview)

VERSION = 3
HASH, KEY, SIGNATURE, SHARE, DIGEST, SALT = 32, 32, 64, 32, 16, 16
SEALED = 2 * SHARE + 16
"""Bytes of a sealed pair of shares: of b, of the mask key, and the tag."""
BOX_BODY = KEY + SEALED + 2 * DIGEST
"""Bytes of what a box's sender signs: the key it was made with, the sealed pair, a commitment to each share."""
BOX_BYTES = BOX_BODY + SIGNATURE
"""Bytes of a box from one neighbour to another."""
PIECE = 1 + SHARE + SALT
"""Bytes of a share that is given: which secret it is of, the share, and the salt of its commitment."""
OPENING = KEY + SIGNATURE
"""Bytes of a box's opening: the private half of the key it was made with, and its sender's signature."""
ENTRY = 4 + 2 * HASH
"""Bytes of a line of the cohort list: id, commitment, nonce."""

_HEADER = struct.Struct("<BBHI32s")
HEADER = _HEADER.size
"""Bytes before the body."""
_ANSWER = 128


class Step(IntEnum):
    """The exchanges of an attempt, in order: no commit without a ring, and nothing to open without a complaint."""

    COMMIT = 1
    ADVERTISE = 2
    SHARE = 3
    CHECK = 4
    OPEN = 5
    INPUT = 6
    CONSISTENCY = 7
    UNMASK = 8


class Secret(IntEnum):
    """Which of its owner's two secrets a share is of."""

    SELF_MASK = 0
    MASK_KEY = 1


@dataclass(frozen=True)
class Header:
    """Which exchange of which attempt a record belongs to, and which device it is for or from."""

    step: Step
    toss: int
    device: int
    context: bytes


def write(header: Header, body: bytes, *, answer: bool) -> bytes:
    """Encode a record: the server's, or a device's answer."""
    kind = header.step + _ANSWER * answer
    return _HEADER.pack(VERSION, kind, header.toss, header.device, header.context) + body


def read(data: Data, *, step: Step, device: int, context: bytes, answer: bool) -> tuple[int, Data]:
    """Check a record's step, device and attempt: its toss and its body. The body of a view is a view.

    Raises:
        IntegrityError: too short, of another version, step, device or attempt.
    """
    if len(data) < HEADER:
        raise IntegrityError(f"a record must have a header of {HEADER} bytes, got {len(data)} bytes")
    version, kind, toss, who, attempt = _HEADER.unpack_from(data)
    if version != VERSION:
        raise IntegrityError(f"a record must be of version {VERSION}, got {version}: device and server must be of one")
    if kind != step + _ANSWER * answer:
        raise IntegrityError(f"a record must be of the step {step.name.lower()}, got kind {kind}")
    if who != device:
        raise IntegrityError(f"a record must be for or from device {device}, got {who}")
    if attempt != context:
        raise IntegrityError("a record must be of this attempt, got another's")
    return toss, data[HEADER:]


def step_of(data: bytes) -> Step:
    """The step that a server's record names; `read` checks everything else.

    Raises:
        IntegrityError: no such step.
    """
    try:
        return Step(data[1])
    except (IndexError, ValueError):
        raise IntegrityError(f"a request must be of a step, got {data[:2]!r}") from None


def pack_flags(flags: Flags) -> bytes:
    """Encode flags as a bitmap, the first member in the lowest bit, ceil(n / 8) bytes."""
    return np.packbits(flags, bitorder="little").tobytes()


def unpack_flags(data: bytes, n: int) -> Flags:
    """Decode a bitmap of `n` members: bool [n].

    Raises:
        IntegrityError: another length, or a bit set behind the last member.
    """
    _exactly("a bitmap", data, -(-n // 8))
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").view(np.bool_)
    if bits[n:].any():
        raise IntegrityError(f"a bitmap of {n} members must have no bit set behind the last, got one")
    return bits[:n]


@dataclass(frozen=True)
class Commit:
    """A device's commitment to its nonce, signed."""

    commitment: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return self.commitment + self.signature

    @classmethod
    def decode(cls, body: bytes) -> Commit:
        """Decode a body."""
        _exactly("a commit", body, HASH + SIGNATURE)
        return cls(body[:HASH], body[HASH:])


@dataclass(frozen=True)
class Advert:
    """A device's nonce (empty without a ring), its two public keys and SHA-256(b), signed."""

    nonce: bytes
    share_key: bytes
    mask_key: bytes
    self_digest: bytes
    signature: bytes

    @property
    def body(self) -> bytes:
        """The signed fields."""
        return self.nonce + self.share_key + self.mask_key + self.self_digest

    def encode(self) -> bytes:
        """Encode the body. After an id, it is also a line of adverts in a share request."""
        return self.body + self.signature

    @classmethod
    def length(cls, *, committed: bool) -> int:
        """Bytes of an encoded advert."""
        return (HASH if committed else 0) + 2 * KEY + HASH + SIGNATURE

    @classmethod
    def decode(cls, body: bytes, *, committed: bool) -> Advert:
        """Decode a body."""
        _exactly("an advert", body, cls.length(committed=committed))
        nonce, rest = (body[:HASH], body[HASH:]) if committed else (b"", body)
        return cls(nonce, rest[:32], rest[32:64], rest[64:96], rest[96:])


@dataclass(frozen=True)
class ShareRequest:
    """The cohort list (empty without a ring), and adverts: those of the neighbours, or without a ring of all.

    Attributes:
        entries: (id, commitment, nonce) of the whole cohort.
        adverts: (id, advert).
    """

    entries: tuple[tuple[int, bytes, bytes], ...]
    adverts: tuple[tuple[int, Advert], ...]

    def encode(self) -> bytes:
        """Encode the body."""
        adverts = b"".join(encode_advert(*advert) for advert in self.adverts)
        return share_body(encode_entries(self.entries), adverts, len(self.adverts))

    @classmethod
    def decode(cls, body: bytes, *, committed: bool, n_max: int) -> ShareRequest:
        """Decode a body that may name at most `n_max` devices."""
        if len(body) < 8:
            raise IntegrityError(f"a share request must start with two counts, got {len(body)} bytes")
        n, k = struct.unpack_from("<II", body)
        if n > n_max or k > n_max or bool(n) != committed:
            raise IntegrityError(f"a share request must name at most {n_max} devices, got {n} entries and {k} adverts")
        width = 4 + Advert.length(committed=committed)
        _exactly("a share request", body, 8 + n * ENTRY + k * width)
        lines, rest = body[8 : 8 + n * ENTRY], body[8 + n * ENTRY :]
        entries = tuple((_id(line), line[4:36], line[36:]) for line in _pieces(lines, ENTRY))
        adverts = tuple((_id(line), Advert.decode(line[4:], committed=committed)) for line in _pieces(rest, width))
        return cls(entries, adverts)


def encode_entries(entries: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """Encode the cohort list."""
    return b"".join(struct.pack("<I", device) + commitment + nonce for device, commitment, nonce in entries)


def encode_commitments(entries: Sequence[tuple[int, bytes]]) -> bytes:
    """The bytes that the root of a committed cohort hashes."""
    return b"".join(struct.pack("<I", device) + commitment for device, commitment in entries)


def encode_advert(device: int, advert: Advert) -> bytes:
    """Encode one line of adverts."""
    return struct.pack("<I", device) + advert.encode()


def share_body(entries: bytes, adverts: bytes, count: int) -> bytes:
    """The body of a share request from lines already encoded: the server writes each line once."""
    return b"".join((struct.pack("<II", len(entries) // ENTRY, count), entries, adverts))


@dataclass(frozen=True)
class CheckRequest:
    """Who has shared, and the boxes of the receiver's neighbours among them."""

    shared: Flags
    boxes: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Encode the body."""
        return pack_flags(self.shared) + b"".join(self.boxes)

    @classmethod
    def decode(cls, body: bytes, *, n: int) -> CheckRequest:
        """Decode a body for a cohort of `n`."""
        head = -(-n // 8)
        if not head <= len(body) <= head + n * BOX_BYTES:
            raise IntegrityError(f"a check request must have {head} bytes and at most {n} boxes, got {len(body)} bytes")
        return cls(unpack_flags(body[:head], n), split_pieces("boxes", body[head:], BOX_BYTES))


@dataclass(frozen=True)
class BoxReceipt:
    """What a device says of the boxes that it was handed: which they are, and which of them are none.

    Attributes:
        root: of the tree of the boxes, by slot (`palate_core.masks.boxes.tree_of`).
        accused: by slot, whether a box can't be opened, or holds other shares than were committed to: bool [k].
        signature: of the device.
    """

    root: bytes
    accused: Flags
    signature: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return self.root + pack_flags(self.accused) + self.signature

    @classmethod
    def length(cls, k: int) -> int:
        """Bytes of an encoded receipt of a device with `k` neighbours."""
        return HASH + -(-k // 8) + SIGNATURE

    @classmethod
    def decode(cls, body: bytes, *, k: int) -> BoxReceipt:
        """Decode a body of a device with `k` neighbours."""
        _exactly("a receipt", body, cls.length(k))
        return cls(body[:HASH], unpack_flags(body[HASH:-SIGNATURE], k), body[-SIGNATURE:])


@dataclass(frozen=True)
class Complaint:
    """A receipt in which a device complains of the receiver's box, and the way from its root to that box.

    Attributes:
        device: the device that complains.
        receipt: signed by it.
        path: hashes, from the box upwards.
    """

    device: int
    receipt: BoxReceipt
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Encode one complaint of an open request."""
        return struct.pack("<I", self.device) + self.receipt.encode() + b"".join(self.path)

    @classmethod
    def decode_all(cls, body: bytes, *, k: int, depth: int, most: int) -> tuple[Complaint, ...]:
        """Decode the body of an open request: one to `most` complaints."""
        length, head = BoxReceipt.length(k), 4
        width = head + length + depth * HASH
        if not 0 < len(body) <= most * width:
            raise IntegrityError(f"an open request must have 1 to {most} complaints, got {len(body)} bytes")
        found = []
        for each in split_pieces("complaints", body, width):
            receipt = BoxReceipt.decode(each[head : head + length], k=k)
            found.append(cls(_id(each), receipt, tuple(_pieces(each[head + length :], HASH))))
        return tuple(found)


@dataclass(frozen=True)
class InputRequest:
    """Who takes part in the sum (U1), signed by the server."""

    u1: Flags
    signature: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return pack_flags(self.u1) + self.signature

    @classmethod
    def decode(cls, body: bytes, *, n: int) -> InputRequest:
        """Decode a body for a cohort of `n`."""
        head = -(-n // 8)
        _exactly("an input request", body, head + SIGNATURE)
        return cls(unpack_flags(body[:head], n), body[head:])


@dataclass(frozen=True)
class UnmaskRequest:
    """The signatures on the list of survivors, and those that tie the receiver's other surviving neighbours to U1.

    Attributes:
        signers: the members who have signed the survivors, the receiver too: bool [n].
        signatures: theirs, on U1 and the survivors.
        others: signatures on U1 alone, sent with the vectors, of surviving neighbours that are no signers, in order.
    """

    signers: Flags
    signatures: tuple[bytes, ...]
    others: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Encode the body."""
        return pack_flags(self.signers) + b"".join(self.signatures + self.others)

    @classmethod
    def decode(cls, body: bytes, *, n: int) -> UnmaskRequest:
        """Decode a body for a cohort of `n`."""
        head = -(-n // 8)
        signers = unpack_flags(body[:head], n)
        if len(body) > head + n * SIGNATURE:
            raise IntegrityError(f"an unmask request must have at most {n} signatures, got {len(body)} bytes")
        signatures, count = split_pieces("signatures", body[head:], SIGNATURE), int(signers.sum())
        if not count <= len(signatures) <= n:
            raise IntegrityError(f"an unmask request must have {count} to {n} signatures, got {len(signatures)}")
        return cls(signers, signatures[:count], signatures[count:])


def read_fixed(name: str, body: Data, length: int) -> Data:
    """A body whose length is known: a root, a signature, nothing.

    Raises:
        IntegrityError: another length.
    """
    _exactly(name, body, length)
    return body


def split_pieces(name: str, body: bytes, width: int, count: int | None = None) -> tuple[bytes, ...]:
    """A body of equal pieces, `count` of them where that is known.

    Raises:
        IntegrityError: another number of bytes.
    """
    if len(body) % width:
        raise IntegrityError(f"{name} must be pieces of {width} bytes, got {len(body)} bytes")
    if count is not None:
        _exactly(name, body, count * width)
    return tuple(_pieces(body, width))


def _pieces(data: bytes, width: int) -> list[bytes]:
    return [data[start : start + width] for start in range(0, len(data), width)]


def _id(line: bytes) -> int:
    return int.from_bytes(line[:4], "little")


def _exactly(name: str, data: bytes | memoryview, length: int) -> None:
    if len(data) != length:
        raise IntegrityError(f"{name} must have {length} bytes, got {len(data)}")
