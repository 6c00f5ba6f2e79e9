"""What Linux, macOS and Windows do differently, for a device and a simulation: locks, the disk, forks, modes, costs.

Nothing else of theirs asks on which system it is. A server does, since it is one of Linux. What is known to work where
is in docs/platforms.md.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "draft").write_bytes(b"one")
    3
    >>> move(folder / "draft", folder / "whole")
    >>> sync_folder(folder)
    >>> (folder / "whole").read_bytes()
    b'one'
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""Errors that say that somebody else has a lock."""
PATIENCE, PAUSE = 1.0, 0.01
"""Seconds for which Windows is asked again to replace a file that is being read, and between two tries."""


AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags of `os.open`: bytes as they are, which Windows takes for text, and no waiting for the other end of a pipe."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open`: a link is refused, not followed. Windows has none, and lets few accounts make links."""
_GET_GENERATION = 0x80087601
"""FS_IOC_GETVERSION."""
MOST_ON_MACOS = 10240
"""Open files that macOS lets a process ask for, whatever it says is the most: OPEN_MAX in setrlimit(2) there."""


def lock(descriptor: int) -> bool:
    """Take the lock on a file for this process; False if somebody else has it. It ends with the process.

    Raises:
        OSError: the file can't be locked.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back, for all copies of the descriptor.

    Raises:
        OSError: it wasn't held.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def identity_of(path: Path) -> str:
    """What tells a file from each copy of it, also from one that is put in its place, on this disk or another.

    It is the file's number on its disk and, where Linux reuses numbers, that number's generation. It lasts as long as
    the file does, except on disks without numbers (FAT, some of the network). An image of a whole disk keeps it.

    Raises:
        OSError: there is no such file.
    """
    with path.open("rb") as file:
        number = os.fstat(file.fileno()).st_ino
        if sys.platform != "linux":
            return str(number)
        import fcntl

        try:
            generation = fcntl.ioctl(file.fileno(), _GET_GENERATION, bytes(8))
        except OSError:  # a file system that doesn't reuse numbers
            return str(number)
        return f"{number}.{generation.hex()}"


def lock_folder(folder: Path, *, wait: bool) -> int:
    """The descriptor that has the lock of a folder, until it is closed; no link is followed.

    Raises:
        OSError: another process has it, and it isn't waited for; or it isn't a folder, or Windows, which locks none.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "Windows locks no folders", str(folder))
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync(descriptor: int) -> None:
    """Wait until a file is on the disk, so that a power cut leaves it.

    On macOS `fsync` stops at the drive's cache: fsync(2) there names F_FULLFSYNC for what must last.

    Raises:
        OSError: it can't be written.
    """
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):  # a file system that has none
                raise
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until new names in a folder are on the disk. Windows opens no folders; NTFS keeps names in its own journal.

    Raises:
        OSError: it can't be written.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def move(draft: Path, path: Path) -> None:
    """Put a file in the place of another, in one step. Windows refuses while somebody reads that: it is asked again.

    Raises:
        OSError: it can't be moved.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            draft.replace(path)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() >= until:
                raise
        time.sleep(PAUSE)


def move_to_new(draft: Path, path: Path) -> None:
    """Give a file a name that nothing has, in one step; the draft may stay.

    Raises:
        FileExistsError: something has it.
        OSError: it can't be moved.
    """
    if sys.platform == "win32":
        draft.rename(path)  # unlike on POSIX systems, this fails where there is a file already
    else:
        os.link(draft, path)


def others_may_read(mode: int) -> bool:
    """Whether a file's mode lets others than its owner at it. On Windows the folder's list says so, and no mode."""
    return sys.platform != "win32" and bool(mode & 0o077)


def set_mode(path: Path, mode: int) -> None:
    """Say who may read and write a file. On Windows the folder's list does, and nothing is changed.

    Raises:
        OSError: it is another account's.
    """
    if sys.platform != "win32":
        path.chmod(mode)


def is_anothers(port: int, *, at: int) -> bool:
    """Whether the other end of a connection on loopback is a program of another account than ours and root's.

    On Linux, whose kernel lists whose each connection is; elsewhere, and where it isn't listed, nothing is known.

    Args:
        port: of the other end.
        at: our own port.
    """
    if sys.platform != "linux":
        return False
    ends, loopback = (f":{port:04X}", f":{at:04X}"), "0100007F"
    for table in ("tcp", "tcp6"):  # a socket of IPv6 can be at the other end, too
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            here, there = (f"{loopback}{end}" for end in ends)
            if fields[1].endswith(here) and fields[2].endswith(there):
                return int(fields[7]) not in (0, os.geteuid())
    return False


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Call these around each fork of this process. Windows has none."""
    if sys.platform != "win32":
        given = {"before": before, "after_in_parent": in_parent, "after_in_child": in_child}
        os.register_at_fork(**{name: call for name, call in given.items() if call is not None})


def forks() -> bool:
    """Whether a process can fork, and hand open files to what it starts: everywhere but on Windows."""
    return sys.platform != "win32"


def ending_signals() -> tuple[signal.Signals, ...]:
    """Signals by which a user, a supervisor or a terminal that is closed ends a program. Windows lacks the last."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


def opener() -> str:
    """The command that opens a file as a person would, by its kind."""
    return {"darwin": "open", "win32": "start"}.get(sys.platform, "xdg-open")


def own_cores() -> int:
    """Processors that this process is bound to, where the system binds processes; else those that there are."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_many() -> None:
    """Let this process open as many files and sockets as its account may. Windows has no such limit."""
    if sys.platform == "win32":
        return
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(now, min(most, MOST_ON_MACOS)) if sys.platform == "darwin" and most >= 0 else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def children_seconds() -> float:
    """Processor time of this process's finished children; 0 on Windows, which doesn't add it up."""
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_memory(*, children: bool) -> int | None:
    """Largest resident memory in bytes of this process, or with `children` of a finished one; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)[: 1 + children]
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
    return unit * max(resource.getrusage(each).ru_maxrss for each in who)


def memory_folder() -> Path | None:
    """A folder in memory where the system has one, for files that needn't survive a power failure; None: there is none.

    A folder of one's own is made in it.
    """
    memory = Path("/dev/shm")  # noqa: S108 - see above
    return memory if os.access(memory, os.W_OK) else None
