"""Certificates: those a server makes and renews, and public ones in their place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_core.errors import PalateError
from palate_server.folder import certificates


@cache
def _chain() -> dict[str, Any]:
    """An authority of others, certificates by it of several times, and their keys."""
    secrets = [ec.derive_private_key(77 + number, ec.SECP256R1()) for number in range(3)]
    root = _certificate("root", "root", secrets[0], secrets[0], 2000, 2095)
    leaves = {
        years: _certificate("palate.example.org", "root", secrets[1], secrets[0], *years)
        for years in ((2000, 2095), (2000, 2001), (2090, 2095))
    }
    other = _certificate("palate.example.org", "palate.example.org", secrets[1], secrets[1], 2000, 2095)
    return {"root": root, "leaves": leaves, "other": other, "keys": [_secret(key) for key in secrets]}


def _secret(key: Any) -> bytes:
    found: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return found


def _certificate(name: str, issuer: str, key: Any, by: Any, begins: int, ends: int) -> bytes:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
    is_root = name == "root"
    made = x509.CertificateBuilder(
        names[1], names[0], key.public_key(), 7, datetime(begins, 1, 1), datetime(ends, 1, 1)
    )
    made = made.add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if is_root:
        made = made.add_extension(certificates._usage(sign=True), critical=True)
    else:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _parts(path: Path) -> list[Any]:
    """What a file of certificates says, without what is drawn."""
    found = []
    for each in x509.load_pem_x509_certificates(path.read_bytes()):
        days = (each.not_valid_after_utc - each.not_valid_before_utc) / timedelta(hours=1)
        kinds = [(part.oid.dotted_string, part.critical) for part in each.extensions]
        said = [_extension(part.value) for part in each.extensions]
        found.append(
            (
                each.subject.rfc4514_string(),
                each.issuer.rfc4514_string(),
                int(days),
                each.not_valid_before_utc.isoformat(),
                kinds,
                said,
            )
        )
    return found


def _extension(value: Any) -> Any:
    """What an extension says."""
    match value:
        case x509.SubjectAlternativeName():
            return [str(each.value) for each in value]
        case x509.BasicConstraints():
            return value.ca, value.path_length
        case x509.KeyUsage():
            return (
                value.digital_signature,
                value.key_cert_sign,
                value.crl_sign,
                value.content_commitment,
                value.key_encipherment,
                value.key_agreement,
            )
        case x509.ExtendedKeyUsage():
            return [each.dotted_string for each in value]
        case _:
            return None


def _installed(answer: CaseAnswer, root: Path, host: str, public: bytes, key: bytes) -> None:
    """Install a public certificate; of a refusal its kind is told: the rest is a library's."""
    try:
        answer.tell(certificates.install(root, host, public, key, roots=_chain()["root"]).subject.rfc4514_string())
    except PalateError as error:
        answer.tell(type(error).__name__, str(error).partition(" ")[0])


def _certified(dice: Dice, answer: CaseAnswer) -> None:
    """Certificates that are made, kept, renewed, damaged, and replaced by public ones."""
    chain = _chain()
    base = datetime(2026, 1, 1, tzinfo=UTC)
    with made_folder(answer) as root, mock.patch("time.time", return_value=base.timestamp()) as clock:
        for _ in range(6):
            before = {path.name: path.read_bytes() for path in root.iterdir()}
            step = dice.whole(0, 8)
            hosts = dice.one_of(
                (
                    ["localhost"],
                    ["localhost", "127.0.0.1"],
                    ["127.0.0.1", "localhost"],
                    ["palate.example.org"],
                    ["::1"],
                    ["x" * 70 + ".example"],
                )
            )
            if step <= 1 or "ca.pem" not in before:
                tell_result(answer, certificates.make_authority, root)
            if step <= 3:
                tell_result(answer, certificates.issue, root, dice.one_of(("server", "server", "superlink")), hosts)
            elif step == 4:
                tell_result(answer, certificates.keep_place, root, hosts[0])
            elif step == 5:
                public, key = (
                    dice.one_of(
                        (*chain["leaves"].values(), *list(chain["leaves"].values())[:1] * 4, chain["other"], b"x")
                    ),
                    dice.one_of((chain["keys"][1],) * 4 + (chain["keys"][2], b"x")),
                )
                host = dice.one_of(("palate.example.org",) * 4 + ("other.example",))
                _installed(answer, root, host, public, key)
            elif step == 6:
                names = ("public.next.pem", "server.pem", "server.key", "ca.key", "server.pem")
                data = dice.one_of((b"broken", *list(chain["leaves"].values())[:1], chain["keys"][1], chain["root"]))
                (root / dice.one_of(names)).write_bytes(data)
            else:  # what an installation leaves that was cut short
                (root / "public.next.pem").write_bytes(dice.one_of((*chain["leaves"].values(), b"x")))
                (root / "public.key").write_bytes(dice.one_of((*[chain["keys"][1]] * 2, chain["keys"][2], b"x")))
                tell_result(answer, certificates.keep_place, root, hosts[0])
            clock.return_value = (base + timedelta(days=dice.one_of((0, 1, 366, 367, 368, 397, 4000)))).timestamp()
            after = {path.name: path.read_bytes() for path in root.iterdir()}
            answer.tell(
                sorted((name, after[name] == before.get(name), (root / name).stat().st_mode & 0o777) for name in after)
            )
            for name in sorted(after):
                if (
                    name.endswith(".pem")
                    and after[name] != before.get(name)
                    and after[name].startswith(b"-----BEGIN C")
                ):
                    answer.tell(name, _parts(root / name))
            answer.tell([certificates.is_awaited(root / name) for name in ("public.pem", "server.pem", "none.pem")])
        for named in (("", ""), ("c.pem", "k.key")):
            answer.tell(certificates.pair_of(*named, acme=dice.chance(0.5)))
    answer.tell(json.dumps(sorted(chain["leaves"])))


SEAMS = (Seam("certificates: made, renewed, installed", _certified, 12),)
