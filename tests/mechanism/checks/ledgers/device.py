"""Second ledger of devices: their own ledger and a book of plain lists are driven by the same generated steps.

Some installations in one file, with ids of their own and in runs, are charged by several runs: the first time, again
with the same plan, with an earlier attempt, at costs that meet a limit exactly, are the least above it and the least
below. The file is closed and opened, each time years later, also after hundreds of charges, and written by a second
handle. In every second file few neighbours pay the same, and are joined after each step, as they are where there are
thousands. They see states of two populations' ledgers: longer, shorter, forked, the same. All else that a charge can
say varies, too: its purpose, what it relies on, how much is sent. After each step every public answer is the book's:
who takes part, what each has spent, its receipts, the number of charges, and the state seen last.

The same with an app's own encrypted ledger, whose report must say what was spent, whether the limits are reached, and
an epsilon that is not below what that costs.

Steps are the same in every audit.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from plans import kept_plan

from mechanism.checks.ledgers.books import beside, done, up
from mechanism.harness.probe_run import POPULATION
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client.device import open_device
from palate_client.ledger.own_ledger import ONE, OwnLedger
from palate_client.rounds.participation import Rounds
from palate_client.service import Service
from palate_common.system import memory_folder
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.log.merkle import Checkpoint
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from reference.cost import epsilon
from reference.ledgers import DeviceBook

STEPS, MANY = 240, 330
"""Steps, and charges that a ledger has when it is opened once more."""
IDS = (0, 1, 2, 3, 5, 7, 8, 1000, -4, 2**40)
LIMITS = ((2.0, None), (0.7, 40), (None, 25), (0.30000000000000004, None))
"""Most mu^2 and most charges of a device; the third sum of 0.1 in floats is above three times 0.1."""
POPULATIONS = (POPULATION, "another")
YEAR = 365 * 86400
COSTS = (0.125, 0.1, 1 / 30, 1 / 70, 2.0**-40, 0.0625)


def device_ledger(*, quick: bool = False) -> list[Finding]:
    """Ledgers of several installations, a long one, and an app's own; `quick`: with half of the steps."""
    steps = STEPS // 2 if quick else STEPS
    return beside({"devices'": partial(_lived, steps), "many charges": _long, "an app's own": _own})


def says(number: int) -> dict[str, Any]:
    """What a charge says beside its place and cost, none of which changes what it costs."""
    return {
        "n_bytes": 1 + number % 7,
        "purpose": ("train", "analytics")[number % 2],
    }


def modes(number: int) -> dict[str, Any]:
    """Who adds the noise: what a charge relies on changes nothing of what it costs."""
    return (
        {},
        {"dp": "distributed", "cohort": CohortTerms(n_max=24, n_min=20, c_max=1, masks=False)},
        {"dp": "local"},
        {"dp": "distributed", "cohort": CohortTerms(n_max=30, n_min=20, c_max=2, masks=False)},
    )[number % 4]


class _Pair:
    """A device ledger, and its book."""

    def __init__(self, path: Path, limit: float | None, most: int | None) -> None:
        self.path, self.limit, self.most = path, limit, most
        self.years, self.joins = 0.0, False
        self.book = DeviceBook(None if limit is None else Fraction(limit), most)
        self.ledger = self.opened()
        self.plans = 0

    def opened(self) -> SimulatedLedger:
        """The file, opened once more, a year and a half after the last time: charges don't grow old."""
        self.years += 1.5
        now = time.time() + self.years * YEAR
        with mock.patch("time.time", return_value=now):
            return SimulatedLedger(
                self.path, limit_mu2=self.limit, max_participations=self.most, durable=False, clock=lambda: now
            )

    def reopen(self) -> None:
        """Close it, and open it again."""
        self.ledger.close()
        self.ledger = self.opened()

    def charge(self, devices: list[int] | range, run: str, round_: int, attempt: int, mu2: float) -> str:
        """A charge in both; returns how they differ."""
        self.plans += 1
        expected, found, would = self.book.charge(devices, run, round_, attempt, mu2), None, None
        kept = kept_plan(round_, attempt, run=run, mu2=mu2, **modes(self.plans))
        with suppress(PalateError):
            would = self.ledger.affords(kept.plan, devices=devices).tolist()
        with suppress(PalateError):
            found = self.ledger.charge(kept, devices=devices, **says(self.plans)).tolist()
        if would != expected:
            return f"attempt {attempt} of round {round_} at mu^2 {mu2!r}: {expected} may take part, and {would} could"
        if found != expected:
            return f"attempt {attempt} of round {round_} at mu^2 {mu2!r}: {expected} may take part, got {found}"
        return ""

    def see(self, population: str, size: int, root: str) -> str:
        """A state of a population's ledger, seen by both."""
        now, ledger = Checkpoint(size, root), self.ledger
        made = done(
            lambda: ledger.see(population, now, f"{size}{root}".encode(), after=ledger.seen_checkpoint(population))
        )
        expected = self.book.see(population, size, root)
        return "" if made == expected else f"a state of size {size} must be {'seen' if expected else 'refused'}"

    def differences(self, devices: tuple[int, ...] = IDS) -> Iterator[str]:
        """Every public answer that isn't the book's."""
        ledger, book = self.ledger, self.book
        for device in devices:
            receipts = [(each.run, each.round, each.attempt, Fraction(each.mu2)) for each in ledger.receipts(device)]
            if receipts != [(each.run, each.round, each.attempt, each.mu2) for each in book.of(device)]:
                yield f"device {device} has {len(book.of(device))} charges, and shows {len(receipts)}, or others"
            if ledger.spent(device) != up(book.spent(device)):
                yield f"device {device} has spent {float(book.spent(device))!r}, and says {ledger.spent(device)!r}"
        if ledger.size() != len(book.charges):
            yield f"{len(book.charges)} charges were made, and {ledger.size()} are there"
        for population in POPULATIONS:
            seen, expected = ledger.seen_checkpoint(population), book.seen.get(population)
            if (None if seen is None else (seen.size, seen.root)) != expected:
                yield f"the state seen last must be of size {expected and expected[0]}, got {seen and seen.size}"
            if expected is not None and ledger.seen_payload(population) != f"{expected[0]}{expected[1]}".encode():
                yield "what showed the state seen last must be kept as evidence"


def _lived(steps: int = STEPS) -> Iterator[str]:
    """Ledgers of several installations, with each kind of limit."""
    for number, (limit, most) in enumerate(LIMITS):
        with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder:
            pair, rng = _Pair(Path(folder) / "devices.db", limit, most), np.random.default_rng(number)
            pair.joins = number % 2 == 1
            for _ in range(steps // len(LIMITS)):
                yield _step(pair, rng)
                if pair.joins:
                    vars(pair.ledger)["_totals"]._join()
                some = tuple(int(each) for each in rng.choice(IDS, 3, replace=False))
                yield from pair.differences(some)
            pair.reopen()
            yield from pair.differences()
            pair.ledger.close()


def _step(pair: _Pair, rng: np.random.Generator) -> str:
    """One generated step; returns how the two differ."""
    what, book = rng.random(), pair.book
    if what < 0.1:
        pair.reopen()
        return ""
    if what < 0.25:
        population = POPULATIONS[int(rng.random() < 0.3)]
        size, root = book.seen.get(population, (3, "ab" * 32))
        size += int(rng.choice([-1, 0, 1, 5]))
        return pair.see(
            population, size, root if rng.random() < 0.5 else bytes(rng.integers(0, 256, 32).tolist()).hex()
        )
    some, most = (IDS[:4], 2) if pair.joins else (IDS, 5)
    devices: list[int] | range = [int(each) for each in rng.choice(some, int(rng.integers(most)) + 1, replace=False)]
    if rng.random() < 0.2:
        devices = range(1, 5)
    run = f"run-{rng.integers(3)}"
    mine = [each for each in book.charges if each.run == run]
    last = max(((each.round, each.attempt) for each in mine), default=(0, -1))
    places = [(last[0], last[1] + 1), (last[0] + 1, 0), (last[0] + 1, 0), (max(0, last[0]), max(0, last[1]))]
    place = places[int(rng.integers(len(places)))]
    cost = COSTS[0] if pair.joins else float(rng.choice(COSTS))
    if book.limit is not None and rng.random() < 0.3:
        rest = float(book.limit - book.spent(devices[0]))
        if rest > 0:
            cost = (rest, math.nextafter(rest, math.inf), math.nextafter(rest, 0.0))[int(rng.choice([0, 1, 1, 2]))]
    if what > 0.95:  # another process
        with pair.opened() as other:
            before, pair.ledger = pair.ledger, other
            try:
                return pair.charge(devices, run, *place, cost)
            finally:
                pair.ledger = before
    return pair.charge(devices, run, *place, cost)


def _long() -> Iterator[str]:
    """A ledger with hundreds of charges knows all of them when it is opened once more."""
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder:
        cost = 2.0**-7
        pair = _Pair(Path(folder) / "devices.db", MANY * cost, None)
        for number in range(MANY - 1):
            devices = [0] if number % 3 else [0, 1, 2]
            wrong = pair.charge(devices, "old" if number < 9 else "run", number, 0, cost)
            if wrong:
                yield wrong
        yield ""
        pair.reopen()
        yield from pair.differences((0, 1))
        yield pair.charge([0], "old", 7, 0, cost)
        yield pair.charge([0, 1], "late", 0, 0, math.nextafter(cost, 1.0))
        yield pair.charge([0], "late", 1, 0, cost)
        pair.reopen()
        yield pair.charge([0], "late", 2, 0, 2.0**-40)
        pair.ledger.close()


def _own() -> Iterator[str]:
    """An app's own ledger: its limits across openings, and what its report says."""
    service = Service(public_key=release_key().public, population=POPULATION, epsilon=3.0, participations=90)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
        rounds = device.rounds
        book = DeviceBook(Fraction(service.limit_mu2), service.participations)
        part = service.limit_mu2 / 100
        for number in range(94):
            if number % 31 == 0:
                ledger = OwnLedger(rounds.store, service)
            rest = float((book.limit or Fraction(0)) - book.spent(ONE))
            cost = math.nextafter(rest, math.inf) if number == 70 else part
            run, attempt = f"run-{number % 2}", number % 3
            expected = book.charge([ONE], run, number, attempt, cost)
            kept = kept_plan(number, attempt, run=run, mu2=cost, **modes(number))
            joined = ledger.charge(kept, **says(number))
            if [joined is not None] != expected:
                yield f"charge {number} of {cost:g} with {rest:g} left: joined or refused, wrongly"
            if number % 31 == 30:
                size, root = 5 + number, f"{number:064x}"
                ledger.see(POPULATION, Checkpoint(size, root), b"", after=ledger.seen_checkpoint(POPULATION))
                book.see(POPULATION, size, root)
                ledger.close()
                yield from _reported(rounds, service, book)
        ledger.close()
        yield from _reported(rounds, service, book)


def _reported(rounds: Rounds, service: Service, book: DeviceBook) -> Iterator[str]:
    """What the user is told, and whether the device says that its limits are reached."""
    said, spent, count = rounds.spending(), book.spent(ONE), len(book.of(ONE))
    if said.mu2 != up(spent) or said.participations != count:
        yield f"mu^2 of {float(spent):g} was spent in {count} rounds, {said.mu2:g} in {said.participations} is told"
    owed = epsilon(mu2=float(spent) * (1 - 1e-12), delta=service.noise_delta)
    if said.epsilon is None or not owed <= said.epsilon <= owed + 1e-6:
        yield f"epsilon of {owed:.9g} was spent, {said.epsilon} is told"
    if said.seen is None or (said.seen.size, said.seen.root) != book.seen.get(POPULATION):
        yield "the state of the population's ledger that was seen last is not told"
    reached = count >= service.participations or spent >= Fraction(service.limit_mu2)
    if rounds.at_limit() != reached:
        yield f"the device says that its limits are {'not ' if reached else ''}reached, after {count} rounds"
    yield ""
