"""What media servers say becomes one person's events, and what they are shown; by their described or recorded answers.

Those of Kodi, Maloja, Supysonic and Calibre-Web are as the real ones gave them, which `make node` runs. Jellyfin's are
by its description (GET /Users/{id}/Items, POST /Playlists) and its webhook plugin's, "Send All Properties".
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from households import Household
from typer.testing import CliRunner

from palate_cli.commands import node
from palate_core.errors import InputError
from palate_node import sources, work
from palate_node.sources import source_of
from palate_node.work import at_work, read

SECRET, PASSWORD = "secret", "s&x"
Answer = Callable[[str, dict[str, str], bytes], Any]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A media server: method and path, headers and body -> what it answers; bytes as they are, a number as a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = answer(f"{self.command} {self.path}", headers, body)
            if isinstance(found, Iterator):  # a piece now and then
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):
                    for piece in found:
                        self.wfile.write(piece)
                return
            data = found if isinstance(found, bytes) else b"" if isinstance(found, int) else json.dumps(found).encode()
            self.send_response(found if isinstance(found, int) else 200)
            if found == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 # as the base class calls it

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def given(household: Household, name: str, kind: str, **settings: str) -> str:
    """Let a person's source be read; what is said of it."""
    person = household.people.get(name)
    source_of({"kind": kind, **settings})
    person.change(sources=({"kind": kind, **settings},))
    read(person)
    return re.sub(", . not in the catalogue, . that may be several", "", person.said[kind])


def film(n: int, *, played: bool, at: str = "2024-05-05T20:00:00.0000000Z", **ids: str) -> dict[str, Any]:
    data = {"Played": played, "PlayCount": int(played), **({"LastPlayedDate": at} if played else {})}
    return {"Id": f"j{n}", "Name": f"Film {n}", "ProductionYear": 1990 + n, "ProviderIds": ids, "UserData": data}


def test_jellyfin_by_its_description(household: Household) -> None:
    asked, lists = list[tuple[str, dict[str, Any]]](), list[dict[str, Any]]()

    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        assert headers["x-emby-token"] == "secret"
        if line.startswith("POST"):
            asked.append((line, json.loads(body)))
            lists[:] = [{"Id": "p1", "Name": asked[0][1]["Name"]}]
            return 204
        if "Playlist" in line:
            return {"Items": lists}
        known = [film(1, played=True, Imdb="tt0000001"), film(2, played=True), film(3, played=False)]
        return {"Items": [*known, {"Id": "x"}, "broken", film(99, played=True)], "TotalRecordCount": 6}

    with answering(answer) as url:
        assert given(household, "anna", "jellyfin", url=url + "/", token=SECRET, user="u-1") == "2 new; 1 shown"
        assert given(household, "anna", "jellyfin", url=url, token=SECRET, user="u-1") == "0 new; 1 shown"
    assert household.items("anna") == ["tt0000001", "tt0000002"]
    said = {"Name": "Palate: anna", "Ids": ["j3"], "UserId": "u-1", "MediaType": "Video", "IsPublic": False}
    assert asked == [("POST /Playlists", said), ("POST /Playlists/p1", said)]
    assert "1 not in the catalogue" in household.people.get("anna").said["jellyfin"]


def test_jellyfins_webhook_is_for_its_own_user_and_what_was_watched_to_its_end(household: Household) -> None:
    hook = {
        "NotificationType": "PlaybackStop", "ItemType": "Movie", "Name": "Film 4", "Year": 1994, "UserId": "AB-1",
        "Provider_imdb": "tt0000004", "PlayedToCompletion": True, "UtcTimestamp": "2024-05-05T20:00:00.1234567Z",
    }  # fmt: skip
    household.people.get("anna").change(sources=({"kind": "jellyfin", "url": "http://j", "token": "t", "user": "ab1"},))
    other: tuple[dict[str, Any], ...] = (
        {"UserId": "ab2"}, {"PlayedToCompletion": False}, {"NotificationType": "PlaybackStart"}, {"ItemType": "Audio"},
    )  # fmt: skip
    for changes in other:
        assert household.ask("anna", "/hook/jellyfin", hook | changes).status_code == 200
    assert household.ask("ben", "/hook/jellyfin", hook).status_code == 200, "ben has no such source"
    assert household.items("anna") == household.items("ben") == []
    for _ in range(2):
        assert household.ask("anna", "/hook/jellyfin", hook).status_code == 200
    assert household.items("anna") == ["tt0000004"]


def test_kodi(household: Household) -> None:
    tagged = list[dict[str, Any]]()

    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        asked = json.loads(body)
        assert headers["authorization"] == "Basic a29kaTpzJng="
        if asked["method"] == "VideoLibrary.SetMovieDetails":
            tagged.append(asked["params"])
            return {"id": 1, "jsonrpc": "2.0", "result": "OK"}
        films = [
            {"movieid": n, "title": f"Film {n}", "originaltitle": "", "year": 1990 + n, "playcount": seen, "tag": tags}
            | {"lastplayed": "2024-05-05 20:00:00" if seen or n == 3 else "", "uniqueid": {"imdb": f"tt{n:07d}"}}
            | {"userrating": rated}
            for n, seen, rated, tags in ((1, 1, 0, ["Palate: anna"]), (2, 1, 8, []), (3, 0, 0, ["mine"]), (4, 0, 0, []))
        ]
        return {"id": 1, "jsonrpc": "2.0", "result": {"limits": {"end": 4, "start": 0, "total": 4}, "movies": films}}

    with answering(answer) as url:
        assert given(household, "anna", "kodi", url=url, user="kodi", password=PASSWORD) == "2 new; 2 shown"
    events = list(household.people.get("anna").device.store.events())
    assert [(each.kind, each.item, each.value) for each in events] == [
        ("play", "tt0000001", None),
        ("rate", "tt0000002", 4.0),
    ]
    assert tagged == [
        {"movieid": 1, "tag": []},
        {"movieid": 3, "tag": ["mine", "Palate: anna"]},
        {"movieid": 4, "tag": ["Palate: anna"]},
    ]


def test_maloja_gives_artists_in_any_order_and_pages_without_end(household: Household) -> None:
    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        assert line.startswith("GET /apis/mlj_1/scrobbles?from=2005&page=")
        track = [{"artists": ["Guest", "Maker 2"], "title": "Song 2"}, {"artists": ["Maker 1"], "title": "Song 1"}]
        found = [{"time": 1_700_000_000 + n, "track": each, "duration": None} for n, each in enumerate(track)]
        return {"status": "ok", "list": found, "pagination": {"next_page": "/apis/mlj_1/scrobbles?page=1"}}

    with answering(answer) as url:
        assert given(household, "anna", "maloja", url=url) == "2 new"
    assert sorted(household.items("anna")) == ["mb-1", "mb-2"]


def test_a_subsonic_server_gets_a_playlist_by_its_users_own_name(household: Household) -> None:
    made = list[dict[str, list[str]]]()

    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        form, call = parse_qs(body.decode(), keep_blank_values=True), line.split("/")[-1]
        assert (form["u"], form["p"], "?" in line) == (["ben"], ["enc:" + b"s&x".hex()], False)
        songs = [{"id": f"s{n}", "artist": f"Maker {n}", "title": f"Song {n}"} for n in range(1, 4)]
        songs[0]["starred"] = "2024-05-05T20:00:00Z"
        if call == "createPlaylist.view":
            made.append(form)
        said = {"search3.view": {"searchResult3": {"song": songs}}, "getPlaylists.view": {"playlists": {}}}
        if made:
            lists = [{"id": "o", "owner": "anna"}, {"id": "p", "owner": "ben"}]
            said["getPlaylists.view"] = {"playlists": {"playlist": [{"name": "Palate: ben", **each} for each in lists]}}
        return {"subsonic-response": {"status": "ok", "version": "1.12.0", **said.get(call, {})}}

    with answering(answer) as url:
        for _ in range(2):
            assert given(household, "ben", "subsonic", url=url, user="ben", password=PASSWORD).endswith(" new; 2 shown")
    assert household.items("ben") == ["mb-1"]
    assert [each.get("name", each.get("playlistId")) for each in made] == [["Palate: ben"], ["p"]]
    assert [each["songId"] for each in made] == [["s2", "s3"], ["s2", "s3"]]


def calibre_web(folder: Path) -> dict[str, str]:
    """The two files, with the columns that are read."""
    with closing(sqlite3.connect(folder / "app.db")) as own, closing(sqlite3.connect(folder / "metadata.db")) as books:
        own.execute("CREATE TABLE user(id INTEGER, name TEXT)")
        own.execute("CREATE TABLE book_read_link(book_id, user_id, read_status, last_modified)")
        own.executemany("INSERT INTO user VALUES (?, ?)", [(1, "anna"), (2, "ben")])
        when = "2024-05-05 20:00:00.123456"
        own.executemany(
            "INSERT INTO book_read_link VALUES (?, ?, ?, ?)",
            [(1, 1, 1, when), (2, 1, 2, when), (3, 2, 1, when), (4, 1, 1, when)],
        )
        books.execute("CREATE TABLE books(id, title, pubdate)")
        books.execute("CREATE TABLE identifiers(book, type, val)")
        dates = [
            (1, "Other title", "0101-01-01 00:00:00+00:00"),
            (2, "Book 2", "2002-01-01"),
            (3, "Book 3", "2003-01-01"),
            (4, "Book 4", "2004-06-01"),
        ]
        books.executemany("INSERT INTO books VALUES (?, ?, ?)", dates)
        books.execute("INSERT INTO identifiers VALUES (1, 'isbn', '978-0000000001')")
        own.commit()
        books.commit()
    return {"settings": str(folder / "app.db"), "library": str(folder / "metadata.db")}


def test_calibre_web_is_read_from_its_files_and_a_list_leads_to_its_search(
    household: Household, tmp_path: Path
) -> None:
    files = calibre_web(tmp_path)
    assert given(household, "anna", "calibre-web", **files, user="anna", url="http://books/") == "2 new"
    assert sorted(household.items("anna")) == ["9780000000001", "9780000000004"]
    assert "http://books/opds/search/Book%202" in household.ask("anna", "/list.opds").text
    assert "did not" not in given(household, "ben", "calibre-web", **files, user="ben")
    assert household.items("ben") == ["9780000000003"]
    assert "readable" in given(household, "ben", "calibre-web", settings="/none", library="/none", user="ben")


def test_a_server_that_answers_without_end_is_left(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", 0.3)
    over = threading.Event()

    def slowly() -> Iterator[bytes]:
        for _ in range(100):
            yield b" "
            over.wait(0.05)
        yield b"[]"

    with answering(lambda *_: slowly()) as url:
        assert "got TimeoutError" in given(household, "anna", "maloja", url=url)
        over.set()
    monkeypatch.setattr(sources, "MOST_ANSWER", 10)
    with answering(lambda *_: b" " * 20) as url:
        assert "got TimeoutError" in given(household, "anna", "maloja", url=url)


def test_a_file_that_answers_without_end_is_left(
    household: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", 0.3)
    files = calibre_web(tmp_path)
    with closing(sqlite3.connect(files["settings"])) as own:
        own.execute("DROP TABLE book_read_link")
        own.execute(
            "CREATE VIEW book_read_link AS"
            " WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 20000000)"
            " SELECT n AS book_id, 1 AS user_id, -n AS read_status, '' AS last_modified FROM c"
        )
    assert "got OperationalError" in given(household, "anna", "calibre-web", **files, user="anna")


def test_a_song_of_many_makers_makes_few_titles() -> None:
    """A title and its makers fit into an answer, and each maker with the title doesn't."""
    track = {"artists": [str(n) for n in range(5000)], "title": "x" * 50_000}
    with answering(lambda *_: {"list": [{"time": 1_700_000_000, "track": track}]}) as url:
        ((_, row),) = source_of({"kind": "maloja", "url": url}).things()
    assert sum(map(len, row.titles)) < 50_000


def test_no_log_has_what_a_server_says_of_a_person_nor_who_it_is(
    household: Household, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = {"movieid": 1, "title": "Film 1", "year": 1991, "playcount": 1, "lastplayed": "2024/5/5"}
    with answering(lambda *_: {"id": 1, "result": {"movies": [film]}}) as url:
        assert "ValueError" in given(household, "anna", "kodi", url=url)
    assert "2024/5/5" not in caplog.text
    tried = threading.Event()

    def breaks(*_: object, **__: object) -> None:
        tried.set()
        raise FileNotFoundError(2, "No such file", str(household.people.get("anna").folder))

    monkeypatch.setattr(work, "take_part", breaks)
    with at_work(household.people):
        assert tried.wait(10.0)
    assert "and is tried again" in caplog.text
    assert "anna" not in caplog.text


def test_one_source_keeps_nobody_elses_from_being_read(household: Household) -> None:
    over, read_too = threading.Event(), threading.Event()

    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        assert over.wait(30.0) if "X-Emby-Token".lower() in headers else read_too.set() is None
        return {}

    with answering(answer) as url:
        household.people.get("anna").change(sources=({"kind": "jellyfin", "url": url, "token": SECRET, "user": "u"},))
        household.people.get("ben").change(sources=({"kind": "maloja", "url": url},))
        with at_work(household.people):
            found = read_too.wait(10.0)
            over.set()
    assert found


@pytest.mark.parametrize("what", [500, 302, b"<html>", b"[", {"list": 7}, {"list": [{"track": [7]}]}, b"[" * 100_000])
def test_a_server_that_fails_is_said_and_its_token_goes_nowhere_else(household: Household, what: Any) -> None:
    lines = list[str]()

    def answer(line: str, headers: dict[str, str], body: bytes) -> Any:
        lines.append(line)
        return what

    with answering(answer) as url:
        said = given(household, "anna", "jellyfin", url=url, token=SECRET, user="u")
        given(household, "ben", "maloja", url=url)
    assert said.startswith("a media server must answer") or said.endswith("shown") or said.startswith("0 new")
    assert not [each for each in lines if "elsewhere" in each]
    assert household.items("anna") == household.items("ben") == []
    assert "secret" not in said
    assert "secret" not in household.ask("owner", "/", basic=True).text


def test_a_password_is_asked_and_stands_in_no_command_line(household: Household) -> None:
    household.people.close()
    words = ["source", str(household.home), "anna", "kodi", "url=http://k", "user=kodi", "password"]
    assert CliRunner().invoke(node.app, words, input="s3cret=\n").exit_code == 0
    later = household.again()
    (kept,) = later.people.get("anna").settings.sources
    later.close()
    assert kept == {"kind": "kodi", "url": "http://k", "user": "kodi", "password": "s3cret="}


@pytest.mark.parametrize(("listen", "warned"), [("localhost", False), ("::1", False), ("home.lan", True)])
def test_a_node_listens_on_a_name_too_and_warns_of_all_but_loopback(
    household: Household, monkeypatch: pytest.MonkeyPatch, listen: str, *, warned: bool
) -> None:
    household.people.close()
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    found = CliRunner().invoke(node.app, ["run", str(household.home), "--listen", listen])
    assert (found.exit_code, "put TLS before it" in found.output) == (0, warned)


def test_a_source_has_the_settings_of_its_kind() -> None:
    for kind, settings in (("plex", {}), ("kodi", {}), ("kodi", {"url": "http://k", "more": "x"})):
        with pytest.raises(InputError):
            source_of({"kind": kind, **settings})
    with pytest.raises(InputError):
        list(source_of({"kind": "kodi", "url": "file:///etc/passwd"}).things())
