"""Export and import: all of the user's data out, and in again; a bad line harms no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate import Device, Event
from palate_client.portability import ImportReport, Problem
from palate_core.errors import InputError

KEY, NOW = bytes(32), 1_790_000_000.0
Open = Callable[..., Device]


def write(path: Path, *lines: str | bytes | dict[str, Any]) -> Path:
    raw = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in raw))
    return path


def test_an_export_holds_everything_and_fills_another_device(open_device: Open, tmp_path: Path, clock: Any) -> None:
    device = open_device()
    device.consent.grant("train", version="7")
    device.track("rate", "buch-ä\n", value=4, source="offline", id="till-1", props={"text": "schön"})
    clock.now += 5
    device.track("view", "book-8")
    file = tmp_path / "export.jsonl"
    assert device.export(file) == 5
    assert file.stat().st_mode & 0o777 == 0o600
    header, *lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert header == {"palate": "export", "format": 1, "app": "shelf", "time": clock.now}
    assert [line["type"] for line in lines] == ["consent", "consent", "event", "event"]
    assert lines[1] == {"type": "consent", "purpose": "train", "granted": True, "version": "7", "time": clock.now - 5}
    assert lines[2]["props"] == {"text": "schön"}
    other = open_device(path=tmp_path / "other", key=KEY)
    assert other.import_jsonl(file) == ImportReport(2, 0, 0, 0, 3, ())
    assert list(other.store.events()) == list(device.store.events())
    assert not other.consent.get("train")
    assert other.import_jsonl(file) == ImportReport(0, 2, 0, 0, 3, ())
    assert device.import_jsonl(file) == ImportReport(0, 2, 0, 0, 3, ())


def test_an_export_holds_what_only_a_newer_version_can_read(open_device: Open, tmp_path: Path) -> None:
    device = open_device()
    device.track_many([Event("view", "a", id="1"), Event("like", "b", id="2", props={"x": 1})])
    with device.store.transaction(write=True) as connection:
        connection.execute("UPDATE events SET kind = 'No kind' WHERE item = 'b'")
    assert [event.item for event in device.store.events()] == ["a"]
    device.export(tmp_path / "export.jsonl")
    last = json.loads((tmp_path / "export.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["kind"], last["item"], last["props"]) == ("unread", "No kind", "b", '{"x":1}')
    assert device.import_jsonl(tmp_path / "export.jsonl").problems == ()


def test_every_bad_line_is_named_and_no_good_one_is_lost(device: Device, tmp_path: Path) -> None:
    file = write(
        tmp_path / "mixed.jsonl",
        b"\xef\xbb\xbf" + b'{"kind": "view", "item": "a", "time": "2026-01-31"}',
        "",
        "not JSON",
        {"kind": "purchase", "item": "b", "time": NOW - 5, "value": 2},
        {"kind": "like", "item": "too old", "time": 5},
        {"kind": "stare", "item": "c"},
        b'{"kind": "view", "item": "\xff"}',
        "[1]",
        '{"kind": "rate", "item": "d", "value": NaN}',
        {"kind": "view", "item": "e", "props": {"text": "x" * 70_000}},
        "[" * 50_000,
        {"type": "receipt", "item": "f"},
        {"palate": "export", "format": 9},
        {"kind": "view", "item": "g", "id": "1"},
        {"kind": "view", "item": "h", "id": "1"},
        {"kind": "view", "item": "last"},
    )
    report = device.import_jsonl(file)
    assert (report.stored, report.duplicates, report.too_old, report.not_stored, report.skipped) == (4, 1, 1, 0, 0)
    assert [problem.line for problem in report.problems] == [3, 6, 7, 8, 9, 10, 11, 12, 13]
    assert all(" must be " in problem.reason and "\n" not in problem.reason for problem in report.problems)
    assert report.problems[1] == Problem(6, report.problems[1].reason)
    assert [event.item for event in device.store.events()] == ["a", "b", "g", "last"]


def test_receipts_without_ids_are_stored_once_however_often_they_are_read(device: Device, tmp_path: Path) -> None:
    lines = [{"kind": "purchase", "item": f"i{n % 7}", "time": NOW - n} for n in range(2500)]
    file = write(tmp_path / "receipts.jsonl", *lines, *lines[:10])
    assert device.import_jsonl(file) == ImportReport(2500, 10, 0, 0, 0, ())
    assert device.import_jsonl(str(file)) == ImportReport(0, 2510, 0, 0, 0, ())
    assert len(list(device.store.events())) == 2500


def test_without_consent_nothing_is_imported(open_device: Open, tmp_path: Path) -> None:
    device = open_device(consent=False)
    file = write(tmp_path / "a.jsonl", {"kind": "view", "item": "a"}, {"kind": "view", "item": "b"}, "bad")
    report = device.import_jsonl(file)
    assert (report.stored, report.not_stored, len(report.problems)) == (0, 2, 1)
    assert not list(device.store.events())


def test_an_import_does_not_use_up_the_day(open_device: Open, tmp_path: Path) -> None:
    from palate import Limits

    device = open_device(limits=Limits(max_per_day=3))
    file = write(tmp_path / "a.jsonl", *({"kind": "view", "item": f"i{n}"} for n in range(10)))
    assert device.import_jsonl(file).stored == 10
    assert device.track("view", "mine")


def test_what_an_import_takes_is_there_the_next_day_and_what_is_too_old_is_said_at_once(
    open_device: Open, tmp_path: Path, clock: Any
) -> None:
    device = open_device()
    lines = [{"kind": "view", "item": f"i{n}", "time": clock.now - n * 86_400} for n in range(0, 1500, 3)]
    report = device.import_jsonl(write(tmp_path / "history.jsonl", *lines))
    assert (report.stored, report.too_old) == (244, 256)
    device.close()
    clock.now += 3600
    assert len(list(open_device().store.events())) == 244


def test_a_number_larger_than_any_float_costs_its_line_alone(device: Device, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"kind": "view", "item": "a"}, {"kind": "view", "item": "b", "value": 10**400})
    report = device.import_jsonl(file)
    assert (report.stored, [problem.line for problem in report.problems]) == (1, [2])


def test_a_file_of_something_else_is_left_after_a_thousand_lines(device: Device, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"kind": "view", "item": "a"}, *["x"] * 1001)
    with pytest.raises(InputError, match=r"\A`path` must be a file of events, got more than 1000 [^\n]* is line 2: "):
        device.import_jsonl(file)
    assert [event.item for event in device.store.events()] == ["a"]


def test_files_that_cannot_be_read_or_written(device: Device, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\A`path` must be a readable file, got [^\n]*\Z"):
        device.import_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"\A`path` must be a file that can be written, got [^\n]*\Z"):
        device.export(tmp_path / "no" / "folder.jsonl")


def test_a_large_store_is_exported_whole(device: Device, tmp_path: Path) -> None:
    device.track_many([Event("view", f"i{n}") for n in range(3001)])
    assert device.export(tmp_path / "all.jsonl") == 3001 + 2
