"""P, consent while it is sent: an answer that waits for the server to be there again stops with its purpose.

An app's device is online, in its own session, with a server that takes no answer at the first tries. Between two of
them, minutes later in life, its user takes back what the answer is for, and keeps every other purpose. From then on
nothing of the answer may be tried again. Without a revocation it must arrive.

    plan -> Session -> answer -> try, fail, pause -> [revoked] -> no further try
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.checks.ledgers.shown import lying_operator
from palate_audit.harness.probe_run import POPULATION
from palate_audit.harness.watched_run import memory
from palate_client.consent import PURPOSES, agreed
from palate_client.online import retry
from palate_client.online.flower_messages import Reply, ReplyUpload, ServerMessage
from palate_client.online.hosting import OwnHost
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline
from palate_client.online.sync import Session
from palate_client.rounds.dispatch import TRAIN, Answer
from palate_common.errors import UnreachableError

TRIES = 4
"""With the last one the server takes an answer."""


@dataclass
class _Server:
    """A server that a device asks for one message, and that is seldom there.

    Attributes:
        asked: the message.
        at: called with the number of each try to send the answer.
        tries: how often that was tried.
        arrived: whether the answer is there.
        holds: whether it waits for a message before it replies.
    """

    asked: ServerMessage
    at: Callable[[int], None]
    tries: int = 0
    arrived: bool = False
    holds: bool = False
    waiting: list[int] = field(default_factory=lambda: [0])

    def beat(self, silent: float = 0.0) -> None:
        """The device says that it is there."""

    def pull(self, **_: object) -> int | None:
        """Where the next message is."""
        return self.waiting.pop() if self.waiting else None

    def take(self, _: int) -> ServerMessage:
        """The message."""
        return self.asked

    def reply(self, asked: ServerMessage, answer: Answer | None) -> ReplyUpload:
        """The device's answer, to be sent."""
        return ReplyUpload(Reply.of(asked, 1, answer, elapsed=0.0), self._deliver)

    def _deliver(self, _: ReplyUpload) -> None:
        self.tries += 1
        self.at(self.tries)
        if self.tries < TRIES:
            raise UnreachableError("the server must be there, got no answer")
        self.arrived = True


def sending() -> Iterator[str]:
    """A revocation at each try, and none."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory(), prefix="palate-")))
        stack.enter_context(mock.patch.object(retry, "BACKOFF_SECONDS", (1e-4, 1e-4)))
        operator = lying_operator(stack, home)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        operator.tell("model", 1.0)
        device = operator.device
        for revoked in range(TRIES):
            for purpose in PURPOSES:
                device.consent.grant(purpose)
            operator.number += 1
            plan = operator.signed(operator.charged(2.0 + revoked), operator.log.show())
            record = {"plan": plan, "model": operator.model.data}
            asked = ServerMessage(TRAIN, record, 1, "message", 2, "", 0.0, 1e6, (), time.monotonic())

            def change(number: int, revoked: int = revoked) -> None:
                if number == revoked:
                    device.consent.revoke("train")

            server = _Server(asked, change)
            _session(operator, server)
            if revoked and server.tries > revoked:
                yield f"an answer is tried again after its purpose was revoked at try {revoked}"
            if not revoked and not server.arrived:
                yield "an answer must arrive with consent, and doesn't"


def _session(operator: Any, server: _Server) -> None:
    """One session of the device, until the answer has arrived or the device gives up."""
    device = operator.device
    deadline = Deadline(
        seconds=30.0, stop=lambda: server.arrived, policy=Policy(), consents=partial(agreed, device.consent)
    )
    session = Session(device.store, operator.service, device.models, device.rounds, deadline, 1e-4)
    fleet: Any = server
    with OwnHost(device.store, device.rounds, 0, lambda _: None) as host:  # type: ignore[arg-type,return-value]
        vars(Session)["_answer"](session, fleet, host)
