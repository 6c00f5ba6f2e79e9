"""The folder's own authority and what it issues; and a public certificate, as an ACME client leaves it."""

from __future__ import annotations

import os
import pwd
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from palate_cli.cli import run
from palate_common.records.files import write_durably
from palate_core.errors import InputError
from palate_server.folder import certificates
from palate_server.folder.certificates import install, issue, make_authority
from palate_server.folder.server_folder import Site
from palate_server.service.checks import checked
from palate_server.service.gateway import check_configuration, trust_anchor
from palate_server.service.metrics import check_pair
from palate_server.service.setup import make_site

PUBLIC = 'population = "p"\nname = "palate.example.org"\n[gateway]\nacme_port = 8085\n'


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

    second = leaf_of(folder, "server").serial_number
    later = time.time() + (certificates.LEAF_DAYS - certificates.RENEW_DAYS + 1) * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    issue(folder, "server", ["other.example.org"])
    assert leaf_of(folder, "server").serial_number != second


def test_without_its_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`tls` must hold the authority"):
        issue(tmp_path, "server", ["localhost"])


@pytest.fixture
def lineage(tmp_path: Path) -> Path:
    """What certbot leaves of another authority, whose root is `root.pem` there."""
    folder = tmp_path / "live"
    folder.mkdir()
    make_authority(folder)
    issue(folder, "server", ["palate.example.org"])
    leaf = (folder / "server.pem").read_text().partition("-----END CERTIFICATE-----\n")
    (folder / "fullchain.pem").write_text("".join(leaf[:2]))
    (folder / "server.key").rename(folder / "privkey.pem")
    (folder / "ca.pem").rename(folder / "root.pem")
    return folder


@pytest.fixture
def site() -> Iterator[Site]:
    """A server folder to which every account of the machine would come if it were let in."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o711)
        yield make_site(Path(place) / "site", PUBLIC, ("a", "b"))


def test_a_public_certificate_is_awaited_then_installed_with_its_root_last(
    site: Site, lineage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, root = str(site.folder), str(lineage / "root.pem")
    check_configuration(site)  # nginx starts before there is one
    assert "certificate_awaited" in {each.code for each in checked(site, now=time.time()).problems}
    with pytest.raises(InputError, match="got none yet"):
        trust_anchor(site)
    assert run(["serve", "enroll", folder]) == 2

    assert run(["serve", "certificate", folder]) == 2, "no hook, and nothing named"
    assert "isn't a hook" in capsys.readouterr().err
    monkeypatch.setenv("RENEWED_LINEAGE", str(lineage))
    assert run(["serve", "certificate", folder]) == 2, "this machine doesn't trust that root"
    assert "--root" in capsys.readouterr().err
    assert run(["serve", "certificate", folder, "--root", root]) == 0
    assert "devices can be invited now" in capsys.readouterr().out
    assert site.certificate[1].stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in site.tls.glob("public*")) == ["public.key", "public.pem"]
    assert trust_anchor(site).endswith((lineage / "root.pem").read_text())
    told = checked(site, now=time.time())
    assert any(line.startswith("certificate: for palate.example.org") for line in told.good)
    assert "certificate_awaited" not in {each.code for each in told.problems}
    assert run(["serve", "enroll", folder]) == 0
    capsys.readouterr()

    monkeypatch.delenv("RENEWED_LINEAGE")
    monkeypatch.setenv("LEGO_CERT_PATH", str(lineage / "fullchain.pem"))
    monkeypatch.setenv("LEGO_CERT_KEY_PATH", str(lineage / "privkey.pem"))
    assert run(["serve", "certificate", folder, "--root", root]) == 0
    assert "invited" not in capsys.readouterr().out


def test_what_no_device_would_trust_is_not_installed(site: Site, lineage: Path) -> None:
    """Another name's, another key's, another root's, one that has ended, and what is no certificate."""
    before = {path: path.read_bytes() for path in site.tls.iterdir()}
    chain, key, root = ((lineage / f"{name}.pem").read_bytes() for name in ("fullchain", "privkey", "root"))
    own = (site.tls / "ca.pem").read_bytes()
    other = (site.tls / "superlink.key").read_bytes()
    for host, *given in (
        ("another.example.org", chain, key, root),
        ("palate.example.org", chain, other, root),
        ("palate.example.org", chain, key, own),
        ("palate.example.org", b"", key, root),
        ("palate.example.org", chain, chain, root),
        ("palate.example.org", key, key, root),
    ):
        with pytest.raises(InputError, match=r"`CHAIN`|`KEY`"):
            install(site.tls, host, given[0], given[1], roots=given[2])
    assert {path: path.read_bytes() for path in site.tls.iterdir()} == before


def test_an_installation_that_was_cut_short_is_ended_at_the_next_start(
    site: Site, lineage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and certificate are two files: with one of each pair nginx doesn't start."""
    given = [(lineage / f"{name}.pem").read_bytes() for name in ("fullchain", "privkey", "root")]
    for last, whole in (("public.next.pem", False), ("public.key", False), ("public.pem", True)):
        certificates.keep_place(site.tls, "palate.example.org")
        before = (site.tls / "public.pem").read_bytes()

        def killed(path: Path, data: bytes, *, mode: int = 0o644, last: str = last) -> None:
            if path.name == last:
                raise KeyboardInterrupt
            write_durably(path, data, mode=mode)

        with monkeypatch.context() as patched:
            patched.setattr(certificates, "write_durably", killed)
            with pytest.raises(KeyboardInterrupt):
                install(site.tls, "palate.example.org", given[0], given[1], roots=given[2])
        certificates.keep_place(site.tls, "palate.example.org")
        check_pair(site.tls / "public.pem", site.tls / "public.key")
        assert ((site.tls / "public.pem").read_bytes() != before) == whole
        assert sorted(path.name for path in site.tls.glob("public*")) == ["public.key", "public.pem"]


def test_root_is_not_led_to_a_file_of_its_own(site: Site, lineage: Path) -> None:
    """certbot runs as root: what it installs is the folder's account's, who could lay a link in its way."""
    if os.geteuid() != 0:
        return
    nobody, aim = pwd.getpwnam("nobody").pw_uid, lineage / "aim"
    aim.mkdir()
    for path in (site.folder, *site.folder.rglob("*")):
        os.chown(path, nobody, -1)
    given = [str(site.folder), str(lineage / "fullchain.pem"), str(lineage / "privkey.pem")]
    command = ["serve", "certificate", *given, "--root", str(lineage / "root.pem")]
    assert run(command) == 0
    assert {path.stat().st_uid for path in site.tls.glob("public*")} == {nobody}
    (site.folder / "tls").rename(site.folder / "former")
    site.tls.symlink_to(aim)
    assert run(command) == 2
    assert list(aim.iterdir()) == []
    assert os.geteuid() == 0
