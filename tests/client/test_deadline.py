"""Deadline: each reason to end is a value, and what can't be reached is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import palate
from palate_client.online import downloads, retry
from palate_client.online.enrolment import Enrolment, keep
from palate_client.online.hosting import OwnHost
from palate_client.online.https import RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline, SyncEnd
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, IntegrityError, PalateError, UnreachableError
from palate_core.log.canonical import digest
from palate_core.masks.directory import Directory


def deadline(**changes: Any) -> Deadline:
    return Deadline(**{"seconds": 60.0, "stop": None, "policy": Policy(), "consents": lambda: True, **changes})


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that fails with each of these first."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "heard"

    return call


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.01))


def test_each_reason_to_end_is_a_value() -> None:
    event = threading.Event()
    event.set()
    assert deadline().over() is None
    assert deadline(stop=event).over() == deadline(stop=lambda: True).over() == SyncEnd("stopped")
    assert deadline(consents=lambda: False).over() == SyncEnd(
        "no consent", "the user has not agreed to take part in training", quiet=True
    )
    assert deadline(policy=Policy(idle=lambda: False)).over() == SyncEnd("policy", "idle")
    assert deadline(policy=Policy(unmetered=lambda: False)).over() == SyncEnd("policy", "unmetered", quiet=True)
    assert deadline(seconds=1e-9).over() == SyncEnd("time")
    with pytest.raises(InputError, match=r"\A`stop` must be a function or a threading.Event, got 3\Z"):
        deadline(stop=3)


def test_a_pause_is_as_long_as_there_is_time_or_until_the_app_asks_to_stop() -> None:
    assert deadline().pause(0.001) is None
    assert deadline(seconds=1e-3).pause(1000.0) is None
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    assert deadline(stop=event).pause(30.0) == SyncEnd("stopped")


def test_what_cannot_be_reached_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    away = UnreachableError("nobody there")
    assert deadline().retry(failing()) == "heard"
    assert deadline().retry(failing(away, RejectedError("it", 503), away)) == "heard"
    assert deadline().retry(failing(StoppedError())) == SyncEnd("stopped")
    for status, said in (
        (401, "401: it doesn't know this device's key"),
        (403, "excluded this device"),
        (404, r"404\Z"),
    ):
        with pytest.raises(RejectedError, match=said):
            deadline().retry(failing(RejectedError("it", status)))
    monkeypatch.setattr(retry, "GIVE_UP_SECONDS", -1.0)
    assert deadline().retry(failing(away)) == SyncEnd("unreachable", "nobody there")


def test_a_reason_to_end_ends_the_trying() -> None:
    agrees = iter([True, False])
    found = deadline(consents=lambda: next(agrees)).retry(failing(UnreachableError("nobody there")))
    assert isinstance(found, SyncEnd)
    assert found.ended == "no consent"


@pytest.mark.parametrize(
    "changes",
    [{"consents": lambda: False}, {"policy": Policy(idle=lambda: False)}, {"stop": lambda: True}, {"seconds": 1e-9}],
)
def test_nothing_begins_after_there_is_a_reason_to_end(changes: dict[str, Any]) -> None:
    found = deadline(**changes).retry(lambda: pytest.fail("begun"))
    assert isinstance(found, SyncEnd)


def test_an_attempt_has_a_grace_and_no_plan_is_taken_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    mine = deadline(seconds=60.0)
    now[0] = 58.0
    assert (mine.over(), mine.stays()) == (SyncEnd("time"), 0.0)
    mine.grace = 60.0
    assert (mine.over(), mine.stays(), mine.until) == (None, 0.0, 120.0)
    now[0] = 118.0
    assert mine.over() == SyncEnd("time"), "it is bounded"
    now[0] = 58.0
    stopped, revoked = deadline(seconds=60.0, stop=lambda: True), deadline(seconds=60.0, consents=lambda: False)
    stopped.grace = revoked.grace = 60.0
    found = [each.over() for each in (stopped, revoked)]
    assert [end.ended for end in found if end is not None] == ["stopped", "no consent"]


def test_what_ends_a_download_takes_the_place_of_the_model() -> None:
    late: Any = {"public_key": "ab" * 32, "most": 100, "again": lambda call: SyncEnd("time"), "have": {}}
    assert downloads.model(None, "cd" * 32, **late) == SyncEnd("time")  # type: ignore[arg-type] # nothing is asked for


def test_a_sync_that_ends_while_a_model_is_fetched_answers_nothing(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device]
) -> None:
    directory = Directory({0: "ab" * 32})
    cohort = CohortTerms(n_max=40, n_min=40, c_max=1, masks=True, max_tosses=4)
    run = make_run(dp="distributed", cohort=cohort, epsilon=5.01)
    floors = palate.Floors(allow_seeded=True).for_few()
    device = open_device(service=palate.Service(public_key=run.key.public, population="readers", floors=floors))
    device.update_model(run.publish(run.coordinator()))
    plan, model = run.first(directory)
    first = plan, directory.to_bytes(), b"advertise"

    def asked(name: str) -> SyncEnd:
        return pytest.fail("the user hasn't agreed")

    def forged(name: str) -> bytes:
        raise IntegrityError(f"got another than {name}")

    with OwnHost(device.store, device.rounds, 0, asked) as host:
        assert host.join(*first) == REFUSED
        assert (host.over, host.refused) == (None, 1)
    assert "not agreed" in device.privacy_report().refusals[-1].reason
    device.consent.grant("train")
    with OwnHost(device.store, device.rounds, 0, lambda name: SyncEnd("time")) as host:
        assert host.join(*first) == REFUSED
        assert (host.over, host.refused) == (SyncEnd("time"), 0)
    assert len(device.privacy_report().refusals) == 1
    with OwnHost(device.store, device.rounds, 0, forged) as host:
        assert host.join(*first) == REFUSED
        assert (host.over, host.refused) == (None, 1)
    refusal = device.privacy_report().refusals[-1]
    assert refusal.reason == f"got another than {digest(model)}"


@pytest.mark.parametrize("masks", [False, True])
def test_a_plan_without_time_left_for_it_is_refused_before_it_is_charged(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device], masks: bool
) -> None:
    """Not even its model is fetched: who wouldn't see the end of an attempt costs everybody a charge."""
    cohort = CohortTerms(n_max=40, n_min=40, c_max=1, masks=masks, max_tosses=4)
    run = make_run(dp="distributed", cohort=cohort, epsilon=5.01)
    floors = palate.Floors(allow_seeded=True, allow_unmasked=True).for_few()
    device = open_device(service=palate.Service(public_key=run.key.public, population="readers", floors=floors))
    device.update_model(run.publish(run.coordinator()))
    device.consent.grant("train")
    directory = Directory({0: "ab" * 32})
    plan, model = run.first(directory if masks else None)
    left = [30.0]

    def asked(name: str) -> Any:
        return pytest.fail("nothing is fetched")

    def fetched(name: str) -> bytes:
        left[0] = 5.0  # it took a while
        return bytes(model)

    with OwnHost(device.store, device.rounds, 0, asked) as host:
        host.needs, host.left = 60.0, lambda: left[0]
        answer = host.join(plan, directory.to_bytes(), b"advertise") if masks else host.answer(plan)
        assert (answer, host.refused, host.begun, host.under_way) == (REFUSED, 1, 0, False)
    with OwnHost(device.store, device.rounds, 0, asked) as host:
        host.left = lambda: 0.0  # in the grace of another attempt, a plan that doesn't say what it needs
        answer = host.join(plan, directory.to_bytes(), b"advertise") if masks else host.answer(plan)
        assert (answer, host.refused, host.begun) == (REFUSED, 1, 0)
    with OwnHost(device.store, device.rounds, 0, fetched) as host:
        host.needs, host.left = 20.0, lambda: left[0]
        answer = host.join(plan, directory.to_bytes(), b"advertise") if masks else host.answer(plan)
        assert (answer, host.refused) == (REFUSED, 1)
    report = device.privacy_report()
    assert report.spending is not None
    assert report.spending.participations == 0
    said = [f"a plan needs a device that has {needs} s for it, and this sync ends in {ends} s"
            for needs, ends in ((60, 30), (0, 0), (20, 5))]  # fmt: skip
    assert [refusal.reason for refusal in report.refusals] == said


def test_who_has_asked_to_leave_answers_nothing_more_by_whatever_way_a_plan_comes(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device]
) -> None:
    run = make_run(dp="distributed", epsilon=5.01, cohort=CohortTerms(n_max=40, n_min=40, c_max=1, masks=False))
    floors = palate.Floors(allow_seeded=True, allow_unmasked=True).for_few()
    device = open_device(service=palate.Service(public_key=run.key.public, population="readers", floors=floors))
    device.update_model(run.publish(run.coordinator()))
    device.consent.grant("train")
    plan, model = run.first()
    keep(device.store, Enrolment("127.0.0.1", 1, "no certificate", run.key.public, "readers", 0))
    with pytest.raises(PalateError):
        device.leave(seconds=1)
    assert device.contribute(plan, model) == REFUSED
    refusal = device.privacy_report().refusals[-1].reason
    assert refusal == "this device has asked its server to delete it, and takes part in nothing more"
    assert device.rounds.spending().participations == 0


def test_who_has_computed_for_longer_than_a_server_is_waited_for_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time without an answer is that of a request, not the time since the one before."""
    now = [0.0]

    def passing() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(retry.time, "monotonic", passing)
    patient = deadline(seconds=5 * retry.GIVE_UP_SECONDS)
    assert patient.retry(failing()) == "heard"
    now[0] += 2 * retry.GIVE_UP_SECONDS
    assert patient.retry(failing(UnreachableError("it hung up meanwhile"))) == "heard"
