"""Https against servers that lie about where a body ends, and about who they are. All on loopback, in threads."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from certificates import made_certificate, server_context

from palate_client.online.https import Address, HttpResponse, Https
from palate_core.errors import UnreachableError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
MOST = 2**20


@pytest.fixture(scope="module")
def certificates() -> dict[bool, tuple[str, str]]:
    """Of a server with a name of its own, and of one that has it as the common name alone; each with its key."""
    return {names: made_certificate(names=names) for names in (True, False)}


@pytest.fixture
def ask(certificates: dict[bool, tuple[str, str]]) -> Iterator[Callable[..., Any]]:
    """`ask(answer)`: what comes of a server that says these bytes, and then ends TLS properly, or only TCP."""
    with ExitStack() as stack:

        def asked(answer: bytes, *, clean: bool = True, names: bool = True) -> Any:
            pem, key = certificates[names]
            context = server_context(pem, key)
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                plain, _ = listener.accept()
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        secure.recv(2**16)
                        secure.sendall(answer)
                        if clean:
                            secure.unwrap()
                except OSError:
                    pass  # the client has heard enough
                finally:
                    plain.close()

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            stack.callback(thread.join, 60)
            address = Address("localhost", listener.getsockname()[1], pem)
            with Https(address, until=time.monotonic() + 60) as https:
                return https.request("GET", "/x", most=MOST)

        yield asked


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", b"hi"),
        (OK + b"content-length: 0\r\n\r\n", b""),
        (OK + b"content-length: 200000\r\n\r\n" + b"x" * 200000, b"x" * 200000),
        (CHUNKED + b"2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", b"hi!"),
        (OK + b"\r\nuntil the end", b"until the end"),
    ],
)
def test_a_whole_body_is_read(ask: Callable[..., Any], answer: bytes, body: bytes) -> None:
    assert ask(answer).body == body


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("answer", [OK + b"content-length: 50\r\n\r\nhello", CHUNKED + b"9\r\nhello"])
def test_a_body_that_was_cut_off_is_no_body(ask: Callable[..., Any], answer: bytes, clean: bool) -> None:
    with pytest.raises(UnreachableError, match="must answer"):
        ask(answer, clean=clean)


def test_tcp_that_ends_before_tls_is_no_end_of_a_body(ask: Callable[..., Any]) -> None:
    with pytest.raises(UnreachableError, match="must answer"):
        ask(OK + b"\r\ncut off on the way", clean=False)


@pytest.mark.parametrize("size", [b"-1", b"-5", b"-ffffffff"])
def test_a_chunk_of_less_than_nothing_is_no_way_around_the_bound(ask: Callable[..., Any], size: bytes) -> None:
    """After "-1", http.client would read all that comes: the bound is on what is kept, so it holds."""
    with pytest.raises(UnreachableError, match=f"a body of more than {MOST} bytes"):
        ask(CHUNKED + size + b"\r\n" + b"x" * (MOST + 2**17))
    with pytest.raises(UnreachableError, match="must answer"):
        ask(CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n")


def test_a_name_that_only_the_common_name_has_is_another_server(ask: Callable[..., Any]) -> None:
    with pytest.raises(UnreachableError, match="a certificate that doesn't verify"):
        ask(OK + b"content-length: 2\r\n\r\nhi", names=False)


@pytest.mark.parametrize(
    "error",
    [ssl.SSLSyscallError(5, "x"), ssl.SSLZeroReturnError(6, "x"), ssl.SSLEOFError(8, "x"), ConnectionResetError()],
)
def test_a_connection_that_was_closed_while_the_device_computed_is_opened_again(
    certificates: dict[bool, tuple[str, str]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """For a minute nothing was sent, and the gateway hung up: that is no refusal, and costs no pause."""
    left: list[Exception] = [error]

    def once(self: Https, *_: Any) -> HttpResponse:
        if left:
            raise left.pop()
        return HttpResponse(200, b"heard")

    monkeypatch.setattr(Https, "_once", once)
    with Https(Address("localhost", 1, certificates[True][0]), until=time.monotonic() + 60) as https:
        https._connection.sock = socket.socket()
        assert https.request("GET", "/", most=10).body == b"heard"
        left.append(error)
        with pytest.raises(UnreachableError):
            https.request("GET", "/", most=10)  # a new one that fails at once
