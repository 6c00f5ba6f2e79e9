"""Same path: every module that a run, a device or a server may load is compared, and the one that differs is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palate_audit.evidence.evidence import Verdict
from palate_audit.run.path import SOURCES, same_sources
from palate_sim.provenance import auditors, loaded_from_elsewhere, run_sources

ROOTS = ("common", "client", "server", "simulations")
CHECKOUT = Path(__file__).parents[3]
CHANGED = """
import sys
from pathlib import Path
from palate_sim import provenance
from palate_sim.provenance import run_sources
assert provenance.__file__.startswith(sys.argv[1]), provenance.__file__
before = run_sources()
files = sorted(file for file in Path(sys.argv[1]).rglob("*.py") if "palate_audit" not in file.parts)
some = files[::2]
for file in some:
    with file.open("a") as text:
        text.write("# another version\\n")
provenance._of.cache_clear()
after = run_sources()
print(len(files), len(some), len(before), *sorted(name for name in after if before[name] != after[name]))
print(*sorted(".".join(f.relative_to(sys.argv[1]).with_suffix("").parts[1:]).removesuffix(".__init__") for f in some))
"""


def extract(folder: Path, about: dict[str, Any]) -> Path:
    """A run folder with nothing but the extract of a ledger."""
    from palate_core.log.signing import SigningKey
    from palate_server.ledger.ledger import Ledger

    folder.mkdir()
    with Ledger(":memory:", population="readers") as ledger:
        ledger.open_run("run-1", {"about": about})
        (folder / "ledger.json").write_bytes(ledger.extract("run-1", SigningKey.generate()))
    return folder


def test_the_sources_of_a_run_are_compared_and_what_differs_is_named(tmp_path: Path) -> None:
    here = run_sources()
    assert not any(map(auditors, here))
    same = same_sources(extract(tmp_path / "same", {SOURCES: here}))
    older = same_sources(extract(tmp_path / "older", {}))
    assert [found.verdict for found in (same, older)] == [Verdict.PASS, Verdict.UNCHECKABLE]
    assert same_sources(None).verdict is Verdict.UNCHECKABLE
    changed = ("palate_client.device", "palate_server.service.gateway", "palate_sim.run.terms")
    other = same_sources(extract(tmp_path / "other", {SOURCES: here | dict.fromkeys(changed, "00")}))
    assert other.verdict is Verdict.ALARM
    assert other.figures["differ"] == sorted(changed)
    assert all(name in other.said for name in changed)
    moved = {name: digest for name, digest in here.items() if name != changed[0]} | {"palate_client.phone": "00"}
    renamed = same_sources(extract(tmp_path / "renamed", {SOURCES: moved}))
    assert renamed.verdict is Verdict.ALARM
    assert "palate_client.phone is only where the run was made; palate_client.device is only here" in renamed.said


def test_a_change_in_any_module_shows(tmp_path: Path) -> None:
    """Every second file of a copy of all packages is changed: exactly those differ."""
    for root in ROOTS:
        ignored = shutil.ignore_patterns("__pycache__", "benchmarks", "web")
        shutil.copytree(CHECKOUT / root, tmp_path / root, ignore=ignored)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tmp_path / root) for root in ROOTS)}
    command = [sys.executable, "-c", CHANGED, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, changed = done.stdout.splitlines()
    files, some, known, *differ = first.split()
    assert int(known) == int(files) > 400
    assert int(some) == len(differ)
    assert differ == changed.split()


def test_a_module_that_was_loaded_from_elsewhere_is_an_alarm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert loaded_from_elsewhere() == []
    stray = ModuleType("palate_common.mechanism.clipping")
    stray.__file__ = str(tmp_path / "clipping.py")
    (tmp_path / "clipping.py").write_text("")
    monkeypatch.setitem(sys.modules, stray.__name__, stray)
    found = same_sources(None)
    assert found.verdict is Verdict.ALARM
    assert "palate_common.mechanism.clipping is not loaded from the files" in found.said
