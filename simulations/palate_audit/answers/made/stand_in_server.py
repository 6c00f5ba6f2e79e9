"""A stand-in for a device's server: it answers each request at once, as the dice say, where a network would be.

    Https -> Wire (in the place of the TLS connection) -> InstantServer -> bytes

Everything above the connection is the device's own: retries, signatures, downloads, messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.keys import certificate
from palate_client.online import https
from palate_client.online.flower_messages import record_dict
from palate_client.online.https import Address
from palate_common.records.protobuf import blob, double, last_bytes, last_text, last_uint, read, text, uint
from palate_common.rounds import exchange
from palate_core.log.canonical import digest

BROKEN, GARBAGE, EMPTY = 0, 1, 2
CERTIFICATE = certificate("server.example", bytes(range(32)), 1, (2025, 2035))
FAILURES = (500, 503, 429, 408, 412, 401, 403, 404, BROKEN, GARBAGE, EMPTY)


@dataclass
class InstantServer:
    """A server of Palate's, or Flower's own, that fails as the dice say.

    Attributes:
        dice: decide.
        clock: passes while it answers.
        ours: whether it knows what Palate adds to Flower's messages.
        fails: number of a request -> how it fails: with a status, with a broken connection, or with other bytes.
        files: path -> what a GET gets; a number is a status.
        messages: (kind, record) that it sends, in order.
        enrolled: what who enrols or leaves gets.
        happens: called with the number of a request before it is answered.
        asked: what was asked, and with which bytes.
        answers: what arrived as answers: the objects, and the message.
    """

    dice: Dice
    clock: MadeClock
    ours: bool = True
    fails: dict[int, int] = field(default_factory=dict)
    files: Mapping[str, bytes | int] = field(default_factory=dict)
    messages: list[tuple[str, Mapping[str, bytes | float]]] = field(default_factory=list)
    enrolled: bytes | int = 404
    happens: Callable[[int], None] = lambda number: None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    model_bytes: int = 0
    _objects: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request.

        Raises:
            OSError: the connection breaks.
        """
        shown = re.sub(r"/models/[0-9a-f]{64}", "/models/...", path)
        self.asked.append((method, shown, digest(body) if body else ""))
        self.happens(len(self.asked))
        self.clock.now += self.dice.one_of([0.0, 0.05, 0.5, 0.5, 0.0, 0.1, 0.1, 3.0])
        failure = self.fails.get(len(self.asked))
        if failure == BROKEN:
            raise ConnectionResetError("the connection broke")
        if failure is not None:
            return (200, b"\x99" * 9) if failure == GARBAGE else (200, b"") if failure == EMPTY else (failure, b"no")
        path = re.sub(r"^/p/[a-z0-9-]+", "", path)
        if method == "GET":
            found = self.files.get(path, 404)
            if "/models/" in path and isinstance(found, bytes):
                self.model_bytes += len(found)
            return (found, b"") if isinstance(found, int) else (200, found)
        if path.endswith("/v1/enroll"):
            return (self.enrolled, b"") if isinstance(self.enrolled, int) else (200, self.enrolled)
        return self._fleet(path.rsplit("/", 1)[1], body)

    def _fleet(self, name: str, body: bytes) -> tuple[int, bytes]:
        """An answer of the Fleet API."""
        asked = read(body)
        known = uint(exchange.KNOWN, 1) if self.ours and exchange.WAIT in asked else b""
        match name:
            case "activate-node":
                return (200, uint(1, 77)) if not self.dice.chance(0.1) else (412, b"")
            case "pull-messages":
                if self.ours:
                    self.clock.now += min(last_uint(asked, exchange.WAIT) / 1000, self.dice.one_of([0.1, 3.0]))
                return 200, known + self._next()
            case "pull-object":
                wanted = self._objects.get(last_text(asked, 3), b"")
                return 200, uint(1, bool(wanted)) + blob(3, wanted)
            case "push-messages":
                self.answers.append(bytes(last_bytes(asked, 2)))
                inside = [bytes(part) for part in asked.get(exchange.OBJECT, []) if not isinstance(part, int)]
                self.answers += inside
                tree = bytes(last_bytes(asked, 3)).decode("latin1")
                names = list(dict.fromkeys(re.findall(r"[0-9a-f]{64}", tree)))
                have = {digest(part) for part in inside} if self.ours else set()
                missing = [each for each in names if each not in have]
                named = b"".join(text(3, each) for each in missing)
                after = blob(exchange.NEXT, known + self._next()) if known else b""
                heard = blob(2, b"", always=True) if self.dice.chance(0.98) else b""
                return 200, heard + named + text(4, "session") + known + after
            case "push-object":
                self.answers.append(bytes(last_bytes(asked, 4)))
                return 200, uint(1, self.dice.chance(0.95))
        return 200, b""

    def _next(self) -> bytes:
        """The next message, if there is one now."""
        if not self.messages or self.dice.chance(0.1):
            return b""
        kind, values = self.messages.pop(0) if self.dice.chance(0.85) else self.messages[0]
        parts = {
            name: double(1, value) if isinstance(value, float) else blob(6, value, always=True)
            for name, value in values.items()
        }
        items = b"".join(blob(1, text(1, name) + blob(2, part)) for name, part in parts.items())
        record = b"ConfigRecord  %d\0" % len(items) + items
        content, number = record_dict(digest(record)), len(self.asked)
        self._objects[digest(record)] = record
        metadata = (
            uint(1, 5) + text(2, f"{number:064x}") + uint(3, 1) + text(6, "group") + double(7, 3600.0)
            + text(8, kind) + double(9, 1.76e9 + number) + uint(11, 3)
        )  # fmt: skip
        tree = text(1, f"{number:064x}") + blob(2, text(1, digest(content)) + blob(2, text(1, digest(record))))
        with_it = blob(exchange.RECORD, record) if self.ours and self.dice.chance(0.8) else b""
        return blob(2, blob(1, metadata)) + blob(3, tree) + with_it

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be what every connection of this process leads to."""

        def wire(address: Address, context: object, left: Callable[[], float]) -> Wire:
            return Wire(self, address, left)

        with mock.patch.object(https, "_Connection", wire):
            yield


class Wire:
    """In the place of a connection: what is asked is answered at once."""

    def __init__(self, server: InstantServer, address: Address, left: Callable[[], float]) -> None:
        self.sock: object | None = None
        self._server, self._left = server, left
        self._reply = 0, b""

    def request(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> None:
        """Ask."""
        self.sock = self
        self._reply = self._server.answer(method, path, body or b"")
        self._left()

    def getresponse(self) -> _Reply:
        """The answer."""
        return _Reply(*self._reply)

    def close(self) -> None:
        """End."""
        self.sock = None


class _Reply:
    """An answer, as `http.client` gives it."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.length = status, len(body)
        self._body = body

    def read1(self, most: int) -> bytes:
        """The next bytes."""
        found, self._body = self._body[:most], self._body[most:]
        self.length = len(self._body)
        return found

    def close(self) -> None:
        """End."""


def newest(manifest: str) -> bytes:
    """What a server says which model is the newest."""
    return json.dumps({"manifest": manifest, "version": 1}).encode()
