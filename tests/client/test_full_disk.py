"""On a full disk the user still has their say: erase and revoke hold, and the store opens and can be taken along."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import palate
from palate import Device, Tracked
from palate_client.store import folder as folders
from palate_client.store import key_file
from palate_common.rounds.wire import REFUSED
from palate_core.errors import ErasedError, PalateError

Open = Callable[..., Device]
KEY = bytes(range(32))


class Disk:
    """A disk that can be full: a small one of its own, or, where nobody may mount one, a limit on what is written."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *, mount: bool) -> None:
        self.path, self._patch = path, monkeypatch
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
        self.mounted = mount and subprocess.run(command, capture_output=True, check=False).returncode == 0

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not one more byte."""
        if self.mounted:
            with (self.path / "ballast").open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            assert shutil.disk_usage(self.path).free == 0
            yield
            return
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with self._patch.context() as patched:
            patched.setattr(folders.StoreFolder, "_room", lambda _: 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))  # Python ignores SIGXFSZ
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture(params=["mounted", "limited"])
def disk(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", monkeypatch, mount=request.param == "mounted")
    yield made
    made.close()


@pytest.fixture
def folder(disk: Disk) -> Path:
    return disk.path / "palate"


def test_erase_needs_no_room_and_every_handle_finds_it_erased(open_device: Open, disk: Disk, folder: Path) -> None:
    device, other = open_device(), open_device()
    assert device.track("view", "a")
    with disk.full():
        while device.track_many([palate.Event("view", "b", props={"x": "y" * 4000})] * 9)[0] is not Tracked.FAILED:
            pass
        device.erase()
        assert [path.name for path in folder.iterdir()] == ["lock"]
        assert [each.track("view", "c") for each in (device, other)] == [Tracked.NO_CONSENT] * 2


def test_a_revocation_that_cannot_be_written_holds_here_elsewhere_and_at_the_next_opening(
    open_device: Open, disk: Disk, folder: Path
) -> None:
    device, other = open_device(), open_device()
    (reserve,) = folder.glob("*.reserve")
    reserve.unlink()  # it was needed before
    with disk.full():
        with pytest.raises(PalateError, match=r"\A[^\n]+\Z"):
            device.consent.revoke("store")
        for each in (device, other):
            assert not each.consent.get("store")
            assert each.track("view", "a") is Tracked.NO_CONSENT
    (disk.path / "ballast").unlink(missing_ok=True)
    for each in (device, other):
        assert not each.privacy_report().consents["store"]
    device.close()
    later = open_device(consent=False)
    assert not later.consent.get("store")
    later.consent.grant("store")
    assert [each.consent.get("store") for each in (later, other)] == [True, True]


def test_with_the_reserve_a_full_disk_takes_a_decision_an_opening_and_an_export(
    open_device: Open, disk: Disk, tmp_path: Path
) -> None:
    if not disk.mounted:
        return  # what a limit on files forbids, no reserve gives
    device = open_device()
    device.track("view", "a")
    with disk.full():
        assert not device.consent.revoke("store").granted
    device.close()
    (disk.path / "ballast").unlink()
    open_device(consent=False).close()  # lays in a new one
    with disk.full():
        again = open_device(consent=False)
        assert [decision.granted for decision in again.consent.history("store")] == [True, False]
        assert again.export(tmp_path / "elsewhere.jsonl") > 3


def test_a_store_that_cannot_be_made_is_said_in_one_line(open_device: Open, disk: Disk, folder: Path) -> None:
    folder.mkdir()
    with disk.full(), pytest.raises(PalateError, match=r"\Athe store [^\n]+\Z"):
        open_device()
    (disk.path / "ballast").unlink(missing_ok=True)
    assert open_device().track("view", "a")


def test_a_refusal_that_cannot_be_noted_is_sent_all_the_same(open_device: Open, disk: Disk) -> None:
    service = palate.Service(public_key="ab" * 32, population="readers")
    device = open_device(service=service)
    device.consent.grant("train")
    (reserve,) = disk.path.glob("*/*.reserve")
    reserve.unlink()
    with disk.full():
        assert device.contribute(b"{}", b"") == REFUSED
        assert device.refusal
    (disk.path / "ballast").unlink(missing_ok=True)
    assert device.privacy_report().refusals == ()


def test_the_reserve_is_given_up_when_the_disk_is_full_and_laid_in_again(
    open_device: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device()
    (reserve,) = folder.glob("*.reserve")
    assert reserve.stat().st_size == folders.RESERVE
    with monkeypatch.context() as patched:
        patched.setattr(folders.StoreFolder, "_room", lambda _: folders.RESERVE - 1)
        device.consent.revoke("train")
        assert not reserve.exists()
        device.close()
        open_device().close()
        assert not reserve.exists()
    open_device().close()
    assert reserve.exists()


def test_an_erasing_that_fails_leaves_the_store_as_it_was_and_says_so(
    open_device: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device()
    device.track("view", "a")

    def broken(*_: Any) -> None:
        raise PalateError("the store's key must be destroyed, got a broken disk: nothing was erased")

    with monkeypatch.context() as patched:
        patched.setattr("palate_client.store.vault.bury", broken)
        with pytest.raises(PalateError, match="nothing was erased"):
            device.erase()
    assert device.track("view", "b") is Tracked.STORED
    assert [event.item for event in device.store.events()] == ["a", "b"]
    device.erase()
    with pytest.raises(ErasedError):
        device.consent.get("store")


def test_a_key_that_cannot_be_written_over_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.json"
    file.write_bytes(b"x" * 300)

    def refuse(_: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(key_file.os, "fsync", refuse)
    key_file.bury(file, "ab" * 16)
    assert not file.exists()
