"""Certificates: the server folder's own authority, for loopback TLS and deployments without a public certificate.

    tls/ca.pem, ca.key             the authority (P-256); only its owner can read the key
    tls/superlink.pem, .key        Flower's SuperLink, for localhost
    tls/server.pem, .key           the gateway, for the server's name, if the operator gives no certificate

At each start, leaf certificates that end within thirty days are renewed.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from palate_common.errors import InputError
from palate_common.records.files import write_durably

AUTHORITY_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30


def make_authority(folder: Path) -> None:
    """Make `ca.pem` and `ca.key`, unless they exist."""
    if (folder / "ca.pem").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Palate server folder authority")])
    builder = (
        _builder(name, name, key.public_key(), days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write(folder, "ca", builder.sign(key, hashes.SHA256()), key)


def issue(folder: Path, name: str, hosts: list[str]) -> None:
    """Make `NAME.pem` (leaf, then authority) and `NAME.key`, unless valid ones for these hosts exist.

    Raises:
        InputError: the authority's files aren't what `make_authority` wrote.
    """
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"`tls` must hold the authority that `palate serve init` made, got {folder}: {error}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"`tls` must hold the authority that `palate serve init` made, got another key: {folder}")
    if _lasts(folder / f"{name}.pem", hosts):
        return
    leaf = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    builder = (
        _builder(subject, authority.subject, leaf.public_key(), days=LEAF_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(leaf.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    _write(folder, name, builder.sign(key, hashes.SHA256()), leaf, chain=authority)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    """The allowed use of a key: to sign certificates, or for TLS."""
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _lasts(path: Path, hosts: list[str]) -> bool:
    """Whether a certificate exists for exactly these hosts, and doesn't end soon."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = found.not_valid_after_utc - datetime.now(UTC)
    return list(names) == [_general(host) for host in hosts] and left > timedelta(days=RENEW_DAYS)


def _write(
    folder: Path,
    name: str,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    *,
    chain: x509.Certificate | None = None,
) -> None:
    """Write key and certificate; the key first, because an existing certificate counts as complete."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_durably(folder / f"{name}.key", secret, mode=0o600)
    chained = [certificate] if chain is None else [certificate, chain]
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chained)
    write_durably(folder / f"{name}.pem", pem)
