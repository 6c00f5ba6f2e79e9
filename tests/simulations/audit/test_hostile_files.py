"""Files of a folder are a stranger's: whatever is in them is a line or a finding, never a traceback, and no trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence.evidence import Verdict
from palate_audit.run.completeness import completeness
from palate_audit.run.extract import read_extract
from palate_audit.run.ledger import records_of
from palate_audit.run.receipts import read_receipts
from palate_cli.cli import run
from palate_core.errors import InputError


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("size", "1e999"), ("size", "NaN"), ("population", chr(34) + chr(92) + "ud800" + chr(34)), ("entries", "[1]")],
)
def test_an_extract_of_other_values_is_no_extract(bench: Any, name: str, spelled: str) -> None:
    text = (bench.folder / "ledger.json").read_text()
    payload = json.loads(text)["payload"]
    text = json.dumps({**json.loads(text), "payload": {**payload, name: "HERE"}}).replace('"HERE"', spelled)
    with pytest.raises(InputError, match=r"\Aledger.json must be a ledger extract"):
        read_extract(text.encode())


def test_a_receipt_of_no_size_is_no_receipt(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text('{"type": "model", "population": "readers", "version": 1e999, "root": "aa"}')
    with pytest.raises(InputError, match="--receipts"):
        read_receipts(path, population="readers")


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", []), ("epsilon", 1e308), ("delta", "x"), ("exclusions", 5), ("population", -1)]
)
def test_a_card_that_cannot_be_shown_is_an_alarm(
    bench: Any, capsys: pytest.CaptureFixture[str], name: str, value: Any
) -> None:
    path = bench.folder / "privacy_card.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), name: value}))
    assert run(["audit", "card", str(bench.folder)]) == 4
    assert "can't be shown" in capsys.readouterr().out


def test_the_operators_key_counts_where_the_extract_is_gone(bench: Any) -> None:
    key = json.loads((bench.folder / "ledger.json").read_bytes())["public_key"]
    (bench.folder / "ledger.json").unlink()
    records = records_of(bench.folder, ledger=bench.ledger)
    for pinned, expected in ((key, Verdict.PASS), ("ab" * 32, Verdict.ALARM)):
        found = {each.test: each for each in completeness(records, public_key=pinned)}
        assert found["G published model"].verdict is expected


@pytest.mark.parametrize("data", [b"{}", b"SQLite format 3\x00 and no more", b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_ledger_of_devices_is_a_finding_and_ends_nothing(bench: Any, finding: Any, data: bytes) -> None:
    (bench.folder / "devices.db").write_bytes(data)
    section = bench.audit()
    assert [each.test for each in section.alarms] == ["G signed files", "G device ledger"]
    assert finding(section, "G sealed releases").verdict is Verdict.PASS
