"""Consent: denied by default, dated, versioned, and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate import Device, Tracked
from palate_client.consent import PURPOSES, PUT_BACK, REMAINS, Decision
from palate_core.errors import InputError, LockedError, PalateError


def test_everything_is_denied_until_granted(open_device: Callable[..., Device]) -> None:
    device = open_device(consent=False)
    assert [device.consent.get(purpose) for purpose in PURPOSES] == [False] * 5
    assert device.track("view", "a") is Tracked.NO_CONSENT
    assert not list(device.store.events())
    device.consent.grant("train")
    assert [device.consent.get(purpose) for purpose in PURPOSES] == [False, True, False, False, False]
    assert device.track("view", "a") is Tracked.NO_CONSENT


def test_decisions_are_dated_versioned_and_kept(open_device: Callable[..., Device], clock: Any) -> None:
    device, start = open_device(consent=False), clock.now
    granted = device.consent.grant("store", version="2026-01")
    clock.now += 10
    revoked = device.consent.revoke("store", version="2026-02")
    assert granted == Decision("store", True, "2026-01", start)
    assert revoked == Decision("store", False, "2026-02", start + 10)
    device.consent.grant("analytics")
    device.close()
    device = open_device(consent=False)
    assert device.consent.history("store") == (granted, revoked)
    assert [decision.purpose for decision in device.consent.history()] == ["store", "store", "analytics"]
    assert not device.consent.get("store")


@pytest.mark.parametrize("writable", [True, False])
def test_an_older_file_of_events_brings_no_revoked_consent_back(
    open_device: Callable[..., Device], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    with open_device() as device:
        device.consent.grant("train")
    (events,) = folder.glob("*.db")
    shutil.copy(events, tmp_path / "old")
    with open_device() as device:
        device.consent.revoke("train")
    for _ in range(2):
        shutil.copy(tmp_path / "old", events)
        with monkeypatch.context() as patched:
            if not writable:  # a disk that takes nothing
                patched.setattr("palate_client.consent._DECIDE", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)")
            device = open_device(consent=False)
            assert [device.consent.get(purpose) for purpose in PURPOSES] == [False] * 5
            assert [each.version for each in device.consent.history()][2:] == [PUT_BACK] * 5 * writable
            device.close()
    device = open_device(consent=False)
    assert device.consent.grant("train").granted  # asked again
    device.close()
    assert [purpose for purpose in PURPOSES if open_device(consent=False).consent.get(purpose)] == ["train"]


def test_a_decision_that_the_ledger_lacks_is_told_to_it_at_the_next_opening(
    open_device: Callable[..., Device], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_device() as device:
        device.consent.grant("train")
    (events,) = folder.glob("*.db")
    shutil.copy(events, tmp_path / "old")

    def full(*_: object) -> None:
        raise PalateError("the disk is full")

    with open_device() as device, monkeypatch.context() as patched:
        patched.setattr("palate_client.consent.know_decisions", full)
        device.consent.revoke("train")
    open_device().close()
    shutil.copy(tmp_path / "old", events)
    with open_device(consent=False) as device:
        assert not device.consent.get("train")


def test_a_ledger_that_is_kept_locked_opens_nothing(
    open_device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ledger knows may deny what the events' file says."""
    open_device().close()

    def held(*_: object) -> int:
        raise LockedError("another process held it")

    with monkeypatch.context() as patched:
        patched.setattr("palate_client.consent.known_decisions", held)
        with pytest.raises(LockedError):
            open_device()
    assert open_device(consent=False).consent.get("store")


def test_revoking_store_stops_recording_and_keeps_what_is_there(device: Device) -> None:
    device.track("view", "a")
    device.consent.revoke("store")
    assert device.track("view", "b") is Tracked.NO_CONSENT
    assert [event.item for event in device.store.events()] == ["a"]
    device.consent.grant("store")
    assert device.track("view", "c") is Tracked.STORED


@pytest.mark.parametrize("purpose", PURPOSES)
def test_what_a_revocation_cannot_undo_is_said(device: Device, purpose: Any) -> None:
    assert device.consent.grant(purpose).remains == ""
    assert device.consent.revoke(purpose).remains == REMAINS[purpose] != ""


@pytest.mark.parametrize("name", ["get", "grant", "revoke", "history"])
def test_other_purposes_are_refused(device: Device, name: str) -> None:
    with pytest.raises(InputError, match=r"\A`purpose` must be one of store, train, .*, got 'sell'\Z"):
        getattr(device.consent, name)("sell")


@pytest.mark.parametrize("version", ["", "x" * 201, 7])
def test_a_version_is_text(device: Device, version: Any) -> None:
    with pytest.raises(InputError, match="`version` must be text"):
        device.consent.grant("train", version=version)
