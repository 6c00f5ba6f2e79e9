"""Durable files: a file is complete or absent, also after a crash of the process or the machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from palate_common.system import move, move_to_new, set_mode, sync, sync_folder


def write_durably(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Write `data`, whole or in parts, to `path`: a temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the folder can't be written; no partial file is left at `path`.
    """
    with _draft(path, data, mode) as draft:
        move(draft, path)
    sync_folder(path.parent)


def create_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` as `write_durably` does, but never over a file that is there.

    Raises:
        FileExistsError: there is a file already.
        OSError: the folder can't be written; no partial file is left at `path`.
    """
    with _draft(path, data, mode) as draft:
        move_to_new(draft, path)
    sync_folder(path.parent)


@contextmanager
def _draft(path: Path, data: bytes | Iterable[bytes], mode: int) -> Iterator[Path]:
    """A complete temporary file beside `path`, on disk; it has `mode` only when complete, and is removed at the end."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            sync(file.fileno())
        set_mode(draft, mode)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder durably, if it isn't there; its parent must exist.

    Raises:
        OSError: it can't be made.
    """
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)
