"""What the SuperLink answers without Flower's web framework: who may ask, what waits, and that no byte differs."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, node_pb2, runtime_pb2
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

from palate_client.online.flower_messages import Notice, Reply, ServerMessage
from palate_common.enrolment import NodeKey, new_node_key
from palate_common.records.protobuf import all_bytes, blob, last_bytes, last_uint, read, text, uint
from palate_common.rounds import exchange
from palate_common.rounds.exchange import Availability
from palate_server.flower import shortcut
from palate_server.flower.kept_state import KeptState
from palate_server.flower.link import COLLECT, ONLINE, PRESENT, PURGE, PUSH
from palate_server.flower.shortcut import Shortcut

FLOWERS = b"Flower has answered"


class Here:
    """A SuperLink's middleware, state and a run, in this process."""

    def __init__(self, folder: Path) -> None:
        self.state = KeptState(NoOpFederationManager(), InMemoryObjectStore(), file=folder / "superlink.db")
        fab = self.state.store_fab(Fab("", b"a bundle", {}))
        self.run = self.state.create_run("id", "1", fab, {}, NOOP_FEDERATION_ID, None, "aid", TaskType.SERVER_APP)
        (self.task,) = self.state.get_tasks(run_ids=[self.run])
        self.token = self.state.claim_task(self.task.task_id) or ""
        assert self.state.activate_task(self.task.task_id)
        TaskIdentity.task_id, TaskIdentity.run_id = self.task.task_id, self.run
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        factory = SimpleNamespace(state=lambda: self.state)
        self.app: Any = SimpleNamespace(state=SimpleNamespace(linkstate_factory=factory, enable_supernode_auth=True))
        self.short = Shortcut(self.flower)

    async def flower(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": FLOWERS})

    async def ask(
        self,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        gone: asyncio.Event | None = None,
        media: str = "application/protobuf",
    ) -> tuple[int, bytes]:
        """Status and body of the reply to a request; `gone` is set when the client hangs up."""
        said: list[Any] = []
        asked = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            for message in asked:
                return message
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        sent = {"content-type": media, **(headers or {})}
        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "app": self.app,
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        await self.short(scope, receive, send)
        return said[0]["status"], b"".join(message.get("body", b"") for message in said[1:])

    async def server_app(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        return await self.ask(path, body, {"flwr-task-token": self.token})

    async def push(self, name: str, *messages: Message) -> list[str]:
        """Send messages as the ServerApp does."""
        protos, trees, objects = [], [], dict[str, bytes]()
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                protos.append(message_to_proto(remove_content_from_message(message)))
                trees.append(get_object_tree(message))
                objects |= {part: each.deflate() for part, each in get_all_nested_objects(message).items()}
        request = runtime_pb2.PushAppMessagesRequest(messages_list=protos, message_object_trees=trees)
        parts = b"".join(blob(3, each) for each in objects.values())
        status, found = await self.server_app(PUSH, text(1, name) + blob(2, request.SerializeToString()) + parts)
        assert status == 200
        return [bytes(each).decode() for each in all_bytes(read(found), 1)]

    async def collect(self, name: str, *, wait: float = 0.0) -> tuple[list[Any], int]:
        status, body = await self.server_app(COLLECT, text(1, name) + uint(2, int(wait * 1000)))
        assert status == 200
        found = read(body)
        assert last_uint(found, 1) == 1
        return all_bytes(found, 2), last_uint(found, 3)


class Node:
    """A node of it."""

    def __init__(self, here: Here, *, online: bool = True) -> None:
        self.here, self.key = here, new_node_key()
        self.number = here.state.create_node("aid", "name", self.key.public.encode(), 30.0)
        if online:
            here.state.activate_node(self.number, 30.0)

    def headers(self, *, key: NodeKey | None = None, off: float = 0.0) -> dict[str, str]:
        said = (datetime.now(UTC) + timedelta(seconds=off)).isoformat()
        return {
            "flwr-public-key": b64encode(self.key.public.encode()).decode(),
            "flwr-timestamp": said,
            "flwr-signature": b64encode((key or self.key).sign(said.encode())).decode(),
        }

    @property
    def node(self) -> Any:
        return node_pb2.Node(node_id=self.number)

    async def ask(self, name: str, request: Any, more: bytes = b"", **options: Any) -> tuple[int, bytes]:
        body = request.SerializeToString() + more
        return await self.here.ask(f"/v1/fleet/{name}", body, self.headers(), **options)

    async def pull(self, *, wait: float | None = None, have: str = "", **options: Any) -> tuple[int, bytes]:
        more = b"" if wait is None else waits(wait, have)
        return await self.ask("pull-messages", fleet_pb2.PullMessagesRequest(node=self.node), more, **options)

    def reply(self, body: bytes, value: bytes = b"an answer") -> Reply:
        """An answer to the message in a reply, as a device makes it."""
        found = read(body)
        notice = Notice(read(last_bytes(read(all_bytes(found, 2)[0]), 1)), all_bytes(found, 3)[0])
        return Reply.of(ServerMessage.of(notice.metadata, None), self.number, ("answer", value), elapsed=0.0)


def waits(seconds: float, have: str = "") -> bytes:
    return uint(exchange.WAIT, int(1000 * seconds), always=True) + text(exchange.HAVE, have)


def to(node: Node, value: bytes = b"a request") -> Message:
    return Message(RecordDict({"palate": ConfigRecord({"request": value})}), node.number, "train.masked", ttl=100.0)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await asyncio.wait_for(work(), 30.0)

    asyncio.run(within())


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_an_exchange_is_one_request_of_a_device_and_two_of_the_server_app(here: Here) -> None:
    async def work() -> None:
        nodes = [Node(here), Node(here)]
        assert all(await here.push("first", *(to(node) for node in nodes)))
        for node in nodes:
            status, body = await node.pull(wait=5.0)
            found = read(body)
            assert (status, last_uint(found, exchange.KNOWN)) == (200, 1)
            assert ConfigRecord.inflate(bytes(last_bytes(found, exchange.RECORD)))["request"] == b"a request"
            reply = node.reply(body)
            request = node.node.SerializeToString()
            inline = b"".join(blob(exchange.OBJECT, each) for each in reply.objects.values())
            body = blob(1, request) + blob(2, reply.slim) + blob(3, reply.tree) + inline + waits(0.01)
            status, body = await here.ask("/v1/fleet/push-messages", body, node.headers())
            found = read(body)
            assert (status, last_uint(found, exchange.KNOWN), all_bytes(found, 3)) == (200, 1, [])
            assert read(last_bytes(found, exchange.NEXT)) == {exchange.KNOWN: [1]}
        replies, left = await here.collect("first")
        assert (len(replies), left) == (2, 0)
        for each in replies:
            parts = read(each)
            metadata = message_pb2.Metadata.FromString(bytes(last_bytes(parts, 1)))
            assert metadata.src_node_id in {node.number for node in nodes}
            assert len(all_bytes(parts, 2)) == 3
        assert here.state.num_message_ins() == here.state.num_message_res() == len(here.state.object_store) == 0  # type: ignore[arg-type]

    run(work)


def test_a_device_declares_with_each_request_for_how_long_it_stays_and_for_what(here: Here) -> None:
    """Cohorts are drawn by it: only the node itself declares, and who declares nothing takes part in nothing."""

    async def work() -> None:
        node, other = Node(here, online=False), Node(here)

        async def there() -> dict[int, Availability]:
            status, body = await here.server_app(ONLINE)
            assert status == 200
            return {number: Availability(stays / 1000, takes) for number, stays, takes in PRESENT.iter_unpack(body)}

        activate = fleet_pb2.ActivateNodeRequest(public_key=node.key.public.encode(), heartbeat_interval=30.0)
        said = Availability(90.0, exchange.TRAINING | exchange.SURVEYS).to_bytes()
        assert (await node.ask("activate-node", activate, said))[0] == 200
        found = await there()
        assert found[other.number] == Availability()
        assert (found[node.number].takes, 80 < found[node.number].stays <= 90) == (3, True)
        asked = fleet_pb2.PullMessagesRequest(node=node.node)
        await node.ask("pull-messages", asked, waits(0.0) + Availability(5.0, exchange.TRAINING).to_bytes())
        found = await there()
        assert (found[node.number].takes, 0 < found[node.number].stays <= 5) == (1, True)
        stolen = asked.SerializeToString() + waits(0.0) + said
        assert (await here.ask("/v1/fleet/pull-messages", stolen, other.headers()))[0] == 401
        assert (await there())[node.number].takes == 1
        await node.ask("deactivate-node", fleet_pb2.DeactivateNodeRequest(node_id=node.number))
        assert node.number not in await there()
        await node.ask("activate-node", activate)
        assert (await there())[node.number] == Availability(), "nothing is left of an earlier sync"

    run(work)


def test_a_node_of_flowers_own_gets_every_byte_of_flowers_handlers(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fields that are ours nothing of ours is in a reply, and each part is a request, as Flower has it."""

    async def work() -> None:
        node, said = Node(here, online=False), list[bytes]()
        handle = shortcut.handled

        def noted(name: str, asked: Any, state: Any) -> Any:
            said.append((reply := handle(name, asked, state)).SerializeToString())
            return reply

        monkeypatch.setattr(shortcut, "handled", noted)

        async def asked(name: str, request: Any) -> bytes:
            status, body = await node.ask(name, request)
            assert (status, body) == (200, said[-1])
            return body

        key = node.key.public.encode()
        body = await asked("activate-node", fleet_pb2.ActivateNodeRequest(public_key=key, heartbeat_interval=30.0))
        assert fleet_pb2.ActivateNodeResponse.FromString(body).node_id == node.number
        await asked(
            "send-node-heartbeat", heartbeat_pb2.SendNodeHeartbeatRequest(node=node.node, heartbeat_interval=60.0)
        )
        assert await asked("pull-messages", fleet_pb2.PullMessagesRequest(node=node.node)) == b""
        (name,) = await here.push("stock", to(node))
        body = await asked("pull-messages", fleet_pb2.PullMessagesRequest(node=node.node))
        got = fleet_pb2.PullMessagesResponse.FromString(body)
        assert [each.metadata.message_id for each in got.messages_list] == [name]
        part = message_pb2.PullObjectRequest(node=node.node, run_id=here.run, object_id=name)
        assert message_pb2.PullObjectResponse.FromString(await asked("pull-object", part)).object_available
        reply = node.reply(body)
        request = fleet_pb2.PushMessagesRequest.FromString(blob(2, reply.slim) + blob(3, reply.tree))
        request.node.CopyFrom(node.node)
        pushed = fleet_pb2.PushMessagesResponse.FromString(await asked("push-messages", request))
        assert set(pushed.objects_to_push) == set(reply.objects)
        assert await here.collect("stock") == ([], 1), "it isn't complete"
        for part_name, data in reply.objects.items():
            fields = message_pb2.PushObjectRequest(
                node=node.node, run_id=here.run, object_id=part_name, object_content=data, session_id=pushed.session_id
            )
            assert message_pb2.PushObjectResponse.FromString(await asked("push-object", fields)).stored
        await asleep()
        confirm = message_pb2.ConfirmMessageReceivedRequest(node=node.node, run_id=here.run, message_object_id=name)
        await asked("confirm-message-received", confirm)
        await asked("deactivate-node", fleet_pb2.DeactivateNodeRequest(node_id=node.number))
        replies, left = await here.collect("stock")
        assert (len(replies), left) == (1, 0)

    run(work)


async def asleep() -> None:
    """Let what was called soon happen."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_request_is_a_nodes_only_with_a_fresh_time_that_the_nodes_key_has_signed(here: Here) -> None:
    """Guarantee of Senders, in its words."""

    async def work() -> None:
        node, other = Node(here), Node(here)
        path, body = "/v1/fleet/pull-messages", fleet_pb2.PullMessagesRequest(node=node.node).SerializeToString()

        async def status(headers: dict[str, str], body: bytes = body) -> int:
            return (await here.ask(path, body, headers))[0]

        good = node.headers()
        assert await status(good) == 200
        assert await status(good) == 200, "Flower takes a signed time more than once"
        assert await status({**good, "flwr-signature": other.headers()["flwr-signature"]}) == 401
        assert await status({**good, "flwr-timestamp": other.headers()["flwr-timestamp"]}) == 401
        assert await status(node.headers(key=other.key)) == 401
        assert await status(other.headers()) == 401, "another node's key"
        for off in (-1000.0, 1000.0):
            assert await status(node.headers(off=off)) == 401
        for name in ("flwr-public-key", "flwr-timestamp", "flwr-signature"):
            assert await status({each: value for each, value in good.items() if each != name}) == 401
            assert await status({**good, name: "x"}) == 401
        here.state.delete_node("aid", node.number)
        assert await status(good) == 401
        stranger = new_node_key()
        asked = fleet_pb2.ActivateNodeRequest(public_key=stranger.public.encode(), heartbeat_interval=30.0)
        assert (await node.ask("activate-node", asked))[0] == 401, "the key is another's"
        node.key = stranger
        assert (await node.ask("activate-node", asked))[0] == 412, "as Flower says it"

    run(work)


def test_a_signature_is_verified_once_and_a_fresh_one_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[bytes] = []
    true = shortcut.verify_signature

    def noted(key: Any, message: bytes, signature: bytes) -> bool:
        verified.append(message)
        return true(key, message, signature)

    monkeypatch.setattr(shortcut, "verify_signature", noted)

    async def work() -> None:
        node = Node(here)
        body = fleet_pb2.PullMessagesRequest(node=node.node).SerializeToString()
        for headers, times in ((node.headers(), 3), (node.headers(), 2)):
            for _ in range(times):
                assert (await here.ask("/v1/fleet/pull-messages", body, headers))[0] == 200

    run(work)
    assert len(verified) == 2


def test_a_node_waits_for_its_message_and_for_nobody_elses(here: Here) -> None:
    async def work() -> None:
        node, other = Node(here), Node(here)
        held = asyncio.create_task(node.pull(wait=20.0))
        await asyncio.sleep(0.05)
        await here.push("", to(other))
        await asyncio.sleep(0.05)
        assert not held.done()
        (name,) = await here.push("", to(node, b"now"))
        status, body = await held
        assert status == 200
        assert ConfigRecord.inflate(bytes(last_bytes(read(body), exchange.RECORD)))["request"] == b"now"
        begun = time.monotonic()
        assert (await node.pull(wait=0.2, have=name))[1] == uint(exchange.KNOWN, 1)
        assert 0.15 < time.monotonic() - begun < 10.0
        assert here.short._held == {}

    run(work)


def test_a_node_that_hangs_up_or_asks_once_more_takes_no_message_with_it(here: Here) -> None:
    async def work() -> None:
        node, gone = Node(here), asyncio.Event()
        first = asyncio.create_task(node.pull(wait=20.0, gone=gone))
        await asyncio.sleep(0.05)
        gone.set()
        assert (await first)[1] == uint(exchange.KNOWN, 1)
        second = asyncio.create_task(node.pull(wait=20.0))
        await asyncio.sleep(0.05)
        third = asyncio.create_task(node.pull(wait=20.0))
        assert (await second)[1] == uint(exchange.KNOWN, 1)
        (name,) = await here.push("", to(node))
        body = (await third)[1]
        assert fleet_pb2.PullMessagesResponse.FromString(body).messages_list[0].metadata.message_id == name
        # Its reply got lost: the node, which has nothing, gets the message again, and once it has it, never more.
        assert fleet_pb2.PullMessagesResponse.FromString((await node.pull(wait=0.1))[1]).messages_list
        assert (await node.pull(wait=0.1, have=name))[1] == uint(exchange.KNOWN, 1)
        assert here.short._held == {}

    run(work)


def test_who_waits_is_online(here: Here) -> None:
    async def work() -> None:
        node = Node(here)
        here.state.nodes[node.number].online_until = time.time() + 1.0
        held = asyncio.create_task(node.pull(wait=0.1))
        await asyncio.sleep(0.05)
        status, body = await here.server_app(ONLINE)
        assert (status, body) == (200, PRESENT.pack(node.number, 0, 0))
        assert here.state.nodes[node.number].online_until > time.time() + 30.0
        await held

    run(work)


def test_a_message_of_flowers_own_grid_is_handed_over_when_all_its_objects_are_there(here: Here) -> None:
    async def work() -> None:
        node = Node(here)
        held = asyncio.create_task(node.pull(wait=20.0))
        await asyncio.sleep(0.05)
        message = to(node)
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            objects = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
            session = here.state.start_session(here.run)
            tree = get_object_tree(message)
            here.state.store_message_and_object_tree(remove_content_from_message(message), tree, session)
        await asyncio.sleep(0.25)
        assert not held.done()
        for name, data in objects.items():
            here.state.store_object(here.run, session, name, data)
        assert last_bytes(read((await held)[1]), exchange.RECORD)

    run(work)


def test_a_large_record_is_a_request_of_its_own(here: Here) -> None:
    async def work() -> None:
        node = Node(here)
        await here.push("", to(node, bytes(exchange.MOST_RECORD)))
        found = read((await node.pull(wait=5.0))[1])
        assert exchange.RECORD not in found
        assert all_bytes(found, 2)

    run(work)


def test_the_server_app_waits_for_whole_answers_and_for_no_node_that_is_gone(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "REACH_SECONDS", 0.1)

    async def work() -> None:
        node, gone = Node(here), Node(here)
        await here.push("name", to(node), to(gone))
        body = (await node.pull(wait=1.0))[1]
        waiting = asyncio.create_task(here.collect("name", wait=20.0))
        reply = node.reply(body)
        message = blob(1, node.node.SerializeToString()) + blob(2, reply.slim) + blob(3, reply.tree) + waits(0.0)
        large, *small = sorted(reply.objects.values(), key=len, reverse=True)
        inline = b"".join(blob(exchange.OBJECT, each) for each in small)
        pushed = read((await here.ask("/v1/fleet/push-messages", message + inline, node.headers()))[1])
        (missing,) = (bytes(each).decode() for each in all_bytes(pushed, 3))
        assert exchange.NEXT not in pushed, "it doesn't wait while an object is missing"
        await asyncio.sleep(0.05)
        assert not waiting.done()
        session = bytes(last_bytes(pushed, 4)).decode()
        fields = message_pb2.PushObjectRequest(
            node=node.node, run_id=here.run, object_id=missing, object_content=large, session_id=session
        )
        assert (await node.ask("push-object", fields))[0] == 200
        replies, left = await waiting
        assert (len(replies), left) == (1, 1)
        # Sent once more, because the reply was lost: it is neither an error nor a second answer.
        again = read((await here.ask("/v1/fleet/push-messages", message + inline, node.headers()))[1])
        assert all_bytes(again, 3) == []
        here.state.deactivate_node(gone.number)
        assert await here.collect("name", wait=20.0) == ([], 0)

    run(work)


def test_only_the_server_app_of_a_run_that_goes_on_may_ask_for_much_at_once(here: Here) -> None:
    async def work() -> None:
        node = Node(here)
        await here.push("name", to(node))
        for path in (PUSH, COLLECT, PURGE, ONLINE):
            assert (await here.ask(path))[0] == 401
            assert (await here.ask(path, headers={"flwr-task-token": "x"}))[0] == 401
            assert (await here.ask(path, headers=node.headers()))[0] == 401
        assert here.state.num_message_ins() == 1
        assert await here.server_app(COLLECT, text(1, "another")) == (200, b""), "it isn't known"
        assert await here.server_app(PURGE) == (200, b"")
        assert here.state.num_message_ins() == 0
        assert await here.server_app(COLLECT, text(1, "name")) == (200, b"")
        assert here.state.finish_task(here.task.task_id, SubStatus.COMPLETED, "")
        assert (await here.server_app(ONLINE))[0] == 401

    run(work)


@pytest.mark.parametrize(
    ("path", "body", "media", "status"),
    [
        ("/v1/fleet/pull-messages", b"\xff", "application/protobuf", 400),
        ("/v1/fleet/pull-messages", b"", "application/json", 415),
        ("/v1/fleet/pull-messages", b"", "application/protobuf", 401),
    ],
)
def test_what_is_no_request_is_refused(here: Here, path: str, body: bytes, media: str, status: int) -> None:
    async def work() -> None:
        assert (await here.ask(path, body, Node(here).headers(), media=media))[0] == status

    run(work)


@pytest.mark.parametrize(
    "path", ["/v1/fleet/get-run", "/v1/fleet/", "/v1/runtime/push-messages", "/v1/control/list-runs"]
)
def test_everything_else_is_flowers(here: Here, path: str) -> None:
    async def work() -> None:
        assert await here.ask(path) == (200, FLOWERS)
        here.app.state.enable_supernode_auth = False
        here.short = Shortcut(here.flower)
        assert await here.ask("/v1/fleet/pull-messages") == (200, FLOWERS)

    run(work)


def test_a_run_that_is_over_takes_no_answer(here: Here) -> None:
    async def work() -> None:
        node = Node(here)
        await here.push("name", to(node))
        body = (await node.pull(wait=1.0))[1]
        reply = node.reply(body)
        here.state.finish_task(here.task.task_id, SubStatus.COMPLETED, "")
        message = blob(1, node.node.SerializeToString()) + blob(2, reply.slim) + blob(3, reply.tree) + waits(0.0)
        assert (await here.ask("/v1/fleet/push-messages", message, node.headers()))[0] == 403

    run(work)


def test_a_run_that_nobody_knows_takes_no_answer(here: Here) -> None:
    """A device that answers across a restore isn't kept trying, which would cost the cohort its device for minutes."""

    async def work() -> None:
        node = Node(here)
        await here.push("name", to(node))
        reply = node.reply((await node.pull(wait=1.0))[1])
        del here.state.run_ids[here.task.run_id]
        message = blob(1, node.node.SerializeToString()) + blob(2, reply.slim) + blob(3, reply.tree)
        for more in (b"", waits(0.0)):
            assert (await here.ask("/v1/fleet/push-messages", message + more, node.headers()))[0] == 403

    run(work)
