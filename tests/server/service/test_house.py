"""A house: what its populations have for themselves, and what is refused because two of them would share it."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import httpx
import pytest
from witnessed import Committee

from palate_cli.cli import run
from palate_common.enrolment import Invitation
from palate_core.errors import InputError
from palate_core.log.checkpoints import read_state, sign_checkpoint
from palate_server.folder.house import House, make_house
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import Front, configuration, write_configuration
from palate_server.service.http_api import EnrolmentService, application
from palate_server.service.setup import make_site
from palate_server.witness.folder import log_id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with two populations, as the commands make it; tests change copies."""
    folder = tmp_path_factory.mktemp("houses")
    (folder / "items").write_text("a\nb\nc\n")
    assert run(["serve", "house", str(folder / "house"), "--name", "palate.example.org", "--port", "9443"]) == 0
    for name in ("shop", "news"):
        place, items = str(folder / "house" / "p" / name), str(folder / "items")
        assert run(["serve", "init", place, "--population", f"{name} readers", "--items", items]) == 0
    return House.at(folder / "house")


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    shutil.copytree(made.folder, tmp_path / "house")
    return House.at(tmp_path / "house")


def change(site: Site, old: str, new: str) -> None:
    text = site.config_file.read_text()
    assert old in text
    site.config_file.write_text(text.replace(old, new))


def test_its_populations_share_an_address_and_nothing_else(house: House) -> None:
    shop, news = house.open("shop"), house.open("news")
    assert (shop.address, news.address) == tuple(
        f"https://palate.example.org:9443/p/{name}" for name in ("shop", "news")
    )
    assert house.opened() == house.names() == ["news", "shop"]
    assert not {*shop.config.gateway.loopback_ports, 9443, 9447} & {*news.config.gateway.loopback_ports}
    assert shop.key().public != news.key().public
    for name in ("key", "ledger.db", "tls/ca.key", "tls/superlink.key"):
        assert (shop.folder / name).read_bytes() != (news.folder / name).read_bytes()
    for path in (house.folder, house.populations, house.tls, house.open_folder, shop.folder):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (house.tls / "server.key").stat().st_mode & 0o777 == 0o600
    house.shut("shop")
    assert house.opened() == ["news"]
    assert house.names() == ["news", "shop"]


def test_an_invitation_names_the_path_and_the_houses_authority(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "enroll", str(house.populations / "shop")]) == 0
    invited = Invitation.from_json(capsys.readouterr().out)
    assert (invited.version, invited.server, invited.port, invited.path) == (2, "palate.example.org", 9443, "/p/shop")
    assert (house.tls / "ca.pem").read_text() in invited.ca
    assert (house.populations / "shop" / "tls" / "ca.pem").read_text() not in invited.ca


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port = 9443", "port = 9555", "`gateway.port` of shop must be the house's, 9443, got 9555"),
        ("metrics_port = 9452", "metrics_port = 9461", "ports of shop must be its own, got one that news has: 9461"),
        (
            "metrics_port = 9452",
            "metrics_port = 9447",
            "ports of shop must be its own, got one that the house has: 9447",
        ),
        ("/p/shop", "/p/news", "`name` and `gateway.path` of shop must be its own, got what news has"),
        ('"shop readers"', '"news readers"', "`population` of shop must be its own, got what news has: news readers"),
        ("../../tls/", "tls/", "`gateway.certificate` of shop must be the house's, as its name is"),
        ("[cohort]", '[backup]\nwitness = "../news/witness"\n[cohort]', "`backup.witness` of shop must be its own"),
        ("[cohort]", "[cohort]\ntypo = 1", "`typo` is no key of a server"),
    ],
)
def test_what_two_would_share_is_refused(house: House, old: str, new: str, message: str) -> None:
    house.open("news")
    change(house.site("shop"), old, new)
    with pytest.raises(InputError, match=re.escape(message)):
        house.open("shop")
    assert house.opened() == ["news"]


def test_two_folders_of_one_population_are_not_served(house: House) -> None:
    """As with a backup that was restored beside the original: each would charge what the other doesn't know of."""
    house.open("shop")
    shutil.copytree(house.populations / "shop", house.populations / "copy")
    copy = house.site("copy")
    change(copy, "shop readers", "other readers")
    for old, new in (("9450", "9470"), ("9451", "9471"), ("9452", "9472"), ("/p/shop", "/p/copy")):
        change(copy, old, new)
    with pytest.raises(InputError, match="the release key of copy must be its own, got what shop has"):
        house.open("copy")


def test_what_is_no_population_is_not_opened(house: House, tmp_path: Path) -> None:
    make_site(tmp_path / "elsewhere", 'population = "p"\n', ("a",))
    (house.populations / "link").symlink_to(tmp_path / "elsewhere")
    (house.populations / "empty").mkdir()
    for name, message in (
        ("link", "a link to elsewhere"),
        ("empty", "palate serve init"),
        ("none", "palate serve init"),
        ("../../elsewhere", "must be named by"),
        ("", "must be named by"),
    ):
        with pytest.raises(InputError, match=message):
            house.open(name)
    with pytest.raises(InputError, match="must be a population that is open, got shop"):
        house.shut("shop")
    with pytest.raises(InputError, match="new or empty"):
        make_house(house.folder, name="localhost", port=8443)
    with pytest.raises(InputError, match="host name"):
        make_house(tmp_path / "other", name="No Host", port=8443)
    assert not (tmp_path / "other").exists()


def test_a_population_may_have_a_name_of_its_own(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a server that has devices already: its address and its certificate stay what they were."""
    (tmp_path / "items").write_text("a\nb\n")
    place = house.populations / "books"
    named = ["--population", "b", "--items", str(tmp_path / "items"), "--name", "books.example.org"]
    assert run(["serve", "init", str(place), *named, "--port", "1"]) == 2
    assert "`--port` must be left out in a house" in capsys.readouterr().err
    assert run(["serve", "init", str(place), *named]) == 0
    books, shop = house.open("books"), house.open("shop")
    assert books.address == "https://books.example.org:9443"
    sites = {"books": books, "shop": shop}
    text = configuration(Front(house.populations, house.state, house.logs, "127.0.0.1", 9443, sites))
    assert text.count(" server_name ") == 2
    assert f"ssl_certificate {books.tls}/server.pem;" in text
    assert re.findall(r"(?<=zone=requests_)\w+(?=:)", text) == ["books", "shop"]


def test_without_nginx_the_path_is_the_same(house: House) -> None:
    """`--dev`, for one population alone: invitations name the path in any case."""
    site = house.site("shop")
    enrolling = EnrolmentService(site, lambda key: 1, lambda key: None)
    app = application(site, enrolling, stand_in=True)
    found = {}

    async def ask() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://palate.example.org") as client:
            for method, path in (
                ("GET", "/p/shop/models/latest"),
                ("GET", "/models/latest"),
                ("GET", "/p/news/models/latest"),
                ("GET", "/p/shop/../key"),
                ("POST", "/p/shop/v1/enroll"),
                ("POST", "/v1/enroll"),
                ("POST", "/p/shop/v1/fleet/UP"),
            ):
                found[method, path] = (await client.request(method, path)).status_code

    asyncio.run(ask())
    enrolling.close()
    assert list(found.values()) == [200, 404, 404, 404, 400, 404, 404]


def test_a_witness_of_both_sees_two_logs(house: House, tmp_path: Path) -> None:
    """What it has cosigned of one says nothing about the other, and neither can be shown in the other's place."""
    witness = Committee.make(tmp_path, 1)
    notes, logs = {}, {}
    for name in house.names():
        site = house.site(name)
        with site.ledger() as ledger:
            logs[name] = ledger.log_key(site.key().public)
            witness.watch(logs[name])
            note = sign_checkpoint(ledger.checkpoint(), logs[name].name, site.key())
            notes[name] = witness.cosigned(note, ledger)
            assert len(notes[name].signatures) == 2, "the log's own, and the witness's"
    assert logs["shop"].name != logs["news"].name
    folder = witness.folders[0]
    assert sorted(folder.logs()) == sorted(log_id(log.name) for log in logs.values())
    shop, news = house.site("shop"), house.site("news")
    with shop.ledger() as ledger:
        forged = sign_checkpoint(ledger.checkpoint(), logs["news"].name, shop.key())
        assert len(witness.cosigned(forged, ledger).signatures) == 1, "a log has its own key"
        for _ in range(3):
            ledger.open_run(f"run {_}", {})
        grown = sign_checkpoint(ledger.checkpoint(), logs["shop"].name, shop.key())
        assert len(witness.cosigned(grown, ledger).signatures) == 2
    assert folder.state(log_id(logs["news"].name)).checkpoint == read_state(notes["news"].text).checkpoint
    with news.ledger() as ledger:
        swapped = sign_checkpoint(ledger.checkpoint(), logs["shop"].name, shop.key())
        assert len(witness.cosigned(swapped, ledger).signatures) == 1, "an old state, or another tree"


def test_a_server_that_had_the_houses_name_keeps_its_bare_paths(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its devices know no path, and trust its own authority: the house takes that one over."""
    (tmp_path / "items").write_text("a\nb\n")
    alone, named = tmp_path / "alone", ["--population", "old", "--items", str(tmp_path / "items")]
    assert run(["serve", "init", str(alone), *named, "--name", "palate.example.org", "--port", "9443"]) == 0
    shutil.move(alone, house.populations / "old")
    with pytest.raises(InputError, match=r"`gateway\.certificate` of old must be the house's"):
        house.open("old")
    with house.config_file.open("a") as file:
        file.write('certificate = "p/old/tls/server.pem"\ncertificate_key = "p/old/tls/server.key"\n')
    house = House.at(house.folder)
    assert house.open("old").address == "https://palate.example.org:9443"
    items = str(tmp_path / "items")
    assert run(["serve", "init", str(house.populations / "new"), "--population", "new", "--items", items]) == 0
    assert 'certificate = "../../p/old/tls/server.pem"' in house.site("new").config_file.read_text()
    assert house.open("new").address == "https://palate.example.org:9443/p/new"
    with pytest.raises(InputError, match=r"`gateway\.certificate` of shop must be the house's"):
        house.open("shop")  # what an invitation of it names is another certificate
    sites = house.sites(house.opened())
    write_configuration(Front(house.populations, house.state, house.logs, "127.0.0.1", 9443, sites))


def test_status_tells_of_all_of_them(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.open("shop")
    change(house.site("news"), "[cohort]", "[cohort]\ntypo = 1")
    assert run(["serve", "status", str(house.folder)]) == 0
    said = capsys.readouterr().out
    assert "shop: open · https://palate.example.org:9443/p/shop\n  population shop readers · 0 enrolled" in said
    assert "news: shut · NOT GOOD: server.toml, [cohort]: `typo`" in said
    assert run(["serve", "run", str(house.folder), "--dev"]) == 2
