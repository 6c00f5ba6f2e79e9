"""items.json: an item table, what is refused as one, and which items rows of other people's logs mean."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from typing import Any

from palate_common.models.item_matching import ItemMatcher, normal_id, normal_title, split_title
from palate_common.models.item_table import ItemFacts, ItemTable, read_table
from palate_core.errors import IntegrityError

FACTS = (
    ItemFacts("toys", "Toy Story", 1995, kinds=("Animation", "Children's"), ids={"imdb": "tt0114709", "tmdb": "862"}),
    ItemFacts("lost", "City of Lost Children, The", 1995, ("Cité des enfants perdus, La",), ("Sci-Fi",)),
    ItemFacts(
        "ring", "The Lord of the Rings", more={"price": 9.5, "stock": True, "tags": ("epic", "long"), "note": "é"}
    ),
    ItemFacts("solaris-1", "Solaris", 1972, ("Solyaris",), ids={"imdb": "tt0069293"}),
    ItemFacts("solaris-2", "Solaris", 2002),
    ItemFacts("book", "Dune", ids={"isbn": "9780441013593"}),
    ItemFacts("old", "The Thing", 1951),
    ItemFacts("older", "The Thing", 1952),
    ItemFacts("bare"),
)
ROWS: tuple[dict[str, Any], ...] = (
    {"title": "toy story", "year": 1995},
    {"title": "Toy Story", "year": 1996},
    {"title": "Toy Story", "year": 1997},
    {"title": "TOY STORY!"},
    {"title": "La cite des enfants perdus", "year": 1995},
    {"title": "Solaris"},
    {"title": "Solaris", "year": 2003},
    {"title": "The Thing", "year": 1951},
    {"title": "Thing, The", "year": 1953},
    {"title": "The Thing", "year": 1950},
    {"title": "Lord of the Rings, The", "year": 2001},
    {"title": "Something else", "year": 1972, "alternatives": ["Solyaris"]},
    {"title": "Something else", "ids": {"imdb": "0069293"}},
    {"title": "Something else", "ids": {"isbn": "0-441-01359-7"}},
    {"title": "Toy Story", "year": 1995, "ids": {"tmdb": "7"}},
    {"title": "", "ids": {"tmdb": " 862 "}},
    {"title": "..."},
    {},
)
TITLES = (
    "Amélie", "Se7en", "X-Men: Days of Future Past", "Don't Look Now", "Thelma & Louise",
    "Good, the Bad and the Ugly, The", "Straße", "ÅNGSTRÖM", "  two   blanks ", "L'Avventura", "Avventura, L'",
    "千と千尋の神隠し", "ガメラ", "Ⅳ", "...", "İstanbul", "ΟΔΥΣΣΕΥΣ",
)  # fmt: skip
SPLIT = (
    "Toy Story (1995)",
    "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
    "Seven (a.k.a. Se7en) (1995)",
    "Song (Live)",
    "2001",
    "(1995)",
    "Show (A) (B) (2001) ",
    "Year (10000)",
    "City (Osaka Story) (1957)",
)
IDS = (
    ("imdb", "tt0114709"),
    ("imdb", "114709"),
    ("isbn", "0441013597"),
    ("isbn", "978-0-441-01359-3"),
    ("tmdb", " 862 "),
)
IDS += (("isbn", "080442957X"), ("isbn", "x"), ("musicbrainz", "B1A9C0E9-D987-4042-AE91-78D6A3267D69"))
IDS += (("youtube", "dQw4w9WgXcQ"), ("spotify", " 4uLU6hMCjMI75M1A2tKUQC "), ("isrc", "usrc17607839"))


def items() -> dict[str, Any]:
    """The table as its bytes before they are deflated, and what both readers say."""
    table = ItemTable.of(FACTS)
    ids = [each.item for each in FACTS]
    plain = zlib.decompress(table.to_bytes()).decode()
    matcher = ItemMatcher(FACTS)
    return {
        "items": ids,
        "table": plain,
        "facts": [json.dumps(asdict(each), ensure_ascii=False) for each in FACTS],
        "refused": [
            {"about": about, "data": data, "error": _refused(data, ids)} for about, data in _bad(plain, len(ids))
        ],
        "matches": [
            {"row": row, "item": found.item, "how": found.how, "items": list(found.items)}
            for row in ROWS
            for found in [matcher.match(**row)]
        ],
        "titles": [[text, normal_title(text)] for text in TITLES],
        "ids": [[scheme, text, normal_id(scheme, text)] for scheme, text in IDS],
        "split": [[text, list(split_title(text))] for text in SPLIT],
    }


def _bad(plain: str, n: int) -> list[tuple[str, str]]:
    def column(name: str, value: Any) -> str:
        return json.dumps({"columns": {name: [value] + [None] * (n - 1)}, "format": 1, "ids": {}, "items": n})

    def whole(**changes: Any) -> str:
        return json.dumps({"columns": {}, "format": 1, "ids": {}, "items": n} | changes)

    return [
        ("nothing", ""),
        ("cut", plain[:-1]),
        ("a list", "[]"),
        ("another format", whole(format=2)),
        ("a format that is true", whole(format=True)),
        ("a member too many", whole(more=1)),
        ("another number of items", whole(items=n - 1)),
        ("a column that is short", whole(columns={"title": [None] * (n - 1)})),
        ("a column that is none", whole(ids={"imdb": "tt"})),
        ("a name with a capital", column("Price", 1)),
        ("a name that is long", column("p" * 65, 1)),
        (
            "many columns",
            whole(columns={f"c{at}": [None] * n for at in range(60)}, ids={f"i{at}": [None] * n for at in range(5)}),
        ),
        ("a title that is a number", column("title", 7)),
        ("a title that is long", column("title", "😀" * 2049)),
        ("half a letter", column("title", "\ud800")),
        ("a year in words", column("year", "1999")),
        ("half a year", column("year", 1999.5)),
        ("a year to come", column("year", 10_000)),
        ("a year that is true", column("year", True)),
        ("kinds in one text", column("kinds", "a|b")),
        ("many kinds", column("kinds", ["a"] * 101)),
        ("a kind that is none", column("kinds", [None])),
        ("an object", column("price", {})),
        ("numbers in a list", column("price", [1])),
        ("a large number", column("price", 2**53)),
        ("one that a browser rounds", column("price", 2**53 + 1)),
        ("lists without end", whole(columns={"kinds": [[]] * (2**12 + 32 * n)})),
        ("a price without an end", column("price", 1).replace("[1,", "[1e999,")),
        ("an id that is a number", whole(ids={"imdb": [7] + [None] * (n - 1)})),
    ]


def _refused(data: str, ids: list[str]) -> str:
    try:
        read_table(data.encode(), ids)
    except IntegrityError as error:
        return str(error)
    raise ValueError(f"must be refused: {data[:80]}")
