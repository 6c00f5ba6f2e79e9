"""Ports: which process listens on one, and whether it is left over from a former server.

    port -> /proc/net/tcp -> socket -> /proc/PID/fd -> the process, its group, its working directory

Linux only, and only for processes that this account may look into: elsewhere nobody is found, which is said.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LISTENS = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


@dataclass(frozen=True)
class Listening:
    """A process that listens on a port.

    Attributes:
        pid: its number.
        name: its name.
        folder: its working directory, as far as it may be seen.
        orphan: whether the process that led its group has ended, as that of nginx's workers whose master was killed.
    """

    pid: int
    name: str
    folder: Path | None
    orphan: bool

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def taken(host: str, port: int) -> str:
    """Why this port can't be used; empty if it can."""
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]*") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        return (error.strerror or str(error)).partition(" (")[0]
    return ""


def listening(port: int) -> list[Listening]:
    """The processes that listen on a port, on whatever address; empty where they can't be seen."""
    wanted = {f"socket:[{inode}]" for inode in _sockets(port)}
    found = []
    for pid in _processes() if wanted else ():
        with suppress(OSError):
            if wanted.intersection(_opened(pid)):
                found.append(_process(pid))
    return found


def end_left_over(folder: Path) -> int:
    """End nginx's workers in a folder whose master has ended, and which keep its port; returns how many there were.

    Only workers that were started in this very folder are ended: those of the gateway that was this folder's.
    """
    found = 0
    for pid in _processes():
        with suppress(OSError):
            process = _process(pid)
            if process.orphan and process.name == "nginx" and process.folder == folder.resolve():
                os.kill(pid, signal.SIGKILL)
                found += 1
    return found


def _sockets(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _processes() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _opened(pid: int) -> Iterator[str]:
    """What a process has open. What it closes meanwhile, such as the list of it, is left out."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield str(each.readlink())


def _process(pid: int) -> Listening:
    """What is known of a process.

    Raises:
        OSError: it has ended.
    """
    name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    group = int(rest.split()[2])
    folder = None
    with suppress(OSError):
        folder = Path(f"/proc/{pid}/cwd").readlink()
    return Listening(pid, name, folder, orphan=group != pid and _has_ended(group))


def _has_ended(pid: int) -> bool:
    """Whether a process has ended, although nobody may have asked yet how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
