"""Requests: what a witness is asked over HTTP, by whom and how often, and evidence of forks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import release_key
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.witnesses.cosigners import WatchedLog, cosigned_size, made_witness
from palate_common.records.checkpoints import sign_checkpoint
from palate_common.records.notes import VerifierKey
from palate_server.witness import cosigner, server, witnessing
from palate_server.witness.cosigner import Cosigner, Rates
from palate_server.witness.folder import log_id
from palate_server.witness.witnessing import AddCheckpoint


def _rates(dice: Dice, answer: CaseAnswer) -> None:
    """Who may ask when, while others ask and time goes by."""
    clock = MadeClock(0.0)
    rates = Rates(dice.one_of((0.05, 0.1, 0.2, 1.0, 2.0)), clock)
    with mock.patch.object(cosigner, "MOST_ADDRESSES", dice.one_of((1, 2, 3, 2**14))):
        for _ in range(60):
            clock.now += dice.one_of((0.0, 0.0, 0.0, 0.25, 0.5, 5.0, 20.0, -1.0))
            answer.tell(rates.has_room(dice.one_of("aaaaabcd")))


def _requests(dice: Dice, answer: CaseAnswer) -> None:
    """The bodies of requests, the sizes of answers, and evidence that a log forked."""
    log, key = WatchedLog(0), release_key(0)
    log.grow(dice.whole(1, 6))
    size, old = log.tree.size, dice.whole(0, log.tree.size)
    note = sign_checkpoint(log.tree.checkpoint(), log.origin, key)
    whole = AddCheckpoint(old, log.tree.consistency_proof(old, size), note).to_bytes()
    proof = b"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n"
    for body in (
        whole, *(altered(dice, whole) for _ in range(6)), whole.replace(b"old ", b"new "),
        whole.replace(b"old ", b"old  "), whole.replace(b"\n\n", b"\n", 1), note.to_bytes(), b"",
        b"old 0\n" + proof * dice.one_of((62, 63, 64)) + b"\n" + note.to_bytes(),
        b"old 0\nAAAA\n\n" + note.to_bytes(), "old \u0661\n\n".encode() + note.to_bytes(),
        b"old 00\n\n" + note.to_bytes(),
    ):  # fmt: skip
        tell_result(
            answer,
            lambda body=body: (lambda read: (read.old, read.proof, read.note.to_bytes()))(
                witnessing.read_request(body)
            ),
        )
    with mock.patch.object(witnessing, "MOST_REQUEST", len(whole) - dice.whole(-1, 1)):
        tell_result(answer, lambda: witnessing.read_request(whole).old)
    for data in (
        witnessing.size_answer(size),
        b"0\n",
        b"7",
        b"07\n",
        b"\n",
        b"",
        b"1\n\n",
        b"9" * 18 + b"\n",
        b"9" * 19 + b"\n",
        b"9" * 20 + b"\n",
        b"\xff\n",
        b"0" * 40 + b"\n",
    ):
        tell_result(answer, witnessing.read_size, data)


def _served(dice: Dice, answer: CaseAnswer) -> None:
    """The HTTP application of a witness, without sockets."""
    with made_folder(answer) as root:
        made, log = made_witness(dice, root, (0.05, 0.2)), WatchedLog(0)
        made.add(VerifierKey.of(log.origin, log.keys[0]), log.origin)
        log.grow(3)
        clock = MadeClock(0.0)
        app = server.application(Cosigner(made, clock=lambda: 5.0, monotonic=clock))

        async def one(method: str, path: str, parts: list[bytes], client: Any) -> None:
            sent: list[Any] = []
            waiting = [
                {"type": "http.request", "body": part, "more_body": place + 1 < len(parts)}
                for place, part in enumerate(parts)
            ]

            async def receive() -> Any:
                return waiting.pop(0) if waiting else {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [],
                "client": client,
                "root_path": "",
                "scheme": "http",
                "http_version": "1.1",
            }
            await app(scope, receive, send)
            head = {name.decode(): value for name, value in sent[0]["headers"]}
            body, status = b"".join(each.get("body", b"") for each in sent[1:]), sent[0]["status"]
            shown = body if status in (200, 409) else NAMED.findall(body.decode())
            answer.tell(status, head.get("content-type"), head.get("connection"), head.get("cache-control"), shown)

        async def several() -> None:
            for _ in range(10):
                body = log.request(dice, cosigned_size(made, log_id(log.origin)), made)
                clock.now += dice.one_of((0.0, 0.0, 0.0, 1.0, 30.0))
                place = dice.one_of(
                    (
                        "/add-checkpoint",
                        "/add-checkpoint",
                        "/health",
                        f"/{log_id(log.origin)}/checkpoint",
                        f"/{log_id('x')}/checkpoint",
                        "/x/checkpoint",
                        "/none",
                    )
                )
                method = (
                    dice.one_of(("POST", "GET"))
                    if dice.chance(0.15)
                    else "POST"
                    if place == "/add-checkpoint"
                    else "GET"
                )
                cut = dice.whole(0, len(body))
                client = dice.one_of(
                    (("127.0.0.1", 1), ("::1", 1), ("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1), None)
                )
                seconds, most = dice.one_of((10.0, 10.0, 10.0, 0.0)), dice.one_of((2**20, len(body), len(body) - 1))
                if dice.chance(0.1):
                    path = made.folder / "states" / log_id(log.origin)
                    path.write_bytes(dice.one_of((path.read_bytes(), b"broken")))
                with (
                    mock.patch.object(server, "BODY_SECONDS", seconds),
                    mock.patch.object(server, "MOST_REQUEST", most),
                ):
                    await one(method, place, [body[:cut], body[cut:]], client)

        with ThreadPoolExecutor(1) as pool:  # in a notebook, this thread has a loop of its own
            pool.submit(asyncio.run, several()).result()
        answer.tell(files_in(root))


SEAMS = (
    Seam("witnesses: rates", _rates, 12),
    Seam("witnesses: requests, sizes and evidence of forks", _requests, 12),
    Seam("witnesses: the HTTP application", _served, 12),
)
