"""The kill table: every mutant under the battery, and clean code beside them. A part of run.py."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate_audit.mutants.mutation_testing import CLEAN_NAME, TESTS, outcome_of

from benchmarks.sheet import Table
from palate_audit.mutants import GROUPS, MUTANTS

CLEAN = 8
"""Runs of clean code."""


def mutants(_: Path, __: int) -> Any:
    """One after another, CPU seconds beside; noise and keys are fresh, nothing has a seed."""
    found = []
    for name in [None] * CLEAN + [mutant.name for mutant in MUTANTS]:
        begun = time.process_time()
        outcome = asdict(outcome_of(name))
        found.append({**outcome, "cpu_seconds": round(time.process_time() - begun, 2)})
    return found


def mutants_tables(figures: Any) -> list[Table]:
    """Mutants by tests."""
    known = {each["name"]: each for each in figures}
    tried = [mutant for group in GROUPS.values() for mutant in group if mutant.name in known]
    killed = [mutant for mutant in tried if mutant.test in known[mutant.name]["killed_by"]]
    clean = [each for each in figures if each["name"] == CLEAN_NAME]
    alarms = sum(bool(each["killed_by"]) for each in clean)
    seconds = sorted(each["cpu_seconds"] for each in figures if each["name"] != CLEAN_NAME)
    note = (
        f"{len(killed)} of {len(tried)} mutants were found by the test that they name; {alarms} alarms in {len(clean)} "
        f"runs of clean code. CPU seconds a mutant: median {seconds[len(seconds) // 2]}, most {seconds[-1]}. "
        "**x**: the test that the mutant names; o: another one. In brackets: found by the thorough battery only."
    )
    rows = [(mutant.name, *_marks(mutant.test, known[mutant.name])) for mutant in tried]
    return [Table("Mutants and the tests that find them", ("mutant", *TESTS), rows, note)]


def _marks(test: str, outcome: Any) -> list[str]:
    """A cell for each test."""
    own = "(**x**)" if outcome["thorough"] else "**x**"
    return ["" if letter not in outcome["killed_by"] else own if letter == test else "o" for letter in TESTS]
