"""Ledgers once more, as plain lists: what may be charged, and what was.

Nothing is kept but what has happened, in order; every answer is worked out from the whole list, in fractions. So there
is no total that could be updated wrongly, no cache, and nothing that is different after a restart.

    >>> book = DeviceBook(limit=Fraction(1), most=10)
    >>> book.charge([7], "run", 0, 0, 0.75), book.charge([7, 8], "run", 1, 0, 0.5), book.spent(7)
    ([True], [False, True], Fraction(3, 4))
    >>> book.charge([7, 8], "run", 1, 0, 0.25) is None  # device 8 was in this attempt
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

RESERVED_ATTEMPTS = 1024
"""Attempts of a population for which a part of delta is kept: 2^10, as docs/secure-aggregation.md has it."""


@dataclass(frozen=True)
class Charged:
    """One charge.

    Attributes:
        run: its run.
        round: its round.
        attempt: its attempt.
        mu2: its cost.
        reserves: whether it takes one of the attempts for which a part of delta is kept.
        devices: who was charged, in a device's book.
    """

    run: str
    round: int
    attempt: int
    mu2: Fraction
    reserves: bool = False
    devices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Restored:
    """A restoration from a backup: what had been spent by then, and how many entries were lost."""

    spent: Fraction
    lost: int
    period: int


@dataclass
class PopulationBook:
    """The population's ledger.

    Attributes:
        budget: lowest lifetime limit of mu^2 so far; None: none.
        opened: run -> the period in which it was opened.
        shut: runs to which nothing may be added.
        events: charges and restorations, in order.
        sealed: attempts with a release.
        entries: how many entries its log has.
    """

    budget: Fraction | None = None
    opened: dict[str, int] = field(default_factory=dict)
    shut: list[str] = field(default_factory=list)
    events: list[Charged | Restored] = field(default_factory=list)
    sealed: list[tuple[str, int, int]] = field(default_factory=list)
    entries: int = 1

    def spent(self) -> Fraction:
        """What all runs have spent; a restoration may know of more than the charges that are left."""
        total = Fraction(0)
        for event in self.events:
            total = total + event.mu2 if isinstance(event, Charged) else max(total, event.spent)
        return total

    def of_run(self, run: str) -> Fraction:
        """What a run has spent, with every attempt that was void."""
        return sum((each.mu2 for each in self.charges() if each.run == run), Fraction(0))

    def charges(self) -> list[Charged]:
        """The charges in order."""
        return [event for event in self.events if isinstance(event, Charged)]

    def in_period(self, period: int) -> Fraction:
        """What runs that were opened in a period have spent, and what was found lost in it."""
        total, known = Fraction(0), Fraction(0)
        for event in self.events:
            if isinstance(event, Charged):
                known += event.mu2
                total += event.mu2 if self.opened[event.run] == period else 0
            else:
                total += max(Fraction(0), event.spent - known) if event.period == period else 0
                known = max(known, event.spent)
        return total

    def attempts(self) -> int:
        """How many attempts have used the reserved part of delta; a lost entry may be one."""
        return sum(event.reserves if isinstance(event, Charged) else event.lost for event in self.events)

    def lower(self, mu2: float) -> bool:
        """Set the lifetime limit: it only goes down."""
        if self.budget is not None and Fraction(mu2) > self.budget:
            return False
        self.entries += self.budget != Fraction(mu2)
        self.budget = Fraction(mu2)
        return True

    def open(self, run: str, period: int = 0) -> bool:
        """Open a run; its name must be new."""
        if run in self.opened:
            return False
        self.opened[run] = period
        self.entries += 1
        return True

    def charge(self, run: str, round_: int, attempt: int, mu2: float, limit: float | None, *, reserves: bool) -> bool:
        """Charge a new attempt of an open run: within its limit and the population's, of which there must be one."""
        latest = max((each.attempt for each in self.charges() if (each.run, each.round) == (run, round_)), default=-1)
        limits = [(self.budget, self.spent()), (None if limit is None else Fraction(limit), self.of_run(run))]
        if run not in self.opened or run in self.shut or attempt <= latest or mu2 <= 0:
            return False
        if all(most is None for most, _ in limits) or (reserves and self.attempts() >= RESERVED_ATTEMPTS):
            return False
        if any(most is not None and spent + Fraction(mu2) > most for most, spent in limits):
            return False
        self.events.append(Charged(run, round_, attempt, Fraction(mu2), reserves))
        self.entries += 1
        return True

    def seal(self, run: str, round_: int, attempt: int) -> bool:
        """Seal the latest attempt of a round, once."""
        tried = [each.attempt for each in self.charges() if (each.run, each.round) == (run, round_)]
        if run not in self.opened or run in self.shut or (run, round_, attempt) in self.sealed:
            return False
        if not tried or attempt != max(tried):
            return False
        self.sealed.append((run, round_, attempt))
        self.entries += 1
        return True

    def close(self, run: str) -> bool:
        """Close an open run."""
        if run not in self.opened or run in self.shut:
            return False
        self.shut.append(run)
        self.entries += 1
        return True

    def publish(self, run: str) -> bool:
        """Publish the model of a run that is closed."""
        self.entries += run in self.shut
        return run in self.shut

    def restore(self, size: int, spent: float, period: int) -> bool:
        """Go on after a backup that ends before the size that was witnessed; all runs end."""
        if size <= self.entries:
            return False
        self.events.append(Restored(max(Fraction(spent), self.spent()), size - self.entries, period))
        self.shut += [run for run in self.opened if run not in self.shut]
        self.entries = size + 1
        return True


@dataclass
class DeviceBook:
    """The ledger of some devices.

    Attributes:
        limit: most mu^2 of a device; None: no limit.
        most: most charges of a device; None: no limit.
        charges: in order.
        seen: population -> size and root of the state of its ledger that was seen last.
    """

    limit: Fraction | None = None
    most: int | None = None
    charges: list[Charged] = field(default_factory=list)
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def of(self, device: int) -> list[Charged]:
        """A device's charges in order."""
        return [each for each in self.charges if device in each.devices]

    def spent(self, device: int) -> Fraction:
        """What a device has spent."""
        return sum((each.mu2 for each in self.of(device)), Fraction(0))

    def charge(self, devices: Sequence[int], run: str, round_: int, attempt: int, mu2: float) -> list[bool] | None:
        """Who may take part, in the order asked; None: somebody was in this attempt of the run, or in a later one."""
        place = (round_, attempt)
        if any((each.round, each.attempt) >= place for one in devices for each in self.of(one) if each.run == run):
            return None
        found = [
            (self.limit is None or self.spent(device) + Fraction(mu2) <= self.limit)
            and (self.most is None or len(self.of(device)) < self.most)
            for device in devices
        ]
        joined = tuple(device for device, joins in zip(devices, found, strict=True) if joins)
        if joined:
            self.charges.append(Charged(run, round_, attempt, Fraction(mu2), devices=joined))
        return found

    def see(self, population: str, size: int, root: str) -> bool:
        """Keep a state of a population's ledger: the same again, or a longer one."""
        before = self.seen.get(population)
        if before is not None and before != (size, root) and size <= before[0]:
            return False
        self.seen[population] = (size, root)
        return True


@dataclass(frozen=True)
class LookAsked:
    """A survey: its run, its week, the tests that it looks at, and the weeks that are registered for tests."""

    run: str
    week: str
    tests: tuple[str, ...]
    weeks: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass
class LookBook:
    """Looks at A/B tests: one a week, in the weeks that the first survey which names a test has registered.

    Attributes:
        asked: surveys that began, in order.
        void: runs that ended without a release: they were no look.
        lost: how many surveys had begun when entries were lost for the last time.
        restored: the day of that, as text; "": never.
    """

    asked: list[LookAsked] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    lost: int = 0
    restored: str = ""

    def begin(self, survey: LookAsked) -> bool:
        """Begin a survey, if each of its looks may be."""
        for test in {*survey.tests, *dict(survey.weeks)}:
            weeks = dict(survey.weeks).get(test, (survey.week,))
            former = [each for each in self.asked if test in (*each.tests, *dict(each.weeks))]
            if former and weeks != dict(former[0].weeks).get(test, (former[0].week,)):
                return False
            if test not in survey.tests:
                continue
            looked = [each for each in former if test in each.tests and each.run not in self.void]
            if survey.week not in weeks or survey.week in [each.week for each in looked]:
                return False
            if any(each in self.asked[: self.lost] for each in former) or min(weeks) <= self.restored:
                return False
        self.asked.append(survey)
        return True

    def lose(self, day: str) -> None:
        """Entries were lost, and with them perhaps looks at any test."""
        self.lost, self.restored = len(self.asked), max(self.restored, day)
