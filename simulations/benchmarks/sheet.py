"""Sheet: what a benchmark leaves behind: figures.jsonl, one record a line, and nothing else.

A benchmark has parts. A part measures figures and makes tables of them, and of nothing else: whoever has the record has
the tables, and `docs/measured.py` writes them into the page of measurements. Each part can be run again by itself; the
others stay as they were.

    sheet = Sheet(Path("quality"))
    sheet.record("main", {"recall": [0.28, 0.29]}, facts={"seeds": "0 to 1"})
    sheet.write(order=("main",))
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from palate_core.errors import InputError, PalateError

RECORDS = "figures.jsonl"
DIGITS = 9
"""Significant digits that a figure keeps."""
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

    def markdown(self, level: int = 3) -> str:
        """The table as GitHub markdown, under a heading of that level."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        text = "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)
        return f"{'#' * level} {self.title}\n\n{text}\n" + (f"\n{self.note}\n" if self.note else "")


@dataclass(frozen=True)
class Part:
    """One part of a benchmark.

    Attributes:
        measure: from the data folder and the number of seeds, the figures, as JSON can hold them; None: nothing to run.
        tables: from recorded figures, the tables.
        seeds: the seeds of a part that has its own, whatever the number of seeds; empty: those from 0.
    """

    measure: Callable[[Path, int], Any]
    tables: Callable[[Any], Sequence[Table]]
    seeds: str = ""


@dataclass
class Sheet:
    """The records of one benchmark, in its folder.

    Attributes:
        folder: where figures.jsonl lies.
        parts: part -> its record: how it was measured, and its figures.
    """

    folder: Path
    parts: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._measured = dict[str, Any]()
        self.parts = self._read()

    def _read(self) -> dict[str, Any]:
        earlier = self.folder / RECORDS
        if not earlier.exists():
            return {}
        records = map(json.loads, earlier.read_text(encoding="utf-8").splitlines())
        return {record["part"]: record for record in records}

    def record(self, part: str, figures: Any, *, facts: Mapping[str, Any]) -> None:
        """Put one part's record in the place of its earlier one."""
        measured = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "hardware": hardware(),
            "python": platform.python_version(),
        }
        self._measured[part] = {"part": part, "measured": {**measured, **facts}, "figures": plain(figures)}
        self.parts |= self._measured

    def write(self, order: Sequence[str]) -> None:
        """Write figures.jsonl. What another run of the script has recorded meanwhile stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._read() | self._measured
        self.parts = {part: found[part] for part in order if part in found}
        lines = [
            json.dumps(each, allow_nan=False, ensure_ascii=False, separators=(",", ":")) for each in self.parts.values()
        ]
        (self.folder / RECORDS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def plain(figures: Any) -> Any:
    """Figures as a record holds them: what JSON has, and numbers of nine significant digits."""
    return _rounded(json.loads(json.dumps(figures, allow_nan=False, default=float)))


def _rounded(figures: Any) -> Any:
    """The same, with every float rounded."""
    if isinstance(figures, float):
        return float(f"{figures:.{DIGITS}g}")
    if isinstance(figures, dict):
        return {name: _rounded(each) for name, each in figures.items()}
    return [_rounded(each) for each in figures] if isinstance(figures, list) else figures


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
    parser.add_argument("--out", type=Path, default=folder, help="where the records are written")
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


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t (0 for one value)."""
    mean, error = mean_error(values)
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error if error else 0.0


def cell(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard error as a table's cell; of one value it alone."""
    mean, error = mean_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def main(
    about: str | None,
    parts: Mapping[str, Part],
    folder: Path,
    *,
    seeds: int,
    needs_data: bool = True,
    **facts: str,
) -> None:
    """The command line of a benchmark: measure the parts asked for, record each, and print its tables.

    Args:
        about: the script's docstring.
        parts: by name.
        folder: where the records go unless the command says otherwise.
        seeds: how many by default.
        needs_data: whether there must be a data folder; otherwise a part is given the named one, or the current one.
        facts: what else is said of how it was measured.
    """
    options = arguments(about or "", tuple(parts), folder, seeds=seeds).parse_args()
    try:
        data = data_folder(options.data) if needs_data else Path(options.data or "")
        sheet = Sheet(options.out)
        for name in chosen_parts(options.parts, tuple(parts)):
            figures = parts[name].measure(data, options.seeds)
            if figures is None:
                continue
            command = f"{command_of(folder.name)} --parts {name} --seeds {options.seeds}"
            seeds_ = parts[name].seeds or f"0 to {options.seeds - 1}"
            measured = {"command": command, "seeds": seeds_, **facts}
            sheet.record(name, figures, facts=measured)
            sheet.write(tuple(parts))
            for table in parts[name].tables(sheet.parts[name]["figures"]):
                sys.stdout.write(table.markdown() + "\n")
    except PalateError as error:
        sys.exit(f"benchmark: {error}")


def command_of(benchmark: str) -> str:
    """The call of a benchmark's script."""
    return f"PYTHONPATH=simulations python simulations/benchmarks/{benchmark}/run.py"
