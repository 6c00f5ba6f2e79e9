"""Decisions that can't be written: a revocation holds all the same, and a grant that wasn't written is none.

What SQLite is asked for while a user decides is recorded. Then each of these things fails in turn, as on a full or
broken disk: the user takes a purpose back that they had agreed to, or agrees to one that was denied. Afterwards the
purpose is denied, in this process and in one that opens a copy of the files: after a revocation always, after a grant
if it said that it couldn't be written.

    revoke -> SQLite: begin | insert | commit ... -> one of them fails -> denied, here and for others
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import sqlcipher3.dbapi2 as sqlcipher

from mechanism.checks.ledgers.books import done
from palate_client.consent import PURPOSES, Purpose
from palate_client.device import Device, open_device
from palate_common.system import memory_folder
from palate_core.errors import PalateError

Asked = tuple[Any, ...]
"""What SQLite is asked for: an action, and what it is about."""
COMMITS = (sqlite3.SQLITE_TRANSACTION, "COMMIT", None)
"""With it a decision is written."""


class _Disk:
    """Every connection of SQLCipher, of which one thing that it is asked for may fail."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._connect, self._connections = sqlcipher.connect, list[Any]()

    def connected(self, *args: Any, **kwargs: Any) -> Any:
        """A connection that can fail."""
        connection = self._connect(*args, **kwargs)
        self._connections.append(connection)
        return connection

    @contextmanager
    def failing(self, at: Asked | None) -> Iterator[None]:
        """Refuse one thing, or record all."""

        def answer(*asked: Any) -> int:
            self.asked.append(asked[:3])
            return sqlite3.SQLITE_DENY if asked[:3] == at else sqlite3.SQLITE_OK

        self._authorize(answer)
        try:
            yield
        finally:
            self._authorize(None)

    def _authorize(self, answer: Callable[..., int] | None) -> None:
        for each in self._connections:
            with suppress(sqlcipher.ProgrammingError):  # it is closed
                each.set_authorizer(answer)


def failing() -> Iterator[str]:
    """Each decision, with each thing failing that it takes."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        disk = _Disk()
        stack.enter_context(mock.patch.object(sqlcipher, "connect", disk.connected))
        device = _opened(stack, home / "app")
        steps: dict[bool, list[Asked]] = {}
        for granted in (True, False):
            disk.asked.clear()
            with disk.failing(None):
                _decide(device, PURPOSES[0], granted)()
            asked = list(dict.fromkeys(disk.asked))
            steps[granted] = asked[: asked.index(COMMITS) + 1] if COMMITS in asked else []
        if not all(steps.values()):
            yield "a decision must be written, and SQLite was asked for nothing"
        for number, (granted, purpose) in enumerate((each, one) for each in (False, True) for one in PURPOSES):
            for place, at in enumerate(steps[granted]):
                _decide(device, purpose, not granted)()
                with disk.failing(at):
                    written = done(_decide(device, purpose, granted))
                yield from _denied(device, home, purpose, granted and written, f"{number}-{place}", granted)


def _decide(device: Device, purpose: Purpose, granted: bool) -> Callable[[], object]:
    """A decision, to be made."""
    return lambda: (device.consent.grant if granted else device.consent.revoke)(purpose)


def _opened(stack: ExitStack, folder: Path) -> Device:
    return stack.enter_context(open_device(folder, app="audit", key=bytes(range(32))))


def _denied(device: Device, home: Path, purpose: Purpose, agreed: bool, name: str, granted: bool) -> Iterator[str]:
    """Whether the decision holds: for this process, and for one that opens a copy of the files."""
    what = f"{'granting' if granted else 'revoking'} `{purpose}` failed"
    shutil.copytree(home / "app", home / name)
    with ExitStack() as other:
        for who, each in (("here", device), ("for other processes", _opened(other, home / name))):
            try:
                now = each.consent.get(purpose)
            except PalateError:
                now = False  # unreadable is denied
            if now and not agreed:
                yield f"{what}, and it is granted {who}"
