"""What an audit leaves with `--out`: how it was made, and what to sign."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence import document
from palate_cli.cli import run

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


def test_a_report_names_command_and_code_and_its_page(bench: Any, tmp_path: Path) -> None:
    """Whoever signs `audit.json` signs the page, too."""
    out = tmp_path / "audit"
    assert run(["audit", "card", str(bench.folder), "--out", str(out)]) == 0
    data, page = (out / "audit.json").read_bytes(), (out / "audit.html").read_bytes()
    made = document.read(data)[0].series["made"]
    assert made["command"] == f"palate audit card {bench.folder}"
    assert {"palate", "python", "environment", "created"} <= made.keys()
    assert json.loads(data)["page"] == hashlib.sha256(page).hexdigest()
    assert made["command"] in page.decode()
    assert "unless the <code>.json</code> file beside it" in page.decode()


def test_the_command_repeats_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "a_sum_of_rows", raising=False)
    Path("a_sum_of_rows.py").write_text(SUM)
    assert run(["audit", "mechanism", "--target", "a_sum_of_rows:Sum", "--out", "audit"]) == 0
    made = document.read(Path("audit/audit.json").read_bytes())[0].series["made"]
    assert re.fullmatch(r"palate audit mechanism --target a_sum_of_rows:Sum --seed \d+", made["command"])
