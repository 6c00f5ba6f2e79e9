"""How a sync ends, and what is never done before: each reason, on a real SuperLink where one is needed."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.online import https, retry
from palate_client.online.https import Address, Https
from palate_common.enrolment import Invitation
from palate_core.errors import InputError, RefusedError, UnreachableError
from palate_sim.engines.superlink import free_port

no_trouble = lambda path, phase, who: None  # noqa: E731


def test_without_consent_the_network_is_not_touched(fleet: Any) -> None:
    mine = fleet(1)
    mine.deployment.gateway.seen.clear()
    device = mine.devices[0]
    device.consent.revoke("train")
    result = device.sync(seconds=5)
    assert (result.ended, result.requests) == ("no consent", 0)
    with pytest.raises(RefusedError, match="not agreed"):
        device.enroll(mine.deployment.invitation(mine.run.key.public))
    assert mine.deployment.gateway.seen == []
    assert device.privacy_report().contacts == ()


def test_the_model_alone_is_had_without_consent_or_enrolment_and_shows_no_key(fleet: Any) -> None:
    mine = fleet(0)
    device = mine.add(enrol=False)
    device.consent.revoke("train")
    mine.deployment.gateway.seen.clear()
    invitation = mine.deployment.invitation(mine.run.key.public)
    assert device.sync(seconds=5, models_only=True).ended == "not enrolled"
    result = device.sync(seconds=20, models_only=True, invitation=invitation)
    assert (result.ended, result.reason, result.model, result.rounds) == ("model", "", True, 0)
    assert device.model() is not None
    assert {path.split("/")[1] for path in mine.deployment.gateway.seen} == {"models"}
    again = device.sync_in_background(seconds=20, models_only=True, invitation=invitation).wait(20)
    assert (again.ended, again.model) == ("model", False)
    assert [each.ended for each in device.privacy_report().contacts] == ["model"] * 2
    assert device.enrolment is None
    with pytest.raises(InputError, match="`invitation` must be left out without `models_only`"):
        device.sync(seconds=5, invitation=invitation)


@pytest.mark.parametrize("name", ["charging", "unmetered", "idle", "window"])
def test_a_policy_that_says_no_or_fails_keeps_it_offline(fleet: Any, name: str) -> None:
    mine = fleet(1)
    mine.deployment.gateway.seen.clear()
    result = mine.devices[0].sync(seconds=5, policy=palate.Policy(**{name: lambda: False}))
    assert (result.ended, result.reason) == ("policy", name)
    result = mine.devices[0].sync(seconds=5, policy=palate.Policy(**{name: lambda: 1 / 0}))  # type: ignore[dict-item]
    assert result.ended == "policy"
    assert result.reason.startswith(f"{name}: ZeroDivisionError")
    assert mine.deployment.gateway.seen == []


def test_a_policy_consent_or_stop_ends_it_between_exchanges(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine = fleet(4)
    gone = threading.Event()
    events = [threading.Event(), threading.Event()]
    results = [
        pool.submit(device.sync, seconds=50.0, poll_seconds=0.1, **options)
        for device, options in zip(
            mine.devices,
            [
                {"policy": palate.Policy(charging=lambda: not gone.is_set())},
                {},
                {"stop": events[0]},
                {"stop": events[1].is_set},
            ],
            strict=True,
        )
    ]
    mine.deployment.await_online(4)
    begun = time.monotonic()
    gone.set()
    mine.devices[1].consent.revoke("train")
    for event in events:
        event.set()
    assert [each.result().ended for each in results] == ["policy", "no consent", "stopped", "stopped"]
    assert time.monotonic() - begun < 5
    last = [path.rpartition("/")[2] for path in mine.deployment.gateway.seen]
    assert last.count("deactivate-node") == 3  # who has no consent any more doesn't even say farewell


def test_who_has_revoked_consent_sends_no_further_request(fleet: Any) -> None:
    """Not even of those that come before the first look for messages: a newer model, and the node's key."""
    mine = fleet(1)
    device, asked = mine.devices[0], list[int]()

    def window() -> bool:
        asked.append(len(mine.deployment.gateway.seen))
        device.consent.revoke("train")
        return True

    before = len(mine.deployment.gateway.seen)
    result = device.sync(seconds=10, policy=palate.Policy(window=window))
    assert (result.ended, result.requests, asked) == ("no consent", 0, [before])
    assert len(mine.deployment.gateway.seen) == before


def test_an_answer_is_not_tried_again_after_what_it_is_for_was_revoked(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """Who agrees to surveys still stays online, and not one of those goes out that were computed for training."""
    mine = fleet(1)
    device, tried = mine.devices[0], list[str]()
    device.consent.grant("analytics")

    def trouble(path: str, phase: str, who: str) -> int | None:
        if "/push-" not in path:
            return None
        tried.append(path)
        device.consent.revoke("train")
        return 503

    mine.deployment.gateway.trouble = trouble
    (result,) = mine.sync(pool)
    outcome = mine.order(timeout=8, come_back=None)()
    assert "error" in outcome, outcome
    found = result.result()
    assert (found.ended, found.exchanges, len(tried)) == ("no consent", 0, 1)


def test_who_revokes_after_an_answer_has_left_still_says_who_it_is(fleet: Any, pool: ThreadPoolExecutor) -> None:
    """A question that needs no consent of its own is answered by whoever still agrees to surveys."""
    mine = fleet(1)
    device = mine.devices[0]
    device.consent.grant("analytics")

    def trouble(path: str, phase: str, who: str) -> None:
        if "/push-" in path and phase == "after" and device.privacy_report().sent:
            device.consent.revoke("train")

    mine.deployment.gateway.trouble = trouble
    (result,) = mine.sync(pool)
    outcome = mine.order()()
    assert [release["users"] for release in outcome["releases"]] == [1], outcome
    assert (result.result().ended, device.consent.get("train")) == ("come back", False)


def test_it_ends_in_time_and_says_when_it_is_busy(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine = fleet(1)
    first = pool.submit(mine.devices[0].sync, seconds=4.0, poll_seconds=0.1)
    mine.deployment.await_online(1)
    assert mine.devices[0].sync(seconds=4.0).ended == "busy"
    found = first.result()
    assert found.ended == "time"
    assert found.seconds <= 4.5
    assert mine.devices[0].privacy_report().contacts[-1].ended == "time"


class Leaping:
    """A clock of a device's syncs that leaps ahead when it is told to."""

    def __init__(self) -> None:
        self.ahead, self.sleep = 0.0, time.sleep

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def test_an_attempt_that_has_begun_is_finished_after_the_syncs_time(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever left now would have paid for nothing, and with them everybody else."""
    clock = Leaping()
    monkeypatch.setattr(retry, "time", clock)
    mine = fleet(2)

    def trouble(path: str, phase: str, who: str) -> None:
        if path.endswith("push-messages") and phase == "before":
            clock.ahead = 101.0  # the sync was to end after 100 seconds

    mine.deployment.gateway.trouble = trouble
    results = mine.sync(pool, seconds=100.0)
    outcome = mine.order(timeout=20)()
    assert [release["users"] for release in outcome["releases"]] == [2], outcome
    found = [result.result() for result in results]
    assert [(each.ended, each.rounds, each.dropped) for each in found] == [("time", 1, 0)] * 2


def test_who_must_leave_in_the_middle_of_an_attempt_says_so(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, or the attempt lasts for longer than any grace."""
    clock, stop = Leaping(), threading.Event()
    monkeypatch.setattr(retry, "time", clock)
    mine = fleet(2)
    stopped = mine.devices[0].enrolment.key.public

    def trouble(path: str, phase: str, who: str) -> int | None:
        if "/push-" not in path:
            return None
        if b64decode(who).decode() == stopped:
            stop.set()
        else:
            clock.ahead = 100.0 + retry.GRACE_SECONDS
        return 503

    mine.deployment.gateway.trouble = trouble
    results = [
        pool.submit(device.sync, seconds=100.0, poll_seconds=0.1, stop=each)
        for device, each in zip(mine.devices, (stop, None), strict=True)
    ]
    assert "error" in mine.order(timeout=20, come_back=None)()
    found = [result.result() for result in results]
    assert {(each.rounds, each.dropped) for each in found} == {(0, 1)}
    assert {each.ended for each in found} <= {"stopped", "time", "unreachable"}
    for device in mine.devices:
        spending = device.privacy_report().spending
        assert spending is not None
        assert spending.participations == 1, "what it paid for, told as what it is"


def test_a_plan_for_which_a_sync_has_no_time_is_declined(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine, stop = fleet(1), threading.Event()
    results = mine.sync(pool, stop=stop)
    assert "error" in mine.order(timeout=400, come_back=None)()
    stop.set()
    found = results[0].result()
    assert (found.ended, found.rounds, found.dropped, found.refused) == ("stopped", 0, 0, 1)
    assert mine.devices[0].privacy_report().spending.participations == 0
    assert "has 400 s for it" in mine.devices[0].privacy_report().refusals[-1].reason


def test_whose_limits_are_reached_stays_away(fleet: Any) -> None:
    mine = fleet(1)
    device = mine.add(participations=0)
    result = device.sync(seconds=10)
    assert (result.ended, result.model) == ("spent", True)
    assert not [path for path in mine.deployment.gateway.seen if path.endswith("activate-node")]


def test_a_device_must_be_enrolled_with_its_own_service(fleet: Any) -> None:
    mine = fleet(0)
    device = mine.add(enrol=False)
    assert device.enrolment is None
    assert device.sync(seconds=5).ended == "not enrolled"
    invitation = mine.deployment.invitation(mine.run.key.public)
    for change in ({"public_key": "ab" * 32}, {"population": "viewers"}):
        with pytest.raises(InputError, match=f"the invitation's {next(iter(change))}"):
            device.enroll(invitation.model_copy(update=change))
    with pytest.raises(InputError, match="JSON"):
        device.enroll("no invitation")
    enrolled = device.enroll(invitation.to_json())
    assert (enrolled.device, enrolled.population) == (0, "readers")
    assert "PRIVATE" not in repr(enrolled)


def test_an_enrolment_whose_answer_was_lost_is_asked_for_again(fleet: Any) -> None:
    mine = fleet(0)
    device = mine.add(enrol=False)
    invitation = mine.deployment.invitation(mine.run.key.public)
    mine.deployment.gateway.trouble = lambda path, phase, who: "cut" if phase == "after" else None
    with pytest.raises(UnreachableError):
        device.enroll(invitation)
    mine.deployment.gateway.trouble = lambda path, phase, who: 503
    with pytest.raises(UnreachableError, match="503"):
        device.enroll(invitation)
    mine.deployment.gateway.trouble = no_trouble
    assert device.enroll(invitation).device == 0
    assert device.enroll(invitation).device == 0
    assert len(mine.deployment.gateway.identities) == 1
    other = mine.add(enrol=False)
    with pytest.raises(RefusedError, match="403"):
        other.enroll(invitation)
    assert other.enrolment is None


def test_a_node_key_that_was_revoked_is_told_so(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "ONLINE_SECONDS", 1.0)
    mine = fleet(1)
    mine.deployment.revoke(mine.devices[0].enrolment.key.public)
    result = mine.devices[0].sync(seconds=20)
    assert (result.ended, result.rounds) == ("rejected", 0)
    assert result.reason.endswith(
        "got status 412: it doesn't know this device any more, or counts it as online already"
    )


def test_a_server_that_is_away_or_another_one_is_not_waited_for_for_ever(
    fleet: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retry, "GIVE_UP_SECONDS", 2.0)
    mine = fleet(1)
    device = mine.devices[0]
    mine.deployment.gateway.trouble = lambda path, phase, who: "cut"
    result = device.sync(seconds=60)
    assert result.ended == "unreachable"
    assert result.seconds < 20
    mine.deployment.gateway.trouble = no_trouble
    invitation = mine.deployment.invitation(mine.run.key.public)
    nobody = invitation.model_copy(update={"port": free_port()})
    named = invitation.model_copy(update={"server": "127.0.0.1"})
    untrusted = invitation.model_copy(update={"ca": mine.deployment.other_ca()})
    for changed, said in ((nobody, "refused"), (named, "certificate"), (untrusted, "certificate")):
        with pytest.raises(UnreachableError, match=said):
            device.enroll(Invitation.model_validate(changed.model_dump()))


def test_only_a_mistake_in_the_arguments_raises(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fleet(1)
    device = mine.devices[0]
    for wrong in ({"seconds": 0}, {"seconds": float("nan")}, {"poll_seconds": True}, {"stop": 3}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            device.sync(**wrong)
    with pytest.raises(InputError, match="seconds"):
        device.sync_in_background(seconds=-1)
    monkeypatch.setattr(https, "Https", None)
    monkeypatch.setattr("palate_client.online.sync.Https", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("a bug")))
    result = device.sync(seconds=5)
    assert (result.ended, result.reason) == ("failed", "it failed: RuntimeError('a bug')")
    device.close()
    assert device.sync(seconds=5).ended == "failed"


def trickle(listener: socket.socket, context: Any, data: bytes) -> None:
    """Answer with one byte every tenth of a second, for ever."""
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(4096)
                for byte in data * 1000:
                    secure.send(bytes([byte]))
                    time.sleep(0.1)
        except OSError:
            continue


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nx: ", b"a", b"\r\n"])
def test_a_server_that_trickles_bytes_cannot_hold_a_device(deployment: Any, data: bytes) -> None:
    with socket.create_server(("localhost", 0)) as listener:
        threading.Thread(target=trickle, args=(listener, deployment.server_context(), data), daemon=True).start()
        address = Address("localhost", listener.getsockname()[1], (deployment.folder / "ca.pem").read_text())
        begun = time.monotonic()
        with Https(address, until=begun + 1.0) as connection, pytest.raises(UnreachableError):
            connection.request("GET", "/", most=10**6)
        assert time.monotonic() - begun < 3
        stop = threading.Event()
        threading.Timer(0.5, stop.set).start()
        begun = time.monotonic()
        ended = pytest.raises((https.StoppedError, UnreachableError))
        with Https(address, until=begun + 30.0, stop=stop.is_set) as connection, ended:
            connection.request("GET", "/", most=10**6)
        assert time.monotonic() - begun < 3


def test_more_than_was_asked_for_is_not_read(fleet: Any) -> None:
    mine = fleet(0)
    folder = mine.deployment.folder / "public"
    (folder / "large").write_bytes(bytes(10**6))
    address = Address(
        "localhost", mine.deployment.gateway.server_address[1], (mine.deployment.folder / "ca.pem").read_text()
    )
    with Https(address, until=time.monotonic() + 20) as connection:
        with pytest.raises(UnreachableError, match="1000000 bytes, more than 1000"):
            connection.request("GET", "/large", most=1000)
        assert connection.received == 0
        assert connection.request("GET", "/large", most=10**6).body == bytes(10**6)
        assert connection.request("GET", "/nothing", most=10).status == 404
