"""where.json: filters of items, rules, changes of a table, and the lists that they make."""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from palate_client.device import open_device
from palate_client.recommend.facts.again import bought_again, unfinished
from palate_client.recommend.facts.steering import Steering
from palate_client.recommend.interests import Interests
from palate_client.recommend.recommender import ModelRecommender
from palate_common.models.compact import compact, expand, inflate
from palate_common.models.item_changes import CHANGES, TABLE, changes_of, table_from
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.rules import rules_from, rules_from_bytes, rules_to_bytes
from palate_common.models.where import ItemColumns, parse
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json

from .digits import digits
from .key import SECRET
from .recommend import _DONE, _als_model, _list

NOW = 1_790_100_000.0
"""Within the times of some items and rules."""


def _facts(row: int) -> ItemFacts:
    """Facts in which each test finds some items and leaves some out."""
    more: dict[str, Any] = {"price": row / 2, "author": f"author-{row % 7}", "stock": row % 8, "sale": row % 5 == 0}
    more |= {"region": ("DE", "AT") if row % 2 else ("US",), "age": 16} if row % 3 else {"note": "é😀"}
    more |= {"from": NOW + 1e6 * (row - 12) / 8} if row in (11, 13) else {}
    more |= {"until": NOW + 1e6 * (row - 20)} if row in (19, 20, 21) else {}
    kinds = tuple(kind for kind, every in (("Drama", 2), ("War", 3), ("Comedy", 5)) if row % every == 0)
    return ItemFacts(
        f"item-{row:02d}",
        f"Title {row}" if row % 4 else "",
        1990 + row % 30 if row % 6 else None,
        kinds=kinds,
        more=more,
    )


TABLE_OF = ItemTable.of(_facts(row) for row in range(48))
FILTERS = (
    "price < 3", "price <= 3 and stock > 6", "3 > price", "3 >= price or 22.5 < price", "price == 3", "3 != price",
    '"Drama" in genres', "'Drama' in categories and not 'War' in kinds", '"War" not in kinds', 'kinds == "Comedy"',
    'kinds in ["War", "Comedy"]', 'author not in ["author-1", "author-2", "nobody"]', "sale", "not sale",
    "sale == false", "sale >= 1", "sale == 1", "stock == true", "stock in [1, true, 7]", "year is known",
    "year is unknown", "year != 1991", "not year == 1991",
    "(price < 5 or price > 20) and (sale or \"War\" in kinds)", "link is known", "note == 'é😀'", "not not sale",
    "price < -1", "title == \"Title 3\"", " price\n<\t1 ", '"DE" in region and age <= 16', "price<1 and sale",
)  # fmt: skip
REFUSED = (
    "", " ", "price <", "price < x", "price << 3", "price = 3", "3", "3 <", '"a" < price', 'price < "a"', "not",
    "and", "price and", "price < 3 price", "(price < 3", "price < 3)", "price in 3", "price in [", "price in []",
    "price in [1 2]", "price in [1,", "price is", "price is 3", "price not 3", '"a" not price', '"abc', "'abc",
    "Price < 3", "é", "price < 😀", "'😀' == $", "prize < 3", "price < 3e5", "price<1and sale", "price < 1.",
    "price < 1234567890123456", "x" * 65, "true", "true == true", "price < 3 or prize", "__class__", "price.real",
    "len(price)", "(" * 21 + "sale" + ")" * 21, "not " * 21 + "sale", "price in [" + ", ".join(["1"] * 100) + "]",
    "sale" + " " * 997,
)  # fmt: skip
RULES: tuple[dict[str, Any], ...] = (
    {"where": "price > 21", "exclude": True},
    {"where": '"War" in kinds', "boost": 0.5, "until": NOW + 9},
    {"where": "sale", "boost": -0.25, "from": NOW - 9},
    {"where": '"Drama" in kinds', "exclude": True, "until": NOW},
    {"where": "stock > 0", "exclude": True, "from": NOW + 1},
    {"where": "gone == 1", "exclude": True},
    {"pin": ["item-33", "unknown", "item-09", "item-12", "item-14", "item-15"]},
)
NO_RULES: tuple[Any, ...] = (
    None, [], {}, {"rule": {}}, {"rule": [7]}, {"rule": [{}]}, {"rule": [{"pin": []}]},
    {"rule": [{"pin": ["a", "a"]}]}, {"rule": [{"pin": "a"}]}, {"rule": [{"pin": [""]}]},
    {"rule": [{"pin": ["a"], "where": "sale"}]},
    {"more": 1, "rule": []}, {"rule": [{"where": "sale"}]}, {"rule": [{"exclude": True}]},
    {"rule": [{"where": "sale", "exclude": False}]}, {"rule": [{"where": "sale", "exclude": True, "boost": 1}]},
    {"rule": [{"where": "sale", "boost": 1.5}]}, {"rule": [{"where": "sale", "boost": 0}]},
    {"rule": [{"where": "sale", "boost": True}]}, {"rule": [{"where": 7, "boost": 1}]},
    {"rule": [{"where": "sale", "boost": 1}, {"where": "sale <", "boost": 1}]},
    {"rule": [{"pin": ["a"], "from": "soon"}]},
    {"rule": [{"pin": ["a"], "until": True}]}, {"rule": [{"pin": ["a"], "why": ""}]},
    {"rule": [{"pin": ["a"]}] * 65}, {"rule": [{"pin": ["a"], "from": None}]},
    {"rule": [{"where": "", "boost": 1}]},
)  # fmt: skip
LISTS: tuple[dict[str, Any], ...] = (
    {"n": 10, "discovery": 0},
    {"n": 10, "explore": 0, "where": '"Drama" in genres and price < 12'},
    {"n": 10, "explore": 0, "where": "author == 'nobody'"},
    {"n": 8, "explore": 0, "items": [f"item-{row:02d}" for row in range(30)], "where": "not sale"},
    {"n": 10, "explore": 0, "pin": ["item-02", "item-40", "item-39", "item-07"]},
    {"n": 2, "explore": 0, "pin": ["item-40", "item-39", "item-38"]},
    {"n": 10, "explore": 0, "boost": {'"Comedy" in kinds': 1, "price > 15": -1}},
    {"n": 10, "explore": 0, "boost": {"author == 'author-3'": 0.1}, "where": "price < 20"},
    {"n": 10, "explore": 0, "discovery": 1, "diversity": 0.9, "diversity_by": "author"},
    {"n": 10, "explore": 0, "diversity": 0.6, "diversity_by": "genres"},
)  # fmt: skip


def where() -> dict[str, Any]:
    """The table as its bytes before they are deflated; of each filter the items that it lets through, or the error."""
    columns, rules = ItemColumns(TABLE_OF), rules_from({"rule": list(RULES)})

    def checked(text: str) -> None:
        columns.check(parse(text))

    return {
        "now": NOW,
        "items": list(TABLE_OF.items),
        "table": zlib.decompress(TABLE_OF.to_bytes()).decode(),
        "selected": [[text, np.flatnonzero(columns.select(parse(text))).tolist()] for text in FILTERS],
        "refused": [[text, _error(checked, text)] for text in REFUSED],
        "rules": rules_to_bytes(rules).decode(),
        "no_rules": [[data, _error(rules_from_bytes, data.encode())] for data in _texts()],
        "steered": _steered(rules_to_bytes(rules)),
        "changes": _changes(),
        "again": _again(),
    }


def _texts() -> list[str]:
    whole = [{**each, "format": 1} if isinstance(each, dict) else each for each in NO_RULES]
    return [canonical_json(each).decode() for each in (*whole, {"format": 2, "rule": []})] + ["", "{"]


def _error(take: Callable[[Any], Any], value: Any) -> str:
    try:
        take(value)
    except (InputError, IntegrityError) as error:
        return str(error)
    raise ValueError(f"must be refused: {value!r:.80}")


def _steered(rules: bytes) -> dict[str, Any]:
    """Lists that facts, rules and options steer."""
    items, start = list(TABLE_OF.items), 1_790_000_000.0
    packed = compact(_als_model(items, sources=1, links=True))
    model, now = expand(packed, most=2**20), [start]
    did = [
        {"kind": kind, "item": items[row], "at": start + 3600 * n}
        for n, (kind, row) in enumerate(_DONE)
        if kind != "rate"
    ]
    lists, found = [], dict[str, Any](model=base64.b64encode(packed).decode(), events=did)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_device(folder, app="vectors", key=SECRET, clock=lambda: now[0]) as device,
    ):
        device.consent.grant("store")
        for event in did:
            now[0] = event["at"]
            device.track(event["kind"], event["item"])
        now[0] = NOW
        for ruled in (False, True):
            interests = Interests(device.store, items, device.weighting)
            made = rules_from_bytes(rules) if ruled else ()
            steering = Steering(interests.rows, TABLE_OF, made, lambda: NOW)
            recommender = ModelRecommender(model, items, interests, titles=TABLE_OF.titles, steering=steering)
            for options in LISTS:
                lists.append({"rules": ruled, "options": options, "items": _list(recommender.recommend(**options))})
        packed = compact(_als_model(items, sources=0, links=True))
        interests = Interests(device.store, items, device.weighting)
        steering, titles = Steering(interests.rows, TABLE_OF, (), lambda: NOW), TABLE_OF.titles
        fresh = ModelRecommender(
            expand(packed, most=2**20), items, interests, titles=titles, steering=steering, learned=30
        )
        new = {"n": 30, "discovery": 0}
        found |= {"learned": 30, "new_model": base64.b64encode(packed).decode(), "new": _list(fresh.recommend(**new))}
    return found | {"lists": lists}


def _changes() -> dict[str, Any]:
    """A table, its changes, and the table that both make; and what are no changes."""
    facts = [_facts(row) for row in range(48)]
    more = {name: value for name, value in facts[7].more.items() if name != "price"} | {"isbn13": True, "price": 99}
    later = [*facts[:7], ItemFacts("item-07", "Another", kinds=("New",), ids={"imdb": "tt7"}, more=more), *facts[8:40]]
    later += [ItemFacts("item-40"), *facts[41:], ItemFacts("item-48", "New", more={"price": 3})]
    table, items = ItemTable.of(later), [each.item for each in later]
    base = TABLE_OF.to_bytes()
    plain = inflate(changes_of(table, base) or b"", most=2**20, noun="changes").decode()

    def read(data: str) -> ItemTable | None:
        return table_from({TABLE: base, CHANGES: zlib.compress(data.encode())}, items)

    value = json.loads(plain)
    wrong: list[dict[str, Any]] = [{"rows": each} for each in ([40, 7, 48], [7, 40, 49], [7, 40], 7)]
    wrong += [{"over": 50}, {"over": True}, {"over": 47}, {"over": None}, {"more": 1}]
    bad = [value | each for each in wrong] + [[]]
    return {
        "items": items,
        "changes": plain,
        "table": zlib.decompress(table.to_bytes()).decode(),
        "refused": [[json.dumps(each), _error(read, json.dumps(each))] for each in bad],
    }


def _again() -> dict[str, Any]:
    """What is due to be bought again, and what is unfinished, by kind, item, time and value of events."""
    day = 86_400.0
    bought = [
        ("milk", 30),
        ("milk", 23),
        ("milk", 16),
        ("milk", 9),
        ("tea", 400),
        ("tea", 8),
        ("lamp", 40),
        ("milk", 2),
    ]
    bought += [("oil", 60), ("oil", 30), ("oil", 1), ("new", 0), ("later", -3), ("milk", 2)]
    played = [("film", 9, 600.0), ("film", 2, 900.0), ("short", 1, 95.0), ("song", 3, 10.0), ("other", 1, 5.0)]
    events: list[dict[str, Any]] = [{"kind": "purchase", "item": item, "at": NOW - day * ago} for item, ago in bought]
    events += [{"kind": "play", "item": item, "at": NOW - day * ago, "value": value} for item, ago, value in played]
    lengths = {"film": 6000.0, "short": 100.0, "song": 200.0}
    due = bought_again([(each["item"], each["at"]) for each in events if each["kind"] == "purchase"], NOW)
    begun = unfinished(
        [(each["item"], each["at"], each["value"]) for each in events if each["kind"] == "play"], lengths
    )
    told = {"due": [[item, digits(value)] for item, value in due.items()], "unfinished": [*begun.items()]}
    return {"events": events, "lengths": lengths, **told}
