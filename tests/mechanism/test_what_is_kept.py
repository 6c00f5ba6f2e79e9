"""What the audit says of what is kept: each of its checks fails where something is lost, and passes as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mechanism.checks.consent.failing import failing
from mechanism.checks.consent.sending import sending
from mechanism.checks.ledgers import disk as of_disk
from mechanism.checks.ledgers.disk import disk, unlisted
from mechanism.checks.ledgers.killed_witness import killed_witness
from mechanism.checks.ledgers.restorations import restorations
from mechanism.checks.ledgers.shown import shown
from mechanism.checks.ledgers.statements import statements
from mechanism.harness.durable import watched_commits, watched_syncs
from palate_audit.evidence.evidence import Finding, Verdict
from palate_client.leaving import statement
from palate_client.online.sync import Session
from palate_common.records.database import Database
from palate_common.records.files import write_durably
from palate_core.device import participation as core_participation
from palate_core.device.ledger import SeenStates
from palate_server.folder import backup
from palate_server.witness import cosigner
from palate_server.witness import folder as witness_folder
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

SET = Database._set
SEE = SeenStates.see


def alarms(found: list[Finding]) -> list[str]:
    return [each.said for each in found if each.verdict is Verdict.ALARM]


def test_no_answer_outlives_its_consent() -> None:
    assert [*failing(), *sending()] == []
    over = Session._is_over
    with mock.patch.object(Session, "_is_over", lambda self, host=None: over(self)):
        assert "after its purpose was revoked" in next(sending())


def test_a_commit_waits_for_the_disk_if_it_has_something_to_write(tmp_path: Path) -> None:
    with watched_commits() as commits:
        connection = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
        connection.execute("PRAGMA synchronous = 1")
        connection.execute("CREATE TABLE notes(text)")
        for text in ("one", "two"):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO notes VALUES (?)", (text,))
            connection.execute("COMMIT")
        assert commits.waiting("some.db") == 3
        connection.execute("PRAGMA synchronous = 2")
        connection.execute("BEGIN")
        connection.execute("COMMIT")
        assert commits.waiting("some.db") == 3, "there was nothing to sync"
        connection.execute("BEGIN")
        connection.execute("INSERT INTO notes VALUES ('three')")
        connection.execute("ROLLBACK")
        assert commits.waiting("some.db") == 3
        connection.execute("INSERT INTO notes VALUES ('three')")
        assert (commits.waiting("some.db"), commits.watched("some.db"), commits.watched("other.db")) == (0, 1, 0)
        connection.close()


def test_a_file_is_there_after_a_power_cut_if_it_and_its_folder_were_synced(tmp_path: Path) -> None:
    with watched_syncs() as synced:
        (tmp_path / "written").write_bytes(b"one")
        assert not synced.has(tmp_path / "written")
        write_durably(tmp_path / "durable", b"one")
        assert synced.has(tmp_path / "durable")
    assert not synced.has(tmp_path / "written")


class Longer(SimulatedLedger):
    def forget(self) -> None:
        """A method that is new."""


def test_a_new_method_is_looked_at() -> None:
    calls = dict.fromkeys(("charge", "join", "latch", "see"))
    assert list(unlisted(SimulatedLedger, calls)) == []
    assert list(unlisted(Longer, calls)) == ["`forget` of Longer was not looked at"]
    assert set(of_disk.READING) >= {SimulatedLedger}


def without_sync(self: Database, name: str, value: int) -> None:
    SET(self, name, 1 if name == "synchronous" else value)


def written(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    path.write_bytes(data)


def by_plans_only(self: SeenStates, population: str, checkpoint: Any, signed: bytes = b"") -> None:
    SEE(self, population, checkpoint, signed if b'"charge"' in signed else b"")


def last(shown: Any, **more: Any) -> Any:
    return shown[-1] if isinstance(shown, list) and isinstance(shown[0], float) else max(shown, **more)


BUGS: list[tuple[str, Callable[[], list[Finding]], Any, str, Any]] = [
    ("commits wait for nothing", disk, Database, "_set", without_sync),
    ("a witness's files aren't synced", killed_witness, witness_folder, "write_durably", written),
    ("a witness cosigns whatever extends nothing", killed_witness, cosigner, "_extends", lambda *_: None),
    ("what models say isn't kept", shown, SeenStates, "see", by_plans_only),
    ("a silent plan makes a device forget", shown, core_participation, "spend_shown", lambda _: 1.0),
    ("the last witness counts", restorations, backup, "max", last),
    ("a statement that knows of no contribution", statements, statement, "_VECTORS", ()),
]


@pytest.mark.parametrize(("check", "owner", "name", "instead"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_what_is_lost_is_found(check: Callable[[], list[Finding]], owner: Any, name: str, instead: Any) -> None:
    with mock.patch.object(owner, name, instead, create=name == "max"):
        assert alarms(check())
