"""Folders: a folder in memory for a case, and what is in it then."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate_audit.answers.answer import CaseAnswer
from palate_audit.harness.watched_run import memory


@contextmanager
def made_folder(answer: CaseAnswer) -> Iterator[Path]:
    """A folder until the case ends, in memory: its name is no answer, and modes of files follow from the code alone."""
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(
            dir=memory() or Path(tempfile.gettempdir()).resolve(), prefix="palate-"
        ) as name:
            answer.apart = name
            yield Path(name)
    finally:
        os.umask(umask)


def files_in(root: Path) -> list[tuple[str, int, bytes]]:
    """All that is in a folder: names, modes, and bytes without the folder's own name."""
    name, found = str(root).encode(), []
    for path in sorted(root.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found.append((path.relative_to(root).as_posix(), path.stat().st_mode & 0o777, data.replace(name, b"")))
    return found


def files_of(root: Path) -> dict[str, bytes]:
    """Its files, but for locks."""
    found = (each for each in sorted(root.rglob("*")) if each.is_file() and each.name != "lock")
    return {each.relative_to(root).as_posix(): each.read_bytes() for each in found}


def file_sizes(folder: Path) -> list[tuple[str, bool]]:
    """Files of a folder, and which of them have bytes."""
    return sorted((each.name, each.stat().st_size > 0) for each in folder.iterdir() if not each.name.endswith("-shm"))
