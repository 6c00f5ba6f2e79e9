"""Shortcut: answers the SuperLink's frequent requests, with Flower's handlers and state, but not its web framework.

    device's request    -> verified sender -> Flower's handler -> reply; or it waits there for the node's next message
    ServerApp's request -> task token      -> many messages, or many answers, in one request
    everything else     -> Flower

A round of a hundred devices took eighty requests of each device and for it, and each of them passed a dozen layers of
Flower's web framework. Here an exchange is one request of a device, see `palate_common.rounds.exchange`. Those of
Flower's own nodes pass here, too, and get the answers of the same handlers. What a handler refuses is answered by
Flower's own translator of errors. All of it runs in the event loop: the state is in memory, so that nothing blocks.

A node's requests are signed: a time, by its P-384 key. A signature that was verified for a node is remembered, so that
a device may use it again while it is fresh, as Flower allows.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from base64 import b64decode
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import HTTPException
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, runtime_pb2
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, TASK_TOKEN_HEADER
from flwr.supercore.date import now
from flwr.supercore.error import http_error_translator
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # flwr brings no stubs of it
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from palate_common.records.protobuf import Fields, all_bytes, blob, last_bytes, last_text, last_uint, read, uint
from palate_common.rounds import exchange
from palate_core.errors import IntegrityError, PalateError
from palate_server.flower.kept_state import KeptState
from palate_server.flower.link import COLLECT, ONLINE, PRESENT, PURGE, PUSH

FLEET: Final = "/v1/fleet/"
LARGE: Final = 2**16
"""Bytes of a request from which it is handled in a thread."""
INCOMPLETE_SECONDS: Final = 0.1
"""Until it is looked again whether all objects of a message are there."""
MOST_KEYS: Final = 4096
"""Number of nodes whose parsed keys are kept."""
MOST_ANSWERS: Final = 2**22
"""Bytes of answers after which a reply to the ServerApp has no further one, so that it needs little memory."""
REACH_SECONDS: Final = 2.0
"""Seconds between two searches for messages whose nodes are gone."""
KEPT_EXCHANGES: Final = 16
"""Number of exchanges that are known; a ServerApp has one at a time."""

ASKED: Final[Mapping[str, type[Any]]] = {
    "activate-node": fleet_pb2.ActivateNodeRequest,
    "deactivate-node": fleet_pb2.DeactivateNodeRequest,
    "send-node-heartbeat": heartbeat_pb2.SendNodeHeartbeatRequest,
    "pull-messages": fleet_pb2.PullMessagesRequest,
    "push-messages": fleet_pb2.PushMessagesRequest,
    "push-object": message_pb2.PushObjectRequest,
    "pull-object": message_pb2.PullObjectRequest,
    "confirm-message-received": message_pb2.ConfirmMessageReceivedRequest,
}
"""A device's request -> its type at Flower."""
STORED: Final = frozenset({"pull-messages", "confirm-message-received"})
"""Requests whose handlers at Flower are given the objects, too."""


def handled(name: str, asked: Any, state: KeptState) -> Any:
    """What Flower's handler of a request replies; it is looked up at each call."""
    more = {"store": state.object_store} if name in STORED else {}
    return getattr(fleet_handlers, name.replace("-", "_"))(request=asked, state=state, **more)


class Senders:
    """Verifies who has sent a request, as Flower does, and remembers what is costly of it.

    **Guarantees:** a request is a node's only with a fresh time that the node's key has signed.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[str, tuple[bytes, ec.EllipticCurvePublicKey]] = OrderedDict()
        self._verified: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def key_of(self, headers: Mapping[str, str]) -> bytes:
        """The public key whose owner has signed the request.

        Raises:
            HTTPException: 401; there is no valid signature.
        """
        try:
            name, signature = headers[FLEET_HTTP_PUBLIC_KEY_HEADER], headers[FLEET_HTTP_SIGNATURE_HEADER]
            signed = headers[TIMESTAMP_HEADER]
            age = (now() - datetime.fromisoformat(signed)).total_seconds()
            if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
                raise ValueError
            raw, key = self._parsed(name)
            if self._verified.get(name) != (signed, signature):
                if not verify_signature(key, signed.encode("ascii"), b64decode(signature, validate=True)):
                    raise ValueError
                _remember(self._verified, name, (signed, signature))
            return raw
        except (KeyError, ValueError, TypeError, UnicodeError, binascii.Error):
            raise HTTPException(401, "Invalid SuperNode authentication") from None

    def _parsed(self, name: str) -> tuple[bytes, ec.EllipticCurvePublicKey]:
        if (found := self._keys.get(name)) is None:
            raw = b64decode(name, validate=True)
            found = raw, bytes_to_public_key(raw)
            _remember(self._keys, name, found)
        return found


def _remember(memory: OrderedDict[str, Any], name: str, value: Any) -> None:
    """Keep a value, and forget the oldest one if there are many."""
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > MOST_KEYS:
        memory.popitem(last=False)


@dataclass
class OpenExchange:
    """Messages of the ServerApp whose answers are awaited.

    Attributes:
        run: the run's number.
        unanswered: messages without an answer.
        ready: messages whose complete answers the ServerApp hasn't fetched.
        event: set when there is news.
        reached: when it was last looked whose nodes are gone.
    """

    run: int
    unanswered: set[str] = field(default_factory=set)
    ready: deque[str] = field(default_factory=deque)
    event: asyncio.Event = field(default_factory=asyncio.Event)
    reached: float = field(default_factory=time.monotonic)


class Shortcut:
    """A middleware that answers frequent requests itself, and passes on all others.

    Args:
        app: Flower.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._inside = app
        self._senders = Senders()
        self._state: KeptState | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: dict[int, asyncio.Future[None]] = {}
        self._exchanges: OrderedDict[str, OpenExchange] = OrderedDict()
        self._exchange_of: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        answer = self._answer_to(scope)
        if answer is None:
            await self._inside(scope, receive, send)
            return

        async def reply(_: Any = None) -> Response:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if headers.get("content-type", "").partition(";")[0].strip().lower() != PROTOBUF_MEDIA_TYPE:
                raise HTTPException(415, "Unsupported Content-Type")
            try:
                body = await answer(headers, receive)
            except (DecodeError, IntegrityError):
                raise HTTPException(400, "Invalid protobuf payload") from None
            return Response(body, media_type=PROTOBUF_MEDIA_TYPE)

        response = await http_error_translator(Request(scope), reply)
        await response(scope, receive, send)

    def _answer_to(self, scope: Scope) -> Callable[[Mapping[str, str], Receive], Awaitable[bytes]] | None:
        """What answers a request; None: Flower does."""
        if scope["type"] != "http" or scope["method"] != "POST" or not self._ready(scope):
            return None
        path: str = scope["path"]
        name = path.removeprefix(FLEET)
        if path.startswith(FLEET) and name in ASKED:
            return lambda headers, receive: self._fleet(name, headers, receive)
        own = {PUSH: self._push, COLLECT: self._collect, PURGE: self._purge, ONLINE: self._online}.get(path)
        return None if own is None else lambda headers, receive: self._runtime(own, headers, receive)

    def _ready(self, scope: Scope) -> bool:
        """Whether the state is one of ours; it is then known here."""
        if self._state is None:
            state = scope["app"].state.linkstate_factory.state()
            if not isinstance(state, KeptState) or not scope["app"].state.enable_supernode_auth:
                return False
            self._state, self._loop = state, asyncio.get_running_loop()
            state.on_message = lambda node: self._soon(self._wake, node)
            state.on_answer = lambda message: self._soon(self._answered, message)
        return True

    @property
    def _link(self) -> KeptState:
        if self._state is None:
            raise PalateError("the SuperLink's state must be known before a request is answered")
        return self._state

    def _soon(self, call: Callable[..., object], *args: object) -> None:
        """Call something in the event loop, whichever thread this is."""
        if self._loop is not None:  # it is since the state is
            self._loop.call_soon_threadsafe(call, *args)

    # Devices

    async def _fleet(self, name: str, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Answer a device."""
        key, state = self._senders.key_of(headers), self._link
        body = await _body(receive)
        asked = ASKED[name].FromString(body)
        if name == "activate-node":
            if asked.public_key != key:
                raise HTTPException(401, "Invalid SuperNode authentication")
            reply = handled(name, asked, state)
            self._declared(reply.node_id, read(body))
            return bytes(reply.SerializeToString())
        node = asked.node_id if name == "deactivate-node" else asked.node.node_id
        if state.get_node_id_by_public_key(key) != node:
            raise HTTPException(401, "Invalid SuperNode authentication")
        if name == "push-messages" and any(each.metadata.run_id not in state.run_ids for each in asked.messages_list):
            raise HTTPException(403, "the run must be known, got one of before a restore")  # 500 is tried again
        if len(body) > LARGE:
            return bytes((await run_in_threadpool(handled, name, asked, state)).SerializeToString())
        if name == "pull-messages":
            more = read(body)
            if exchange.WAIT in more:
                self._declared(node, more)
                return await self._next(node, more, receive)
        if name == "push-messages":
            more = read(body)
            if exchange.WAIT in more:
                self._declared(node, more)
                return await self._stored(asked, more, receive)
        return bytes(handled(name, asked, state).SerializeToString())

    def _declared(self, node: int, more: Fields) -> None:
        """Keep what a request declares, if it does: the sender is verified."""
        if exchange.STAYS in more:
            self._link.declare(node, exchange.Availability.of(more))

    async def _stored(self, asked: Any, more: Fields, receive: Receive) -> bytes:
        """Store an answer with its objects, and reply with the next message."""
        state = self._link
        reply = fleet_handlers.push_messages(request=asked, state=state)
        missing, run = set(reply.objects_to_push), asked.messages_list[0].metadata.run_id
        for content in all_bytes(more, exchange.OBJECT):
            data = bytes(content)
            if (name := get_object_id(data)) in missing:
                state.store_object(run, reply.session_id, name, data)
                missing.discard(name)
        del reply.objects_to_push[:]
        reply.objects_to_push.extend(sorted(missing))
        answer = asked.messages_list[0].metadata
        taken = state.message_ins_id_to_message_res_id.get(answer.reply_to_message_id) == answer.message_id
        if taken and not missing:  # Flower has refused it otherwise
            state.on_answer(answer.reply_to_message_id)
        said = bytes(reply.SerializeToString()) + uint(exchange.KNOWN, 1)
        if missing or not last_uint(more, exchange.WAIT):
            return said
        return said + blob(exchange.NEXT, await self._next(asked.node.node_id, more, receive))

    async def _next(self, node: int, more: Fields, receive: Receive) -> bytes:
        """A node's next message with its record; if there is none the reply waits for it."""
        state = self._link
        known = state.nodes[node]
        state.acknowledge_node_heartbeat(node, known.heartbeat_interval)
        state.hand_over_again(node, have=last_text(more, exchange.HAVE))
        until = time.monotonic() + min(last_uint(more, exchange.WAIT) / 1000, exchange.MOST_WAIT)
        gone: asyncio.Future[None] | None = None
        news: asyncio.Future[None] | None = None
        try:
            while (found := self._handed(node)) is None:
                pause = until - time.monotonic()
                if pause <= 0 or (gone is not None and gone.done()) or (news is not None and news.cancelled()):
                    break
                if gone is None:
                    gone = asyncio.ensure_future(_disconnected(receive))
                news = self._hold(node, news)
                waits = min(pause, INCOMPLETE_SECONDS) if state.next_of(node) else pause
                await asyncio.wait({news, gone}, timeout=waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if gone is not None:
                gone.cancel()
            if news is not None and self._held.get(node) is news:
                del self._held[node]
        return (found or b"") + uint(exchange.KNOWN, 1)

    def _handed(self, node: int) -> bytes | None:
        """The reply with the next message to a node, if there is one that is complete."""
        state = self._link
        if (name := state.next_of(node)) is None or not state.whole(name):
            return None
        for message in state.get_message_ins(node, 1):
            try:
                tree = state.object_store.get_object_tree(message.metadata.message_id)
            except NoObjectInStoreError:
                state.delete_messages({name})
                continue
            reply = fleet_pb2.PullMessagesResponse(
                messages_list=[message_to_proto(message)], message_object_trees=[tree]
            )
            return bytes(reply.SerializeToString()) + self._record(tree)
        return None

    def _record(self, tree: Any) -> bytes:
        """The one record of a message, if it isn't large."""
        names = [part.object_id for child in tree.children for part in child.children]
        content = self._link.object_store.get(names[0]) if len(names) == 1 else None
        return blob(exchange.RECORD, content) if content and len(content) <= exchange.MOST_RECORD else b""

    def _hold(self, node: int, mine: asyncio.Future[None] | None) -> asyncio.Future[None]:
        """What is done when there is a message to a node, and cancelled if the node asks once more meanwhile."""
        former = self._held.get(node)
        if former is not None and former is not mine:
            former.cancel()
        if mine is None or mine.done():
            mine = asyncio.get_running_loop().create_future()
        self._held[node] = mine
        return mine

    def _wake(self, node: int) -> None:
        held = self._held.get(node)
        if held is not None and not held.done():
            held.set_result(None)

    # ServerApp

    async def _runtime(
        self,
        answer: Callable[[Any, Fields], Awaitable[bytes]],
        headers: Mapping[str, str],
        receive: Receive,
    ) -> bytes:
        """Answer the ServerApp, if it is the one."""
        token = headers.get(TASK_TOKEN_HEADER, "")
        task = self._link.get_task_by_token(token) if token else None
        if task is None:
            raise HTTPException(401, "Runtime task-token authentication failed")
        return await answer(task, read(await _body(receive)))

    async def _push(self, task: Any, asked: Fields) -> bytes:
        """Store messages with their objects; the reply has their ids, empty for those that aren't stored."""
        state, name = self._link, last_text(asked, 1)
        request = runtime_pb2.PushAppMessagesRequest.FromString(bytes(last_bytes(asked, 2)))
        reply = runtime_handlers.push_messages(request=request, state=state, task=task)
        missing = set(reply.objects_to_push)
        for content in all_bytes(asked, 3):
            data = bytes(content)
            if (part := get_object_id(data)) in missing:
                missing.discard(part)
                state.store_object(task.run_id, reply.session_id, part, data)
        if missing:
            raise HTTPException(400, "every object of a message must come with it")
        if name:
            self._await(name, task.run_id, [each for each in reply.message_ids if each])
        return b"".join(blob(1, each.encode(), always=True) for each in reply.message_ids)

    def _await(self, name: str, run: int, messages: list[str]) -> None:
        """Await the answers to messages."""
        found = self._exchanges.setdefault(name, OpenExchange(run))
        found.unanswered.update(messages)
        self._exchange_of |= dict.fromkeys(messages, name)
        while len(self._exchanges) > KEPT_EXCHANGES:
            _, old = self._exchanges.popitem(last=False)
            for message in (*old.unanswered, *old.ready):
                self._exchange_of.pop(message, None)

    def _answered(self, message: str) -> None:
        """An answer is complete."""
        found = self._exchanges.get(self._exchange_of.get(message, ""))
        if found is not None and message in found.unanswered:
            found.unanswered.discard(message)
            found.ready.append(message)
            found.event.set()

    async def _collect(self, task: Any, asked: Fields) -> bytes:
        """Complete answers of an exchange; if there are none the reply waits for one.

        The reply has in 1 whether the exchange is known, in 2 answers, each with metadata and objects, in 3 the number
        of those that may still come.
        """
        found = self._exchanges.get(last_text(asked, 1))
        if found is None or found.run != task.run_id:
            return b""
        until = time.monotonic() + min(last_uint(asked, 2) / 1000, exchange.MOST_WAIT)
        while not found.ready and found.unanswered and (pause := until - time.monotonic()) > 0:
            found.event.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(found.event.wait(), min(pause, REACH_SECONDS))
            self._give_up(found)
        parts, size = list[bytes](), 0
        while found.ready and size < MOST_ANSWERS:
            message = found.ready.popleft()
            self._exchange_of.pop(message, None)
            if (taken := self._link.delivered(message)) is not None:
                answer, contents = taken
                metadata = message_to_proto(answer).metadata.SerializeToString()
                parts.append(blob(2, blob(1, metadata) + b"".join(blob(2, each, always=True) for each in contents)))
                size += len(parts[-1])
        left = len(found.unanswered) + len(found.ready)
        return uint(1, 1) + b"".join(parts) + uint(3, left, always=True)

    def _give_up(self, found: OpenExchange) -> None:
        """Await no answers of nodes that are gone, and none to messages that are too old."""
        if (at := time.monotonic()) - found.reached >= REACH_SECONDS:
            found.reached = at
            gone = self._link.out_of_reach(found.unanswered)
            found.unanswered -= gone
            for message in gone:
                self._exchange_of.pop(message, None)

    async def _purge(self, task: Any, asked: Fields) -> bytes:
        """Delete all messages."""
        self._exchanges.clear()
        self._exchange_of.clear()
        self._link.purge()
        return b""

    async def _online(self, task: Any, asked: Fields) -> bytes:
        """The nodes that are online: of each its number, the milliseconds that it stays, and what it takes."""
        found = self._link.present().items()
        return b"".join(PRESENT.pack(node, int(1000 * each.stays), each.takes) for node, each in found)


async def _body(receive: Receive) -> bytes:
    """The whole body of a request."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the request was cut off")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
