"""fleet.json: a reply to a message, as the objects that travel, and a device's requests beside what is replied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from palate_client.online.flower_messages import Notice, Reply, ReplyUpload, ServerMessage, record_dict
from palate_client.online.flower_wire import Fleet
from palate_client.online.https import HttpResponse
from palate_common.enrolment import new_node_key
from palate_common.records.protobuf import blob, double, text, uint
from palate_common.rounds import exchange
from palate_core.errors import UnreachableError
from palate_core.log.canonical import digest


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
    return {"message": message, "replies": cases, "exchange": _exchange(node, elapsed)}


class _Played:
    """A server that replies what it is given, and writes down what it is asked."""

    def __init__(self) -> None:
        self.replies, self.calls = list[bytes | None](), list[dict[str, Any]]()

    def request(self, method: str, path: str, body: bytes, *_: Any, **__: Any) -> HttpResponse:
        reply = self.replies.pop(0)
        whole = {"request_hex": body.hex()} if len(body) <= 4096 else {"request_sha256": digest(body)}
        self.calls.append({"path": path, **whole, "reply_hex": None if reply is None else reply.hex()})
        if reply is None:
            raise UnreachableError("the connection was lost")
        return HttpResponse(200, reply)


def _exchange(node: int, elapsed: float) -> dict[str, Any]:
    """A device's requests from its first question to its last answer: at a server of Palate's, and at Flower's own."""

    def asked(letter: str, kind: str, record: bytes) -> tuple[bytes, str]:
        """The part of a reply that has a message, and the SHA-256 of its record."""
        name = digest(record)
        tree = text(1, letter * 64) + blob(2, text(1, digest(record_dict(name))) + blob(2, text(1, name)))
        times = double(7, 600.0) + text(8, kind) + double(9, 1_790_000_000.25)
        metadata = uint(1, 7) + text(2, letter * 64) + uint(3, 1) + uint(4, node) + text(6, "3") + times
        return blob(2, blob(1, metadata)) + blob(3, tree), name

    def record(name: str, value: bytes) -> bytes:
        body = blob(1, text(1, name) + blob(2, blob(6, value)))
        return f"ConfigRecord  {len(body)}\0".encode() + body

    def missing(names: Sequence[str]) -> bytes:
        return b"".join(blob(3, name.encode()) for name in names) + text(4, "session")

    server, steps = _Played(), list[dict[str, Any]]()
    connected: Any = server
    declared = exchange.Availability(stays=90.25, takes=exchange.TRAINING | exchange.SURVEYS)
    device = Fleet(connected, new_node_key(), declares=lambda: declared)
    device.node = node
    notice: Notice | None = None
    taken: ServerMessage | None = None

    def step(do: str, replies: Sequence[bytes | None], act: Callable[[], dict[str, Any]], **given: Any) -> None:
        server.replies, server.calls = list(replies), []
        steps.append({"do": do, **given, "calls": server.calls, "gives": act()})

    def pull(wait: float, reply: bytes) -> None:
        def act() -> dict[str, Any]:
            nonlocal notice
            notice = device.pull(wait=wait)
            return {"message": notice is not None, "holds": device.holds}

        step("pull", [reply], act, wait=wait)

    def take(*replies: bytes) -> None:
        def act() -> dict[str, Any]:
            nonlocal taken
            if notice is None:
                raise ValueError("a message of the vectors must be there")
            taken = device.take(notice)
            values = {
                key: bytes(value).hex() for key, value in (taken.record or {}).items() if isinstance(value, bytes)
            }
            return {"kind": taken.kind, "record": values, "content": taken.content}

        step("take", replies, act)

    def answer(size: int, wait: float, replies: Callable[[Reply], Sequence[bytes | None]]) -> None:
        def act() -> dict[str, Any]:
            nonlocal notice
            while True:
                try:
                    upload.go_on()
                    break
                except UnreachableError:
                    continue
            notice = upload.next
            return {"message": notice is not None, "holds": device.holds, "exchanges": device.exchanges}

        if taken is None:
            raise ValueError("a message of the vectors must be taken")
        reply = Reply.of(taken, node, ("answer", bytes(size)), elapsed=elapsed)
        upload = ReplyUpload(reply, device.deliver, lambda: wait)
        step("answer", replies(reply), act, zeros=size, wait=wait)

    heard, known = blob(2, b"", always=True), uint(exchange.KNOWN, 1)
    small, large = record("request", b"\x01\x02"), record("request", b"\x03" * 300)
    first, second, third = (
        asked("a", "train", small),
        asked("b", "train.masked", large),
        asked("c", "train.masked", small),
    )
    pull(1.5, known)  # nothing yet
    pull(20.0, first[0] + blob(exchange.RECORD, small) + known)
    take()  # it came with its message
    following = second[0] + known  # as if its record were too large to come with it
    answer(2, 20.0, lambda _: [heard + text(4, "session") + known + blob(exchange.NEXT, following)])
    take(uint(1, 1) + uint(2, 1) + blob(3, large))
    ended = blob(exchange.NEXT, known)
    answer(2, 20.0, lambda _: [None, heard + known + ended])  # the server's answer was lost: the same again
    pull(20.0, third[0] + blob(exchange.RECORD, small) + known)
    take()
    one = [heard, uint(1, 1)]
    answer(
        40_000,
        20.0,
        lambda reply: [
            one[0] + missing([max(reply.objects, key=lambda name: len(reply.objects[name]))]) + known,
            one[1],
        ],
    )
    pull(20.0, first[0])  # Flower's own server doesn't know the fields, and skips them
    take(uint(1, 1) + uint(2, 1) + blob(3, small))
    answer(2, 20.0, lambda reply: [heard + missing(sorted(reply.objects)), *[uint(1, 1)] * len(reply.objects)])
    said = {"stays": declared.stays, "takes": declared.takes}
    return {"node": node, "elapsed": elapsed, "declares": said, "steps": steps}
