"""Feeds: a person's list as other programs read it: JSON, a playlist of ListenBrainz (JSPF), Atom and OPDS.

    listed(person) -> one of these

Each is made of titles and public ids alone. A list has an id of its own, by which a playlist is asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

from palate_client.page.html import clean
from palate_node.work import Listed

OPDS = "application/atom+xml;profile=opds-catalog"
PAGES: Mapping[str, str] = {
    "imdb": "https://www.imdb.com/title/{}/",
    "tmdb": "https://www.themoviedb.org/movie/{}",
    "musicbrainz": "https://musicbrainz.org/recording/{}",
    "isbn": "https://openlibrary.org/isbn/{}",
}
"""Scheme of public ids -> the page of one."""


def list_id(name: str) -> str:
    """The id of a person's list."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"palate:node:{name}"))


def as_json(listed: Sequence[Listed]) -> list[dict[str, Any]]:
    """Items with titles, years, public ids and reasons."""
    return [
        {"item": facts.item, "title": facts.title, "year": facts.year, "ids": dict(facts.ids), "reason": each.reason}
        for each, facts in listed
    ]


def as_jspf(name: str, listed: Sequence[Listed], now: float) -> dict[str, Any]:
    """A playlist, as ListenBrainz makes them for its users; a title is "maker - title" here."""
    tracks = []
    for _, facts in listed:
        maker, dash, title = facts.title.partition(" - ")
        found = facts.ids.get("musicbrainz")
        known = {"identifier": [PAGES["musicbrainz"].format(found)]} if found else {}
        tracks.append({"creator": maker if dash else "", "title": title if dash else facts.label, **known})
    return {
        "playlist": {
            "creator": "palate",
            "date": _when(now),
            "identifier": f"https://listenbrainz.org/playlist/{list_id(name)}",
            "title": f"Palate: {name}",
            "track": tracks,
            "extension": {"https://musicbrainz.org/doc/jspf#playlist": {"created_for": name, "public": False}},
        }
    }


def as_feed(name: str, listed: Sequence[Listed], now: float, search: str = "") -> bytes:
    """An Atom feed, as readers of news take it, and of OPDS for readers of books.

    Args:
        name: the person.
        listed: the list.
        now: seconds since 1970.
        search: where a book is got, with `{}` for its title, such as Calibre-Web's own search.
    """
    feed = Element("feed", xmlns="http://www.w3.org/2005/Atom")
    _texts(feed, id=f"urn:uuid:{list_id(name)}", title=f"Palate: {name}", updated=_when(now))
    _texts(SubElement(feed, "author"), name="palate")
    for each, facts in listed:
        entry = SubElement(feed, "entry")
        own = f"urn:isbn:{facts.ids['isbn']}" if "isbn" in facts.ids else f"urn:palate:{quote(facts.item)}"
        _texts(entry, id=own, title=facts.label, updated=_when(now), content=each.reason)
        page = next((each.format(facts.ids[scheme]) for scheme, each in PAGES.items() if scheme in facts.ids), "")
        if address := search.format(quote(facts.title)) if search else page:
            SubElement(entry, "link", rel="subsection", href=clean(address), type=OPDS if search else "text/html")
    return bytes(tostring(feed, encoding="utf-8", xml_declaration=True))


def _when(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _texts(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = clean(text)
