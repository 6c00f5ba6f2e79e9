import os
import signal
import subprocess
import sys
import time
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
VICTIMS = """
import os, signal, sqlite3, sys
from palate_server.ledger.ledger import Ledger

def work(run, fatal):
    count = 0

    def step(statement):
        nonlocal count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    class Traced(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.set_trace_callback(step)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Traced, **kwargs)

    def say(kind, *values):
        at = ledger.checkpoint()
        os.write(1, (" ".join(map(str, (kind, run, *values, at.size, at.root))) + "\\n").encode())

    with Ledger(sys.argv[1], population="readers") as ledger:
        ledger.open_run(run, {})
        say("open")
        for round_ in range(10 if fatal < 0 else 3):
            place = {"run": run, "round_": round_, "attempt": 0}
            ledger.charge(**place, plan_hash="ab" * 32, mu2=0.001, facts={}, run_limit=1.0)
            say("charge", round_)
            ledger.seal(**place, release_hash="cd" * 32)
            say("seal", round_)

for line in sys.stdin:
    run, fatal = line.split()
    child = os.fork()
    if not child:
        work(run, int(fatal))
        os._exit(0)
    os.write(1, f"pid {child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"dead {status}\\n".encode())
"""


def test_a_ledger_survives_kill_9_at_every_statement_and_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    by_statement: list[tuple[int, float | None]] = [(statement, None) for statement in range(1, 130)]
    by_time: list[tuple[int, float | None]] = [(-1, 0.0004 * step) for step in range(25)]
    outcomes, reported = set[str](), list[list[str]]()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", VICTIMS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for number, (statement, delay) in enumerate(by_statement + by_time):
            server.stdin.write(f"run-{number} {statement}\n")
            server.stdin.flush()
            for line in server.stdout:
                word, *values = line.split()
                if word == "dead":
                    outcomes.add(values[0])
                    break
                if word == "pid" and delay is not None:
                    time.sleep(delay)
                    os.kill(int(values[0]), signal.SIGKILL)
                if word != "pid":
                    reported.append([word, *values])
            if (path.exists() and number % 12 == 0) or number == len(by_statement + by_time) - 1:
                check_everything_reported_is_there(path, reported)
        server.stdin.close()
    assert outcomes == {"9", "0"}  # killed, and for the last statement numbers not reached
    assert {word for word, *_ in reported} == {"open", "charge", "seal"}


def check_everything_reported_is_there(path: Path, reported: list[list[str]]) -> None:
    with Ledger(path, population="readers") as ledger:  # replays and verifies all of it
        entries = ledger.entries()
        assert [entry.seq for entry in entries] == list(range(len(entries)))
        present = {(e.kind, e.body.get("run"), e.body.get("round")) for e in entries}
        for kind, run, *rest in reported:
            *round_, size, root = rest
            assert (kind, run, int(round_[0]) if round_ else None) in present
            assert ledger.checkpoint(int(size)) == Checkpoint(int(size), root)
