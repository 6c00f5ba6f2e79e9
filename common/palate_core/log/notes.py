r"""Notes: a text with signatures under it, as the C2SP specification signed-note says (https://c2sp.org/signed-note).

    text, "\n", "— NAME BASE64\n" for each signature       BASE64 is of 4 bytes of key id and the signature
    NAME+KEYID+BASE64                                      a verifier key; BASE64 is of a byte of kind and the key

Checkpoints of a ledger are such notes, so that programs that know nothing of Palate can read and cosign them.

    >>> key = SigningKey.generate()
    >>> verifier = VerifierKey.of("example.com/log", key)
    >>> note = sign_note("a line\n", "example.com/log", key)
    >>> verify_note(read_note(note.to_bytes()), verifier)

A signature by a key that a reader doesn't know says nothing, and is passed over; a reader who knows the key refuses a
note whose signature doesn't fit.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey, text_bytes, verify_text

ED25519 = 0x01
"""Kind of a key that signs the text itself."""
COSIGNATURE = 0x04
"""Kind of a key that cosigns checkpoints, with the time: see `cosignatures`."""
MOST_NOTE = 2**17
"""Bytes of the largest note that is read: more than 16 signatures of the largest kind that the standard names have."""
MOST_SIGNATURES = 100
"""The most signatures of a note that is read."""
MOST_NAME = 255
"""Bytes of the longest name of a key."""
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_LINE = "\u2014 "
_RESERVED = ("cosignature/v1\n", "subtree/v1\n")
"""First lines of what cosigners sign: no note may have them, since the same kind of key signs both as they are."""


@dataclass(frozen=True)
class VerifierKey:
    """Whose signature counts: a name, a kind and an Ed25519 public key.

    Attributes:
        name: the key's name: no spaces, no plus; by custom a URL without scheme.
        kind: `ED25519` or `COSIGNATURE`.
        public: 32 bytes.

    Raises:
        InputError: a part is none of these.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE):
            raise InputError(f"the kind of a verifier key must be 1 (Ed25519) or 4 (cosignature), got {self.kind}")
        if len(self.public) != 32:
            raise InputError(f"an Ed25519 key must have 32 bytes, got {len(self.public)}")

    @classmethod
    def of(cls, name: str, key: SigningKey, kind: int = ED25519) -> VerifierKey:
        """The verifier key of a signing key."""
        return cls(name, kind, bytes.fromhex(key.public))

    @classmethod
    def read(cls, text: str) -> VerifierKey:
        """Read `NAME+KEYID+BASE64`.

        Raises:
            InputError: it is none, another spelling of one, of another kind, or its id isn't that of the key.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise InputError(f"a verifier key must be NAME+KEYID+BASE64, got {text!r:.80}")
        try:
            data = from_base64(parts[2])
        except IntegrityError:
            data = b""
        if not _KEY_ID.fullmatch(parts[1]) or not data:
            raise InputError(f"a verifier key must be NAME+KEYID+BASE64, got {text!r:.80}")
        key = cls(parts[0], data[0], data[1:])
        if str(key) != text:
            raise InputError(f"the id of a verifier key must be {key.key_id.hex()}, got {parts[1]}: {parts[0]:.80}")
        return key

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256 over name, newline, kind and key: signatures name it."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True)
class Signature:
    """One signature line of a note.

    Attributes:
        name: of the key.
        key_id: of the key, 4 bytes.
        value: the signature, in the form of the key's kind.
    """

    name: str
    key_id: bytes
    value: bytes

    def is_by(self, key: VerifierKey) -> bool:
        """Whether it says that it is by this key."""
        return self.name == key.name and self.key_id == key.key_id

    def __str__(self) -> str:
        return f"{_LINE}{self.name} {to_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True)
class Note:
    """A text with signatures, which nobody has verified yet.

    Attributes:
        text: with its last newline.
        signatures: at least one, as they stand under it.
    """

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """The note's only spelling."""
        return text_bytes(self.text + "\n" + "".join(map(str, self.signatures)))

    def by(self, key: VerifierKey) -> tuple[Signature, ...]:
        """The signatures that say they are by a key."""
        return tuple(signature for signature in self.signatures if signature.is_by(key))

    def with_signatures(self, *more: Signature) -> Note:
        """The note with further signatures, each once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


def read_note(data: bytes) -> Note:
    """Parse a note without verifying it.

    Raises:
        IntegrityError: it is none, or has more than `MOST_NOTE` bytes or `MOST_SIGNATURES` signatures.
    """
    whole = _decode("a note", data)
    at = whole.rfind("\n\n")
    if at < 0:
        raise IntegrityError(f"a note must be a text, an empty line and signatures, got {whole!r:.80}")
    return Note(whole[: at + 1], _signatures(whole[at + 2 :]))


def read_signatures(data: bytes) -> tuple[Signature, ...]:
    """Parse signature lines without a text, as a witness answers with.

    Raises:
        IntegrityError: they are none, or more than a note may have.
    """
    return _signatures(_decode("signatures", data))


def sign_note(text: str, name: str, key: SigningKey) -> Note:
    """Sign a text, as a log does.

    Args:
        text: ends with a newline.
        name: the key's name.
        key: the key.

    Raises:
        InputError: the text or the name can't be a note's, or the text is what a cosigner signs.
    """
    if not text.endswith("\n") or len(text_bytes(text)) > MOST_NOTE // 2:
        raise InputError(f"the text of a note must end with a newline and be short, got {text!r:.80}")
    if text.startswith(_RESERVED):
        raise InputError(f"the text of a note must not begin as a cosignature's, got {text!r:.80}")
    return Note(text, (Signature(name, VerifierKey.of(name, key).key_id, key.sign_text(text)),))


def verify_note(note: Note, key: VerifierKey) -> None:
    """Check that a key has signed a note; signatures by other keys say nothing.

    Args:
        note: the note.
        key: of kind `ED25519`, from a source the reader trusts.

    Raises:
        IntegrityError: no signature is by this key, or one that says so isn't.
    """
    found = note.by(key) if key.kind == ED25519 else ()
    if not found:
        raise IntegrityError(f"the note must be signed by {key.name:.80}, got no signature by its key")
    for signature in dict.fromkeys(found):
        verify_text(key.public, note.text, signature.value)


def check_name(name: str) -> None:
    """Refuse what can't be a key's name.

    Raises:
        InputError: it is empty or long, or has a space, a plus or a control character.
    """
    try:
        size = len(text_bytes(name))
    except InputError:
        size = 0
    if not 0 < size <= MOST_NAME or "+" in name or any(each.isspace() for each in name):
        raise InputError(
            f"the name of a key must be 1 to {MOST_NAME} bytes without spaces and pluses, got {name!r:.80}"
        )


def to_base64(data: bytes) -> str:
    """Base 64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Decode the one spelling of base 64 that `to_base64` gives.

    Raises:
        IntegrityError: it is another, or none.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or to_base64(data) != text:
        raise IntegrityError(f"it must be base 64 with padding, got {text!r:.80}")
    return data


def _decode(what: str, data: bytes) -> str:
    if len(data) > MOST_NOTE:
        raise IntegrityError(f"{what} must have at most {MOST_NOTE} bytes, got {len(data)}")
    try:
        text = data.decode()
        text_bytes(text)
    except (UnicodeDecodeError, InputError):
        raise IntegrityError(f"{what} must be UTF-8 without control characters, got {data!r:.80}") from None
    return text


def _signatures(text: str) -> tuple[Signature, ...]:
    lines = text.split("\n")
    if lines.pop() or not lines or len(lines) > MOST_SIGNATURES:
        raise IntegrityError(f"a note must have 1 to {MOST_SIGNATURES} signatures, each on a line, got {text!r:.80}")
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> Signature:
    """One line; base 64 has no spaces, so the name is what stands before the last one."""
    name, _, value = line.removeprefix(_LINE).rpartition(" ")
    try:
        check_name(name)
        data = from_base64(value)
    except (InputError, IntegrityError):
        data = b""
    if not line.startswith(_LINE) or len(data) < 5:
        raise IntegrityError(f"a signature must be an em dash, a name and base 64, got {line!r:.80}")
    return Signature(name, data[:4], data[4:])
