"""Contribution on the wire: the record with which a device, or a node of simulated devices, answers a plan.

Layout: 4 bytes length of the header (big endian), the header as canonical JSON, then the clipped integer sum as
little-endian int32 or int64, whichever its bound needs. Only a `ClearSum` travels, which has the noise that the plan
demands of devices; under masks none does (`palate_core.masks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.mechanism.update import Int64
from palate_core.errors import IntegrityError
from palate_core.layout import layout_size, released_size
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.noise_share import ClearSum
from palate_core.plan import MAX_USERS, RoundPlan

REFUSED = b"refused"
"""The one answer of a device that doesn't take part, whatever its reason."""
UNLIKELY = 64.0
"""With dp local, an honest answer fails the check of its norm with probability e^-this at most."""
MOST_HEADER = 2**12
"""Bytes of the largest header that is read."""


class ContributionHeader(BaseModel):
    """Which attempt a contribution belongs to, and how many installations it sums."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    run: str
    round: int
    attempt: int
    plan_hash: str
    users: int = Field(ge=1, le=MAX_USERS)
    """Installations in the sum. A contribution that was not finite counts, as zero: how many take part must not
    depend on what anybody did."""
    rejected: int = Field(ge=0, le=MAX_USERS)
    """Installations of the node that their own limits kept from taking part."""
    size: int = Field(ge=1)
    """Number of coordinates."""


@dataclass(frozen=True)
class DecodedContribution:
    """A header, and the clipped sum it belongs to, int64 [size]."""

    header: ContributionHeader
    total: Int64


def dtype_for(users: int, grid: int) -> np.dtype[np.int32] | np.dtype[np.int64]:
    """The smallest of int32 and int64 that holds any sum of `users` contributions."""
    return np.dtype("<i4") if users * grid < 2**31 else np.dtype("<i8")


def share_dtype(bits: int) -> np.dtype[np.int32] | np.dtype[np.int64]:
    """The smallest of int32 and int64 that holds a noised sum of at most `bits` bits, sign included."""
    return np.dtype("<i4") if bits <= 32 else np.dtype("<i8")


def packed_bytes(coordinates: int, grid: int) -> int:
    """Bytes of one installation's coordinates when packed, each in the bits that -grid to grid needs."""
    return -(-coordinates * (grid.bit_length() + 1) // 8)


def vector_bytes(plan: RoundPlan) -> int:
    """Bytes of one installation's numbers on the wire: packed under masks, whole words otherwise."""
    if not plan.mode.noised_by_devices:
        return layout_size(plan.layout) * dtype_for(1, plan.grid).itemsize
    size, bits = released_size(plan.layout), plan.bits(1)
    masked = plan.cohort is not None and plan.cohort.masks
    return -(-size * bits // 8) if masked else size * share_dtype(bits).itemsize


def encode(header: ContributionHeader, clear: ClearSum, *, grid: int) -> bytes:
    """Serialise the sum of clipped contributions, for a server that adds the noise."""
    return _record(header, clear.steps, dtype_for(header.users, grid))


def encode_share(header: ContributionHeader, clear: ClearSum, *, bits: int) -> bytes:
    """Serialise a sum that holds its devices' noise; `bits` is the plan's for that many devices."""
    return _record(header, clear.steps, share_dtype(bits))


def _record(header: ContributionHeader, numbers: Int64, dtype: np.dtype[np.int32] | np.dtype[np.int64]) -> bytes:
    """The bytes of header and numbers."""
    text = canonical_json(header.model_dump(mode="json"))
    return len(text).to_bytes(4, "big") + text + numbers.astype(dtype).tobytes()


def decode(data: bytes, *, grid: int) -> DecodedContribution:
    """Read a contribution back and check that it can be a sum of `users` clipped vectors.

    Raises:
        IntegrityError: malformed, of another version, or longer than clipped contributions can sum to.
    """
    header, payload = split(data)
    contribution = _read(header, payload, dtype_for(header.users, grid))
    bound = header.users * grid
    # Up to 2^53 the sum of squares is exact, which covers every single contribution; above, allow for rounding.
    slack = 0.0 if bound**2 <= 2**53 else 2.0**-40
    if float(np.square(contribution.total.astype(np.float64)).sum()) > bound**2 * (1 + slack):
        raise IntegrityError(f"a sum of {header.users} contributions must have norm <= {bound} steps")
    return contribution


def decode_share(data: bytes, *, bits: int) -> DecodedContribution:
    """Read a noised sum back. Its norm isn't checked, as the noise is in it.

    Raises:
        IntegrityError: malformed, of another version, or beyond the plan's modulus.
    """
    header, payload = split(data)
    contribution = _read(header, payload, share_dtype(bits))
    bound = 2 ** (bits - 1)
    if len(contribution.total) and not -bound <= contribution.total.min() <= contribution.total.max() < bound:
        raise IntegrityError(f"a noised sum must fit {bits} bits")
    return contribution


def decode_local(data: bytes, plan: RoundPlan) -> DecodedContribution:
    """Read back a sum with dp local, and check that its norm is possible for clipped contributions and noise.

    The length of a discrete Gaussian vector is bounded as that of a sub-Gaussian one: an honest answer is refused with
    probability below e^-64 (Hsu, Kakade and Zhang 2012, theorem 2.1).

    Args:
        data: what a node answered.
        plan: with dp local.

    Raises:
        IntegrityError: malformed, of another version, or longer than honest devices' answers.
    """
    header, _ = split(data)
    contribution = decode_share(data, bits=plan.bits(header.users))
    if plan.events is not None:
        return contribution  # a device with many events may send as much more
    d, t = header.size, UNLIKELY
    noise = plan.sigma * math.sqrt(header.users * (d + 2 * math.sqrt(d * t) + 2 * t))
    bound = header.users * plan.grid + noise
    if float(np.square(contribution.total.astype(np.float64)).sum()) > bound**2:
        raise IntegrityError(f"{header.users} contributions with their noise must have norm <= {bound:.0f} steps")
    return contribution


def split(data: bytes) -> tuple[ContributionHeader, memoryview]:
    """Header and numbers of a record, so that the header is checked before the numbers are read.

    Raises:
        IntegrityError: no header, or one of another version.
    """
    length = int.from_bytes(data[:4], "big")
    try:
        head = data[4 : 4 + min(length, MOST_HEADER + 1)]
        header = ContributionHeader.model_validate(read_canonical(head, most=MOST_HEADER))
    except (IntegrityError, ValidationError):
        raise IntegrityError(f"a contribution must start with its header, got {len(data)} other bytes") from None
    if header.version != 1:
        raise IntegrityError(f"a contribution must be of version 1, got {header.version}")
    return header, memoryview(data)[4 + length :]


def _read(
    header: ContributionHeader, payload: memoryview, dtype: np.dtype[np.int32] | np.dtype[np.int64]
) -> DecodedContribution:
    """The numbers, as many as the header says."""
    if len(payload) != header.size * dtype.itemsize:
        raise IntegrityError(f"a contribution must hold {header.size} numbers of {dtype}, got {len(payload)} bytes")
    return DecodedContribution(header, np.frombuffer(payload, dtype).astype(np.int64))
