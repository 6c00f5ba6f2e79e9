"""An audit reads: it writes nothing, locks nothing, makes no `-wal`, asks no network; also while a ledger is in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence.evidence import Verdict
from palate_audit.run.ledger import parse_head
from palate_audit.run.live import snapshot
from palate_core.errors import InputError
from palate_server.ledger.ledger import Ledger

WATCHED = """
import json, os, sys
root, commands, noted = sys.argv[1], json.loads(sys.argv[2]), []
INSIDE = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
          "os.utime", "sqlite3.connect"}
ANYWHERE = {"socket.connect", "socket.getaddrinfo", "fcntl.flock", "fcntl.lockf"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, values):
    if event != "open" and event not in INSIDE | ANYWHERE:
        return
    inside = any(root in os.fsdecode(v) for v in values if isinstance(v, (str, bytes)))
    writing = event in INSIDE or (event == "open" and isinstance(values[2], int) and values[2] & WRITING)
    if event in ANYWHERE or (inside and writing):
        noted.append([event, *map(str, values)])
sys.addaudithook(watch)
from palate_cli.cli import run
codes = [run(words) for words in commands]
print(json.dumps([codes, noted]), file=sys.stderr)
"""


def state(root: Path) -> dict[str, Any]:
    """Every name below a folder, its bytes and its times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        facts = path.stat()
        found[str(path)] = (facts.st_mtime_ns, facts.st_mode, None if path.is_dir() else path.read_bytes())
    return found


def test_nothing_is_written_opened_for_writing_locked_or_asked_of_a_network(bench: Any) -> None:
    before, folder = state(bench.root), str(bench.folder)
    commands = [["audit", "card", folder], ["audit", "ledger", folder, "--ledger", str(bench.ledger)]]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(bench.root), json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    codes, noted = json.loads(done.stderr.splitlines()[-1])
    assert (codes, noted) == ([0, 0], [])
    assert state(bench.root) == before


def test_a_folder_that_can_not_be_written_is_audited_as_well(bench: Any) -> None:
    for path in (*bench.root.rglob("*"), bench.root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = state(bench.root)
        assert bench.audit().alarms == ()
        assert state(bench.root) == before
    finally:
        for path in (bench.root, *bench.root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_ledger_that_is_in_use_is_read_with_its_wal(bench: Any, finding: Any) -> None:
    with Ledger(bench.ledger, population="readers") as ledger:
        ledger.open_run("third", {})
        wal = Path(f"{bench.ledger}-wal")
        assert wal.stat().st_size > 0
        before = {path: path.read_bytes() for path in (bench.ledger, wal)}
        section = bench.audit(expect_head=ledger.checkpoint())
        assert {path: path.read_bytes() for path in before} == before
    assert section.alarms == ()
    assert finding(section, "expected head").verdict is Verdict.PASS


def test_a_snapshot_is_taken_again_while_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, changes = tmp_path / "ledger.db", iter(range(1, 4))
    path.write_bytes(b"0")
    read = Path.read_bytes

    def changing(self: Path) -> bytes:
        data = read(self)
        if self == path and (more := next(changes, None)) is not None:
            path.write_bytes(b"x" * more)
            os.utime(path, ns=(more, more))
        return data

    monkeypatch.setattr(Path, "read_bytes", changing)
    with snapshot(path) as copy:
        assert read(copy) == b"xxx"


@pytest.mark.parametrize(
    "text", ["", "11", "11:", "x:" + "0" * 64, "0:" + "0" * 64, "11:" + "A" * 64, "11:" + "0" * 63]
)
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"`--expect-head` must be SIZE:ROOT[^\n]*, got"):
        parse_head(text)


def test_what_is_no_ledger_and_no_receipt_is_refused(bench: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    low = b'{"type": "model", "population": "readers", "version": 0, "root": ""}'
    for data in (low, b"", b"x", b"\xff", b"{}", b"[]", b'{"type": "event"}\nx'):
        other.write_bytes(data)
        with pytest.raises(InputError, match="`--receipts` must be"):
            bench.audit(receipts=[other])
        with pytest.raises(InputError, match="`--ledger` must be"):
            bench.audit(ledger=other)
    with pytest.raises(InputError, match="`--receipts` must be a ledger of devices"):
        bench.audit(receipts=[bench.ledger])
    for missing in ("ledger", "receipts"):
        place = tmp_path / "gone"
        with pytest.raises(InputError, match=f"`--{missing}` must be"):
            bench.audit(**{missing: place if missing == "ledger" else [place]})
