"""Node numbers: a SuperLink numbers a node by its key, where Flower draws a random number.

So a device that comes to be at another SuperLink of its server has the same number there. It need not even notice: its
next heartbeat makes it online again. A key that was unregistered can be registered anew, because devices may come back
to a SuperLink; which of them may take part is for the register of devices to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.server.superlink.linkstate import sql_linkstate
from flwr.server.superlink.linkstate.utils import generate_rand_int_from_bytes as draw
from flwr.supercore.constant import NodeStatus
from flwr.supercore.state.schema.linkstate_models import Node
from sqlalchemy import delete

TAKEN: Final = max(SUPERLINK_NODE_ID, 0)
"""The largest number that Flower keeps for itself."""
_wanted: ContextVar[int] = ContextVar("wanted", default=0)


def number_of_key(public_key: bytes) -> int:
    """The number of the node with this key: 64 bits of its SHA-256."""
    found = int.from_bytes(hashlib.sha256(b"palate/node/1" + public_key).digest()[:8], "big")
    return max(found, TAKEN + 1)


def numbered_by_key(create: Callable[..., int]) -> Callable[..., int]:
    """Wrap Flower's method that stores a new node."""

    def numbered(state: Any, *, public_key: bytes, **facts: Any) -> int:
        gone = delete(Node).where(Node.public_key == public_key, Node.status == NodeStatus.UNREGISTERED)
        with state.session() as session:
            session.execute(gone)
        token = _wanted.set(number_of_key(public_key))
        try:
            return create(state, public_key=public_key, **facts)
        finally:
            _wanted.reset(token)

    return numbered


def adapt_numbers() -> None:
    """Patch Flower in this process."""
    vars(sql_linkstate)["generate_rand_int_from_bytes"] = lambda *size, **rest: _wanted.get() or draw(*size, **rest)
    made = numbered_by_key(sql_linkstate.SqlLinkState.create_node)
    setattr(sql_linkstate.SqlLinkState, "create_node", made)  # noqa: B010 - a method
