import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from palate_common.records import database
from palate_common.records.database import Database
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError

SCHEMA = ("CREATE TABLE notes(text TEXT)",)


def opened(path: Path | str, *, kind: int = 7, durable: bool = True, read_only: bool = False) -> Database:
    return Database(path, kind=kind, schema=SCHEMA, durable=durable, read_only=read_only, timeout=0.2)


def notes(database: Database) -> list[str]:
    with database.transaction() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def note(database: Database, text: str) -> None:
    with database.transaction(write=True) as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_synchronous_and_wal_are_as_asked(tmp_path: Path, durable: bool, level: int) -> None:
    with opened(tmp_path / "a.db", durable=durable) as file, file.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_pragma_that_does_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_FULL", 7)  # SQLite has no such level and keeps another
    with pytest.raises(PalateError, match=r"\ASQLite's synchronous must be 7, got [^\n]*\Z"):
        opened(tmp_path / "a.db")


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    def fail_halfway(file: Database) -> None:
        with file.transaction(write=True) as connection:
            connection.execute("INSERT INTO notes VALUES ('lost')")
            raise KeyError

    with opened(tmp_path / "a.db") as file:
        note(file, "kept")
        with pytest.raises(KeyError):
            fail_halfway(file)
        assert notes(file) == ["kept"]
    with opened(tmp_path / "a.db") as file:
        assert notes(file) == ["kept"]


def test_names_that_a_uri_would_misread(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41.db"
    with opened(path) as file:
        note(file, "here")
    assert path.exists()
    with opened(path, read_only=True) as file:
        assert notes(file) == ["here"]


def test_files_of_another_kind_are_refused_and_left_alone(tmp_path: Path) -> None:
    text, foreign, ours, empty = (tmp_path / name for name in ("text", "foreign", "ours", "empty"))
    text.write_bytes(b"not a database " * 100)
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE users(name)")
    connection.close()
    opened(ours, kind=8).close()
    empty.touch()
    for path in (text, foreign, ours):
        for read_only in (False, True):
            before = path.read_bytes()
            with pytest.raises(InputError, match=r"\Athe ledger must be [^\n]*\Z"):
                opened(path, read_only=read_only)
            assert path.read_bytes() == before
    with pytest.raises(InputError, match="empty file"):
        opened(empty, read_only=True)
    opened(empty).close()


@pytest.mark.parametrize("name", ["", "no/folder/a.db"])
@pytest.mark.parametrize("read_only", [False, True])
def test_paths_that_cannot_be_opened(tmp_path: Path, name: str, read_only: bool) -> None:
    with pytest.raises(InputError, match=r"\Athe ledger must be a writable file in an existing folder[^\n]*\Z"):
        opened(tmp_path / name, read_only=read_only)


def test_reading_only_makes_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(InputError):
        opened(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    with opened(path) as file:
        note(file, "kept")
    with opened(path, read_only=True) as file:
        assert notes(file) == ["kept"]
        with pytest.raises(InputError, match="readonly"):
            note(file, "refused")


def test_a_read_only_disk_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with opened(path) as file:
        note(file, "kept")
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with opened(path, read_only=True) as file:
        assert notes(file) == ["kept"]
        assert [p.name for p in tmp_path.iterdir()] == ["a.db"]


def test_a_damaged_file_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path) as file:
        for _ in range(200):
            note(file, "x" * 100)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with opened(path) as file, pytest.raises(IntegrityError, match=r"\A[^\n]*damaged file[^\n]*\Z"):
        notes(file)


def test_a_locked_file_is_waited_for_then_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path) as mine, opened(path) as yours, mine.transaction(write=True):
        with pytest.raises(LockedError, match=r"\A[^\n]*another process[^\n]*\Z"):
            note(yours, "refused")
        assert notes(yours) == []


def test_threads_take_turns(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db", durable=False) as file:

        def count() -> None:
            for _ in range(25):
                with file.transaction(write=True) as connection:
                    (size,) = connection.execute("SELECT count(*) FROM notes").fetchone()
                    connection.execute("INSERT INTO notes VALUES (?)", (str(size),))

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert notes(file) == [str(i) for i in range(100)]


def test_a_forked_process_must_open_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "a.db") as file:
        actual: Callable[[], int] = os.getpid
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: actual() + 1)
            with pytest.raises(PalateError, match="forked"):
                notes(file)


def test_many_processes_may_create_the_same_file(tmp_path: Path) -> None:
    program = """
import sys
from palate_common.records.database import Database

for i in range(20):
    with Database(sys.argv[1] + str(i), kind=7, schema=(sys.argv[2],)) as file, file.transaction(write=True) as c:
        c.execute("INSERT INTO notes VALUES (1)")
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "a.db"), *SCHEMA]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors
    for i in range(20):
        with opened(tmp_path / f"a.db{i}") as file:
            assert len(notes(file)) == 4
