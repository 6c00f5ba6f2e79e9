"""Sheet: what a benchmark leaves behind: results.json with every figure, results.md with the tables made of them.

A benchmark has parts, and each can be run again by itself: the others stay as they were. The tables also replace what
stands between the two result marks of the folder's README.md.

    sheet = Sheet(Path("quality"))
    sheet.record("main", figures=[...], tables=[Table("Quality", ("eps", "recall"), [(1, 0.28)])], command="run.py")
    sheet.write(order=("main",))
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from palate_common.errors import InputError, PalateError

BEGIN, END = "<!-- results: written by run.py -->", "<!-- end of results -->"
DATA_VARIABLE = "PALATE_BENCH_DATA"


@dataclass(frozen=True)
class Table:
    """A table of text; numbers are formatted by whoever makes it.

    Attributes:
        title: what it shows.
        header: column names.
        rows: cells; every row as long as the header.
        note: a sentence below it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as GitHub markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        text = "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)
        return f"### {self.title}\n\n{text}\n" + (f"\n{self.note}\n" if self.note else "")


@dataclass
class Sheet:
    """The results of one benchmark, in its folder.

    Attributes:
        folder: where results.json, results.md and README.md lie.
        parts: part -> figures, tables, and how they were measured.
    """

    folder: Path
    parts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        earlier = self.folder / "results.json"
        if earlier.exists():
            self.parts = json.loads(earlier.read_text(encoding="utf-8"))

    def record(self, part: str, *, figures: Any, tables: Sequence[Table], facts: Mapping[str, Any]) -> None:
        """Put one part's results in the place of its earlier ones, and print its tables."""
        measured = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "hardware": hardware(),
            "python": platform.python_version(),
        }
        tables_ = [asdict(table) for table in tables]
        self.parts[part] = {"measured": {**measured, **facts}, "tables": tables_, "figures": figures}
        for table in tables:
            sys.stdout.write(table.markdown() + "\n")

    def write(self, order: Sequence[str]) -> None:
        """Write results.json and results.md, and the tables into README.md if it has the marks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = {part: self.parts[part] for part in order if part in self.parts}
        text = json.dumps(self.parts, indent=1, allow_nan=False, default=float)
        (self.folder / "results.json").write_text(text + "\n", encoding="utf-8")
        tables = "\n".join(_section(part) for part in self.parts.values())
        (self.folder / "results.md").write_text(tables, encoding="utf-8")
        readme = self.folder / "README.md"
        page = readme.read_text(encoding="utf-8") if readme.exists() else ""
        if BEGIN in page and END in page:
            before, after = page.split(BEGIN)[0], page.split(END)[1]
            readme.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


def _section(part: Mapping[str, Any]) -> str:
    """One part's tables, and a line on how they were measured."""
    tables = "\n".join(Table(**table).markdown() for table in part["tables"])
    measured = "; ".join(f"{key} {value}" for key, value in part["measured"].items())
    return f"{tables}\n*Measured: {measured}.*\n"


def commit() -> str:
    """The commit that was measured, or "unknown" outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def hardware() -> str:
    """Cores, processor and memory in a few words."""
    model = platform.processor() or "processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} shared cores of an {model} ({platform.machine()}), {memory:.0f} GiB"


def arguments(about: str, parts: Sequence[str], folder: Path, *, seeds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    home = os.environ.get(DATA_VARIABLE)
    parser.add_argument("--data", type=Path, default=home, help=f"folder of the sets; default ${DATA_VARIABLE}")
    parser.add_argument("--out", type=Path, default=folder, help="where results are written")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many, from 0")
    parser.add_argument("--parts", default=",".join(parts), help="which parts, by comma")
    return parser


def chosen_parts(text: str, known: Sequence[str]) -> list[str]:
    """The parts asked for, in their own order."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in asked if part not in known]
    if unknown or not asked:
        raise InputError(f"`--parts` must be among {', '.join(known)}, got {text!r}")
    return [part for part in known if part in asked]


def data_folder(data: Path | None) -> Path:
    """The folder of the sets, if it is there."""
    if data is None or not Path(data).is_dir():
        raise InputError(f"`--data` or ${DATA_VARIABLE} must be a folder with the sets, got {data}")
    return Path(data)


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error (0 for one value)."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else 0.0


def cell(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard error as a table's cell."""
    mean, error = mean_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


Part = tuple[Any, Sequence[Table]]
"""What measuring one part gives: its figures and its tables."""


def main(
    about: str | None,
    parts: Mapping[str, Callable[[Path, int], Part]],
    folder: Path,
    *,
    seeds: int,
    needs_data: bool = True,
    **facts: str,
) -> None:
    """The command line of a benchmark: measure the parts asked for, and write the sheet after each.

    Args:
        about: the script's docstring.
        parts: by name, what measures a part from the data folder and the number of seeds.
        folder: where results go unless the command says otherwise.
        seeds: how many by default.
        needs_data: whether there must be a data folder; a part that needs none is given the current one.
        facts: what else is said of how it was measured.
    """
    options = arguments(about or "", tuple(parts), folder, seeds=seeds).parse_args()
    try:
        data = data_folder(options.data) if needs_data else Path()
        sheet = Sheet(options.out)
        for part in chosen_parts(options.parts, tuple(parts)):
            figures, tables = parts[part](data, options.seeds)
            measured = {"seeds": f"0 to {options.seeds - 1}", **facts}
            sheet.record(part, figures=figures, tables=tables, facts=measured)
            sheet.write(tuple(parts))
    except PalateError as error:
        sys.exit(f"benchmark: {error}")
