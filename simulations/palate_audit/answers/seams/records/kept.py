"""Kept: files that are whole or absent, locks, and small databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_common.records.database import Database
from palate_common.records.file_lock import FileLock
from palate_common.records.files import create_durably, make_folder, write_durably
from palate_core.errors import PalateError


def _durable(dice: Dice, answer: CaseAnswer) -> None:
    """Files that are whole or absent, whatever fails in the middle; locks that one has at a time."""
    with made_folder(answer) as root:
        for _ in range(dice.whole(3, 6)):
            path = root / dice.one_of(("a", "a", "b", "no/c", "d/e"))
            data: Any = dice.one_of(
                (b"", b"one", [b"x", b"", b"yz"], (each for each in (b"1", b"2")), ["text"], dice.bytes(70))
            )
            mode, call = dice.one_of((0o600, 0o644, 0o444)), dice.one_of((write_durably, create_durably))
            broken = dice.one_of((None, None, None, "sync", "set_mode", "move", "move_to_new", "sync_folder"))
            fails = OSError(28, "full") if broken else None
            with mock.patch(f"palate_common.records.files.{broken or 'sync'}", side_effect=fails):
                tell_result(answer, call, path, data, mode=mode)
            answer.tell(files_in(root))
            if dice.chance(0.3):
                tell_result(answer, make_folder, root / dice.one_of(("d", "d", "no/c", "a")))
        with (
            mock.patch("palate_common.records.files.sync_folder") as synced,
            mock.patch("palate_common.records.files.sync") as whole,
        ):
            tell_result(answer, write_durably, root / "s", b"s")
            tell_result(answer, create_durably, root / "t", b"t")
            tell_result(answer, make_folder, root / "u")
            answer.tell(
                [call.args[0].relative_to(root) for call in synced.call_args_list],
                whole.call_count,
                files_in(root),
            )
        held = list[FileLock]()
        for _ in range(5):
            if held and dice.chance(0.4):
                one = held.pop(dice.whole(0, len(held) - 1))
                answer.tell(one.is_there())
                one.close()
                answer.tell(one.is_there(), tell_result(answer, one.close))
            else:
                try:
                    held.append(FileLock(root / dice.one_of(("l", "m", "no/l"))))
                except (PalateError, OSError) as error:
                    answer.tell(type(error).__name__)
                answer.tell([each.is_there() for each in held])
            if dice.chance(0.2):
                (root / "l").unlink(missing_ok=True)
        for one in held:
            one.close()


_TABLES = ("CREATE TABLE kept(text TEXT PRIMARY KEY, number INTEGER)", "INSERT INTO kept VALUES ('first', 1)")


def _databases(dice: Dice, answer: CaseAnswer) -> None:
    """A file of SQLite: kinds, transactions that fail, reopened, copied, damaged, read only."""
    with made_folder(answer) as root:
        path: Any = dice.one_of((root / "a.db", root / "a.db", ":memory:"))
        for _ in range(dice.whole(2, 3)):
            kind, only = dice.one_of((7, 7, 7, 8)), dice.chance(0.2)
            durable, where = dice.chance(0.5), dice.one_of((path, path, path, root, root / "no" / "a.db", str(path)))
            base = tell_result(CaseAnswer(), lambda: 1)
            try:
                opened = Database(where, kind=kind, schema=_TABLES, durable=durable, read_only=only, timeout=0.0)
            except PalateError as error:
                answer.tell(base, type(error).__name__)
                continue
            with opened:
                for _ in range(4):
                    _operate(dice, answer, opened, root)
            tell_result(answer, opened.close)
            tell_result(answer, _select, opened, "SELECT 1")
            if path != ":memory:" and path.exists() and dice.chance(0.2):
                path.write_bytes(
                    dice.one_of(
                        (b"", b"no database, but long enough to be one" * 30, path.read_bytes()[:100] + bytes(500))
                    )
                )


def _operate(dice: Dice, answer: CaseAnswer, opened: Database, root: Path) -> None:
    """One operation, and what the tables have after it."""
    step = dice.whole(0, 7)
    if step == 7:
        with opened.transaction(write=dice.chance(0.6)):  # somebody else comes in the middle
            for write in (False, True):
                tell_result(answer, _beside, opened.path, write)
    elif step <= 2:
        statements = dice.some_of(
            (
                "INSERT INTO kept VALUES ('a', 2)",
                "UPDATE kept SET number = number + 1",
                "no SQL",
                "INSERT INTO kept VALUES ('b', 3)",
            ),
            0.6,
        )
        tell_result(answer, _write, opened, statements, dice.chance(0.7), dice.chance(0.2))
    elif step == 3:
        tell_result(answer, opened.wait_for_disk, dice.chance(0.5))
    elif step == 4:
        tell_result(answer, opened.copy, root / dice.one_of(("copy.db", "copy.db", "no/copy.db")))
    elif step == 5:
        tell_result(answer, opened.checkpoint)
    else:
        tell_result(answer, opened.checkpoint_every, dice.one_of((0, 10)))
    for query in (
        "SELECT * FROM kept ORDER BY text",
        "PRAGMA synchronous",
        "PRAGMA wal_autocheckpoint",
        "PRAGMA application_id",
        "PRAGMA fullfsync",
        "PRAGMA journal_mode",
    ):
        tell_result(answer, _select, opened, query)
    if step == 4 and (root / "copy.db").exists():
        for kind in (7, 8):
            tell_result(answer, _copied, root / "copy.db", kind)


def _write(opened: Database, statements: list[str], write: bool, fails: bool) -> None:
    with opened.transaction(write=write) as connection:
        for each in statements:
            connection.execute(each)
        if fails:
            raise KeyError("in the middle")


def _beside(path: str, write: bool) -> None:
    with Database(path, kind=7, schema=_TABLES, timeout=0.0) as other:
        _write(other, ["INSERT OR REPLACE INTO kept VALUES ('other', 9)"] if write else [], write, fails=False)


def _copied(path: Path, kind: int) -> list[Any]:
    with Database(path, kind=kind, schema=(), read_only=True, timeout=0.0) as copied:
        return _select(copied, "SELECT * FROM kept ORDER BY text")


def _select(opened: Database, query: str) -> list[Any]:
    with opened.transaction() as connection:
        return connection.execute(query).fetchall()


SEAMS = (
    Seam("durable files and locks", _durable, 12),
    Seam("databases: kinds, transactions and copies", _databases, 12),
)
