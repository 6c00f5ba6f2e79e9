"""Runs by appointment, with real devices on the other side: cohorts, aborts, retries, budgets, quarantine, resuming."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from errno import ENOSPC
from typing import Any

import pytest

from palate_cli.commands.serve.access import pardon
from palate_common.errors import IntegrityError, LockedError, PalateError
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.messages import Step
from palate_server.folder.enrolments import Enrolments
from palate_server.operation.releases import latest, publish
from palate_server.operation.restraint import Restraint
from palate_server.rounds.lock import RunLock
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
    assert service.purged == 1 + len(rounds), "what the carrier holds of an attempt is removed after each, and at first"
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
    assert service.devices.home == dict.fromkeys(range(1, 9), 60), "it is published after they have left"
    clock.now += 60.0
    service.operate()
    assert service.devices.home == dict.fromkeys(range(1, 9), 86400), "within a day at most"
    assert len(service.events("opened")) == 1


def test_too_few_devices_are_sent_home_and_nothing_is_charged(make_service: Maker) -> None:
    service = make_service(wait=1e-9, pause=1000.0)
    service.devices.away = {0, 1}
    service.operate(2)
    assert spent_attempts(service) == (0, 0)
    assert service.events("no cohort")[0]["reason"] == "a cohort needs at least 8 devices, and 6 came"
    assert set(service.devices.home) == set(range(3, 9))


def test_more_devices_than_needed_are_drawn_from_and_the_others_sent_home(make_service: Maker) -> None:
    service = make_service(count=11)
    service.operate()
    assert all(len(cohort) == 8 for cohort in service.devices.cohorts)
    first = set(service.devices.cohorts[0])
    assert {node - 1 for node in service.devices.home} >= set(range(11)) - first


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
    assert (len(aborted), aborted[0]["reason"], aborted[0]["charged"]) == (1, "dropout", True)
    assert [event["attempt"] for event in rounds] == [1, *[0] * (len(rounds) - 1)]
    assert spent_attempts(service) == (len(rounds) + 1, len(rounds))


def test_devices_with_malformed_answers_are_quarantined(make_service: Maker) -> None:
    service = make_service(count=9)
    service.devices.spoil = lambda device, answer: b"garbage" if device == 2 else answer
    service.operate()
    with Enrolments(service.site.enrolment_file) as register:
        assert register.counts(now=2e9)["quarantined"] in (0, 1)
        held = [device.number for device in register.devices() if device.free_at]
    invited = [2 in cohort for cohort in service.devices.cohorts]
    assert held == ([2] if sum(invited) >= 2 else [])
    assert sum(invited) <= 2, "two strikes, and it isn't asked again"


def test_one_device_that_deals_boxes_nobody_can_open_costs_one_attempt_in_its_life(make_service: Maker) -> None:
    service = make_service(epsilon=3.0, lifetime=7.0, period=7.0, every_hours=0.0)

    def spoil(device: int, answer: bytes) -> bytes:
        if device == 5 and len(answer) > 40 and answer[1] == Step.SHARE + 128:
            return answer[:40] + bytes(len(answer) - 40)
        return answer

    service.devices.spoil = spoil
    service.operate(6)
    (aborted,) = service.events("aborted")
    assert aborted["charged"]
    assert service.events("disputed") == [{**service.events("disputed")[0], "complaints": 7, "named": 1}]
    attempts, releases = spent_attempts(service)
    assert (attempts - releases, releases > 2) == (1, True), "the other rounds go on"
    assert [5 in cohort for cohort in service.devices.cohorts] == [True] + [False] * releases
    with Enrolments(service.site.enrolment_file) as register:
        assert [device.number for device in register.devices() if device.named] == [5]


def test_a_cohort_can_spare_a_device_unless_no_more_are_left(make_service: Maker) -> None:
    service = make_service(wait=1e-9, pause=1000.0)
    service.devices.away = {0}
    service.operate()
    assert (spent_attempts(service), len(service.events("no cohort"))) == ((0, 0), 1), "seven came, and could lose none"
    with Enrolments(service.site.enrolment_file) as register:
        register.revoke(0, now=2.0)
    service.operate()
    assert spent_attempts(service)[1] > 0, "there are no more than these seven"


def test_a_cohort_that_a_dispute_keeps_from_meeting_says_so_until_it_is_pardoned(
    make_service: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever of the two lies could end every attempt of so few by silence; but the operator must be told."""
    service = make_service(wait=1e-9, pause=1000.0)
    with Enrolments(service.site.enrolment_file) as register:
        register.settle(set(), {(2, 5)})
    service.operate()
    assert spent_attempts(service) == (0, 0)
    reason = "a cohort needs at least 8 devices, and 7 came; disputes keep 1 more away: see `palate serve pardon`"
    assert [event["reason"] for event in service.events("no cohort")] == [reason]
    pardon(service.site.folder)
    assert capsys.readouterr().out.splitlines() == ["nobody is named", "open disputes: 2 and 5"]
    pardon(service.site.folder, 5)
    service.operate()
    assert spent_attempts(service)[1] > 0


def test_what_an_attempt_shows_is_kept_when_the_process_ends_in_it(make_service: Maker) -> None:
    service = make_service()

    def end() -> None:
        if service.devices.cohorts:
            raise KeyboardInterrupt

    service.purge = end
    service.devices.spoil = lambda device, answer: b"garbage" if device < 2 else answer
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    with Enrolments(service.site.enrolment_file) as register:
        assert [device.number for device in register.devices() if device.named] == [0, 1]


def test_an_attempt_that_did_not_begin_strikes_nobody_again(make_service: Maker) -> None:
    service = make_service()
    spoilt = iter([b"garbage"])
    service.devices.spoil = lambda device, answer: next(spoilt, answer) if device == 2 else answer

    def fail(coordinator: Any) -> None:
        if service.devices.cohorts:
            raise IntegrityError("the carrier is gone")

    service.devices.before = fail
    service.operate()
    assert [event["devices"] for event in service.events("malformed")] == [1]
    assert [event["charged"] for event in service.events("aborted")] == [False] * 3


def test_what_the_carrier_holds_is_removed_though_strikes_cannot_be_written_and_where_a_process_has_ended(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    service.devices.spoil = lambda device, answer: b"garbage" if device == 2 else answer

    def fail(*_: Any, **__: Any) -> int:
        raise PalateError("the register must be written, got a full disk")

    monkeypatch.setattr(Enrolments, "strike", fail)
    with pytest.raises(PalateError, match="full disk"):
        service.operate()
    assert service.purged == 2, "at the start, and after the attempt"
    service.operate(0)
    assert service.purged == 3, "a process that is killed leaves it to the next one"


def test_an_attempt_that_could_not_begin_strikes_nobody_for_the_former_one(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, begun = make_service(), list[int]()
    guard = Restraint.attempt

    def attempt(restraint: Restraint, size: int) -> AbstractContextManager[None]:
        begun.append(size)
        if len(begun) == 2:
            raise OSError(ENOSPC, "No space left on device")
        service.devices.spoil = lambda device, answer: b"garbage" if len(begun) == 1 and device == 2 else answer
        return guard(restraint, size)

    monkeypatch.setattr(Restraint, "attempt", attempt)
    service.operate()
    assert [event["reason"] for event in service.events("aborted")] == ["disk"]
    assert [event["quarantined"] for event in service.events("malformed")] == [0]


def test_a_device_that_refuses_is_no_offender(make_service: Maker) -> None:
    service = make_service()
    service.devices.spoil = lambda device, answer: REFUSED if device == 2 else answer
    service.operate()
    assert service.events("malformed") == []


def test_a_run_goes_on_where_it_was_killed(make_service: Maker) -> None:
    service = make_service()
    seen: list[int] = []

    def die(coordinator: Any) -> None:
        seen.append(coordinator.round)
        if len(seen) == 2:
            coordinator.open_attempt()
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
