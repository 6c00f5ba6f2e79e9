"""The log that a user shares openly: nothing without consent, nothing that isn't said, nothing that Palate sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import palate
from palate import Device, RefusedError
from palate_client import panel
from palate_common.algorithms.parts.links import panel_size
from palate_core.errors import ErasedError, PalateError
from palate_sim.panel.panel import panel_of

DAY = 86400.0


@pytest.fixture
def device(open_device: Callable[..., Device]) -> Device:
    """A device with a model, and a user with a taste, who hasn't agreed to share it."""
    device = open_device(service=palate.sample().service)
    device.update_model(palate.sample().folder)
    now = device.store.clock()
    for kind, item, age in (
        ("like", "book-7", 9),
        ("view", "book-7", 3),
        ("like", "book-15", 2),
        ("dismiss", "book-9", 1),
        ("like", "of my own", 1),
    ):
        device.track(kind, item, time=now - age * DAY, props={"note": "secret"})
    return device


def test_without_consent_nothing_is_read_or_handed_over(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "Interests", lambda *_: pytest.fail("read"))
    for purpose in ("train", "analytics", "messaging"):
        device.consent.grant(purpose)  # type: ignore[arg-type] # names of purposes
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"\Athe user has not agreed, or no longer agrees, to share their log"):
            device.open_log()
        device.consent.grant("panel")
        device.consent.revoke("panel")
    assert device.privacy_report().opened == ()


def test_items_of_the_catalogue_each_once_with_the_day_of_the_last_time(device: Device) -> None:
    device.consent.grant("panel", version="2026-01")
    log = device.open_log()
    assert dict(zip(log.items, log.days, strict=True)) == {"book-7": "2026-09-18", "book-15": "2026-09-19"}
    assert log.csv().splitlines()[0] == "item_id,timestamp"
    assert sorted(log.csv().splitlines()[1:]) == ["book-15,2026-09-19", "book-7,2026-09-18"]
    said = json.dumps(log.as_dict())
    assert json.loads(said)["version"] == "2026-01"
    for secret in ("secret", "of my own", "book-9", "like", "view"):
        assert secret not in said + log.csv()


def test_a_taste_that_was_reset_is_not_shared(device: Device) -> None:
    device.consent.grant("panel")
    device.reset_taste()
    assert device.open_log().items == ()
    assert device.open_log().csv() == "item_id,timestamp\n"


def test_an_unknown_day_is_left_out(device: Device) -> None:
    device.consent.grant("panel")
    assert panel._days([float("nan"), 10.0, 1_790_000_000.0, 1_800_000_000.0], 1_790_000_001.0) == (
        "", "", "2026-09-21", "",
    )  # fmt: skip


def test_each_time_is_in_the_report_and_in_the_export(device: Device, clock: Any, tmp_path: Path) -> None:
    device.consent.grant("panel", version="2026-01")
    device.open_log()
    clock.now += DAY
    device.open_log()
    report = device.privacy_report()
    assert [(each.items, each.version) for each in report.opened] == [(2, "2026-01")] * 2
    assert report.as_dict()["opened"][1]["time"] == clock.now
    assert report.consents["panel"]
    assert "Shared openly: 2 time(s), handed to the app, without any protection" in str(report)
    assert "Left this device: 0 message(s)" in str(report), "Palate sent nothing"
    device.export(tmp_path / "mine.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    assert sum(line.get("type") == "opened" for line in lines) == 2
    assert sum(line.get("purpose") == "panel" for line in lines) == 1
    again = device.import_jsonl(tmp_path / "mine.jsonl")
    assert again.problems == ()
    assert again.stored == 0


def test_a_decision_in_the_middle_holds(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.consent.grant("panel")
    real = panel.Interests

    def revoking(*args: Any) -> Any:
        device.consent.revoke("panel")
        return real(*args)

    monkeypatch.setattr(panel, "Interests", revoking)
    with pytest.raises(RefusedError, match="no longer agrees"):
        device.open_log()


def test_what_cannot_be_recorded_is_not_handed_over(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.consent.grant("panel")

    def full(*_: Any) -> None:
        raise PalateError("the disk is full")

    monkeypatch.setattr(panel.Journal, "open_log", full)
    with pytest.raises(PalateError, match="the disk is full"):
        device.open_log()


def test_without_a_model_no_item_is_known_to_be_public(open_device: Callable[..., Device]) -> None:
    device = open_device()
    device.consent.grant("panel")
    with pytest.raises(RefusedError, match="no model yet"):
        device.open_log()


def test_agreeing_to_it_takes_no_device_online(device: Device) -> None:
    device.consent.grant("panel")
    assert device.sync(seconds=1).ended == "no consent"


def test_erasing_erases_it(device: Device) -> None:
    device.consent.grant("panel")
    device.open_log()
    device.erase()
    with pytest.raises(ErasedError):
        device.open_log()


def test_the_words_say_what_whom_and_what_stays() -> None:
    said = " ".join(palate.OpenLog.WORDS.format(app="Bookshop").split())
    for words in (
        "Bookshop makes public", "anybody", "copy it", "recognise you", "off unless you turn it on", "at any time",
        "can't be called back", "leaves you out of its next panel", "does not protect it", "doesn't change",
    ):  # fmt: skip
        assert words in said, words


def test_a_panel_is_made_of_what_devices_hand_over(device: Device, tmp_path: Path) -> None:
    device.consent.grant("panel")
    model = device.models.current()
    assert model is not None
    logs = []
    for person in range(3):
        (tmp_path / "one.csv").write_text(device.open_log().csv())
        logs.append(pd.read_csv(tmp_path / "one.csv").assign(user_id=person))
    pd.concat(logs).to_csv(tmp_path / "open.csv", index=False)
    assert panel_size(panel_of(str(tmp_path / "open.csv"), model.items, "LOG").inputs) == 3
