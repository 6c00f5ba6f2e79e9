"""LocalGrid: a Flower Grid inside this process, where a message costs some fifty microseconds.

    Transport --push_messages--> ClientApp(copy of the message, the node's context) --pull_messages--> Transport

No SuperLink, no threads, no other process: a round's nodes answer one after the other when their replies are pulled.
Every use of Flower's internals that the local engine needs is in this module.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

logger = logging.getLogger(__name__)


class LocalGrid(Grid):
    """Nodes 1 to `nodes`, all run by one ClientApp in this process.

    Args:
        client: the ClientApp.
        nodes: how many nodes there are; node n has partition id n - 1.
        run_config: what each node's context carries.
    """

    def __init__(self, client: ClientApp, *, nodes: int, run_config: dict[str, Any] | None = None) -> None:
        identify()
        self._run = Run.create_empty(run_id=TaskIdentity.run_id)
        self._client = client
        self._contexts = {
            node: Context(
                run_id=self._run.run_id,
                node_id=node,
                node_config={"partition-id": node - 1, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for node in range(1, nodes + 1)
        }
        self._pending: dict[str, Message] = {}
        self._sent = 0

    def set_run(self, run: Run) -> None:
        """Take the description of a run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node; the `Message` constructor does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Every node's id."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; they are delivered when their replies are pulled."""
        ids = []
        for message in messages:
            self._sent += 1
            ids.append(_name(message, f"message-{self._sent}"))
            self._pending[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Deliver the messages of these ids, and return their replies; each is delivered once."""
        return [self._deliver(self._pending.pop(name)) for name in message_ids if name in self._pending]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver one message after the other, as the caller iterates; there is nothing to wait for."""
        for message in messages:
            yield from self.pull_messages(self.push_messages((message,)))

    def _deliver(self, message: Message) -> Message:
        """Run the ClientApp on a copy of the message; an exception becomes an error reply without details."""
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            return _reply(Error(ErrorCode.NODE_UNAVAILABLE), message)
        delivered = Message(metadata=message.metadata, content=_copied(message.content))  # type: ignore[call-overload] # how Flower's own transports build it
        try:
            reply = self._client(message=delivered, context=context)
        except Exception as error:
            logger.warning("the ClientApp of node %d raised %r", context.node_id, error)
            return _reply(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), message)
        _name(reply, f"reply-to-{message.metadata.message_id}")
        return reply


def identify() -> None:
    """Give this process the task identity that `Message` needs, unless Flower gave it one.

    The identity belongs to the process, not to a grid: every local run shares it, so that runs can follow each other
    or go on side by side.
    """
    try:
        _ = TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id
    except RuntimeError:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def _reply(error: Error, message: Message) -> Message:
    """An error reply with an id."""
    reply = Message(error, reply_to=message)
    _name(reply, f"reply-to-{message.metadata.message_id}")
    return reply


def _name(message: Message, name: str) -> str:
    """Set a message's id, which Flower leaves to the transport."""
    message.metadata.__dict__["_message_id"] = name
    return name


def _copied(content: RecordDict) -> RecordDict:
    """Copy the records, because the messages of a round share them; bytes can't change and stay shared."""
    return RecordDict({key: _copied_record(record) for key, record in content.items()})


def _copied_record(record: Any) -> Any:
    return ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else deepcopy(record)
