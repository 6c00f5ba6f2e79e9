"""Seen: how much of what the mechanism's code asks an audit sees come out both ways.

Every condition of every module counts, as if none had been recorded: `if`, `while`, each part of `and` and `or`, true
and false; a loop, a case, an error that is caught, a function, entered. Processes that the audit starts aren't counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.sheet import Table
from palate_audit.answers.new_code import new_code
from palate_audit.harness.production import Production
from palate_audit.run.mechanism import audit_mechanism


def seen(_: Path, seeds: int) -> Any:
    """Outcomes of each room, and those that one audit saw."""
    with new_code(known={}) as found:
        audit_mechanism(Production(), seed=1)
    every, met = Counter[str](), Counter[str]()
    for condition, outcomes in zip(found.asked, found.seen, strict=True):
        room = ".".join(condition.module.split(".")[:2])
        every[room] += len(condition.outcomes)
        met[room] += len(condition.outcomes & outcomes)
    return [{"room": room, "outcomes": every[room], "seen": met[room]} for room in sorted(every)]


def seen_tables(figures: Any) -> list[Table]:
    """One row a room."""
    total = {"room": "all", **{key: sum(each[key] for each in figures) for key in ("outcomes", "seen")}}
    rows = [
        (each["room"], f"{each['outcomes']:,}", f"{each['seen']:,}", f"{each['seen'] / each['outcomes']:.0%}")
        for each in [*figures, total]
    ]
    note = (
        "One audit, `--dp distributed`. What is left is mostly texts of errors, files of an operator, the network and "
        "other processes."
    )
    return [Table("What the code asks, and an audit sees", ("room", "outcomes", "seen", "share"), rows, note)]
