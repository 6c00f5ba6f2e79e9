"""Who did what, and which devices an operator sees: a record that only grows, and a list that is no attendance list."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from palate_cli.cli import app, run
from palate_core.errors import InputError, IntegrityError
from palate_server.folder.enrolments import Enrolments, quarter_name, quarter_of
from palate_server.folder.operators import FILE, MOST_LINE, OperatorLog
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.server_folder import Site
from palate_server.service.setup import make_site

A, B, C, D = ("ab" * 32, "cd" * 32, "ef" * 32, "01" * 32)
QUARTER = 91 * 86400.0
SILENT = {"check", "config", "status", "operators"}
"""Commands that only look at what is no one device's."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", 'population = "p"\n', ("a", "b"))


def test_each_command_is_recorded_before_and_after_with_the_account_and_without_secrets(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    folder = str(site.folder)
    assert run(["serve", "enroll", folder, "--count", "2", "--out", str(tmp_path / "tokens")]) == 0
    assert run(["serve", "revoke", folder, "7"]) == 2
    assert run(["serve", "status", folder]) == 0
    told = OperatorLog(site.folder).read()
    assert [(each["command"], each["outcome"]) for each in told] == [
        ("enroll", "begun"), ("enroll", "done"), ("revoke", "begun"), ("revoke", "refused: input"),
    ]  # fmt: skip
    assert told[2]["arguments"] == {"device": 7}
    assert {(each["user"], each["sudo"]) for each in told} == {(pwd.getpwuid(os.getuid()).pw_name, "alice")}
    tokens = [json.loads(line)["token"] for line in (tmp_path / "tokens").read_text().splitlines()]
    assert not any(token in (site.folder / FILE).read_text() for token in tokens)
    assert stat.S_IMODE((site.folder / FILE).stat().st_mode) == 0o600
    capsys.readouterr()
    assert run(["serve", "operators", folder]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "(sudo: alice): revoke device=7: refused: input" in said[3]
    assert said[-1] == "4 lines, each after the one before"


@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_a_record_that_leads_elsewhere_is_not_written_and_its_command_is_not_done(
    site: Site, tmp_path: Path, kind: str
) -> None:
    """Root gives the record to the folder's account: behind a link it would give away a file of its own."""
    elsewhere = tmp_path / "shadow"
    elsewhere.write_text("root:secret\n")
    elsewhere.chmod(0o400)
    before, record = elsewhere.stat(), site.folder / FILE
    if kind == "link":
        record.symlink_to(elsewhere)
    elif kind == "second name":
        record.hardlink_to(elsewhere)
    else:
        os.mkfifo(record)
    refused = pytest.raises(InputError, match=rf"{FILE}.*must be writable before a command is done")
    with refused, OperatorLog(site.folder).command("revoke", {"device": 7}):
        raise AssertionError("it was done")
    assert elsewhere.read_text() == "root:secret\n"
    assert (elsewhere.stat().st_uid, elsewhere.stat().st_mode) == (before.st_uid, before.st_mode)


def test_names_that_are_no_text_are_recorded_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", os.fsdecode(b"al\xffice"))
    with OperatorLog(site.folder).command("backup", {"archive": Path(os.fsdecode(b"/b\xff.tar"))}):
        pass
    first, _ = OperatorLog(site.folder).read()
    assert (first["sudo"], first["arguments"]) == ("al?ice", {"archive": "/b?.tar"})


def test_every_command_of_serve_is_recorded_but_those_that_only_look(tmp_path: Path) -> None:
    """A new command is wrapped as the others, or is named here."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    serve = group.commands["serve"]
    assert isinstance(serve, click.Group)
    wrapped = {
        name
        for name, each in serve.commands.items()
        if hasattr(getattr(each.callback, "__wrapped__", None), "__wrapped__")
    }
    assert set(serve.commands) - wrapped == SILENT


def test_a_line_that_was_changed_or_taken_out_is_noticed(site: Site) -> None:
    log = OperatorLog(site.folder)
    for number in range(3):
        with log.command("revoke", {"device": number}):
            pass
    file = site.folder / FILE
    lines = file.read_text().splitlines(keepends=True)
    for broken in (
        lines[1:],
        lines[:2] + lines[3:],
        [lines[0].replace("revoke", "backup"), *lines[1:]],
        ["[]\n", *lines],
    ):
        file.write_text("".join(broken))
        with pytest.raises(IntegrityError, match="must only have grown"):
            log.read()
    for long in (["[" * 2 * MOST_LINE, *lines], [*lines, "{" * 2 * MOST_LINE]):
        file.write_text("".join(long))
        with pytest.raises(IntegrityError, match="must have lines of at most"):
            log.read()
    file.write_text("".join(lines)[:-20])
    with log.command("pardon", {"device": 1}):
        pass
    assert [each["command"] for each in log.read()[-3:]] == ["", "pardon", "pardon"], (
        "cut short by a crash, and gone on"
    )


def test_nothing_is_done_that_cannot_be_recorded(tmp_path: Path) -> None:
    done = []
    (tmp_path / FILE).mkdir()
    with (
        pytest.raises(InputError, match="must be writable before a command is done"),
        OperatorLog(tmp_path).command("x", {}),
    ):
        done.append(1)
    assert not done
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(KeyboardInterrupt), OperatorLog(other).command("run", {"long": "x" * MOST_LINE}):
        raise KeyboardInterrupt
    assert [each["outcome"] for each in OperatorLog(other).read()] == ["begun", "KeyboardInterrupt"]
    assert OperatorLog(other).read()[0]["arguments"] == {"left out": "too long"}


def enrol(register: Enrolments, number: int, identity: str, *, label: str = "", now: float) -> None:
    token = register.invite(now=now, hours=1.0, label=label)
    register.enrol(token, identity=identity, now=now)


def test_the_list_has_quarters_and_labels_and_no_finer_time(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    with Enrolments(site.enrolment_file) as register:
        assert register.noted_since() is None
        enrol(register, 0, A, label="shop 1", now=now - 5 * QUARTER)
        enrol(register, 1, B, label="shop 2", now=now - 5 * QUARTER)
        enrol(register, 2, C, now=now - 5 * QUARTER)
        enrol(register, 3, D, label="shop 2", now=now)
        SeenByQuarter(register, clock=lambda: now - 4 * QUARTER).note([0, 1, 2])
        presence = SeenByQuarter(register, clock=lambda: now)
        presence.note([1])
        presence.note([1, 999])
        register.leave(2, identity=C)
        register.forget(2)
        found = register.listed(now=now)
        assert register.noted_since() == quarter_of(now - 4 * QUARTER)
    assert [(each.number, each.state, each.label, each.seen) for each in found] == [
        (0, "enrolled", "shop 1", quarter_of(now - 4 * QUARTER)), (1, "enrolled", "shop 2", quarter_of(now)),
        (2, "left", "", None), (3, "enrolled", "shop 2", None),
    ]  # fmt: skip
    assert found[2].enrolled is None
    folder = str(site.folder)
    assert run(["serve", "devices", folder, "--unseen", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"0: enrolled · shop 1 · enrolled {quarter_name(quarter_of(now - 5 * QUARTER))} · online "
        f"{quarter_name(quarter_of(now - 4 * QUARTER))}",
        "1 device",
    ]
    assert run(["serve", "devices", folder, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]) == {"number", "state", "label", "enrolled", "seen"}
    with closing(sqlite3.connect(site.enrolment_file)) as connection:
        kept = connection.execute("SELECT * FROM seen ORDER BY device").fetchall()
    assert kept == [(-1, quarter_of(now - 4 * QUARTER)), (0, quarter_of(now - 4 * QUARTER)), (1, quarter_of(now))]


def test_many_are_revoked_by_label_or_quarter_only_if_it_is_said_and_known(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    now, folder = time.time(), str(site.folder)
    with Enrolments(site.enrolment_file) as register:
        enrol(register, 0, A, label="shop 1", now=now - 5 * QUARTER)
        enrol(register, 1, B, label="shop 2", now=now - 5 * QUARTER)
        enrol(register, 2, C, label="shop 2", now=now)
    assert run(["serve", "revoke", folder, "--unseen", "1", "--yes"]) == 2, "nobody knows who was online"
    assert "not noted yet" in capsys.readouterr().err
    with Enrolments(site.enrolment_file) as register:
        SeenByQuarter(register, clock=lambda: now).note([])
    assert run(["serve", "devices", folder, "--unseen", "1"]) == 2
    assert "noted since" in capsys.readouterr().err
    for wrong in ([], ["0", "--label", "shop 1"]):
        assert run(["serve", "revoke", folder, *wrong]) == 2
    capsys.readouterr()
    assert run(["serve", "revoke", folder, "--label", "shop 2"]) == 0
    assert capsys.readouterr().out == "2 devices would be revoked, for ever: say --yes\n"
    assert run(["serve", "revoke", folder, "--label", "shop 2", "--yes"]) == 0
    assert capsys.readouterr().out == "2 devices are revoked\n"
    with Enrolments(site.enrolment_file) as register:
        assert [each.state for each in register.listed(now=now)] == ["enrolled", "revoked", "revoked"]
    assert run(["serve", "enroll", folder, "--label", "x" * 41]) == 2


def test_the_operation_notes_who_is_online(make_service: Any) -> None:
    service = make_service()
    service.operate()
    with Enrolments(service.site.enrolment_file) as register:
        assert {each.seen for each in register.listed(now=0.0)} == {quarter_of(time.time())}
