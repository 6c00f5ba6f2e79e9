"""What an audit leaves with `--out`: how it was made, and what to sign."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from palate_audit.evidence import document
from palate_cli.cli import run


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
