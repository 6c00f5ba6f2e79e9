"""The README's measured tables, copied from the results of the benchmarks.

    python docs/measured.py

Reads `simulations/benchmarks/*/results.json` and writes what stands between the marks in README.md. No figure is typed
by hand: `tests/docs/test_measured.py` compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "simulations" / "benchmarks"
BEGIN, END = "<!-- measured: written by docs/measured.py -->", "<!-- end of measured -->"
SHOWN = (("quality", "main"), ("quality", "sets"))
BAR = re.compile(r" \(bar [^)]*\)")
"""What the project asked of itself; it stays with the benchmark."""


def section() -> str:
    """What stands between the marks."""
    return "\n".join(_parts()).strip()


def _parts() -> Iterator[str]:
    """The tables of each part that was measured, and how it was measured."""
    for benchmark, part in SHOWN:
        file = BENCHMARKS / benchmark / "results.json"
        found = json.loads(file.read_text(encoding="utf-8")).get(part) if file.exists() else None
        if found is None:
            continue
        for table in found["tables"]:
            yield from _table(table)
        yield f"<sub>{_how(benchmark, part, found['measured'])}</sub>\n"


def _table(table: Mapping[str, Any]) -> Iterator[str]:
    """One table, without its bars: neither their column nor those within cells."""
    kept = [place for place, name in enumerate(table["header"]) if name != "bar"]
    yield f"**{table['title']}**\n"
    for cells in (table["header"], ["---"] * len(table["header"]), *table["rows"]):
        yield BAR.sub("", "| " + " | ".join(str(cells[place]) for place in kept) + " |")
    yield f"\n{table['note']}\n" if table["note"] else ""


def _how(benchmark: str, part: str, measured: Mapping[str, Any]) -> str:
    """Command, seeds, protocol, hardware and date in one line."""
    command = f"PYTHONPATH=simulations python simulations/benchmarks/{benchmark}/run.py --parts {part}"
    known = {key: value for key, value in measured.items() if key not in ("command", "date", "hardware")}
    facts = [f"`{command}`", *(f"{key} {value}" for key, value in known.items())]
    return "; ".join([*facts, measured["hardware"], measured["date"]]) + "."


def main() -> None:
    """Write the section into the README."""
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
