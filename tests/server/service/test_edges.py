"""Grants: what another host gets to be an edge, what it opens with it, and what becomes of one that is taken back."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response

from palate_cli.cli import run
from palate_core.errors import InputError, IntegrityError
from palate_server.flower.edge_link import authenticated, verified
from palate_server.flower.guard import REGISTER, REGISTERING, TokenGuard
from palate_server.folder import certificates
from palate_server.folder.edges import (
    OWN,
    adds,
    end_grant,
    grant_edge,
    grant_of,
    granted_edges,
    key_of,
    make_edge_folder,
    read_grant,
    token_for,
    tokens_for,
)
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import configuration, trust_anchor
from palate_server.service.setup import make_certificates, make_secret, make_site

CONFIG = 'population = "p"\nname = "palate.example.org"\n[gateway]\npath = "/p/shop"\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path / "s", f'{CONFIG}superlink_listen = "0.0.0.0"\n', ("a", "b"))
    make_certificates(made)
    make_secret(made)
    return made


def test_a_grant_makes_a_folder_that_needs_nothing_else(site: Site, tmp_path: Path) -> None:
    file, folder = tmp_path / "one.edge", tmp_path / "edge"
    assert run(["serve", "edge", str(site.folder), "one", "--host", "10.0.0.5", "--out", str(file)]) == 0
    assert file.stat().st_mode & 0o077 == 0
    found = make_edge_folder(folder, read_grant(file), listen="10.0.0.6", port=443)
    assert grant_of(site) is None
    granted = grant_of(found)
    assert granted is not None
    assert (granted.name, granted.host, granted.secret) == ("one", "10.0.0.5", key_of(site, "one"))
    config = found.config
    assert (config.population, config.name) == ("p", "palate.example.org")
    assert (config.gateway.path, config.gateway.listen, config.gateway.port) == ("/p/shop", "10.0.0.6", 443)
    assert found.certificate[0].read_bytes() == site.certificate[0].read_bytes()
    assert not found.enrolment_file.exists()
    assert "10.0.0.5" in _names(site), "the SuperLink's certificate is for the address by which the edge comes"
    again = make_edge_folder(folder, read_grant(file).numbered(3), listen="10.0.0.6", port=443)
    assert (grant_of(again) or granted).name == "one/3"


def _names(site: Site) -> str:
    from cryptography import x509

    found = x509.load_pem_x509_certificate((site.tls / "superlink.pem").read_bytes())
    return str(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_a_grant_has_a_certificate_that_doesnt_end_soon(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway of an edge has it until the next grant; the server renews its own at each start."""
    former = site.certificate[0].read_text()
    monkeypatch.setattr(certificates, "_lasts", lambda path, hosts: path.read_text() != former)
    file = tmp_path / "one.edge"
    assert run(["serve", "edge", str(site.folder), "one", "--host", "10.0.0.5", "--out", str(file)]) == 0
    assert read_grant(file).certificate == site.certificate[0].read_text() != former


def test_the_same_name_keeps_its_key_until_its_grant_is_ended(site: Site) -> None:
    grant = partial(grant_edge, site, authority=trust_anchor(site))
    first, second = grant("one", "a.example"), grant("one", "b.example")
    assert first.key == second.key != grant("two", "a.example").key
    assert granted_edges(site.folder) == ["one", "two"]
    end_grant(site, "one")
    assert key_of(site, "one") is None
    assert granted_edges(site.folder) == ["two"]
    with pytest.raises(InputError, match="must be an edge's, got 'one'"):
        end_grant(site, "one")
    assert grant("one", "a.example").key != first.key


def test_an_edge_adds_only_where_its_latest_grant_says_so(site: Site, tmp_path: Path) -> None:
    given = ["serve", "edge", str(site.folder), "one", "--host", "a.example", "--out", str(tmp_path / "one.edge")]
    names = (OWN, "one", "one/3", "two", "../one")
    for options, added in (([], [True, False, False]), (["--adds"], [True] * 3), ([], [True, False, False])):
        assert run([*given, *options]) == 0
        assert [adds(site, name) for name in names] == [*added, False, False]


@pytest.mark.parametrize("name", ["", OWN, "One", "a/b", "../a", "a" * 41])
def test_what_is_no_name_is_refused(site: Site, name: str) -> None:
    with pytest.raises(InputError, match="`NAME` must be"):
        grant_edge(site, name, "host", authority="")
    assert key_of(site, name) == (key_of(site, OWN) if name == OWN else None)


@pytest.mark.parametrize("host", ["h\u00e4st", "a b", "a;b", "::1", "-x", "a/b", "a" * 254, "a\n"])
def test_what_is_no_host_is_refused_before_anything_is_kept(site: Site, host: str) -> None:
    """A server whose certificate can't be for it would start no more."""
    with pytest.raises(InputError, match="`--host` must be"):
        grant_edge(site, "one", host, authority="")
    assert granted_edges(site.folder) == []
    make_certificates(site)


def test_an_address_of_ipv6_is_one_in_the_certificate(site: Site) -> None:
    grant_edge(site, "one", "[fd00::5]", authority=trust_anchor(site))
    make_certificates(site)
    assert "fd00::5" in _names(site)
    assert "[" not in _names(site).partition("fd00::5")[0].rpartition("IPAddress")[2], "no name of that spelling"


def test_a_populations_name_comes_with_every_character(tmp_path: Path) -> None:
    text = CONFIG.replace('"p"', '"caf\u00e9 \U0001f600"') + 'superlink_listen = "0.0.0.0"\n'
    made = make_site(tmp_path / "s", text, ("a", "b"))
    grant = grant_edge(made, "one", "10.0.0.5", authority=trust_anchor(made))
    edge = make_edge_folder(tmp_path / "edge", grant, listen="10.0.0.6", port=443)
    assert edge.config.population == "caf\u00e9 \U0001f600"


def test_without_an_address_for_them_there_are_no_edges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, more in enumerate(("", 'superlink_listen = "0.0.0.0"\nlink = "direct"\n')):
        site = make_site(tmp_path / str(number), CONFIG + more, ("a", "b"))
        assert run(["serve", "edge", str(site.folder), "one", "--host", "h"]) == 2
        assert "`gateway.superlink_listen` must be an address that other hosts reach" in capsys.readouterr().err
        assert granted_edges(site.folder) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "one"}'])
def test_what_is_no_grant_is_refused_before_anything_is_written(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grant"
    file.write_text(text)
    assert run(["edge", str(file), str(tmp_path / "edge")]) == 2
    assert "`GRANT` must be what `palate serve edge` wrote" in capsys.readouterr().err
    assert run(["edge", str(tmp_path / "none"), str(tmp_path / "edge")]) == 2
    assert not (tmp_path / "edge").exists()


def test_a_folder_of_something_else_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    grant = grant_edge(site, "one", "host", authority=trust_anchor(site))
    before = sorted(site.folder.rglob("*"))
    with pytest.raises(InputError, match="must be empty, or an edge's"):
        make_edge_folder(site.folder, grant, listen="127.0.0.1", port=1)
    assert sorted(site.folder.rglob("*")) == before


def test_an_edges_token_registers_a_node_and_opens_nothing_else(site: Site) -> None:
    grant = grant_edge(site, "one", "host", authority=trust_anchor(site))

    async def ask() -> None:
        guard = TokenGuard(Response(b""), "own", lambda: tokens_for(site.folder, REGISTERING))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="https://localhost") as client:

            async def status(path: str, token: str) -> int:
                return (await client.post(path, headers={"authorization": f"Bearer {token}"})).status_code

            token = token_for(grant.secret, REGISTERING)
            assert await status(REGISTER, token) == 200
            for other in ("/v1/control/start-run", "/v1/control/list-nodes", f"{REGISTER}/", "/docs"):
                assert await status(other, token) == 401
            for wrong in ("", token[:-1], token_for(grant.secret, "gateway"), grant.key):
                assert await status(REGISTER, wrong) == 401
            end_grant(site, "one")
            assert await status(REGISTER, token) == 401, "at once"

    asyncio.run(ask())


def test_a_gateway_keeps_what_never_changes_and_lets_nobody_wait_for_the_rest(site: Site, tmp_path: Path) -> None:
    """Whoever asks for what isn't kept would wait for whoever asked before, half a second each."""
    grant = grant_edge(site, "one", "10.0.0.5", authority=trust_anchor(site))
    made = configuration(make_edge_folder(tmp_path / "edge", grant, listen="10.0.0.6", port=443))
    places = {each.split("{")[0].strip(): each for each in made.split("location ")[1:]}
    kept = [name for name, text in places.items() if "proxy_cache files" in text]
    assert kept == ["^~ /p/shop/models/", "^~ /p/shop/round/"]
    assert all("proxy_ignore_headers Vary" in places[name] for name in kept), "Vary names whatever a client sends"
    for name in ("= /p/shop/models/latest", "= /p/shop/ledger/checkpoint", "^~ /p/shop/ledger/"):
        assert "proxy_pass https://server" in places[name]


def test_a_reply_is_an_edges_only_by_its_own_key_and_for_what_was_asked(site: Site) -> None:
    one = grant_edge(site, "one", "host", authority=trust_anchor(site))
    two = grant_edge(site, "two", "host", authority=trust_anchor(site))
    nonce, keys = b"n" * 16, partial(key_of, site)
    said = authenticated("one", one.secret, nonce, b"batch")
    assert verified(said, nonce, keys) == ("one", b"batch")
    assert verified(authenticated("one/7", one.secret, nonce, b""), nonce, keys) == ("one/7", b"")
    for number in ("07", "100", "7/7", "x", ""):
        with pytest.raises(IntegrityError):  # a grant is of a hundred edges at most
            verified(authenticated(f"one/{number}", one.secret, nonce, b""), nonce, keys)
    assert verified(authenticated(OWN, key_of(site, OWN) or b"", nonce, b"x"), nonce, keys) == (OWN, b"x")
    for wrong in (
        *(authenticated(name, two.secret, nonce, b"batch") for name in ("one", OWN, "none", "../two", "one/../two")),
        authenticated("one", one.secret, b"m" * 16, b"batch"),
        said[:-1] + b"?",
        said[:5],
        b"",
        b"\xff" + said,
    ):
        with pytest.raises(IntegrityError, match="must be an edge's that this server knows"):
            verified(wrong, nonce, keys)
    end_grant(site, "one")
    with pytest.raises(IntegrityError):
        verified(said, nonce, keys)


def test_a_grant_has_of_the_configuration_only_what_an_edge_needs(site: Site) -> None:
    config = json.loads(grant_edge(site, "one", "host", authority=trust_anchor(site)).config)
    assert sorted(config) == ["cohort", "enrolment", "gateway", "name", "population"]
    assert "metrics_port" not in config["gateway"]
