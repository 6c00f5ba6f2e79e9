"""The README's measured tables, the pages of measurements and their picture, made from the records of the benchmarks.

    python docs/measured.py

Reads `simulations/benchmarks/*/figures.jsonl`, has each script make its tables of them, and writes what stands between
the marks in README.md, its Chinese edition, docs/benchmarks.md and docs/population.md, and docs/img/population.svg. No
figure is typed by hand: `tests/docs/test_measured.py` compares.
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
TERMS = ROOT / "docs" / "zh" / "terms.toml"
USERS, PICTURE = ROOT / "docs" / "population.md", ROOT / "docs" / "img" / "population.svg"
BENCHMARKS = ROOT / "simulations" / "benchmarks"
BEGIN, END = "<!-- measured: written by docs/measured.py -->", "<!-- end of measured -->"
SHOWN = (("quality", "main"), ("quality", "sets"))
"""What the README shows."""
TOPICS = {
    "Quality": (
        "quality",
        "frontier",
        "population",
        "feasibility",
        "published",
        "field",
        "tournament",
        "presets",
        "protocols",
    ),
    "New items, new users, time": (
        "coldstart",
        "questions",
        "recency",
        "panel",
        "domains",
        "fusion",
        "ranking",
        "download",
        "compression",
    ),
    "Releases and learning": ("releases", "sgd", "pfl", "engines", "speed", "scale"),
    "Privacy": ("attacks", "poisoning", "audit", "mutation", "ledger"),
    "Devices and servers": ("sdk", "web", "durability", "doors", "secagg", "serve", "fleet", "witness"),
    "Loyalty": ("loyalty", "sandbox"),
}
"""In which order the page has the benchmarks."""
BAR = re.compile(r" \(bar [^)]*\)")
"""What the project asked of itself; it stays with the benchmark."""
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")

sys.path.insert(0, str(ROOT / "simulations"))  # before Opacus' package of the same name
from benchmarks.sheet import Sheet, Table  # noqa: E402 - the path is what finds it


def section() -> str:
    """What stands between the marks of the README."""
    return "\n".join(_shown({})).strip()


def chinese() -> str:
    """The same in its Chinese edition: the figures are the record's, the words those of docs/zh/terms.toml."""
    return "\n".join(_shown(tomllib.loads(TERMS.read_text(encoding="utf-8"))["tables"])).strip()


def page() -> str:
    """What stands between the marks of the page of measurements."""
    contents = [line for topic, names in TOPICS.items() for line in (f"\n**{topic}**\n", *map(_entry, names))]
    return "\n".join([*contents, "", *(_benchmark(name) for names in TOPICS.values() for name in names)]).strip()


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


def users() -> str:
    """What stands between the marks of the page on quality and users."""
    lines = [line for record, tables in recorded("population") for line in _whole(record, tables)]
    return "\n".join(lines).strip()


def picture() -> str:
    """The picture of that page; nothing before it is measured."""
    figures = {name: record["figures"] for name, record in Sheet(BENCHMARKS / "population").parts.items()}
    return str(importlib.import_module("benchmarks.population.run").picture(figures)) if "million" in figures else ""


def _whole(record: Mapping[str, Any], tables: Sequence[Table]) -> Iterator[str]:
    """A record's tables and how it was measured."""
    yield from (table.markdown() for table in tables)
    yield f"<sub>{_how(record['measured'])}</sub>\n"


def method(benchmark: str) -> tuple[str, str, str]:
    """Name and question of a benchmark, and what its README says before the first command."""
    text = (BENCHMARKS / benchmark / "README.md").read_text(encoding="utf-8")
    title, _, rest = text.removeprefix("# ").partition("\n")
    name, _, question = title.partition(": ")
    return name, question, LINK.sub(lambda found: _from_docs(benchmark, found[1]), rest.partition("```")[0]).strip()


def _from_docs(benchmark: str, target: str) -> str:
    """A link of a benchmark's README as the page has it."""
    return "](" + os.path.relpath((BENCHMARKS / benchmark / target).resolve(), PAGE.parent)


def _entry(benchmark: str) -> str:
    """A line of the contents."""
    name, question, _ = method(benchmark)
    return f"- [{name}](#{name.lower().replace(' ', '-')}): {question}"


def _benchmark(benchmark: str) -> str:
    """A section of the page; a note that several tables have is said once."""
    name, question, text = method(benchmark)
    folder = f"../simulations/benchmarks/{benchmark}"
    lines = [f"## {name}\n\n*{question[0].upper()}{question[1:]}.*\n", f"{text}\n"]
    notes = set[str]()
    for table in standing(benchmark):
        lines.append((replace(table, note="") if table.note in notes else table).markdown())
        notes.add(table.note)
    for record, tables in recorded(benchmark):
        for table in tables:
            lines.append((replace(table, note="") if table.note in notes else table).markdown())
            notes.add(table.note)
        lines.append(f"<sub>{_how(record['measured'])}</sub>\n")
    return "\n".join([*lines, f"Commands and what to read in it: [{benchmark}]({folder}).\n"])


def _shown(words: Mapping[str, str]) -> Iterator[str]:
    """The tables of each part of the README with other words, and how it was measured."""
    for benchmark, part in SHOWN:
        for record, tables in recorded(benchmark):
            if record["part"] == part:
                for table in tables:
                    yield from (_in(words, line) for line in _table(table))
                yield f"<sub>{_how(record['measured'])}</sub>\n"


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


def _how(measured: Mapping[str, Any]) -> str:
    """Command, seeds, protocol, hardware and date in one line."""
    first, last = ("command",), ("hardware", "date")
    facts = [f"{key} {value}" for key, value in measured.items() if key not in (*first, *last)]
    return "; ".join([f"`{measured['command']}`", *facts, *(measured[key] for key in last if key in measured)]) + "."


def main() -> None:
    """Write all."""
    for file, text in ((README, section()), (CHINESE, chinese()), (PAGE, page()), (USERS, users())):
        whole = file.read_text(encoding="utf-8")
        before, _, rest = whole.partition(BEGIN)
        _, _, after = rest.partition(END)
        file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    if drawn := picture():
        PICTURE.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
