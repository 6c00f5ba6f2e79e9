"""Node numbers: a SuperLink numbers a node by its key, where Flower draws a random number.

So a device that comes to be at another SuperLink of its server has the same number there. It need not even notice: its
next heartbeat makes it online again.
"""

from __future__ import annotations

import hashlib
from typing import Final

from flwr.common.constant import SUPERLINK_NODE_ID

TAKEN: Final = max(SUPERLINK_NODE_ID, 0)
"""The largest number that Flower keeps for itself."""


def number_of_key(public_key: bytes) -> int:
    """The number of the node with this key: 64 bits of its SHA-256."""
    found = int.from_bytes(hashlib.sha256(b"palate/node/1" + public_key).digest()[:8], "big")
    return max(found, TAKEN + 1)
