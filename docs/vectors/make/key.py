"""The key of the vectors. Its secret half is printed in them, so nothing that it signs may ever be trusted."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_core.log.signing import SigningKey

SECRET = bytes(range(32))


def test_key() -> SigningKey:
    """The key of the vectors."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(SECRET))
