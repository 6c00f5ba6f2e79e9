"""The events: what is broken in their file, or far too long, ends nothing and hides nothing else."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palate_cli.cli import run
from palate_server.folder.events import MOST, PIECE, EventFollower, EventLog
from palate_server.folder.server_folder import Site
from palate_server.service.metrics import Metrics
from palate_server.service.problems import problems
from palate_server.service.report import read_report
from palate_server.service.setup import make_site

AT = "2026-11-27T12:00:00.000+00:00"
ROUND = {"at": AT, "event": "round", "run": "r", "round": 0, "users": 5, "invited": 6, "seconds": 2.0}
BROKEN = (
    "", "nothing", "[]", "7", "null", "{}", '{"event": "round"}', '{"at": "2026"', "[" * 50_000,
    *(json.dumps(each) for each in (
        {**ROUND, "at": "yesterday"}, {**ROUND, "at": 7}, {**ROUND, "at": None}, {**ROUND, "event": 7},
        {**ROUND, "event": ["round"]}, {**ROUND, "users": "5"}, {**ROUND, "seconds": None}, {**ROUND, "invited": [6]},
        {**ROUND, "seconds": float("nan")}, {**ROUND, "users": 10**400},
        {"at": AT, "event": "restarted"}, {"at": AT, "event": "ended", "part": ["x"]},
        {"at": AT, "event": "enrolment refused", "reasons": ["x"]},
        {"at": AT, "event": "enrolment failed", "reasons": 7, "count": "x"}, {"at": AT, "event": "held", "reason": 5},
    )),
)  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", 'population = "p"\n', ("a", "b"))


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line[:50])
def test_no_line_keeps_the_others_from_being_read(site: Site, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    events = EventLog(site.events)
    events.tell("round", **{key: value for key, value in ROUND.items() if key not in ("at", "event")})
    with site.events.open("a") as file:
        file.write(line + "\n")
    events.tell("unwitnessed", reason="gone")
    assert [event["event"] for event in events.all()] == ["round", "unwitnessed"]
    metrics = Metrics(site, lambda: {"gateway": True})
    metrics.follow()
    assert metrics.registry.get_sample_value("palate_attempts_total", {"outcome": "released"}) == 1.0
    assert metrics.health()["witness"] is False
    assert "witness_unwritable" in {each.code for each in problems(site, now=time.time(), parts=None)}
    assert run(["serve", "status", str(site.folder)]) == 0
    assert "witness_unwritable" in capsys.readouterr().out


@pytest.mark.parametrize("event", ["round", "aborted", "silent", "malformed", "named", "ended", "published", "opened"])
def test_an_event_that_lacks_what_others_of_its_name_have_ends_nothing(site: Site, event: str) -> None:
    EventLog(site.events).tell(event)
    EventLog(site.events).tell("unwitnessed", reason="gone")
    metrics = Metrics(site, lambda: {"gateway": True})
    metrics.follow()
    assert metrics.health()["witness"] is False
    assert not read_report(site, now=time.time(), parts={"gateway": True}).parts["witness"]["good"]


def test_a_line_that_a_full_disk_cut_short_takes_no_other_with_it(site: Site) -> None:
    events = EventLog(site.events)
    events.tell("started", dev=False, pid=1)
    whole = site.events.read_bytes()
    site.events.write_bytes(whole + whole[:40])
    follower = EventFollower(site.events)
    assert [event["event"] for event in follower.news()] == ["started"]
    events.tell("serving")
    assert [event["event"] for event in follower.news()] == ["serving"]
    assert [event["event"] for event in events.all()] == ["started", "serving"]


def test_a_line_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """As a full disk takes a part of it, so does a limit of a file's size."""
    said = """
import resource, signal, sys
from pathlib import Path
from palate_server.folder.events import EventLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
try:
    EventLog(Path(sys.argv[1])).tell("round", reason="x" * 100)
except OSError:
    print("told")
"""
    file = tmp_path / "events.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", said, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "told\n"
    assert file.stat().st_size == 60
    EventLog(file).tell("serving")
    assert [event["event"] for event in EventLog(file).all()] == ["serving"]


def test_who_must_run_on_loses_a_line_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EventLog(tmp_path / "gone" / "events.jsonl").tell("started")
    EventLog(tmp_path / "gone" / "events.jsonl", must=False).tell("started")


def test_lines_are_read_in_pieces_and_one_without_an_end_is_passed_over(tmp_path: Path) -> None:
    events = EventLog(tmp_path / "events.jsonl")
    events.tell("started")
    with events.file.open("ab") as file:
        file.write(b"x" * (3 * PIECE) + b"\n")
    for _ in range(5_000):
        with events.file.open("ab") as file:
            file.write(json.dumps({**ROUND, "words": "y" * 400}).encode() + b"\n")
    events.tell("stopped")
    follower = EventFollower(events.file)
    found = [event["event"] for event in follower.news()]
    assert found == ["started", *5_000 * ["round"], "stopped"]
    assert list(follower.news()) == []
    assert [event["event"] for event in events.latest()] == ["started", "round", "stopped"]


def test_a_file_of_a_gigabyte_costs_neither_its_size_in_memory_nor_its_reading_again(site: Site) -> None:
    """One of somebody else's making: the server's own begins anew at 64 MiB."""
    tail = json.dumps(ROUND).encode() + b"\n"
    with site.events.open("wb") as file:
        file.truncate(2**30)  # zeros, no line among them
        file.seek(2**30 - len(tail) - 1)
        file.write(b"\n" + tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metrics = Metrics(site, lambda: {})
    metrics.follow()
    assert metrics.registry.get_sample_value("palate_attempts_total", {"outcome": "released"}) == 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert metrics._tail._place == site.events.stat().st_size > 2 * MOST
