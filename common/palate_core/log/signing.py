"""Ed25519 signatures with a tag, so that a signature on one kind of message is never valid on another.

The operator's key signs plans, checkpoints, releases and extracts; whoever reads them has its public half pinned.

    >>> key = SigningKey.generate()
    >>> signature = key.sign("palate/plan/1", b"payload")
    >>> verify(key.public, "palate/plan/1", b"payload", signature)

What is signed is a fixed prefix, the length of the tag, the tag and the payload: no two pairs of tag and payload
give the same bytes.

Signed notes are the one exception (`sign_text`): there a standard says that the text itself is signed. The prefix ends
in a NUL, and a note's text has no control character but newlines, so neither is ever the other.

Where many devices live in one process, each checks what all of them were sent: a signature that was found to fit isn't
computed a second time.
"""

from __future__ import annotations

import hashlib
import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from palate_core.errors import InputError, IntegrityError

MOST_KEY = 2**14
"""Largest key that is read, in bytes of PEM."""
MOST_FITTING = 4096
"""Signatures that are remembered to fit."""
_PREFIX = b"palate signature 1\x00"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LOWER_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_fitting = set[tuple[bytes, bytes, bytes]]()
"""Key, signature and SHA-256 of the message of those that fit; all public, and true whoever asks."""


class SigningKey:
    """A private Ed25519 key. Its representation never shows the secret.

    Attributes:
        public: the public half, 64 lower-case hexadecimal digits.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: str = private.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public!r})"

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, data: bytes) -> SigningKey:
        """Read what `to_pem` wrote.

        Raises:
            InputError: not an Ed25519 key.
        """
        try:
            if len(data) > MOST_KEY:
                raise ValueError("more than a key")
            private = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError("`key` must be an Ed25519 key in PEM without a password, got something else") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise InputError("`key` must be an Ed25519 key, got another kind")
        return cls(private)

    def to_pem(self) -> bytes:
        """The secret key as PKCS #8 PEM; the caller must encrypt it."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, tag: str, payload: bytes) -> str:
        """Sign a payload under a tag; 128 lower-case hexadecimal digits.

        Raises:
            InputError: the tag isn't 1 to 255 printable ASCII characters.
        """
        return self._private.sign(_message(tag, payload)).hex()

    def sign_text(self, text: str) -> bytes:
        """Sign the text of a note as it is, as C2SP signed notes and cosignatures ask; 64 bytes.

        **Guarantees:** a note's signature is valid under no tag: tagged messages have a NUL, and texts have none.

        Raises:
            InputError: the text has a control character other than newline, or isn't UTF-8.
        """
        return self._private.sign(text_bytes(text))


def verify(public: str, tag: str, payload: bytes, signature: str) -> None:
    """Check a signature.

    Args:
        public: the signer's public key, 64 lower-case hexadecimal digits, from a source the reader trusts.
        tag: what kind of message this is.
        payload: the bytes that were signed.
        signature: 128 lower-case hexadecimal digits.

    Raises:
        IntegrityError: the key or signature is malformed, or doesn't fit the tag and payload.
    """
    key = _from_hex("public key", public, 32)
    signed = _from_hex("signature", signature, 64)
    try:
        _check_fits(key, signed, _message(tag, payload))
    except (InvalidSignature, ValueError):
        raise IntegrityError(f"the {tag} signature must be by key {public[:16]}…, got one that does not fit") from None


def verify_text(public: bytes, text: str, signature: bytes) -> None:
    """Check what `SigningKey.sign_text` gave.

    Args:
        public: the signer's public key, 32 bytes, from a source the reader trusts.
        text: the text.
        signature: 64 bytes.

    Raises:
        IntegrityError: the signature doesn't fit.
        InputError: the text has a control character other than newline, or isn't UTF-8.
    """
    try:
        _check_fits(public, signature, text_bytes(text))
    except (InvalidSignature, ValueError):
        raise IntegrityError(f"the signature must be by key {public.hex()[:16]}…, got one that does not fit") from None


def _check_fits(key: bytes, signature: bytes, message: bytes) -> None:
    """Check a signature of a message, once for all who ask in this process.

    Raises:
        InvalidSignature: it doesn't fit; that is never remembered.
        ValueError: the key has another length.
    """
    asked = key, signature, hashlib.sha256(message).digest()
    if asked in _fitting:
        return
    Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    if len(_fitting) >= MOST_FITTING:
        _fitting.clear()
    _fitting.add(asked)


def text_bytes(text: str) -> bytes:
    """The bytes of a note's text.

    Raises:
        InputError: it has a control character other than newline, or isn't UTF-8.
    """
    if _CONTROL.search(text):
        raise InputError(f"the text of a note must have no control characters but newlines, got {text!r:.80}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError(f"the text of a note must be UTF-8, got {text!r:.80}") from None


def _message(tag: str, payload: bytes) -> bytes:
    """The bytes that are signed."""
    if not (0 < len(tag) < 256 and tag.isascii() and tag.isprintable()):
        raise InputError(f"`tag` must be 1 to 255 printable ASCII characters, got {tag!r:.80}")
    return _PREFIX + bytes([len(tag)]) + tag.encode() + payload


def _from_hex(name: str, text: object, length: int) -> bytes:
    """Decode strict hexadecimal: lower case, no spaces, so that a value has one spelling."""
    if not isinstance(text, str) or len(text) != 2 * length or not _LOWER_HEX.fullmatch(text):
        raise IntegrityError(f"the {name} must be {2 * length} lower-case hexadecimal digits, got {text!r:.80}")
    return bytes.fromhex(text)
