"""Keys: of releases, devices and nodes, and certificates, which are the same in all cases."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from palate_common.enrolment import NodeKey
from palate_core.log.signing import SigningKey

HASH = "ab" * 32
"""A hash, of nothing."""


@cache
def key_of(number: int) -> SigningKey:
    """The signing key with this number."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


@cache
def release_key(number: int) -> SigningKey:
    """The release key with this number; none of `key_of`."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"known key %d" % number).digest()))


@cache
def node_key(secret: int) -> NodeKey:
    """The node's key whose secret is this number."""
    return NodeKey(ec.derive_private_key(secret, ec.SECP384R1()))


def certificate(name: str, secret: bytes, number: int, years: tuple[int, int]) -> str:
    """A certificate that signs itself, in PEM: for who reads it and no more.

    Args:
        name: whose it is.
        secret: the key, 32 bytes.
        number: its serial number.
        years: on whose first days it begins and ends.
    """
    key = Ed25519PrivateKey.from_private_bytes(secret)
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begins, ends = (datetime(year, 1, 1) for year in years)
    made = x509.CertificateBuilder(names, names, key.public_key(), number, begins, ends)
    return made.sign(key, None).public_bytes(Encoding.PEM).decode()
