"""Sorted ids of a batch of devices, as a device ledger keeps them with each charge.

>>> ids, place = sorted_ids([7, 3])
>>> unpack(pack(ids)).tolist(), place.tolist(), holds(ids, 7)
([3, 7], [1, 0], True)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError, IntegrityError

Ids = npt.NDArray[np.int64]


def sorted_ids(devices: Sequence[int] | range | Ids) -> tuple[Ids, npt.NDArray[np.intp]]:
    """The sorted ids, and the position of each in `devices`.

    Args:
        devices: whole numbers [n], each once.

    Raises:
        InputError: `devices` is something else.
    """
    try:
        given = np.asarray(devices)
    except (OverflowError, ValueError):
        given = np.empty((1, 1))
    whole = given.dtype.kind in "iu" and np.can_cast(given.dtype, np.int64)
    if given.ndim != 1 or (given.size and not whole):
        raise InputError(f"`devices` must be a sequence of whole numbers below 2^63, got {devices!r:.80}")
    given = given.astype(np.int64)
    place = np.argsort(given, kind="stable")
    ids = given[place]
    if (np.diff(ids) == 0).any():
        raise InputError("`devices` must name each device once, got one twice: it would take part twice")
    return ids, place


def pack(ids: Ids) -> bytes:
    """Compress the differences of sorted ids: a contiguous range of thousands takes about sixty bytes."""
    return zlib.compress(np.diff(ids, prepend=0).astype("<i8").tobytes(), 1)


def unpack(packed: Any) -> Ids:
    """Read what `pack` wrote.

    Raises:
        IntegrityError: the bytes are damaged.
    """
    try:
        return np.cumsum(np.frombuffer(zlib.decompress(packed), dtype="<i8"), dtype=np.int64)
    except (zlib.error, TypeError, ValueError):
        raise IntegrityError("the devices of a charge must be what was written, got damaged bytes") from None


def holds(ids: Ids, device: int) -> bool:
    """Whether sorted ids contain a device."""
    at = int(np.searchsorted(ids, device))
    return at < len(ids) and int(ids[at]) == device
