"""A device's side of `palate/device/1`: every byte of docs/vectors/exchange.json, and what becomes of each refusal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from stand_in_server import StandIn, Trouble, home, own_certificate, plan_message, serving

from palate_client.online import https
from palate_client.online.exchange import AnswerBack, Exchanges, Reply
from palate_client.online.https import Address, HttpResponse, Https, RejectedError, StoppedError
from palate_common.rounds import exchange
from palate_common.rounds.exchange import (
    PATH,
    Availability,
    ExchangeRequest,
    MessageKind,
    ServerMessage,
    VersionError,
    check,
    common_version,
)
from palate_core.errors import InputError, IntegrityError, PalateError, UnreachableError
from palate_core.log.signing import SigningKey

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "exchange.json").read_text())
POPULATION = "readers"
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_key_hex"])))
NOW = time.time()


@dataclass
class Wire:
    """What stands in for the connection: it keeps what is sent, and gives these replies."""

    replies: list[HttpResponse]
    sent: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def request(self, method: str, path: str, body: bytes, headers: Any, **_: Any) -> HttpResponse:
        assert (method, path) == ("POST", PATH)
        self.sent.append((dict(headers()), body))
        return self.replies.pop(0)


def talk(wire: Any, *, path: str = "", population: str = POPULATION, device: int = 7, **changes: Any) -> Exchanges:
    return Exchanges(wire, device, population, path, KEY, **changes)


@contextmanager
def connected(server: StandIn, **changes: Any) -> Iterator[tuple[Exchanges, Https]]:
    """A device's requests to a server that is there."""
    server.identity = server.identity or KEY.public
    with serving(server):
        address = Address("localhost", server.port, own_certificate()[0], server.path)
        with Https(address, until=time.monotonic() + 60) as connection:
            stays: Any = {"declares": lambda: Availability(60.0, 3)}
            yield talk(connection, path=server.path, **{**stays, **changes}), connection


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda case: case["name"])
def test_a_request_is_that_of_the_vectors_to_the_byte(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["body_hex"])
    wire = Wire([HttpResponse(204, b"", {"palate-taken": "yes"})])
    mine = talk(
        wire,
        path=case["path"].removesuffix(PATH),
        population=case["population"],
        declares=lambda: Availability(case["stays"], case["takes"]),
        clock=lambda: case["time"] / 1000,
    )
    mine.ask(AnswerBack(case["answers"], body), wait=case["wait"])
    assert wire.sent == [(case["headers"], body)]
    check(case["headers"], case["population"], case["path"], KEY.public)
    read = ExchangeRequest.read(case["headers"])
    assert (read.device, read.answers, read.length) == (case["device"], case["answers"], len(body))


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_a_server_refuses_what_isnt_spelled_or_signed_so(case: dict[str, Any]) -> None:
    if case["why"] == "spelling":
        with pytest.raises(InputError):
            ExchangeRequest.read(case["headers"])
        return
    ExchangeRequest.read(case["headers"])
    with pytest.raises(IntegrityError):
        check(case["headers"], POPULATION, PATH, KEY.public)


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["kind"])
def test_a_message_is_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    wire = Wire([HttpResponse(200, bytes.fromhex(case["body_hex"]), case["headers"])])
    found = talk(wire).ask().message
    assert found is not None
    assert (found.kind, found.exchange, found.seconds) == (case["kind"], case["exchange"], case["seconds"])
    assert [part.hex() for part in found.parts] == [case[f"{name}_hex"] for name in ("plan", "directory", "request")]


@pytest.mark.parametrize("case", VECTORS["refused_messages"], ids=lambda case: case["name"])
def test_what_is_no_message_is_as_good_as_no_reply(case: dict[str, Any]) -> None:
    wire = Wire([HttpResponse(200, bytes.fromhex(case["body_hex"]), case["headers"])])
    with pytest.raises(UnreachableError, match="must send a message"):
        talk(wire).ask()


def test_a_reply_must_say_what_became_of_an_answer() -> None:
    for said in ({}, {"palate-taken": "perhaps"}, {"palate-taken": "yes, yes"}):
        mine = talk(Wire([HttpResponse(204, b"", said)]))
        with pytest.raises(UnreachableError, match="what became of an answer"):
            mine.ask(AnswerBack("a" * 32, b"x"))
        assert mine.answered == 0


class Reciting(StandIn):
    """It replies as the vectors' conversation does."""

    def exchange(self, asked: ExchangeRequest, body: bytes) -> Any:
        step = VECTORS["conversation"][len(self.heard) - 1]
        assert (self.heard[-1].headers | step["headers"], body.hex()) == (self.heard[-1].headers, step["body_hex"])
        said = {name.title(): value for name, value in step["reply_headers"].items()}
        return step["status"], said, bytes.fromhex(step["reply_hex"])


def test_a_conversation_is_that_of_the_vectors_to_the_byte() -> None:
    """Its first answer is asked for again, as by a server that was killed; its last one comes too late."""
    steps, found = VECTORS["conversation"], list[Reply]()
    declared = Availability(90.5, 3)
    clock = lambda: int(steps[0]["headers"]["palate-time"]) / 1000  # noqa: E731 - stands still
    with connected(Reciting(), declares=lambda: declared, clock=clock) as (mine, _):
        answer = AnswerBack()
        for step in steps[:-1]:
            answer = AnswerBack(step["headers"]["palate-answers"].strip("-"), bytes.fromhex(step["body_hex"]))
            found.append(mine.ask(answer, wait=20.0))
        mine.leave()
        mine.leave()  # it has left
    assert [each.taken for each in found] == ["", "", "late", "", "yes", "late"]
    kinds = [None if each.message is None else each.message.kind.value for each in found]
    assert kinds == [None, "masked", None, "masked", "step", "come-back"]
    assert mine.answered == 1


def test_times_rise_whatever_the_clock_does() -> None:
    now = iter([5.0, 4.0, 5.0, 9.0])
    wire = Wire([HttpResponse(204, b"")] * 4)
    mine = talk(wire, clock=lambda: next(now))
    for _ in range(4):
        mine.ask()
    assert [headers["palate-time"] for headers, _ in wire.sent] == ["5000", "5001", "5002", "9000"]


def test_an_answer_whose_reply_was_lost_is_sent_again_with_a_new_signature() -> None:
    """Its connection is lost before and after the server has heard it; the server counts the answer once."""
    how: list[Trouble] = ["", "", "the reply is lost", "the reply is lost", "not heard", 503, 502, 429]
    server = StandIn(messages=[plan_message(b"plan")], fails=lambda heard: how.pop(0) if how else "")
    with connected(server) as (mine, _):
        message = mine.ask(wait=1.0).message
        assert message == plan_message(b"plan")
        how.pop(0)
        answer, failed, found = AnswerBack(message.exchange, b"answer" * 20_000), list[PalateError](), None
        while found is None:
            try:
                found = mine.ask(answer, wait=1.0)
            except UnreachableError as error:
                failed.append(error)
        mine.leave()
    assert (found.taken, found.message, mine.answered) == ("twice", home(), 1)
    assert [each.body for each in server.answers] == [answer.body]
    assert [error.status for error in failed if isinstance(error, RejectedError)] == [503, 502, 429]
    tries = [each for each in server.exchanges() if each.answers]
    assert len(tries) >= 6
    assert {each.body for each in tries} == {answer.body}
    assert len({each.headers["palate-signature"] for each in tries}) == len(tries)


@pytest.mark.parametrize(
    ("status", "final", "said"),
    [
        (400, True, r"400\Z"),
        (401, True, "one of the clocks is off"),
        (403, True, "has excluded this device"),
        (404, True, r"404\Z"),
        (408, False, r"408\Z"),
        (409, True, "another process is online as this device"),
        (413, True, r"413\Z"),
        (426, True, "another version"),
        (429, False, r"429\Z"),
        (500, False, r"500\Z"),
        (503, False, r"503\Z"),
        (302, False, r"302\Z"),
    ],
)
def test_each_status_is_what_the_table_says(status: int, final: bool, said: str) -> None:
    """Who isn't taken says no farewell: it might be another process that would be sent offline."""
    server = StandIn(fails=lambda heard: status)
    with connected(server) as (mine, _):
        with pytest.raises(RejectedError, match=said) as refused:
            mine.ask()
        mine.leave()
    assert (refused.value.status, refused.value.final) == (status, final)
    assert len(server.heard) == (1 if final else 2)


def test_a_server_that_checks_refuses_another_identity_and_a_foreign_certificate() -> None:
    with connected(StandIn(identity=SigningKey.generate().public)) as (mine, _):
        with pytest.raises(RejectedError, match="doesn't know this device's key"):
            mine.ask()
        foreign = Address("localhost", mine._https._address.port, certificate())
        verifies = pytest.raises(UnreachableError, match="a certificate that doesn't verify")
        with Https(foreign, until=time.monotonic() + 60) as other, verifies:
            talk(other).ask()


@pytest.mark.parametrize("case", VECTORS["versions"], ids=lambda case: case["spoken"])
def test_the_highest_common_version_is_that_of_the_vectors(case: dict[str, Any]) -> None:
    assert common_version(case["spoken"]) == case["taken"]


def test_a_version_that_the_server_doesnt_speak_is_left_for_one_that_both_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "VERSIONS", (1, 3))
    for versions, asked in (((1, 2), ["3", "2", "2"]), ((1, 1), ["3", "1", "1"]), ((4, 5), ["3"])):
        server = StandIn(messages=[plan_message(b"plan")], versions=versions)
        with connected(server) as (mine, _):
            if versions == (4, 5):
                with pytest.raises(RejectedError, match="426"):
                    mine.ask()
            else:
                assert [mine.ask().message, mine.ask().message] == [plan_message(b"plan")] * 2
        assert [each.headers["palate-version"] for each in server.heard] == asked


def test_a_server_that_names_no_version_is_asked_once() -> None:
    wire = Wire([HttpResponse(426, b"", {"palate-versions": "1-3"})] * 2)
    with pytest.raises(RejectedError, match="426"):
        talk(wire).ask()
    assert len(wire.sent) == 1, "it has refused the version that it says it speaks"
    with pytest.raises(VersionError):
        ExchangeRequest.read({**VECTORS["requests"][0]["headers"], "palate-version": "2"})


def test_more_than_was_asked_for_is_not_read() -> None:
    large = ServerMessage(MessageKind.PLAN, "a" * 32, 1.0, b"x" * 3000)
    with connected(StandIn(messages=[large]), most=2999) as (mine, connection):
        with pytest.raises(UnreachableError, match="a body of 3000 bytes, more than 2999"):
            mine.ask()
        assert connection.received == 0
    with connected(StandIn(messages=[large]), most=3000) as (mine, _):
        assert mine.ask().message == large


def test_headers_without_end_are_no_reply() -> None:
    class Chatty(StandIn):
        def exchange(self, asked: ExchangeRequest, body: bytes) -> Any:
            return 204, {f"X-{n}": "x" * 1000 for n in range(20)}, b""

    with connected(Chatty()) as (mine, _), pytest.raises(UnreachableError, match=r"headers of \d+ characters"):
        mine.ask()
    assert https.MOST_HEADERS < 20_000


def test_who_changes_their_mind_while_the_server_holds_its_reply_waits_no_longer() -> None:
    held, over = threading.Event(), threading.Event()

    class Holding(StandIn):
        def exchange(self, asked: ExchangeRequest, body: bytes) -> Any:
            over.set()
            held.wait(30.0)
            return super().exchange(asked, body)

    server, begun = Holding(), time.monotonic()
    with connected(server) as (mine, _):
        with pytest.raises(StoppedError):
            mine.ask(AnswerBack("a" * 32, b"x"), wait=25.0, over=over.is_set)
        assert time.monotonic() - begun < 10
        with pytest.raises(StoppedError):
            mine.ask(AnswerBack("a" * 32, b"x"), over=over.is_set)
        assert len(server.heard) == 1, "nothing is sent any more"
        held.set()


def test_no_second_try_comes_after_a_change_of_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection that the server has closed is opened again for the same request, but not for one of before."""
    lost: Callable[[Any], Trouble] = lambda heard: "not heard" if len(server.heard) > 1 else ""  # noqa: E731
    server = StandIn(fails=lost, ends=False)
    with connected(server) as (mine, _):
        mine.ask()
        with pytest.raises(StoppedError):
            mine.ask(AnswerBack("a" * 32, b"x"), over=lambda: len(server.heard) > 1)
    assert len(server.heard) == 2
