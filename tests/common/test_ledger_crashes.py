import subprocess
import sys
from pathlib import Path

from palate_server.ledger.history import ChargeEntry
from palate_server.ledger.ledger import Checkpoint, Ledger

CHARGER = """
import sys
from palate_core.errors import BudgetError
from palate_server.ledger.ledger import Ledger

path, run = sys.argv[1:]
with Ledger(path, population="readers") as ledger:
    ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
    ledger.open_run(run, {})
    for round_ in range(1000):
        place = {"run": run, "round_": round_, "attempt": 0}
        try:
            charge = ledger.charge(**place, plan_hash="ab" * 32, mu2=1 / 128, facts={}, run_limit=None)
        except BudgetError:
            break
        print(charge.seq, round_, charge.checkpoint.size, charge.checkpoint.root, flush=True)
        ledger.seal(**place, release_hash="cd" * 32)
"""


def test_four_processes_never_exceed_the_budget_nor_lose_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    command = [sys.executable, "-W", "error", "-c", CHARGER, str(path)]
    workers = [
        subprocess.Popen([*command, f"run-{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    reported: dict[int, tuple[str, int, Checkpoint]] = {}
    for i, worker in enumerate(workers):
        output, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        for line in output.splitlines():
            seq, round_, size, root = line.split()
            assert int(seq) not in reported
            reported[int(seq)] = (f"run-{i}", int(round_), Checkpoint(int(size), root))
    with Ledger(path, population="readers", read_only=True) as ledger:
        assert ledger.spent() == 1.0
        assert len(reported) == 128
        entries = ledger.entries()
        assert [entry.seq for entry in entries] == list(range(1 + 1 + 4 + 2 * 128))
        for entry in entries:
            if isinstance(entry, ChargeEntry):
                run, round_number, checkpoint = reported.pop(entry.seq)
                assert (entry.run, entry.round) == (run, round_number)
                assert ledger.checkpoint(checkpoint.size) == checkpoint
        assert not reported


# A server of processes to kill: on "RUN STATEMENT" it forks one that works on the ledger as RUN, prints what it has
# committed, and kills itself just before its STATEMENT-th SQL statement (or works on until somebody else does).
