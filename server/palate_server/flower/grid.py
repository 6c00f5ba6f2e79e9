"""PromptGrid: Flower's grid, whose replies are handed on as they come, and never waited for beyond a deadline.

Flower's own `send_and_receive` looks every three seconds, keeps all replies until the last is there, and waits for what
a device has announced and not sent. An exchange of devices that are awake takes less than a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from palate_server.flower.inbox import Inbox

FIRST_LOOK, LAST_LOOK, SLOWER = 0.3, 2.0, 1.5
"""Seconds between two looks for replies, at first and at last, and by what factor it grows where nothing comes."""


class PromptGrid(Grid):
    """Another grid, asked more often.

    Args:
        grid: who carries the messages; a ServerApp's.

    Raises:
        TypeError: it is another kind of grid.
    """

    def __init__(self, grid: Grid) -> None:
        if not isinstance(grid, HttpGrid):
            raise TypeError(f"`grid` must be the one of a SuperLink, got {type(grid).__name__}")
        self._grid = grid
        self.heard: set[int] = set()
        """Nodes that have answered anything; for its reader to empty."""

    def set_run(self, run: Run) -> None:
        """Take the description of a run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node; the `Message` constructor does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to the SuperLink; their ids."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send messages, and yield each reply once it is there, for `timeout` seconds at most."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        inbox = Inbox(self._grid, [name for message in messages for name in self._pushed(message)])
        look = FIRST_LOOK
        while not inbox.done and time.monotonic() < deadline:
            time.sleep(max(0.0, min(look, deadline - time.monotonic())))
            found = inbox.look()
            self.heard |= {reply.metadata.src_node_id for reply in found if not reply.has_error()}
            look = FIRST_LOOK if found else min(LAST_LOOK, look * SLOWER)
            yield from found

    def _pushed(self, message: Message) -> list[str]:
        """Hand one message over: a node that throws its own away too early costs no other node's."""
        try:
            return [name for name in self._grid.push_messages([message]) if name]
        except ObjectPushError:
            return []
