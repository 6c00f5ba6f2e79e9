"""fleet.json: a reply to a message, as the objects that travel."""

from __future__ import annotations

from typing import Any

from palate_client.online.flower_messages import Reply, ServerMessage


def fleet() -> dict[str, Any]:
    """A reply to a message, as the objects that travel."""
    asked = ServerMessage("train.masked", None, 2**64 - 3, "ab" * 32, 1, "3", 1_790_000_000.25, 600.0, (4, None), 0.0)
    node, elapsed = 2**63 + 5, 2.5
    cases = []
    for answer in (("answer", b"\x01\x02"), ("device", 7), None):
        reply = Reply.of(asked, node, answer, elapsed=elapsed)
        name, value = answer or ("", None)
        cases.append(
            {
                "name": name,
                "value": value.hex() if isinstance(value, bytes) else value,
                "objects": {key: part.hex() for key, part in reply.objects.items()},
                "tree_hex": reply.tree.hex(),
                "message_hex": reply.slim.hex(),
            }
        )
    fields = ("kind", "run", "message", "source", "group", "created", "ttl", "tasks")
    message = {name: getattr(asked, name) for name in fields} | {"node": node, "elapsed": elapsed}
    return {"message": message, "replies": cases}
