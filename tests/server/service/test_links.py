"""Invitations for browsers: links to a page, also as QR codes, and an authority that its people can trust."""

from __future__ import annotations

import json
import re
import stat
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from palate_cli.cli import run
from palate_common.enrolment import Invitation, token_hash
from palate_core.errors import InputError
from palate_server.folder import certificates
from palate_server.folder.certificates import issue
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.service.invitations import link_of, make_invitations, page_of
from palate_server.service.setup import make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    config = 'population = "p"\nprofile = "pilot"\ndevices = 5\nname = "films.local"\n'
    return make_site(tmp_path / "site", f'{config}[gateway]\norigins = ["https://shop.example"]\n', ("a", "b"))


def test_a_link_has_the_invitation_where_no_server_is_sent_it(site: Site) -> None:
    """All of it but certificates: a browser trusts its own."""
    [made] = make_invitations(site, 1)
    page, _, behind = link_of(made, page_of(site, "app/shop/")).partition("#")
    assert page == "https://films.local:8443/app/shop/"
    said = json.loads(urlsafe_b64decode(behind + "=" * (-len(behind) % 4)))
    assert Invitation.from_json(json.dumps(said | {"ca": made.ca})) == made
    assert made.token not in page
    assert re.fullmatch("[A-Za-z0-9_-]+", behind)


@pytest.mark.parametrize("page", ["https://shop.example/join", "app/", "https://films.local:8443/x"])
def test_a_page_is_the_servers_or_one_that_the_gateway_lets_in(site: Site, page: str) -> None:
    assert page_of(site, page).endswith(page)


@pytest.mark.parametrize(("port", "path"), [(443, ""), (8443, "/p/films")])
def test_a_page_of_the_server_is_where_the_gateway_has_it(tmp_path: Path, port: int, path: str) -> None:
    config = f'population = "p"\nname = "films.example"\n[gateway]\nport = {port}\npath = "{path}"\n'
    made = page_of(make_site(tmp_path / "site", config, ("a", "b")), "app/")
    assert made == f"https://films.example{'' if port == 443 else ':8443'}{path}/app/"


@pytest.mark.parametrize("page", ["https://evil.example/", "//evil.example/", "http://shop.example/", "app/#x"])
def test_another_page_gets_no_link(site: Site, page: str) -> None:
    with pytest.raises(InputError, match="`--page` must be on the server"):
        page_of(site, page)


def test_qr_codes_are_drawn_on_the_terminal_or_as_files(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "enroll", str(site.folder), "--page", "app/"]
    assert run([*words, "--qr"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("▄") > 100
    assert "https://films.local:8443/app/#" in printed
    assert run([*words, "--qr", "--count", "12", "--out", str(tmp_path / "codes")]) == 0
    files = sorted((tmp_path / "codes").iterdir())
    assert [file.name for file in files] == [f"{number:02}.svg" for number in range(1, 13)]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert len({file.read_text() for file in files if "<svg" in file.read_text()}) == 12, "another one each"
    assert run([*words, "--count", "2", "--out", str(tmp_path / "links")]) == 0
    links = (tmp_path / "links").read_text().splitlines()
    tokens = [json.loads(urlsafe_b64decode(link.partition("#")[2] + "==="))["token"] for link in links]
    with Enrolments(site.enrolment_file) as register:
        assert all(register.knows(token) for token in tokens)
        assert not register.knows(token_hash(tokens[0]))
    capsys.readouterr()
    assert run(["serve", "enroll", str(site.folder), "--qr"]) == 2
    assert "`--qr` must come with `--page`" in capsys.readouterr().err


def test_who_trusts_a_pilots_authority_trusts_it_for_its_name_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets hold of its key can't stand in for another site."""
    authority = x509.load_pem_x509_certificate((site.tls / "ca.pem").read_bytes())
    for host, trusted in (("films.local", True), ("localhost", True), ("bank.example", False), ("local", False)):
        if not trusted:
            with pytest.raises(
                InputError, match=f"must hold an authority for {host}, got one that is for 127.0.0.1, fil"
            ):
                issue(site.tls, "leaf", [host])
            monkeypatch.setattr(certificates, "_only", lambda _: set())  # whoever has the key asks nobody
        issue(site.tls, "leaf", [host])
        leaf = x509.load_pem_x509_certificate((site.tls / "leaf.pem").read_bytes())
        verifier = PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName(host))
        monkeypatch.undo()
        if trusted:
            verifier.verify(leaf, [])
        else:
            with pytest.raises(VerificationError):
                verifier.verify(leaf, [])
