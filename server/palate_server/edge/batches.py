"""Batches: what a server's coordinator and an edge say to each other, in bytes.

    coordinator                                     edge
    look     (wait, enough)                     ->
                                                <-  who is online, each with what it declares
    exchange (id, kind, have, wait, requests)   ->
                                                <-  turn, and the answers since then, or a sum of masked vectors
    register (identities, who is revoked)       ->    (to an edge on another host)
    home     (device -> seconds)                ->
    close                                       ->

A batch is a head, which is JSON, and frames, each of which is a device's number and bytes: all that is as long as there
are devices is in frames. Whatever was lost on the way is asked for again: with `have`, the latest turn that the
coordinator has, an edge repeats what it has sent after that.
An edge has nothing on a disk. One that was started again has another `boot`, knows no exchange, and is told it anew.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from palate_core.errors import IntegrityError

LOOK, EXCHANGE, REGISTER, HOME, CLOSE = "look", "exchange", "register", "home", "close"
"""What a batch asks for: the value of `ask` in its head."""
MOST_HEAD: Final = 2**12
"""The most bytes of a head."""
MOST_LOOK: Final = 2**25
"""Bytes of who is online at most: some hundred thousand devices; of more an edge doesn't tell."""
MOST_BATCH: Final = 2**22
"""Bytes of frames after which a batch ends, so that neither side holds much at once; a frame may be larger."""
GONE_SECONDS: Final = 60.0
"""Seconds after which a device that doesn't ask any more isn't online."""
IDENTITY_BYTES: Final = 32
"""Bytes of a device's identity, of which a register tells many in a frame."""
SHARED: Final = 2**32 - 1
"""The number of the frame that is no device's: what all messages begin with, or who is revoked; or what devices sign
beside masked vectors that the edge is to add up, and in a reply their sum."""
CLAIM: Final = struct.Struct("<IB")
"""What a look's frame begins with: for how many milliseconds the device still stays, and what it takes. What shows that
follows, see `proofs`."""
HOME_IN: Final = struct.Struct("<d")
"""A frame of `home`: in how many seconds the device syncs again."""
_LENGTH: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<II")

Frame = tuple[int, bytes]
"""A device's number, and bytes."""


def pack(head: dict[str, Any], frames: Iterable[Frame] = ()) -> bytes:
    """The bytes of a batch."""
    said = json.dumps(head, separators=(",", ":")).encode()
    parts = [_LENGTH.pack(len(said)), said]
    for device, data in frames:
        parts += [_FRAME.pack(device, len(data)), data]
    return b"".join(parts)


def unpack(data: bytes, *, most: int | None = None) -> tuple[dict[str, Any], list[Frame]]:
    """The head and the frames of a batch.

    Args:
        data: the batch.
        most: frames; None: as many as there are.

    Raises:
        IntegrityError: it is none, or has more frames.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        if length > MOST_HEAD:
            raise ValueError
        head = json.loads(data[4 : 4 + length])
        if not isinstance(head, dict):
            raise TypeError
        frames = list(islice(_frames(memoryview(data), 4 + length), None if most is None else most + 1))
        if most is not None and len(frames) > most:
            raise ValueError
        return head, frames
    except (struct.error, ValueError, TypeError, RecursionError):
        raise IntegrityError(f"a batch must have a head and whole frames, got {len(data)} bytes that haven't") from None


def split(frames: Iterable[Frame], most: int | None = None) -> Iterator[list[Frame]]:
    """Frames in lists of at most so many bytes, by default `MOST_BATCH`, or one frame; at least one list."""
    found, size, most = list[Frame](), 0, MOST_BATCH if most is None else most
    for frame in frames:
        if found and size + len(frame[1]) > most:
            yield found
            found, size = [], 0
        found.append(frame)
        size += len(frame[1])
    yield found


def _frames(view: memoryview, at: int) -> Iterator[Frame]:
    while at < len(view):
        device, length = _FRAME.unpack_from(view, at)
        at += _FRAME.size
        if at + length > len(view):
            raise ValueError
        yield device, bytes(view[at : at + length])
        at += length
