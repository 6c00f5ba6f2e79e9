"""G, two writers: handles on one ledger spend one budget, in turn and at once."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from palate_audit.checks.ledger_rules import read_rows
from palate_audit.evidence.evidence import Finding
from palate_audit.harness.probe_run import POPULATION
from palate_common.errors import BudgetError, PalateError
from palate_server.ledger.ledger import Ledger

TEST = "G two writers"

Spend = Callable[[str, Ledger, range], None]


def two_writers(*, threads: bool) -> Finding:
    """Two handles on one ledger spend a budget that holds so many charges, and no more."""
    test = f"{TEST}: {'at once' if threads else 'in turn'}"
    cost, room = 0.25, 5
    admitted: list[tuple[str, int]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shared.ledger.db"
        with Ledger(file, population=POPULATION) as one, Ledger(file, population=POPULATION) as two:
            one.set_budget(mu2=cost * room, epsilon=5.0, delta=1e-5)
            for run, ledger in (("one", one), ("two", two)):
                ledger.open_run(run, {})

            def spend(run: str, ledger: Ledger, rounds: range) -> None:
                for round_ in rounds:
                    try:
                        place = {"run": run, "round_": round_, "attempt": 0, "plan_hash": "ab" * 32}
                        ledger.charge(**place, mu2=cost, facts={}, run_limit=None)  # type: ignore[arg-type]
                        admitted.append((run, round_))
                    except BudgetError:
                        pass
                    except PalateError as error:
                        broken.append(str(error))

            _side_by_side(spend, one, two) if threads else _in_turn(spend, one, two)
        rows = read_rows(file)
    charges = [(row["run"], row["round"]) for row in rows if row["kind"] == "charge"]
    if broken:
        return Finding.checked(test, False, f"two writers must wait for each other, got: {broken[0]}")
    if sorted(charges) != sorted(admitted):
        return Finding.checked(test, False, f"{len(admitted)} charges were admitted, {len(charges)} are on the disk")
    said = f"a budget of {room} charges admitted {len(charges)} of two writers"
    return Finding.checked(test, len(charges) == room, said)


def _in_turn(spend: Spend, one: Ledger, two: Ledger) -> None:
    """One after the other."""
    for round_ in range(6):
        spend("one", one, range(round_, round_ + 1))
        spend("two", two, range(round_, round_ + 1))


def _side_by_side(spend: Spend, one: Ledger, two: Ledger) -> None:
    """Two threads."""
    both = [threading.Thread(target=spend, args=(run, of, range(6))) for run, of in (("one", one), ("two", two))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
