"""Duck: the same log prepared by Palate's own reader and by DuckDB: time, memory, and whether the pairs are the same.

The work: read parquet, drop rows that repeat another in every column, number the ids in sorted order, and write the
distinct pairs to files, by user and then by item. Each system does it in a process of its own.

    PYTHONPATH=simulations python simulations/benchmarks/scale/duck.py SYSTEM LOG FOLDER
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import Part, Table
from palate_core.errors import InputError

LOGS = ("a140k", "a1m")
MEMORY = "3GB"
"""What DuckDB may use before it spills."""
THREADS = 2
SYSTEMS = {
    "palate": "Palate",
    "duckdb": "DuckDB, the same steps",
    "duckdb-pairs": "DuckDB, distinct pairs alone",
}


def palate(log: Path, folder: Path) -> dict[str, Any]:
    """By Palate's reader: as a run does it, with all that reading repairs and counts."""
    from palate_sim.data import Workspace, positives, read_log
    from palate_sim.preparation.histories import HistoryWriter

    read = read_log(log, workspace=Workspace(folder=lambda: folder))
    pairs = positives(read, timed=False, folder=lambda: folder)
    users, rows = len(pairs.users), read.rows.total + read.repairs.get("exact_duplicates", 0)
    with HistoryWriter(len(pairs.items), folder / "pairs") as writer:
        for block in pairs.blocks():
            writer.add(np.diff(block.indptr), block.item_rows, block.weights)
        writer.finish()
    return {"rows": rows, "repeats": rows - read.rows.total, "users": users, "items": len(pairs.items)}


def duckdb(log: Path, folder: Path, *, repeats: bool = True) -> dict[str, Any]:
    """By DuckDB, with as many threads as cores and a limit to its memory."""
    import duckdb as duck  # type: ignore[import-not-found]  # it is no dependency

    base = duck.connect(str(folder / "log.db"), config={"threads": THREADS, "memory_limit": MEMORY})
    base.execute("SET preserve_insertion_order = false")
    # The address is a parameter of a function, which a view can't have.
    source = "read_parquet('" + str(log).replace("'", "''") + "')"
    rows = base.execute(f"SELECT count(*) FROM {source}").fetchall()[0][0]  # noqa: S608 - quoted above
    columns = "user_id, item_id, timestamp" if repeats else "user_id, item_id"
    base.execute(f"CREATE TABLE log AS SELECT DISTINCT {columns} FROM {source}")  # noqa: S608
    left = base.execute("SELECT count(*) FROM log").fetchall()[0][0]
    counts = {}
    for name in ("user", "item"):
        base.execute(
            f"CREATE TABLE {name}s AS SELECT {name}_id, "  # noqa: S608
            f"(row_number() OVER (ORDER BY {name}_id::VARCHAR) - 1)::INTEGER AS {name}_row "
            f"FROM (SELECT DISTINCT {name}_id FROM log)"
        )
        counts[f"{name}s"] = base.execute(f"SELECT count(*) FROM {name}s").fetchall()[0][0]  # noqa: S608
    query = "SELECT DISTINCT" if repeats else "SELECT"
    query += " user_row, item_row FROM log JOIN users USING (user_id) JOIN items USING (item_id) ORDER BY ALL"
    place = folder / "pairs"
    place.mkdir()
    per_user = np.zeros(counts["users"], np.int64)
    total = 0
    with (place / "indices").open("wb") as file:
        for batch in base.sql(query).to_arrow_reader(1 << 20):
            users, items = batch.column(0).to_numpy(), batch.column(1).to_numpy()
            per_user += np.bincount(users, minlength=len(per_user))
            items.astype(np.int32, copy=False).tofile(file)
            total += len(items)
    np.save(place / "indptr.npy", np.concatenate(([0], np.cumsum(per_user))))
    return {"rows": rows, "repeats": rows - left if repeats else None, **counts}


def measure(data: Path, _: int) -> Any:
    """CPU-seconds, wall seconds and memory of each system on each log."""
    if importlib.util.find_spec("duckdb") is None:
        raise InputError("`--parts` must be measured with DuckDB for duck, got none: pip install duckdb")
    figures = []
    for log in LOGS:
        path = data / f"{log}.parquet"
        if not path.exists():
            raise InputError(f"`--data` must be a folder with {path.name}, got none in {data}")
        for system in SYSTEMS:
            with tempfile.TemporaryDirectory() as folder:
                call = [sys.executable, __file__, system, str(path.resolve()), folder]
                figures.append({"log": log, "system": system, **json.loads(subprocess.check_output(call))})
            sys.stderr.write(f"{figures[-1]}\n")
    return figures


def tables(figures: Any) -> list[Table]:
    """One row a log and a system."""
    rows = []
    for each in figures:
        same = {other["pairs"] for other in figures if other["log"] == each["log"]}
        rows.append(
            (f"{each['rows'] / 1e6:,.1f} M", SYSTEMS[each["system"]], f"{each['cpu']:,.0f}", f"{each['wall']:,.0f}",
             f"{each['memory'] / 2**30:.1f}", f"{each['disk'] / 1e9:.1f}", "yes" if len(same) == 1 else "NO")
        )  # fmt: skip
    header = ("rows", "by", "CPU-s", "wall s", "memory, GiB", "disk, GB", "same pairs")
    note = (
        f"Memory: the largest resident set. Disk: what lay in its folder at the end, the pairs included. DuckDB "
        f"{figures[1]['version']} with {THREADS} threads and memory_limit {MEMORY}; Palate reads with one thread."
    )
    return [Table("From parquet to distinct pairs, numbered and sorted", header, rows, note)]


PART = Part(measure, tables)


def _main() -> None:
    """Do the work as one system, and print what it cost."""
    system, log, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "palate": lambda: palate(log, folder),
        "duckdb": lambda: duckdb(log, folder),
        "duckdb-pairs": lambda: duckdb(log, folder, repeats=False),
    }
    begun = time.perf_counter()
    found = work[system]()
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.perf_counter() - begun,
        "memory": used.ru_maxrss * 1024,
        "disk": sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()),
        "version": None,
    }
    if system != "palate":
        import duckdb as duck

        facts["version"] = duck.__version__
    hashed = hashlib.sha256()
    items = folder / "pairs" / "indices"  # without a header by DuckDB
    written = np.memmap(items, np.int32, "r") if items.exists() else np.load(items.with_suffix(".npy"), mmap_mode="r")
    for array in (np.load(folder / "pairs" / "indptr.npy"), written):
        for first in range(0, len(array), 1 << 22):
            hashed.update(np.ascontiguousarray(array[first : first + (1 << 22)]).data)
    print(json.dumps({**found, **facts, "pairs": hashed.hexdigest()}))


if __name__ == "__main__":
    _main()
