"""Flower's bytes, made without Flower: each of them is flwr's own."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common import constant
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, node_pb2
from flwr.supercore import constant as supercore
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from hypothesis import given
from hypothesis import strategies as st

from palate_client.online import flower_wire as fleet
from palate_client.online import https
from palate_client.online.flower_messages import Reply, ServerMessage, record_dict, values
from palate_common.enrolment import new_node_key
from palate_common.records import protobuf
from palate_core.errors import IntegrityError, UnreachableError

NODE = 2**63 + 5
METADATA: dict[str, Any] = {
    "run_id": 2**64 - 3,
    "src_node_id": 1,
    "dst_node_id": NODE,
    "group_id": "3",
    "created_at": 1_790_000_000.25,
    "ttl": 600.0,
    "message_type": "train.masked",
}


def test_this_version_of_flower_was_compared() -> None:
    """With another one: read what changed in the Fleet API, run the integration tests, then raise FLWR."""
    assert version("flwr").rpartition(".")[0] == fleet.FLWR


def test_the_names_are_flowers() -> None:
    headers = {supercore.FLEET_HTTP_PUBLIC_KEY_HEADER, supercore.FLEET_HTTP_SIGNATURE_HEADER, constant.TIMESTAMP_HEADER}
    assert headers == {"flwr-public-key", "flwr-signature", "flwr-timestamp"}
    assert PROTOBUF_MEDIA_TYPE == fleet._MEDIA
    assert constant.HEARTBEAT_MIN_INTERVAL <= fleet.HEARTBEAT_SECONDS <= constant.HEARTBEAT_MAX_INTERVAL
    assert fleet.LONGEST_SECONDS <= constant.HEARTBEAT_MAX_INTERVAL


def test_requests_are_flowers() -> None:
    node = node_pb2.Node(node_id=NODE)
    own = protobuf.blob(1, protobuf.uint(1, NODE), always=True)
    assert own == fleet_pb2.PullMessagesRequest(node=node).SerializeToString()
    pairs = [
        (
            fleet_pb2.ActivateNodeRequest(public_key=b"key", heartbeat_interval=30.0),
            protobuf.blob(1, b"key") + protobuf.double(2, 30.0),
        ),
        (fleet_pb2.DeactivateNodeRequest(node_id=NODE), protobuf.uint(1, NODE)),
        (
            heartbeat_pb2.SendNodeHeartbeatRequest(node=node, heartbeat_interval=30.0),
            own + protobuf.double(2, 30.0),
        ),
        (
            message_pb2.PushObjectRequest(node=node, run_id=7, object_id="ab", object_content=b"c", session_id="s"),
            own + protobuf.uint(2, 7) + protobuf.text(3, "ab") + protobuf.blob(4, b"c") + protobuf.text(5, "s"),
        ),
        (
            message_pb2.PullObjectRequest(node=node, run_id=7, object_id="ab"),
            own + protobuf.uint(2, 7) + protobuf.text(3, "ab"),
        ),
    ]
    for theirs, ours in pairs:
        assert ours == theirs.SerializeToString(deterministic=True)


def asked(tasks: tuple[int | None, int | None]) -> ServerMessage:
    return ServerMessage(
        kind=METADATA["message_type"],
        record=None,
        run=METADATA["run_id"],
        message="ab" * 32,
        source=METADATA["src_node_id"],
        group=METADATA["group_id"],
        created=METADATA["created_at"],
        ttl=METADATA["ttl"],
        tasks=tasks,
        pulled=time.monotonic(),
    )


@pytest.mark.parametrize("tasks", [(None, None), (4, None), (4, 9)])
@pytest.mark.parametrize(
    "answer", [("answer", b"bytes" * 1000), ("contribution", b""), ("device", 0), ("device", 77), ("device", -3), None]
)
def test_a_reply_is_flowers_to_the_byte(tasks: tuple[int | None, int | None], answer: Any) -> None:
    metadata = Metadata(
        message_id="",
        reply_to_message_id="ab" * 32,
        src_task_id=tasks[1],
        dst_task_id=tasks[0],
        **METADATA | {"src_node_id": NODE, "dst_node_id": 1, "created_at": METADATA["created_at"] + 2.5, "ttl": 597.5},
    )
    content = RecordDict() if answer is None else RecordDict({"palate": ConfigRecord(dict([answer]))})
    theirs = make_message(metadata=metadata, content=content)
    ours = Reply.of(asked(tasks), NODE, answer, elapsed=2.5)
    assert ours.objects == {name: part.deflate() for name, part in get_all_nested_objects(theirs).items()}
    assert ours.tree == get_object_tree(theirs).SerializeToString(deterministic=True)
    theirs.metadata.__dict__["_message_id"] = theirs.object_id
    slim = message_to_proto(remove_content_from_message(theirs))
    assert ours.slim == slim.SerializeToString(deterministic=True)
    assert Reply.of(asked(tasks), NODE, answer, elapsed=2.5) == ours


def test_a_record_is_read_as_flower_writes_it() -> None:
    record = {"plan": b"p" * 300, "who": True, "not": False, "n": -5, "big": 2**62, "x": 0.1, "t": "é", "empty": b""}
    assert values(ConfigRecord(record).deflate()) == record
    assert values(ConfigRecord({"list": [1, 2]}).deflate()) == {}
    assert values(MetricRecord({"x": 1}).deflate()) is None
    own = ConfigRecord({"plan": b"x"})
    assert record_dict(own.object_id) == RecordDict({"palate": own}).deflate()


@given(st.binary(max_size=100))
def test_garbage_is_refused_or_read_but_never_anything_else(data: bytes) -> None:
    try:
        fields = protobuf.read(data)
    except IntegrityError:
        return
    for number in fields:
        for look in (protobuf.last_uint, protobuf.last_bytes, protobuf.last_text):
            try:
                look(fields, number)
            except IntegrityError:
                continue


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_numbers_read_back(value: int) -> None:
    assert protobuf.as_signed(protobuf.zigzag(value)) == value


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x09ab", b"\xff" * 12, b"\x0b", b"\x00\x01"])
def test_what_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        protobuf.read(data)


def test_a_message_of_more_fields_than_any_of_ours_is_refused() -> None:
    few = protobuf.uint(1, 1) * protobuf.MOST_FIELDS
    assert len(protobuf.read(few)[1]) == protobuf.MOST_FIELDS
    with pytest.raises(IntegrityError, match="at most 4096 fields"):
        protobuf.read(few + b"\x08\x01")


def test_a_record_of_more_values_than_any_of_ours_is_refused() -> None:
    """Its items are read one by one, each with as many fields as a message may have."""
    with pytest.raises(IntegrityError, match="at most 16 fields"):
        values(ConfigRecord({str(n): n for n in range(17)}).deflate())


def test_an_empty_reply_does_not_count_as_an_answer_that_was_heard() -> None:
    class Silent:
        calls = 0

        def request(self, *_: Any, **__: Any) -> https.HttpResponse:
            self.calls += 1
            return https.HttpResponse(200, b"")

    server: Any = Silent()
    node = fleet.Fleet(server, new_node_key())
    delivery = node.reply(asked((None, None)), ("contribution", b"x" * 1000))
    with pytest.raises(UnreachableError, match="that it has heard an answer"):
        delivery.go_on()
    assert (node.exchanges, server.calls, delivery.tried) == (0, 1, set())


def test_an_answer_whose_user_has_revoked_while_the_server_held_its_reply_is_not_sent_on() -> None:
    answer = ("contribution", b"x" * 50_000)  # too large to go with its message

    class Holding:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def request(self, _method: str, path: str, *_: Any, **__: Any) -> https.HttpResponse:
            self.asked.append(path)
            missing = b"".join(protobuf.blob(3, name.encode()) for name in delivery.reply.objects)
            return https.HttpResponse(200, protobuf.blob(2, b"heard") + missing + protobuf.blob(4, b"session"))

    server: Any = Holding()
    node = fleet.Fleet(server, new_node_key())
    delivery = node.reply(asked((None, None)), answer)
    delivery.over = lambda: bool(server.asked)
    with pytest.raises(https.StoppedError):
        delivery.go_on()
    assert [path.rpartition("/")[2] for path in server.asked] == ["push-messages"]


def test_a_message_of_flowers_is_whole() -> None:
    """What flwr parses of ours is what flwr makes: nothing is left over, nothing is missing."""
    reply = Reply.of(asked((4, 9)), NODE, ("answer", b"x"), elapsed=0.0)
    parsed = message_pb2.Message.FromString(reply.slim)
    assert parsed.HasField("content")
    assert not parsed.HasField("error")
    assert (parsed.metadata.src_task_id, parsed.metadata.dst_task_id) == (9, 4)
    message = next(part for part in reply.objects.values() if part.startswith(b"Message"))
    record = next(part for part in reply.objects.values() if part.startswith(b"ConfigRecord"))
    content = RecordDict({"palate": ConfigRecord.inflate(record)})
    assert Message.inflate(message, {content.object_id: content}).content["palate"]["answer"] == b"x"


def test_a_device_says_beforehand_how_long_it_will_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [1000.0], list[float]()
    monkeypatch.setattr(fleet.time, "monotonic", lambda: now[0])

    def call(_: fleet.Fleet, name: str, body: bytes, **__: Any) -> dict[int, list[Any]]:
        if name == "send-node-heartbeat":
            sent.append(heartbeat_pb2.SendNodeHeartbeatRequest.FromString(body).heartbeat_interval)
        return {1: [NODE]}

    monkeypatch.setattr(fleet.Fleet, "_call", call)
    node = fleet.Fleet(https=None, key=new_node_key())  # type: ignore[arg-type] # nothing is sent
    node.activate()
    for later, silent, expected in (
        (0.0, 0.0, []),
        (0.0, 20.0, []),  # what was announced is enough
        (0.0, 100.0, [100.0]),
        (1.0, 100.0, []),  # announced already
        (24.0, 0.0, [30.0]),
        (24.0, 0.0, []),
        (2.0, 1e6, [fleet.LONGEST_SECONDS]),
    ):
        now[0], sent[:] = now[0] + later, []
        node.beat(silent=silent)
        assert sent == expected, (later, silent)
