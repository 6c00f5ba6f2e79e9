"""The README's measured tables, the pages of measurements and their picture, made from the records of the benchmarks.

    python docs/measured.py

Reads `simulations/benchmarks/*/figures.jsonl`, has each script make its tables of them, and writes what stands between
the marks in README.md, its Chinese edition and docs/benchmarks.md, docs/img/population.svg, and docs/benchmarks/: a
page of each benchmark with all of its tables. No figure is typed by hand: `tests/docs/test_measured.py` compares.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README, CHINESE, PAGE = ROOT / "README.md", ROOT / "README.zh.md", ROOT / "docs" / "benchmarks.md"
TABLES = ROOT / "docs" / "benchmarks"
TERMS = ROOT / "docs" / "zh" / "terms.toml"
PICTURE = ROOT / "docs" / "img" / "population.svg"
BENCHMARKS = ROOT / "simulations" / "benchmarks"
BEGIN, END = "<!-- measured: written by docs/measured.py -->", "<!-- end of measured -->"
LISTS = (
    ("most popular", "everybody", ("popularity", "recall_capped@20"), "popularity"),
    ("most popular, with noise", "nobody", ("5", "noised popularity"), "noised popularity"),
    ("**Palate**", "**nobody**", ("5", "Palate, recall_capped@20"), "Palate"),
    ("iALS", "everybody", ("iALS (implicit)", "recall_capped@20"), "iALS"),
    ("EASE", "everybody", ("EASE", "recall_capped@20"), "EASE"),
)
"""The README's rows: a kind of list, who hands a history over, and where quality's tables have the figures: row and
column of MovieLens 1M's, column of the other logs'."""
SUMMARY = {
    "quality": ("MovieLens 1M: recall_capped@20 against eps", "Other logs at eps 5: recall_capped@20"),
    "published": ("MovieLens 1M: recall_capped@20 on test users",),
    "scale": ("1,000,000 users: the whole command",),
    "attacks": ("MovieLens 1M: user membership, likelihood ratio; knows all other users, the target's history",),
    "audit": ("Lower bound / claimed epsilon",),
    "sdk": ("A round",),
    "secagg": ("Beside Flower's SecAgg+",),
    "serve": ("Server CPU of a masked round",),
    "fleet": ("1,000 embedded devices, distributed, secure noise",),
    "sandbox": ("Who comes back",),
}
"""Benchmark -> the titles of its tables that the page of measurements shows, besides the link to all of them."""
TOPICS = {
    "Quality": (
        "quality",
        "population",
        "feasibility",
        "published",
        "field",
        "presets",
        "protocols",
    ),
    "New items, new users, time": (
        "questions",
        "order",
        "histories",
        "domains",
        "panel",
        "ranking",
        "download",
    ),
    "Releases and learning": ("releases", "sgd", "scale"),
    "Privacy": ("attacks", "poisoning", "audit", "mutation", "ledger"),
    "Devices and servers": ("sdk", "web", "durability", "secagg", "serve", "fleet"),
    "Loyalty": ("loyalty", "sandbox"),
    "Newcomers": ("first_quarter",),
}
"""In which order the page has the benchmarks."""
BAR = re.compile(r" \(bar [^)]*\)")
"""What the project asked of itself; it stays with the benchmark."""

sys.path.append(str(ROOT / "docs"))
sys.path.insert(0, str(ROOT / "simulations"))  # before Opacus' package of the same name
from benchmarks.sheet import Sheet, Table  # noqa: E402 - the path is what finds it


def section() -> str:
    """What stands between the marks of the README."""
    return "\n".join(_compared())


def chinese() -> str:
    """The same in its Chinese edition: the figures are the record's, the words those of docs/zh/terms.toml."""
    words = tomllib.loads(TERMS.read_text(encoding="utf-8"))["tables"]
    return "\n".join(_in(words, line) for line in _compared())


def page() -> str:
    """What stands between the marks of the page of measurements."""
    contents = [f"**{topic}**: {', '.join(map(_entry, names))}." for topic, names in TOPICS.items()]
    return "\n\n".join([*contents, *(_summary(name) for names in TOPICS.values() for name in names)])


def tables(benchmark: str) -> str:
    """A page of its own: every table of a benchmark and how each was measured; a note of several is there once."""
    lines = [f"# {method(benchmark)[0]}: tables\n\n{_links(benchmark, TABLES)}\n"]
    notes = set[str]()
    measured = list[Mapping[str, Any]]()
    for how, table in _all(benchmark):
        lines.append((replace(table, note="") if table.note in notes else table).markdown(2))
        notes.add(table.note)
        measured += [how] if how and how not in measured else []
    if measured:
        lines.append("## How it was measured\n\n| command | with |\n| --- | --- |")
        lines += [f"| `{how['command']}` | {_facts(how)} |" for how in measured]
    return "\n".join(lines).strip() + "\n"


def recorded(benchmark: str) -> Iterator[tuple[Mapping[str, Any], Sequence[Table]]]:
    """Each record of a benchmark, and the tables that its script makes of it."""
    records = Sheet(BENCHMARKS / benchmark).parts
    if records:
        parts = importlib.import_module(f"benchmarks.{benchmark}.run").PARTS
        for name, record in records.items():
            yield record, parts[name].tables(record["figures"])


def standing(benchmark: str) -> Sequence[Table]:
    """Tables of published figures, ours beside them; none where a benchmark has no `published.json`."""
    folder = BENCHMARKS / benchmark
    if not (folder / "published.json").exists():
        return ()
    figures = {name: record["figures"] for name, record in Sheet(folder).parts.items()}
    found: Sequence[Table] = importlib.import_module(f"benchmarks.{benchmark}.run").standing(figures)
    return found


def picture() -> str:
    """The picture of docs/population.md; nothing before it is measured."""
    figures = {name: record["figures"] for name, record in Sheet(BENCHMARKS / "population").parts.items()}
    return str(importlib.import_module("picture").picture(figures)) if "million" in figures else ""


def method(benchmark: str) -> tuple[str, str]:
    """Name and question of a benchmark."""
    text = (BENCHMARKS / benchmark / "README.md").read_text(encoding="utf-8")
    name, _, question = text.removeprefix("# ").partition("\n")[0].partition(": ")
    return name, question


def _all(benchmark: str) -> Iterator[tuple[Mapping[str, Any], Table]]:
    """Every table of a benchmark and how it was measured; of published figures nobody here measured any."""
    yield from (({}, table) for table in standing(benchmark))
    yield from ((record["measured"], table) for record, found in recorded(benchmark) for table in found)


def _entry(benchmark: str) -> str:
    """A benchmark's place on the page."""
    name = method(benchmark)[0]
    return f"[{name}](#{name.lower().replace(' ', '-')})"


def _summary(benchmark: str) -> str:
    """A section of the page: the question, where its tables are, and the few that answer it."""
    name, question = method(benchmark)
    chosen = [table for _, table in _all(benchmark) if table.title in SUMMARY.get(benchmark, ())]
    text = f"## {name}\n\n{_sentence(question)} {_links(benchmark, PAGE.parent)}\n"
    return "\n".join([text, *(line for table in chosen for line in _table(replace(table, note="")))]).strip()


def _sentence(question: str) -> str:
    """A question as it begins a paragraph."""
    return f"{question[0].upper()}{question[1:].rstrip('.?')}."


def _links(benchmark: str, folder: Path) -> str:
    """Where a benchmark's other pages are, as a page of that folder has it."""
    name = method(benchmark)[0].lower().replace(" ", "-")
    own = folder == TABLES
    other = f"[Summary](../{PAGE.name}#{name})" if own else f"[Tables]({TABLES.name}/{benchmark}.md)"
    return f"{other}, [method]({os.path.relpath(BENCHMARKS / benchmark, folder)})."


def _compared() -> Iterator[str]:
    """The README's table: each list's quality, and who had to hand a history over for it."""
    found = [table for record, tables in recorded("quality") if record["part"] in ("main", "sets") for table in tables]
    films = {
        (row[0], name): cell
        for table in found[:2]
        for row in table.rows
        for name, cell in zip(table.header, row, strict=True)
    }
    shop = dict(zip(found[2].header, found[2].rows[0], strict=True))
    yield "| the list | who hands a history over | films | a shop |"
    yield "| --- | --- | --- | --- |"
    for name, whose, cell, column in LISTS:
        yield f"| {name} | {whose} | {BAR.sub('', films[cell])} | {shop[column]} |"


def _table(table: Table) -> Iterator[str]:
    """One table, without its bars: neither their column nor those within cells."""
    kept = [place for place, name in enumerate(table.header) if name != "bar"]
    yield f"**{table.title}**\n"
    for cells in (table.header, ["---"] * len(table.header), *table.rows):
        yield BAR.sub("", "| " + " | ".join(str(cells[place]) for place in kept) + " |")
    yield f"\n{table.note}\n" if table.note else ""


def _in(words: Mapping[str, str], line: str) -> str:
    """A line with each of the words replaced, in their order."""
    for ours, theirs in words.items():
        line = line.replace(ours, theirs)
    return line


def _facts(measured: Mapping[str, Any]) -> str:
    """Seeds, protocol, hardware and date."""
    first, last = ("command",), ("hardware", "date")
    facts = [f"{key} {value}" for key, value in measured.items() if key not in (*first, *last)]
    return "; ".join([*facts, *(measured[key] for key in last if key in measured)])


def main() -> None:
    """Write all."""
    for file, text in ((README, section()), (CHINESE, chinese()), (PAGE, page())):
        whole = file.read_text(encoding="utf-8")
        before, _, rest = whole.partition(BEGIN)
        _, _, after = rest.partition(END)
        file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    for name in (name for names in TOPICS.values() for name in names):
        (TABLES / f"{name}.md").write_text(tables(name), encoding="utf-8")
    if drawn := picture():
        PICTURE.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
