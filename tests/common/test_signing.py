import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.records.key_file import load_key, save_key
from palate_core.errors import InputError, IntegrityError
from palate_core.log import signing
from palate_core.log.signing import SigningKey, verify

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group, RFC 8032, section 5.1


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def test_the_signed_bytes_are_fixed(key: SigningKey) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    message = b"palate signature 1\x00" + bytes([1]) + b"t" + b"payload"
    assert key.public == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert key.sign("t", b"payload") == private.sign(message).hex()


def test_a_signature_fits_its_key_tag_and_payload_only(key: SigningKey) -> None:
    signature = key.sign("plan", b"payload")
    verify(key.public, "plan", b"payload", signature)
    for public, tag, payload in [
        (SigningKey.generate().public, "plan", b"payload"),
        (key.public, "pla", b"npayload"),
        (key.public, "release", b"payload"),
        (key.public, "plan", b"payloae"),
        (key.public, "plan", b""),
    ]:
        with pytest.raises(IntegrityError, match=r"\A[^\n]*signature must be[^\n]*\Z"):
            verify(public, tag, payload, signature)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3)), st.data())
def test_tag_and_payload_never_run_into_each_other(pair: tuple[str, str], data: st.DataObject) -> None:
    whole = "".join(pair)
    cut = data.draw(st.integers(1, len(whole)))
    other = (whole[:cut], whole[cut:])
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    same = key.sign(pair[0], pair[1].encode()) == key.sign(other[0], other[1].encode())
    assert same == (pair == other)


def test_every_changed_bit_of_a_signature_is_found(key: SigningKey) -> None:
    signature = bytes.fromhex(key.sign("plan", b"payload"))
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            verify(key.public, "plan", b"payload", changed.hex())


def test_the_second_form_of_a_signature_is_refused(key: SigningKey) -> None:
    signature = bytes.fromhex(key.sign("plan", b"payload"))
    twin = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    with pytest.raises(IntegrityError):
        verify(key.public, "plan", b"payload", twin.hex())


@pytest.mark.parametrize(
    "text", ["", "ab", "AB" * 64, "zz" * 64, " " + "ab" * 63 + "a", "ab" * 65, None, 7, b"ab" * 64]
)
def test_malformed_hex_is_an_integrity_error(key: SigningKey, text: object) -> None:
    signature = key.sign("plan", b"payload")
    with pytest.raises(IntegrityError, match=r"\Athe signature must be 128[^\n]*\Z"):
        verify(key.public, "plan", b"payload", text)  # type: ignore[arg-type]  # what a wire may bring
    with pytest.raises(IntegrityError, match=r"\Athe public key must be 64[^\n]*\Z"):
        verify(text, "plan", b"payload", signature)  # type: ignore[arg-type]  # what a wire may bring


@pytest.mark.parametrize("tag", ["", "a" * 256, "é", "a\n"])
def test_tags_are_short_printable_ascii(key: SigningKey, tag: str) -> None:
    with pytest.raises(InputError, match="`tag` must be"):
        key.sign(tag, b"")


def test_save_and_load(tmp_path: Path) -> None:
    key, path = SigningKey.generate(), tmp_path / "operator.pem"
    save_key(key, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["operator.pem"]
    loaded = load_key(path)
    assert loaded.public == key.public
    assert loaded.sign("t", b"") == key.sign("t", b"")


def test_a_loose_umask_does_not_open_the_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_key(SigningKey.generate(), tmp_path / "key")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    save_key(SigningKey.generate(), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"`key` must be a new file[^\n]*\Z"):
        save_key(SigningKey.generate(), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_key(SigningKey.generate(), tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_keys_that_cannot_be_loaded(tmp_path: Path) -> None:
    def written(name: str, data: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    save_key(SigningKey.generate(), tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x"))
    other = X25519PrivateKey.generate().private_bytes(pem, pkcs8, serialization.NoEncryption())
    for path, reason in [
        (tmp_path / "missing", "readable key file"),
        (tmp_path, "readable key file"),
        (written("text", b"hello"), "in PEM"),
        (written("locked", locked), "without a password"),
        (written("x25519", other), "Ed25519 key"),
        (written("open", good, 0o644), "chmod 600"),
    ]:
        with pytest.raises(InputError, match=rf"\A`key` must be[^\n]*{reason}[^\n]*\Z"):
            load_key(path)
    with pytest.raises(InputError, match="writable folder"):
        save_key(SigningKey.generate(), tmp_path / "no" / "folder")


def test_the_secret_is_not_shown(key: SigningKey) -> None:
    assert bytes(range(32)).hex() not in repr(key)
    assert key.public in repr(key)


def test_what_fits_is_computed_once_and_what_does_not_fit_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    key, asked = SigningKey.generate(), list[bytes]()
    real = signing.Ed25519PublicKey.from_public_bytes

    def counted(data: bytes) -> object:
        asked.append(data)
        return real(data)

    monkeypatch.setattr(signing, "Ed25519PublicKey", SimpleNamespace(from_public_bytes=counted))
    signature = key.sign("plan", b"payload")
    for _ in range(3):
        verify(key.public, "plan", b"payload", signature)
    assert len(asked) == 1
    for payload, tag in ((b"another", "plan"), (b"payload", "card")):
        for _ in range(2):
            with pytest.raises(IntegrityError):
                verify(key.public, tag, payload, signature)
    assert len(asked) == 5


def test_no_more_signatures_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "MOST_FITTING", 3)
    signing._fitting.clear()
    key = SigningKey.generate()
    for number in range(10):
        payload = bytes([number])
        verify(key.public, "plan", payload, key.sign("plan", payload))
        assert len(signing._fitting) <= 3
