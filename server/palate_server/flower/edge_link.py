"""EdgeLink: the coordinator's batches to its edges over Flower's grid, whose nodes the edges are.

    EdgeTransport -> FlowerLink -> Grid -> SuperLink -> EdgeNode of each edge

Of Flower it needs what every ServerApp has. A batch travels in records of a few MB, of which Flower needs least memory.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import httpx
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from palate_core.errors import PalateError

RECORD_BYTES: Final = 2**22
"""Bytes of a record."""
FIRST_LOOK, LAST_LOOK, GROWTH = 0.25, 5.0, 1.3
"""Seconds between two looks for replies, at first and at most, and the factor between: a look costs the SuperLink some
milliseconds. More often is slower: Flower waits a second for objects that it came upon."""
NEWS: Final = 3.0
"""Seconds between two looks for an edge that is new."""
SPARE: Final = 60.0
"""Seconds that Flower keeps a message longer than its reply is waited for."""


class FlowerLink:
    """An `EdgeLink` over a grid.

    Args:
        grid: the ServerApp's.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._nodes = set[int]()

    def edges(self) -> Collection[str]:
        """The nodes that are online."""
        try:
            self._nodes = set(self._grid.get_node_ids())
        except httpx.HTTPError as error:
            raise _lost(error) from None
        return [str(node) for node in self._nodes]

    def ask(self, batches: Mapping[str, bytes], *, seconds: float) -> Iterator[tuple[str, bytes]]:
        """Ask edges, and yield each one's reply as it comes."""
        until = time.monotonic() + seconds
        try:
            messages = [
                Message(records_of(batch), int(edge), MessageType.QUERY, ttl=seconds + SPARE)
                for edge, batch in batches.items()
            ]
            waiting = set(self._grid.push_messages(messages)) if messages else set[str]()
            pause, look = FIRST_LOOK, time.monotonic() + NEWS
            while waiting and time.monotonic() < until:
                if time.monotonic() > look:  # an edge that was started again is another node
                    if set(self._grid.get_node_ids()) - self._nodes:
                        return
                    look = time.monotonic() + NEWS
                found = list(self._grid.pull_messages(waiting))
                for reply in found:
                    waiting.discard(reply.metadata.reply_to_message_id)
                    if not reply.has_error():
                        yield str(reply.metadata.src_node_id), batch_of(reply)
                if not found:
                    time.sleep(pause)
                    pause = min(GROWTH * pause, LAST_LOOK)
        except httpx.HTTPError as error:
            raise _lost(error) from None


def records_of(batch: bytes) -> RecordDict:
    """The records of a message with a batch."""
    view = memoryview(batch)
    parts = [bytes(view[at : at + RECORD_BYTES]) for at in range(0, len(batch), RECORD_BYTES)]
    return RecordDict({f"{place:06d}": ConfigRecord({"bytes": part}) for place, part in enumerate(parts)})


def batch_of(message: Message) -> bytes:
    """The batch of a message; empty if it has none, which is no batch."""
    records = message.content.config_records
    parts = [records[name].get("bytes") for name in sorted(records)]
    return b"".join(part for part in parts if isinstance(part, bytes))


def _lost(error: httpx.HTTPError) -> PalateError:
    """A ServerApp whose SuperLink is another now ends, and is started again with a task at that one."""
    return PalateError(f"the SuperLink must know this server's task, got {type(error).__name__}")
