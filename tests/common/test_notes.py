"""Signed notes: spellings, verifier keys, and the example of another implementation (golang.org/x/mod/sumdb/note)."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.log.notes import (
    COSIGNATURE,
    ED25519,
    MOST_NAME,
    MOST_NOTE,
    MOST_SIGNATURES,
    Note,
    Signature,
    VerifierKey,
    read_note,
    read_signatures,
    sign_note,
    verify_note,
)
from palate_core.log.signing import SigningKey, verify

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)  # fmt: skip
BY_PETER = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = (
    "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)


def peter() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(base64.b64decode(PRIVATE)[1:]))


def test_another_implementations_note_is_made_and_verified() -> None:
    note = sign_note(TEXT, "PeterNeumann", peter())
    assert note.to_bytes().decode() == f"{TEXT}\n{BY_PETER}"
    assert str(VerifierKey.of("PeterNeumann", peter())) == PETER
    both = read_note(f"{TEXT}\n{BY_PETER}{BY_ENOCH}".encode())
    verify_note(both, VerifierKey.read(PETER))
    verify_note(both, VerifierKey.read(ENOCH))
    assert both.to_bytes().decode() == f"{TEXT}\n{BY_PETER}{BY_ENOCH}"


def test_signatures_of_unknown_keys_say_nothing() -> None:
    key = VerifierKey.read(PETER)
    same_name = Signature("PeterNeumann", b"\0\0\0\0", b"x" * 64)
    same_id = Signature("PeterNeumam", key.key_id, b"x" * 64)
    note = read_note(f"{TEXT}\n{BY_PETER}".encode()).with_signatures(same_name, same_id)
    verify_note(read_note(note.to_bytes()), key)
    with pytest.raises(IntegrityError, match="must be signed by PeterNeumann"):
        verify_note(Note(TEXT, (same_name, same_id)), key)


def test_a_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    key = VerifierKey.read(PETER)
    wrong = Signature("PeterNeumann", key.key_id, b"x" * 64)
    with pytest.raises(IntegrityError, match="got one that does not fit"):
        verify_note(read_note(f"{TEXT}\n{BY_PETER}".encode()).with_signatures(wrong), key)
    with pytest.raises(IntegrityError, match="does not fit"):
        verify_note(Note(TEXT.upper(), read_note(f"{TEXT}\n{BY_PETER}".encode()).signatures), key)
    with pytest.raises(IntegrityError, match="must be signed by"):
        verify_note(Note(TEXT, (wrong,)), VerifierKey(key.name, COSIGNATURE, key.public))


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{BY_PETER[:-1]}",
        f"\x01{TEXT}\n{BY_PETER}",
        f"{TEXT}\n{BY_PETER}Unexpected line.\n",
        f"{TEXT}\n{BY_PETER.replace('PeterNeumann', 'Bad Name')}",
        f"{TEXT}\n{BY_PETER.replace('PeterNeumann', 'Bad+Name')}",
        f"{TEXT}\n" + BY_PETER.replace("PeterNeumann", "Bad\u2003Name"),
        f"{TEXT}\n{BY_PETER.replace('PeterNeumann', 'x' * (MOST_NAME + 1))}",
        f"{TEXT}\n{BY_PETER.replace('AM=', 'AN=')}",
        f"{TEXT}\n{BY_PETER.replace('AM=', 'AM')}",
        f"{TEXT}\n\u2014 PeterNeumann AAAA\n",
        f"{TEXT}\n{BY_PETER * (MOST_SIGNATURES + 1)}",
        f"{TEXT}\n{BY_PETER}\n",
        f"{TEXT}\n{BY_PETER}".replace("\n", "\r\n"),
        "x" * MOST_NOTE + f"\n\n{BY_PETER}",
    ],
)
def test_what_is_no_note(data: str) -> None:
    with pytest.raises(IntegrityError, match=r"\A[^\n]*must[^\n]*\Z"):
        read_note(data.encode())


def test_bytes_that_are_no_text() -> None:
    for data in (b"", b"\xff" + f"{TEXT}\n{BY_PETER}".encode(), b"\n\n"):
        with pytest.raises(IntegrityError):
            read_note(data)


def test_at_least_sixteen_signatures_are_read() -> None:
    large = [Signature(f"pq.example/{place}", bytes(4), bytes(5000)) for place in range(16)]
    note = Note(TEXT, tuple(large))
    assert read_note(note.to_bytes()) == note


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=30), st.integers(0, 200), st.booleans())
def test_a_note_has_one_spelling(noise: bytes, at: int, cut: bool) -> None:
    data = f"{TEXT}\n{BY_PETER}{BY_ENOCH}".encode()
    changed = data[:at] + noise + data[at + (len(noise) if cut else 0) :]
    try:
        note = read_note(changed)
    except IntegrityError:
        return
    assert note.to_bytes() == changed


def test_verifier_keys_have_one_spelling() -> None:
    assert str(VerifierKey.read(PETER)) == PETER
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(InputError):
                    VerifierKey.read(PETER[start:end])
    for place, letter in enumerate(PETER):
        with pytest.raises(InputError):
            VerifierKey.read(PETER[:place] + chr(ord(letter) + 1) + PETER[place + 1 :])
    for other in (
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER + "\n",
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # another length, with its id
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another kind, with its id
    ):
        with pytest.raises(InputError, match=r"\A[^\n]*must[^\n]*\Z"):
            VerifierKey.read(other)


def test_the_kind_is_part_of_the_id() -> None:
    key = peter()
    one, other = (VerifierKey.of("name", key, kind) for kind in (ED25519, COSIGNATURE))
    assert one.key_id != other.key_id
    assert VerifierKey.read(str(other)) == other


def test_a_notes_signature_is_valid_under_no_tag() -> None:
    key = SigningKey.generate()
    for text in ("palate signature 1\x00\x01tpayload", "a\tb\n", "a\rb\n", "\x1f\n", "\ud800\n"):
        with pytest.raises(InputError, match="the text of a note must"):
            key.sign_text(text)
        with pytest.raises(InputError):
            sign_note(text, "name", key)
    signature = key.sign_text("palate signature 1\n").hex()
    with pytest.raises(IntegrityError):
        verify(key.public, "t", b"payload", signature)


@pytest.mark.parametrize("text", ["cosignature/v1\ntime 1\nx\n", "subtree/v1\n", "no newline", "x" * MOST_NOTE + "\n"])
def test_texts_that_are_not_signed(text: str) -> None:
    with pytest.raises(InputError):
        sign_note(text, "name", SigningKey.generate())


def test_signature_lines_alone() -> None:
    assert read_signatures(BY_PETER.encode())[0].is_by(VerifierKey.read(PETER))
    for data in (b"", b"\n", BY_PETER.encode()[:-1], f"\n{BY_PETER}".encode(), b"x" * (MOST_NOTE + 1)):
        with pytest.raises(IntegrityError):
            read_signatures(data)
