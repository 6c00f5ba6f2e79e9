"""Fleet: a client of Flower's Fleet API without Flower. This file has its calls, `flower_messages` its messages.

    pull -> ServerMessage -> (the device answers) -> push -> the next ServerMessage

At a server of Palate's an answer and the next message are one request, which waits there, see
`palate_common.rounds.exchange`; at Flower's own each part of a message is a request.

It speaks the Fleet API of Flower 1.42: Protocol Buffers in HTTP POSTs below `/v1/fleet/`, signed by the node's P-384
key, with contents as objects that are named by their SHA-256. `tests/client/test_fleet.py` compares every byte with
flwr's own, and fails with a version of flwr that this module wasn't compared with.

    fleet = Fleet(https, node_key)
    fleet.activate()
    notice = fleet.pull()
    if notice is not None:
        asked = fleet.take(notice)
        fleet.reply(asked, ("device", 7)).go_on()
    fleet.leave()

A device never downloads an app bundle, and never runs code that a server sends.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from palate_client.online.flower_messages import Notice, Record, Reply, ReplyUpload, ServerMessage, record_dict, values
from palate_client.online.https import Https, RejectedError, StoppedError
from palate_client.rounds.dispatch import Answer
from palate_common.enrolment import NodeKey
from palate_common.records.protobuf import (
    Fields,
    all_bytes,
    blob,
    double,
    last_bytes,
    last_text,
    last_uint,
    read,
    text,
    uint,
)
from palate_common.rounds import exchange
from palate_core.errors import IntegrityError, UnreachableError
from palate_core.log.canonical import digest

FLWR: Final = "1.42"
"""The version of Flower whose protocol this is."""
HEARTBEAT_SECONDS: Final = 30.0
"""The usual interval between heartbeats. After twice this time without one a node counts as offline."""
LONGEST_SECONDS: Final = 900.0
"""The longest heartbeat interval that a node announces."""
LEAVE_SECONDS: Final = 3.0
REPLY_SECONDS: Final = 30.0
"""Seconds in which a server must reply, after the time for which it may wait for a message."""
SIGNED_SECONDS: Final = 60.0
"""Seconds for which a signed time is used: a server verifies it once. Flower accepts it for five minutes."""
_SMALL: Final = 2**16
_MEDIA: Final = "application/protobuf"


class Fleet:
    """A node that is connected to a SuperLink.

    Args:
        https: the connection.
        key: the node's key, which the server knows.
        most: bytes of the largest message that is read.
        clock: returns the time in seconds since 1970; a server accepts an error of five minutes.
        declares: returns for how long the device takes plans now, and for what.

    Attributes:
        node: Flower's number of this node; 0 before the activation.
        exchanges: messages that were answered.
        holds: whether the server waits for a message before it replies.
    """

    def __init__(
        self,
        https: Https,
        key: NodeKey,
        *,
        most: int = 2**28,
        clock: Callable[[], float] = time.time,
        declares: Callable[[], exchange.Availability] = exchange.Availability,
    ) -> None:
        self.node = self.exchanges = 0
        self.holds = False
        self._have = ""
        self._signed: tuple[float, dict[str, str]] | None = None
        self._https, self._key, self._most, self._clock = https, key, most, clock
        self._declares = declares
        self._beat, self._interval = time.monotonic(), HEARTBEAT_SECONDS

    def activate(self, *, earlier: int = 0) -> int:
        """Go online and return Flower's number of the node.

        Args:
            earlier: the number, if it is known. After a kill or a lost reply the device is still online for the server:
                it goes offline first.

        Raises:
            UnreachableError: no answer, or a refusal (`RejectedError`).
        """
        request = blob(1, self._key.public.encode()) + double(2, HEARTBEAT_SECONDS) + self._declares().to_bytes()
        try:
            found = self._call("activate-node", request)
        except RejectedError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED or not earlier:
                raise
            self.node = earlier
            self.leave()
            found = self._call("activate-node", request)
        self.node = last_uint(found, 1)
        self._beat, self._interval = time.monotonic(), HEARTBEAT_SECONDS
        return self.node

    def leave(self) -> None:
        """Go offline. If the request fails, the server notices by the missing heartbeats.

        Raises:
            StoppedError: the app asked to stop.
        """
        node, self.node = self.node, 0
        if node:
            with suppress(UnreachableError):
                self._call("deactivate-node", uint(1, node), seconds=LEAVE_SECONDS)

    def beat(self, *, silent: float = 0.0) -> None:
        """Send a heartbeat, if it is time to.

        Args:
            silent: seconds in which the node may send nothing, because it computes.

        Raises:
            UnreachableError: no answer, or a refusal (`RejectedError`).
        """
        interval = min(max(HEARTBEAT_SECONDS, silent), LONGEST_SECONDS)
        if interval > self._interval or time.monotonic() - self._beat > HEARTBEAT_SECONDS * 0.8:
            self._call("send-node-heartbeat", self._node() + double(2, interval))
            self._beat, self._interval = time.monotonic(), interval

    def pull(self, *, wait: float = 0.0, over: Callable[[], bool] | None = None) -> Notice | None:
        """The next message for this node, without its content, or None. Each comes only once.

        Args:
            wait: seconds for which the server may wait for one.
            over: returns whether to wait no longer.

        Raises:
            UnreachableError: no answer, or a refusal (`RejectedError`).
            StoppedError: `over`, or the app asked to stop.
            IntegrityError: the bytes aren't a message.
        """
        return self._notice(self._call("pull-messages", self._node() + self._waits(wait), wait=wait, over=over))

    def take(self, notice: Notice) -> ServerMessage:
        """Download a message's content. Called again, it continues.

        Raises:
            UnreachableError: no answer, or a refusal (`RejectedError`).
            IntegrityError: the bytes aren't a message.
        """
        # Flower's own node now asks the server to delete its copy. This one doesn't: all messages of an attempt share
        # their content, and the server may still be storing what it would delete. It is deleted after the attempt.
        name = _record_of(notice)
        return ServerMessage.of(notice.metadata, self._record(notice, name) if name else None, content=name)

    def reply(self, asked: ServerMessage, answer: Answer | None) -> ReplyUpload:
        """Encode an answer, once: each attempt to send it sends the same bytes."""
        made = Reply.of(asked, self.node, answer, elapsed=time.monotonic() - asked.pulled)
        return ReplyUpload(made, self.deliver)

    def deliver(self, delivery: ReplyUpload) -> None:
        """Send the missing objects of an answer. Called again, it continues; the server counts the answer once.

        Small objects go with the message; then `delivery.next` may be the next message, for which the server waits.

        A ServerApp may take the message before it has the objects. From then on the server doesn't say which are
        missing, so that each is sent until the server answers. If the answer with the session's name was lost, all are
        sent without it.

        Raises:
            UnreachableError: no answer, or a refusal (`RejectedError`).
            StoppedError: `delivery.over`, or the app asked to stop.
        """
        reply, wait = delivery.reply, delivery.wait()
        if delivery.missing is None:
            again, delivery.begun = delivery.begun, True
            inside = _inline(reply.objects)
            parts = [blob(exchange.OBJECT, reply.objects[name]) for name in inside]
            body = self._node() + blob(2, reply.slim) + blob(3, reply.tree) + b"".join(parts)
            found = self._call("push-messages", body + self._waits(wait), wait=wait, over=delivery.over)
            if 2 not in found:
                delivery.missing = None
                raise UnreachableError("the server must say that it has heard an answer, got nothing")
            known = exchange.KNOWN in found
            named = {bytes(name).decode("ascii", errors="replace") for name in all_bytes(found, 3)}
            delivery.session = last_text(found, 4) if named or not again else ""
            delivery.missing = [
                name
                for name in reply.objects
                if name in named or (again and not named and not (known and name in inside))
            ]
            if known:
                with suppress(IntegrityError):  # what isn't a message is none
                    delivery.next = self._notice(read(last_bytes(found, exchange.NEXT)))
                self.holds = True
        while delivery.missing:
            # The server may have held its reply for long: whoever revoked meanwhile sends nothing more.
            if delivery.over is not None and delivery.over():
                raise StoppedError
            name = delivery.missing[0]
            again = name in delivery.tried
            delivery.tried.add(name)
            fields = uint(2, reply.run) + text(3, name) + blob(4, reply.objects[name]) + text(5, delivery.session)
            stored = last_uint(self._call("push-object", self._node() + fields), 1)
            if not stored and not again and delivery.session:
                delivery.missing = None
                raise UnreachableError("the server must keep what is sent, got that it did not")
            delivery.missing.pop(0)  # if the server refuses an object the second time, it has it
        self.exchanges += 1

    def _notice(self, found: Fields) -> Notice | None:
        """The message in a reply, or None."""
        self.holds = exchange.KNOWN in found
        if self.holds:
            self._beat = time.monotonic()  # the server takes the request for a heartbeat
        messages, trees = all_bytes(found, 2), all_bytes(found, 3)
        if not messages or not trees:
            return None
        metadata = read(last_bytes(read(messages[0]), 1))
        self._have = last_text(metadata, 2)
        return Notice(metadata, trees[0], last_bytes(found, exchange.RECORD))

    def _waits(self, wait: float) -> bytes:
        """What a server needs to know to wait for this node's next message, and to draw it for a cohort."""
        waits = uint(exchange.WAIT, int(1000 * max(0.0, wait)), always=True) + text(exchange.HAVE, self._have)
        return waits + self._declares().to_bytes()

    def _record(self, notice: Notice, name: str) -> Record | None:
        """The record of a message, downloaded if it didn't come with it; None if it is of another type."""
        if notice.record and digest(notice.record) == name:
            return values(notice.record)
        fields = self._node() + uint(2, last_uint(notice.metadata, 1)) + text(3, name)
        found = self._call("pull-object", fields, most=self._most)
        data = last_bytes(found, 3)
        if not last_uint(found, 1) or digest(data) != name:
            raise UnreachableError("the server must have what it asks with, got something else")
        return values(data)

    def _node(self) -> bytes:
        """The node's number, with which most requests begin."""
        return blob(1, uint(1, self.node), always=True)

    def _call(
        self,
        name: str,
        body: bytes,
        *,
        most: int = _SMALL,
        seconds: float | None = None,
        wait: float = 0.0,
        over: Callable[[], bool] | None = None,
    ) -> Fields:
        """Send a request; `seconds` are its time limit, or it is `wait` and some more."""
        if wait:
            seconds, most = REPLY_SECONDS + wait, min(self._most, exchange.MOST_RECORD) + _SMALL
        path = f"/v1/fleet/{name}"
        reply = self._https.request("POST", path, body, self._headers(), most=most + _SMALL, seconds=seconds, over=over)
        if reply.status != HTTPStatus.OK:
            self._signed = None
            raise RejectedError(name, reply.status)
        return read(reply.body)

    def _headers(self) -> dict[str, str]:
        """Headers with a time that this node has signed not long ago."""
        now = self._clock()
        if self._signed is None or not 0 <= now - self._signed[0] < SIGNED_SECONDS:
            said = datetime.fromtimestamp(now, UTC).isoformat()
            headers = {
                "content-type": _MEDIA,
                "accept": _MEDIA,
                "flwr-public-key": b64encode(self._key.public.encode()).decode(),
                "flwr-timestamp": said,
                "flwr-signature": b64encode(self._key.sign(said.encode())).decode(),
            }
            self._signed = now, headers
        return self._signed[1]


def _record_of(notice: Notice) -> str:
    """The SHA-256 of a message's one record; empty if it doesn't have exactly one, or one of another name."""
    content = [read(each) for each in all_bytes(read(notice.tree), 2)]
    records = [] if len(content) != 1 else [read(each) for each in all_bytes(content[0], 2)]
    name = last_text(records[0], 1) if len(records) == 1 else ""
    return name if name and last_text(content[0], 1) == digest(record_dict(name)) else ""


def _inline(objects: Mapping[str, bytes]) -> list[str]:
    """The objects that go with a message: the smallest first, as far as they fit."""
    chosen, size = list[str](), 0
    for name, data in sorted(objects.items(), key=lambda item: len(item[1])):
        size += len(data)
        if size <= exchange.MOST_INLINE:
            chosen.append(name)
    return chosen
