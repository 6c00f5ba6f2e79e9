"""What is said to be left: a device's statement has each attempt as it was, whatever was made of the others.

A real device of an app is asked in generated orders for attempts at a few rounds of a few runs, several times each. It
answers; or it is charged and its user changes their mind while it computes, so that nothing leaves; or it refuses. A
book keeps what happened. Then the device's statement, which is all that is left when its store is erased and decides
what later models are said to have of it, must list exactly the attempts that were charged, with their costs, and say of
each whether a contribution left; and its totals must be those of the book.

At last the store is erased with a statement, and while that is made a message leaves, of a round that goes on, at every
fifth moment. The statement that is returned has it, unless the store was closed to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mechanism.checks.ledgers.books import before_transaction, beside, done, up
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device
from palate_client.rounds.contribution import Contributor
from palate_client.store import folder
from palate_client.store.journal import Journal, Sent
from palate_client.store.store_file import StoreFile
from palate_common.system import memory_folder

ASKED, SEED = 16, 4
RUNS = ("one", "two")
EVERY = 5
"""Of the moments of an erasure one in so many is tried: what is missed is missed from one moment on."""
WAYS = ("answers", "is charged, and nothing leaves", "refuses")


def statements() -> list[Finding]:
    """One device through several runs."""
    return beside({"what is said to be left": _lived})


def _lived() -> Iterator[str]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        operator, rng = lying_operator(stack, home), np.random.default_rng(SEED)
        operator.log.add(kind="population", population=POPULATION, created="2026")
        yield operator.tell("model", 1.0)
        attempts, book = dict.fromkeys(RUNS, 0), dict[tuple[str, int, int], bool]()
        honest = operator.plan
        for number in range(ASKED):
            run, way = str(rng.choice(RUNS)), str(rng.choice(WAYS))
            plan = operator.plan = honest.model_copy(update={"run": run})
            operator.number = attempts[run]
            left = _asked(operator, way, 2.0 + number)
            attempts[run] += 1
            if left != (way == "answers"):
                yield f"a device that {way} {'sends' if left else 'sends no'} contribution"
            if way != "refuses":
                book[run, plan.round, operator.number] = left
        yield from _said(operator, book, honest.mu2)
        yield from _leaves_meanwhile(operator.device)


def _asked(operator: LyingOperator, way: str, spent: float) -> bool:
    """Ask for the next attempt; whether a contribution left."""
    consent, real = operator.device.consent, Contributor._clip_joined

    def revoking(contributor: Contributor, *given: Any) -> Any:
        if way != WAYS[0]:
            consent.revoke("train")
        return real(contributor, *given)

    if way == WAYS[2]:
        consent.revoke("train")
    operator.number += 1
    body = operator.charged(spent)
    with mock.patch.object(Contributor, "_clip_joined", revoking):
        left = operator.asks(body, operator.log.show())
    consent.grant("train")
    return left


def _said(operator: LyingOperator, book: dict[tuple[str, int, int], bool], mu2: float) -> Iterator[str]:
    """How the statement differs from the book."""
    made = operator.device.statement()
    said = {(each.run, each.round, each.attempt): each for each in made.rounds}
    for place in {*book, *said}:
        if place not in said or place not in book:
            yield f"attempt {place} was {'' if place in book else 'not '}charged, and the statement says otherwise"
        elif said[place].contributed != book[place]:
            left = "" if book[place] else "not "
            yield f"attempt {place} has {left}this device's contribution, and the statement says otherwise"
        elif said[place].mu2 != mu2:
            yield f"attempt {place} has cost mu^2 {mu2!r}, and the statement says {said[place].mu2!r}"
    if made.mu2 != up(len(book) * Fraction(mu2)):
        yield f"mu^2 of {len(book) * mu2:g} was spent, and the statement says {made.mu2}"
    train = next(each for each in made.left if each.purpose == "train")
    if train.contributions != sum(book.values()):
        yield f"{sum(book.values())} contributions left, and the statement says {train.contributions}"
    yield ""


def _leaves_meanwhile(device: Device) -> Iterator[str]:
    """A message that leaves before each transaction of an erasure with a statement, from which the key is kept."""
    messages, last = len(device.privacy_report().sent), device.statement().rounds[-1]
    late = Sent("contribution", "central", last.run, last.round, last.attempt, 10, 2e9)
    left = list[bool]()

    def leave() -> None:
        with mock.patch.object(folder, "LOCK_SECONDS", 0.0):
            left.append(done(lambda: _note(device, late)))

    def kept(store: StoreFile, *, still: Callable[[], bool]) -> bool:
        with store.lock, store.folder.lock():
            return still()

    with mock.patch.object(StoreFile, "erase", kept):
        for moment in count(step=EVERY):
            left.clear()
            with before_transaction(moment, leave):
                made = device.erase(statement=True)
            if not left:
                return
            messages += left[0]
            if (told := sum(each.messages for each in made.left)) != messages:
                yield f"{messages} messages have left, one at moment {moment} of the erasure, the statement has {told}"
            yield ""


def _note(device: Device, message: Sent) -> None:
    """What a round writes before a message leaves."""
    with Journal(device.store.file) as journal, device.store.file.there():
        journal.record(message)
