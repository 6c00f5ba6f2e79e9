"""PromptGrid: Flower's grid, but it yields replies as they come, and waits at most until a deadline.

Flower's own `send_and_receive` sends and fetches each part of each message in a request of its own, polls every three
seconds, keeps all replies until the last has come, and waits for replies that a device has announced but not sent. An
exchange with devices that are awake takes less than a second, and a few requests for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.rounds.exchange import Availability
from palate_server.flower.inbox import Inbox
from palate_server.flower.link import Link


class PromptGrid(Grid):
    """A grid that waits at the SuperLink, which must be `palate_server.flower.superlink`.

    Args:
        grid: the ServerApp's grid, which carries the messages.
        link: the requests that Flower doesn't have; None: over that grid.

    Raises:
        TypeError: it is not a SuperLink's grid.
    """

    def __init__(self, grid: Grid, link: Link | None = None) -> None:
        if not isinstance(grid, HttpGrid):
            raise TypeError(f"`grid` must be the one of a SuperLink, got {type(grid).__name__}")
        self._grid, self.link = grid, Link(grid) if link is None else link
        self.heard: set[int] = set()
        """Nodes that have answered anything; the caller empties it."""

    def set_run(self, run: Run) -> None:
        """Set the description of the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message to a node; the `Message` constructor does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""
        return self.present()

    def present(self) -> dict[int, Availability]:
        """The nodes that are online, each with what it has declared."""
        return self.link.online()

    def purge(self) -> None:
        """Let the SuperLink delete all messages."""
        self.link.purge()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the SuperLink, and return their ids; nobody waits for the replies."""
        return self.link.push("", messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have come."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send messages, and yield each reply as it comes, for `timeout` seconds at most.

        Raises:
            ForgottenError: the SuperLink was started again; messages without a reply must be sent again.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        inbox = Inbox(self.link, messages)
        while not inbox.done and (left := deadline - time.monotonic()) > 0:
            found = inbox.look(left)
            self.heard |= {reply.metadata.src_node_id for reply in found if not reply.has_error()}
            yield from found
