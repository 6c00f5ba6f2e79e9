"""Dispatch: which call answers a message of a server, whoever carries it, and what goes back.

    kind "train"         plan, model            -> contribution
    kind "train"         plan, model, request   -> answer       the first exchange of a masked attempt
    kind "train.masked"  request                -> answer       the later ones
    kind "query"         anything               -> device       who is there

One record of named values each way. Simulated nodes (`palate_client.flower`, on Flower) and devices
(`palate_client.online.flower_wire`, without it) answer by this one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

RECORD: Final = "palate"
"""Name of the one record a message carries."""
TRAIN: Final = "train"
MASKED: Final = "train.masked"
QUERY: Final = "query"
COME_BACK: Final = "come_back"
"""In a query: seconds after which the device may come again; until then it leaves."""

Answer = tuple[str, bytes | int]
"""Name and value of what goes back."""


class Hosting(Protocol):
    """What answers for the installations of a node. Whatever goes wrong, it gives the constant refusal."""

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes."""

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """The answer to a masked attempt's first request."""

    def go_on(self, node: int, request: bytes) -> bytes:
        """The answer to a later one."""

    def device(self, node: int) -> int:
        """The number of the installation that the node hosts, or hosts first."""


def answered(host: Hosting, node: int, kind: str, record: Mapping[str, object] | None) -> Answer | None:
    """The answer to a message.

    Args:
        host: who answers.
        node: the node's number.
        kind: the message's type.
        record: its record; None: it has none.

    Returns:
        None where nobody asked for anything: the reply is empty.
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
    """One value of a record; nothing where there is none."""
    value = None if record is None else record.get(name)
    return value if isinstance(value, bytes) else b""
