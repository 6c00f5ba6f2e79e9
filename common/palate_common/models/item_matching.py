"""Item matching: which item of a table somebody else's title, year or public id means.

    a row of a public log, of a history -> ItemMatcher over the facts of a table -> Match

    >>> films = [ItemFacts("7", "Amélie", 2001, ("Fabuleux destin d'Amélie Poulain, Le",), ids={"imdb": "tt0211915"})]
    >>> matcher = ItemMatcher(films)
    >>> matcher.match("Le fabuleux destin d'Amelie Poulain", 2001)
    Match(item='7', how='title and year')
    >>> matcher.match(ids={"imdb": "211915"}).how, matcher.match("amélie").sure
    ('id', False)

A public id comes first, then the normalised title with its year, or a year beside it if only one item has that. Without
a year a title is a suggestion: a person must confirm it. How often it is right, and how much it finds, is measured in
simulations/benchmarks/histories. Nearness of letters was left out: it finds hardly more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from palate_common.models.item_table import MOST_TEXTS, ItemFacts

How = Literal["id", "title and year", "title", "several", "none"]
_ARTICLE = re.compile(
    r"(.*), (the|an?|le|la|les|l'|un|une|una|der|die|das|ein|eine|el|los|las|il|lo|gli|i|os|as|de|het|den|det|en|ett)",
    re.ASCII,
)
_YEAR = re.compile(r"(.*)\(([12][0-9]{3})\)", re.ASCII | re.DOTALL)
_BRACKETS = re.compile(r"(.*)\(([^()]+)\)", re.ASCII | re.DOTALL)
_ALSO = re.compile(r"\A(?:a\.?k\.?a\.?|also known as)\s+", re.ASCII | re.IGNORECASE)
_ACCENTS = re.compile("[\u0300-\u036f]")
_LEADING = re.compile(r"^(?:the|an?) (?=.)", re.ASCII)
_BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}
EDITIONS = frozenset({"isbn"})
"""Schemes of which one work has several ids."""
CASELESS = frozenset({"imdb", "isbn", "issn", "isrc", "musicbrainz", "doi"})
"""Schemes of public ids in which capital and small letters are the same."""
MOST_ITEMS = 8
"""Items that one title may be, at most."""
_QUOTES = re.compile("['\u2018\u2019`\u00b4]")


@dataclass(frozen=True)
class Match:
    """An item that is meant.

    Attributes:
        item: its id; None: none, or one of several.
        how: by a public id, by title and year, by the title alone; or "several" items have it, or "none".
        items: all that it may be, if nobody is sure; at most `MOST_ITEMS`.
    """

    item: str | None
    how: How
    items: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def sure(self) -> bool:
        """Whether nobody needs to confirm it."""
        return self.how in ("id", "title and year")


class ItemMatcher:
    """Finds items of a table.

    Args:
        facts: of the items.
    """

    def __init__(self, facts: Iterable[ItemFacts]) -> None:
        self._ids: dict[tuple[str, str], set[str]] = {}
        self._titles: dict[str, dict[str, int | None]] = {}
        self._own: dict[str, Mapping[str, str]] = {}
        for each in facts:
            self._own[each.item] = each.ids
            for scheme, own in each.ids.items():
                self._ids.setdefault((scheme, normal_id(scheme, own)), set()).add(each.item)
            for title in (each.title, *each.alternatives):
                if known := normal_title(title):
                    self._titles.setdefault(known, {})[each.item] = each.year

    def match(
        self,
        title: str = "",
        year: int | None = None,
        ids: Mapping[str, str] | None = None,
        alternatives: Iterable[str] = (),
    ) -> Match:
        """The item that a row means.

        Args:
            title: its title.
            year: its year; None: not known.
            ids: scheme -> public id.
            alternatives: its other titles, which are tried after the first.
        """
        for scheme, own in (ids or {}).items():
            found = self._ids.get((scheme, normal_id(scheme, own)), set())
            if len(found) == 1:
                return Match(next(iter(found)), "id")
        several: tuple[str, ...] = ()
        for each in (title, *alternatives):
            near = self._titles.get(normal_title(each), {})
            for years in () if year is None else ((year,), (year - 1, year, year + 1)):
                same = [item for item, own in near.items() if own in years]
                if len(same) == 1 and not self._differs(same[0], ids or {}):
                    return Match(same[0], "title and year")
                if same:
                    return Match(None, "several", tuple(same[:MOST_ITEMS]))
            undated = [item for item, own in near.items() if year is None or own is None]
            if len(undated) == 1:
                return Match(undated[0], "title", (undated[0],))
            several = several or tuple(undated[:MOST_ITEMS])
        return Match(None, "several" if several else "none", several)

    def _differs(self, item: str, ids: Mapping[str, str]) -> bool:
        """Whether an item has another public id than a row, of a scheme of which a work has one."""
        own = self._own[item]
        return any(
            scheme in own and normal_id(scheme, own[scheme]) != normal_id(scheme, text)
            for scheme, text in ids.items()
            if scheme not in EDITIONS
        )


def split_title(text: str) -> tuple[str, int | None, tuple[str, ...]]:
    """Title, year and other titles of one line, such as "Seven (a.k.a. Se7en) (1995)".

    Brackets hold other titles only where a year follows them: in "Song (Live)" they are part of the title.
    """
    dated = _YEAR.fullmatch(text.strip())
    if dated is None or not (title := dated[1].strip()):
        return text.strip(), None, ()
    others = list[str]()
    while len(others) < MOST_TEXTS and (found := _BRACKETS.fullmatch(title)) and (rest := found[1].strip()):
        title = rest
        others.insert(0, _ALSO.sub("", found[2], count=1).strip())
    return title, int(dated[2]), tuple(each for each in others if each)


def normal_title(text: str) -> str:
    """A title as it is compared: without case, accents, punctuation and an English article in front."""
    text = _QUOTES.sub("'", text.strip().lower())
    if ", " in text and (moved := _ARTICLE.fullmatch(text)):
        text = f"{moved[2]} {moved[1]}" if moved[2][-1] != "'" else f"{moved[2]}{moved[1]}"
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    text = text.replace("'", "").replace("ß", "ss").replace("&", " and ")
    if not text.isascii():
        text = "".join(each if each.isalnum() else " " for each in text)
    return _LEADING.sub("", " ".join(text.translate(_BLANKS).split()))


def normal_id(scheme: str, text: str) -> str:
    """A public id as it is compared: IMDb's number without "tt" and zeros, an ISBN's 13 digits, a few others in small.

    Two videos of YouTube's may differ by case alone.
    """
    text = text.strip()
    if scheme in CASELESS:
        text = text.lower()
    if scheme == "imdb":
        return text.removeprefix("tt").lstrip("0")
    if scheme == "isbn":
        digits = "".join(each for each in text if each in "0123456789x")
        return _isbn13(digits) if len(digits) == 10 else digits
    return text


def _isbn13(digits: str) -> str:
    """The 13 digits of an ISBN of ten."""
    first = f"978{digits[:9]}"
    if not first.isdigit():
        return digits
    total = sum(int(each) * (3 if place % 2 else 1) for place, each in enumerate(first))
    return f"{first}{-total % 10}"
