"""Durable: which commits of a database, and which files, have not been waited for on the disk.

A disk can't be switched off in a test. What decides is seen all the same: SQLite waits for the disk at a commit with
`synchronous=FULL`, which also syncs every commit before it, and does not with less; a file is there after a power cut
if it was synced after it was written, and its folder after it got its name.

>>> import sqlite3, tempfile
>>> with tempfile.TemporaryDirectory() as folder, watched_commits() as commits:
...     connection = sqlite3.connect(f"{folder}/a.db", isolation_level=None)
...     for level, table in (("OFF", "one"), ("FULL", "two")):
...         _ = connection.execute(f"PRAGMA synchronous = {level}")
...         _ = connection.execute(f"CREATE TABLE {table}(text)")
...         print(commits.waiting("a.db"))
...     connection.close()
1
0
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import sqlcipher3.dbapi2 as sqlcipher

_PRAGMA = re.compile(r"PRAGMA\s+(\w+)\s*=\s*'?(\w+)", re.IGNORECASE)
_WRITES = re.compile(r"\s*(?:WITH\b.*?\b)?(?:INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP)\b", re.I | re.S)
_FULL = frozenset({"2", "full", "3", "extra"})
_LOSES = frozenset({"off", "memory"})
"""Journals that a power cut may leave half-written."""


@dataclass
class _Connection:
    """One connection, by the statements that it has run."""

    name: str
    level: str = ""
    journal: str = ""
    wrote: bool = False
    inside: bool = False
    waiting: int = 0

    def take(self, statement: str) -> None:
        """Follow a statement; those of triggers come as comments."""
        word = statement.lstrip().split(None, 1)[0].rstrip(";").upper() if statement.strip() else ""
        if setting := _PRAGMA.match(statement.strip()):
            name, value = setting[1].lower(), setting[2].lower()
            if name == "synchronous":
                self.level = value
            elif name == "journal_mode":
                self.journal = value
        elif word == "BEGIN":
            self.inside, self.wrote = True, False
        elif word in ("COMMIT", "END"):
            self._committed()
        elif word == "ROLLBACK":
            self.inside = self.wrote = False
        elif _WRITES.match(statement):
            self.wrote = True
            if not self.inside:
                self._committed()

    def _committed(self) -> None:
        """A commit that waits for the disk has all before it there; one without changes doesn't touch the disk."""
        if self.wrote:
            self.waiting = 0 if self.level in _FULL and self.journal not in _LOSES else self.waiting + 1
        self.inside = self.wrote = False


@dataclass
class Commits:
    """The connections that were opened while they were watched."""

    connections: list[_Connection] = field(default_factory=list)

    def waiting(self, *parts: str) -> int:
        """Commits that a power cut could undo, of files whose path has these parts."""
        return sum(each.waiting for each in self._to(parts))

    def watched(self, *parts: str) -> int:
        """How many connections to such files there were."""
        return len(self._to(parts))

    def _to(self, parts: tuple[str, ...]) -> list[_Connection]:
        return [each for each in self.connections if all(part in each.name for part in parts)]


@contextmanager
def watched_commits() -> Iterator[Commits]:
    """Watch every connection of SQLite and of SQLCipher that is opened in the context."""
    commits = Commits()

    def watching(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(database: Any, *args: Any, **kwargs: Any) -> Any:
            connection = connect(database, *args, **kwargs)
            seen = _Connection(str(database))
            commits.connections.append(seen)
            connection.set_trace_callback(seen.take)
            return connection

        return connected

    with (
        mock.patch.object(sqlite3, "connect", watching(sqlite3.connect)),
        mock.patch.object(sqlcipher, "connect", watching(sqlcipher.connect)),
    ):
        yield commits


@dataclass
class Synced:
    """What was synced: (device, inode) of files with the time of their last change then, and of folders."""

    seen: dict[tuple[int, int], int] = field(default_factory=dict)

    def has(self, path: Path) -> bool:
        """Whether a file was synced since it was written, and its folder since this began."""
        file, folder = path.stat(), path.parent.stat()
        written = self.seen.get((file.st_dev, file.st_ino))
        return written == file.st_mtime_ns and (folder.st_dev, folder.st_ino) in self.seen


@contextmanager
def watched_syncs() -> Iterator[Synced]:
    """Watch every `os.fsync` in the context, and make it."""
    synced, real = Synced(), os.fsync

    def fsync(descriptor: Any) -> None:
        real(descriptor)
        found = os.fstat(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        synced.seen[found.st_dev, found.st_ino] = found.st_mtime_ns

    with mock.patch.object(os, "fsync", fsync):
        yield synced
