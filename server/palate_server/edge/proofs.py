"""Proofs: what shows a coordinator that a device is at an edge, and has answered what the edge says that it has.

    device -> signed headers -> door -> waiting room -> batch -> coordinator: `presence`, `answered`

A proof is the values of the headers that the device has signed, a line each. An edge on another host forwards them, so
that a false one can claim only devices that have come to it, and answer for none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from palate_common.rounds.exchange import CLOCK_SECONDS, HEADERS, PATH, ExchangeRequest, check
from palate_core.errors import InputError, IntegrityError
from palate_server.edge.batches import GONE_SECONDS
from palate_server.folder.enrolments import Standing

MOST_PROOF: Final = 512
"""Bytes of a proof: as the headers must be spelled, they have fewer."""
STALE: Final = CLOCK_SECONDS + GONE_SECONDS
"""Seconds after which a request says nothing any more: it came within the one of the device's clock, and a device that
hasn't asked since is gone after the other."""
_NAMES: Final = (*HEADERS, "content-length")
_END: Final = b"\n\n"


class DeviceRegister(Protocol):
    """Where an edge finds the devices."""

    def standing(self, device: int) -> Standing | None:
        """What is known of a device; None: no device has this number."""


class Register(DeviceRegister, Protocol):
    """The enrolled devices, as the server has them, and tells edges on other hosts."""

    def extent(self) -> tuple[int, int]:
        """How many devices there are, and how many of them are revoked: both only grow."""

    def identities(self, since: int, most: int) -> bytes:
        """The identities of devices from a number on, 32 bytes each; at most so many."""

    def revoked(self) -> list[int]:
        """The devices that are revoked."""


def proof_of(headers: Mapping[str, str]) -> bytes:
    """The proof of a request, by its headers."""
    return "\n".join(headers[name] for name in _NAMES).encode()


def proven(proof: bytes, answer: bytes) -> bytes:
    """An answer with its proof before it."""
    return proof + _END + answer


class Proofs:
    """Judges what edges forward.

    **Guarantees:** a device counts as present by a request that it has signed for this population in the last minutes,
    and by none that is older than what it was seen to sign elsewhere; an answer is one that the device has signed.

    Args:
        register: the enrolled devices.
        population: the population.
        path: what each path begins with, as devices send it.
        clock: returns the time in seconds since 1970.
    """

    def __init__(
        self, register: Register, population: str, path: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.register, self._population, self._path, self._clock = register, population, path + PATH, clock
        self._latest = dict[int, tuple[bytes, ExchangeRequest]]()

    def presence(self, device: int, proof: bytes) -> ExchangeRequest | None:
        """The request by which a device is present; None: it isn't, or has signed another one since.

        Raises:
            IntegrityError: the device hasn't signed this: no edge that is one would forward it.
        """
        latest = self._latest.get(device)
        asked = latest[1] if latest is not None and latest[0] == proof else self._read(device, proof)
        if asked is None or abs(self._clock() - asked.time / 1000) > STALE:
            return None
        if latest is not None and asked.time < latest[1].time:
            return None
        self._latest[device] = proof, asked
        return asked

    def answered(self, device: int, exchange: str, data: bytes, added: int | None = None) -> bytes:
        """What a device has answered to an exchange, of an answer with its proof.

        Args:
            device: the device.
            exchange: the exchange.
            data: the proof and the answer; or what is left of one that was added to a sum, as only the edge knows.
            added: bytes that such an answer had.

        Raises:
            IntegrityError: it hasn't signed that.
        """
        end = data.find(_END, 0, MOST_PROOF)
        asked, answer = self._read(device, data[: max(0, end)]), data[end + len(_END) :]
        said = exchange, len(answer) if added is None else added
        if (
            asked is None
            or (asked.answers, asked.length) != said
            or (added is None and asked.body != hashlib.sha256(answer).hexdigest())
        ):
            raise IntegrityError("an answer must be one that its device has signed for this exchange, got another")
        return answer

    def forget(self) -> None:
        """Forget requests that say nothing any more."""
        since = 1000 * (self._clock() - STALE)
        self._latest = {device: each for device, each in self._latest.items() if each[1].time >= since}

    def _read(self, device: int, proof: bytes) -> ExchangeRequest | None:
        """The request of a proof; None: nobody has this number."""
        try:
            headers = dict(zip(_NAMES, proof[:MOST_PROOF].decode("latin-1").split("\n"), strict=True))
            asked = ExchangeRequest.read(headers)
        except (InputError, ValueError):
            raise IntegrityError("a proof must be a request's headers, got something else") from None
        if asked.device != device:
            raise IntegrityError("a proof must be of the device that it is shown for, got another's")
        if (known := self.register.standing(device)) is None:
            return None
        check(headers, self._population, self._path, known.identity)
        return asked
