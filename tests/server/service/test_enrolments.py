"""The register: tokens, devices, revocation, quarantine, caps."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from palate_core.errors import InputError, LockedError, RefusedError
from palate_server.folder.enrolments import EnrolledDevice, Enrolments, Standing, copy_register

A, B = "aa" * 32, "bb" * 32


def enrolled(register: Enrolments, identity: str, now: float = 0.0) -> EnrolledDevice:
    return register.enrol(register.invite(now=now, hours=1.0), identity=identity, now=now)


def eligible(register: Enrolments, *, period: int = 0, most: int = 9, now: float = 0.0) -> set[int]:
    """Whoever may be invited, as both queries say."""
    found = register.first_eligible(99, period=period, most=most, now=now)
    assert found == register.eligible(range(99), period=period, most=most, now=now)
    return found


def test_a_token_is_stored_as_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / "enrolment.db"
    with Enrolments(path) as register:
        token = register.invite(now=0.0, hours=1.0)
        device = register.enrol(token, identity=A, now=1.0)
        assert device.number == 0
    for file in tmp_path.iterdir():
        assert token.encode() not in file.read_bytes()


def test_a_token_enrols_one_device_and_the_same_request_again_the_same() -> None:
    with Enrolments(":memory:") as register:
        token = register.invite(now=0.0, hours=1.0)
        first = register.enrol(token, identity=A, now=1.0)
        assert register.enrol(token, identity=A, now=9e9) == first
        with pytest.raises(RefusedError):
            register.enrol(token, identity=B, now=1.0)
        register.revoke(0, now=2.0)
        with pytest.raises(RefusedError):
            register.enrol(token, identity=A, now=3.0)


@pytest.mark.parametrize("now", [3601.0, 1e9])
def test_an_expired_or_unknown_token_is_refused(now: float) -> None:
    with Enrolments(":memory:") as register:
        token = register.invite(now=0.0, hours=1.0)
        for each in (token, "unknown"):
            with pytest.raises(RefusedError, match="valid and not spent"):
                register.enrol(each, identity=A, now=now)
        assert register.devices() == []


def test_an_identity_belongs_to_one_device() -> None:
    with Enrolments(":memory:") as register:
        enrolled(register, A)
        with pytest.raises(RefusedError, match="identity must be its own"):
            enrolled(register, A)
        assert [device.number for device in register.devices()] == [0]


def test_a_revoked_device_keeps_its_number_and_identity() -> None:
    with Enrolments(":memory:") as register:
        assert register.directory([0, 1]).identities == {}
        enrolled(register, A)
        enrolled(register, B)
        register.revoke(0, now=1.0)
        assert list(register.directory([1, 0, 7]).identities.items()) == [(0, A), (1, B)]
        assert register.directory([1]).identities == {1: B}
        assert eligible(register, now=2.0) == {1}
        assert register.revoke(0, now=5.0).revoked == 1.0
        with pytest.raises(InputError, match="enrolled device"):
            register.revoke(2, now=1.0)


def test_strikes_lead_to_quarantine_which_ends() -> None:
    with Enrolments(":memory:") as register:
        enrolled(register, A)
        assert register.strike([0], limit=2, until=100.0) == 0
        assert eligible(register)
        assert register.strike([0], limit=2, until=100.0) == 1
        assert not eligible(register, now=99.0)
        assert register.counts(now=99.0)["quarantined"] == 1
        assert eligible(register, now=100.0)
        assert register.counts(now=101.0)["quarantined"] == 0


def test_a_named_device_is_left_out_until_it_is_pardoned() -> None:
    with Enrolments(":memory:") as register:
        enrolled(register, A)
        enrolled(register, B)
        register.name({1: b"a record"})
        register.name({1: b"a later one"})
        assert eligible(register, now=9e9) == {0}
        assert (register.counts(now=0.0)["named"], register.evidence(0), register.evidence(1)) == (1, None, b"a record")
        assert not register.pardon(1).named
        assert eligible(register) == {0, 1}
        assert register.evidence(1) is None
        for ask in (register.pardon, register.evidence):
            with pytest.raises(InputError, match="enrolled device"):
                ask(2)


def test_who_no_longer_takes_part_is_counted_apart_and_in_no_other_number() -> None:
    with Enrolments(":memory:") as register:
        identities = [f"{number:02x}" * 32 for number in range(5)]
        for identity in identities:
            enrolled(register, identity)
        register.invite(now=0.0, hours=1.0)
        register.name({0: b"a record", 1: b"a record"})
        register.strike([1, 2], limit=1, until=100.0)
        before = {"enrolled": 5, "revoked": 0, "left": 0, "quarantined": 2, "named": 2, "invitations": 1}
        assert register.counts(now=1.0) == before
        register.revoke(1, now=1.0)
        register.leave(3, identity=identities[3])
        register.forget(3)
        after = {"enrolled": 3, "revoked": 1, "left": 1, "quarantined": 1, "named": 1, "invitations": 1}
        assert register.counts(now=1.0) == after
        states = [each.state for each in register.listed(now=1.0)]
        assert [states.count(each) for each in ("revoked", "left")] == [1, 1]


def test_who_is_forgotten_while_somebody_reads_is_in_the_log_no_longer_than_that(tmp_path: Path) -> None:
    file, label = tmp_path / "enrolments.db", b"Ada Lovelace"
    with Enrolments(file) as register, closing(sqlite3.connect(file, isolation_level=None)) as reader:
        register.enrol(register.invite(now=0.0, hours=1.0, label=label.decode()), identity=A, now=0.0)
        register.leave(0, identity=A)
        register._database._connection.execute("PRAGMA busy_timeout = 1")
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM labels").fetchone() == (1,)
        with pytest.raises(LockedError, match=r"\Athe register must be free, got one that [^\n]*\Z"):
            register.forget(0)
        reader.execute("COMMIT")
        register.forget(0)
        assert not [path for path in tmp_path.iterdir() if label in path.read_bytes()]


def test_who_leaves_is_invited_no_more_and_takes_the_name_of_the_invitation_along(tmp_path: Path) -> None:
    file, label = tmp_path / "enrolments.db", "Ada Lovelace"
    with Enrolments(file) as register:
        token = register.invite(now=0.0, hours=1.0, label=label)
        register.enrol(token, identity=A, now=0.0)
        assert [each.label for each in register.listed(now=0.0)] == [label]
        assert eligible(register) == {0}
        register.leave(0, identity=A)
        assert eligible(register) == set(), "also before it is forgotten"
        register.forget(0)
        assert [each.label for each in register.listed(now=0.0)] == [""]
        for path in tmp_path.iterdir():
            assert label.encode() not in path.read_bytes(), "nor in the log of what was written"
        register.invite(now=0.0, hours=1.0, label=label)
        register.invite(now=7200.0, hours=1.0)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT * FROM labels").fetchall() == [], "nor the name of one that nobody took"


def test_a_device_is_invited_so_often_in_a_period_and_no_more() -> None:
    with Enrolments(":memory:") as register:
        enrolled(register, A)
        for _ in range(2):
            assert eligible(register, period=7, most=2, now=0.0)
            register.invited([0], period=7)
        assert not eligible(register, period=7, most=2, now=0.0)
        assert eligible(register, period=8, most=2, now=0.0)


def test_what_a_door_knows_of_a_device_is_whose_it_is_and_whether_it_was_revoked() -> None:
    with Enrolments(":memory:") as register:
        enrolled(register, A)
        enrolled(register, B)
        register.revoke(1, now=1.0)
        known = [register.standing(number) for number in (0, 1, 2, -1)]
        assert known == [Standing(A, False), Standing(B, True), None, None]
        assert [register.number_of(identity) for identity in (A, B, "cc" * 32)] == [0, 1, None]
        register.leave(0, identity=A)
        register.forget(0)
        assert register.standing(0) == Standing(A, True)


def test_of_those_that_may_be_invited_no_more_are_looked_for_than_are_asked_for() -> None:
    with Enrolments(":memory:") as register:
        for number in range(5):
            enrolled(register, f"{number:064x}")
        register.revoke(1, now=1.0)
        assert register.first_eligible(2, period=0, most=9, now=0.0) == {0, 2}
        assert register.eligible([1, 4, 7], period=0, most=9, now=0.0) == {4}


def test_a_copy_is_whole_while_the_register_is_in_use(tmp_path: Path) -> None:
    with Enrolments(tmp_path / "enrolment.db") as register:
        enrolled(register, A)
        assert copy_register(tmp_path / "enrolment.db", tmp_path / "copy.db") == 1
    with Enrolments(tmp_path / "copy.db") as copied:
        assert [device.identity for device in copied.devices()] == [A]
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
