"""Filters are read alike in both languages, bounded, and run nothing; so are rules, and changes of an item table."""

import json
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_common.models.item_changes import CHANGES, TABLE, files_of, table_from
from palate_common.models.item_rows import facts_of, read_facts
from palate_common.models.item_table import ItemFacts, ItemTable, read_table
from palate_common.models.rules import read_rules, rules_from_bytes, rules_to_bytes
from palate_common.models.where import ItemColumns, leaves_of, parse
from palate_core.errors import InputError, IntegrityError

CASES = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "where.json").read_text())
COLUMNS = ItemColumns(read_table(CASES["table"].encode(), CASES["items"]))


def test_filters_let_through_what_they_say() -> None:
    for text, rows in CASES["selected"]:
        assert np.flatnonzero(COLUMNS.select(parse(text))).tolist() == rows, text


@pytest.mark.parametrize(("text", "error"), CASES["refused"])
def test_what_is_no_filter_is_refused_with_the_place(text: str, error: str) -> None:
    with pytest.raises(InputError) as refused:
        COLUMNS.check(parse(text))
    assert str(refused.value) == error


@given(st.text(alphabet=" ()[]<>=!,.'\"019-antdorinpsew\n😀", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(InputError):
        found = parse(text)
        assert 1 <= len(leaves_of(found)) <= 100
        assert COLUMNS.select(found).shape == (48,)


def test_the_longest_filter_is_read_at_once() -> None:
    began = time.process_time()
    for text in ("not " * 250, "(" * 1000, "a or " * 199 + "b", '"' * 999, "[" * 1000, "1" * 1000, "- " * 500):
        with pytest.raises(InputError):
            parse(text)
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(("data", "error"), CASES["no_rules"], ids=lambda each: each[-60:])
def test_what_are_no_rules_is_refused(data: str, error: str) -> None:
    with pytest.raises(IntegrityError) as refused:
        rules_from_bytes(data.encode())
    assert str(refused.value) == error


def test_rules_are_written_as_toml_and_published_as_json(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        "[[rule]]\nwhere = 'sale'\nboost = 0.5\nfrom = 2026-12-01\nuntil = 2026-12-24\n[[rule]]\npin = ['a']\n"
    )
    first, second = rules = read_rules(file, "`FILE`")
    assert (first.since, first.until, second.pin) == (1796083200.0, 1798156800.0, ("a",)), "the last day is whole"
    assert rules_from_bytes(rules_to_bytes(rules)) == rules
    assert [first.holds(at) for at in (1796083199, 1796083200, 1798156799, 1798156800)] == [False, True, True, False]
    assert rules_to_bytes(rules_from_bytes(CASES["rules"].encode())) == CASES["rules"].encode()
    for text, error in (
        ("[[rule", "must be TOML"),
        ("rule = 7", "rules must be a list"),
        (" " * 2**17 + "#", "at most"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=error):
            read_rules(file, "`FILE`")
    with pytest.raises(InputError, match="must be a readable file"):
        read_rules(tmp_path, "`FILE`")


def test_changes_of_a_table_make_the_newer_one() -> None:
    case = CASES["changes"]
    base = read_table(CASES["table"].encode(), CASES["items"]).to_bytes()
    files = {TABLE: base, CHANGES: zlib.compress(case["changes"].encode())}
    assert table_from(files, case["items"]) == read_table(case["table"].encode(), case["items"])
    for data, error in case["refused"]:
        with pytest.raises(IntegrityError) as refused:
            table_from({**files, CHANGES: zlib.compress(data.encode())}, case["items"])
        assert str(refused.value) == error
    with pytest.raises(IntegrityError, match="must be whole and at most"):
        table_from({**files, CHANGES: zlib.compress(b" " * 2**19)}, case["items"])


VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"]) | st.just(("a",))


@given(st.lists(VALUES, min_size=30, max_size=30), st.lists(VALUES, min_size=30, max_size=33))
def test_whatever_changes_a_device_has_the_operators_table(old: list[Any], new: list[Any]) -> None:
    def table(values: list[Any]) -> ItemTable:
        return ItemTable.of(ItemFacts(str(n), f"T{n * n}", more={"x": each}) for n, each in enumerate(values))

    first, second = files_of(table(old), {}), table(new)
    files = files_of(second, first)
    found = table_from(files, second.items)
    assert found is not None
    assert found.to_bytes() == second.to_bytes(), "true is no 1"
    assert files[TABLE] == first[TABLE] or CHANGES not in files


def test_what_a_shop_says_of_an_item_is_read_from_rows(tmp_path: Path) -> None:
    row = {
        "item_id": "7",
        "categories": "Tea|Gift",
        "Region": "DE|AT",
        "from": "2026-12-01",
        "until": "2026-12-24T18:00+01:00",
    }
    more = facts_of({**row, "price": "9.50", "stock": "3", "age": "16", "link": "https://shop.example/7"}).more
    assert more == {
        "region": ("DE", "AT"), "from": 1796083200.0, "until": 1798131600.0, "price": 9.5, "stock": 3, "age": 16,
        "link": "https://shop.example/7",
    }  # fmt: skip
    assert facts_of(row).kinds == ("Tea", "Gift")
    file = tmp_path / "items.csv"
    for name, value in (
        ("from", "tomorrow"),
        ("until", "2026-12-24T18:00"),
        ("link", "javascript:alert(1)"),
        ("picture", "x"),
    ):
        file.write_text(f"id,{name}\n7,{value}\n")
        with pytest.raises(InputError, match=f"`{name}`"):
            read_facts(file, "`FILE`")
