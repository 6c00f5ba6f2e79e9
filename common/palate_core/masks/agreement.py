"""Key agreement between two devices, and the encrypted messages between them.

HAZMAT. A key agreed for one purpose and used for another, or a second message under one sealing key, reveals what the
protocol hides, and nothing downstream can notice. `info` must name the role, the attempt, both parties and both keys;
a key that seals is agreed for one box, by a pair made for it, and seals only that message.

Path: key pair -> `agree` -> `Masker` for masks, `seal` for boxes of shares.

    >>> anna, ben = KeyPair.generate(), KeyPair.generate()
    >>> key = agree(anna, ben.public, info=b"share, Anna, Ben")[:32]
    >>> key == agree(ben, anna.public, info=b"share, Anna, Ben")[:32]
    True
    >>> unseal(key, seal(key, b"a share", aad=b"Anna to Ben"), aad=b"Anna to Ben")
    b'a share'

X25519 (RFC 7748), HKDF-SHA256 without salt (RFC 5869), AES-256-GCM (NIST SP 800-38D). Python can't erase a key:
dropping the pair drops the last reference to it.
"""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palate_core.errors import InputError, IntegrityError

KEY_BYTES: Final = 32
AGREED_BYTES: Final = 64
TAG_BYTES: Final = 16
_FIELD: Final = 2**255 - 19
# RFC 7748, 6.1: with these an all-zero secret comes out, whatever the other key; reduced spellings, little-endian.
_LOW_ORDER: Final = frozenset(
    value.to_bytes(KEY_BYTES, "little")
    for value in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
    )
)
# Each key encrypts only one message, so a constant nonce is safe.
_NONCE: Final = bytes(12)


class KeyPair:
    """An X25519 key pair for one attempt. Its representation never shows the secret; pickle and copy are refused.

    **Guarantees:** fresh pair: `generate` draws its own 256 bits from the operating system's random source.
    **Guarantees:** never shown: neither `repr` nor pickle nor copy gives the private half away.

    Attributes:
        public: the public half, 32 bytes.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()!r})"

    def __reduce__(self) -> NoReturn:
        raise InputError("`KeyPair` must stay where it was made, got a pickle or a copy")

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_private(cls, private: bytes) -> KeyPair:
        """The pair of a private half, by which the server rebuilds the pair of a device that dropped out.

        Raises:
            IntegrityError: not 32 bytes.
        """
        _check_length("private key", private, KEY_BYTES)
        return cls(X25519PrivateKey.from_private_bytes(private))

    def private_bytes(self) -> bytes:
        """The private half, 32 bytes: what is split into shares."""
        return self._private.private_bytes_raw()


def agree(own: KeyPair, other_public: bytes, *, info: bytes) -> bytes:
    """Derive 64 bytes that both parties, and they alone, can derive.

    **Guarantees:** both sides agree: each private half with the other public half gives the same bytes.
    **Guarantees:** bound to info: another `info` gives unrelated bytes.
    **Guarantees:** low order refused: a public key that forces a known secret raises, in each of its spellings.
    **Guarantees:** one spelling: a public key that isn't reduced modulo 2^255 - 19 raises: equal keys are equal bytes.
    **Assumes:** x25519: the gap Diffie-Hellman problem on Curve25519 is hard, and HKDF-SHA256 is a random oracle.

    Args:
        own: this party's pair.
        other_public: the other party's public key, 32 bytes, whose signature the caller has checked.
        info: what the key is for: role, attempt, both ids, both keys.

    Raises:
        IntegrityError: the public key has another length, is not reduced, or has low order.
    """
    check_public(other_public)
    try:
        shared = own._private.exchange(X25519PublicKey.from_public_bytes(other_public))
    except ValueError:  # the all-zero secret: `check_public` knows its keys, and this doesn't rely on that
        raise IntegrityError(f"the public key must not have low order, got {other_public.hex()}") from None
    return HKDF(SHA256(), AGREED_BYTES, salt=None, info=info).derive(shared)


def check_public(public: bytes) -> None:
    """Refuse a public key that `agree` would refuse, without agreeing on anything.

    Raises:
        IntegrityError: the public key has another length, is not reduced, or has low order.
    """
    _check_length("public key", public, KEY_BYTES)
    if int.from_bytes(public, "little") >= _FIELD:
        raise IntegrityError(f"the public key must be reduced modulo 2^255 - 19, got {public.hex()}")
    if public in _LOW_ORDER:
        raise IntegrityError(f"the public key must not have low order, got {public.hex()}")


def seal(key: bytes, plaintext: bytes, *, aad: bytes) -> bytes:
    """Encrypt the one message of a key: ciphertext, then 16 bytes of tag.

    **Assumes:** one message: the key never seals a second plaintext, because the nonce is zero.

    Args:
        key: 32 bytes of what `agree` gave.
        plaintext: the message.
        aad: bytes that aren't sent, but must be the same when it is opened: context, sender, receiver.

    Raises:
        InputError: the key is not 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise InputError(f"`key` must be 32 bytes, got {len(key)}")
    return AESGCM(key).encrypt(_NONCE, plaintext, aad)


def unseal(key: bytes, sealed: bytes, *, aad: bytes) -> bytes:
    """Decrypt what `seal` encrypted.

    **Guarantees:** authentic: a changed key, ciphertext, tag or `aad` raises, and gives no plaintext.

    Raises:
        InputError: the key is not 32 bytes.
        IntegrityError: this is not what was sealed under key and `aad`.
    """
    if len(key) != KEY_BYTES:
        raise InputError(f"`key` must be 32 bytes, got {len(key)}")
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, aad)
    except (InvalidTag, ValueError):
        raise IntegrityError(
            f"a sealed message must fit its key and context, got {len(sealed)} bytes that don't"
        ) from None


def _check_length(name: str, data: bytes, length: int) -> None:
    """Refuse other lengths before anything else is done with the bytes."""
    if len(data) != length:
        raise IntegrityError(f"the {name} must be {length} bytes, got {len(data)}")
