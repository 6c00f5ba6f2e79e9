"""`palate device enroll` and `sync` from a shell, and the fleet of docs/examples, at a real edge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_fleet import FleetPlan, Member, run_fleet, summary

from palate_cli.cli import run
from palate_common.rounds.exchange import PATH
from palate_core.errors import InputError
from palate_server.folder.enrolments import Enrolments


def palate(*words: object) -> int:
    return run([str(word) for word in words])


def test_a_device_from_a_shell(fleet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = fleet(0)
    store = ("--store", tmp_path / "shell", "--key", tmp_path / "shell.key")
    invitation = tmp_path / "invitation"
    invitation.write_text(mine.deployment.invitation(mine.run.key.public).to_json())
    assert palate("device", "open", *store) == 0
    assert palate("device", "sync", *store, "--seconds", 2) == 2
    assert "must be enrolled first" in capsys.readouterr().err
    assert palate("device", "enroll", invitation, *store) == 1
    assert "not agreed" in capsys.readouterr().err
    assert palate("device", "consent", "grant", "train", *store) == 0
    assert palate("device", "enroll", invitation, *store) == 0
    assert "enrolled as device 0 of readers at localhost:" in capsys.readouterr().out
    assert palate("device", "sync", *store, "--seconds", 2, "--accept", "central") == 0
    said = capsys.readouterr().out
    assert said.startswith("time: took part in 0 round(s), refused 0 message(s)\na newer model is in use; ")
    assert palate("device", "report", *store) == 0
    said = capsys.readouterr().out
    assert "At the server: 1 time(s)" in said
    assert "Rounds: 0 of at most 1000, in 'readers'" in said, "by its enrolment it knows its service"
    assert palate("device", "consent", "grant", "store", *store) == 0
    assert palate("device", "recommend", *store, "--count", 2) == 0
    assert "\n2. " in capsys.readouterr().out
    mine.deployment.trouble = lambda path, phase, who: 401 if path == PATH else None
    assert palate("device", "sync", *store, "--seconds", 5) == 1
    said = capsys.readouterr().out
    assert said.startswith("rejected (the server must accept a request of this device, got status 401: ")


def test_a_fleet_takes_part_and_its_stores_are_used_again(fleet: Any, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    mine = fleet(0)
    invitations = [mine.deployment.invitation(mine.run.key.public) for _ in range(3)]
    plan = FleetPlan(folder=tmp_path / "stores", floors=mine.floors, seconds=60.0, poll_seconds=0.1, events=4)
    first = pool.submit(run_fleet, plan, invitations)
    outcome = mine.order(nodes=3, timeout=20)()
    found = dict(summary(first.result()))
    assert [release["users"] for release in outcome["releases"]] == [3], outcome
    assert (found["devices"], found["took part"], found["ended: come back"]) == ("3", "3", "3")
    again = run_fleet(replace(plan, seconds=1.0, processes=2), invitations)  # nobody enrols a second time
    assert dict(summary(again))["ended: time"] == "3"
    with Enrolments(mine.deployment.site.enrolment_file) as register:
        assert len(register.devices()) == 3


def test_members_vanish_without_a_word_and_a_bad_start_holds_up_nobody(
    fleet: Any, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    mine = fleet(0)
    invitations = [mine.deployment.invitation(mine.run.key.public) for _ in range(3)]
    used = invitations[0].model_copy(update={"token": "x" * 30})
    plan = FleetPlan(
        folder=tmp_path / "stores",
        floors=mine.floors,
        seconds=15.0,
        poll_seconds=0.1,
        vanish=1.0,
        together=True,
        seed=2,
    )
    running = pool.submit(run_fleet, plan, [*invitations, used])
    mine.order(nodes=3, timeout=4, come_back=None)()
    members = running.result()
    assert [member.error for member in members[:3]] == [""] * 3
    assert "403" in members[3].error
    assert all(member.vanished for member in members)
    ended = {member.result.ended for member in members[:3] if member.result is not None}
    assert ended <= {"policy", "time"}
    assert ("devices", "4") in summary(members)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("device", "enroll", "/nowhere", "--store", "{store}", "--key", "{key}"), "can be read"),
        (("device", "enroll", "{bad}", "--store", "{store}", "--key", "{key}"), "an invitation must be JSON"),
        (
            ("device", "sync", "--store", "{store}", "--key", "{key}", "--accept", "all"),
            "`--accept` must be of",
        ),
        (("device", "enroll", "{tokens}", "--store", "{store}", "--key", "{key}"), "one invitation, got 0"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "tokens").write_text("\n")
    (tmp_path / "bad").write_text("no invitation\n")
    names = {"tokens": tmp_path / "tokens", "bad": tmp_path / "bad"}
    names |= {"store": tmp_path / "store", "key": tmp_path / "key"}
    assert palate(*(word.format(**names) for word in words)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_summary_says_why_devices_failed() -> None:
    failed = [Member(None, "no way in", 1.0, False)] * 2
    assert ("  no way in", "2") in summary(failed)
    assert ("took part", "0") in summary(failed)
    with pytest.raises(InputError, match="at least one"):
        run_fleet(FleetPlan(folder=Path("x")), [])
