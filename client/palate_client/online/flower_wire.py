"""Fleet: Flower's side of a device, without Flower. Its calls are known here, its messages in `fleet_messages`.

    pull -> Asked -> (the device answers) -> push

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

What a device doesn't do: it never fetches an app bundle, and never runs what a server sends.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from palate_client.online.flower_messages import Asked, Notice, Record, Reply, ReplyUpload, record_dict, values
from palate_client.online.https import Https, RejectedError
from palate_client.rounds.dispatch import Answer
from palate_common.enrolment import NodeKey
from palate_common.errors import UnreachableError
from palate_common.records.canonical import digest
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

FLWR: Final = "1.42"
"""The version of Flower whose wire this is."""
HEARTBEAT_SECONDS: Final = 30.0
"""A node that isn't heard of for twice as long counts as gone."""
LONGEST_SECONDS: Final = 900.0
"""The longest interval that a node announces."""
LEAVE_SECONDS: Final = 3.0
_SMALL: Final = 2**16
_MEDIA: Final = "application/protobuf"


class Fleet:
    """A node at a SuperLink.

    Args:
        https: the connection.
        key: the node's key, which the server knows.
        most: bytes of the largest message that is read.
        clock: Unix time in seconds; a server accepts what is off by five minutes.

    Attributes:
        node: Flower's number of this node; 0 before the activation.
        exchanges: messages that were answered.
    """

    def __init__(
        self, https: Https, key: NodeKey, *, most: int = 2**28, clock: Callable[[], float] = time.time
    ) -> None:
        self.node = self.exchanges = 0
        self._https, self._key, self._most, self._clock = https, key, most, clock
        self._beat, self._interval = time.monotonic(), HEARTBEAT_SECONDS

    def activate(self, *, earlier: int = 0) -> int:
        """Come online; Flower's number of the node.

        Args:
            earlier: the number, where it is known. A device that was killed, or whose reply was lost, is still online
                for the server: it is taken offline first.

        Raises:
            UnreachableError: or `RejectedError`.
        """
        request = blob(1, self._key.public.encode()) + double(2, HEARTBEAT_SECONDS)
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
        """Go offline. That it isn't heard is no harm: then the server finds out by itself.

        Raises:
            StoppedError: the app asked to stop.
        """
        node, self.node = self.node, 0
        if node:
            with suppress(UnreachableError):
                self._call("deactivate-node", uint(1, node), seconds=LEAVE_SECONDS)

    def beat(self, *, silent: float = 0.0) -> None:
        """Tell the server that this node is there, if it is time to.

        Args:
            silent: seconds that it may not be heard of from now on, because it computes.

        Raises:
            UnreachableError: or `RejectedError`.
        """
        interval = min(max(HEARTBEAT_SECONDS, silent), LONGEST_SECONDS)
        if interval > self._interval or time.monotonic() - self._beat > HEARTBEAT_SECONDS * 0.8:
            self._call("send-node-heartbeat", self._node() + double(2, interval))
            self._beat, self._interval = time.monotonic(), interval

    def pull(self) -> Notice | None:
        """What there is for this node, without its content; None: nothing. It is handed over once.

        Raises:
            UnreachableError: or `RejectedError`.
            IntegrityError: what came isn't a message.
        """
        found = self._call("pull-messages", self._node())
        messages, trees = all_bytes(found, 2), all_bytes(found, 3)
        if not messages or not trees:
            return None
        return Notice(read(last_bytes(read(messages[0]), 1)), trees[0])

    def take(self, notice: Notice) -> Asked:
        """The message itself. Called again, it goes on.

        Raises:
            UnreachableError: or `RejectedError`.
            IntegrityError: what came isn't a message.
        """
        # Flower's own node now tells the server that it may delete its copy. This one doesn't: content is shared by all
        # messages of an attempt, and the server may still be storing what it would delete. It purges after attempts.
        return Asked.of(notice.metadata, self._record(last_uint(notice.metadata, 1), notice.tree))

    def reply(self, asked: Asked, answer: Answer | None) -> ReplyUpload:
        """An answer on its way. Its bytes are made here, once: what is sent again is the same."""
        made = Reply.of(asked, self.node, answer, elapsed=time.monotonic() - asked.pulled)
        return ReplyUpload(made, self.deliver)

    def deliver(self, delivery: ReplyUpload) -> None:
        """Send what is missing of an answer. Called again, it goes on; the server counts the answer once.

        A ServerApp may take the message before it has the objects. From then on the server no longer says which are
        missing, so that each is sent until there is an answer to it, and all of them, without the session that names
        who may send them, where the answer that would have named it was lost.

        Raises:
            UnreachableError: or `RejectedError`.
        """
        reply = delivery.reply
        if delivery.missing is None:
            again, delivery.begun = delivery.begun, True
            found = self._call("push-messages", self._node() + blob(2, reply.slim) + blob(3, reply.tree))
            if 2 not in found:
                delivery.missing = None
                raise UnreachableError("the server must say that it has heard an answer, got nothing")
            named = {bytes(name).decode("ascii", errors="replace") for name in all_bytes(found, 3)}
            delivery.session = last_text(found, 4) if named or not again else ""
            delivery.missing = [name for name in reply.objects if name in named or (again and not named)]
        while delivery.missing:
            name = delivery.missing[0]
            again = name in delivery.tried
            delivery.tried.add(name)
            fields = uint(2, reply.run) + text(3, name) + blob(4, reply.objects[name]) + text(5, delivery.session)
            stored = last_uint(self._call("push-object", self._node() + fields), 1)
            if not stored and not again and delivery.session:
                delivery.missing = None
                raise UnreachableError("the server must keep what is sent, got that it did not")
            delivery.missing.pop(0)  # what it doesn't want a second time, it has
        self.exchanges += 1

    def _record(self, run: int, tree: bytes | memoryview) -> Record | None:
        """The one record of a message, fetched; None where there is another number of them, or another kind."""
        content = [read(each) for each in all_bytes(read(tree), 2)]
        records = [] if len(content) != 1 else [read(each) for each in all_bytes(content[0], 2)]
        if len(records) != 1:
            return None
        name = last_text(records[0], 1)
        if last_text(content[0], 1) != digest(record_dict(name)):
            return None  # it has another name than ours
        fields = self._node() + uint(2, run) + text(3, name)
        found = self._call("pull-object", fields, most=self._most)
        data = last_bytes(found, 3)
        if not last_uint(found, 1) or digest(data) != name:
            raise UnreachableError("the server must have what it asks with, got something else")
        return values(data)

    def _node(self) -> bytes:
        """Who is calling, as most requests begin."""
        return blob(1, uint(1, self.node), always=True)

    def _call(self, name: str, body: bytes, *, most: int = _SMALL, seconds: float | None = None) -> Fields:
        """One signed request."""
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat()
        headers = {
            "content-type": _MEDIA,
            "accept": _MEDIA,
            "flwr-public-key": b64encode(self._key.public.encode()).decode(),
            "flwr-timestamp": now,
            "flwr-signature": b64encode(self._key.sign(now.encode())).decode(),
        }
        reply = self._https.request("POST", f"/v1/fleet/{name}", body, headers, most=most + _SMALL, seconds=seconds)
        if reply.status != HTTPStatus.OK:
            raise RejectedError(name, reply.status)
        return read(reply.body)
