"""Tape: every write and every sync of a device, recorded as SQLCipher and Python make them.

    with recorded() as tape:
        device.track("view", "book-7")
        tape.mark("tracked")
    tape.steps  # Write, Sync, Name, NamesSync, Mark, in order

SQLCipher's own file layer (its VFS) is wrapped in this process: each write, truncation, sync, opening and removal goes
on the tape and then to the real one. Python's few files come by `os.fsync` and the calls that change names. No
privileges are needed. What Python writes is on the tape as it was when it was synced; nothing here writes without.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import sqlcipher3._sqlite3

_CREATE, _MAIN_JOURNAL, _SUPER_JOURNAL, _WAL = 0x4, 0x800, 0x4000, 0x80000
_SYNCS_NAMES = _MAIN_JOURNAL | _SUPER_JOURNAL | _WAL
"""SQLite syncs the folder with the first sync of one of these (os_unix.c, UNIXFILE_DIRSYNC)."""


class Write(NamedTuple):
    """Bytes at an offset of a file; None: the file is cut there, or made as long."""

    file: int
    offset: int
    data: bytes | None


class Sync(NamedTuple):
    """A file's bytes have reached the disk."""

    file: int


class Name(NamedTuple):
    """From now on a path means this file; None: nothing."""

    path: str
    file: int | None


class NamesSync(NamedTuple):
    """A folder's names have reached the disk."""

    folder: str


class Mark(NamedTuple):
    """Something was acknowledged."""

    what: str


Step = Write | Sync | Name | NamesSync | Mark


@dataclass
class Tape:
    """What was recorded.

    Attributes:
        steps: in order.
    """

    steps: list[Step] = field(default_factory=list)
    _files: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def mark(self, what: str) -> None:
        """Note that something was acknowledged."""
        self.steps.append(Mark(what))

    def file(self, path: str) -> int:
        """The file that a path means; a new one if there is none."""
        if path not in self._files:
            self.name(path, self._count)
            self._count += 1
        return self._files[path]

    def name(self, path: str, file: int | None) -> None:
        """Let a path mean a file, or nothing."""
        self.steps.append(Name(path, file))
        if file is None:
            self._files.pop(path, None)
        else:
            self._files[path] = file

    def moved(self, source: str, target: str, *, keep: bool) -> None:
        """A rename, or a link."""
        self.name(target, self.file(source))
        if not keep:
            self.name(source, None)


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.c_void_p),)


_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_WRITE = ctypes.CFUNCTYPE(_I, _P, _P, _I, _L)
_TRUNCATE = ctypes.CFUNCTYPE(_I, _P, _L)
_SYNC = ctypes.CFUNCTYPE(_I, _P, _I)
_CLOSE = ctypes.CFUNCTYPE(_I, _P)
_OPEN = ctypes.CFUNCTYPE(_I, _P, _P, ctypes.POINTER(_File), _I, _P)  # names stay pointers: SQLite keeps them
_DELETE = ctypes.CFUNCTYPE(_I, _P, _P, _I)


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, https://sqlite.org/c3ref/io_methods.html."""

    _fields_ = (
        ("version", _I), ("close", _P), ("read", _P), ("write", _P), ("truncate", _P), ("sync", _P),
        ("rest", _P * 13),
    )  # fmt: skip


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, https://sqlite.org/c3ref/vfs.html; only as far as it is used."""

    _fields_ = (
        ("version", _I), ("size", _I), ("longest", _I), ("next", _P), ("name", _P), ("data", _P),
        ("open", _P), ("delete", _P),
    )  # fmt: skip


@contextmanager
def recorded() -> Iterator[Tape]:
    """Record what SQLCipher and Python write while this lasts; open no file before, and close all in it."""
    tape = Tape()
    with _sqlcipher(tape), _python(tape):
        yield tape


@contextmanager
def _sqlcipher(tape: Tape) -> Iterator[None]:
    """SQLCipher's file layer, wrapped."""
    find = ctypes.CDLL(sqlcipher3._sqlite3.__file__).sqlite3_vfs_find
    find.restype, find.argtypes = ctypes.POINTER(_Vfs), (ctypes.c_char_p,)
    vfs, opened, tables = find(None).contents, dict[int, tuple[str, bool]](), dict[int, tuple[Any, ...]]()
    real_open, real_delete = _OPEN(vfs.open), _DELETE(vfs.delete)

    def wrapped(address: int) -> int:
        """The method table of the real one, with four of ours."""
        if address not in tables:
            real = ctypes.cast(address, ctypes.POINTER(_Methods)).contents
            own = _Methods.from_buffer_copy(real)
            write, truncate, sync, close = (
                _WRITE(real.write),
                _TRUNCATE(real.truncate),
                _SYNC(real.sync),
                _CLOSE(real.close),
            )

            def on_write(file: int, data: int, size: int, offset: int) -> int:
                tape.steps.append(Write(tape.file(opened[file][0]), offset, ctypes.string_at(data, size)))
                return int(write(file, data, size, offset))

            def on_truncate(file: int, size: int) -> int:
                tape.steps.append(Write(tape.file(opened[file][0]), size, None))
                return int(truncate(file, size))

            def on_sync(file: int, flags: int) -> int:
                code = int(sync(file, flags))
                path, syncs_names = opened[file]
                tape.steps.append(Sync(tape.file(path)))
                if syncs_names:
                    tape.steps.append(NamesSync(str(Path(path).parent)))
                    opened[file] = path, False
                return code

            def on_close(file: int) -> int:
                opened.pop(file, None)
                return int(close(file))

            kept = _WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync), _CLOSE(on_close)
            own.write, own.truncate, own.sync, own.close = (ctypes.cast(each, _P).value for each in kept)
            tables[address] = own, kept, (write, truncate, sync, close)
        return ctypes.addressof(tables[address][0])

    def on_open(layer: int, name: int | None, file: Any, flags: int, out: int) -> int:
        code = int(real_open(layer, name, file, flags, out))
        if code == 0 and name is not None:
            path = os.fsdecode(ctypes.string_at(name))
            tape.file(path)
            opened[ctypes.addressof(file.contents)] = path, bool(flags & _CREATE and flags & _SYNCS_NAMES)
            file.contents.methods = wrapped(file.contents.methods)
        return code

    def on_delete(layer: int, name: int, sync_folder: int) -> int:
        code, path = int(real_delete(layer, name, sync_folder)), os.fsdecode(ctypes.string_at(name))
        tape.name(path, None)
        if sync_folder:
            tape.steps.append(NamesSync(str(Path(path).parent)))
        return code

    kept = _OPEN(on_open), _DELETE(on_delete)
    before = vfs.open, vfs.delete
    vfs.open, vfs.delete = (ctypes.cast(each, _P).value for each in kept)
    try:
        yield
    finally:
        vfs.open, vfs.delete = before


@contextmanager
def _python(tape: Tape) -> Iterator[None]:
    """The calls by which Python brings a file to the disk, and changes names."""
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "link", "unlink")}

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            tape.steps.append(NamesSync(path))
            return
        if path.endswith(" (deleted)"):  # overwritten under no name any more: nothing that a cut could bring back
            return
        file, data = tape.file(path), Path(path).read_bytes()
        tape.steps += [Write(file, 0, data), Write(file, len(data), None), Sync(file)]  # new, or written over in place

    def moving(name: str, *, keep: bool) -> Callable[..., None]:
        def move(source: Any, target: Any, **options: Any) -> None:
            real[name](source, target, **options)
            tape.moved(os.fspath(source), os.fspath(target), keep=keep)

        return move

    def unlink(path: Any, **options: Any) -> None:
        real["unlink"](path, **options)
        tape.name(os.fspath(path), None)

    ours = {"fsync": fsync, "unlink": unlink, "link": moving("link", keep=True)}
    ours |= {name: moving(name, keep=False) for name in ("replace", "rename")}
    with patch.multiple(os, **ours):
        yield
