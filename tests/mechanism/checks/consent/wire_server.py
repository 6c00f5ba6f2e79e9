"""A server on the wire: what a device's requests meet that is online, in memory, by Flower's own Protocol Buffers.

It stands behind the device's own `Https`, in the place of its socket: it hears whatever the device sends, and each
request may fail on its way there, at the server, or on its way back.

    Device.sync -> Https -> connection -> [killed | not heard | refused | heard, and the reply is lost] -> WireServer
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from flwr.app import ConfigRecord, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from palate_client.online import https, retry
from palate_client.rounds.dispatch import COME_BACK, QUERY, RECORD, TRAIN
from palate_common.models import published
from palate_common.records.protobuf import last_uint, read
from palate_common.rounds import exchange
from palate_core.log.canonical import digest

FLEET: Final = "/v1/fleet/"
NODE, RUN, SECONDS = 77, 5, 3600.0
FAILURES: Final = ("not heard", "refused", "the reply is lost", "killed")
"""How a request may fail."""


class KilledError(BaseException):
    """The device's process ends here."""


@dataclass(frozen=True)
class Heard:
    """A request, without the numbers in it.

    Attributes:
        line: its method and path.
        names: names of its headers.
        size: bytes of its body.
        wait: for how many milliseconds the server may hold its reply; -1: it doesn't say.
    """

    line: str
    names: tuple[str, ...]
    size: int
    wait: int


@dataclass(frozen=True)
class ReplyGiven:
    """An answer that the server has.

    Attributes:
        request: the number of the request that it came with.
        plan: what it answers.
        answer: its bytes.
    """

    request: int
    plan: bytes
    answer: bytes


@dataclass
class WireServer:
    """A server of one device.

    Attributes:
        folder: its published model.
        models: the models of its plans, by hash.
        plans: what it asks for, one after the other, each so often as it is in here.
        fails: called with the number of each request; says how it fails, or "".
        heard: all requests.
        answers: what came, in order.
        asked: plans that the device has been sent.
        requests: of plans with masks, the first request of the attempt.
        directories: directories by their hashes.
    """

    folder: Path
    models: Mapping[str, bytes]
    plans: list[bytes]
    fails: Callable[[int], str] = field(default=lambda _: "")
    heard: list[Heard] = field(default_factory=list)
    answers: list[ReplyGiven] = field(default_factory=list)
    asked: int = 0
    requests: Mapping[bytes, bytes] = field(default_factory=dict)
    directories: Mapping[str, bytes] = field(default_factory=dict)
    _objects: dict[str, bytes] = field(default_factory=dict)
    _replied: bool = True
    _online: bool = False

    @property
    def done(self) -> bool:
        """Whether each plan was answered, or refused."""
        return self.asked == len(self.plans) and self._replied

    def reply(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Reply to one request: status and body."""
        if path.startswith(FLEET):
            if path.endswith("/activate-node") and self._online:
                return HTTPStatus.PRECONDITION_FAILED, b""
            return HTTPStatus.OK, self._fleet(path.removeprefix(FLEET), body)
        if path == "/models/latest":
            manifest = digest((self.folder / published.MANIFEST).read_bytes())
            return HTTPStatus.OK, json.dumps({"manifest": manifest, "version": 1}).encode()
        room, _, name = path[1:].partition("/")
        rooms = {"round": self.models, "directory": self.directories}
        if name in rooms.get(room, {}):
            return HTTPStatus.OK, rooms[room][name]
        file = self.folder / name.rpartition("/")[2]
        known = room == "models" and file.is_file()
        return (HTTPStatus.OK, file.read_bytes()) if known else (HTTPStatus.NOT_FOUND, b"")

    def _fleet(self, name: str, body: bytes) -> bytes:
        reply: Any
        if name == "activate-node":
            reply, self._online = fleet_pb2.ActivateNodeResponse(node_id=NODE), True
        elif name == "pull-messages":
            reply = self._next()
        elif name == "pull-object":
            data = self._objects[message_pb2.PullObjectRequest.FromString(body).object_id]
            reply = message_pb2.PullObjectResponse(object_found=True, object_available=True, object_content=data)
        elif name == "push-messages":
            reply = self._pushed(fleet_pb2.PushMessagesRequest.FromString(body))
        elif name == "push-object":
            sent = message_pb2.PushObjectRequest.FromString(body)
            self._arrived(sent.object_content)
            reply = message_pb2.PushObjectResponse(stored=True)
        elif name == "send-node-heartbeat":
            reply = heartbeat_pb2.SendNodeHeartbeatResponse(success=True)
        else:
            reply, self._online = fleet_pb2.DeactivateNodeResponse(), False
        return bytes(reply.SerializeToString())

    def _next(self) -> fleet_pb2.PullMessagesResponse:
        """The next plan, or the last one again if that isn't answered; after all of them: come back another day."""
        self.asked += self._replied
        kind, record = QUERY, ConfigRecord({COME_BACK: 60.0})
        if self.asked <= len(self.plans):
            plan = self.plans[self.asked - 1]
            masked = {"request": self.requests[plan]} if plan in self.requests else {}
            kind, record = TRAIN, ConfigRecord({"plan": plan, **masked})
        self._replied = kind == QUERY
        self.asked -= self._replied
        metadata = Metadata(
            run_id=RUN, message_id="", src_node_id=1, dst_node_id=NODE, reply_to_message_id="", group_id="",
            created_at=time.time(), ttl=SECONDS, message_type=kind,
        )  # fmt: skip
        message = make_message(metadata=metadata, content=RecordDict({RECORD: record}))
        vars(metadata)["_message_id"] = message.object_id
        self._objects |= {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        slim = message_to_proto(remove_content_from_message(message))
        return fleet_pb2.PullMessagesResponse(messages_list=[slim], message_object_trees=[get_object_tree(message)])

    def _pushed(self, request: fleet_pb2.PushMessagesRequest) -> fleet_pb2.PushMessagesResponse:
        """An answer comes: all of its objects are wanted, as by Flower's own server."""
        wanted, left = list[str](), list(request.message_object_trees)
        while left:
            tree = left.pop()
            wanted.append(tree.object_id)
            left += tree.children
        said = {each.metadata.message_id: 201 for each in request.messages_list}
        return fleet_pb2.PushMessagesResponse(results=said, objects_to_push=wanted, session_id="s")

    def _arrived(self, data: bytes) -> None:
        """An object of an answer is here; one with a value is the answer."""
        if data.startswith(b"ConfigRecord"):
            (value,) = ConfigRecord.inflate(data).values()
            if isinstance(value, bytes):
                self.answers.append(ReplyGiven(len(self.heard) - 1, self.plans[self.asked - 1], value))
                self._replied = True


class _Response(BytesIO):
    """A reply of a length that isn't told beforehand."""

    length = None

    def __init__(self, data: bytes, status: int) -> None:
        super().__init__(data)
        self.status = status


class _Connection:
    """What `Https` talks to, in the place of a connection over TLS."""

    server: WireServer

    def __init__(self, *_: Any) -> None:
        self.sock: object = None
        self._reply: _Response | None = None

    def request(self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]) -> None:
        """Send a request; it may fail here."""
        server, number = self.server, len(self.server.heard)
        waits = path.startswith(FLEET) and path.endswith("-messages")
        wait = last_uint(read(body or b""), exchange.WAIT) if waits else -1
        server.heard.append(Heard(f"{method} {path}", tuple(sorted(headers)), len(body or b""), wait))
        how, self.sock, self._reply = server.fails(number), self, None
        if how == "killed":
            raise KilledError
        if how == "not heard":
            raise ConnectionRefusedError("the server must be there")
        status, data = (503, b"") if how == "refused" else server.reply(path, body or b"")
        self._reply = None if how == "the reply is lost" else _Response(data, status)

    def getresponse(self) -> _Response:
        """The reply, if it isn't lost."""
        if self._reply is None:
            raise TimeoutError("no reply")
        return self._reply

    def close(self) -> None:
        """Nothing is open."""
        self.sock = None


@lru_cache(maxsize=1)
def certificate() -> str:
    """An authority that nothing has signed by, as PEM."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "audit")])
    now = datetime.fromtimestamp(time.time(), UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )  # fmt: skip
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@contextmanager
def online(server: WireServer) -> Iterator[None]:
    """Every connection of this process's devices ends at the server, and nobody waits for long."""
    kind = type("Connection", (_Connection,), {"server": server})
    with (
        mock.patch.object(https, "_Connection", kind),
        mock.patch.object(retry, "BACKOFF_SECONDS", (1e-4, 1e-4)),
    ):
        yield
