"""Listed: what finds each listed mutant, the checks that it names or the audit; it goes on where it stopped.

PYTHONPATH=simulations python simulations/benchmarks/mutation/listed.py [--only NAME] [--quick] [--workers N]

A mutant is injected in a process of its own. First come the checks of `tests/mutants` that it names. The tests of
releases of `palate audit mechanism` are asked about what these miss, and about a fifth of the others, drawn by the seed
of the machine-made mutants; they needn't find it: most bugs are the tests' alone. Each outcome is a line of `--out`;
exit code 1 if the checks that a mutant names don't find it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import benchmarks  # noqa: F401 - finds tests/
from benchmarks.mutation.campaign import wants_audit
from mutants.asking import Asked, asked_audit, asked_checks
from mutants.listed import MUTANTS, find
from mutants.mutant import Mutant

OUT = Path("build") / "listed-mutants.jsonl"


def asked(name: str, *, quick: bool) -> dict[str, Any]:
    """What the checks that a mutant names find, and what the audit does if it is asked, with their CPU seconds."""
    mutant = find(name)
    checks = _timed(asked_checks, mutant, quick=quick)
    asked = {"name": mutant.name, "test": mutant.test, "checks": checks}
    if wants_audit(mutant.name, found=bool(checks["alarms"])):
        asked["audit"] = _timed(asked_audit, mutant, quick=quick)
    return asked


def _timed(ask: Callable[..., Asked], mutant: Mutant, *, quick: bool) -> dict[str, Any]:
    begun = time.process_time()
    outcome = ask(mutant, quick=quick)
    return {**asdict(outcome), "seconds": round(time.process_time() - begun, 1)}


def line_of(each: dict[str, Any]) -> str:
    """An outcome in a line."""
    checks, audit = (_said(each.get(who)) for who in ("checks", "audit"))
    return f"{each['name']}: {each['test']}: {checks}; the audit: {audit}"


def _said(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "not asked"
    return next(iter(outcome["alarms"]), outcome["broken"] or "nothing")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="this mutant; may be given again")
    parser.add_argument("--quick", action="store_true", help="with fewer cases")
    parser.add_argument("--workers", type=int, default=1, help="processes beside each other")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {} if options.only else {each["name"]: each for each in map(json.loads, known)}
    names = [find(name).name for name in options.only or [each.name for each in MUTANTS]]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        for each in pool.map(partial(asked, quick=options.quick), [name for name in names if name not in done]):
            done[each["name"]] = each
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(each, ensure_ascii=False) + os.linesep)
            sys.stdout.write(line_of(each) + "\n")
            sys.stdout.flush()
    missed = [each["name"] for each in done.values() if not each["checks"]["alarms"]]
    audits = [bool(each["audit"]["alarms"]) for each in done.values() if "audit" in each]
    said = f"{len(done)} mutants: {len(done) - len(missed)} found by the checks that they name, "
    said += f"{sum(audits)} of {len(audits)} by the audit"
    sys.stdout.write(f"{said}{': not ' if missed else ''}{', '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
