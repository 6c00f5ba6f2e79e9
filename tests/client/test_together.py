"""Threads, forks and processes on one store at once; what lies on the disk; and what is left after `erase`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlcipher3.dbapi2 as sqlcipher

import palate
from palate_common.kinds import KINDS
from palate_core.errors import WrongKeyError

pytestmark = pytest.mark.slow

KEY = bytes(range(32))

BUSY = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: that is what is tried
import palate

folder, name = sys.argv[1:]
LIMITS = palate.Limits(max_per_day=10**6)
device = palate.open(folder, app="shelf", key=bytes(range(32)), limits=LIMITS)
device.consent.grant("store")
interests = device.interests(["a", "b"])
told, kept = threading.Lock(), []

def say(outcomes):
    with told:
        kept.extend(outcomes)

def work(thread):
    for n in range(40):
        events = [("own", f"{name}-{thread}-{n}"), ("both", f"shared-{thread}-{n}")]
        say([(id, device.track("view", "a", id=id).name) for _, id in events])
        many = [f"{name}-{thread}-{n}-{m}" for m in range(5)]
        outcomes = device.track_many([palate.Event("like", "b", id=id) for id in many])
        say(zip(many, (outcome.name for outcome in outcomes)))
        if n % 10 == thread % 10:
            interests.interactions()
            device.flush()

threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
children = []
for child in range(4):
    time.sleep(0.05)
    pid = os.fork()
    if not pid:
        good = all([device.track("play", "a", id=f"{name}-child-{child}-{n}") for n in range(20)])
        device.consent.get("store")
        os._exit(0 if good else 1)
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for thread in threads:
    thread.join()
print("\\n".join(f"{id} {outcome}" for id, outcome in kept))
threading.Thread(target=lambda: [device.track("skip", "a") for _ in range(10**9)], daemon=True).start()
"""


def test_threads_forks_and_processes_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", BUSY, str(tmp_path / "store")]
    hosts = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    }
    outcomes: dict[str, list[str]] = {}
    for host in hosts.values():
        output, errors = host.communicate(timeout=180)  # no deadlock, and a busy thread doesn't hold up the exit
        assert (host.returncode, errors) == (0, "")
        for line in output.splitlines():
            known, outcome = line.split()
            outcomes.setdefault(known, []).append(outcome)
    shared = {known: sorted(each) for known, each in outcomes.items() if known.startswith("shared")}
    assert len(shared) == 320
    assert all(each == ["DUPLICATE", "STORED"] for each in shared.values())  # of two processes one stored it
    assert all(each == ["STORED"] for known, each in outcomes.items() if known not in shared)
    children = {f"{name}-child-{child}-{n}" for name in "ab" for child in range(4) for n in range(20)}
    with palate.open(tmp_path / "store", app="shelf", key=KEY) as device:
        ids = [event.id for event in device.store.events() if event.kind != "skip"]
        with device.store.transaction() as connection:
            assert connection.execute("PRAGMA cipher_integrity_check").fetchall() == []
    assert len(ids) == len(set(ids))
    assert set(ids) == {*outcomes, *children}


@pytest.fixture
def used(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device], folder: Path
) -> Callable[[], palate.Device]:
    """A device that has done everything: events of every kind, a model, feedback, a round."""
    run = make_run()
    floors = palate.Floors(allow_seeded=True, allow_central=True)
    service = palate.Service(public_key=run.key.public, population="readers", floors=floors, epsilon=50.0)
    device = open_device(service=service)
    device.consent.grant("train", version="unmistakable version")
    device.update_model(run.publish(run.coordinator()))
    for kind in KINDS:
        value = {"rate": 4.0, "play": 30.0, "view": 9.0, "purchase": 2.0}.get(kind)
        for n in range(30):
            props = {"note": f"unmistakable text {n}"}
            device.track(kind, f"unmistakable-item-{n}", value=value, id=f"unmistakable-{kind}-{n}", props=props)
    device.track("like", "item-3")
    shown = device.recommend(3)
    device.feedback(shown, {shown[0].item: "click"})
    assert device.contribute(*run.first()) != b"refused", device.refusal
    device.contribute(b"unmistakable plan", b"")
    return lambda: device


def test_no_item_kind_or_text_is_in_any_raw_file(
    used: Callable[[], palate.Device], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    device = used()
    words = {b"unmistakable", b"item-", b"readers", b"run-1", b"refused", b"SQLite format", b"CREATE TABLE", b"PRIVATE"}
    words |= {kind.encode() for kind in KINDS if len(kind) > 4}  # a shorter one may be there by chance
    words |= {word.decode().encode("utf-16-le") for word in words}
    for moment in ("tracked", "flushed", "closed"):
        if moment == "flushed":
            device.flush()
        elif moment == "closed":
            device.close()
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
        names = {name.partition(".")[2] for name in files}
        assert {"db", "journal", "ledger", "json"} <= names
        assert [(name, word) for name, data in files.items() for word in words if word in data] == []
        assert not [name for name in files if b"item" in name.encode() or b"shelf" in name.encode()]
    assert list(elsewhere.iterdir()) == []


def test_a_wrong_key_is_one_clear_error_and_harms_nothing(
    used: Callable[[], palate.Device], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    used().close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for wrong in (bytes(32), KEY[::-1], KEY + b"x"):
        with pytest.raises(WrongKeyError, match=r"\A`key` must be the one this store was made with, got [^\n]*\Z"):
            palate.open(folder, app="shelf", key=wrong)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert capfd.readouterr() == ("", "")
    with palate.open(folder, app="shelf", key=KEY) as device:
        assert len(list(device.store.events())) > 300


def test_after_erase_nothing_left_on_the_device_opens_an_old_copy(
    used: Callable[[], palate.Device], folder: Path, tmp_path: Path
) -> None:
    """Everything that is left, and the app's own key, is tried as the key of every copy; the true key does open it."""
    device = used()
    device.flush()
    data_key = device.store.file.folder.vault.open()
    copies = tmp_path / "copies"
    shutil.copytree(folder, copies)
    device.erase()
    left = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    candidates = {KEY, bytes(32), *(left[at : at + 32] for at in range(0, max(len(left) - 31, 0)))}
    assert data_key not in left
    assert data_key.hex().encode() not in left
    for copy in (path for path in copies.iterdir() if path.suffix in (".db", ".journal", ".ledger")):
        assert _opens(copy, data_key)
        assert not [key for key in candidates if _opens(copy, key)]


def _opens(path: Path, key: bytes) -> bool:
    """Whether a raw key opens an encrypted file."""
    connection = sqlcipher.connect(str(path))
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except sqlcipher.DatabaseError:
        return False
    finally:
        connection.close()
