import doctest
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common import ledger as module
from palate_common.canonical import canonical_json
from palate_common.errors import BudgetError, InputError, IntegrityError, PalateError
from palate_common.history import ChargeEntry, SealEntry, entry_from
from palate_common.ledger import Charge, Checkpoint, Ledger
from palate_common.log import Log, indexed
from palate_common.merkle import verify_consistency, verify_inclusion

HASH = "ab" * 32
FACTS = {"mechanism": "discrete Gaussian", "sensitivity": 16384, "sigma": 32768, "dimension": 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, population="readers") as opened:
        opened.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        opened.open_run("a", {"algorithm": "als"})
        yield opened


def charge(
    ledger: Ledger, round_: int = 0, attempt: int = 0, *, run: str = "a", mu2: float = 0.25, limit: float | None = 1.0
) -> Charge:
    return ledger.charge(run=run, round_=round_, attempt=attempt, plan_hash=HASH, mu2=mu2, facts=FACTS, run_limit=limit)


def seal(ledger: Ledger, round_: int = 0, attempt: int = 0, *, run: str = "a") -> int:
    return ledger.seal(run=run, round_=round_, attempt=attempt, release_hash=HASH)


def reopened(path: Path) -> Ledger:
    return Ledger(path, population="readers", read_only=True)


def test_the_docstring_runs() -> None:
    assert doctest.testmod(module).failed == 0


def test_a_run_from_charge_to_close(ledger: Ledger, path: Path) -> None:
    first = charge(ledger)
    assert (first.seq, first.checkpoint.size, first.entry.kind) == (3, 4, "charge")
    assert seal(ledger) == 4
    charge(ledger, 1)
    charge(ledger, 1, 1)
    seal(ledger, 1, 1)
    ledger.close_run("a", {"rounds": 2})
    ledger.open_run("b", {})
    charge(ledger, run="b", mu2=0.125)
    assert (ledger.spent(), ledger.spent("a"), ledger.spent("b"), ledger.spent("c")) == (0.875, 0.75, 0.125, 0.0)
    assert ledger.runs() == ("a", "b")
    kinds = [entry.kind for entry in ledger.entries()]
    assert kinds == [
        "population",
        "budget",
        "open",
        "charge",
        "seal",
        "charge",
        "charge",
        "seal",
        "close",
        "open",
        "charge",
    ]
    assert [entry.seq for entry in ledger.entries()] == list(range(11))
    assert [entry.seq for entry in ledger.entries("b")] == [9, 10]
    paid, fixed = ledger.entries("a")[1:3]
    assert isinstance(paid, ChargeEntry)
    assert isinstance(fixed, SealEntry)
    assert (paid.round, paid.attempt, paid.plan_hash, paid.mu2, paid.run_limit) == (0, 0, HASH, 0.25, 1.0)
    assert (paid.facts, fixed.release_hash) == (FACTS, HASH)
    with reopened(path) as other:
        assert other.entries() == ledger.entries()
        assert other.checkpoint() == ledger.checkpoint()


def test_a_charge_is_on_disk_when_it_returns(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    charge(ledger)
    for suffix in ("", "-wal"):  # what a power cut would leave; the -shm file is only an index
        shutil.copy(f"{path}{suffix}", tmp_path / f"copy{suffix}")
    with reopened(tmp_path / "copy") as copy:
        assert copy.spent() == 0.25


def test_synchronous_is_full(ledger: Ledger) -> None:
    with ledger._database.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_refused_entry_leaves_nothing_behind(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    before = (ledger.checkpoint(), ledger.entries())
    refusals: list[tuple[type[PalateError], Callable[[], object]]] = [
        (BudgetError, lambda: charge(ledger)),
        (BudgetError, lambda: charge(ledger, 1, mu2=0.76, limit=None)),
        (BudgetError, lambda: charge(ledger, 1, mu2=0.26, limit=0.5)),
        (BudgetError, lambda: seal(ledger, 1)),
        (BudgetError, lambda: ledger.set_budget(mu2=1.5, epsilon=5.0, delta=1e-5)),
        (InputError, lambda: ledger.open_run("a", {})),
        (InputError, lambda: ledger.open_run("", {})),
        (InputError, lambda: ledger.open_run("b", {"x": float("nan")})),
        (InputError, lambda: ledger.open_run("b", {"x": object()})),
        (InputError, lambda: ledger.open_run("\ud800", {})),
        (InputError, lambda: ledger.set_budget(mu2=0.0, epsilon=1.0, delta=1e-5)),
        (InputError, lambda: charge(ledger, 1, run="b")),
        (InputError, lambda: ledger.close_run("b", {})),
        *((InputError, lambda m=mu2: charge(ledger, 1, mu2=m)) for mu2 in (0.0, -1.0, float("nan"), float("inf"))),
    ]
    for error, refused in refusals:
        with pytest.raises(error, match=r"\A[^\n]+\Z"):
            refused()
        assert (ledger.checkpoint(), ledger.entries()) == before
    with reopened(path) as other:
        assert (other.checkpoint(), other.entries()) == before
    charge(ledger, 1)


def test_a_failing_disk_leaves_nothing_behind(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    before = ledger.checkpoint()
    with ledger._database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1")  # the next page doesn't fit, as on a full disk
    with pytest.raises(PalateError, match=r"\A[^\n]*full[^\n]*\Z"):
        ledger.open_run("b", {"x": "y" * 100_000})
    with ledger._database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.checkpoint() == before
    assert ledger.runs() == ("a",)
    charge(ledger, 1)
    with reopened(path) as other:
        assert other.spent() == ledger.spent() == 0.5


def test_the_same_budget_again_changes_nothing(ledger: Ledger) -> None:
    size = ledger.checkpoint().size
    ledger.set_budget(mu2=1, epsilon=4.38, delta=1e-5)
    assert ledger.checkpoint().size == size
    ledger.set_budget(mu2=0.5, epsilon=3.0, delta=1e-5)
    assert ledger.checkpoint().size == size + 1


def test_numbers_of_numpy_are_numbers(ledger: Ledger) -> None:
    ledger.charge(
        run="a",
        round_=np.int32(0),  # type: ignore[arg-type]  # an index all the same
        attempt=np.uint8(0),  # type: ignore[arg-type]  # an index all the same
        plan_hash=HASH,
        mu2=np.float32(0.25),  # type: ignore[arg-type]  # a float all the same
        facts=FACTS,
        run_limit=np.float64(1),
    )
    assert ledger.spent() == 0.25


def test_proofs_hold_for_every_entry_and_size(ledger: Ledger) -> None:
    for round_ in range(4):
        charge(ledger, round_, mu2=0.1)
    now, leaves = ledger.checkpoint(), [entry.leaf() for entry in ledger.entries()]
    for seq, leaf in enumerate(leaves):
        proof = ledger.inclusion_proof(seq, now.size)
        verify_inclusion(leaf, index=seq, size=now.size, root=now.root, proof=proof)
    for size in range(now.size + 1):
        verify_consistency(
            old_size=size,
            old_root=ledger.checkpoint(size).root,
            new_size=now.size,
            new_root=now.root,
            proof=ledger.consistency_proof(size, now.size),
        )
    for call in (
        ledger.checkpoint,
        lambda size: ledger.inclusion_proof(0, size),
        lambda size: ledger.consistency_proof(0, size),
    ):
        with pytest.raises(InputError):
            call(now.size + 1)


def test_a_second_handle_sees_and_respects_the_first(ledger: Ledger, path: Path) -> None:
    with Ledger(path, population="readers") as other:
        mine = charge(ledger, mu2=0.5)
        assert other.spent() == 0.5
        yours = charge(other, 1, mu2=0.25)
        assert (mine.seq, yours.seq) == (3, 4)
        with pytest.raises(BudgetError):
            charge(ledger, 2, mu2=0.5)
        assert ledger.checkpoint() == other.checkpoint() == yours.checkpoint


def test_a_ledger_belongs_to_one_population(path: Path) -> None:
    Ledger(path, population="readers").close()
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"\A`population` must be the ledger's, 'readers', got 'others'[^\n]*\Z"):
            Ledger(path, population="others", read_only=read_only)
    with Ledger(path, population=None, read_only=True) as whoever:
        assert whoever.population == "readers"
    with pytest.raises(InputError, match="`population` must be given"):
        Ledger(path, population=None)


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    text, device = tmp_path / "text", tmp_path / "device"
    text.write_bytes(b"hello world " * 50)
    from palate_common.device_ledger import DeviceLedger

    DeviceLedger(device).close()
    for wrong in (text, device, tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match=r"\Athe ledger must be[^\n]*\Z"):
            Ledger(wrong, population="readers")


def test_reading_only(path: Path) -> None:
    with pytest.raises(InputError):
        reopened(path)
    assert not path.exists()
    Ledger(path, population="readers").close()
    with reopened(path) as readable:
        assert readable.spent() == 0.0
        with pytest.raises(InputError, match=r"\A[^\n]*readonly[^\n]*\Z"):
            readable.open_run("a", {})
        assert readable.runs() == ()


def written(path: Path) -> None:
    with Ledger(path, population="readers") as ledger:
        ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        ledger.open_run("a", {})
        for round_ in range(3):
            charge(ledger, round_, mu2=0.125)
            seal(ledger, round_)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM entries WHERE seq = 8",
        "DELETE FROM entries WHERE seq = 8; UPDATE head SET size = 8",
        "DELETE FROM entries WHERE seq >= 7; UPDATE head SET size = 7",
        "DELETE FROM entries WHERE seq = 4",
        "DELETE FROM entries WHERE seq = 0",
        "DELETE FROM entries",
        "DELETE FROM head",
        "UPDATE head SET root = replace(root, substr(root, 1, 1), 'x')",
        "UPDATE head SET size = 10",
        "UPDATE entries SET run = 'b' WHERE seq = 3",
        "UPDATE entries SET round = 9 WHERE seq = 3",
        "UPDATE entries SET attempt = 1 WHERE seq = 3",
        "UPDATE entries SET kind = 'budget' WHERE seq = 5",
        "UPDATE entries SET chain = zeroblob(32) WHERE seq = 3",
        "UPDATE entries SET chain = zeroblob(32) WHERE seq = 8",
        "UPDATE entries SET leaf = zeroblob(10) WHERE seq = 3",
        "UPDATE entries SET leaf = CAST(leaf AS TEXT) WHERE seq = 3",
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '0.125', '0.025') AS BLOB) WHERE seq = 3",
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '0.125', '0.025') AS BLOB) WHERE seq = 7",
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'readers', 'writers') AS BLOB) WHERE seq = 0",
        "UPDATE entries SET seq = 9 WHERE seq = 3",
        "UPDATE entries SET seq = -1 WHERE seq = 0",
        "UPDATE entries SET seq = 99 WHERE seq = 3; UPDATE entries SET seq = 3 WHERE seq = 5;"
        " UPDATE entries SET seq = 5 WHERE seq = 99",
        "DROP TRIGGER at_end;"
        " INSERT INTO entries SELECT 9, 'charge', 'a', 9, 0, leaf, chain FROM entries WHERE seq = 3",
        "ALTER TABLE entries ADD COLUMN more",
    ],
)
def test_every_change_of_a_row_is_found_on_open(path: Path, change: str) -> None:
    written(path)
    connection = sqlite3.connect(path)
    connection.executescript(f"DROP TRIGGER no_update; DROP TRIGGER no_delete; {change}")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(IntegrityError, match=r"\Athe ledger must be what was written[^\n]*\Z"):
            Ledger(path, population="readers", read_only=read_only)


def test_rows_cannot_be_changed_by_a_program_that_does_not_mean_to(path: Path) -> None:
    written(path)
    connection = sqlite3.connect(path)
    row = "SELECT 100, kind, run, round, attempt, leaf, chain FROM entries WHERE seq = 3"
    for change in (
        "DELETE FROM entries",
        "UPDATE entries SET round = 1",
        "REPLACE INTO entries SELECT * FROM entries",
        f"INSERT INTO entries {row}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="entries are"):
            connection.execute(change)
    again = "INSERT INTO entries SELECT 9, kind, run, round, attempt, leaf, chain FROM entries WHERE kind = ? LIMIT 1"
    for kind in ("open", "charge", "seal"):
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(again, (kind,))
    connection.close()


def test_a_log_rewritten_with_right_hashes_still_has_to_follow_the_rules(path: Path) -> None:
    written(path)
    with reopened(path) as ledger:
        bodies = [entry.body for entry in ledger.entries()]
    bodies[7]["mu2"], bodies[7]["run_limit"] = 0.8, None
    forged = Log()
    forged.history.admit = lambda entry: None  # type: ignore[method-assign]  # the forger's ledger has no rules
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER no_delete; DELETE FROM entries")
    for body in bodies:
        entry = entry_from(body)
        forged.take(entry, entry.leaf())
        row = (entry.seq, *indexed(entry), entry.leaf(), forged.chain)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("UPDATE head SET root = ?", (forged.tree.root(),))
    connection.commit()
    connection.close()
    with pytest.raises(IntegrityError, match="entry 7: the population's budget must cover"):
        reopened(path)


def test_a_change_under_an_open_ledger_is_found(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER no_delete; DELETE FROM entries WHERE seq = 3")
    connection.close()
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"\Athe ledger must be what was written[^\n]*\Z"):
            ledger.spent()
        with pytest.raises(IntegrityError, match=r"\Athe ledger must be what was written[^\n]*\Z"):
            charge(ledger, 1)


def test_a_restored_older_copy_shows_against_a_checkpoint_kept_elsewhere(path: Path, tmp_path: Path) -> None:
    written(path)
    shutil.copy(path, tmp_path / "backup")
    with Ledger(path, population="readers") as ledger:
        witnessed = charge(ledger, 3).checkpoint
        assert ledger.checkpoint(witnessed.size) == witnessed
    with Ledger(tmp_path / "backup", population="readers") as restored:
        with pytest.raises(InputError):
            restored.checkpoint(witnessed.size)
        charge(restored, 3, 1)
        assert restored.checkpoint(witnessed.size) != witnessed


def test_threads_share_one_handle(ledger: Ledger) -> None:
    refused: list[int] = []

    def work(run: str) -> None:
        ledger.open_run(run, {})
        for round_ in range(12):
            try:
                charge(ledger, round_, run=run, mu2=1 / 32, limit=None)
            except BudgetError:
                refused.append(round_)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.spent() == 1.0
    assert len(refused) == 4 * 12 - 32


CHARGER = """
import sys
from palate_common.errors import BudgetError
from palate_common.ledger import Ledger

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


def test_four_processes_never_exceed_the_budget_nor_lose_an_entry(path: Path) -> None:
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
    with reopened(path) as ledger:
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
from palate_common.ledger import Ledger

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


def test_a_ledger_survives_kill_9_at_every_statement_and_at_any_time(path: Path) -> None:
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
            if (path.exists() and number % 4 == 0) or number == len(by_statement + by_time) - 1:
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


def test_facts_are_kept_as_they_are(ledger: Ledger) -> None:
    facts: dict[str, Any] = {"é": [1, 1.5, None, True, {"nested": "日本"}]}
    ledger.open_run("b", facts)
    facts["é"].append("later")
    assert json.loads(canonical_json(ledger.entries("b")[0].body["facts"])) == {
        "é": [1, 1.5, None, True, {"nested": "日本"}]
    }


def test_opening_and_charging_are_cheap(tmp_path: Path) -> None:
    with Ledger(tmp_path / "many.db", population="readers") as ledger:
        ledger.open_run("a", {})
        start = time.process_time()
        for round_ in range(500):
            charge(ledger, round_, mu2=0.001, limit=1.0)
        per_charge = (time.process_time() - start) / 500
    start = time.process_time()
    reopened(tmp_path / "many.db").close()
    assert per_charge < 0.002
    assert time.process_time() - start < 0.5
