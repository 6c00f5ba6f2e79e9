"""Dispatch: chooses the call that answers a server's message, independent of the transport.

    kind "train"         plan, seconds (, model)            -> contribution
    kind "train"         plan, seconds (, model), request   -> answer       the first message of a masked attempt
    kind "train.masked"  request                            -> answer       its later messages
    kind "query"         anything                           -> device       the device's number

A server's message has no model: a device fetches the one that the plan names. Only nodes in a simulation are handed
it, in their machine's memory. A message and its answer each have one record of named values. Simulated nodes
(`palate_client.flower`, on Flower) and devices (`palate_client.online.flower_wire`, without Flower) both use this
function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

RECORD: Final = "palate"
"""Name of the one record of a message."""
TRAIN: Final = "train"
MASKED: Final = "train.masked"
QUERY: Final = "query"
SECONDS: Final = "seconds"
"""Beside a plan: seconds for which the server waits for the answers of an exchange; who has less doesn't take it."""
COME_BACK: Final = "come_back"
"""In a query: seconds after which the device shall sync again; until then it goes offline."""

Answer = tuple[str, bytes | int]
"""Name and value of the answer."""


class Hosting(Protocol):
    """Answers for the installations of a node. Whatever goes wrong, the answer is the constant refusal."""

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """Answer a plan without masks with a contribution's bytes; `model` is empty where it is to be fetched."""

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """Answer the first request of a masked attempt."""

    def go_on(self, node: int, request: bytes) -> bytes:
        """Answer a later request of a masked attempt."""

    def device(self, node: int) -> int:
        """The number of the first installation that the node hosts."""


def answer_message(host: Hosting, node: int, kind: str, record: Mapping[str, object] | None) -> Answer | None:
    """Answer a message.

    Args:
        host: answers for the node.
        node: the node's number.
        kind: the message's type.
        record: its record; None: it has none.

    Returns:
        Name and value of the answer; None: the message asks for nothing, and the reply is empty.
    """
    plan, model, request = (_bytes(record, name) for name in ("plan", "model", "request"))
    if kind == TRAIN and request:
        return "answer", host.join(node, plan, model, request)
    if kind == TRAIN:
        return "contribution", host.answer(node, plan, model)
    if kind == MASKED:
        return "answer", host.go_on(node, request)
    if kind == QUERY and record is not None:
        return "device", host.device(node)
    return None


def _bytes(record: Mapping[str, object] | None, name: str) -> bytes:
    """One value of a record; empty if it has none."""
    value = None if record is None else record.get(name)
    return value if isinstance(value, bytes) else b""
