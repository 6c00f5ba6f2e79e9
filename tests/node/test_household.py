"""People of a node are kept apart, see what they are recommended, are switched off, and are erased."""

from __future__ import annotations

import base64
import json
import socket
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest
from households import Household, listen

from palate_cli.cli import run
from palate_core.errors import InputError, LockedError
from palate_node.people import OWNER, HostedPeople


def test_a_listen_counts_for_whose_token_it_has_and_once(household: Household) -> None:
    assert household.ask("anna", "/1/submit-listens", listen(3)).json() == {"status": "ok"}
    household.ask("anna", "/1/submit-listens", listen(3))
    household.ask("anna", "/1/submit-listens", listen(4, kind="playing_now"))
    household.ask("anna", "/1/submit-listens", listen(99, recording_mbid="mb-5"))
    assert household.items("anna") == ["mb-3", "mb-5"]
    assert household.items("ben") == []
    assert [each.service for each in household.people.get("anna").device.imports()] == ["listenbrainz"]
    later = household.again()
    assert later.items("anna") == ["mb-3", "mb-5"]
    later.close()


def test_what_is_no_listen_is_refused_and_stores_nothing(household: Household) -> None:
    for body in ([], {"listen_type": "all"}, {"listen_type": "single", "payload": "x"}, listen(1, at=1e12), 7):
        assert household.ask("anna", "/1/submit-listens", body).status_code in (200, 400)
    headers = {"Authorization": f"Token {household.tokens['anna']}"}
    assert household.client.post("/1/submit-listens", content=b"[" * 100_000, headers=headers).status_code == 400
    assert household.client.post("/1/submit-listens", content=b" " * (11 * 2**20), headers=headers).status_code == 413
    assert household.items("anna") == []


def test_an_artist_alone_is_no_film_of_that_name(household: Household) -> None:
    band = listen(1)
    band["payload"][0]["track_metadata"] |= {"artist_name": "Film 1"}
    household.ask("anna", "/1/submit-listens", band)
    assert household.items("anna") == []


def test_tokens_keep_people_apart(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    playlist = household.ask("anna", "/1/user/anna/playlists/createdfor").json()["playlists"][0]["playlist"][
        "identifier"
    ]
    its = playlist.rpartition("/")[2]
    assert household.ask("anna", f"/1/playlist/{its}").status_code == 200
    assert household.ask("ben", f"/1/playlist/{its}").status_code == 404
    assert household.ask("ben", "/1/user/anna/playlists/createdfor").status_code == 404
    assert "mb-3" not in household.ask("ben", "/me", basic=True).text
    for path in ("/", "/me", "/list.json", "/list.atom", "/1/validate-token", f"/1/playlist/{its}"):
        for token in ("palate", "wrong", household.tokens["anna"][:-1]):
            found = household.ask(token, path)
            assert (found.status_code, "anna" in found.text) == (401, False), (path, token)
        if path != "/":
            assert household.ask(OWNER, path).status_code == 403
    assert household.ask("ben", "/", basic=True).text.count("<section>") == 1
    assert household.ask(OWNER, "/", basic=True).text.count("<section>") == 2
    assert household.press("ben", "off", name="anna").status_code == 303
    assert (household.people.get("anna").settings.on, household.people.get("ben").settings.on) == (True, False)


def test_a_list_is_read_as_json_as_a_playlist_and_as_a_feed(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(1))
    found = household.ask("anna", "/list.json").json()
    assert found[0].keys() == {"item", "title", "year", "ids", "reason"}
    assert "mb-1" not in [each["item"] for each in found]
    assert len(household.ask("anna", "/list.json", basic=True).json()) == 20
    created = household.ask("anna", "/1/user/anna/playlists/createdfor").json()
    assert (created["playlist_count"], created["playlists"][0]["playlist"]["track"]) == (1, [])
    its = created["playlists"][0]["playlist"]["identifier"].rpartition("/")[2]
    tracks = household.ask("anna", f"/1/playlist/{its}").json()["playlist"]["track"]
    song = next(each for each in tracks if each["title"] == "Song 2")
    assert song == {
        "creator": "Maker 2",
        "title": "Song 2",
        "identifier": ["https://musicbrainz.org/recording/mb-2"],
    }
    for name, kind in (("atom", "application/atom+xml"), ("opds", "application/atom+xml;profile=opds-catalog")):
        feed = household.ask("anna", f"/list.{name}", basic=True)
        assert feed.headers["content-type"].replace("; charset=utf-8", "") == kind
        root = ElementTree.fromstring(feed.content)  # noqa: S314 # it is the node's own
        assert len(root.findall("{http://www.w3.org/2005/Atom}entry")) == 20


def test_who_is_switched_off_is_neither_read_nor_shown_until_switched_on(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    assert household.press(OWNER, "off", name="anna").status_code == 303
    for path, body in (
        ("/1/submit-listens", listen(4)),
        ("/list.json", None),
        ("/me", None),
        ("/1/validate-token", None),
    ):
        assert household.ask("anna", path, body).status_code == 403
    later = household.again()
    assert later.ask("anna", "/list.json").status_code == 403
    assert later.press("anna", "on").status_code == 303
    assert later.items("anna") == ["mb-3"]
    later.close()


def test_who_is_erased_is_gone_with_key_and_files(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    assert household.press("anna", "erase").status_code == 400, "it takes the tick"
    assert household.press("anna", "erase", sure="yes").status_code == 200
    assert household.ask("anna", "/").status_code == 401
    left = [path.relative_to(household.home).as_posix() for path in household.home.rglob("*")]
    assert not [path for path in left if "anna" in path]
    assert [each.name for each in household.people] == ["ben"]
    again = household.again()
    assert [each.name for each in again.people] == ["ben"]
    again.close()


def test_a_form_from_elsewhere_presses_no_button(household: Household) -> None:
    for token in ("", "0" * 64):
        assert household.ask("anna", "/", basic=True, do="off", token=token).status_code == 403
    page = household.ask("anna", "/", basic=True)
    token = page.text.partition('name="token" value="')[2][:64]
    assert (len(token), page.headers["X-Frame-Options"]) == (64, "DENY"), "nor shows a page elsewhere its buttons"
    sent, password = {"do": "off", "token": token}, base64.b64encode(f"anna:{household.tokens['anna']}".encode())
    for origin in ("http://elsewhere", "null", "https://127.0.0.1"):
        headers = {"Authorization": f"Basic {password.decode()}", "Origin": origin}
        assert household.client.post("/", data=sent, headers=headers).status_code == 403
    assert household.people.get("anna").settings.on


def test_a_page_elsewhere_submits_nothing_with_the_browsers_password(household: Household) -> None:
    password = base64.b64encode(f"anna:{household.tokens['anna']}".encode()).decode()
    for path in ("/1/submit-listens", "/hook/jellyfin"):
        headers = {"Authorization": f"Basic {password}", "Origin": "http://elsewhere", "Content-Type": "text/plain"}
        assert household.client.post(path, json=listen(3), headers=headers).status_code == 403
    assert household.items("anna") == []
    headers = {"Authorization": f"Token {household.tokens['anna']}", "Origin": "moz-extension://scrobbler"}
    assert household.client.post("/1/submit-listens", json=listen(3), headers=headers).status_code == 200


def test_of_who_has_no_token_nothing_is_read_but_the_headers(household: Household) -> None:
    host, port = household.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as stranger:
        stranger.sendall(b"POST /1/submit-listens HTTP/1.1\r\nHost: node\r\nContent-Length: 1000000\r\n\r\n")
        assert stranger.recv(2**16).startswith(b"HTTP/1.1 401")


def test_a_person_agrees_on_the_page_and_nobody_else_does_for_them(household: Household) -> None:
    household.press("anna", "revoke", "/me", purpose="store")
    assert household.ask("anna", "/1/submit-listens", listen(3)).status_code == 403
    assert household.ask("anna", "/list.json").json() == []
    assert household.press(OWNER, "grant", name="anna", purpose="store").status_code == 400
    assert household.press("anna", "grant", purpose="store").status_code == 303
    assert household.ask("anna", "/1/submit-listens", listen(3)).status_code == 200
    lines = household.press("anna", "export", "/me").text.splitlines()
    assert "mb-3" in [json.loads(line).get("item") for line in lines]


def test_what_is_kept_is_for_the_nodes_owner_alone_and_has_no_token(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    files = [path for path in household.home.rglob("*") if path.is_file()]
    for path in files:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or {"store", "lock"} & {*path.parts}
        for token in household.tokens.values():
            assert token.encode() not in path.read_bytes()
    again = household.people.add("anna")
    assert household.ask("anna", "/1/validate-token").status_code == 401
    assert household.ask(again, "/1/validate-token").json()["user_name"] == "anna"
    assert household.items("anna") == ["mb-3"]


def test_a_node_needs_no_file_beside_its_folder(household: Household, tmp_path: Path) -> None:
    with HostedPeople(tmp_path / "other", household.starter) as empty:
        assert list(empty) == []
        assert empty.of("any") is None
        with pytest.raises(LockedError):
            HostedPeople(tmp_path / "other", household.starter)


@pytest.mark.parametrize("damaged", [b'{"token": "0', b'{"token": 5}'])
def test_whose_settings_are_damaged_is_off_until_the_owner_gives_another_token(
    household: Household, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    (household.home / "people" / "anna" / "person.json").write_bytes(damaged)
    household.close()
    assert run(["node", "add", str(household.home), "cleo"]) == 0
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"anna: switched off: {household.home}/people/anna/person.json must be as this node writes")
    again = household.again()
    assert [again.ask(name, "/list.json").status_code for name in ("anna", "ben")] == [401, 200], "the others go on"
    assert "anna (off)" in (page := again.ask(OWNER, "/", basic=True).text)
    assert "person.json must be" in page
    again.tokens["anna"] = again.people.add("anna")
    assert again.press(OWNER, "on", name="anna").status_code == 303
    assert (again.ask("anna", "/list.json").status_code, again.items("anna")) == (200, ["mb-3"])
    (again.home / "node.json").write_bytes(damaged[:9])
    again.close()
    with pytest.raises(InputError, match=r"node\.json must be as this node writes it"):
        HostedPeople(again.home, again.starter)


def test_who_has_lost_a_key_can_still_be_erased(household: Household) -> None:
    household.ask("anna", "/1/submit-listens", listen(3))
    household.people.get("anna").close()
    (household.home / "keys" / "anna").unlink()
    assert household.ask("anna", "/list.json").status_code == 400
    assert household.press(OWNER, "erase", name="anna", sure="yes").status_code == 200
    assert not (household.home / "people" / "anna").exists()
