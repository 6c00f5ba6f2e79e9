"""Operators: which account of this machine gave which command to a server folder, and when; a file that only grows.

    {"after": "<hash of the line before>", "at": ..., "user": "palate", "command": "revoke", "arguments": {...},
     "outcome": "begun"}

Each command has a line before it does anything, and one when it has ended. Each line has the hash of the one before, so
that one that was changed or taken out is noticed; one that is missing at the end isn't. Of the arguments files and
numbers are kept: no command takes a secret as one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json

FILE = "operators.jsonl"
"""The file in a server folder."""
MOST_LINE = 4096
"""Bytes of the longest line."""


class OperatorLog:
    """The commands that were given to a folder.

    Args:
        folder: a server folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE

    @contextmanager
    def command(self, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
        """Record a command before it is done, and what became of it.

        Raises:
            InputError: it can't be recorded; nothing was done.
        """
        try:
            self._add(name, arguments, "begun")
        except OSError as error:
            raise InputError(f"`{FILE}` must be writable before a command is done, got {error.strerror}: {self.file}") \
                from None  # fmt: skip
        outcome = "done"
        try:
            yield
        except PalateError as error:
            outcome = f"refused: {error.code}"
            raise
        except BaseException as error:
            code = getattr(error, "exit_code", None)
            outcome = type(error).__name__ if code is None else f"exit code {code}"
            raise
        finally:
            with suppress(OSError):  # what was done is done, and that it had begun is written
                self._add(name, arguments, outcome)

    def made(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Record a command that has made the folder."""
        self._add(name, arguments, "done")

    def read(self) -> list[dict[str, Any]]:
        """All lines, each with the account, the command and what became of it.

        Raises:
            IntegrityError: a line was changed or taken out; the message says which.
        """
        found, before = list[dict[str, Any]](), ""
        with suppress(FileNotFoundError), self.file.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MOST_LINE + 1), b""), start=1):
                if len(line) > MOST_LINE:
                    raise IntegrityError(f"{FILE} must have lines of at most {MOST_LINE} bytes, got more in {number}")
                line = line.removesuffix(b"\n")
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):  # the machine went down in it; the next line has its hash
                    value = {"after": before, "command": "", "outcome": "a line that was cut short"}
                if not isinstance(value, dict) or value.get("after") != before:
                    raise IntegrityError(
                        f"{FILE} must only have grown, got another line {number} than was written: one is gone"
                    )
                found.append(value)
                before = hashlib.sha256(line).hexdigest()
        return found

    def _add(self, name: str, arguments: Mapping[str, Any], outcome: str) -> None:
        """Append a line, durably.

        Raises:
            OSError: it can't be written, or its name is a link or anything but one file: root, who gives it to the
                folder's account, must not be led to a file of its own.
        """
        descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            here = os.fstat(descriptor)
            if not stat.S_ISREG(here.st_mode) or here.st_nlink != 1:
                raise OSError(errno.ELOOP, "not one file of its own")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            facts, size = self.file.parent.stat(), os.fstat(descriptor).st_size
            if os.geteuid() == 0:  # the server's own account must be able to go on with it
                os.fchown(descriptor, facts.st_uid, facts.st_gid)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                size += os.write(descriptor, b"\n")
            last = os.pread(descriptor, MOST_LINE, max(0, size - MOST_LINE)).rstrip(b"\n").rpartition(b"\n")[2]
            line = {
                "after": hashlib.sha256(last).hexdigest() if last else "",
                "at": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
                **_who(),
                "command": name,
                "arguments": {key: _plain(value) for key, value in arguments.items() if value not in (None, False)},
                "outcome": outcome,
            }
            data = canonical_json(line)
            if len(data) >= MOST_LINE:
                data = canonical_json({**line, "arguments": {"left out": "too long"}})
            os.write(descriptor, data + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Let root act as the account whose folder it is, so that no link of that account leads root to another file."""
    facts, groups = folder.stat(), os.getgroups()
    if os.geteuid() != 0 or facts.st_uid == 0:
        yield
        return
    os.setgroups([])
    os.setegid(facts.st_gid)
    os.seteuid(facts.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _who() -> dict[str, str]:
    """The account that gave the command, and the one that became it by sudo, as far as that says so."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    by = _text(os.environ.get("SUDO_USER", ""))
    return {"user": name, **({"sudo": by[:64]} if by else {})}


def _plain(value: Any) -> Any:
    """An argument as a JSON value."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float)) else _text(str(value))


def _text(text: str) -> str:
    """A text of Unicode alone: a file's name needn't be one."""
    return text.encode(errors="replace").decode()
