"""KeptState: the SuperLink's state in memory; only nodes and unfinished runs are also on the disk.

    node or run changes -> KeptState -> superlink.db -> KeptState of the next process
    message             -> KeptState, and nowhere else

Messages and their objects never reach the disk. A SuperLink that is killed forgets them, and what it had of an attempt
is sent again: by the ServerApp, whose run goes on, and by the devices, which answer the same request in the same way.

It is Flower's own state with three changes: a node's message is found without a look at all the others, whoever waits
is told of a message or an answer, and the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from flwr.app import Message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE, Status
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    fab_from_proto,
    fab_to_proto,
    run_from_proto,
    run_to_proto,
)
from flwr.proto.fab_pb2 import Fab as FabProto
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run as RunProto
from flwr.proto.runseries_pb2 import RunSeries
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState, RunRecord
from flwr.supercore.constant import NodeStatus
from flwr.supercore.corestate.in_memory_corestate import TokenRecord
from flwr.supercore.date import now
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore
from flwr.superlink.federation import FederationManager

from palate_common.rounds.exchange import Availability
from palate_server.flower.link import MOST_OBJECTS
from palate_server.flower.node_numbers import number_of_key

VERSION: Final = 1
"""The file's format, in SQLite's `user_version`."""
_TIMES: Final = ("registered_at", "last_activated_at", "last_deactivated_at", "unregistered_at")
_DAY: Final = len("2026-01-01")
_RUN_KINDS: Final = ("run", "task", "token", "series", "context", "fab")


class KeptFile:
    """Named values of some kinds, in SQLite.

    Args:
        path: the file; one of another format, Flower's own included, is replaced: what it has is made again at a start.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return
        for end in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.touch(mode=0o600)
        with self._connected() as connection:
            connection.execute("CREATE TABLE kept(kind TEXT, name TEXT, value BLOB NOT NULL, PRIMARY KEY(kind, name))")
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def read(self, kind: str) -> dict[str, bytes]:
        """Name -> value of a kind."""
        with self._connected() as connection:
            return dict(connection.execute("SELECT name, value FROM kept WHERE kind = ?", (kind,)))

    def put(self, kind: str, name: str, value: bytes) -> None:
        """Keep a value."""
        with self._connected() as connection:
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (kind, name, value))

    def remove(self, kind: str, name: str) -> None:
        """Delete a value, and overwrite it."""
        with self._connected() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("DELETE FROM kept WHERE kind = ? AND name = ?", (kind, name))

    def replace(self, kinds: Iterable[str], values: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep exactly these values of some kinds; others, such as tokens of former runs, are overwritten."""
        with self._connected() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.executemany("DELETE FROM kept WHERE kind = ?", [(kind,) for kind in kinds])
            connection.executemany("INSERT INTO kept VALUES (?, ?, ?)", values)

    def _connected(self) -> Any:
        return _Transaction(self._path, self._lock)


class _Transaction:
    """A connection for one transaction, one at a time."""

    def __init__(self, path: Path, lock: threading.Lock) -> None:
        self._path, self._lock = path, lock

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            self._connection = sqlite3.connect(self._path, timeout=10.0)
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            (self._connection.rollback if failed else self._connection.commit)()
        finally:
            self._connection.close()
            self._lock.release()


class KeptState(InMemoryLinkState):
    """The state of a SuperLink.

    Args:
        federation_manager: Flower's.
        object_store: Flower's, in memory.
        file: where nodes and unfinished runs are kept; None: nowhere.

    Attributes:
        on_message: called with a node for which a message was stored; its objects may still be missing.
        on_answer: called with the id of a message whose answer is complete.
    """

    def __init__(
        self, federation_manager: FederationManager, object_store: ObjectStore, *, file: Path | None = None
    ) -> None:
        super().__init__(federation_manager, object_store)
        self.on_message: Callable[[int], object] = lambda node: None
        self.on_answer: Callable[[str], object] = lambda message: None
        self._waiting: dict[int, deque[str]] = {}
        self._handed: dict[int, str] = {}
        self._left = set[int]()
        self._declared: dict[int, tuple[float, int]] = {}
        self._file = None if file is None else KeptFile(file)
        if self._file is not None:
            self._load(self._file)

    # Messages

    def store_message_ins(self, message: Message) -> str | None:
        """Store a message to a node."""
        with self.lock:
            node = self.nodes.get(message.metadata.dst_node_id)
            if node is None or node.status == NodeStatus.UNREGISTERED:
                return None  # Flower would log the number of the node, which has left
            known = message.metadata.message_id in self.message_ins_store
            name = super().store_message_ins(message)
            if name is not None and not known:
                self._waiting.setdefault(message.metadata.dst_node_id, deque()).append(name)
        if name is not None and not known:
            self.on_message(message.metadata.dst_node_id)
        return name

    def get_message_ins(self, node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Message]:
        """Hand over the messages to a node that it hasn't got."""
        found: list[Message] = []
        with self.lock:
            names, other = self._waiting.pop(node_id, deque()), deque[str]()
            while names and (limit is None or len(found) < limit):
                name = names.popleft()
                self._check_stored_messages({name})
                message = self.message_ins_store.get(name)
                if message is None:
                    continue
                if run_id is not None and message.metadata.run_id != run_id:
                    other.append(name)
                    continue
                message.metadata.delivered_at = now().isoformat()
                self._handed[node_id] = name
                found.append(message)
            if other or names:
                self._waiting[node_id] = other + names
        return found

    def next_of(self, node: int) -> str | None:
        """The id of the next message to a node, without handing it over."""
        with self.lock:
            names = self._waiting.get(node, ())
            return next((name for name in names if name in self.message_ins_store), None)

    def hand_over_again(self, node: int, *, have: str) -> None:
        """If the node lacks the message that it was handed last, and hasn't answered it, it is the next one again."""
        with self.lock:
            name = self._handed.get(node)
            if name is None or name == have or name in self.message_ins_id_to_message_res_id:
                return
            message = self.message_ins_store.get(name)
            if message is not None and name not in self._waiting.get(node, ()):
                message.metadata.delivered_at = ""
                self._waiting.setdefault(node, deque()).appendleft(name)

    def whole(self, message: str) -> bool:
        """Whether all objects of a message are stored."""
        session = self._object_push_sessions.get(self._object_push_session_by_root.get(message, ""))
        return session is None or not session.pending_object_ids

    def delivered(self, message: str) -> tuple[Message, list[bytes]] | None:
        """Take the complete answer to a message, and delete both; None: there is none."""
        with self.lock:
            name = self.message_ins_id_to_message_res_id.get(message)
            answer = None if name is None else self.message_res_store.get(name)
            if name is None or answer is None or not self.whole(name):
                return None
            try:
                contents = self._contents(name)
            except NoObjectInStoreError:
                contents = []  # it shared objects with one that is deleted
            self.delete_messages({message})
            self.object_store.delete(name)
            self.object_store.delete(message)
            return answer, contents

    def out_of_reach(self, messages: Iterable[str]) -> set[str]:
        """Of messages without an answer those that get none: they are too old, or their nodes have said farewell.

        Who is only silent may compute, and is waited for as long as the exchange lasts.
        """
        current, gone = now().timestamp(), set[str]()
        with self.lock:
            for name in messages:
                message = self.message_ins_store.get(name)
                if message is None:
                    gone.add(name)
                    continue
                if name in self.message_ins_id_to_message_res_id:
                    continue
                node = self.nodes.get(message.metadata.dst_node_id)
                late = message.metadata.created_at + message.metadata.ttl <= current
                if late or node is None or node.status == NodeStatus.UNREGISTERED or node.node_id in self._left:
                    gone.add(name)
        return gone

    def purge(self) -> None:
        """Delete all messages, and their objects."""
        with self.lock:
            self.message_ins_store.clear()
            self.message_res_store.clear()
            self.message_ins_id_to_message_res_id.clear()
            self._waiting.clear()
            self._handed.clear()
        with self._lock_object_push_sessions:
            self._object_push_sessions.clear()
            self._object_push_session_by_root.clear()
        self.object_store.clear()

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        """Note that a node goes online."""
        self._left.discard(node_id)
        return super().activate_node(node_id, heartbeat_interval)

    def acknowledge_node_heartbeat(self, node_id: int, heartbeat_interval: float) -> bool:
        """Note that a node is online."""
        self._left.discard(node_id)
        return super().acknowledge_node_heartbeat(node_id, heartbeat_interval)

    def deactivate_node(self, node_id: int) -> bool:
        """Note that a node goes offline by its own will."""
        done = super().deactivate_node(node_id)
        self._left.add(node_id)
        self._declared.pop(node_id, None)
        return done

    def declare(self, node_id: int, presence: Availability) -> None:
        """Note what a node declares; it holds until it declares something else, goes offline, or this process ends."""
        with self.lock:
            if node_id in self.nodes:
                self._declared[node_id] = time.monotonic() + presence.stays, presence.takes

    def online(self) -> list[int]:
        """The nodes that are online."""
        current = now().timestamp()
        with self.lock:
            return [
                number
                for number, node in self.nodes.items()
                if node.status == NodeStatus.ONLINE and node.online_until > current
            ]

    def present(self) -> dict[int, Availability]:
        """The nodes that are online, each with what it has declared, as of now; nothing else is known of them."""
        at, nothing = time.monotonic(), (0.0, 0)
        told = {node: self._declared.get(node, nothing) for node in self.online()}
        return {node: Availability(max(0.0, until - at), takes) for node, (until, takes) in told.items()}

    def _contents(self, name: str) -> list[bytes]:
        """The objects of a tree."""
        found, parts = dict[str, bytes](), [self.object_store.get_object_tree(name)]
        while parts and len(found) <= MOST_OBJECTS:
            part = parts.pop()
            found[part.object_id] = self.object_store.get(part.object_id) or b""
            parts.extend(each for each in part.children if each.object_id not in found)
        return list(found.values())

    def _cleanup_push_session(self, session_id: str, *, cleanup_messages: bool) -> None:
        """Forget an upload; if it is complete, whoever waits for its answer is told."""
        session = self._object_push_sessions.get(session_id)
        super()._cleanup_push_session(session_id, cleanup_messages=cleanup_messages)
        if session is None or session.pending_object_ids or cleanup_messages:
            return
        for root in session.root_object_ids:
            if (answer := self.message_res_store.get(root)) is not None:
                self.on_answer(answer.metadata.reply_to_message_id)

    # The file

    def create_node(
        self, owner_aid: str, owner_name: str, public_key: bytes, heartbeat_interval: float, **facts: Any
    ) -> int:
        """Register a node by the number of its key.

        A key that was unregistered can be registered anew, because devices may come back to a SuperLink; which of them
        may take part is for the register of devices to say.
        """
        with self.lock:
            drawn = super().create_node(owner_aid, owner_name, public_key, heartbeat_interval, **facts)
            node, number = self.nodes.pop(drawn), number_of_key(public_key)
            node.node_id = number
            self.nodes[number] = node
            self.node_public_key_to_node_id[public_key] = number
            self.owner_to_node_ids[node.owner_aid].discard(drawn)
            self.owner_to_node_ids[node.owner_aid].add(number)
        self._keep_node(number)
        return number

    def delete_node(self, owner_aid: str, node_id: int) -> None:
        """Take a node's access away, and forget it: neither its key nor a time of it stays."""
        with self.lock:
            super().delete_node(owner_aid, node_id)
            gone = self.nodes.pop(node_id)
            self.node_public_key_to_node_id.pop(gone.public_key, None)
            self.owner_to_node_ids.get(owner_aid, set()).discard(node_id)
            self._declared.pop(node_id, None)
        if self._file is not None:
            self._file.remove("node", str(node_id))

    def create_run(self, *args: Any, **kwargs: Any) -> int:
        """Create a run."""
        run = super().create_run(*args, **kwargs)
        self._keep_runs()
        return run

    def claim_task(self, task_id: int) -> str | None:
        """Hand a task to a process."""
        token = super().claim_task(task_id)
        self._keep_runs()
        return token

    def activate_task(self, task_id: int) -> bool:
        """Note that a task runs."""
        done = super().activate_task(task_id)
        self._keep_runs()
        return done

    def finish_task(self, task_id: int, sub_status: str, details: str) -> bool:
        """Note that a task is over."""
        done = super().finish_task(task_id, sub_status, details)
        self._keep_runs()
        return done

    def _keep_node(self, number: int) -> None:
        """Write a node, of each time the day: to the second they tell which nodes of two populations are one device."""
        if self._file is None or number not in self.nodes:
            return
        kept = NodeInfo.FromString(self.nodes[number].SerializeToString())
        for name in _TIMES:
            if time := getattr(kept, name):
                setattr(kept, name, time[:_DAY])
        kept.ClearField("online_until")
        self._file.put("node", str(number), kept.SerializeToString())

    def _keep_runs(self) -> None:
        """Write the unfinished runs, as far as their ServerApp's process needs them."""
        if self._file is None:
            return
        rows: list[tuple[str, str, bytes]] = []
        with self.lock, self.lock_task_store:
            for number in self.run_ids:
                run = self._get_run(number)
                if run.status.status == Status.FINISHED or self.run_ids[number].federation_config is not None:
                    continue
                rows.append(("run", str(number), run_to_proto(run).SerializeToString()))
                for task in self.task_store.values():
                    if task.run_id == number:
                        rows.append(("task", str(task.task_id), task.SerializeToString()))
                        if (token := self.task_token_store.get(task.task_id)) is not None:
                            rows.append(("token", str(task.task_id), token.token.encode()))
                if (series := self.run_series_store.get(run.series_id)) is not None:
                    rows.append(("series", str(run.series_id), series.SerializeToString()))
                if (context := self.run_series_context_store.get(run.series_id)) is not None:
                    rows.append(("context", str(run.series_id), context_to_proto(context).SerializeToString()))
                if (fab := self.fab_store.get(run.fab_hash)) is not None:
                    rows.append(("fab", run.fab_hash, fab_to_proto(fab).SerializeToString()))
        self._file.replace(_RUN_KINDS, {(kind, name): (kind, name, value) for kind, name, value in rows}.values())

    def _load(self, file: KeptFile) -> None:
        """Take over what another process has kept. Nodes are offline until they are heard of again."""
        active = now() + timedelta(seconds=HEARTBEAT_PATIENCE * HEARTBEAT_DEFAULT_INTERVAL)
        for name, value in file.read("node").items():
            node = NodeInfo.FromString(value)
            node.status, node.online_until = NodeStatus.OFFLINE, now().timestamp()
            self.nodes[int(name)] = node
            self.node_public_key_to_node_id[node.public_key] = int(name)
            self.owner_to_node_ids.setdefault(node.owner_aid, set()).add(int(name))
        for value in file.read("run").values():
            run = run_from_proto(RunProto.FromString(value))
            self.run_ids[run.run_id] = RunRecord(run=run)
            self.flwr_aid_to_run_ids[run.flwr_aid].add(run.run_id)
        self.task_store |= {int(name): Task.FromString(value) for name, value in file.read("task").items()}
        for name, value in file.read("token").items():
            token = value.decode()
            self.task_token_store[int(name)] = TokenRecord(token, active)
            self.task_token_to_task_id[token] = int(name)
        self.run_series_store |= {int(name): RunSeries.FromString(value) for name, value in file.read("series").items()}
        for name, value in file.read("context").items():
            self.run_series_context_store[int(name)] = context_from_proto(ContextProto.FromString(value))
        self.fab_store |= {name: fab_from_proto(FabProto.FromString(value)) for name, value in file.read("fab").items()}


def kept_state(file: Path) -> Callable[[FederationManager, ObjectStore], KeptState]:
    """What makes the state of a file, in the place of Flower's own class."""
    return lambda manager, store: KeptState(manager, store, file=file)
