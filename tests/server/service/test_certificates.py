"""The folder's own authority and what it issues."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from palate_common.errors import InputError
from palate_server.folder import certificates
from palate_server.folder.certificates import issue, make_authority


def leaf_of(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates((folder / f"{name}.pem").read_bytes())[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path)
    issue(tmp_path, "server", ["palate.example.org", "127.0.0.1"])
    return tmp_path


def test_a_leaf_verifies_for_its_hosts_and_no_others(folder: Path) -> None:
    store = Store([x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())])
    leaf = leaf_of(folder, "server")
    builder = PolicyBuilder().store(store)
    assert builder.build_server_verifier(x509.DNSName("palate.example.org")).verify(leaf, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("another.example.org")).verify(leaf, [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")


def test_keys_are_their_owners_alone(folder: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}


def test_what_lasts_is_kept_and_what_ends_soon_is_renewed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = leaf_of(folder, "server").serial_number
    make_authority(folder)
    issue(folder, "server", ["palate.example.org", "127.0.0.1"])
    assert leaf_of(folder, "server").serial_number == first
    issue(folder, "server", ["other.example.org"])
    assert leaf_of(folder, "server").serial_number != first

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=certificates.LEAF_DAYS - certificates.RENEW_DAYS + 1)

    second = leaf_of(folder, "server").serial_number
    monkeypatch.setattr(certificates, "datetime", Later)
    issue(folder, "server", ["other.example.org"])
    assert leaf_of(folder, "server").serial_number != second


def test_without_its_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`tls` must hold the authority"):
        issue(tmp_path, "server", ["localhost"])
