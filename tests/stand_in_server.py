"""A stand-in for a device's server: it speaks `palate/device/1`, asks what a test gives it, and fails when told.

    with serving(StandIn(key.public, messages=[...])) as server:
        device.enroll(server.invitation(...)) ; device.sync(...)

`StandIn.reply` is all of it but the sockets. Each request is checked as a server must: spelling, signature, a time that
rises, and the body that was signed.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from certificates import made_certificate, server_context

from palate_common.enrolment import (
    ENROL_PATH,
    Enrolled,
    Invitation,
    LeaveAnswer,
    asks_to_leave,
    read_leave,
    read_request,
)
from palate_common.models import published
from palate_common.rounds.exchange import (
    PATH,
    VERSIONS,
    ExchangeRequest,
    MessageKind,
    ServerMessage,
    VersionError,
    check,
)
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import digest

BACK_SECONDS: Final = 600.0
Given = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of a reply."""
Trouble = str | int
"""How a request fails: "": not at all; "the reply is lost"; a status; in any other words: it isn't heard."""


@dataclass(frozen=True)
class Heard:
    """A request.

    Attributes:
        line: method and path.
        headers: by lower-case names.
        body: the body.
    """

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def answers(self) -> str:
        """The exchange that it answers; empty: none."""
        return self.headers.get("palate-answers", "").strip("-")


@dataclass(frozen=True)
class Taken:
    """An answer that was taken.

    Attributes:
        message: what it answers.
        body: its bytes.
        request: the number of the request that brought it.
    """

    message: ServerMessage
    body: bytes
    request: int


def plan_message(plan: bytes, *, seconds: float = 0.0, exchange: str = "a" * 32) -> ServerMessage:
    """The message that asks for a contribution."""
    return ServerMessage(MessageKind.PLAN, exchange, seconds, plan)


def home(seconds: float = BACK_SECONDS) -> ServerMessage:
    """The message that sends a device away."""
    return ServerMessage(MessageKind.COME_BACK, "f" * 32, seconds)


@dataclass
class StandIn:
    """A server of one device.

    Attributes:
        identity: of the device; empty before it is enrolled.
        messages: what it asks for, each until it has the answer; after them it sends the device home.
        files: path -> what is there for everybody.
        population: the population.
        path: what each path begins with.
        fails: called with each request; says how it fails.
        heard: all requests.
        answers: the answers it has taken, in order.
        public_key: the release key, for invitations.
        versions: of the protocol.
        ends: sends the device home after all messages; otherwise there is none.
        port: where it is served.
    """

    identity: str = ""
    messages: list[ServerMessage] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    population: str = "readers"
    path: str = ""
    fails: Callable[[Heard], Trouble] = lambda heard: ""
    heard: list[Heard] = field(default_factory=list)
    answers: list[Taken] = field(default_factory=list)
    public_key: str = "ab" * 32
    versions: tuple[int, int] = VERSIONS
    ends: bool = True
    port: int = 1
    _latest: int = 0
    _asked: int = 0

    def publish(self, folder: Path) -> None:
        """Publish the model of a folder."""
        manifest = digest((folder / published.MANIFEST).read_bytes())
        self.files["/models/latest"] = json.dumps({"manifest": manifest, "version": 1}).encode()
        self.files |= {f"/models/{manifest}/{file.name}": file.read_bytes() for file in folder.iterdir()}

    def offer(self, room: str, data: bytes) -> None:
        """Offer a model at `round`, or a directory at `directory`."""
        self.files[f"/{room}/{digest(data)}"] = data

    def invitation(self, **changes: Any) -> Invitation:
        """An invitation to it."""
        said = {"server": "localhost", "port": self.port, "ca": own_certificate()[0], "public_key": self.public_key}
        more = {"version": 2, "path": self.path} if self.path else {}
        return Invitation(**{**said, "population": self.population, "token": "t" * 43, **more, **changes})

    def exchanges(self) -> list[Heard]:
        """The requests of the protocol."""
        return [each for each in self.heard if each.line == f"POST {self.path}{PATH}"]

    def reply(self, line: str, headers: Mapping[str, str], body: bytes, how: Trouble = "") -> Given | None:
        """Reply to a request, which may fail; None: hang up."""
        heard = Heard(line, {name.lower(): value for name, value in headers.items()}, body)
        self.heard.append(heard)
        how = how or self.fails(heard)
        if isinstance(how, int):
            return how, {}, b""
        found = None if how not in ("", "the reply is lost") else self._reply(heard)
        return None if how else found

    def _reply(self, heard: Heard) -> Given:
        method, _, path = heard.line.partition(" ")
        path = path.removeprefix(self.path)
        if method == "GET":
            return (HTTPStatus.OK, {}, self.files[path]) if path in self.files else (HTTPStatus.NOT_FOUND, {}, b"")
        if path == ENROL_PATH and asks_to_leave(heard.body):
            left = read_leave(heard.body)
            return HTTPStatus.OK, {}, LeaveAnswer(population=left.population, device=left.device).to_bytes()
        if path == ENROL_PATH:
            self.identity = read_request(heard.body).identity
            return HTTPStatus.OK, {}, Enrolled(device=0, population=self.population).to_bytes()
        try:
            low, high = self.versions
            if not low <= int(heard.headers.get("palate-version", "0")) <= high:
                raise VersionError
            asked = ExchangeRequest.read({**heard.headers, "palate-version": "1"})
            check(heard.headers, self.population, self.path + PATH, self.identity)
        except VersionError:
            return HTTPStatus.UPGRADE_REQUIRED, {"Palate-Versions": f"{low}-{high}"}, b""
        except InputError as error:
            raise AssertionError(f"a device must spell its headers right: {error}") from None
        except IntegrityError:
            return HTTPStatus.UNAUTHORIZED, {}, b""
        assert (len(heard.body), digest(heard.body)) == (asked.length, asked.body)
        assert asked.time > self._latest, "a request's time must rise"
        self._latest = asked.time
        return self.exchange(asked, heard.body)

    def exchange(self, asked: ExchangeRequest, body: bytes) -> Given:
        """What a request of the protocol gets."""
        taken = self._take(asked.answers, body) if asked.answers else ""
        said = {"Palate-Taken": taken} if taken else {}
        if not asked.wait and not asked.available.stays:
            return HTTPStatus.NO_CONTENT, said, b""
        message = self.next_message()
        if message is None:
            return HTTPStatus.NO_CONTENT, said, b""
        return (
            HTTPStatus.OK,
            {**{name.title(): value for name, value in message.headers().items()}, **said},
            message.body,
        )

    def next_message(self) -> ServerMessage | None:
        """The message whose answer is missing; the way home, when there is none."""
        if self._asked < len(self.messages):
            return self.messages[self._asked]
        return home() if self.ends else None

    @property
    def done(self) -> bool:
        """Whether it has all answers."""
        return self._asked == len(self.messages)

    def _take(self, exchange: str, body: bytes) -> str:
        if self._asked < len(self.messages) and exchange == self.messages[self._asked].exchange:
            self.answers.append(Taken(self.messages[self._asked], body, len(self.heard) - 1))
            self._asked += 1
            return "yes"
        return "twice" if any(exchange == each.message.exchange for each in self.answers) else "late"


@cache
def own_certificate() -> tuple[str, str]:
    """The certificate of all stand-ins of a process, and its key."""
    return made_certificate()


@contextmanager
def serving(server: StandIn) -> Iterator[StandIn]:
    """Serve it at a port of this machine, over TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert len(set(map(str.lower, self.headers))) == len(self.headers), "each header must be there once"
            found = server.reply(f"{self.command} {self.path}", dict(self.headers), body)
            if found is None:
                self.close_connection = True
                return
            status, headers, data = found
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            del self.headers["content-length"]
            self.headers["content-length"] = "0"
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with _Listener(("localhost", 0), Handler) as listener:
        server.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
    assert not listener.errors, listener.errors


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        self.errors: list[BaseException] = []
        self._context = server_context(*own_certificate())
        super().__init__(*given)

    def get_request(self) -> tuple[Any, Any]:
        """A connection; its handshake is its own thread's."""
        plain, address = super().get_request()
        plain.settimeout(30.0)
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """What a test's own code raises; that a device hangs up is none."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)
