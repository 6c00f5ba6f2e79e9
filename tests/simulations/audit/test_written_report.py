"""An audit is signed by its auditor: who changed it afterwards, or adds to somebody else's, is refused or found."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Finding, Section
from palate_cli.cli import run
from palate_common.records.key_file import load_key
from palate_core.errors import IntegrityError
from palate_core.log.signing import SigningKey

PART = Section("mechanism", "x", (Finding.counted("noise", 1e-300, "ε × 2"),), (), (), {"facts": {"alpha": 1e-6}})

SUM = """
import numpy as np
from palate_audit import Claim, Released

class Sum:
    name, dimension, blocks, users, repeatable = "a sum", 1024, (1024,), 64, False
    claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0,), delta=1e-6)

    def run(self, contributions, *, seed=None):
        rows = contributions.dense()
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
        return Released((rows.sum(axis=0) + np.random.default_rng().normal(0.0, 2.0, 1024),))
"""


@pytest.fixture
def signed(bench: Any, tmp_path: Path) -> Path:
    """An audit of a card, signed with a key that is made for it."""
    out = tmp_path / "audit"
    assert run(["audit", "card", str(bench.folder), "--out", str(out), "--key", str(tmp_path / "auditor")]) == 0
    return out / "audit.json"


def test_a_signed_audit_verifies_and_names_command_and_code(
    bench: Any, signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = load_key(tmp_path / "auditor").public
    for words in ([str(signed)], [str(signed.with_suffix(".html")), "--public-key", key]):
        assert run(["audit", "verify", *words]) == 0
    assert key in capsys.readouterr().out
    made = document.read(signed.read_bytes())[0].series["made"]
    assert made["command"] == f"palate audit card {bench.folder}"
    assert {"palate", "python", "environment", "created"} <= made.keys()
    page = signed.with_suffix(".html").read_text()
    assert f"<code>{key}</code>" in page
    assert made["command"] in page


def test_each_change_is_found(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = signed.read_bytes(), signed.with_suffix(".html")
    document_ = json.loads(data)
    document_["sections"][0]["findings"][0]["said"] = "all is well"
    signed.write_bytes(json.dumps(document_, indent=1, ensure_ascii=False).encode() + b"\n")
    assert run(["audit", "verify", str(signed)]) == 4
    signed.write_bytes(data.replace(b'"verdict": "pass"', b'"verdict": "alarm","verdict": "pass"', 1))
    assert run(["audit", "verify", str(signed)]) == 4
    bare = {name: value for name, value in json.loads(data).items() if name != "signature"}
    signed.write_bytes(json.dumps(bare, indent=1, ensure_ascii=False).encode() + b"\n")
    assert run(["audit", "verify", str(signed)]) == 4
    assert "unsigned" in capsys.readouterr().err
    signed.write_bytes(data)
    page.write_text(page.read_text().replace("not checkable", "pass"))
    assert run(["audit", "verify", str(signed)]) == 4
    page.unlink()
    assert run(["audit", "verify", str(signed)]) == 0
    assert run(["audit", "verify", str(signed), "--public-key", "ab" * 32]) == 4
    for place in (signed.with_name("none.json"), signed.parent):
        assert run(["audit", "verify", str(place)]) == 2


def test_nobody_signs_the_parts_of_somebody_else(
    bench: Any, signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = ["audit", "card", str(bench.folder), "--out", str(signed.parent)]
    assert run([*card, "--key", str(tmp_path / "other")]) == 2
    assert "must be the one that signed" in capsys.readouterr().err
    assert run([*card, "--key", str(tmp_path / "auditor")]) == 0
    assert run(card) == 0  # without a key all of it is unsigned again, and says so
    assert document.signer(signed.read_bytes()) is None
    assert "This report is unsigned" in signed.with_suffix(".html").read_text()
    assert run([*card, "--key", str(tmp_path / "auditor")]) == 2
    assert run(["audit", "card", str(bench.folder), "--key", str(tmp_path / "auditor")]) == 2


def test_what_is_signed_reads_back() -> None:
    key = SigningKey.generate()
    data = document.write([PART], page=b"page", key=key)
    assert document.read(data) == (PART,)
    assert document.signer(data) == key.public
    assert document.signer(document.write([PART])) is None
    for changed in (data.replace(b"alpha", b"omega"), data + b"\n", data.replace(key.public[:8].encode(), b"00000000")):
        with pytest.raises(IntegrityError):
            document.signer(changed)


def test_the_command_repeats_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "a_sum_of_rows", raising=False)
    Path("a_sum_of_rows.py").write_text(SUM)
    assert run(["audit", "mechanism", "--target", "a_sum_of_rows:Sum", "--out", "audit"]) == 0
    made = document.read(Path("audit/audit.json").read_bytes())[0].series["made"]
    assert re.fullmatch(r"palate audit mechanism --target a_sum_of_rows:Sum --seed \d+", made["command"])
