"""The calls of macOS and Windows, as far as Linux can show them: which are made, and what their answers lead to.

`msvcrt` and `F_FULLFSYNC` are not on this system. What stands in for them here keeps a real lock and a real file; that
their calls have these names and arguments is checked by mypy against either system's types (`make release-check`).
"""

from __future__ import annotations

import ast
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from palate_common import system
from palate_common.records.file_lock import FileLock
from palate_common.records.files import create_durably, write_durably
from palate_common.records.key_file import load_key, save_key
from palate_core.errors import LockedError
from palate_core.log.signing import SigningKey

STAND_IN = """
import fcntl, os, sys, types

msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = 2, 0

def locking(descriptor, mode, n_bytes):  # https://learn.microsoft.com/cpp/c-runtime-library/reference/locking
    assert n_bytes == 1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if mode == msvcrt.LK_NBLCK else fcntl.LOCK_UN)
    except OSError:
        raise OSError(13, "Permission denied") from None  # what Windows says of a byte that somebody else has

msvcrt.locking = locking
"""
DEVICE = """
import numpy, pydantic, cryptography.hazmat.primitives.ciphers.aead, sqlcipher3, platformdirs, safetensors.numpy
import ctypes, email, http.client, json, logging, pathlib, shutil, socket, ssl, subprocess, tempfile
import threading, zoneinfo
sys.modules["msvcrt"], sys.platform = msvcrt, "win32"
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "getuid", "geteuid", "killpg", "O_NOFOLLOW", "link"):
    delattr(os, name)
import palate

sample, key = palate.sample(), palate.new_key()
with palate.open("data", app="bookshop", key=key, service=sample.service) as device:
    device.consent.grant("store")
    assert device.update_model(sample.folder)
    for book in ("book-7", "book-15", "book-23"):
        assert device.track("like", book)
    assert len(device.recommend(5)) == 5
    device.export("mine.jsonl")
with palate.open("data", app="bookshop", key=key) as device:
    assert len(list(device.store.events())) == 3
    device.erase()
print(sorted(path.name for path in pathlib.Path("data").iterdir()))
"""


ROOT = Path(__file__).parents[2]
SEAM = "common/palate_common/system.py"
CORE = "common/palate_core/noise/randomness.py"
"""It depends on nothing else of ours, and counts the forks of this process itself."""
ASKING = ("common", "client/palate_client", "simulations/palate", "simulations/palate_*")
"""A device, and what a person runs on a log: everything but the server."""
LINUX = {
    *(f"simulations/palate_sim/engines/{name}.py" for name in ("guard", "flower/launch", "processes", "workers")),
    "simulations/palate_cli/cli.py",
    "simulations/palate_sim/cores.py",
}
"""What runs where there are forks or /proc, or says that it doesn't."""
MODULES = {"fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "winreg"}
CALLS = re.compile(
    r"os[.](fork|forkpty|register_at_fork|[gs]ete?[ug]id|[gs]etpgid|[gs]etsid|killp?g?|wait(pid|3|4)?|l?chown|fch(mod|own)|"
    r"link|mkfifo|mknod|nice|sysconf|confstr|uname|name|sched_.*|p(read|write)v?|posix_.*|sendfile|statvfs|getloadavg|"
    r"O_(?!RDONLY|WRONLY|RDWR|CREAT|EXCL|TRUNC|APPEND).*)|"
    r"sys[.]platform|socket[.]AF_UNIX|signal[.](SIG(?!INT$|TERM$|_).*|pthread_kill|alarm|setitimer)"
)
"""What one of the three lacks, or does in another way."""
OTHERS = {"preexec_fn", "start_new_session", "pass_fds", "process_group", "creationflags", "chmod", "hardlink_to"}
"""Arguments of subprocess, and methods of paths."""


LOADED_ON_LINUX = {f"server/palate_server/service/{name}.py" for name in ("edge_process", "gateway")}
"""What of the server can't be loaded elsewhere; the audit loads others of it, wherever it runs."""


def asked_of_a_system(source: str) -> Iterator[str]:
    """What a module asks of an operating system that another one doesn't have, or answers differently."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from MODULES.intersection(each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from MODULES.intersection([module])
                yield from filter(CALLS.fullmatch, (f"{module}.{each.name}" for each in names))
            case ast.Attribute(value=ast.Name(id=of), attr=name) if CALLS.fullmatch(f"{of}.{name}"):
                yield f"{of}.{name}"
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) if name in OTHERS:
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"), args=[ast.Name(id=of), ast.Constant(value=name), *_]
            ):
                yield from filter(CALLS.fullmatch, [f"{of}.{name}"])
            case ast.Constant(value=str(text)) if text.startswith(("/proc", "/dev/")):
                yield text


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process believes that it is on Windows, and has its lock."""
    made: dict[str, Any] = {}
    exec(STAND_IN, made)  # noqa: S102 - the constant above
    monkeypatch.setitem(sys.modules, "msvcrt", made["msvcrt"])
    monkeypatch.setattr(sys, "platform", "win32")
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("windows")
def test_windows_lock_is_one_holders(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"), pytest.raises(LockedError, match="somebody else holds"):
        FileLock(tmp_path / "lock")
    FileLock(tmp_path / "lock").close()


@pytest.mark.usefixtures("windows")
def test_on_windows_a_file_is_replaced_once_its_reader_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = Path.replace, []

    def replace(draft: Path, path: Path) -> Path:
        tries.append(draft)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "being used by another process")
        return real(draft, path)

    monkeypatch.setattr(Path, "replace", replace)
    write_durably(tmp_path / "file", b"new")
    assert (len(tries), (tmp_path / "file").read_bytes()) == (3, b"new")
    monkeypatch.setattr(system, "PATIENCE", 0.05)
    tries[:] = []
    monkeypatch.setattr(Path, "replace", lambda *_: replace(Path("x"), tries.clear() or Path("y")))
    with pytest.raises(PermissionError):
        write_durably(tmp_path / "file", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.usefixtures("windows")
def test_on_windows_a_new_file_comes_by_a_rename_and_modes_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "link")
    create_durably(tmp_path / "file", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    save_key(SigningKey.generate(), tmp_path / "key")
    (tmp_path / "key").chmod(0o666)  # what Windows reports of every file that can be written
    load_key(tmp_path / "key")
    assert (system.children_seconds(), system.peak_memory(children=True)) == (0.0, None)


def test_elsewhere_a_refused_replacement_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nobody waits"))
    with pytest.raises(PermissionError):
        write_durably(tmp_path / "file", b"new")


def test_macos_is_asked_to_empty_the_drives_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    asked, synced, answer = [], [], [0]

    def control(descriptor: int, command: int) -> int:
        asked.append(command)
        if answer[0]:
            raise OSError(answer[0], os.strerror(answer[0]))
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", synced.append)
    write_durably(tmp_path / "file", b"whole")
    assert (asked, synced) == ([51, 51], [])  # the file, and its folder
    answer[0] = errno.ENOTSUP  # a file system that has no such call, as some on a network
    write_durably(tmp_path / "file", b"whole")
    assert len(synced) == 2
    answer[0] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write_durably(tmp_path / "file", b"lost")


def test_memory_is_in_bytes_on_either(monkeypatch: pytest.MonkeyPatch) -> None:
    here = system.peak_memory(children=False)
    assert here is not None
    assert here > 2**20
    monkeypatch.setattr(sys, "platform", "darwin")
    there = system.peak_memory(children=False)
    assert there is not None
    assert there <= here // 1024 + 2**20


def test_a_device_needs_nothing_of_posix(tmp_path: Path) -> None:
    """Recording, recommending, exporting and erasing, in a process without the modules and calls that Windows lacks."""
    done = subprocess.run([sys.executable, "-c", STAND_IN + DEVICE], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "['lock']\n"), done.stderr


def test_what_systems_do_differently_is_asked_for_in_one_module() -> None:
    found = {}
    for folder in ASKING:
        for path in (each for top in ROOT.glob(folder) for each in top.rglob("*.py")):
            if asked := sorted(set(asked_of_a_system(path.read_text(encoding="utf-8")))):
                found[path.relative_to(ROOT).as_posix()] = asked
    assert {"fcntl", "msvcrt", "resource", "os.link", "os.register_at_fork", "sys.platform", "chmod"} <= {*found[SEAM]}
    assert found.pop(CORE) == ["os.register_at_fork"]
    assert set(found) == {SEAM, *LINUX}, {name: asked for name, asked in found.items() if name not in LINUX}
    server = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (ROOT / "server").rglob("*.py")}
    assert {name for name in server if MODULES.intersection(asked_of_a_system(server[name]))} == LOADED_ON_LINUX


def test_a_program_is_ended_by_the_signals_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.name for each in system.ending_signals()] == ["SIGINT", "SIGTERM", "SIGHUP"]
    windows = IntEnum("Signals", {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21})
    monkeypatch.setattr(signal, "Signals", windows)
    assert [each.name for each in system.ending_signals()] == ["SIGINT", "SIGTERM"]


def test_a_process_may_open_what_its_account_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS says that there is no limit, and refuses what is above its OPEN_MAX."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    cases = (
        ("linux", 64, 4096, 4096), ("darwin", 64, 2**63 - 1, 10240), ("darwin", 64, 256, 256), ("win32", 9, 9, 0),
        ("darwin", 65536, 2**63 - 1, 65536),
    )  # fmt: skip
    for name, now, most, wanted in cases:
        monkeypatch.setattr(sys, "platform", name)
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=(now, most): limits)
        set_to.clear()
        system.open_many()
        assert set_to == ([(wanted, most)] if wanted else []), name
