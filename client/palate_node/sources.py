"""Sources: what a media server knows of one person, and where it shows a list; a class each, no longer than a screen.

    a server -> MediaServer.things -> rows -> the person's device -> a list -> MediaServer.show

A source of your own derives from `MediaServer`, and stands in `SOURCES`; its fields are its settings, all texts. Titles
that name their maker, as music's do, count without a year; other titles need one. What each says was seen at a real
server (tests/node/test_real_servers.py); Jellyfin's is by its description alone.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from palate_client.history.dates import TOLERANCE, moment
from palate_client.history.files import at_path
from palate_client.history.formats import MOST_TITLE, TABLES, FileFormat, Row
from palate_core.errors import InputError, UnreachableError

MOST_ANSWER = 2**24
"""Bytes of the largest answer of a media server that is read: what is parsed takes some forty times as many."""
PAGE, MOST_PAGES = 500, 2000
"""Things that are asked for at once, and how often."""
MOST_MAKERS = 20
"""Artists of a song that are looked at."""
TIMEOUT = 30.0
"""Seconds that a media server may take for an answer."""
_LISTEN = next(each for each in TABLES if each.format == "listenbrainz")


class MediaServer(ABC):
    """A server's knowledge of one person.

    Attributes:
        made_known: whether titles name their maker, so that one counts without a year.
    """

    made_known: ClassVar[bool] = False

    @abstractmethod
    def things(self) -> Iterator[tuple[str, Row]]:
        """What the server has: its own id, and what that is; with a time, if the person watched, heard or read it.

        Raises:
            UnreachableError: the server can't be asked, or answers something else.
        """

    def show(self, name: str, ids: Sequence[str]) -> bool:
        """Show this person a list of the server's own ids, in the place of the last of this name; False: it can't."""
        return False


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would take the person's token elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """None."""


def fetched(address: str, data: bytes | None = None, **headers: str) -> Any:
    """The JSON that a server answers.

    Raises:
        UnreachableError: it doesn't answer, or something else.
    """
    if not address.startswith(("http://", "https://")):
        raise InputError("the `url` of a source must begin with http:// or https://, got another")
    named = {name.replace("_", "-"): text for name, text in headers.items() if text}
    request = Request(address, data, {"Accept": "application/json", **named})  # noqa: S310 # it was checked
    try:
        until, body = time.monotonic() + TIMEOUT, bytearray()
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as answer:
            while piece := answer.read1(2**16):
                body += piece
                if len(body) > MOST_ANSWER or time.monotonic() > until:
                    raise TimeoutError
        return json.loads(body) if body else None
    except HTTPError as error:  # its address may have a secret
        raise UnreachableError(f"a media server must answer, got status {error.code}") from None
    except (HTTPException, OSError, ValueError, RecursionError) as error:
        raise UnreachableError(f"a media server must answer JSON, got {type(error).__name__}") from None


def _objects(value: Any, path: str) -> list[dict[str, Any]]:
    """The objects of a list in an answer; nothing, where there is none."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    found = value if isinstance(value, list) else [value]  # Subsonic has one alone, too
    return [each for each in found if isinstance(each, dict)]


def _pages(ask: Callable[[int], list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """All objects of pages: `ask` gets the number of a page, from 0."""
    for number in range(MOST_PAGES):
        yield from (found := ask(number))
        if len(found) < PAGE:
            return


def _moment(text: str) -> int | None:
    """A time; None: it is none, or lies ahead."""
    found = moment(text, "s" if text.isdigit() else "iso") if text else None
    return found if found is not None and found <= time.time() + TOLERANCE else None


def _row(table: FileFormat, record: Mapping[str, Any]) -> Iterator[Row]:
    """The row that a record is, if it is one."""
    row = table.row(partial(at_path, record), _moment)
    if isinstance(row, Row):
        yield row


def listens(payload: Any) -> Iterator[Row]:
    """The rows of what a ListenBrainz client submits: one listen or many; none of what is playing now.

    Raises:
        InputError: it is no such thing.
    """
    if not isinstance(payload, dict) or payload.get("listen_type") not in ("single", "import", "playing_now"):
        raise InputError("`listen_type` must be single, import or playing_now, got something else")
    for each in _objects(payload, "payload") if payload["listen_type"] != "playing_now" else ():
        for row in _row(_LISTEN, each):
            yield row._replace(titles=row.titles[:1])  # with the track: an artist alone may be anything's title


@dataclass(frozen=True)
class Maloja(MediaServer):
    """Maloja's scrobbles; one server has one person's. The later of two plays in one second is lost there."""

    url: str
    made_known: ClassVar[bool] = True

    def things(self) -> Iterator[tuple[str, Row]]:
        """Its scrobbles."""

        def page(number: int) -> list[dict[str, Any]]:
            asked = urlencode({"from": "2005", "page": number, "perpage": PAGE})  # without it, its range may be stale
            return _objects(fetched(f"{self.url}/apis/mlj_1/scrobbles?{asked}"), "list")

        for each in _pages(page):
            artists = [
                str(name)[:MOST_TITLE] for name in ((each.get("track") or {}).get("artists") or ())[:MOST_MAKERS]
            ]
            title, at = at_path(each, "track.title")[:MOST_TITLE], _moment(at_path(each, "time"))
            if title and artists:
                # They come in any order, and a guest of a song is one of them.
                makers = dict.fromkeys([*artists, ", ".join(artists), " & ".join(artists), " & ".join(artists[::-1])])
                yield "", Row("play", tuple(f"{maker} - {title}" for maker in makers), None, (), at, None)


@dataclass(frozen=True)
class Subsonic(MediaServer):
    """Supysonic, Navidrome and others like Subsonic: stars in, playlists back. Plays they send as to ListenBrainz."""

    url: str
    user: str
    password: str
    made_known: ClassVar[bool] = True
    table: ClassVar[FileFormat] = FileFormat(
        "subsonic", "songs", (), "like", titles=[["artist", "title"]], ids={"musicbrainz": [["musicBrainzId"]]},
        time=["starred"], undated=True,
    )  # fmt: skip

    def things(self) -> Iterator[tuple[str, Row]]:
        """All songs; the person has starred some."""

        def page(number: int) -> list[dict[str, Any]]:
            counts = {"songCount": PAGE, "songOffset": number * PAGE, "artistCount": 0, "albumCount": 0}
            return _objects(self._ask("search3", query="", **counts), "searchResult3.song")

        return ((str(each.get("id")), row) for each in _pages(page) for row in _row(self.table, each))

    def show(self, name: str, ids: Sequence[str]) -> bool:
        """A playlist of this user's, which others don't see."""
        lists = _objects(self._ask("getPlaylists"), "playlists.playlist")  # those that others share, too
        own = [each for each in lists if (each.get("name"), each.get("owner", self.user)) == (name, self.user)]
        known = {"playlistId": str(own[0].get("id"))} if own else {"name": name}
        self._ask("createPlaylist", **known, songId=list(ids))
        return True

    def _ask(self, call: str, **given: object) -> Any:
        # In the body, which no log has; as hexadecimal digits, as a server that hashes passwords can't take a token.
        who = {"u": self.user, "p": f"enc:{self.password.encode().hex()}", "v": "1.12.0", "c": "palate", "f": "json"}
        answer = fetched(f"{self.url}/rest/{call}.view", urlencode({**who, **given}, doseq=True).encode())
        if at_path(answer if isinstance(answer, dict) else {}, "subsonic-response.status") != "ok":
            raise UnreachableError(f"a Subsonic server must answer {call} with ok, got something else")
        return answer["subsonic-response"]


@dataclass(frozen=True)
class Kodi(MediaServer):
    """Kodi's films by JSON-RPC; one profile is one person's. A list is a tag, under Films > Tags."""

    url: str
    user: str = ""
    password: str = ""
    table: ClassVar[FileFormat] = FileFormat(
        "kodi", "films", (), "play", titles=[["title"], ["originaltitle"]], year=["year"],
        ids={"imdb": [["uniqueid.imdb"]], "tmdb": [["uniqueid.tmdb"]]},
        time=["at"], undated=True, rating=("userrating", 10),
    )  # fmt: skip

    def things(self) -> Iterator[tuple[str, Row]]:
        """Its films; a time is taken to be of this machine's zone."""
        for each in self._films():
            at, seen = at_path(each, "lastplayed"), (each.get("playcount") or 0) > 0
            if seen and moment(at, "iso"):
                each["at"] = int(datetime.fromisoformat(at).timestamp())
            for row in _row(self.table, each):
                yield str(each.get("movieid")), row

    def show(self, name: str, ids: Sequence[str]) -> bool:
        """A tag of these films, and of no others."""
        for each in self._films():
            tags, shown = list(each.get("tag") or ()), str(each.get("movieid")) in ids
            if shown != (name in tags):
                kept = [tag for tag in tags if tag != name] + [name] * shown
                self._ask("VideoLibrary.SetMovieDetails", movieid=each.get("movieid"), tag=kept)
        return True

    def _films(self) -> Iterator[dict[str, Any]]:
        wanted = ["title", "originaltitle", "year", "uniqueid", "playcount", "lastplayed", "userrating", "tag"]

        def page(number: int) -> list[dict[str, Any]]:
            limits = {"start": number * PAGE, "end": (number + 1) * PAGE}
            return _objects(self._ask("VideoLibrary.GetMovies", properties=wanted, limits=limits), "movies")

        return _pages(page)

    def _ask(self, call: str, **given: object) -> Any:
        asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": call, "params": given}).encode()
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Content_Type": "application/json", "Authorization": f"Basic {basic}" if self.user else ""}
        answer = fetched(f"{self.url}/jsonrpc", asked, **headers)
        if not isinstance(answer, dict) or "result" not in answer:
            raise UnreachableError(f"Kodi must answer {call}, got an error")
        return answer["result"]


@dataclass(frozen=True)
class Jellyfin(MediaServer):
    """Jellyfin's films of one user: pulled, and by its webhook; a list is a playlist of that user's alone."""

    url: str
    token: str
    user: str
    table: ClassVar[FileFormat] = FileFormat(
        "jellyfin", "films", (), "play", titles=[["Name"], ["OriginalTitle"]], year=["ProductionYear", "Year"],
        ids={
            "imdb": [["ProviderIds.Imdb"], ["Provider_imdb"]],
            "tmdb": [["ProviderIds.Tmdb"], ["Provider_tmdb"]],
        },
        time=["UserData.LastPlayedDate", "UtcTimestamp"], undated=True,
    )  # fmt: skip

    def things(self) -> Iterator[tuple[str, Row]]:
        """Its films."""

        def page(number: int) -> list[dict[str, Any]]:
            asked = {"IncludeItemTypes": "Movie", "Recursive": "true", "Fields": "ProviderIds,OriginalTitle"}
            return self._items(**asked, SortBy="SortName", StartIndex=number * PAGE, Limit=PAGE)

        for each in _pages(page):
            played = isinstance(data := each.get("UserData"), dict) and data.get("Played") is True
            for row in _row(self.table, each):
                yield str(each.get("Id")), row if played else row._replace(time=None)

    def told(self, said: Any) -> Iterator[Row]:
        """The row of what its webhook says, with all properties; none of other users, and of what wasn't watched."""
        if not isinstance(said, dict) or str(said.get("PlayedToCompletion")).lower() != "true":
            return
        mine = [str(each).replace("-", "").lower() for each in (said.get("UserId"), self.user)]
        if mine[0] == mine[1] and (said.get("NotificationType"), said.get("ItemType")) == ("PlaybackStop", "Movie"):
            yield from _row(self.table, said)

    def show(self, name: str, ids: Sequence[str]) -> bool:
        """A playlist."""
        own = [each for each in self._items(IncludeItemTypes="Playlist", Recursive="true") if each.get("Name") == name]
        said = {"Name": name, "Ids": list(ids), "UserId": self.user, "MediaType": "Video", "IsPublic": False}
        self._ask(f"/Playlists/{quote(str(own[0].get('Id')))}" if own else "/Playlists", json.dumps(said).encode())
        return True

    def _items(self, **asked: object) -> list[dict[str, Any]]:
        return _objects(self._ask(f"/Users/{quote(self.user)}/Items?{urlencode(asked)}"), "Items")

    def _ask(self, path: str, data: bytes | None = None) -> Any:
        return fetched(f"{self.url}{path}", data, X_Emby_Token=self.token, Content_Type="application/json")


@dataclass(frozen=True)
class CalibreWeb(MediaServer):
    """Calibre-Web's read books of one user, from app.db and metadata.db: its feeds have no ISBN.

    A list is a feed of the node's own, which leads to Calibre-Web's search.
    """

    settings: str
    library: str
    user: str
    url: str = ""
    table: ClassVar[FileFormat] = FileFormat(
        "calibre-web", "books", (), "play", titles=[["title"]], year=["year"], ids={"isbn": [["isbn"]]}, time=["at"]
    )

    def things(self) -> Iterator[tuple[str, Row]]:
        """Books that were read."""
        read = (
            "SELECT book_id, substr(last_modified, 1, 19) FROM book_read_link JOIN user ON user.id = user_id"
            " WHERE user.name = ? AND read_status = 1"
        )
        book = (
            "SELECT title, substr(pubdate, 1, 4), (SELECT val FROM identifiers WHERE book = books.id AND type = 'isbn')"
            " FROM books WHERE id = ?"
        )
        try:
            with closing(_readonly(self.settings)) as own, closing(_readonly(self.library)) as books:
                for number, at in own.execute(read, (self.user,)).fetchmany(PAGE * MOST_PAGES):
                    for found in books.execute(book, (number,)):
                        record = dict(zip(("title", "year", "isbn", "at"), (*found, at), strict=True))
                        yield from ((str(number), row) for row in _row(self.table, record))
        except sqlite3.Error as error:
            raise UnreachableError(f"Calibre-Web's files must be readable, got {type(error).__name__}") from None


def _readonly(path: str) -> sqlite3.Connection:
    found = sqlite3.connect(f"file:{quote(str(Path(path).resolve()))}?mode=ro", uri=True, timeout=TIMEOUT)
    until = time.monotonic() + TIMEOUT
    found.set_progress_handler(lambda: time.monotonic() > until, 10_000)  # a table may be a view without end
    found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ANSWER)
    return found


SOURCES: dict[str, type[MediaServer]] = {
    "calibre-web": CalibreWeb,
    "jellyfin": Jellyfin,
    "kodi": Kodi,
    "maloja": Maloja,
    "subsonic": Subsonic,
}
"""Kind -> its class."""


def source_of(settings: Mapping[str, str]) -> MediaServer:
    """A source: its `kind`, and its settings.

    Raises:
        InputError: there is no such kind, or other settings than it has.
    """
    given = {name: text.rstrip("/") if name == "url" else text for name, text in settings.items()}
    kind = given.pop("kind", "")
    made: Callable[..., MediaServer] | None = SOURCES.get(kind)
    if made is None:
        raise InputError(f"`kind` must be one of {', '.join(SOURCES)}, got {kind!r:.80}")
    try:
        return made(**given)
    except TypeError:
        names = [field.name for field in fields(SOURCES[kind])]  # type: ignore[arg-type]  # each is a dataclass
        raise InputError(f"a source {kind} must have {', '.join(names)}, got {', '.join(given) or 'none'}") from None
