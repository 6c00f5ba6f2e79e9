"""What filters, rules and facts of items cost on a device, and how many bytes facts are."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import palate
from benchmarks.sheet import Table
from palate_client.recommend.facts.steering import Steering
from palate_client.recommend.recommender import ModelRecommender
from palate_common.models.item_changes import CHANGES, TABLE, files_of
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import GlobalModel
from palate_common.models.rules import rules_from

ITEMS, FEWER, N = 100_000, 10_000, 10
LIST_BAR, BYTES_BAR = 1.5, 300_000
GENRES = [f"genre-{number}" for number in range(20)]
FILTER = 'price < 20 and stock > 0 and "genre-3" in genres'
RULES = [
    {"where": "price > 90", "exclude": True},
    {"where": '"genre-5" in genres', "boost": 0.2},
    {"where": "sale", "boost": 0.1},
    {"pin": ["item-7"]},
]


def facts(n_items: int, seed: int = 0) -> ItemTable:
    """A table as a shop has it: title, year, genres, price, stock, sale, author, link."""
    rng = np.random.default_rng(seed)
    price, stock = np.round(rng.gamma(2.0, 12.0, n_items), 2).tolist(), rng.poisson(4, n_items).tolist()
    genres, authors = rng.integers(0, len(GENRES), (n_items, 2)), rng.zipf(1.4, n_items) % 5000
    return ItemTable.of(
        ItemFacts(
            f"item-{row}",
            f"{hashlib.sha256(str(row).encode()).hexdigest()[:6]} of {GENRES[genres[row, 0]]} {row % 97}",
            1950 + row % 75,
            kinds=tuple(GENRES[each] for each in sorted({*genres[row].tolist()})),
            more={"price": price[row], "stock": stock[row], "sale": row % 9 == 0, "author": f"author-{authors[row]}"},
        )
        for row in range(n_items)
    )


def filtered(model: GlobalModel, pairs: int) -> Any:
    """CPU time of a list with and without, in turn, on one device, by a model of so many items."""
    items, rng = [f"item-{row}" for row in range(ITEMS)], np.random.default_rng(2)
    table, rules = facts(ITEMS), rules_from({"rule": RULES})
    with tempfile.TemporaryDirectory() as home, palate.open(home, app="bench", key=bytes(32)) as device:
        device.consent.grant("store")
        device.like_to_start([items[row] for row in rng.choice(5000, 40, replace=False)])
        made: dict[str, Callable[[], Any]] = {}
        bare = _recommender(device, model, items, None)
        stocked, ruled = (
            _recommender(device, model, items, Steering(bare._interests.rows, table, each, time.time))
            for each in ((), rules)
        )
        made["nothing"] = lambda: bare.recommend(N, explore=0.0)
        made["what is in stock"] = lambda: stocked.recommend(N, explore=0.0)
        made["a filter"] = lambda: stocked.recommend(N, explore=0.0, where=FILTER)
        made["a new filter each time"] = lambda: stocked.recommend(
            N, explore=0.0, where=f"price < {rng.random() * 50:.6f} and sale"
        )
        made["a pin and a boost"] = lambda: stocked.recommend(
            N, explore=0.0, pin=["item-9"], boost={'"genre-3" in genres': 0.3}
        )
        made["rules"] = lambda: ruled.recommend(N, explore=0.0)
        made["rules and a filter"] = lambda: ruled.recommend(N, explore=0.0, where=FILTER)
        taken: dict[str, list[float]] = {name: [] for name in made}
        for pair in range(pairs + 3):
            for name, each in made.items():
                begun = time.process_time()
                each()
                if pair > 2:
                    taken[name].append(time.process_time() - begun)
    usual = float(np.quantile(taken["nothing"], 0.95))
    return [
        {
            "what": name,
            "median": float(np.median(those)),
            "p95": (own := float(np.quantile(those, 0.95))),
            "ratio": float(np.median(np.divide(those, taken["nothing"]))),
            "of": own / usual,
        }
        for name, those in taken.items()
    ]


def _recommender(device: Any, model: Any, items: list[str], steering: Steering | None) -> ModelRecommender:
    return ModelRecommender(model, items, device.interests(items), steering=steering, rng=np.random.default_rng(3))


def filters_tables(figures: Any) -> list[Table]:
    """One row an option."""
    rows = []
    for each in figures:
        cells = [f"{each[name] * 1000:.1f}" for name in ("median", "p95")] + [
            f"{each['of']:.2f}",
            f"{each['ratio']:.2f}",
        ]
        bar = "" if each["what"] == "nothing" else f"<= {LIST_BAR}: {'met' if each['of'] <= LIST_BAR else 'MISSED'}"
        rows.append((each["what"], *cells, bar))
    note = (
        f"CPU milliseconds of one thread for a list of {N} of {ITEMS:,} items x 64, 40 events, with reasons, in "
        "turn. The filter: price, stock and genre; the rules: one excludes, two boost, one pins. The bar: 95 % points."
    )
    return [
        Table(
            "Filters and rules", ("with", "median", "95 %", "95 %, of nothing's", "median of pairs", "bar"), rows, note
        )
    ]


def facts_of_items(_: Path, __: int) -> Any:
    """Bytes of the facts of 10,000 items, and of what has changed."""
    table = facts(FEWER)
    first = files_of(table, {})
    figures = [{"what": "first", "bytes": len(first[TABLE])}]
    for count, label in ((1, "a price"), (100, "100 prices"), (1000, "1,000 prices"), (0, "10 new items")):
        rows = list(table)
        for row in range(0, count):
            rows[row * 9] = ItemFacts(
                rows[row * 9].item, rows[row * 9].title, rows[row * 9].year, kinds=rows[row * 9].kinds,
                more={**rows[row * 9].more, "price": 1.0 + row},
            )  # fmt: skip
        rows += [] if count else [ItemFacts(f"new-{row}", f"New {row}", 2026, kinds=("genre-1",)) for row in range(10)]
        files = files_of(ItemTable.of(rows), first)
        figures.append({"what": label, "bytes": len(files.get(CHANGES, files[TABLE]))})
    return figures


def facts_tables(figures: Any) -> list[Table]:
    """One row a change."""
    rows = [
        (each["what"], f"{each['bytes']:,}", f"<= {BYTES_BAR:,}: {'met' if each['bytes'] <= BYTES_BAR else 'MISSED'}")
        for each in figures
    ]
    note = f"What a device downloads of the facts of {FEWER:,} items: title, year, genres, price, stock, sale, author."
    return [Table("Facts of items", ("what", "bytes", "bar"), rows, note)]
