"""ToldRegister: the enrolled devices as an edge on another host knows them: identities by number, and who is revoked.

    coordinator, to each edge on another host, what it hasn't told it yet -> `hear`

It is in memory, 32 bytes a device, and told anew after a start. Until then nobody is let in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from palate_core.errors import IntegrityError, PalateError
from palate_server.edge.batches import IDENTITY_BYTES, MOST_BATCH, REGISTER, SHARED, Frame, pack
from palate_server.edge.proofs import Register
from palate_server.folder.enrolments import Standing

_NUMBER = struct.Struct("<I")


class ToldRegister:
    """A `DeviceRegister` of which a coordinator tells."""

    def __init__(self) -> None:
        self._identities = bytearray()
        self._revoked: set[int] | None = None

    def standing(self, device: int) -> Standing | None:
        """What is known of a device.

        Raises:
            PalateError: nothing yet, as it has enrolled since this edge was told, or who is revoked wasn't told yet.
        """
        begin = device * IDENTITY_BYTES
        if begin >= len(self._identities) or self._revoked is None:
            raise PalateError("an edge must have been told of a device, and wasn't yet")
        return Standing(self._identities[begin : begin + IDENTITY_BYTES].hex(), device in self._revoked)

    def hear(self, count: int, parts: Iterable[Frame]) -> None:
        """Take a part of the register.

        Args:
            count: how many devices are enrolled.
            parts: lists of identities, each with the number of its first device; and as `SHARED` the devices that are
                revoked, if that has changed.

        Raises:
            IntegrityError: identities don't go on where this register ends.
        """
        revoked = self._revoked
        for first, data in parts:
            if first == SHARED:
                revoked = {device for (device,) in _NUMBER.iter_unpack(data)}
                continue
            begin = first * IDENTITY_BYTES
            if begin > len(self._identities) or len(data) % IDENTITY_BYTES:
                raise IntegrityError(f"identities must go on where they end, got {len(data)} bytes for {first}")
            self._identities[begin : begin + len(data)] = data
        del self._identities[count * IDENTITY_BYTES :]  # a server that was restored may have fewer
        self._revoked = revoked


def next_part(register: Register, told: tuple[int, int] | None) -> tuple[bytes, tuple[int, int]]:
    """The batch with what an edge is told next of a register, and what it has been told after that.

    Args:
        register: the server's.
        told: of how many devices, and of how many that are revoked, it has been told; None: of nothing, whatever it has
            may be of a server that was restored since.
    """
    (count, out), (since, revoked) = register.extent(), told or (0, -1)
    data = register.identities(since, min(MOST_BATCH // IDENTITY_BYTES, count - since))
    known, frames = since + len(data) // IDENTITY_BYTES, [(since, data)]
    if known >= count and revoked != out:
        frames.append((SHARED, b"".join(map(_NUMBER.pack, register.revoked()))))
        revoked = out
    return pack({"ask": REGISTER, "count": count}, frames), (known, revoked)
