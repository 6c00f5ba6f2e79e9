"""`palate audit ledger` and `card` as an auditor meets them: verdicts, exit codes, files, errors in one line."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, palate: Any, rows: Any, as_csv: Any, quick: Any) -> Path:
    """A folder with the finished run `run`."""
    folder = tmp_path_factory.mktemp("audited") / "work"
    folder.mkdir()
    (folder / "log.csv").write_text(as_csv(rows))
    done = palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def work(audited: Path) -> Path:
    """The run as it was made, where it was made: `run.json` names its ledger by an absolute path, and is signed."""
    made = audited.with_name("made")
    if made.exists():
        shutil.rmtree(audited)
        shutil.copytree(made, audited)
    else:
        shutil.copytree(audited, made)
    return audited


def test_an_honest_run_passes_and_says_what_it_could_not_check(palate: Any, work: Path) -> None:
    for command in ("ledger", "card"):
        done = palate("audit", command, "run", "--out", "report", cwd=work)
        assert (done.code, done.err) == (0, "")
        assert "report: report/audit.html" in done.out
        assert "0 alarms" in done.out
        assert "rollback not checkable" in " ".join(done.out.split())
    parts = [part["name"] for part in json.loads((work / "report" / "audit.json").read_text())["sections"]]
    assert parts == ["ledger", "card"]
    assert "What this audit can't show" in (work / "report" / "audit.html").read_text()


def test_evidence_that_exceeds_the_claim_is_exit_code_4_and_is_still_reported(palate: Any, work: Path) -> None:
    connection = sqlite3.connect(work / "log.ledger.db")
    connection.executescript("DROP TRIGGER no_update; UPDATE entries SET leaf = x'7b7d' WHERE seq = 4")
    connection.close()
    done = palate("audit", "ledger", "run", "--out", "found.html", cwd=work)
    assert done.code == 4
    assert done.lines == [done.err.strip()]
    assert done.err.startswith("palate: the evidence exceeds the claim: first bad entry: entry 4")
    found = json.loads((work / "found.json").read_text())["sections"][0]
    assert found["verdict"] == "alarm"
    assert "The evidence exceeds the claim" in (work / "found.html").read_text()


def test_json_is_all_that_is_printed(palate: Any, work: Path) -> None:
    done = palate("audit", "ledger", "run", "--json", cwd=work)
    (section,) = json.loads(done.out)
    assert (done.code, section["name"], section["verdict"]) == (0, "ledger", "not checkable")
    (card,) = json.loads(palate("audit", "card", "run", "--json", cwd=work).out)
    assert card["series"]["card"]["adjacency"] == "zero-out"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ledger",), "Missing argument 'DIR'"),
        (("ledger", "nowhere"), "`DIR` must be a run folder, got nowhere"),
        (("card", "nowhere"), "`DIR` must be a run folder, got nowhere"),
        (("ledger", "."), "got one without ledger.json"),
        (("ledger", "log.csv"), "`DIR` must be a run folder, got log.csv"),
        (("ledger", "run", "--expect-head", "7"), "`--expect-head` must be SIZE:ROOT"),
        (("ledger", "run", "--ledger", "log.csv"), "`--ledger` must be a ledger"),
        (("ledger", "run", "--ledger", "none.db"), "`--ledger` must be an existing file"),
        (("ledger", "run", "--receipts", "log.csv"), "`--receipts` must be"),
        (("ledger", "run", "--public-key", "abc"), "`--public-key` must be 64 hexadecimal digits"),
        (("ledger", "run", "--out", "log.csv/deep"), "`--out` must be"),
        (("ledger", "run", "--out", "run/result.json"), "`--out` must be a new file or an audit's"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(
    palate: Any, work: Path, words: tuple[str, ...], said: str
) -> None:
    before = sorted(path for path in work.rglob("*"))
    done = palate("audit", *words, cwd=work)
    assert (done.code, len(done.lines)) == (2, 1)
    assert said in done.err
    assert sorted(path for path in work.rglob("*")) == before
