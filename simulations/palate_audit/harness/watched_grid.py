"""Watched: a grid that keeps what it carries, loses some nodes' answers, and delivers others' twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Error, Message
from flwr.clientapp import ClientApp

from palate_common.rounds.plan import SignedPlan
from palate_sim.engines.grid import LocalGrid


@dataclass
class Seen:
    """What the grid carried.

    Attributes:
        plans: each signed plan that a node was sent, once, in order.
        asked: the latest plan and its model, as a node was sent them.
        replies: every answer, by attempt and node: the bytes, or None for an error.
    """

    plans: list[SignedPlan] = field(default_factory=list)
    asked: tuple[bytes, bytes] = (b"", b"")
    replies: dict[tuple[int, int, int], list[bytes | None]] = field(default_factory=dict)


class WatchedGrid(LocalGrid):
    """A grid that keeps what it carries, loses some nodes' answers and delivers others' twice."""

    def __init__(self, client: ClientApp, *, nodes: int) -> None:
        super().__init__(client, nodes=nodes)
        self.seen = Seen()
        self.absent: frozenset[int] = frozenset()
        self.repeated: frozenset[int] = frozenset()
        self.before: Callable[[SignedPlan], None] | None = None
        self._place = (-1, -1)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies; those of some nodes come twice."""
        for reply in super().pull_messages(message_ids):
            yield reply
            if reply.metadata.src_node_id - 1 in self.repeated:
                yield reply

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id - 1
        plan = _value(message, "plan")
        if plan:
            signed = SignedPlan.model_validate_json(plan)
            self.seen.asked = (plan, _value(message, "model") or b"")
            if not self.seen.plans or self.seen.plans[-1] != signed:
                self.seen.plans.append(signed)
            self._place = (signed.plan.round, signed.plan.attempt)
            if self.before is not None:
                self.before(signed)
        if node in self.absent:
            return Message(Error(3), reply_to=message)
        reply = super()._deliver(message)
        answer = None if reply.has_error() else _value(reply, "contribution") or _value(reply, "answer")
        self.seen.replies.setdefault((*self._place, node), []).append(answer)
        return reply


def _value(message: Message, name: str) -> bytes | None:
    """A value of a message's one record."""
    record = message.content.get("palate")
    value = record.get(name) if isinstance(record, ConfigRecord) else None
    return value if isinstance(value, bytes) else None
