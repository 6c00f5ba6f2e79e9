"""Devices that die or lie between what they announce and what they send cost a round no more than themselves."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from palate_client.online.exchange import AnswerBack, Exchanges
from palate_client.online.hosting import OwnHost
from palate_client.online.https import Https, RejectedError
from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest, ServerMessage
from palate_core.log.canonical import digest
from palate_core.log.signing import SigningKey

N = 4


def test_a_device_that_dies_in_the_middle_of_its_answer_holds_nobody_up(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has announced, and signed, more than it sends; the others' answers are in hand."""
    mine, gone, guard = fleet(N), set[int](), threading.Lock()
    real = Https._once

    def once(https: Https, method: str, path: str, body: bytes, headers: Any, most: int) -> Any:
        with guard:
            if path == PATH and body and not gone:
                gone.add(threading.get_ident())
        if threading.get_ident() in gone:
            if body:
                connection = https._connection
                connection.request(method, path, body=body[: len(body) // 2], headers=dict(headers))
            raise ConnectionResetError
        return real(https, method, path, body, headers, most)

    monkeypatch.setattr(Https, "_once", once)
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    begun = time.monotonic()
    outcome = mine.order(timeout=6, come_back=None)()
    took = time.monotonic() - begun
    stop.set()
    assert [release["users"] for release in outcome["releases"]] == [N - 1], outcome
    assert took < 30
    assert [each.result().ended for each in results] == ["stopped"] * N


def test_answers_that_are_none_cost_the_round_no_more_than_themselves(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, lies, guard, true = fleet(N), [b"x", b"\0" * 1000, b"{}" * 300], threading.Lock(), OwnHost.reply_to

    def reply_to(self: OwnHost, message: ServerMessage) -> bytes:
        answer = true(self, message)
        with guard:
            return lies.pop() if lies else answer

    monkeypatch.setattr(OwnHost, "reply_to", reply_to)
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=60, come_back=None)()  # it ends with the last answer, however late
    stop.set()
    assert [(each["users"], each["malformed"]) for each in outcome["releases"]] == [(N - 3, 3)], outcome
    assert {each.result().ended for each in results} == {"stopped"}


def test_stale_unregistered_repeated_and_foreign_requests_get_nothing(fleet: Any) -> None:
    """A device is its identity, now and once, and nobody else; what it takes for its own is nobody else's."""
    mine = fleet(2)
    enrolled = mine.devices[0].enrolment
    keys = [device.rounds.identity() for device in mine.devices]
    with Https(enrolled.address, until=time.monotonic() + 30) as https:

        def asks(device: int, key: SigningKey, *, population: str = "readers", **changes: Any) -> Exchanges:
            stays: dict[str, Any] = {"declares": lambda: Availability(60.0, 1), **changes}
            return Exchanges(https, device, population, "", key, **stays)

        wrong: list[Exchanges] = [
            *(asks(0, keys[0], clock=lambda off=off: time.time() + off) for off in (-1000.0, 1000.0)),
            asks(0, keys[1]),
            asks(1, keys[0]),
            asks(2, keys[0]),
            asks(0, SigningKey.generate()),
            asks(0, keys[0], population="viewers"),
        ]
        for each in wrong:
            with pytest.raises(RejectedError) as refused:
                each.ask()
            assert refused.value.status == 401
        assert mine.deployment.online() == []
        victim, other = asks(0, keys[0]), asks(1, keys[1])
        assert victim.ask().message is None
        assert mine.deployment.online() == [0]
        assert other.ask(AnswerBack("a" * 32, b"nobody asked")).taken == "late"
        recorded = ExchangeRequest(0, "", 0.0, Availability(), time.time_ns() // 10**6).signed("readers", PATH, keys[0])
        for status in (204, 401):
            assert https.request("POST", PATH, b"", lambda: recorded, most=100).status == status
        assert mine.deployment.online() == [1]
        other.leave()


def raw(mine: Any, headers: dict[str, str], body: bytes = b"") -> bytes:
    """What a server says to these headers and this body, in whatever order they are."""
    enrolled = mine.devices[0].enrolment
    context = ssl.create_default_context(cadata=enrolled.ca)
    said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with (
        socket.create_connection(("localhost", enrolled.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{said}\r\n".encode() + body)
        return secure.recv(15)


def test_a_body_is_what_was_signed_or_nothing(fleet: Any) -> None:
    mine = fleet(1)
    key = mine.devices[0].rounds.identity()

    def asked(body: bytes, length: int) -> dict[str, str]:
        return ExchangeRequest(
            0, "a" * 32, 0.0, Availability(9.0, 1), time.time_ns() // 10**6, length, digest(body)
        ).signed("readers", PATH, key)

    right: Callable[[bytes], dict[str, str]] = lambda body: asked(body, len(body))  # noqa: E731
    assert raw(mine, right(b"right"), b"right").startswith(b"HTTP/1.1 204")
    for headers in (
        right(b"right") | {"content-length": "4"},
        right(b"right") | {"palate-body": digest(b"wrong")},
        {**right(b"right"), "palate-answers": "b" * 32},
    ):
        assert raw(mine, headers, b"right"[: int(headers["content-length"])]).startswith(b"HTTP/1.1 401")
    assert raw(mine, asked(b"x", 2**30)).startswith(b"HTTP/1.1 413"), "before a byte of it is read"
