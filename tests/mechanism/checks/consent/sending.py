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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stand_in_server import Given, StandIn, Trouble

from mechanism.checks.consent.wire import asked, enrolled, online
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun
from palate_client.consent import PURPOSES, Purpose
from palate_common.models.model import GlobalModel, catalogue_hash
from palate_common.rounds.exchange import ServerMessage
from palate_common.rounds.wire import REFUSED
from palate_common.survey import SURVEYING, Survey
from palate_common.system import memory_folder
from palate_core.plan import RoundPlan, SignedPlan

TRIES = 2
"""With the last one the server takes an answer."""
TIMES = 2
"""How often it asks for the same, each time in another exchange."""
SURVEY = Survey(first_day="2026-11-23")
FOR: tuple[Purpose, ...] = ("train", "analytics")
"""What answers are for, in the order of the messages."""


@dataclass
class _Server(StandIn):
    """A server that asks a device for answers, and is seldom there.

    Attributes:
        moment: called before each message, and with each try to send an answer.
        tried: purposes of the contributions that were tried, in order.
    """

    moment: Callable[[], None] = field(default=lambda: None)
    tried: list[Purpose] = field(default_factory=list)

    def purpose_of(self, exchange: str) -> Purpose:
        """What a message is for: its number is its exchange."""
        return FOR[int(exchange, 16) // TIMES]

    def next_message(self) -> ServerMessage | None:
        """The next message."""
        self.moment()
        return super().next_message()

    def reply(self, line: str, headers: Mapping[str, str], body: bytes, how: Trouble = "") -> Given | None:
        """A try to send an answer is heard, or it isn't."""
        exchange = headers.get("palate-answers", "-")
        if exchange != "-":
            if body != REFUSED:
                self.tried.append(self.purpose_of(exchange))
            self.moment()
            tries = sum(each.answers == exchange for each in self.heard) + 1
            how = how or (("not heard", 503)[int(exchange, 16) % TIMES] if tries % TRIES else "")
        return super().reply(line, headers, body, how)


def sending(*, quick: bool = False) -> Iterator[str]:
    """Each purpose revoked at each second moment, one of them at the others, and none; `quick`: one at each moment."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
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
    plans = [plan for each in FOR for plan in [_asked(operator, *rounds[each])] * TIMES]

    def moment() -> None:
        nonlocal moments, before
        if moments == at and revoked is not None:
            device.consent.revoke(revoked)
            before = server.tried.count(revoked)
        moments += 1

    server = _Server(device.identity, asked(plans), population=POPULATION, moment=moment)
    for _, model in rounds.values():
        server.offer("round", model.data)
    enrolled(device, operator)
    with online(server):
        for _ in plans:  # a session ends with a purpose
            if not server.done:
                device.sync(seconds=30.0, poll_seconds=1e-4)
    arrived = dict[Purpose, list[bytes]]()
    for taken in server.answers:
        if taken.body != REFUSED:
            arrived.setdefault(server.purpose_of(taken.message.exchange), []).append(taken.body)
    return _Lived(arrived, 0 if revoked is None or moments <= at else server.tried.count(revoked) - before)


def _asked(operator: LyingOperator, plan: RoundPlan, model: GlobalModel) -> bytes:
    """The plan of the next attempt at a round."""
    operator.plan, operator.model = plan, model
    operator.number += 1
    return operator.signed(operator.charged(2.0 + operator.number), operator.log.show())


def _survey() -> tuple[RoundPlan, GlobalModel]:
    """A plan of a real survey, and its model."""
    setting = Setting(
        algorithm=SURVEYING, settings=SURVEY.model_dump(mode="json"), users_per_node=1, epsilon=0.5
    )  # fmt: skip
    names = list(SURVEY.questions())
    terms = setting.terms(SURVEYING, n_users=2, n_items=len(names))
    terms = terms.model_copy(update={"catalogue": catalogue_hash(names)})
    with WatchedRun(terms, crowd([[0]] * 2, n_items=len(names)), users_per_node=1) as stage:
        stage.play(rounds=1)
        asked, model = stage.seen.asked
        return SignedPlan.model_validate_json(asked).plan, GlobalModel.from_bytes(model)
