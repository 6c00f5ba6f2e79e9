"""EdgeLink: the coordinator's batches to its edges over Flower's grid, whose nodes the edges are.

    EdgeTransport -> FlowerLink -> Grid -> SuperLink -> EdgeNode of each edge

Of Flower it needs what every ServerApp has. A batch travels in records of a few MB, of which Flower needs least memory.
A reply is authenticated by the key that the edge shares with the server's folder (HMAC-SHA256, RFC 2104), over what was
asked: Flower's own authentication says that a node was registered, and not which edge it is.

    ask   = nonce (16 bytes), batch
    reply = name's length (1 byte), name, code (32 bytes), batch
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from typing import Final

import httpx
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from palate_core.errors import IntegrityError, PalateError

logger = logging.getLogger("palate")

RECORD_BYTES: Final = 2**22
"""Bytes of a record."""
FIRST_LOOK, LAST_LOOK, SHARE = 0.25, 5.0, 0.3
"""Seconds between two looks for replies, at least and at most, and their share of what the latest question has waited:
a look costs the SuperLink some milliseconds. More often is slower: Flower waits a second for objects that it came
upon."""
SPARE: Final = 60.0
"""Seconds that Flower keeps a message longer than its reply is waited for."""
MOST_WAIT: Final = 3600.0
"""Seconds after which a question is forgotten."""
NONCE_BYTES: Final = 16
CODE_BYTES: Final = 32
FRAMING: Final = 2**16
"""Bytes of a reply beside its batch: the code, and what Flower has around records."""
MOST_OBJECTS: Final = 8
"""Objects of a reply beside full records."""
_most_bytes: ContextVar[int] = ContextVar("bytes of the reply that is pulled", default=0)


class FlowerLink:
    """An `EdgeLink` over a grid.

    **Guarantees:** what it yields as an edge's was made by who has that edge's key, for what this edge was asked.

    Args:
        grid: the ServerApp's.
        key_of: returns the key of an edge, by name; None: there is no such edge.
    """

    def __init__(self, grid: Grid, key_of: Callable[[str], bytes | None]) -> None:
        self._grid, self._key_of = grid, key_of
        self._names: dict[str, str] = {}
        self._asked: dict[str, tuple[str, bytes, float, int]] = {}

    def edges(self) -> Mapping[str, str]:
        """The nodes that are online, each with the name of its edge."""
        try:
            there = {str(node) for node in self._grid.get_node_ids()}
        except httpx.HTTPError as error:
            raise _lost(error) from None
        self._names = {node: name for node, name in self._names.items() if node in there and self._key_of(name)}
        return dict.fromkeys(there - self._names.keys(), "") | self._names

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        """Ask an edge; the name of the question is Flower's of the message."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        message = Message(records_of(nonce + batch), int(edge), MessageType.QUERY, ttl=seconds + SPARE)
        try:
            (asked,) = self._grid.push_messages([message])
        except httpx.HTTPError as error:
            raise _lost(error) from None
        now = time.monotonic()
        self._asked = {each: sent for each, sent in self._asked.items() if now < sent[2] + MOST_WAIT}
        self._asked[asked] = edge, nonce, now, most + FRAMING
        return asked

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """The replies to some questions, as soon as one is there, or the time is up."""
        now = time.monotonic()
        begun, until = max((self._asked[each][2] for each in asked if each in self._asked), default=now), now + seconds
        while True:
            found = [(each, self._read(each, reply)) for each in asked for reply in self._replies_to(each)]
            if found or (left := until - time.monotonic()) <= 0:
                return found
            time.sleep(min(left, LAST_LOOK, max(FIRST_LOOK, SHARE * (time.monotonic() - begun))))

    def _replies_to(self, asked: str) -> list[Message | None]:
        """The reply to a question, if one is there; each is pulled alone, as its node may have sent anything."""
        _most_bytes.set(self._asked[asked][3] if asked in self._asked else 0)
        try:
            return list[Message | None](self._grid.pull_messages([asked]))[:1]
        except httpx.HTTPError as error:
            raise _lost(error) from None
        except Exception as error:  # whatever Flower makes of objects that are none
            logger.warning("a reply must be a message of Flower's, got %s", type(error).__name__)
            return [None]

    def _read(self, asked: str, reply: Message | None) -> bytes | None:
        """The batch of a reply; None: there is none, or nobody vouches for it."""
        edge, nonce, *_ = self._asked.pop(asked, ("", b"", 0.0, 0))
        if not edge or reply is None or not reply.has_content():
            return None
        try:
            name, batch = verified(batch_of(reply), nonce, self._key_of)
        except IntegrityError as error:
            logger.warning("%s", error)
            return None
        self._names.pop(edge, None)  # the latest to be named stands last
        self._names[edge] = name
        return batch


def bounded(pull: Callable[..., dict[str, bytes]]) -> Callable[..., dict[str, bytes]]:
    """Flower's function that pulls the objects of a message, of a reply no more than its question allows."""

    def pulled(object_ids: list[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        most, sizes = _most_bytes.get(), list[int]()

        def one(name: str) -> bytes:
            data = pull_object_fn(name)
            sizes.append(len(data))  # by several threads
            if sum(sizes) > most:
                raise IntegrityError(f"a reply must have at most {most} bytes, got more")
            return data

        if len(object_ids) > most // RECORD_BYTES + MOST_OBJECTS:
            raise IntegrityError(f"a reply of {most} bytes must have few objects, got {len(object_ids)}")
        return pull(object_ids, one)

    return pulled


def authenticated(name: str, key: bytes, nonce: bytes, batch: bytes) -> bytes:
    """A reply with its code."""
    named = name.encode()
    return bytes([len(named)]) + named + _code(key, named, nonce, batch) + batch


def verified(reply: bytes, nonce: bytes, key_of: Callable[[str], bytes | None]) -> tuple[str, bytes]:
    """Who replied, and what.

    Raises:
        IntegrityError: nobody who has an edge's key made it for this question.
    """
    end = 1 + (reply[0] if reply else 0)
    named, code, batch = reply[1:end], reply[end : end + CODE_BYTES], reply[end + CODE_BYTES :]
    name = named.decode("ascii", "replace")
    key = key_of(name)
    if key is None or not hmac.compare_digest(code, _code(key, named, nonce, batch)):
        raise IntegrityError(f"a reply must be an edge's that this server knows, got one as of {name!r:.80}")
    return name, batch


def _code(key: bytes, named: bytes, nonce: bytes, batch: bytes) -> bytes:
    said = hmac.new(key, b"palate edge reply\n" + bytes([len(named)]) + named + nonce, hashlib.sha256)
    said.update(batch)
    return said.digest()


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
