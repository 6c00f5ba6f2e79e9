"""Certificates: the server folder's own authority, for loopback TLS and deployments without a public certificate.

    tls/ca.pem, ca.key             the authority (P-256); only its owner can read the key
    tls/superlink.pem, .key        Flower's SuperLink, for localhost
    tls/server.pem, .key           the gateway, for the server's name, if the operator gives no certificate
    tls/public.pem, .key           the gateway with a public certificate, which an ACME client renews

At each start, leaf certificates that end within thirty days are renewed. A public one is another authority's: it is
taken if it leads to a root that is trusted, and until there is one the folder's own keeps its place.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from palate_common.records.files import write_durably
from palate_core.errors import InputError

AUTHORITY_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30
PUBLIC = "public"
"""The name of the files of a public certificate."""
NEXT = f"{PUBLIC}.next.pem"
"""A public certificate while it and its key are put in the place of the former ones, which can't be done at once."""


def pair_of(certificate: str, key: str, *, acme: bool) -> tuple[str, str]:
    """The files of a gateway's certificate and its key: those that the operator names, a public one's, or the own."""
    name = PUBLIC if acme else "server"
    return (certificate, key) if certificate else (f"tls/{name}.pem", f"tls/{name}.key")


def make_authority(folder: Path, only: Sequence[str] = ()) -> None:
    """Make `ca.pem` and `ca.key`, unless they exist.

    Args:
        folder: the folder of certificates.
        only: the names that it may issue for, so that a browser which trusts it is safe elsewhere; (): all.
    """
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
    if only:
        permitted = [
            x509.IPAddress(ipaddress.ip_network(host.value)) if isinstance(host, x509.IPAddress) else host
            for host in map(_general, only)
        ]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    _write(folder, "ca", builder.sign(key, hashes.SHA256()), key)


def issue(folder: Path, name: str, hosts: list[str]) -> None:
    """Make `NAME.pem` (leaf, then authority) and `NAME.key`, unless valid ones for these hosts exist.

    Raises:
        InputError: the authority's files aren't what `make_authority` wrote, or it may not issue for a host.
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
    if (only := _only(authority)) and (others := sorted(set(hosts) - only)):
        raise InputError(f"`tls` must hold an authority for {others[0]}, got one that is for {', '.join(sorted(only))}")
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


def _only(authority: x509.Certificate) -> set[str]:
    """The hosts that it may issue for; empty: all."""
    try:
        found = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return set()
    return {str(each.value).removesuffix("/32").removesuffix("/128") for each in found}


def keep_place(folder: Path, host: str) -> None:
    """Let the own authority issue what stands in for a public certificate, without which nginx doesn't start.

    An installation that was cut short between key and certificate is brought to its end before.
    """
    draft = folder / NEXT
    if draft.exists():
        with suppress(ValueError):
            key = serialization.load_pem_private_key((folder / f"{PUBLIC}.key").read_bytes(), password=None)
            if x509.load_pem_x509_certificate(draft.read_bytes()).public_key() == key.public_key():
                write_durably(folder / f"{PUBLIC}.pem", draft.read_bytes())
        draft.unlink(missing_ok=True)
    if not (folder / f"{PUBLIC}.pem").exists():
        issue(folder, PUBLIC, [host])


def is_awaited(chain: Path) -> bool:
    """Whether a public certificate was never installed, so that the own authority's still keeps its place."""
    own = chain.parent / "ca.pem"
    try:
        return chain.name == f"{PUBLIC}.pem" and chain.read_bytes().endswith(own.read_bytes())
    except OSError:
        return False


def install(folder: Path, host: str, chain: bytes, key: bytes, *, roots: bytes | None = None) -> x509.Certificate:
    """Put a public certificate where the gateway takes it from, its authority's root last, as invitations pin it.

    Args:
        folder: the folder of certificates.
        host: the name that the certificate must be for.
        chain: PEM of the certificate and those that lead from it to a root, as an ACME client leaves it.
        key: PEM of its key.
        roots: PEM of the roots that are trusted; None: those that this machine trusts.

    Returns:
        the root.

    Raises:
        InputError: it is another name's or another key's, has ended, or leads to no root; nothing was written.
        OSError: the folder can't be written.
    """
    try:
        leaf, *between = x509.load_pem_x509_certificates(chain)
        secret = serialization.load_pem_private_key(key, password=None)
        trusted = _system_roots() if roots is None else x509.load_pem_x509_certificates(roots)
        verifier = PolicyBuilder().store(Store(trusted)).build_server_verifier(_general(host))
        found = verifier.verify(leaf, between)
    except VerificationError as error:
        raise InputError(
            f"`CHAIN` must be a certificate for {host} that leads to a root which is trusted, here or by `--root`, "
            f"got: {error}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"`CHAIN` and `KEY` must be PEM, the key without a password, got: {error}") from None
    if secret.public_key() != leaf.public_key():
        raise InputError(f"`KEY` must be the key of the certificate for {host}, got another")
    whole = b"".join(map(_pem, found))
    write_durably(folder / NEXT, whole)
    write_durably(folder / f"{PUBLIC}.key", key, mode=0o600)
    write_durably(folder / f"{PUBLIC}.pem", whole)
    (folder / NEXT).unlink(missing_ok=True)
    return found[-1]


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Let root act as the account whose folder it is, so that no link of that account leads root to another file."""
    facts, groups = folder.stat(), os.getgroups()
    if os.geteuid() != 0 or facts.st_uid == 0:
        yield
        return
    os.setgroups([])
    os.setegid(facts.st_gid)
    os.seteuid(facts.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _system_roots() -> list[x509.Certificate]:
    """The roots that this machine trusts; one that isn't as RFC 5280 has it is left out."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        for each in ssl.create_default_context().get_ca_certs(binary_form=True):
            with suppress(ValueError, CryptographyDeprecationWarning):
                found.append(x509.load_der_x509_certificate(each))
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(time.time(), UTC)
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


def _general(host: str) -> x509.DNSName | x509.IPAddress:
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
    left = found.not_valid_after_utc - datetime.fromtimestamp(time.time(), UTC)
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
    write_durably(folder / f"{name}.pem", b"".join(map(_pem, chained)))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
