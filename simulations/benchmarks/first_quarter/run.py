"""The first quarter of an hour with a clock: a fresh clone, the README's commands, until titles are on the screen.

    PYTHONPATH=simulations python simulations/benchmarks/first_quarter/run.py

It clones what is committed into a new folder, with an empty cache of pip, types what README says under "Try it", and
counts the processor time of everything that was started.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.sheet import Part, Table, main

ROOT = Path(__file__).parents[3]
BAR, AFTER = 90.0, 15.0
"""CPU seconds after `git clone` in all, and of them after the install."""
PERSONAL = re.compile(r"^ {2}\S.*\bbecause you (?:had|liked) ", re.MULTILINE)
"""A recommended title with a reason of the person's own."""
TICKS = os.sysconf("SC_CLK_TCK")


def commands(readme: str) -> tuple[str, str]:
    """What is to be typed: the first command of "Try it", and the first `palate recommend`."""
    section = readme.partition("\n## Try it\n")[2].partition("\n## ")[0]
    [first] = re.findall(r"^\$ (.+)$", section, re.MULTILINE)
    asked = re.findall(r"`(\S*palate recommend [^`]+)`", section)
    return first, asked[0]


def spent(pid: int) -> float:
    """CPU seconds of a process and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def typed(command: str, folder: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Type a command: what it prints, its CPU seconds, and how many of them were spent before its run began."""
    before, begun = os.times(), time.monotonic()
    with subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines, install = list[str](), 0.0
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("prepared "):
                install = spent(process.pid)  # of make: what it waited for until now
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        raise SystemExit("".join(lines))
    return {"said": "".join(lines), "cpu": cpu, "install": install, "wall": time.monotonic() - begun}


def first_titles(_: Path, seeds: int) -> Any:
    """Each time in a folder of its own."""
    found = []
    for _ in range(seeds):
        with tempfile.TemporaryDirectory(prefix="palate-first-") as home:
            folder = Path(home) / "palate"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            settings = {"PIP_CACHE_DIR": str(Path(home) / "pip"), "COLUMNS": "80"}
            demo, asked = commands((folder / "README.md").read_text(encoding="utf-8"))
            run = typed(demo, folder, settings)
            own = typed(asked, folder, settings)
            size = sum(path.stat().st_blocks * 512 for path in (folder / ".venv").rglob("*") if path.is_file())
            found.append(
                {
                    "commands": [demo, asked],
                    "install": run["install"],
                    "run": run["cpu"] - run["install"],
                    "wall": run["wall"],
                    "titles": len(PERSONAL.findall(run["said"])),
                    "recommend": own["cpu"],
                    "megabytes": size / 1e6,
                }
            )
    return found


def first_titles_tables(figures: Any) -> list[Table]:
    """A row a clone."""
    rows = [
        (
            f"{each['install']:.0f}",
            f"{each['run']:.1f} (bar {AFTER:g}: {'met' if each['run'] <= AFTER else 'missed'})",
            f"{each['install'] + each['run']:.0f} (bar {BAR:g}: "
            f"{'met' if each['install'] + each['run'] <= BAR else 'missed'})",
            f"{each['wall']:.0f}",
            f"{each['megabytes']:,.0f}",
            f"{each['titles']}",
            f"{each['recommend']:.1f}",
        )
        for each in figures
    ]
    header = (
        "install, CPU-s",
        "the run, CPU-s",
        "both, CPU-s",
        "both, s",
        ".venv, MB",
        "personal titles shown",
        "`palate recommend`, CPU-s",
    )
    said = "`, then `".join(figures[0]["commands"])
    note = f"Typed: `{said}`. The cache of pip was empty; wall time is that of a busy machine."
    return [Table("From `git clone` to the first personal titles", header, rows, note)]


PARTS = {"titles": Part(first_titles, first_titles_tables)}

if __name__ == "__main__":
    if sys.platform != "linux":
        raise SystemExit("first_quarter/run.py must run on Linux, which counts the time of children")
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
