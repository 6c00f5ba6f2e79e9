"""Runs by appointment, with real devices on the other side: cohorts, aborts, retries, budgets, quarantine, resuming."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_cli.commands.serve.access import pardon
from palate_common.rounds.exchange import TRAINING, Availability
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.evidence import FaultEvidence, check
from palate_core.errors import IntegrityError, LockedError, PalateError
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step
from palate_server.folder.enrolments import Enrolments
from palate_server.operation.releases import latest, publish
from palate_server.operation.restraint import Restraint
from palate_server.rounds.lock import RunLock
from palate_server.secagg.conduct import Conduct
from palate_server.service.metrics import Metrics
from palate_server.service.status import read_status, unpublished

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]


def spent_attempts(service: Any) -> tuple[int, int]:
    status = read_status(service.site)
    return status.attempts, status.releases


def test_a_run_from_a_gathered_cohort_to_its_close(make_service: Maker) -> None:
    service = make_service()
    service.operate()
    rounds = service.events("round")
    assert [event["round"] for event in rounds] == list(range(len(rounds)))
    assert all(event["users"] == event["invited"] == 8 and event["charged"] for event in rounds)
    assert spent_attempts(service) == (len(rounds), len(rounds))
    assert [event["releases"] for event in service.events("closed")] == [len(rounds)]
    assert service.devices.closed == 1 + len(rounds), (
        "what the carrier holds of an attempt is removed after each, and at first"
    )
    with service.site.ledger(read_only=True) as ledger:
        run = unpublished(ledger)
    found = publish(service.site, run, lambda extract: b"card")
    assert found.model.header.releases == len(rounds)
    assert latest(service.site).version == found.version
    with service.site.ledger(read_only=True) as ledger:
        assert unpublished(ledger) is None


def test_devices_come_back_for_the_new_model_and_then_when_the_next_run_is_due(make_service: Maker, clock: Any) -> None:
    service = make_service()
    service.operate(2)
    assert service.devices.home == dict.fromkeys(range(8), 60), "it is published after they have left"
    clock.now += 60.0
    service.operate()
    assert service.devices.home == dict.fromkeys(range(8), 86400), "within a day at most"
    assert len(service.events("opened")) == 1


def test_too_few_devices_are_sent_home_and_nothing_is_charged(make_service: Maker) -> None:
    service = make_service(wait=1e-9, pause=1000.0)
    service.devices.away = {0, 1}
    service.operate(2)
    assert spent_attempts(service) == (0, 0)
    assert service.events("no cohort")[0]["reason"] == "a cohort needs at least 8 devices, and 6 came"
    assert set(service.devices.home) == set(range(2, 8))


def test_devices_that_stay_for_less_than_an_exchange_may_last_are_not_drawn(make_service: Maker) -> None:
    """A sync that ends in the middle of an attempt costs everybody a charge."""
    service = make_service(wait=1e-9, pause=1000.0)
    service.devices.declared = {0: Availability(69.0, TRAINING)}
    service.operate()
    assert spent_attempts(service) == (0, 0)
    (told,) = service.events("no cohort")
    assert told["kind"] == "training"
    assert told["reason"] == "a cohort needs at least 8 devices, and 7 came; others that stay for less than 70 s: 1"
    service.devices.declared = {0: Availability(71.0, TRAINING)}
    service.operate()
    assert spent_attempts(service)[1] > 0


def test_a_model_that_cannot_be_put_where_devices_find_it_charges_nothing(make_service: Maker) -> None:
    """As on a full disk: whoever got the plan would only refuse it."""
    service = make_service(attempts=1)
    service.site.round_models.rmdir()
    service.site.round_models.touch()
    service.operate()
    assert spent_attempts(service) == (0, 0)
    assert [event["charged"] for event in service.events("aborted")] == [False]
    service.site.round_models.unlink()
    service.operate()
    assert service.events("closed")


def test_more_devices_than_needed_are_drawn_from_and_the_others_sent_home(make_service: Maker) -> None:
    service = make_service(count=11)
    service.operate()
    assert all(len(cohort) == 8 for cohort in service.devices.cohorts)
    first = set(service.devices.cohorts[0])
    assert set(service.devices.home) >= set(range(11)) - first


def test_an_attempt_that_fails_is_charged_and_tried_again(make_service: Maker) -> None:
    service = make_service()
    lost = {"left": 2}

    def spoil(device: int, answer: bytes) -> bytes:
        if device < 2 and lost["left"]:
            lost["left"] -= 1
            return REFUSED
        return answer

    service.devices.spoil = spoil
    service.operate()
    aborted, rounds = service.events("aborted"), service.events("round")
    assert (len(aborted), aborted[0]["reason"], aborted[0]["charged"]) == (1, "refused", True)
    assert (aborted[0]["kind"], aborted[0]["refused"]) == ("training", 2), "they are counted, and no dropout"
    assert [event["attempt"] for event in rounds] == [1, *[0] * (len(rounds) - 1)]
    assert spent_attempts(service) == (len(rounds) + 1, len(rounds))


def test_a_device_that_sends_what_it_has_not_signed_is_passed_over_as_a_silent_one(make_service: Maker) -> None:
    service = make_service(count=9)
    service.devices.spoil = lambda device, answer: b"garbage" if device == 2 else answer
    service.operate()
    assert sum(2 in cohort for cohort in service.devices.cohorts) <= 1
    assert service.events("malformed") == service.events("named") == []
    assert [event["devices"] for event in service.events("unsigned")] == [1] * any(
        2 in cohort for cohort in service.devices.cohorts
    )
    metrics = Metrics(service.site, lambda: {})
    metrics.follow()
    counted = metrics.registry.get_sample_value("palate_malformed_total")
    assert counted == len(service.events("unsigned")), "an alert on it sees masked attempts, too"
    with Enrolments(service.site.enrolment_file) as register:
        found = register.devices()[2]
    assert (found.strikes, found.free_at, found.named) == (0, None, False), "nothing is held against it"


def test_a_device_that_deals_boxes_nobody_can_open_is_named_and_costs_nothing(make_service: Maker) -> None:
    service = make_service(epsilon=3.0, lifetime=7.0, period=7.0, every_hours=0.0)
    service.devices.lies = {5: "deals rubbish to all"}
    service.operate(6)
    assert service.events("aborted") == []
    assert [event["devices"] for event in service.events("named")] == [1], "how many, and never which"
    attempts, releases = spent_attempts(service)
    assert attempts == releases > 2
    assert [5 in cohort for cohort in service.devices.cohorts] == [True] + [False] * (releases - 1)
    with Enrolments(service.site.enrolment_file) as register:
        assert [device.number for device in register.devices() if device.named] == [5]
        directory, record = register.directory(range(6)), register.evidence(5)
        assert register.evidence(4) is None
    assert (check(record, directory), FaultEvidence.from_bytes(record).kind) == (5, "box")
    told = "".join(path.read_text() for path in service.site.folder.rglob("*.jsonl"))
    assert record.decode()[:40] not in told


def test_nobody_is_struck_without_evidence_of_this_attempt_that_holds(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    made: list[FaultEvidence] = []

    def forged(conduct: Conduct, record: FaultEvidence, directory: Any, *, context: bytes) -> bool:
        """A server that takes a record of one attempt for another, and against another device."""
        made.append(record)
        conduct.evidence[record.device] = record.model_copy(update={"attempt": "ab" * 32})
        conduct.evidence[0] = record
        return True

    monkeypatch.setattr(Conduct, "name", forged)
    service.devices.lies = {5: "deals rubbish to all"}
    service.operate()
    assert made
    assert service.events("named") == []
    with Enrolments(service.site.enrolment_file) as register:
        assert not any(device.named for device in register.devices())


def test_a_cohort_can_spare_a_device_unless_no_more_are_left(make_service: Maker) -> None:
    service = make_service(wait=1e-9, pause=1000.0)
    service.devices.away = {0}
    service.operate()
    assert (spent_attempts(service), len(service.events("no cohort"))) == ((0, 0), 1), "seven came, and could lose none"
    with Enrolments(service.site.enrolment_file) as register:
        register.revoke(0, now=2.0)
    service.operate()
    assert spent_attempts(service)[1] > 0, "there are no more than these seven"


def test_who_is_named_is_listed_with_the_reason_and_pardoned(
    make_service: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service()
    pardon(service.site.folder)
    service.devices.lies = {3: "gives wrong shares of one"}
    service.operate()
    pardon(service.site.folder)
    pardon(service.site.folder, 3)
    pardon(service.site.folder)
    assert capsys.readouterr().out.splitlines() == [
        "nobody is named", "named: 3 (share)", "device 3 is pardoned", "nobody is named",
    ]  # fmt: skip


def test_evidence_is_exported_and_checked_without_the_server(
    make_service: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, out = make_service(), tmp_path / "shown"
    service.devices.lies = {3: "gives wrong shares of one"}
    service.operate()
    folder = str(service.site.folder)
    assert run(["serve", "evidence", folder, "3"]) == 0
    shown = capsys.readouterr().out.strip().encode()
    assert run(["serve", "evidence", folder, "3", "--out", str(out)]) == 0
    assert run(["serve", "evidence", folder, "3", "--out", str(out)]) == 2, "nothing is written over"
    assert run(["serve", "evidence", folder, "2"]) == 2, "nobody else's"
    record = out / "evidence.json"
    assert record.read_bytes() == shown
    assert (record.stat().st_mode & 0o77, (out / "directory").stat().st_mode & 0o77) == (0, 0)
    capsys.readouterr()
    shutil.rmtree(service.site.folder)
    assert run(["audit", "evidence", str(record)]) == 0
    attempt = FaultEvidence.from_bytes(shown).attempt
    told = capsys.readouterr().out
    assert f"{record}: device 3, share" in told
    assert attempt in told
    assert run(["audit", "evidence", str(record), "--attempt", attempt]) == 0
    assert run(["audit", "evidence", str(record), "--attempt", "ab" * 32]) == 4
    record.write_bytes(shown.replace(b'"device":3', b'"device":4'))
    assert run(["audit", "evidence", str(record)]) == 4
    assert "convicts nobody" in capsys.readouterr().err
    assert run(["audit", "evidence", str(tmp_path / "none")]) == 2


def test_what_an_attempt_shows_is_kept_when_the_process_ends_in_it(make_service: Maker) -> None:
    service = make_service()

    def end() -> None:
        if service.devices.cohorts:
            raise KeyboardInterrupt

    service.devices.on_close = end
    service.devices.lies = dict.fromkeys((0, 1), "complains of one")
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    with Enrolments(service.site.enrolment_file) as register:
        assert [device.number for device in register.devices() if device.named] == [0, 1]


def test_a_name_outlives_a_process_that_is_killed_before_the_attempt_ends(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    service.devices.lies = {4: "complains of one"}

    def die(device: int, answer: bytes) -> bytes:
        if answer[1:2] == bytes([Step.INPUT + 128]):
            raise KeyboardInterrupt
        return answer

    service.devices.spoil = die
    monkeypatch.setattr("palate_server.operation.operation.strike", lambda *_, **__: None)  # it comes to nothing more
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    with Enrolments(service.site.enrolment_file) as register:
        assert [device.number for device in register.devices() if device.named] == [4]


def test_an_attempt_that_did_not_begin_strikes_nobody_again(make_service: Maker) -> None:
    service = make_service()
    service.devices.lies = {2: "complains of one"}

    def fail(coordinator: Any) -> None:
        if service.devices.cohorts:
            raise IntegrityError("the carrier is gone")

    service.devices.before = fail
    service.operate()
    assert [event["devices"] for event in service.events("named")] == [1]
    assert [event["charged"] for event in service.events("aborted")] == [False] * 3


def test_what_the_carrier_holds_is_removed_though_strikes_cannot_be_written_and_where_a_process_has_ended(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    service.devices.lies = {2: "complains of one"}

    def fail(*_: Any, **__: Any) -> int:
        raise PalateError("the register must be written, got a full disk")

    monkeypatch.setattr(Enrolments, "name", fail)
    with pytest.raises(PalateError, match="full disk"):
        service.operate()
    assert service.devices.closed == 2, "at the start, and after the attempt"
    service.operate(0)
    assert service.devices.closed == 3, "a process that is killed leaves it to the next one"


def test_an_attempt_that_could_not_begin_strikes_nobody_for_the_former_one(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, begun = make_service(), list[int]()
    guard = Restraint.attempt

    def attempt(restraint: Restraint, size: int) -> AbstractContextManager[None]:
        begun.append(size)
        if len(begun) == 2:
            raise OSError(ENOSPC, "No space left on device")
        service.devices.lies = {2: "complains of one"} if len(begun) == 1 else {}
        return guard(restraint, size)

    monkeypatch.setattr(Restraint, "attempt", attempt)
    service.operate()
    assert [event["reason"] for event in service.events("aborted")] == ["disk"]
    assert [event["devices"] for event in service.events("named")] == [1]


def test_a_device_that_refuses_is_no_offender(make_service: Maker) -> None:
    service = make_service()
    service.devices.spoil = lambda device, answer: REFUSED if device == 2 else answer
    service.operate()
    assert service.events("malformed") == service.events("named") == service.events("unsigned") == []


def test_a_run_goes_on_where_it_was_killed(make_service: Maker) -> None:
    service = make_service()
    seen: list[int] = []

    def die(coordinator: Any) -> None:
        seen.append(coordinator.round)
        if len(seen) == 2:
            coordinator.open_attempt(Directory({0: "ab" * 32}))
            raise KeyboardInterrupt

    service.devices.before = die
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    status = read_status(service.site)
    assert (status.attempts, status.releases) == (2, 1), "charged before it was killed"
    service.operate()
    assert [(event["round"], event["attempt"]) for event in service.events("lost")] == [(1, 0)], "it is told, once"
    assert len(service.events("opened")) == 1, "the same run"
    rounds = service.events("round")
    assert [event["round"] for event in rounds] == list(range(len(rounds)))
    assert rounds[1]["attempt"] == 1, "the attempt that was cut off stays void"
    assert spent_attempts(service) == (len(rounds) + 1, len(rounds))


def test_a_run_is_not_opened_that_the_budget_cannot_pay(make_service: Maker) -> None:
    for name, budgets in (("lifetime", {"lifetime": 3.0}), ("period", {"period": 3.0})):
        service = make_service(name, **budgets)
        service.operate(2)
        assert spent_attempts(service) == (0, 0)
        assert service.events("refused")[0]["reason"].startswith(f"the {name} budget must cover a whole run")


def test_months_of_runs_stay_within_the_lifetime(make_service: Maker) -> None:
    service = make_service(epsilon=3.0, lifetime=7.0, every_hours=0.0)
    service.operate(9)
    opened = len(service.events("opened"))
    assert opened == 4, "four at eps 3 are 6.8 together"
    status = read_status(service.site)
    assert status.epsilon_spent <= 7.0
    assert service.events("refused")


def test_a_device_that_checks_in_and_says_nothing_is_waited_for_once(make_service: Maker) -> None:
    service = make_service(wait=1e-9)
    service.devices.silent = {3}
    service.operate()
    invited = [3 in cohort for cohort in service.devices.cohorts]
    assert len(invited) > 2
    assert invited == [True, *[False] * (len(invited) - 1)]
    assert [event["devices"] for event in service.events("silent")] == [1]
    assert all(event["users"] == 7 for event in service.events("round")), "the others' rounds go on"


def test_who_owns_a_run_is_checked_before_it_is_touched(make_service: Maker) -> None:
    service = make_service()
    stop: list[Any] = []

    def die(coordinator: Any) -> None:
        stop.append(coordinator)
        raise KeyboardInterrupt

    service.devices.before = die
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    folder = service.site.run(stop[0].terms.run)
    with RunLock(folder), pytest.raises(LockedError):
        service.operate()


def test_a_round_of_sub_cohorts_is_gathered_released_and_told(make_service: Maker) -> None:
    """Each sub-cohort of six has one device to spare; who lies in one is named as in any cohort."""
    service = make_service(count=15, size=12, extra="subcohorts = 2\n")
    service.devices.away = {0, 1, 2, 3}
    service.operate()
    assert not service.events("round"), "with eleven one sub-cohort would have none to spare"
    service.devices.away, service.devices.lies = {0, 1, 2}, {7: "deals rubbish to all"}
    service.devices.before = lambda coordinator: service.devices.away.clear()  # enough for the next round, without it
    service.operate(2)
    rounds = service.events("round")
    assert [(event["invited"], event["subcohorts"]) for event in rounds] == [(12, 2)] * len(rounds)
    assert [event["users"] for event in rounds] == [11, *[12] * (len(rounds) - 1)]
    assert [event["devices"] for event in service.events("named")] == [1]
    assert service.events("closed")


def test_a_sub_cohort_that_loses_too_many_costs_the_others_nothing(make_service: Maker) -> None:
    """Of three that are silent two are in one of two sub-cohorts, which bears one; in the other one at most is."""
    service = make_service(count=12, size=12, extra="subcohorts = 2\n")
    service.devices.silent = {1, 2, 3}
    service.operate()
    first = service.events("round")[0]
    assert (first["subcohorts"], first["left_out"]) == (1, ["dropout"])
    assert first["users"] in (5, 6)
    assert not service.events("aborted")
