"""Whether devices keep what they promised when they are killed, and when the power is cut.

PYTHONPATH=simulations python simulations/benchmarks/durability/run.py [--parts kills,kills-beside,power] \\
    [--seeds KILLS]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.durability.kills import BESIDE, FIVE, Judgement, judge
from benchmarks.durability.powercut import cut, lived, without_flushes, without_syncs
from benchmarks.durability.world import made
from benchmarks.sheet import Part, Table, main
from palate_core.errors import PalateError

CUTS_A_KILL = 5
EXAMPLES = 3
"""Broken promises of a control that are told; the others are counted."""


def kills(_: Path, count: int) -> Any:
    """Victims killed at random moments, the five tasks in turn."""
    return _killed(count, FIVE)


def beside(_: Path, count: int) -> Any:
    """The same for what else writes."""
    return _killed(count, BESIDE)


def _killed(count: int, tasks: tuple[str, ...]) -> Any:
    """So many kills, the tasks in turn."""
    judgement: Judgement = judge(count, tasks=tasks)
    if judgement.wrong:
        raise PalateError(f"a killed device must keep its promises, got {judgement.wrong[0]}")
    return judgement.as_figures()


def killed_tables(title: str, figures: Any) -> list[Table]:
    """One row a task."""
    wrong, kills_ = figures["wrong"], figures["kills"]
    rows = [
        (
            task,
            str(kills_[task]),
            str(figures["midway"].get(task, 0)),
            f"{figures['acknowledged'].get(task, 0):,}",
            str(sum(each.startswith(f"{task}:") for each in wrong)),
        )
        for task in kills_
    ]
    verdict = "none: met" if not wrong else f"{len(wrong)}: MISSED"
    note = (
        f"{sum(kills_.values())} kills, seed 0, SIGKILL after 0 to 6 acknowledgements and a random while. Broken "
        f"promises: {verdict}. After each kill SQLCipher checks every page and SQLite every table, the journal and the "
        "ledger are read, and the task's own judge compares what is there with what had been acknowledged."
    )
    header = ("while it", "kills", "before it was done", "acknowledged", "broken promises")
    return [Table(title, header, rows, note)]


def power(_: Path, count: int) -> Any:
    """The power is cut at random moments; then it is cut for devices that keep no promise, which must be noticed."""
    with tempfile.TemporaryDirectory() as name:
        life = lived(made(Path(name).resolve()))
        found = cut(life, CUTS_A_KILL * count)
        controls = {"control: no file is synced": without_syncs, "control: `flush` syncs nothing": without_flushes}
        spoiled = {name: cut(life, count, spoil=spoil) for name, spoil in controls.items()}
    if found.wrong:
        raise PalateError(f"a device must keep its promises when the power is cut, got {found.wrong[0]}")
    figures = {"cuts": found.as_figures()}
    for name, noticed in spoiled.items():
        if not noticed.wrong:
            raise PalateError(f"a judge must notice broken promises, got none: {name}")
        said = noticed.as_figures()
        figures[name] = {**said, "wrong": len(said["wrong"]), "such as": said["wrong"][:EXAMPLES]}
    return figures


def power_tables(figures: Any) -> list[Table]:
    """One row a kind of work; then the controls, of which much must be wrong."""
    cuts = figures["cuts"]
    rows = [(doing, f"{n:,}", "0") for doing, n in cuts["judged"].items()]
    for name, noticed in figures.items():
        if name != "cuts":
            rows.append((name, f"{sum(noticed['judged'].values()):,}", f"{noticed['wrong']:,}"))
    note = (
        "Every write, sync and change of a name that SQLCipher and Python make is recorded. A disk is what was synced, "
        "and of all else any part: each write kept, lost or torn at a sector, whatever became of the others. Then the "
        "store is opened: every page, everything before the last `flush`, no hole in what came after, the model that "
        "was taken into use or the next one, every answer charged, decisions, and nothing of an erased store. "
        f"{cuts['lost']:,} events that no flush had followed were lost, as is allowed."
    )
    return [Table("The power is cut", ("while it", "disks opened", "broken promises"), rows, note)]


PARTS = {
    "kills": Part(kills, partial(killed_tables, "Killed at a random moment")),
    "kills-beside": Part(beside, partial(killed_tables, "Killed at a random moment, what else writes")),
    "power": Part(power, power_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=300, needs_data=False)
