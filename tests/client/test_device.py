"""The device as a guest: light, silent, shared, and never in its host's way."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palate
from palate import Device

KEY = bytes(range(32))
HEAVY = ("flwr", "torch", "scipy", "pandas", "pydantic", "keyring", "httpx", "socket", "ssl", "asyncio")
HEAVY += (
    "palate_client.recommend.recommender",
    "palate_client.rounds.report",
    "palate_client.online.sync",
    "palate_common.models.model",
)
Open = Callable[..., Device]


def run(code: str, *arguments: Any, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A host of its own."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def stored(folder: Path) -> list[str]:
    """The ids in a store."""
    with palate.open(folder, app="shelf", key=KEY) as device:
        return [event.id for event in device.store.events()]


LIGHT = f"""
import sys, time
begun = time.process_time()
import palate
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)))
device.consent.grant("store")
device.track("view", "a")
device.interests(["a"]).interactions()
print(time.process_time() - begun, *[name for name in {HEAVY} if name in sys.modules])
"""


def test_opening_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    seconds = []
    for place in range(3):
        done = run(LIGHT, tmp_path / str(place))
        spent, *loaded = done.stdout.split()
        assert (loaded, done.stderr) == ([], "")
        seconds.append(float(spent))
    assert min(seconds) < 0.5


NO_NETWORK = """
import sys
forbidden = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.exec")
def watch(event, arguments):
    if event in forbidden:
        raise SystemExit(f"asked for {event}")
sys.addaudithook(watch)
import palate
with palate.open(sys.argv[1], app="shelf", key=bytes(range(32))) as device:
    for purpose in ("store", "train", "analytics", "messaging", "panel"):
        device.consent.grant(purpose)
    device.track("view", "a")
    device.export(sys.argv[1] + ".jsonl")
    device.import_jsonl(sys.argv[1] + ".jsonl")
    device.flush()
    device.erase()
print("done")
"""


def test_nothing_here_speaks_to_a_network(tmp_path: Path) -> None:
    done = run(NO_NETWORK, tmp_path / "a")
    assert (done.stdout, done.stderr) == ("done\n", "")


EXIT = """
import sys, threading, palate
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)))
device.consent.grant("store")
threading.Thread(target=lambda: [device.track("view", f"t{n}", id=f"t{n}") for n in range(10**9)], daemon=True).start()
for n in range(50):
    device.track("view", f"i{n}", id=f"i{n}")
print(threading.active_count())
if sys.argv[2] == "error":
    raise KeyError("the host's own")
"""


@pytest.mark.parametrize("way", ["end", "error"])
def test_the_hosts_exit_is_never_held_up_and_loses_nothing(tmp_path: Path, way: str) -> None:
    begun = time.monotonic()
    done = run(EXIT, tmp_path, way)
    assert time.monotonic() - begun < 20
    assert done.stdout == "2\n"  # the host's two threads, none of ours
    assert done.returncode == (way == "error")
    assert (done.stderr == "") == (way == "end")
    assert {f"i{n}" for n in range(50)} <= set(stored(tmp_path))


def test_a_forked_child_of_a_store_nobody_uses_leaves_the_parent_alone(device: Device) -> None:
    assert device.track("view", "a")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert device.track("view", "b")
    assert len(list(device.store.events())) == 2


KILLED = """
import sys, palate
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)))
device.consent.grant("store")
for n in range(10**9):
    if device.track("view", f"i{n}", id=str(n)):
        print(n, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    host = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    for line in host.stdout:
        if int(line) >= 300:
            os.kill(host.pid, signal.SIGKILL)
            break
    acknowledged = 301 + len(host.stdout.read().splitlines())
    host.wait()
    host.stdout.close()
    assert len(stored(tmp_path)) in (acknowledged, acknowledged + 1)  # the last may not have been told


FULL = """
import resource, signal, sys, palate
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)))
device.consent.grant("store")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
outcomes = [device.track("view", f"i{n}", id=str(n), props={"text": "x" * 500}).name for n in range(3000)]
print(outcomes.index("FAILED"), *sorted(set(outcomes)), device.problem != "")
print(*[n for n, outcome in enumerate(outcomes) if outcome == "STORED"])
"""


def test_a_full_disk_harms_neither_the_host_nor_what_is_stored(tmp_path: Path) -> None:
    done = run(FULL, tmp_path)
    assert done.returncode == 0, done.stderr
    said, kept = done.stdout.splitlines()
    first, *rest = said.split()
    assert int(first) > 10
    assert rest == ["FAILED", "STORED", "True"]
    assert len(done.stderr.splitlines()) == 1  # the log, once
    assert stored(tmp_path) == kept.split()
    with palate.open(tmp_path, app="shelf", key=KEY) as device:  # the disk has room again
        assert device.track("view", "later", id="later")
        with device.store.transaction() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA cipher_integrity_check").fetchall() == []


NEW = """
import sys, palate
for n in range(10):
    with palate.open(f"{sys.argv[1]}/{n}", app="shelf", key=bytes(range(32))) as device:
        device.consent.grant("store")
        assert device.track("view", "a", id=sys.argv[2])
"""


def test_processes_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", NEW, str(tmp_path)]
    workers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert (worker.returncode, errors) == (0, "")
    for n in range(10):
        assert sorted(stored(tmp_path / str(n))) == ["a", "b", "c"]
        assert len(list((tmp_path / str(n)).glob("*.db"))) == 1


def test_a_closed_device_costs_no_memory(device: Device) -> None:
    device.close()
    ends = []
    for _ in range(2):
        with pytest.raises(palate.ClosedError) as caught:
            device.flush()
        ends.append(caught.value)
    assert ends[0] is not ends[1]


@pytest.mark.parametrize("app", ["", "x" * 101, "a\nb", 7])
def test_an_app_has_a_name(tmp_path: Path, app: Any) -> None:
    with pytest.raises(palate.InputError, match=r"\A`app` must be a name of 1 to 100 printable characters, got "):
        palate.open(tmp_path, app=app, key=KEY)


def test_a_preset_is_named_or_ones_own(tmp_path: Path) -> None:
    with pytest.raises(palate.InputError, match="a preset of weights must be one of"):
        palate.open(tmp_path, app="a", key=KEY, preset="games")
    own = palate.Weighting({"view": 1.0}, half_life_days=3)
    with palate.open(tmp_path, app="a", key=KEY, preset=own) as device:
        assert device.weighting is own


def test_an_apps_mistake_is_raised_with_and_without_consent(open_device: Open) -> None:
    device = open_device(consent=False)
    for _ in range(2):
        with pytest.raises(palate.InputError, match="`kind` must be one of"):
            device.track("stare", "a")  # type: ignore[arg-type] # the mistake
        device.consent.grant("store")


def test_a_device_shows_its_app_and_state_and_is_no_thing_to_copy(open_device: Open, folder: Path) -> None:
    device = open_device()
    device.track("view", "secret-item")
    assert repr(device) == "Device(app='shelf', open)"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(palate.InputError, match=r"\Aa device must be opened where it is used, got [^\n]*\Z"):
            attempt(device)
    device.close()
    assert repr(device) == "Device(app='shelf', closed)"
    palate.erase(folder)
    assert "<pre>Privacy report of shelf" in open_device(consent=False).privacy_report()._repr_html_()


def test_a_type_is_imported_when_it_is_asked_for() -> None:
    assert set(palate._LATER) < set(palate.__all__)
    assert set(palate._LATER) < set(dir(palate))
    for name in palate._LATER:
        assert getattr(palate, name).__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        palate.Nonsense  # type: ignore[attr-defined] # noqa: B018 # the mistake
