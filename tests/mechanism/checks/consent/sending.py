"""Consent while it is sent: an answer that waits for the server to be there again stops with its purpose.

An app's device is online, in its own sessions, with a server that takes no answer at the first try, and that loses
each one, so that it asks for the same again: for a contribution twice, then for a survey's answers twice. At one of all
the moments that there are, before a message comes, between two tries to send what answers it, or when it is asked for
again, the device's user takes one purpose back, and keeps every other. From then on nothing of that purpose may be
tried, in this session or in a later one. Without a revocation everything must arrive, each time with the same bytes.

    message -> Session -> answer -> try, fail, pause -> try -> [lost] -> the same message -> ...
             ^                    ^                   ^      ^          at each of these: a purpose is revoked
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

from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, memory
from palate_client.consent import PURPOSES, Purpose, agrees_to_online
from palate_client.online import retry
from palate_client.online.flower_messages import Reply, ReplyUpload, ServerMessage
from palate_client.online.hosting import OwnHost
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline, SyncEnd
from palate_client.online.sync import Session
from palate_client.rounds.dispatch import TRAIN, Answer
from palate_common.models.model import GlobalModel, catalogue_hash
from palate_common.rounds.wire import REFUSED
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import UnreachableError
from palate_core.plan import RoundPlan, SignedPlan

TRIES = 2
"""With the last one the server takes an answer."""
TIMES = 2
"""How often it asks for the same."""
SURVEY = Survey(first_day="2026-11-23")
FOR: tuple[Purpose, ...] = ("train", "analytics")
"""What answers are for, in the order of the messages."""


@dataclass
class _Server:
    """A server that asks a device for answers, and is seldom there.

    Attributes:
        messages: what it asks for, and what that is for, in order.
        models: the models of the plans, by hash.
        moment: called before each message, and with each try to send an answer.
        tried: purposes of the contributions that were tried, in order.
        arrived: purpose -> the contributions that are there.
        asks: how many messages were asked for.
        taken: whether the answer to the last of them is there.
        holds: whether it waits for a message before it replies.
    """

    messages: list[tuple[Purpose, ServerMessage]]
    models: dict[str, bytes]
    moment: Callable[[], None]
    tried: list[Purpose] = field(default_factory=list)
    arrived: dict[Purpose, list[bytes]] = field(default_factory=dict)
    asks: int = 0
    taken: bool = False
    holds: bool = False

    @property
    def done(self) -> bool:
        """Whether there is no further message."""
        return self.asks == len(self.messages)

    def beat(self, silent: float = 0.0) -> None:
        """The device says that it is there."""

    def pull(self, **_: object) -> int | None:
        """Where the next message is."""
        return None if self.done else self.asks

    def take(self, number: int) -> ServerMessage:
        """The message."""
        self.moment()
        self.asks, self.taken = self.asks + 1, False
        return self.messages[number][1]

    def reply(self, asked: ServerMessage, answer: Answer | None) -> ReplyUpload:
        """The device's answer, to be sent."""
        purpose = next(each for each, message in self.messages if message is asked)
        sent = answer[1] if answer is not None and isinstance(answer[1], bytes) else REFUSED
        tries = iter(range(1, TRIES + 1))

        def deliver(_: ReplyUpload) -> None:
            if sent != REFUSED:
                self.tried.append(purpose)
            self.moment()
            if next(tries) < TRIES:
                raise UnreachableError("the server must be there, got no answer")
            self.taken = True
            if sent != REFUSED:
                self.arrived.setdefault(purpose, []).append(sent)

        return ReplyUpload(Reply.of(asked, 1, answer, elapsed=0.0), deliver)


def sending(*, quick: bool = False) -> Iterator[str]:
    """Each purpose revoked at each second moment, one of them at the others, and none; `quick`: one at each moment."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory(), prefix="palate-")))
        stack.enter_context(mock.patch.object(retry, "BACKOFF_SECONDS", (1e-4, 1e-4)))
        operator = lying_operator(stack, home)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        operator.tell("model", 1.0)
        rounds = {"train": (operator.plan, operator.model), "analytics": _survey()}
        kept = _lived(operator, rounds, None, -1)
        for purpose in FOR:
            arrived = kept.arrived.get(purpose, [])
            if len(arrived) != TIMES or len(set(arrived)) != 1:
                yield f"an answer for `{purpose}` must arrive {TIMES} times, with the same bytes, and doesn't"
        for at in range(len(FOR) * TIMES * (1 + TRIES)):
            for purpose in (FOR[at // 2 % 2],) if quick or at % 2 else FOR:
                if _lived(operator, rounds, purpose, at).late:
                    yield f"an answer for `{purpose}` is tried after its purpose was revoked, at moment {at}"


@dataclass
class _Lived:
    """What happened: contributions that arrived, and how many were tried of a purpose after it was revoked."""

    arrived: dict[Purpose, list[bytes]]
    late: int = 0


def _lived(operator: LyingOperator, rounds: Any, revoked: Purpose | None, at: int) -> _Lived:
    """All messages, in as many sessions as it takes; at a moment a purpose is revoked."""
    device, moments, before = operator.device, 0, 0
    for number, each in enumerate(PURPOSES):
        device.consent.grant(each, version=str(at + number))
    messages = [message for each in FOR for message in _asked(operator, each, *rounds[each])]

    def moment() -> None:
        nonlocal moments, before
        if moments == at and revoked is not None:
            device.consent.revoke(revoked)
            before = server.tried.count(revoked)
        moments += 1

    server = _Server(messages, {model.hash: model.data for _, model in rounds.values()}, moment)
    for _ in messages:  # a session ends with a purpose
        if not server.done:
            _session(operator, server)
    return _Lived(server.arrived, 0 if revoked is None or moments <= at else server.tried.count(revoked) - before)


def _asked(operator: LyingOperator, purpose: Purpose, plan: RoundPlan, model: GlobalModel) -> Iterator[Any]:
    """The messages for the next attempt at a round."""
    operator.plan, operator.model = plan, model
    operator.number += 1
    signed = operator.signed(operator.charged(2.0 + operator.number), operator.log.show())
    for again in range(TIMES):
        record = {"plan": signed}
        yield (
            purpose,
            ServerMessage(
                TRAIN, record, 1, f"{purpose} {again}", 2, "", 0.0, 1e6, (), time.monotonic(), content=signed[:64].hex()
            ),
        )


def _survey() -> tuple[RoundPlan, GlobalModel]:
    """A plan of a real survey, and its model."""
    setting = Setting(
        algorithm=SURVEYING, settings=SURVEY.model_dump(mode="json"), users_per_node=1, epsilon=0.5
    )  # fmt: skip
    names = list(SURVEY.questions())
    terms = setting.terms(SURVEYING, n_users=2, n_items=len(names), directory=None)
    terms = terms.model_copy(update={"catalogue": catalogue_hash(names)})
    with WatchedRun(terms, crowd([[0]] * 2, n_items=len(names)), users_per_node=1) as stage:
        stage.play(rounds=1)
        asked, model = stage.seen.asked
        return SignedPlan.model_validate_json(asked).plan, GlobalModel.from_bytes(model)


def _session(operator: Any, server: _Server) -> None:
    """One session of the device, until there is no message left or the device gives up."""
    device = operator.device
    deadline = Deadline(
        seconds=30.0, stop=lambda: server.done and server.taken, policy=Policy(),
        consents=partial(agrees_to_online, device.consent),
    )  # fmt: skip
    session = Session(device.store, operator.service, device.models, device.rounds, deadline, 1e-4)
    fleet: Any = server
    with OwnHost(device.store, device.rounds, 0, lambda _: SyncEnd("time"), server.models.__getitem__) as host:
        vars(Session)["_answer"](session, fleet, host)
