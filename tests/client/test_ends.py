"""A sync from its first request to its last: how it ends, what comes before, and what a server can't make it do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate, server_context
from stand_in_server import Heard, StandIn, Trouble, own_certificate, plan_message, serving

import palate
from palate_client.online import https, retry
from palate_client.online.https import Address, Https
from palate_common.enrolment import Invitation, new_token
from palate_common.rounds.exchange import Availability, MessageKind, ServerMessage, first_body
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError, RefusedError, UnreachableError
from palate_core.log.canonical import digest
from palate_core.plan import Noise

FLOORS = palate.Floors(allow_seeded=True, allow_central=True).for_few()


@dataclass
class World:
    """A server, a run of its population, and devices of an app."""

    run: Any
    server: StandIn
    open_device: Callable[..., palate.Device]
    home: Path
    plan: bytes = b""
    model: bytes = b""

    def device(self, name: str = "one", *, enrol: bool = True, consent: bool = True, **limits: Any) -> palate.Device:
        """A device, enrolled if it is to be."""
        limits = {
            "public_key": self.run.key.public,
            "population": "readers",
            "epsilon": 50.0,
            "floors": FLOORS,
        } | limits
        device = self.open_device(path=self.home / name, service=palate.Service(**limits))
        device.track_many([palate.Event("like", f"item-{row}") for row in (0, 2, 5)])
        if consent:
            device.consent.grant("train")
        if enrol:
            device.enroll(self.server.invitation())
        return device

    def asks(self, *plans: bytes, seconds: float = 0.0) -> None:
        """The server asks for a contribution to each of these plans, one after the other."""
        self.server.messages += [
            plan_message(plan, seconds=seconds, exchange=f"{number:032x}") for number, plan in enumerate(plans)
        ]

    def answers(self) -> list[bytes]:
        return [each.body for each in self.server.answers]


@pytest.fixture
def world(make_run: Callable[..., Any], open_device: Any, tmp_path: Path) -> Iterator[World]:
    run = make_run(noise=Noise.SEEDED)
    server = StandIn(public_key=run.key.public)
    made = World(run, server, open_device, tmp_path / "devices")
    coordinator = run.coordinator()
    server.publish(run.publish(coordinator))
    made.plan, made.model = coordinator.open_attempt(), coordinator.model.data
    server.offer("round", made.model)
    with serving(server):
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.01))


@contextmanager
def syncing(device: palate.Device, **options: Any) -> Iterator[Any]:
    """A sync in the background, which is online when the block begins."""
    running = device.sync_in_background(**{"seconds": 60.0, "poll_seconds": 0.02, **options})
    try:
        yield running
    finally:
        running.stop()
        running.wait(30)


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def charges(device: palate.Device) -> int:
    spending = device.privacy_report().spending
    assert spending is not None
    return spending.participations


def test_an_attempt_is_answered_and_the_device_comes_back_when_it_is_told(world: World) -> None:
    device = world.device()
    world.asks(world.plan, world.run.altered(world.plan))
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert (result.ended, result.next, result.model) == ("come back", 600.0, True)
    assert (result.rounds, result.dropped, result.refused, result.exchanges) == (2, 0, 0, 2)
    assert REFUSED not in world.answers()
    lines = [each.line for each in world.server.heard[1:]]
    assert lines[0] == "GET /models/latest"
    assert lines.count(f"GET /round/{digest(world.model)}") == 1
    asked = world.server.exchanges()
    assert [each.answers for each in asked] == ["", *(each.exchange for each in world.server.messages), ""]
    assert {each.headers["palate-takes"] for each in asked[:-1]} == {"1"}
    assert all(0 < int(each.headers["palate-stays"]) <= 60_000 for each in asked[:-1])
    assert [asked[-1].headers[f"palate-{name}"] for name in ("wait", "stays", "takes")] == ["0"] * 3, "the farewell"
    assert result.sent == sum(len(each.body) + len(each.line.partition(" ")[2]) for each in world.server.heard[1:])
    contact = device.privacy_report().contacts[-1]
    assert (contact.ended, contact.rounds, contact.sent) == ("come back", 2, result.sent)


def test_what_a_server_has_lost_it_asks_for_again_and_gets_the_same_bytes(world: World) -> None:
    """Killed before it took the answer, or after: nothing is computed or charged twice, and a round is counted once."""
    device, other = world.device(), world.run.altered(world.plan)
    world.asks(world.plan, world.plan, other, world.plan)
    world.server.messages[1] = replace(world.server.messages[1], exchange=world.server.messages[0].exchange)
    late: list[Trouble] = ["the reply is lost", "not heard", 503]
    world.server.fails = lambda heard: late.pop() if heard.answers and late else ""
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert (result.ended, result.rounds, result.dropped) == ("come back", 2, 0)
    first, again, second, after = world.answers()
    assert first == again
    assert REFUSED not in (first, second)
    assert after == REFUSED, "of an earlier attempt it has nothing any more"
    assert charges(device) == 2


def test_a_server_that_asks_the_same_for_ever_is_answered_now_and_then(world: World) -> None:
    """Else it would have as many signatures and uploads as its line carries."""
    device = world.device()
    world.asks(*[world.plan] * 1000)
    result = device.sync(seconds=3, poll_seconds=0.5)
    assert (result.ended, result.rounds) == ("time", 1)
    assert 2 <= len(world.server.answers) <= 10
    assert len(set(world.answers())) == 1


@pytest.mark.parametrize("with_plan", [True, False])
def test_a_server_that_asks_for_ever_what_is_refused_is_answered_now_and_then(world: World, with_plan: bool) -> None:
    """Whatever it asks in between: two lies by turns, each of which is new, or a plan that was answered and a lie."""
    device = world.device()
    world.asks(*[world.plan if with_plan else b"{}", b"[]"] * 500)
    result = device.sync(seconds=3, poll_seconds=0.5)
    assert (result.ended, result.rounds) == ("time", int(with_plan))
    assert 2 <= len(world.server.answers) <= 12
    assert charges(device) == int(with_plan)


def test_an_answer_that_comes_too_late_is_no_error_and_counts_if_it_is_asked_for_again(world: World) -> None:
    """An edge that was killed knows no exchange, until it is told again."""
    device = world.device()
    forgets, real = [True], world.server._take

    def take(exchange: str, body: bytes) -> str:
        return "late" if forgets and forgets.pop() else real(exchange, body)

    world.server._take = take  # type: ignore[method-assign] # of this one server
    world.asks(world.plan)
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert (result.ended, result.rounds, result.dropped, result.exchanges) == ("come back", 1, 0, 1)
    assert len({each.body for each in world.server.exchanges() if each.answers}) == 1
    world.server._take = lambda *_: "late"  # type: ignore[method-assign]
    world.server.messages.append(plan_message(world.run.altered(world.plan), exchange="e" * 32))

    def over(heard: Heard) -> Trouble:
        if heard.answers:
            world.server.messages.clear()
        return ""

    world.server.fails = over
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert (result.ended, result.rounds, result.dropped) == ("come back", 0, 1), "paid for, told as what it is"


def test_without_consent_the_network_is_not_touched(world: World) -> None:
    device = world.device()
    world.server.heard.clear()
    device.consent.revoke("train")
    result = device.sync(seconds=5)
    assert (result.ended, result.requests) == ("no consent", 0)
    with pytest.raises(RefusedError, match="not agreed"):
        device.enroll(world.server.invitation())
    assert world.server.heard == []
    assert device.privacy_report().contacts == ()


def test_the_model_alone_is_had_without_consent_or_enrolment_and_shows_no_key(world: World) -> None:
    device = world.device(enrol=False, consent=False)
    invitation = world.server.invitation()
    assert device.sync(seconds=5, models_only=True).ended == "not enrolled"
    result = device.sync(seconds=20, models_only=True, invitation=invitation)
    assert (result.ended, result.reason, result.model, result.rounds) == ("model", "", True, 0)
    assert device.model() is not None
    assert {each.line.split("/")[1] for each in world.server.heard} == {"models"}
    again = device.sync_in_background(seconds=20, models_only=True, invitation=invitation).wait(20)
    assert again is not None
    assert (again.ended, again.model) == ("model", False)
    assert [each.ended for each in device.privacy_report().contacts] == ["model"] * 2
    assert device.enrolment is None
    with pytest.raises(InputError, match="`invitation` must be left out without `models_only`"):
        device.sync(seconds=5, invitation=invitation)


@pytest.mark.parametrize("name", ["charging", "unmetered", "idle", "window"])
def test_a_policy_that_says_no_or_fails_keeps_it_offline(world: World, name: str) -> None:
    device = world.device()
    world.server.heard.clear()
    result = device.sync(seconds=5, policy=palate.Policy(**{name: lambda: False}))
    assert (result.ended, result.reason) == ("policy", name)
    result = device.sync(seconds=5, policy=palate.Policy(**{name: lambda: 1 / 0}))  # type: ignore[dict-item]
    assert result.ended == "policy"
    assert result.reason.startswith(f"{name}: ZeroDivisionError")
    assert world.server.heard == []


@pytest.mark.parametrize(
    ("how", "ended", "farewell"),
    [("charging", "policy", True), ("unmetered", "policy", False), ("revoked", "no consent", False),
     ("event", "stopped", True), ("function", "stopped", True)],
)  # fmt: skip
def test_a_policy_consent_or_stop_ends_it_between_exchanges(world: World, how: str, ended: str, farewell: bool) -> None:
    """Who has no consent any more, or whose network costs, doesn't even say farewell."""
    device, gone = world.device(), threading.Event()
    world.server.ends = False
    options: dict[str, Any] = {
        "charging": {"policy": palate.Policy(charging=lambda: not gone.is_set())},
        "unmetered": {"policy": palate.Policy(unmetered=lambda: not gone.is_set())},
        "event": {"stop": gone},
        "function": {"stop": gone.is_set},
    }.get(how, {})
    found: list[Any] = []
    running = threading.Thread(
        target=lambda: found.append(device.sync(seconds=60, poll_seconds=0.02, **options)), daemon=True
    )
    running.start()
    until(lambda: len(world.server.exchanges()) > 1)
    gone.set()
    if how == "revoked":
        device.consent.revoke("train")
    running.join(10)
    assert [each.ended for each in found] == [ended]
    assert (world.server.exchanges()[-1].headers["palate-stays"] == "0") == farewell


def test_who_has_revoked_consent_sends_no_further_request(world: World) -> None:
    """Not even of those that come before the first exchange: for a newer model."""
    device, asked = world.device(), list[int]()
    before = len(world.server.heard)

    def window() -> bool:
        asked.append(len(world.server.heard))
        device.consent.revoke("train")
        return True

    result = device.sync(seconds=10, policy=palate.Policy(window=window))
    assert (result.ended, result.requests, asked) == ("no consent", 0, [before])
    assert len(world.server.heard) == before


def test_who_revokes_after_an_answer_has_left_stays_for_what_they_still_agree_to(world: World) -> None:
    device = world.device()
    device.consent.grant("analytics")
    world.asks(world.plan)

    def fails(heard: Heard) -> Trouble:
        if heard.answers:
            device.consent.revoke("train")
        return ""

    world.server.fails = fails
    found = device.sync(seconds=60, poll_seconds=0.02)
    assert (found.ended, found.rounds, device.consent.get("train")) == ("come back", 1, False)


def test_who_revokes_while_the_server_holds_its_reply_waits_no_longer(world: World) -> None:
    device, held = world.device(), threading.Event()
    device.consent.grant("analytics")
    world.asks(world.plan)
    real = world.server.exchange

    def holding(*given: Any) -> Any:
        if given[0].answers:
            device.consent.revoke("train")
            held.wait(30)
        return real(*given)

    world.server.exchange = holding  # type: ignore[method-assign] # of this one server
    begun = time.monotonic()
    found = device.sync(seconds=60, poll_seconds=0.02)
    held.set()
    assert (found.ended, found.dropped) == ("no consent", 1)
    assert time.monotonic() - begun < 15


def test_it_ends_in_time_and_says_when_it_is_busy(world: World) -> None:
    device = world.device()
    world.server.ends = False
    with syncing(device, seconds=2.0) as first:
        until(world.server.exchanges)
        assert device.sync(seconds=4.0).ended == "busy"
        found = first.wait(10)
    assert found.ended == "time"
    assert found.seconds <= 2.5
    assert device.privacy_report().contacts[-1].ended == "time"


class Leaping:
    """A clock of a device's syncs that leaps ahead when it is told to."""

    def __init__(self) -> None:
        self.ahead, self.sleep = 0.0, time.sleep

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.parametrize("last", [True, False])
def test_an_attempt_that_has_begun_is_finished_after_the_syncs_time(
    world: World, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    """Whoever left now would have paid for nothing, and with them everybody else; but the grace is bounded."""
    clock = Leaping()
    monkeypatch.setattr(retry, "time", clock)
    device = world.device()
    world.asks(world.plan, world.run.altered(world.plan))

    def fails(heard: Heard) -> Trouble:
        if heard.answers and not clock.ahead:
            clock.ahead = 101.0 if last else 100.0 + retry.GRACE_SECONDS  # the sync was to end after 100 seconds
            return 503
        return ""

    world.server.fails = fails
    found = device.sync(seconds=100.0)
    assert (found.rounds, found.dropped) == ((1, 0) if last else (0, 1))
    assert found.ended in ({"time"} if last else {"time", "unreachable"})
    assert charges(device) == 1, "what it paid for, told as what it is; and no plan is taken in the grace"
    if last:
        tries = [each for each in world.server.exchanges() if each.answers]
        assert (tries[1].headers["palate-wait"], tries[1].headers["palate-stays"]) == ("0", "0"), (
            "no plan is waited for"
        )


def test_who_is_stopped_in_the_middle_of_an_attempt_says_so(world: World) -> None:
    device, stop = world.device(), threading.Event()
    world.asks(world.plan)

    def fails(heard: Heard) -> Trouble:
        if not heard.answers:
            return ""
        stop.set()
        return 503

    world.server.fails = fails
    found = device.sync(seconds=100.0, stop=stop)
    assert (found.ended, found.rounds, found.dropped, charges(device)) == ("stopped", 0, 1, 1)
    assert world.server.exchanges()[-1].headers["palate-stays"] == "0"


def test_a_plan_for_which_a_sync_has_no_time_is_declined(world: World) -> None:
    device = world.device()
    world.asks(world.plan, seconds=400.0)
    found = device.sync(seconds=300)
    assert (found.rounds, found.dropped, found.refused, charges(device)) == (0, 0, 1, 0)
    assert world.answers() == [REFUSED]
    assert "has 400 s for it" in device.privacy_report().refusals[-1].reason
    assert not [each for each in world.server.heard if "/round/" in each.line]


def test_a_lying_server_gets_one_constant(world: World) -> None:
    device, plan = world.device(), world.plan
    lies = [b"", b"{}", plan[:-2] + b"}", world.run.altered(plan, population="viewers")]
    world.asks(*lies)
    bodies = [first_body(each, b"list", b"?") for each in (*lies[1:], plan)]
    world.server.messages += [
        *(ServerMessage(MessageKind.MASKED, f"{99 + number:032x}", 0.0, body) for number, body in enumerate(bodies)),
        ServerMessage(MessageKind.STEP, "d" * 32, 0.0, b"?"),
    ]
    found = device.sync(seconds=60, poll_seconds=0.02)
    assert (found.ended, found.rounds, found.refused) == ("come back", 0, len(world.server.messages))
    assert world.answers() == [REFUSED] * found.refused
    assert (charges(device), device.privacy_report().sent) == (0, ())


def test_a_model_that_doesnt_come_by_its_hash_costs_no_charge_and_one_too_large_is_not_read(world: World) -> None:
    """The first plan's model isn't there, the second's is another, the third's comes at last, and is the fourth's."""
    most = 2**16
    device = world.device(most_bytes=most, epsilon=100.0)
    world.asks(world.plan, *(world.run.altered(world.plan, attempt=attempt) for attempt in (1, 2, 3)))
    path, shelf = f"/round/{digest(world.model)}", world.server.files
    gives: list[Any] = [404, b"another model", 503, "not heard", world.model + bytes(most), ""]
    fetched: list[Any] = []

    def fails(heard: Heard) -> Trouble:
        if heard.line != f"GET {path}":
            return ""
        fetched.append(gives.pop(0))
        shelf[path] = fetched[-1] if isinstance(fetched[-1], bytes) else world.model
        return "" if isinstance(fetched[-1], bytes) else fetched[-1]

    world.server.fails = fails
    found = device.sync(seconds=60, poll_seconds=0.02)
    assert [answer == REFUSED for answer in world.answers()] == [True, True, False, False]
    assert (gives, found.rounds, found.refused, charges(device)) == ([], 2, 2, 2)
    assert [refusal.reason for refusal in device.privacy_report().refusals] == [
        f"the server must accept a request for {path}, got status 404",
        "the model must be the one the plan names, got another",
    ]


def test_whose_limits_are_reached_stays_away(world: World) -> None:
    device = world.device(participations=0)
    result = device.sync(seconds=10)
    assert (result.ended, result.model) == ("spent", True)
    assert world.server.exchanges() == []


def test_a_device_must_be_enrolled_with_its_own_service(world: World) -> None:
    device = world.device(enrol=False)
    assert device.enrolment is None
    assert device.sync(seconds=5).ended == "not enrolled"
    invitation = world.server.invitation()
    for change in ({"public_key": "ab" * 32}, {"population": "viewers"}):
        with pytest.raises(InputError, match=f"the invitation's {next(iter(change))}"):
            device.enroll(invitation.model_copy(update=change))
    with pytest.raises(InputError, match="JSON"):
        device.enroll("no invitation")
    enrolled = device.enroll(invitation.to_json())
    assert (enrolled.device, enrolled.population) == (0, "readers")
    assert world.server.identity == device.identity


def test_an_enrolment_whose_answer_was_lost_is_asked_for_again_by_the_same_bytes(world: World) -> None:
    device, how = world.device(enrol=False), list[Trouble](["the reply is lost", "the reply is lost", 503, 403, ""])
    invitation = world.server.invitation(token=new_token())
    world.server.fails = lambda heard: how.pop(0)
    for said, error in (("must answer", UnreachableError), ("must answer", UnreachableError),
                        ("503", UnreachableError), ("403", RefusedError)):  # fmt: skip
        with pytest.raises(error, match=said):
            device.enroll(invitation)
    assert device.enroll(invitation).device == 0
    assert len({each.body for each in world.server.heard}) == 1


def test_a_device_that_was_excluded_is_told_so_and_says_no_farewell(world: World) -> None:
    device = world.device()
    world.server.fails = lambda heard: 403 if heard.line.startswith("POST") else ""
    result = device.sync(seconds=20)
    assert (result.ended, result.rounds) == ("rejected", 0)
    assert result.reason.endswith("got status 403: it has excluded this device")
    assert len(world.server.exchanges()) == 1


def test_a_device_whose_process_was_killed_is_back_at_once(world: World) -> None:
    """It said no farewell, and its answer may have come: the attempt is over for it, and the next one isn't."""
    device, online = world.device(), threading.Event()
    world.asks(world.plan, world.run.altered(world.plan))

    def fails(heard: Heard) -> Trouble:
        if not heard.answers:
            return ""
        online.set()
        return "the reply is lost"

    world.server.fails = fails
    policy = palate.Policy(unmetered=lambda: not online.is_set())
    assert device.sync(seconds=60, policy=policy).ended == "policy"
    world.server.fails = lambda heard: ""
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert (result.ended, result.rounds, charges(device)) == ("come back", 1, 2)


def test_a_server_below_a_path_is_asked_there(world: World) -> None:
    world.server.path = "/p/shop"
    device = world.device()
    world.asks(world.plan)
    assert (result := device.sync(seconds=60, poll_seconds=0.02)).rounds == 1, result
    assert {each.line.split(" ")[1].split("/")[2] for each in world.server.heard} == {"shop"}


def test_a_server_that_is_away_or_another_one_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "GIVE_UP_SECONDS", 0.2)
    device = world.device()
    world.server.fails = lambda heard: "not heard"
    result = device.sync(seconds=60, poll_seconds=0.02)
    assert result.ended == "unreachable"
    assert result.seconds < 20
    world.server.fails = lambda heard: ""
    invitation = world.server.invitation()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    nobody = invitation.model_copy(update={"port": port})
    named = invitation.model_copy(update={"server": "127.0.0.1"})
    untrusted = invitation.model_copy(update={"ca": certificate()})
    for changed, said in ((nobody, "refused"), (named, "certificate"), (untrusted, "certificate")):
        with pytest.raises(UnreachableError, match=said):
            device.enroll(Invitation.model_validate(changed.model_dump()))


def test_only_a_mistake_in_the_arguments_raises(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    device = world.device()
    for wrong in ({"seconds": 0}, {"seconds": float("nan")}, {"poll_seconds": True}, {"stop": 3}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            device.sync(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seconds"):
        device.sync_in_background(seconds=-1)
    monkeypatch.setattr("palate_client.online.sync.Https", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("a bug")))
    result = device.sync(seconds=5)
    assert (result.ended, result.reason) == ("failed", "it failed: RuntimeError('a bug')")
    device.close()
    assert device.sync(seconds=5).ended == "failed"


def trickle(listener: socket.socket, data: bytes) -> None:
    """Answer with one byte every tenth of a second, for ever."""
    context = server_context(*own_certificate())
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(4096)
            for byte in data * 1000:
                secure.send(bytes([byte]))
                time.sleep(0.1)


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nx: ", b"a", b"\r\n"])
def test_a_server_that_trickles_bytes_cannot_hold_a_device(data: bytes) -> None:
    with socket.create_server(("localhost", 0)) as listener:
        threading.Thread(target=trickle, args=(listener, data), daemon=True).start()
        address = Address("localhost", listener.getsockname()[1], own_certificate()[0])
        begun = time.monotonic()
        with Https(address, until=begun + 0.5) as connection, pytest.raises(UnreachableError):
            connection.request("GET", "/", most=10**6)
        assert time.monotonic() - begun < 2
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        begun = time.monotonic()
        ended = pytest.raises((https.StoppedError, UnreachableError))
        with Https(address, until=begun + 30.0, stop=stop.is_set) as connection, ended:
            connection.request("GET", "/", most=10**6)
        assert time.monotonic() - begun < 2


HOST = """
import sys, time, palate
floors = palate.Floors(allow_seeded=True, allow_central=True).for_few()
service = palate.Service(public_key=sys.argv[2], population="readers", epsilon=20.0, floors=floors)
device = palate.open(sys.argv[1], app="shelf", key=bytes(range(32)), service=service)
syncing = device.sync_in_background(seconds=100.0, poll_seconds=0.1)
print("started", flush=True)
if sys.argv[3] == "exit":
    sys.stdin.readline()
    assert syncing.result is None, syncing.result
else:
    syncing.wait()
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_hosts_end_is_not_held_up(world: World, how: str) -> None:
    world.device().close()
    world.server.ends = False
    command = [sys.executable, "-c", HOST, str(world.home / "one"), world.run.key.public, how]
    environment, pipe = os.environ | {"OPENBLAS_NUM_THREADS": "1"}, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as host:
        until(world.server.exchanges)
        begun = time.monotonic()
        if how == "kill":
            host.send_signal(signal.SIGKILL)
        _, said = host.communicate(b"\n", timeout=10)
        assert host.returncode == (0 if how == "exit" else -signal.SIGKILL), said
        assert time.monotonic() - begun < 6
        assert said == b""


def test_what_a_device_declares_is_what_its_user_agrees_to_now(world: World) -> None:
    device = world.device()
    world.server.ends = False
    with syncing(device) as running:
        until(lambda: world.server.exchanges()[-1:] and world.server.exchanges()[-1].headers["palate-takes"] == "1")
        device.consent.grant("analytics")
        until(lambda: world.server.exchanges()[-1].headers["palate-takes"] == "3")
        device.consent.revoke("train")
        until(lambda: world.server.exchanges()[-1].headers["palate-takes"] == "2")
        assert running.result is None
    assert Availability().takes == 0
