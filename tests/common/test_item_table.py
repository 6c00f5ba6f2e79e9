"""An item table is read as it was published, or refused before it costs anything; others' titles are matched."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_common.models import published
from palate_common.models.item_matching import ItemMatcher, Match, normal_id, normal_title, split_title
from palate_common.models.item_table import ItemFacts, ItemTable, read_table
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
FACTS = st.builds(
    ItemFacts,
    item=st.just(""),
    title=TEXT,
    year=st.none() | st.integers(-9999, 9999),
    alternatives=st.lists(TEXT, max_size=2).map(tuple),
    kinds=st.lists(TEXT, max_size=2).map(tuple),
    ids=st.dictionaries(st.sampled_from(["imdb", "isbn"]), TEXT.filter(bool)),
    more=st.dictionaries(
        st.sampled_from(["price", "stock"]), TEXT | st.booleans() | st.integers(-(2**53), 2**53) | st.just(("a", ""))
    ),
)


@given(st.lists(FACTS, max_size=4))
def test_what_is_written_is_read(facts: list[ItemFacts]) -> None:
    items = [str(row) for row in range(len(facts))]
    table = ItemTable.of(tuple(ItemFacts(item, *_rest(each)) for item, each in zip(items, facts, strict=True)))
    assert ItemTable.from_bytes(table.to_bytes(), items) == table


def _rest(facts: ItemFacts) -> tuple[Any, ...]:
    return facts.title, facts.year, facts.alternatives, facts.kinds, facts.ids, facts.more


def test_other_items_have_no_facts() -> None:
    table = ItemTable.of((ItemFacts("a", "A", 1999), ItemFacts("b")))
    assert tuple(table.over(["b", "c", "a"])) == (ItemFacts("b"), ItemFacts("c"), ItemFacts("a", "A", 1999))
    assert table.titles == {"a": "A (1999)"}


CASES = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "items.json").read_text())


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["about"])
def test_what_is_no_table_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError) as refused:
        read_table(case["data"].encode(), CASES["items"])
    assert str(refused.value) == case["error"]


def test_a_table_is_bounded_before_it_is_parsed() -> None:
    bomb = zlib.compress(b'{"columns":{"title":["' + b"a" * 2**20)
    with pytest.raises(IntegrityError, match="an item table must be whole and at most 69632 bytes unpacked"):
        ItemTable.from_bytes(bomb, ["a"])


@pytest.mark.parametrize(
    "facts",
    [
        ItemFacts("a", "x" * 2049),
        ItemFacts("a", year=10_000),
        ItemFacts("a", more={"title": "x"}),
        ItemFacts("a", more={"Price": 1}),
        ItemFacts("a", more={"price": 2**53 + 1}),
        ItemFacts("a", more={"price": float("nan")}),
        ItemFacts("a", "\ud800"),
    ],
)
def test_what_no_reader_takes_is_not_written(facts: ItemFacts) -> None:
    with pytest.raises(InputError):
        ItemTable.of((facts,)).to_bytes()


@pytest.mark.parametrize("case", CASES["matches"], ids=lambda case: str(case["row"])[:60])
def test_rows_of_others_are_matched(case: dict[str, Any]) -> None:
    table = read_table(CASES["table"].encode(), CASES["items"])
    assert ItemMatcher(table).match(**case["row"]) == Match(case["item"], case["how"])


def test_titles_and_ids_are_compared_in_one_form() -> None:
    assert [[text, normal_title(text)] for text, _ in CASES["titles"]] == CASES["titles"]
    assert [[scheme, text, normal_id(scheme, text)] for scheme, text, _ in CASES["ids"]] == CASES["ids"]
    split = [
        [text, [title, year, list(others)]] for text, _ in CASES["split"] for title, year, others in [split_title(text)]
    ]
    assert split == CASES["split"]


def test_the_vectors_table_is_the_bytes_that_python_writes() -> None:
    table = read_table(CASES["table"].encode(), CASES["items"])
    assert zlib.decompress(table.to_bytes()) == canonical_json(json.loads(CASES["table"]))
    assert published.TABLE == "item-table.z"
