"""Long lives: nothing that a device has counted or noted has an end, and no earlier state is taken for the last one.

One device's real stores live through more than a thousand attempts, one every eighth day: each is charged; in some a
contribution leaves, in some the steps of a masked one, in some nothing. A book keeps all of it. Around each place where
a count gets another digit, or another byte,

- **what is told**: messages, charges, totals and the statement are the book's, and so is the one that is left when the
  store is erased;
- **what is put back**: the ledger's files as they were at earlier places, and no files: the device must refuse to
  go on with any of them, and go on with its own;
- **what is asked again**: an attempt of each earlier place. Each is of a run of its own, and none is ever over.

    charge, note -> 9, 10, 11 ... 1,001 -> report, statement == book; an earlier ledger, an earlier attempt -> refused

Steps are the same in every audit.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from plans import kept_plan

from mechanism.checks.ledgers.books import beside, done, up
from mechanism.harness.probe_run import POPULATION
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device, open_device
from palate_client.leaving.statement import Statement
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.service import Service
from palate_client.store.journal import Journal, Sent
from palate_common.system import memory_folder
from palate_core.device.participation import KeptPlan

PLACES = (1, 9, 10, 11, 99, 100, 101, 127, 129, 255, 257, 999, 1001, 1025)
"""Numbers of attempts at which earlier ledgers are put back."""
TOLD = (10, 101, 1001)
"""Those at which what is told is looked at, beside the end."""
EARLIER = 2
"""So many of the places before each one, beside the first."""
QUICK = 101
"""The last of them in the quick form."""
COST = 2.0**-12
FIRST, EACH = 1_500_000_000.0, 8 * 86400.0
"""When the first attempt is, and how long it takes to the next one: a life of decades."""
STEPS = ("advertise", "share", "input", "unmask")
"""Messages of a masked attempt; with `input` a contribution has left."""
TRAIN, SURVEY = "train", "analytics"


def long_lives(*, quick: bool = False) -> list[Finding]:
    """One device; `quick`: a hundred attempts."""
    places = [each for each in PLACES if not quick or each <= QUICK]
    return beside({"long lives": partial(_lived, places)})


@dataclass
class _Book:
    """All that has happened.

    Attributes:
        sent: messages, in order.
        charged: purpose of each attempt, in order.
        left: purpose -> attempts in which a contribution left.
    """

    sent: list[Sent] = field(default_factory=list)
    charged: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=lambda: {TRAIN: 0, SURVEY: 0})


def _lived(places: list[int]) -> Iterator[str]:
    service = Service(public_key=release_key().public, population=POPULATION, epsilon=50.0, participations=10**6)
    book = _Book()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
        device.consent.grant("store")
        for place, before in zip(places, [0, *places], strict=False):
            yield from _attempts(device, service, book, range(before, place))
            yield from _told(device, book) if place in TOLD else ()
            shutil.copytree(home / "app", home / str(place), ignore=shutil.ignore_patterns("*.db*", "*.journal*"))
            passed = [each for each in places if each < place]
            earlier = sorted({*passed[:1], *passed[-EARLIER:]})
            yield from _put_back(device, service, home, place, earlier)
        yield from _said(device.erase(statement=True), book)


def _attempts(device: Device, service: Service, book: _Book, numbers: range) -> Iterator[str]:
    """Charge attempts, note what leaves, and ask for earlier ones again."""
    with OwnLedger(device.store, service) as ledger, Journal(device.store.file) as journal:
        for number in numbers:
            purpose = SURVEY if number % 5 == 4 else TRAIN
            ledger.charge(_kept(number), n_bytes=1, purpose=purpose)
            book.charged.append(purpose)
            steps = (STEPS, STEPS[:2], ("contribution",), ())[number % 4]
            for step in steps:
                sent = Sent(step, "distributed", f"run {number}", number, 0, 100 + number, FIRST + number * EACH)
                journal.record(sent)
                book.sent.append(sent)
            book.left[purpose] += "input" in steps or "contribution" in steps
        for number in (0, *(place - 1 for place in PLACES if place <= numbers.stop)):
            if done(partial(ledger.affords, _kept(number).plan)):
                yield f"after {numbers.stop} attempts, each of another run, attempt {number} can be answered again"
    yield ""


def _kept(number: int) -> KeptPlan:
    return kept_plan(number, run=f"run {number}", mu2=COST, dp="local")


def _told(device: Device, book: _Book) -> Iterator[str]:
    """How the report and the statement differ from the book."""
    report, count = device.privacy_report(), len(book.charged)
    if report.sent != tuple(book.sent):
        yield f"{len(book.sent)} messages left in {count} attempts, and {len(report.sent)} are told, or others"
    spending = report.spending
    if spending is None or (spending.participations, len(spending.receipts)) != (count, count):
        yield f"{count} attempts were charged, and {spending and spending.participations} are told: {report.problem}"
    elif spending.mu2 != up(count * Fraction(COST)):
        yield f"mu^2 of {count * COST} was spent, and {spending.mu2} is told"
    yield from _said(device.statement(), book)


def _said(made: Statement, book: _Book) -> Iterator[str]:
    """How a statement differs from the book."""
    count = len(book.charged)
    if len(made.rounds) != count or made.mu2 != up(count * Fraction(COST)):
        yield f"{count} attempts cost mu^2 {count * COST}, and a statement has {len(made.rounds)} and {made.mu2}"
    for left in made.left:
        if left.purpose not in book.left:
            continue
        ours = [each for each in book.sent if book.charged[each.round] == left.purpose]
        right = (book.left[left.purpose], len(ours), sum(each.bytes for each in ours))
        if (left.contributions, left.messages, left.bytes) != right:
            said = f"{left.contributions} contributions and {left.messages} messages for `{left.purpose}`"
            yield f"after {count} attempts a statement has {said}, {right[0]} and {right[1]} are right"
    yield ""


def _put_back(device: Device, service: Service, home: Path, place: int, earlier: list[int]) -> Iterator[str]:
    """Earlier ledgers in the place of the present one."""
    files = [each.name for each in (home / str(place)).glob("*ledger*")]

    def put(number: int | None) -> None:
        for each in (home / "app").glob("*ledger*"):
            each.unlink()
        for each in (home / str(number)).glob("*ledger*") if number is not None else ():
            shutil.copy(each, home / "app" / each.name)

    if not files:
        yield "a device's ledger is in no file that the audit knows"
    for number in (None, *earlier):
        put(number)
        if done(lambda: OwnLedger(device.store, service).close()):
            yield f"after {place} charges a device goes on with the ledger of {number or 'none of them'}"
    put(place)
    with OwnLedger(device.store, service) as ledger:
        if ledger.size() != place or math.isinf(ledger.spent()):
            yield f"after {place} charges a device's own ledger has {ledger.size()}"
    yield ""
