"""SpreadGrid: one grid over all SuperLinks of a server, each of which knows its own nodes only.

    send_and_receive -> by the place of each message's node -> a thread a SuperLink, with a PromptGrid -> replies

The ServerApp has a task at each, see `palate_server.flower.task`. A SuperLink that doesn't answer keeps back its own
devices' replies and no others': requests to it are tried again until the exchange is over, since the supervisor
restarts it within seconds, and what it has forgotten is sent to it again. Devices that it keeps from answering have
dropped out.

Numbers of nodes are those of the register, see `palate_server.folder.places`: those that SuperLinks give may collide.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from itertools import chain, takewhile
from typing import Final

import httpx
from flwr.app import Message
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.retry import RetryInvoker, constant
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.rounds.exchange import Availability
from palate_core.errors import PalateError
from palate_server.flower.grid import PromptGrid
from palate_server.flower.link import Link
from palate_server.folder.places import number_at, split

logger = logging.getLogger("palate")

AGAIN: Final = 0.5
"""Seconds before a request that failed is tried again."""
LOOK: Final = 5.0
"""Seconds to wait for who is online at a SuperLink."""
RECOVERING: Final = 60.0
"""Seconds after a failure of a SuperLink in which its devices may still wait before they try again."""
MOST_UNSENT: Final = 16
"""Messages to a SuperLink that are made before it has taken the earlier ones, as long as it takes any."""
STUCK: Final = 1.0
"""Seconds after which a SuperLink that takes no message is no longer waited for."""
MOST_UNREAD: Final = 2
"""Replies that are in memory before they are asked for, beside one a SuperLink."""
PASSING: Final = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})
OVER: Final = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
"""What a SuperLink answers if it doesn't know the task any more."""


class Connection:
    """The ServerApp's connection to one SuperLink; it is made when it is needed, and again after it was lost.

    Args:
        place: which SuperLink.
        join: makes a grid there; it may raise `httpx.HTTPError` or `PalateError`.
    """

    def __init__(self, place: int, join: Callable[[RetryInvoker], HttpGrid]) -> None:
        self.place, self._join = place, join
        self.failed_at = -math.inf
        """When a request failed last, on the monotonic clock."""
        self._grid: HttpGrid | None = None
        self._unpurged = False
        self._guard, self._own = threading.Lock(), threading.local()
        self._enough: Callable[[], bool] = lambda: True
        self._looking, self._looked_at = threading.Thread(), -math.inf
        self._online: dict[int, Availability] = {}
        self._retry = RetryInvoker(
            lambda: constant(AGAIN), (httpx.TransportError, httpx.HTTPStatusError), None, None,
            jitter=None, should_giveup=self._gives_up,
        )  # fmt: skip

    def grid(self, *, until: Callable[[], bool] = lambda: True) -> HttpGrid:
        """The grid, whose requests are tried again until `until` says that it is enough.

        That holds for this thread, and for those that Flower starts to send a message, until the next call.

        Raises:
            httpx.HTTPError, PalateError: the SuperLink doesn't answer, or refuses.
        """
        self._own.enough = self._enough = until
        while True:
            try:
                with self._guard:
                    if self._grid is None:
                        self._grid = self._join(self._retry)
                    return self._grid
            except (httpx.HTTPError, PalateError):
                self.failed_at = time.monotonic()
                if until():
                    raise
                time.sleep(AGAIN)

    def prompt(self, *, until: Callable[[], bool] = lambda: True) -> PromptGrid:
        """As `grid`, with the requests that Flower doesn't have.

        Raises:
            httpx.HTTPError, PalateError: as `grid`.
        """
        grid = self.grid(until=until)
        link = Link(grid, on_failure=self._note, patience=lambda: not until())
        if self._unpurged:
            link.purge(seconds=LOOK)
            self._unpurged = False
        return PromptGrid(grid, link)

    def purge(self) -> None:
        """Let the SuperLink delete all messages: now, or if it doesn't answer, before anything else is asked of it."""
        self._unpurged = True
        try:
            self.prompt()
        except (httpx.HTTPError, PalateError) as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Note a failure; a task that the SuperLink has given up is not used again."""
        self._note(error)
        logger.warning("SuperLink %d: %s", self.place + 1, type(error).__name__)

    def _note(self, error: Exception) -> None:
        self.failed_at = time.monotonic()
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in OVER:
            self._lose()

    def look(self) -> None:
        """Begin to ask who is online, unless that is being asked already; `online` has the answer."""
        if not self._looking.is_alive():
            self._online, self._looked_at = {}, time.monotonic()
            self._looking = threading.Thread(target=self._look, daemon=True)
            self._looking.start()

    @property
    def online(self) -> dict[int, Availability]:
        """The nodes online, by the register's numbers, and what they declare; none if there is no answer in time."""
        left = self._looked_at + LOOK - time.monotonic()
        if self._looking.is_alive() and left > 0:
            self._looking.join(left)
        return dict(self._online)

    def beat(self) -> None:
        """Say that the task is alive, if there is one."""
        grid = self._grid
        if grid is None:
            return
        self._own.enough = lambda: True
        try:
            if not grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                self._lose()
        except httpx.HTTPError as error:
            self.failed(error)

    def _look(self) -> None:
        try:
            self._online = {number_at(self.place, node): each for node, each in self.prompt().present().items()}
        except (httpx.HTTPError, PalateError) as error:
            self.failed(error)

    def _lose(self) -> None:
        with self._guard:
            self._grid = None

    def _gives_up(self, error: Exception) -> bool:
        self.failed_at = time.monotonic()
        passing = not isinstance(error, httpx.HTTPStatusError) or error.response.status_code in PASSING
        return not passing or getattr(self._own, "enough", self._enough)()


class ExchangePart:
    """The part of an exchange at one SuperLink, in a thread.

    Args:
        connection: the connection to it.
        replies: where each reply goes; None when there are no more.
        deadline: when the exchange is over, on the monotonic clock.
        stopped: whether it is over before that.
    """

    def __init__(
        self,
        connection: Connection,
        replies: queue.Queue[Message | None],
        *,
        deadline: float,
        stopped: threading.Event,
    ) -> None:
        self._connection, self._replies, self._deadline, self._stopped = connection, replies, deadline, stopped
        self._unsent: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._unanswered: dict[int, Message] = {}
        self._asked: set[int] = set()
        self._since, self._stuck = time.monotonic() - RECOVERING, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Hand over a message; it waits until earlier ones are sent, unless the SuperLink takes none."""
        self._asked.add(message.metadata.dst_node_id)
        since, size = time.monotonic(), self._unsent.qsize()
        while size >= MOST_UNSENT and not self._stuck and self._thread.is_alive():
            time.sleep(0.002)
            left = self._unsent.qsize()
            since, size = (time.monotonic(), left) if left < size else (since, size)
            self._stuck = time.monotonic() - since > STUCK
        self._unsent.put(message)

    def close(self) -> None:
        """Say that there are no more messages."""
        self._unsent.put(None)

    @property
    def excused(self) -> Set[int]:
        """The nodes that were asked, if the SuperLink failed just before or meanwhile: they may wait to try again."""
        return self._asked if self._connection.failed_at > self._since else set()

    def _over(self) -> bool:
        return self._stopped.is_set() or time.monotonic() >= self._deadline

    def _run(self) -> None:
        """Send, then pass replies on. Whatever fails here is this SuperLink's trouble only."""
        try:
            new = takewhile(self._goes_on, self._waiting())
            while not self._over():
                try:
                    return self._exchange(chain(list(self._unanswered.values()), new))
                except (httpx.HTTPError, PalateError) as error:
                    self._connection.failed(error)
                    time.sleep(AGAIN)
        except Exception as error:
            self._connection.failed(error)
        finally:
            self._pass_on(None)

    def _exchange(self, messages: Iterable[Message]) -> None:
        """Send messages and pass their replies on.

        Raises:
            httpx.HTTPError, PalateError: the SuperLink refuses, doesn't answer in time, or was started again and has
                forgotten the messages: those without a reply are sent again, which devices answer in the same way.
        """
        grid, place = self._connection.prompt(until=self._over), self._connection.place
        addressed = (self._kept(_addressed(message, grid.run)) for message in messages)
        for reply in grid.send_and_receive(addressed, timeout=max(0.0, self._deadline - time.monotonic())):
            node = reply.metadata.src_node_id
            self._unanswered.pop(node, None)
            reply.metadata.__dict__["_src_node_id"] = number_at(place, node)
            self._pass_on(reply)
            if self._over():
                break

    def _kept(self, message: Message) -> Message:
        """Keep a message until its node has answered, to send it again to a SuperLink that has forgotten it."""
        self._unanswered[message.metadata.dst_node_id] = message
        return message

    def _waiting(self) -> Iterator[Message]:
        """The messages that were handed over, until there are no more."""
        return iter(self._unsent.get, None)

    def _goes_on(self, _: Message) -> bool:
        """Whether a message is still to be sent: nobody would wait for its reply once the exchange is over."""
        return not self._over()

    def _pass_on(self, reply: Message | None) -> None:
        while not self._over():
            with suppress(queue.Full):
                self._replies.put(reply, timeout=AGAIN)
                return


class SpreadGrid:
    """A grid over several SuperLinks: what of Flower's `Grid` a `GridTransport` and a `GridMessenger` use.

    Args:
        connections: one for each, by place.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self.heard: set[int] = set()
        """Nodes that have answered anything, or whose SuperLink has just failed; the caller empties it."""

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online, at the SuperLinks that answer in time."""
        return self.present()

    def present(self) -> dict[int, Availability]:
        """The same, each with what it has declared."""
        for connection in self._connections:
            connection.look()
        return {node: each for connection in self._connections for node, each in connection.online.items()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, and return the ids of those that were taken; a SuperLink that has just failed is left out."""
        sent: list[str] = []
        parts: dict[int, list[Message]] = {}
        for message in messages:
            parts.setdefault(split(message.metadata.dst_node_id)[0], []).append(message)
        for place, part in parts.items():
            connection = self._connections[place]
            if time.monotonic() - connection.failed_at < LOOK:
                continue
            try:
                grid = connection.prompt()
                sent += grid.push_messages([_addressed(message, grid.run) for message in part])
            except (httpx.HTTPError, PalateError) as error:
                connection.failed(error)
        return sent

    def purge(self) -> None:
        """Let each SuperLink delete all messages; one that doesn't answer does so before it is asked anything else."""
        for connection in self._connections:
            connection.purge()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send messages, and yield each reply as it comes, for `timeout` seconds at most."""
        deadline = time.monotonic() + (86400.0 if timeout is None else timeout)
        replies, stopped = queue.Queue[Message | None](MOST_UNREAD), threading.Event()
        parts: dict[int, ExchangePart] = {}
        try:
            for message in messages:
                place = split(message.metadata.dst_node_id)[0]
                if place not in parts:
                    connection = self._connections[place]
                    parts[place] = ExchangePart(connection, replies, deadline=deadline, stopped=stopped)
                parts[place].send(message)
            for part in parts.values():
                part.close()
            going = len(parts)
            while going and (left := deadline - time.monotonic()) > 0:
                try:
                    reply = replies.get(timeout=left)
                except queue.Empty:
                    break
                if reply is None:
                    going -= 1
                    continue
                if not reply.has_error():
                    self.heard.add(reply.metadata.src_node_id)
                yield reply
        finally:
            stopped.set()
            for part in parts.values():
                part.close()
                self.heard |= part.excused


def _addressed(message: Message, run: Run) -> Message:
    """Give a message the numbers of its SuperLink, in place of the register's and those of the ServerApp's own run."""
    fields = message.metadata.__dict__
    fields["_dst_node_id"] = split(message.metadata.dst_node_id)[1]
    if fields["_run_id"] != run.run_id:
        fields["_run_id"], fields["_src_task_id"] = run.run_id, run.primary_task_id
    return message
