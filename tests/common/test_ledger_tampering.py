import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from palate_core.errors import InputError, IntegrityError
from palate_server.ledger.history import entry_from
from palate_server.ledger.ledger import Charge, Ledger
from palate_server.ledger.log import Log, indexed

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
