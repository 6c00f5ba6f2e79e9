"""Real media servers beside a node: what a person did there arrives, and what is recommended is there to see.

`make trackers` installs and runs them: Maloja, Supysonic and Calibre-Web of PyPI, Calibre and Kodi of Debian. Kodi
listens on every address, so it has a network of its own. Jellyfin and Navidrome are in no registry: test_sources.py has
Jellyfin by its description; Navidrome has Subsonic's interface and submits listens to a custom address, as Supysonic.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from households import Household, listen

from palate_node.work import read

pytestmark = pytest.mark.trackers
ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-trackers" / "bin"
SECONDS = 300.0
PASSWORD = "pw"  # noqa: S105 # nobody's


def until(found: Callable[[], Any]) -> Any:
    """What a function returns, as soon as it returns something."""
    end = time.monotonic() + SECONDS
    while True:
        with suppress(httpx.HTTPError, sqlite3.Error, OSError, ValueError, KeyError):
            if value := found():
                return value
        assert time.monotonic() < end
        time.sleep(0.25)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def started(*command: str | Path, home: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, until the block ends, with all processes that it has started."""
    kept = {**os.environ, "HOME": str(home), **environment}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=kept, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30.0)


def run(*command: str | Path, home: Path) -> str:
    return subprocess.run(command, cwd=home, check=True, capture_output=True, text=True).stdout


def read_from(household: Household, name: str, kind: str, **settings: str) -> str:
    person = household.people.get(name)
    person.change(sources=({"kind": kind, **settings},))
    read(person)
    return person.said[kind]


def test_maloja(household: Household, tmp_path: Path) -> None:
    port = free_port()
    home = tmp_path / "maloja"
    home.mkdir()
    settings = {"DATA_DIRECTORY": str(home), "SKIP_SETUP": "1", "FORCE_PASSWORD": PASSWORD, "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    named = {f"MALOJA_{name}": value for name, value in {**settings, "HOST": "127.0.0.1"}.items()}
    with started(BIN / "maloja", "run", home=home, **named):
        until(lambda: httpx.get(f"{url}/apis/mlj_1/scrobbles?from=2005").json()["status"] == "ok")
        key = next(each for each in (home / "apikeys.yml").read_text().split() if len(each) > 20)
        for n, artists in ((1, ["Maker 1"]), (2, ["Maker 2", "Guest"]), (99, ["Nobody"])):
            said = {"artists": artists, "title": f"Song {n}", "time": 1_700_000_000 + n, "key": key}
            assert httpx.post(f"{url}/apis/mlj_1/newscrobble", json=said, timeout=60).status_code == 200
        assert read_from(household, "anna", "maloja", url=url).startswith("2 new")
        assert read_from(household, "anna", "maloja", url=url).startswith("0 new")
    assert sorted(household.items("anna")) == ["mb-1", "mb-2"]


def music(folder: Path) -> None:
    """Songs of silence, with tags."""
    for n in range(1, 5):
        path = folder / f"{n}.mp3"
        folder.mkdir(exist_ok=True)
        path.write_bytes((b"\xff\xfb\x90\x64" + bytes(413)) * 40)
        run(BIN / "mid3v2", "-a", f"Maker {n}", "-t", f"Song {n}", "-A", "All", str(path), home=folder)


def test_supysonic_sends_each_persons_listens_and_shows_each_a_playlist(household: Household, tmp_path: Path) -> None:
    home, port = tmp_path / "supysonic", free_port()
    home.mkdir()
    music(home / "music")
    (home / "supysonic.conf").write_text(
        f"[base]\ndatabase_uri = sqlite:///{home}/db\n[webapp]\ncache_dir = {home}\nlog_level = WARNING\n"
        f"[daemon]\nsocket = {home}/socket\n[listenbrainz]\napi_url = {household.url}\n"
    )
    for name in ("anna", "ben"):
        run(BIN / "supysonic-cli", "user", "add", name, "-p", PASSWORD, home=home)
    run(BIN / "supysonic-cli", "folder", "add", "music", str(home / "music"), home=home)
    run(BIN / "supysonic-cli", "folder", "scan", "music", "--foreground", home=home)
    url = f"http://127.0.0.1:{port}"

    def asked(name: str, call: str, **given: Any) -> Any:
        who = {"u": name, "p": PASSWORD, "v": "1.12.0", "c": "test", "f": "json"}
        return httpx.get(f"{url}/rest/{call}.view", params={**who, **given}, timeout=60).json()["subsonic-response"]

    with started(BIN / "supysonic-server", "-S", "waitress", "-h", "127.0.0.1", "-p", str(port), home=home):
        until(lambda: asked("anna", "ping")["status"] == "ok")
        songs = {each["title"]: each["id"] for each in asked("anna", "search3", query="Song")["searchResult3"]["song"]}
        for name, title in (("anna", "Song 1"), ("ben", "Song 2")):
            with httpx.Client(base_url=url, follow_redirects=True, timeout=60) as browser:
                browser.post("/user/login", data={"user": name, "password": PASSWORD})
                told = browser.get("/user/me/listenbrainz/link", params={"token": household.tokens[name]}).text
                assert "Successfully linked" in told
            assert asked(name, "scrobble", id=songs[title], time=1_700_000_000_000)["status"] == "ok"
        until(lambda: household.items("anna") == ["mb-1"] and household.items("ben") == ["mb-2"])
        asked("ben", "star", id=songs["Song 4"])
        for name, new, shown in (("anna", 0, 3), ("ben", 1, 2), ("anna", 0, 3)):
            said = read_from(household, name, "subsonic", url=url, user=name, password=PASSWORD)
            assert (said.startswith(f"{new} new"), said.endswith(f"{shown} shown")) == (True, True), said
        for name, left in (("anna", {"Song 2", "Song 3", "Song 4"}), ("ben", {"Song 1", "Song 3"})):
            (own,) = (
                asked(name, "getPlaylists")["playlists"]["playlist"]
                if name == "ben"
                else [each for each in asked(name, "getPlaylists")["playlists"]["playlist"] if each["owner"] == name]
            )
            assert {each["title"] for each in asked(name, "getPlaylist", id=own["id"])["playlist"]["entry"]} == left
            assert own["name"] == f"Palate: {name}"


def token_of(browser: httpx.Client, path: str) -> str:
    return browser.get(path).text.partition('name="csrf_token" value="')[2].partition('"')[0]


def test_calibre_web(household: Household, tmp_path: Path) -> None:
    home, port = tmp_path / "calibre-web", free_port()
    (home / "library").mkdir(parents=True)
    own, library = home / "app.db", home / "library"
    for n, more in ((1, ["--isbn", "9780000000001"]), (2, []), (3, [])):
        (home / f"{n}.txt").write_text(f"book {n}")
        title = ["-t", f"Book {n}", "-a", f"Writer {n}"]
        run("calibredb", "add", "--with-library", str(library), *title, *more, f"{n}.txt", home=home)
    run("calibredb", "set_metadata", "--with-library", str(library), "2", "-f", "pubdate:2002-06-01", home=home)
    url, environment = f"http://127.0.0.1:{port}", {"CALIBRE_DBPATH": str(home), "CALIBRE_PORT": str(port)}
    server = (BIN / "cps", "-i", "127.0.0.1")
    with started(*server, home=home, **environment):
        until(lambda: httpx.get(f"{url}/login", follow_redirects=True).status_code == 200)
    with closing(sqlite3.connect(own)) as opened:
        opened.execute("UPDATE settings SET config_calibre_dir = ?", (str(library),))
        opened.commit()
    with started(*server, home=home, **environment), httpx.Client(base_url=url, timeout=60) as browser:
        until(lambda: token_of(browser, "/login"))
        who = {"username": "admin", "password": "admin123", "next": "/"}
        browser.post("/login", data={"csrf_token": token_of(browser, "/login"), **who})
        for n in (1, 2, 3):
            said = {"csrf_token": token_of(browser, f"/book/{n}")}
            assert browser.post(f"/ajax/toggleread/{n}", data=said).status_code == 200
        files = {"settings": str(own), "library": str(library / "metadata.db")}
        said_of = read_from(household, "anna", "calibre-web", **files, user="admin", url=url)
        assert said_of.startswith("2 new"), "the third has neither ISBN nor year"
        assert read_from(household, "ben", "calibre-web", **files, user="ben").startswith("0 new")
        assert sorted(household.items("anna")) == ["9780000000001", "9780000000002"]
        feed = household.ask("anna", "/list.opds", basic=True).text
        way = next(each for each in feed.split('"') if each.endswith("/opds/search/Book%203"))
        assert "<title>Book 3</title>" in httpx.get(way, auth=("admin", "admin123"), timeout=60).text


KODI = """
ip link set lo up
ip link add lan type veth peer name other && ip addr add 10.99.0.1/24 dev lan
ip link set lan up && ip link set other up
exec xvfb-run -a kodi --standalone
"""
SETTINGS = "".join(
    f'<setting id="services.{name}">{value}</setting>'
    for name, value in (("webserver", "true"), ("webserverusername", "kodi"), ("webserverpassword", PASSWORD))
)


def within(process: int, work: Callable[[], Any]) -> Any:
    """What a function returns, called in the network of another process."""
    found = list[Any]()

    def call() -> None:
        with Path(f"/proc/{process}/ns/net").open("rb") as network:
            assert ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0) == 0
        found.append(work())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(SECONDS)
    return found[0]


def test_kodi(household: Household, tmp_path: Path) -> None:
    home = tmp_path / "kodi"
    kept = home / ".kodi" / "userdata"
    kept.mkdir(parents=True)
    (kept / "guisettings.xml").write_text(f'<settings version="2">{SETTINGS}</settings>')
    for n in (1, 2, 3):
        (home / "films" / str(n)).mkdir(parents=True)
        (home / "films" / str(n) / "film.mp4").touch()
        known = (
            f'<title>Film {n}</title><year>{1990 + n}</year><uniqueid type="imdb" default="true">tt000000{n}</uniqueid>'
        )
        (home / "films" / str(n) / "film.nfo").write_text(f"<movie>{known}</movie>")
    url = "http://127.0.0.1:8080"
    with started("unshare", "--net", "sh", "-c", KODI, home=home) as kodi:

        def ask(method: str, **given: Any) -> Any:
            said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
            call = lambda: httpx.post(f"{url}/jsonrpc", json=said, auth=("kodi", PASSWORD), timeout=20).json()["result"]  # noqa: E731 # it is what runs there
            return within(kodi.pid, lambda: until(call))

        ask("JSONRPC.Version")
        with closing(sqlite3.connect(kept / "Database" / "MyVideos131.db", timeout=30)) as library:
            library.execute(
                "INSERT INTO path(strPath, strContent, strScraper, scanRecursive, useFolderNames) VALUES (?, 'movies',"
                " 'metadata.local', 9, 0)",
                (f"{home}/films/",),
            )
            library.commit()
        ask("VideoLibrary.Scan")
        films = until(lambda: (found := ask("VideoLibrary.GetMovies"))["limits"]["total"] == 3 and found["movies"])
        ids = {each["label"]: each["movieid"] for each in films}
        watched = {"playcount": 1, "lastplayed": "2024-05-05 20:00:00"}
        ask("VideoLibrary.SetMovieDetails", movieid=ids["Film 1"], **watched, userrating=8)
        settings = {"url": url, "user": "kodi", "password": PASSWORD}
        for new in (1, 0):
            said = within(kodi.pid, lambda: read_from(household, "anna", "kodi", **settings))
            assert said.startswith(f"{new} new"), said
        tagged = ask("VideoLibrary.GetMovies", properties=["tag"])["movies"]
        assert {each["label"] for each in tagged if each["tag"] == ["Palate: anna"]} == {"Film 2", "Film 3"}
    (event,) = household.people.get("anna").device.store.events()
    assert (event.kind, event.item, event.value) == ("rate", "tt0000001", 4.0)


def test_a_node_that_is_killed_thirty_times_keeps_every_listen_that_it_has_answered(
    household: Household, tmp_path: Path
) -> None:
    household.close()
    port, kept = free_port(), set[str]()
    command = (sys.executable, "-m", "palate_cli", "node", "run", str(household.home), "--port", str(port))
    headers = {"Authorization": f"Token {household.tokens['anna']}"}
    starter = ("--starter", str(household.starter.folder))
    url = f"http://127.0.0.1:{port}"
    for kill in range(30):
        with (tmp_path / "log").open("wb") as log:
            node = subprocess.Popen([*command, *starter], stdout=log, stderr=log)
            at = 1_700_000_000 + 1000 * kill
            until(lambda: httpx.get(f"{url}/1/validate-token", headers=headers).status_code == 200)
            timer = threading.Timer(0.05 + 0.02 * kill, node.kill)
            timer.start()
            for n in range(1000):
                try:
                    said = listen(1 + n % 8, at=at + n)
                    if httpx.post(f"{url}/1/submit-listens", json=said, headers=headers).status_code == 200:
                        kept.add(f"mb-{1 + n % 8} {at + n}")
                except httpx.HTTPError:
                    break
            timer.join()
            assert node.wait(30) == -signal.SIGKILL
    again = household.again()
    events = again.people.get("anna").device.store.events()
    assert len(kept) > 30
    assert kept <= {f"{each.item} {each.time:.0f}" for each in events if isinstance(each.time, float)}
    again.close()
