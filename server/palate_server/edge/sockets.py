"""Sockets: Unix sockets in folders whose paths may be longer than the 107 bytes that the address of one has."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import Final

MOST_PATH: Final = 100
"""Bytes of a path that is used as it is."""


def reachable(path: Path) -> str:
    """A short name of a socket's path, for this process: by the number of its folder, which stays open.

    Raises:
        OSError: there is no such folder.
    """
    if len(os.fsencode(path)) <= MOST_PATH:
        return str(path)
    return f"/proc/self/fd/{_opened(path.parent)}/{path.name}"


@cache
def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def listening(path: Path, *, mode: int) -> socket.socket:
    """A socket that listens at a path; one that a former process has left there goes.

    Args:
        path: where, in an existing folder.
        mode: who may connect, as permissions of the file.

    Raises:
        OSError: it can't be made there.
    """
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    former = os.umask(0o777 & ~mode)
    try:
        found.bind(reachable(path))
    except OSError:
        found.close()
        raise
    finally:
        os.umask(former)
    found.listen(4096)
    return found
