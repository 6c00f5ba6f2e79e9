"""The kill table: every mutant under the battery, and clean code beside them.

PYTHONPATH=simulations python simulations/benchmarks/audit/mutants.py [--part 1/4] [--clean 8] [--quick]

Outcomes are added to mutants.json, so that parts may run side by side, each with an `--out` of its own, or one after
another; whatever is in the files given with `--join` goes into one table, mutants.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate_audit.mutants import GROUPS, MUTANTS
from palate_audit.mutants.mutation_testing import CLEAN_NAME, TESTS, outcome_of

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--clean", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="make only the test that each mutant names")
    parser.add_argument("--out", type=Path, default=HERE / "mutants.json")
    parser.add_argument("--join", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    if given.join:
        found = [each for path in given.join for each in json.loads(path.read_text())]
    else:
        part, parts = map(int, given.part.split("/"))
        found = run([None] * given.clean + [m.name for m in MUTANTS[part - 1 :: parts]], given.out, quick=given.quick)
    given.out.write_text(lines(found))
    given.out.with_suffix(".md").write_text(page(found))


def run(names: list[str | None], out: Path, *, quick: bool) -> list[dict[str, Any]]:
    """One after another; what is in the file is not made again."""
    found = json.loads(out.read_text()) if out.exists() else []
    done = {each["name"] for each in found}
    for name in names:
        if (name or CLEAN_NAME) not in done or name is None:
            begun = time.process_time()
            outcome = asdict(outcome_of(name, quick=quick))
            found.append({**outcome, "cpu_seconds": round(time.process_time() - begun, 2)})
            out.write_text(lines(found))
    return found


def lines(found: list[dict[str, Any]]) -> str:
    """An outcome a line."""
    return "[\n" + ",\n".join(json.dumps(each) for each in found) + "\n]\n"


def page(found: list[dict[str, Any]]) -> str:
    """A table of mutants by tests."""
    known = {each["name"]: each for each in found}
    tried = [mutant for mutant in MUTANTS if mutant.name in known]
    killed = [mutant for mutant in tried if mutant.test in known[mutant.name]["killed_by"]]
    clean = [each for each in found if each["name"] == CLEAN_NAME]
    alarms = sum(bool(each["killed_by"]) for each in clean)
    seconds = sorted(each["cpu_seconds"] for each in found if each["name"] != CLEAN_NAME)
    text = [
        "# Mutants and the tests that find them",
        "",
        f"{len(killed)} of {len(tried)} mutants were found by the test that they name; {alarms} alarms in {len(clean)} "
        f"runs of clean code. CPU seconds a mutant: median {seconds[len(seconds) // 2]}, most {seconds[-1]}.",
        "",
        "**x**: the test that the mutant names; o: another one. In brackets: found by the thorough battery only.",
        "",
        f"| mutant | {' | '.join(TESTS)} |",
        f"|---|{'---|' * len(TESTS)}",
    ]
    for group in GROUPS.values():
        for mutant in group:
            if mutant.name in known:
                of = known[mutant.name]
                marks = [
                    "" if letter not in of["killed_by"] else "o" if letter != mutant.test else mark(of["thorough"])
                    for letter in TESTS
                ]
                text.append(f"| {mutant.name} | {' | '.join(marks)} |")
    return "\n".join(text) + "\n"


def mark(thorough: bool) -> str:
    """Of the test that a mutant names."""
    return "(**x**)" if thorough else "**x**"


if __name__ == "__main__":
    main()
