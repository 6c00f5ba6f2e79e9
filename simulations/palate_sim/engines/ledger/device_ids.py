"""Runs of ids of a batch of devices, as a device ledger keeps them with each charge.

A million simulated devices with consecutive numbers are one run; devices with any numbers are runs of one.

    >>> runs, place = runs_of([7, 3, 4])
    >>> runs.spelled().tolist(), place.tolist(), runs.holds(7), runs.holds(5)
    ([3, 4, 7], [1, 2, 0], True, False)
    >>> len(pack(runs_of(range(1_000_000))[0])) < 40
    True
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError, IntegrityError

Ids = npt.NDArray[np.int64]

RUNS = b"\x01"
"""The first byte of packed runs; that of packed ids, which are compressed only, is never this one."""


@dataclass(frozen=True)
class IdRuns:
    """Sets of consecutive ids, rising and apart: `first[i]` to `last[i]`, the last one included, int64 [n]."""

    first: Ids
    last: Ids

    @classmethod
    def of(cls, ids: Ids) -> IdRuns:
        """From rising ids, each once; runs are as long as can be."""
        return cls(ids, ids).joined()

    def joined(self) -> IdRuns:
        """The same ids, where runs that touch are one."""
        apart = self.first[1:] != self.last[:-1] + 1
        begins, ends = np.ones(len(self.first), np.bool_), np.ones(len(self.first), np.bool_)
        begins[1:], ends[:-1] = apart, apart
        return IdRuns(self.first[begins], self.last[ends])

    def lengths(self) -> Ids:
        """The number of ids of each run, int64 [n]."""
        return self.last - self.first + 1

    def spelled(self) -> Ids:
        """All ids, rising, int64."""
        lengths = self.lengths()
        return np.repeat(self.last - np.cumsum(lengths), lengths) + 1 + np.arange(lengths.sum())

    def holds(self, device: int) -> bool:
        """Whether a device is among them."""
        at = int(np.searchsorted(self.first, device, "right")) - 1
        return at >= 0 and int(self.last[at]) >= device


def runs_of(devices: Sequence[int] | range | Ids) -> tuple[IdRuns, npt.NDArray[np.intp] | None]:
    """The ids as runs, and the position of each in `devices`, by rising id; None: they rise already.

    Args:
        devices: whole numbers [n], each once. A range of consecutive ones is not spelled out.

    Raises:
        InputError: `devices` is something else.
    """
    if isinstance(devices, range) and devices.step == 1 and devices and -(2**63) <= devices[0] <= devices[-1] < 2**63:
        return IdRuns(np.array([devices[0]], np.int64), np.array([devices[-1]], np.int64)), None
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
    if (ids[1:] == ids[:-1]).any():
        raise InputError("`devices` must name each device once, got one twice: it would take part twice")
    return IdRuns.of(ids), place


def pack(runs: IdRuns) -> bytes:
    """Compress the runs, or, where most are of one device, the differences of the ids, as before there were runs."""
    lengths = runs.lengths()
    if 2 * len(lengths) < lengths.sum():
        spelled = np.concatenate([np.diff(runs.first, prepend=0), lengths]).astype("<i8")
        return RUNS + zlib.compress(spelled.tobytes(), 1)
    return zlib.compress(np.diff(runs.spelled(), prepend=0).astype("<i8").tobytes(), 1)


def unpack(packed: Any) -> IdRuns:
    """Read what `pack` wrote.

    Raises:
        IntegrityError: the bytes are damaged.
    """
    try:
        if packed[:1] != RUNS:
            return IdRuns.of(np.cumsum(np.frombuffer(zlib.decompress(packed), dtype="<i8"), dtype=np.int64))
        gaps, lengths = np.frombuffer(zlib.decompress(packed[1:]), dtype="<i8").reshape(2, -1)
    except (zlib.error, TypeError, ValueError):
        raise IntegrityError("the devices of a charge must be what was written, got damaged bytes") from None
    first = np.cumsum(gaps, dtype=np.int64)
    return IdRuns(first, first + lengths - 1)
