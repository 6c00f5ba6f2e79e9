"""An item table is read as it was published, or refused before it costs anything; others' titles are matched."""

import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_common.models import published
from palate_common.models.item_matching import ItemMatcher, Match, normal_id, normal_title, split_title
from palate_common.models.item_rows import read_facts, rows_of
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
        st.sampled_from(["price", "stock"]),
        TEXT | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.just(("a", "")),
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


def test_more_than_a_reader_takes_is_not_written() -> None:
    """Devices would refuse the model that comes with it, and an operator's file would have been taken."""
    rows = tuple(ItemFacts(f"{n}", more={"about": "\u8bf4" * 2000, "plot": "\u8ff0" * 2000}) for n in range(50))
    with pytest.raises(InputError, match="a table of 50 items must be at most 270336 bytes, got 60"):
        ItemTable.of(rows).to_bytes()


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "ID,Title,Genres,IMDb_ID,price,in stock\n7,Toy Story (1995),Comedy| Family,tt0114709,9.50,true\n"),
        (
            "b.csv",
            "\ufeffmovieId,title,year,kinds,imdbId,price,in_stock\n7,Toy Story,1995,Comedy|Family,tt0114709,9.5,TRUE",
        ),
        (
            "c.json",
            '[{"item_id": 7, "title": "Toy Story", "year": 1995, "kinds": ["Comedy", "Family"], "imdb": "tt0114709", '
            '"price": 9.5, "in_stock": true}]',
        ),
    ],
)
def test_facts_are_read_as_people_write_them(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    more = {"price": 9.5, "in_stock": True}
    expected = ItemFacts("7", "Toy Story", 1995, (), ("Comedy", "Family"), {"imdb": "tt0114709"}, more)
    table = read_facts(file, "`FILE`")
    assert tuple(table) == (expected,)
    file.with_suffix(".json").write_text(json.dumps(rows_of(table)), encoding="utf-8")
    assert read_facts(file.with_suffix(".json"), "`FILE`") == table


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"title\nToy Story\n", "must have an id"),
        ("a.csv", b"id\n7\n7\n", "must name each item once"),
        ("a.csv", b"id,title\n7,\xff\n", "must be CSV or JSON in UTF-8"),
        ("a.csv", b"id\n7,8\n", "must have rows with a value for each column"),
        ("a.json", b"{}", "must be a list of objects"),
        ("a.json", b"[7]", "must have rows with a value for each column"),
        ("a.json", b"[" * 9999, "must be CSV or JSON in UTF-8"),
        ("a.json", b'[{"id": 7, "price": {}}]', "must have texts, numbers, true, false or lists"),
        ("a.json", b'[{"id": 7, "price": 1e999}]', "finite numbers"),
        ("b.json", b"", "must be a readable file"),
    ],
)
def test_a_file_of_no_facts_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / f"a{Path(name).suffix}").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_facts(tmp_path / name, "`FILE`")


def test_a_long_title_is_split_at_once() -> None:
    for text in (
        " " * 200_000 + "x",
        "(" * 200_000,
        "a (" * 50_000 + "(1999)",
        "a" + "(b)" * 50_000 + "(1999)",
        ("a" + " " * 9) * 20_000,
    ):
        began = time.process_time()
        split_title(text), normal_title(text)
        assert time.process_time() - began < 5, "in proportion to its length"


def test_the_vectors_table_is_the_bytes_that_python_writes() -> None:
    table = read_table(CASES["table"].encode(), CASES["items"])
    assert zlib.decompress(table.to_bytes()) == canonical_json(json.loads(CASES["table"]))
    assert published.TABLE == "item-table.z"
