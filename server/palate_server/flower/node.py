"""Node: an edge as a node of Flower's, in the edge's own process.

    coordinator -> EdgeLink -> SuperLink -> EdgeNode -> WaitingRoom.answer -> SuperLink -> coordinator

Flower has no public node that runs in a process of somebody else's: this uses the connection of its own one. A thread
asks for messages, each of which has a batch; the batch is answered in the edge's event loop. Where a SuperLink refuses
a node, Flower interrupts its process (SIGINT): an edge's process ignores that, and begins a new node.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

from palate_core.errors import PalateError
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.flower.control import LinkControl
from palate_server.flower.edge_link import NONCE_BYTES, authenticated, batch_of, records_of
from palate_server.folder.edges import OWN, grant_of, key_of
from palate_server.folder.server_folder import Site

logger = logging.getLogger("palate")

SOON, LATER, GROWTH = 0.25, 3.0, 1.1
"""Seconds between two questions for messages, right after one and later, and the factor between: each costs the
SuperLink some milliseconds."""
PAUSE: Final = 1.0
"""Seconds before a SuperLink that isn't there, or knows this node no more, is asked again."""
TRIES, SECONDS = 3, 10.0
"""How often, and for how long, one request is tried."""


class EdgeNode(AbstractContextManager["EdgeNode"]):
    """The node of an edge; it serves while the context lasts, which is entered in the edge's event loop.

    Args:
        site: the server folder, or an edge's.
        room: what answers.
    """

    def __init__(self, site: Site, room: WaitingRoom) -> None:
        self._site, self._control, self._room = site, LinkControl(site), room
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="edge-node")

    def __enter__(self) -> EdgeNode:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ending.set()

    def _run(self) -> None:
        """Serve, and begin anew with another key whenever the SuperLink was started again."""
        while not self._ending.is_set():
            try:
                self._serve()
            except BaseException as error:  # Flower's of a message whose run is over is no `Exception`
                logger.warning("the edge has no SuperLink: %s", type(error).__name__)
            self._ending.wait(PAUSE)

    def _serve(self) -> None:
        """Register a new key, and answer messages until a request fails."""
        if not self._control.ready():
            raise PalateError("the SuperLink must answer, and doesn't")
        self._control.close()
        grant = grant_of(self._site)
        edge, shared = (OWN, key_of(self._site, OWN)) if grant is None else (grant.name, grant.secret)
        if shared is None:
            raise PalateError("an edge must share a key with its server, and has none")
        key = ec.generate_private_key(ec.SECP384R1())
        public = key.public_key()
        self._control.register(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        pause = SOON
        with http_request_response(
            self._control.address, False, str(self._control.authority), (key, public), TRIES, SECONDS
        ) as (_, receive, send, _, _, pull, push, confirm):
            while not self._ending.is_set():
                found = receive()
                if found is None:
                    self._ending.wait(pause)
                    pause = min(GROWTH * pause, LATER)
                    continue
                asked, tree = found
                run, name = asked.metadata.run_id, asked.metadata.message_id
                objects_of = partial(pull, run)
                contents = pull_objects(list(_names(tree)), objects_of, initial_backoff=0.02, backoff_cap=SOON)
                confirm(run, name)
                message = cast(Message, inflate_object_from_contents(name, contents))
                message.metadata.__dict__["_message_id"] = name
                batch = batch_of(message)
                nonce, said = batch[:NONCE_BYTES], self._answer(batch[NONCE_BYTES:])
                reply = Message(records_of(authenticated(edge, shared, nonce, said)), reply_to=message)
                reply.metadata.__dict__["_message_id"] = reply.object_id
                objects = dict[str, Any]()
                wanted, session = send(reply, _tree_of(reply, type(tree), objects), 0.0)
                for each in wanted:
                    push(run, session, each, objects[each].deflate())
                pause = SOON

    def _answer(self, batch: bytes) -> bytes:
        """What the edge's event loop answers."""
        if self._loop is None:
            raise PalateError("an edge's node must be entered before it answers")
        return asyncio.run_coroutine_threadsafe(self._room.answer(batch), self._loop).result()


def _tree_of(part: Any, made: type[Any], objects: dict[str, Any]) -> Any:
    """The tree of a message's objects, of Flower's type; they are put beside their names."""
    children = [_tree_of(child, made, objects) for child in (part.children or {}).values()]
    objects[part.object_id] = part
    return made(object_id=part.object_id, children=children)


def _names(tree: Any) -> Iterator[str]:
    """The names of all objects of a message."""
    yield tree.object_id
    for child in tree.children:
        yield from _names(child)
