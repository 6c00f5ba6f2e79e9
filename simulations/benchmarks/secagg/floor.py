"""Masking floor: the CPU time of the cryptography that any implementation of one masked attempt needs.

It consists of the keystream of each mask (written, not added), X25519 (without the derivation of keys from it), and
Ed25519 signatures made and verified. Everything else is overhead: sums, packing, sealing, secret sharing, hashing,
checks, Python. It doesn't use Palate's own primitives.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from palate_core.masks.packing import residue_type

_STEP = 1 << 17
_ZEROS = memoryview(bytes(_STEP))
_MESSAGE = bytes(200)


@dataclass(frozen=True)
class Operations:
    """How often each cryptographic operation is needed.

    Attributes:
        streams: keystreams for a whole vector.
        agreements: X25519 key agreements.
        signatures: Ed25519 signatures made.
        checks: Ed25519 signatures verified.
    """

    streams: int = 0
    agreements: int = 0
    signatures: int = 0
    checks: int = 0

    def halves(self) -> tuple[Operations, Operations]:
        """The same operations in two halves."""
        first = [value // 2 for value in (self.streams, self.agreements, self.signatures, self.checks)]
        return Operations(*first), Operations(
            self.streams - first[0], self.agreements - first[1], self.signatures - first[2], self.checks - first[3]
        )


class Floor:
    """Runs cryptographic operations and measures their CPU seconds.

    Args:
        size: coordinates of a vector.
        bits: of the modulus; masks have 32 bits a coordinate, above 32 bits 64.
    """

    def __init__(self, size: int, bits: int) -> None:
        length = size * residue_type(bits).itemsize
        steps = -(-length // _STEP)
        self._parts = [_ZEROS[: length // steps + (step < length % steps)] for step in range(steps)]
        self._room = memoryview(bytearray(_STEP + 16))
        self._agreeing, self._signing = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self._other = X25519PrivateKey.generate().public_key().public_bytes_raw()
        self._signer = self._signing.public_key().public_bytes_raw()
        self._signature = self._signing.sign(_MESSAGE)

    def seconds(self, needed: Operations) -> float:
        """Run these operations; return their CPU seconds."""
        began = time.thread_time()
        for _ in range(needed.streams):
            self._stream()
        for _ in range(needed.agreements):
            self._agreeing.exchange(X25519PublicKey.from_public_bytes(self._other))
        for _ in range(needed.signatures):
            self._signing.sign(_MESSAGE)
        for _ in range(needed.checks):
            Ed25519PublicKey.from_public_bytes(self._signer).verify(self._signature, _MESSAGE)
        return time.thread_time() - began

    def _stream(self) -> None:
        """Compute the keystream of one mask."""
        update_into = Cipher(AES(os.urandom(32)), CTR(bytes(16))).encryptor().update_into
        for zeros in self._parts:
            update_into(zeros, self._room)
