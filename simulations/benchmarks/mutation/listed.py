"""Listed: what finds each listed mutant, the checks that it names or the audit; it goes on where it stopped.

PYTHONPATH=simulations python simulations/benchmarks/mutation/listed.py [--only NAME] [--quick] [--parts checks audit]

A mutant is injected in a process of its own, a fork of one that has loaded Palate. First come the checks of
`tests/mutants` that it names. The tests of releases of `palate audit mechanism` are asked about what these miss, and
about a fifth of the others, drawn by the seed of the machine-made mutants; they needn't find it: most bugs are the
tests' alone. Each outcome is a line of `--out`; exit code 1 if the checks that a mutant names don't find it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import benchmarks  # noqa: F401 - finds tests/
from benchmarks.mutation.campaign import HERE, Warm, records, wants_audit, write
from mutants.listed import MUTANTS, find

PARTS = ("checks", "audit")
NAMES = tuple(each.name for each in MUTANTS)
OUT = HERE / "listed.jsonl"
SAID = 200
"""Letters that are kept of what an outcome says."""
LIMITS = {"cpu": 900, "wall": 5400}
"""Seconds until a process is ended: its checks found nothing."""


def wanted(part: str, name: str, outcome: dict[str, Any]) -> bool:
    """Whether a part is to be asked about a mutant: its checks about each, then the audit about some."""
    return part == "checks" or ("checks" in outcome and wants_audit(name, found=bool(outcome["checks"]["alarms"])))


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of an outcome; a process that was ended or broke has found nothing, and is told as broken."""
    alarms = [each[:SAID] for each in found.get("alarms", ())]
    return {"alarms": alarms, "broken": found.get("broken", found.get("said", ""))[:SAID], "seconds": found["seconds"]}


def line_of(each: dict[str, Any]) -> str:
    """An outcome in a line."""
    checks, audit = (_said(each.get(who)) for who in ("checks", "audit"))
    return f"{each['id']}: {each['test']}: {checks}; the audit: {audit}"


def _said(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "not asked"
    return f"{next(iter(outcome['alarms']), outcome['broken'] or 'nothing')} ({outcome['seconds']} s)"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="this mutant; may be given again")
    parser.add_argument("--quick", action="store_true", help="with fewer cases")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    options = parser.parse_args()
    done = records(options.out)
    warm = Warm("listed")
    for part, mutant in itertools.product(options.parts, [find(name) for name in options.only or NAMES]):
        outcome = done.setdefault(mutant.name, {"id": mutant.name, "test": mutant.test})
        if wanted(part, mutant.name, outcome) and (options.only or part not in outcome):
            found = warm.run({"listed": mutant.name, "audit": part == "audit", "quick": options.quick, **LIMITS})
            outcome |= {"test": mutant.test, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
            outcome[part] = _kept(found) | {"quick": options.quick}
            write(options.out, {name: each for name, each in done.items() if "checks" in each})
            sys.stdout.write(line_of(outcome) + "\n")
            sys.stdout.flush()
    warm.close()
    done = records(options.out)
    missed = [each["id"] for each in done.values() if not each["checks"]["alarms"]]
    audits = [bool(each["audit"]["alarms"]) for each in done.values() if "audit" in each]
    said = f"{len(done)} mutants: {len(done) - len(missed)} found by the checks that they name, "
    said += f"{sum(audits)} of {len(audits)} by the audit"
    sys.stdout.write(f"{said}{': not ' if missed else ''}{', '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
