"""What a device, or a node that hosts many simulated ones, answers a plan with: one bytes record.

Layout: 4 bytes length of the header (big endian), the header as canonical JSON, then the clipped integer sum as
little-endian int32 or int64, whichever its bound needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.canonical import canonical_json
from palate_common.errors import IntegrityError
from palate_common.update import ClippedUpdate, Int64

REFUSED = b"refused"
"""The one answer of a device that doesn't take part, whatever its reason."""
MAX_USERS = 2**26
"""Installations that one answer may sum: with `MAX_GRID`, no coordinate leaves the exact range of float64."""


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
    """Installations hosted by the node whose own limits said no."""
    size: int = Field(ge=1)
    """Number of coordinates."""


@dataclass(frozen=True)
class Contribution:
    """A header, and the clipped sum it belongs to, int64 [size]."""

    header: ContributionHeader
    total: Int64


def dtype_for(users: int, grid: int) -> np.dtype[np.int32] | np.dtype[np.int64]:
    """The smallest of int32 and int64 that holds any sum of `users` contributions."""
    return np.dtype("<i4") if users * grid < 2**31 else np.dtype("<i8")


def packed_bytes(coordinates: int, grid: int) -> int:
    """What one installation's coordinates take when packed, each in the bits that -grid to grid needs."""
    return -(-coordinates * (grid.bit_length() + 1) // 8)


def encode(header: ContributionHeader, clipped: ClippedUpdate) -> bytes:
    """Serialise the sum of clipped contributions; nothing else than a `ClippedUpdate` has a way out."""
    text = canonical_json(header.model_dump(mode="json"))
    numbers = clipped.total().astype(dtype_for(header.users, clipped.grid))
    return len(text).to_bytes(4, "big") + text + numbers.tobytes()


def decode(data: bytes, *, grid: int) -> Contribution:
    """Read a contribution back and check that it can be a sum of `users` clipped vectors.

    Raises:
        IntegrityError: malformed, of another version, or longer than clipped contributions can sum to.
    """
    length = int.from_bytes(data[:4], "big")
    try:
        header = ContributionHeader.model_validate_json(data[4 : 4 + length])
    except ValidationError:
        raise IntegrityError(f"a contribution must start with its header, got {len(data)} other bytes") from None
    if header.version != 1:
        raise IntegrityError(f"a contribution must be of version 1, got {header.version}")
    dtype = dtype_for(header.users, grid)
    payload = data[4 + length :]
    if len(payload) != header.size * dtype.itemsize:
        raise IntegrityError(f"a contribution must hold {header.size} numbers of {dtype}, got {len(payload)} bytes")
    total = np.frombuffer(payload, dtype).astype(np.int64)
    bound = header.users * grid
    # Up to 2^53 the sum of squares is exact, which covers every single contribution; above, rounding gets its due.
    slack = 0.0 if bound**2 <= 2**53 else 2.0**-40
    if float(np.square(total.astype(np.float64)).sum()) > bound**2 * (1 + slack):
        raise IntegrityError(f"a sum of {header.users} contributions must have norm <= {bound} steps")
    return Contribution(header, total)
