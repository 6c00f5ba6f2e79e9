"""Devices that die or lie between what they announce and what they send cost a round no more than themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from palate_client.online.flower_messages import Reply, ReplyUpload, record_dict
from palate_client.online.flower_wire import Fleet

from palate_client.online.https import Https, RejectedError
from palate_common.enrolment import NodeKey
from palate_common.records.protobuf import blob, text
from palate_common.rounds import exchange
from palate_core.log.canonical import digest

N = 6
Lie = Callable[[Reply], Reply]


def test_a_device_that_dies_before_it_sends_what_it_announced_holds_nobody_up(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects never come. Flower's own grid would wait for them three minutes, with all other answers in hand."""
    monkeypatch.setattr(exchange, "MOST_INLINE", 0)  # as if they were large
    mine, gone, guard = fleet(N), set[str](), threading.Lock()

    def trouble(path: str, phase: str, who: str) -> int | str | None:
        with guard:
            if path.endswith("push-object") and phase == "before" and not gone:
                gone.add(who)
            return "cut" if who in gone else None

    mine.deployment.gateway.trouble = trouble
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    begun = time.monotonic()
    outcome = mine.order(timeout=8, come_back=None)()
    took = time.monotonic() - begun
    stop.set()
    assert [release["users"] for release in outcome["releases"]] == [N - 1], outcome
    assert took < 60
    assert [each.result().ended for each in results] == ["stopped"] * N


def with_root(reply: Reply, root: bytes, children: bytes = b"") -> Reply:
    """The same answer to the same message, made of other objects."""
    old = next(name for name, data in reply.objects.items() if data.startswith(b"Message"))
    slim = reply.slim.replace(old.encode(), digest(root).encode())
    return replace(reply, objects={digest(root): root}, tree=text(1, digest(root)) + children, slim=slim)


def no_record(reply: Reply) -> Reply:
    """A record that isn't Protocol Buffers, under a right name."""
    record = b"ConfigRecord  4\0\xff\xff\xff\xff"
    content = record_dict(digest(record))
    old = next(data for data in reply.objects.values() if data.startswith(b"Message"))
    body = old.partition(b"\0")[2]
    message = f"Message {digest(content)} {len(body)}".encode() + b"\0" + body
    tree = blob(2, text(1, digest(content)) + blob(2, text(1, digest(record))))
    made = with_root(reply, message, tree)
    return replace(made, objects={digest(part): part for part in (record, content, message)})


def no_message(reply: Reply) -> Reply:
    """A record in the place of the message."""
    return with_root(reply, b"ConfigRecord  0\0")


def no_parts(reply: Reply) -> Reply:
    """A message that lacks the part it names."""
    return with_root(reply, f"Message {'ab' * 32} 0".encode() + b"\0")


def a_crowd(reply: Reply) -> Reply:
    """A message of far more objects than one has, and of none that another liar's answer consists of.

    Flower deletes a refused message with all of its objects that belong to no other message. `no_message` is an object
    that is no part of one: were it among these, it would go with them, if it came between the poll and the refusal.
    """
    bodies = (b"\x0a\0" * n for n in range(1, 21))
    parts = [f"ConfigRecord  {len(body)}".encode() + b"\0" + body for body in bodies]
    root = f"Message {','.join(map(digest, parts))} 0".encode() + b"\0"
    made = with_root(reply, root, b"".join(blob(2, text(1, digest(part))) for part in parts))
    return replace(made, objects={digest(part): part for part in (*parts, root)})


def test_objects_that_cannot_be_read_cost_the_round_no_more_than_their_answers(
    fleet: Any, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would end Flower's own grid, and the ServerApp with it; here they are answers that aren't any."""
    mine, liars, guard, true = fleet(N), dict[int, Lie](), threading.Lock(), Fleet.reply
    lies: list[Lie] = [no_record, no_message, no_parts, a_crowd]

    def reply(self: Fleet, *args: Any) -> ReplyUpload:
        made = true(self, *args)
        with guard:
            if len(liars) < len(lies):
                liars.setdefault(self.node, lies[len(liars)])
            if self.node in liars:
                made.reply = liars[self.node](made.reply)
        return made

    monkeypatch.setattr(Fleet, "reply", reply)
    stop = threading.Event()
    results = mine.sync(pool, stop=stop)
    outcome = mine.order(timeout=120, come_back=None)()  # it ends with the last answer, however late
    stop.set()
    assert [(each["users"], each["malformed"]) for each in outcome["releases"]] == [(N - 4, 4)], outcome
    assert [each.result().ended for each in results] == ["stopped"] * N


def test_stale_unregistered_and_foreign_requests_get_nothing(fleet: Any) -> None:
    """From the real SuperLink: a node is its key, now, and nobody else."""
    mine = fleet(2)
    first, second = (device.enrolment for device in mine.devices)
    with Https(first.address, until=time.monotonic() + 30) as https:
        for off in (-1000.0, 1000.0):  # a recorded request is one of another time
            stale = Fleet(https, first.key, clock=lambda off=off: time.time() + off)  # type: ignore[misc]
            with pytest.raises(RejectedError) as refused:
                stale.activate()
            assert refused.value.status == HTTPStatus.UNAUTHORIZED
        with pytest.raises(RejectedError) as refused:
            Fleet(https, NodeKey(ec.generate_private_key(ec.SECP384R1()))).activate()
        assert refused.value.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PRECONDITION_FAILED)
        victim, thief = Fleet(https, first.key), Fleet(https, second.key)
        victim.activate()
        thief.activate()
        own, thief.node = thief.node, victim.node
        for act in (thief.pull, lambda: thief._call("deactivate-node", thief._node())):
            with pytest.raises(RejectedError):
                act()
        thief.node = own
        assert victim.pull() is None
        assert thief.pull() is None
        victim.leave()
        thief.leave()
