"""The README's figures and the page of measurements are those of the benchmarks."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from typing import Any

import pytest


@pytest.fixture(scope="module")
def measured() -> Any:
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("measured", Path(__file__).parents[2] / "docs" / "measured.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(measured: Any, page: Any) -> str:
    """What stands between the marks."""
    return page.text.partition(measured.BEGIN)[2].partition(measured.END)[0]


def test_readme_shows_what_was_measured(measured: Any, pages: dict[str, Any]) -> None:
    """If this fails, run docs/measured.py."""
    assert between(measured, pages["README.md"]) == f"\n\n{measured.section()}\n\n"
    assert between(measured, pages["README.zh.md"]) == f"\n\n{measured.chinese()}\n\n"


def test_the_page_of_measurements_shows_what_was_measured(measured: Any, pages: dict[str, Any]) -> None:
    """If this fails, run docs/measured.py."""
    assert between(measured, pages["docs/benchmarks.md"]) == f"\n\n{measured.page()}\n\n"
    for name, titles in measured.SUMMARY.items():
        assert set(titles) <= {table.title for _, table in measured._all(name)}, name


def test_the_tables_of_each_benchmark_are_those_of_its_records(measured: Any, pages: dict[str, Any]) -> None:
    """If this fails, run docs/measured.py."""
    names = [name for names in measured.TOPICS.values() for name in names]
    assert {f"docs/benchmarks/{name}.md" for name in names} == {
        name for name in pages if name.startswith("docs/benchmarks/")
    }
    assert [name for name in names if pages[f"docs/benchmarks/{name}.md"].text != measured.tables(name)] == []


def test_the_picture_of_the_page_on_users_shows_what_was_measured(measured: Any) -> None:
    """If this fails, run docs/measured.py."""
    if drawn := measured.picture():
        assert measured.PICTURE.read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("name", ["cost", "epsilon"])
def test_a_page_that_quotes_figures_has_those_on_record(name: str, measured: Any, pages: dict[str, Any]) -> None:
    """Each figure of a row stands on the page of tables that the row, or what is below the table, leads to."""
    page = pages[f"docs/{name}.md"]
    found = 0
    for text in page.text.split("\n## "):
        linked = re.findall(r"\(benchmarks/(\w+)\.md\)", text)
        for row in page.rows(text):
            own = re.findall(r"\(benchmarks/(\w+)\.md\)", row[-1]) or linked
            figures = re.findall(r"\d[\d,]*(?:\.\d+)?", " ".join(row[1:])) if own else []
            there = "".join(pages[f"docs/benchmarks/{each}.md"].text for each in own)
            assert [each for each in figures if each not in there] == [], row
            found += len(figures)
    assert found >= 10


def test_every_benchmark_is_on_the_page_once_and_leads_there(measured: Any, root: Any) -> None:
    folders = sorted(file.parent.name for file in (root / "simulations" / "benchmarks").glob("*/README.md"))
    assert sorted(name for names in measured.TOPICS.values() for name in names) == folders
    for name in folders:
        anchor = measured.method(name)[0].lower().replace(" ", "-")
        readme = (root / "simulations" / "benchmarks" / name / "README.md").read_text(encoding="utf-8")
        assert f"benchmarks.md#{anchor})" in readme or not measured.Sheet(measured.BENCHMARKS / name).parts


def test_a_benchmarks_page_has_each_record_and_no_bar_is_hidden(measured: Any, root: Any) -> None:
    """What a record says of how it was measured stands below its tables."""
    for file in (root / "simulations" / "benchmarks").glob("*/figures.jsonl"):
        page = measured.tables(file.parent.name)
        for record, tables in measured.recorded(file.parent.name):
            assert f"`{record['measured']['command']}`" in page
            assert all(table.note in page and replace(table, note="").markdown(2) in page for table in tables)


def test_every_command_of_a_benchmark_finds_palates_own(root: Any) -> None:
    """Opacus installs a package of the same name, `benchmarks`: without the path, a script would find that one."""
    files = [root / "README.md", *root.glob("docs/**/*.md"), root / "docs" / "measured.py"]
    files += [*root.glob("simulations/benchmarks/*/README.md"), *root.glob("simulations/benchmarks/*/*.py")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    calls = [line for line in lines if "python simulations/benchmarks/" in line]
    assert len(calls) > 50
    assert not [line for line in calls if "PYTHONPATH=simulations " not in line]
