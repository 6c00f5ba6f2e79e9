"""Which devices an operator sees: a list that is no attendance list, by which many are revoked at once."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_server.folder.enrolments import Enrolments, quarter_name, quarter_of
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.server_folder import Site
from palate_server.service.setup import make_site

A, B, C, D = ("ab" * 32, "cd" * 32, "ef" * 32, "01" * 32)
QUARTER = 91 * 86400.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", 'population = "p"\n', ("a", "b"))


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
