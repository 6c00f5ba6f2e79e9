"""ToldRegister: the enrolled devices as an edge on another host knows them: identities by number, and who is revoked.

    look -> how much of the register this edge has -> coordinator -> what is missing -> `hear`

It is in memory, 32 bytes a device, and told anew after a start. Until then nobody is let in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from palate_core.errors import IntegrityError, PalateError
from palate_server.edge.batches import IDENTITY_BYTES, Frame
from palate_server.folder.enrolments import Standing


class ToldRegister:
    """A `DeviceRegister` of which a coordinator tells."""

    def __init__(self) -> None:
        self._identities = bytearray()
        self._revoked: set[int] | None = None

    def extent(self) -> tuple[int, int]:
        """How many devices, and how many revoked ones, it knows."""
        return len(self._identities) // IDENTITY_BYTES, len(self._revoked or ())

    def standing(self, device: int) -> Standing | None:
        """What is known of a device.

        Raises:
            PalateError: nothing yet, as it has enrolled since this edge was told, or who is revoked wasn't told yet.
        """
        begin = device * IDENTITY_BYTES
        if begin >= len(self._identities) or self._revoked is None:
            raise PalateError("an edge must have been told of a device, and wasn't yet")
        return Standing(self._identities[begin : begin + IDENTITY_BYTES].hex(), device in self._revoked)

    def hear(self, count: int, identities: Iterable[Frame], revoked: Collection[int] | None) -> None:
        """Take a part of the register.

        Args:
            count: how many devices are enrolled.
            identities: lists of identities, each with the number of its first device.
            revoked: the devices that are revoked; None: as before.

        Raises:
            IntegrityError: identities don't go on where this register ends.
        """
        for first, data in identities:
            begin = first * IDENTITY_BYTES
            if begin > len(self._identities) or len(data) % IDENTITY_BYTES:
                raise IntegrityError(f"identities must go on at {self.extent()[0]}, got {len(data)} bytes for {first}")
            self._identities[begin : begin + len(data)] = data
        del self._identities[count * IDENTITY_BYTES :]  # a server that was restored may have fewer
        if revoked is not None:
            self._revoked = set(revoked)
