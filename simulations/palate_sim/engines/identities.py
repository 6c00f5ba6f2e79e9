"""Identities: the signing keys of simulated devices for secure aggregation.

A run with masks makes them once; the file lies in the run folder, mode 0600, for `--resume`.

    >>> identities = Identities.generate(3)
    >>> identities.of(2).public == identities.directory([0, 2]).identities[2]
    True
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.records.files import create_durably
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.transcript import MAX_DEVICES

KEY = 32


class Identities:
    """One Ed25519 key a device.

    Args:
        keys: the private keys, 32 bytes each, by device.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys

    @classmethod
    def generate(cls, devices: int) -> Identities:
        """Generate fresh keys from the operating system's randomness.

        Raises:
            InputError: more devices than a masked attempt can have.
        """
        if devices > MAX_DEVICES:
            raise InputError(
                f"masks must be for at most {MAX_DEVICES:,} devices, got {devices:,}: with `--masks off` the "
                "simulated sum is the same"
            )
        return cls(os.urandom(KEY * devices))

    @classmethod
    def load(cls, path: Path) -> Identities:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or cut short.
        """
        try:
            keys = path.read_bytes()
        except OSError as error:
            raise InputError(f"`identities` must be a readable file, got {path}: {error.strerror}") from None
        if not keys or len(keys) % KEY:
            raise InputError(f"`identities` must hold keys of {KEY} bytes, got {len(keys)} bytes in {path}")
        return cls(keys)

    def save(self, path: Path) -> None:
        """Write the keys, mode 0600; an existing file is not overwritten."""
        create_durably(path, self._keys, mode=0o600)

    def directory(self, devices: Collection[int]) -> Directory:
        """A directory of some devices; numbers that nobody has are left out."""
        here = (device for device in sorted(devices) if 0 <= device < len(self._keys) // KEY)
        return Directory({device: self.of(device).public for device in here})

    def of(self, device: int) -> SigningKey:
        """One device's key."""
        return SigningKey(Ed25519PrivateKey.from_private_bytes(self._keys[device * KEY :][:KEY]))
