"""Link: the ServerApp's requests to its SuperLink that Flower doesn't have: many messages, or many replies, at once.

    push     messages with their objects                    -> ids
    collect  waits for replies to an exchange's messages    -> replies with their objects, how many are left
    online                                                  -> nodes, and what each of them declares
    purge    deletes all messages

`palate_server.flower.shortcut` answers them. Flower's own grid has a request for each object of each message.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Metadata
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from palate_common.records.protobuf import all_bytes, blob, last_bytes, last_uint, read, text, uint
from palate_common.rounds.exchange import Availability
from palate_core.errors import PalateError

PUSH, COLLECT, PURGE, ONLINE = (f"/v1/runtime/palate-{name}" for name in ("push", "collect", "purge", "online"))
"""The paths. The gateway passes none below `/v1/runtime/`."""
PRESENT: Final = struct.Struct("<QIB")
"""A node that is online: its number, the milliseconds for which it takes plans, and for what."""
MOST_OBJECTS: Final = 3
"""The most objects of a reply of Palate's: the message, the name of its one record, and the record."""
LOOK_SECONDS: Final = 10.0
"""The longest that one request for replies waits."""
PATIENCE: Final = 300.0
"""Seconds in which a SuperLink that is started again must answer: one that hangs is waited for before it is ended."""
_PAUSE, _TIMEOUT = 0.5, 60.0


class ForgottenError(PalateError):
    """The SuperLink doesn't know an exchange any more: it was started again."""


class Link:
    """The ServerApp's requests that Flower doesn't have.

    Args:
        grid: Flower's `HttpGrid`, whose connection and token are used.
        on_failure: called with each error after which a request is tried again.
        patience: whether to try a request again at all.
    """

    def __init__(
        self,
        grid: Any,
        *,
        on_failure: Callable[[Exception], object] = lambda error: None,
        patience: Callable[[], bool] = lambda: True,
    ) -> None:
        self._grid, self._on_failure, self._patience = grid, on_failure, patience

    def push(self, exchange: str, messages: Iterable[Message]) -> list[str]:
        """Send messages with all their objects; returns their ids, empty for those that the SuperLink refuses."""
        protos, trees, objects = [], [], dict[str, bytes]()
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                protos.append(message_to_proto(remove_content_from_message(message)))
                trees.append(get_object_tree(message))
                objects |= {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        request = PushAppMessagesRequest(messages_list=protos, message_object_trees=trees).SerializeToString()
        body = [text(1, exchange), blob(2, request), *(blob(3, each) for each in objects.values())]
        return [bytes(each).decode() for each in all_bytes(read(self.ask(PUSH, b"".join(body))), 1)]

    def collect(self, exchange: str, *, seconds: float) -> tuple[list[tuple[Metadata, dict[str, bytes]]], int]:
        """The replies that are complete, waiting for one, each with its objects; and how many more may come.

        Raises:
            ForgottenError: the SuperLink doesn't know the exchange.
        """
        wait = uint(2, int(1000 * max(0.0, min(seconds, LOOK_SECONDS))))
        found = read(self.ask(COLLECT, text(1, exchange) + wait, seconds=seconds))
        if not last_uint(found, 1):
            raise ForgottenError("the SuperLink must know an exchange, and was started again")
        replies = []
        for each in all_bytes(found, 2):
            parts = read(each)
            contents = {get_object_id(data): data for data in map(bytes, all_bytes(parts, 2))}
            replies.append((Metadata.FromString(bytes(last_bytes(parts, 1))), contents))
        return replies, last_uint(found, 3)

    def purge(self, *, seconds: float = _TIMEOUT) -> None:
        """Let the SuperLink delete all messages, within this time. One that has ended has none."""
        self.ask(PURGE, b"", seconds=seconds, timeout=seconds)

    def online(self) -> dict[int, Availability]:
        """The nodes that are online, each with what it has declared."""
        found = PRESENT.iter_unpack(self.ask(ONLINE, b""))
        return {node: Availability(stays / 1000, takes) for node, stays, takes in found}

    def ask(self, path: str, body: bytes, *, seconds: float = PATIENCE, timeout: float = _TIMEOUT) -> bytes:
        """Send a request, again and again while the SuperLink is started again, each time for `timeout` seconds.

        Raises:
            PalateError: it doesn't answer in `seconds`, or refuses.
        """
        client: Any = self._grid._runtime_client
        until = time.monotonic() + max(seconds, _PAUSE)
        headers = {"content-type": PROTOBUF_MEDIA_TYPE, TASK_TOKEN_HEADER: self._grid._token}
        while True:
            try:
                reply = client._client.post(f"{client._base_url}{path}", content=body, headers=headers, timeout=timeout)
                reply.raise_for_status()
                return bytes(reply.content)
            except httpx.TransportError as error:
                self._on_failure(error)
                if time.monotonic() > until or not self._patience():
                    raise PalateError(f"the SuperLink must answer, got {error!r:.200}") from error
                time.sleep(_PAUSE)
            except httpx.HTTPStatusError as error:
                self._on_failure(error)
                raise PalateError(f"the SuperLink must answer, got status {error.response.status_code}") from error
