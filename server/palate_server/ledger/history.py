"""History: the rules by which entries of a population's ledger may follow each other.

Writing a ledger, replaying it when it is opened and verifying an extract all use `History`, so that the same rules
hold everywhere.

    >>> history = History()
    >>> history.record(entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"}))
    >>> history.record(entry_from({"kind": "open", "seq": 1, "run": "a", "facts": {}}))
    >>> history.spent()
    0.0

The unit is one user (one installation), the adjacency zero-out: the bound is on how much the releases change when all
events of one user are removed. The ledger stores mu^2 of Gaussian differential privacy, which adds up; epsilon doesn't.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from palate_common.survey import SURVEYING
from palate_core.accounting import round_up
from palate_core.cohort_terms import MAX_ATTEMPTS
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.log.entries import (
    BudgetEntry,
    ChargeEntry,
    CloseEntry,
    Entry,
    HandoverEntry,
    LostEntry,
    OpenEntry,
    PopulationEntry,
    PublishEntry,
    RestoredEntry,
    SealEntry,
    WitnessesEntry,
    entry_from,
    one_line,
)
from palate_core.log.handovers import check_handover, check_new_start
from palate_core.reserved_delta import uses_reserve
from palate_server.ledger.interim_looks import InterimLooks

__all__ = [
    "BudgetEntry",
    "ChargeEntry",
    "CloseEntry",
    "Entry",
    "HandoverEntry",
    "History",
    "LostEntry",
    "OpenEntry",
    "PopulationEntry",
    "PublishEntry",
    "RestoredEntry",
    "SealEntry",
    "WitnessesEntry",
    "entry_from",
    "one_line",
    "reserves",
]


DISTRIBUTED = "distributed"
"""The value of `dp` for noise shared by devices in a charge's facts, see `palate_core.privacy_mode`."""


@dataclass
class _Run:
    spent: Fraction = Fraction(0)
    closed: bool = False
    latest: dict[int, int] = field(default_factory=dict)  # round -> its last attempt
    sealed: set[tuple[int, int]] = field(default_factory=set)


class History:
    """The state after a sequence of entries.

    **Guarantees:** the exact sum of all charges, sealed or not, never exceeds the population's lowest budget, and a
    run's charges never exceed the limit given with them; an attempt is charged once and sealed at most once; an attempt
    is never sealed after a later one of its round was charged, or after its run was closed; a survey looks at an A/B
    test no more often than was registered (`InterimLooks`); the number of attempts that use a reserved part of delta is
    at most the number for which it was reserved, in all runs together, lost ones included; the release key is handed
    over by the present one only, so that there is one chain of keys.

    **Assumes:** every release is charged here before it is computed, at its true mu^2.
    """

    def __init__(self) -> None:
        self.population: str | None = None
        self.unit = "user"
        self.budget: BudgetEntry | None = None
        self._spent = Fraction(0)
        self._runs: dict[str, _Run] = {}
        self.witnesses: WitnessesEntry | None = None
        self.handovers: list[HandoverEntry] = []
        self.former_keys: set[str] = set()
        self.lost_key: str | None = None
        self._present_key: str | None = None  # as far as the log says: the first handover names the one before it
        self.epoch = 0
        self._lost = 0
        self._looks = InterimLooks()
        self._attempts = 0

    def runs(self) -> tuple[str, ...]:
        """The runs, in the order in which they were opened."""
        return tuple(self._runs)

    def spent(self, run: str | None = None) -> float:
        """The mu^2 charged by a run (0 for an unknown one) or by all, rounded up."""
        return round_up(self._spent if run is None else self._runs.get(run, _Run()).spent)

    def spent_elsewhere(self, run: str) -> float:
        """The population's mu^2 without a run's, rounded up; lost but witnessed charges are included."""
        return round_up(self._spent - self._runs.get(run, _Run()).spent)

    def spent_with(self, mu2: float) -> float:
        """The population's mu^2 after one more charge, rounded up, as the charge states it."""
        return round_up(self._spent + Fraction(mu2)) if math.isfinite(mu2) else mu2

    def record(self, entry: Entry) -> None:
        """Check an entry, and apply it to the state."""
        self.admit(entry)
        match entry:
            case PopulationEntry():
                self.population, self.unit = entry.population, entry.unit
            case BudgetEntry():
                self.budget = entry
            case OpenEntry():
                self._runs[entry.run] = _Run()
                if (survey := _survey(entry)) is not None:
                    self._looks.opened(entry.run, survey)
            case ChargeEntry():
                run, cost = self._runs[entry.run], Fraction(entry.mu2)
                self._spent += cost
                self._attempts += reserves(entry)
                run.spent += cost
                run.latest[entry.round] = entry.attempt
            case SealEntry():
                self._runs[entry.run].sealed.add((entry.round, entry.attempt))
            case CloseEntry():
                self._runs[entry.run].closed = True
                if not self._runs[entry.run].sealed:
                    self._looks.closed(entry.run)
            case LostEntry():
                self._lost += 1
                self._attempts += 1
            case RestoredEntry():
                self._lost = 0
                self.epoch = entry.epoch or self.epoch
                self._looks.restored(entry.created)
                self._spent = max(self._spent, Fraction(entry.spent))
                for run in self._runs.values():
                    run.closed = True  # its charges and seals since the backup are lost, so it can't continue
            case WitnessesEntry():
                self.witnesses = entry
            case HandoverEntry():
                self.handovers = [*self.handovers, entry] if entry.old_signature else []
                self.former_keys |= {entry.old_key}
                self._present_key = entry.new_key
                self.lost_key = self.lost_key if entry.old_signature else entry.old_key
            case PublishEntry():
                pass

    def admit(self, entry: Entry) -> None:
        """Check that an entry may come next; changes nothing.

        Raises:
            InputError: a population that isn't the first entry, a run opened twice, or an unknown run.
            BudgetError: it would break a budget or limit, act on a closed run, repeat an attempt, or look too often.
        """
        if (self.population is None) != isinstance(entry, PopulationEntry):
            raise InputError("the first entry of a ledger, and no other, must be its population")
        if self._lost and not isinstance(entry, LostEntry | RestoredEntry):
            raise InputError(f"after lost entries a ledger must be restored first, got an entry of kind {entry.kind}")
        match entry:
            case PopulationEntry():
                pass
            case BudgetEntry():
                if self.budget is not None and entry.mu2 > self.budget.mu2:
                    raise BudgetError(
                        f"`mu2` must be at most the budget of {self.budget.mu2!r}, got {entry.mu2!r}: budgets only go "
                        f"down; keep this one"
                    )
            case OpenEntry():
                if entry.run in self._runs:
                    raise InputError(f"`run` must be new to the ledger, got {entry.run!r}: choose another id")
                if (survey := _survey(entry)) is not None:
                    self._looks.admitted(survey)
            case ChargeEntry():
                self._admit_charge(entry, self._open(entry.run))
            case SealEntry():
                self._admit_seal(entry, self._open(entry.run))
            case CloseEntry():
                self._open(entry.run)
            case PublishEntry():
                if entry.run is not None and (entry.run not in self._runs or not self._runs[entry.run].closed):
                    raise InputError(f"`run` must be closed before its model is published, got {entry.run!r}")
            case LostEntry() | WitnessesEntry():
                pass
            case RestoredEntry():
                self._admit_restored(entry)
            case HandoverEntry():
                self._admit_handover(entry)

    def _admit_restored(self, entry: RestoredEntry) -> None:
        """Check an entry that starts a new epoch: it states where the backup ended, and omits no charge."""
        if entry.base != entry.seq - self._lost:
            raise InputError(f"`base` must be where the lost entries begin, {entry.seq - self._lost}, got {entry.base}")
        if not entry.base <= entry.witness_size <= entry.seq:
            raise InputError(f"`witness_size` must be of the lost log, got {entry.witness_size} at entry {entry.seq}")
        if entry.epoch not in (None, self.epoch + 1):
            raise InputError(f"`epoch` must be {self.epoch + 1}, or left out without witnesses, got {entry.epoch}")
        if Fraction(entry.spent) < self._spent:
            raise BudgetError(
                f"`spent` must be at least the {round_up(self._spent)!r} that is charged, got {entry.spent!r}"
            )

    def _admit_handover(self, entry: HandoverEntry) -> None:
        """Check a handover: both keys have signed it, it goes on from the present key, and to none that was before.

        Where the old key was lost, the new one alone has: a new start, which no device follows.
        """
        present = self._present_key or entry.old_key
        if entry.old_key != present or entry.new_key in self.former_keys | {present}:
            raise InputError("a handover must go on from the present release key, to a new one, got another: forked")
        try:
            check = check_handover if entry.old_signature else check_new_start
            check(self.population or "", entry)
        except IntegrityError as error:
            raise InputError(f"a handover must be signed by both keys: {error}") from None

    def _open(self, run: str) -> _Run:
        """The state of a run that must be open."""
        if run not in self._runs:
            raise InputError(f"`run` must be opened in the ledger first, got {run!r}")
        if self._runs[run].closed:
            raise BudgetError(f"`run` must be open, got {run!r}, which is closed: open a new run")
        return self._runs[run]

    def _admit_charge(self, entry: ChargeEntry, run: _Run) -> None:
        """Check a charge: it is a new attempt of its round, has at least one limit, and exceeds none."""
        latest = run.latest.get(entry.round, -1)
        if entry.attempt <= latest:
            raise BudgetError(
                f"`attempt` must be above {latest} in round {entry.round} of run {entry.run!r}, got {entry.attempt}: "
                f"retry as attempt {latest + 1}, which is a new charge"
            )
        if self.budget is None and entry.run_limit is None:
            raise BudgetError("a charge must have a limit, got neither a population budget nor `run_limit`: set one")
        if reserves(entry) and self._attempts >= MAX_ATTEMPTS:
            raise BudgetError(
                f"the population must have had fewer than {MAX_ATTEMPTS} attempts with dp distributed or sampled "
                f"steps, for which a part of delta is kept, got {self._attempts}: its budget buys no more of them"
            )
        budget = None if self.budget is None else self.budget.mu2
        limits = (("population's budget", budget, self._spent), ("run's limit", entry.run_limit, run.spent))
        for name, limit, spent in limits:
            if limit is not None and spent + Fraction(entry.mu2) > limit:
                raise BudgetError(
                    f"the {name} must cover the charge, got mu2 {round_up(spent):.6g} spent + {entry.mu2:.6g} > "
                    f"{limit:.6g}: use more noise or fewer rounds"
                )

    def _admit_seal(self, entry: SealEntry, run: _Run) -> None:
        """Check a seal: it is the first one of the last attempt of its round."""
        what = f"attempt {entry.attempt} of round {entry.round} of run {entry.run!r}"
        latest = run.latest.get(entry.round, -1)
        if entry.attempt > latest:
            raise BudgetError(f"a seal must follow a charge, got {what}, which isn't charged: charge it first")
        if (entry.round, entry.attempt) in run.sealed:
            raise BudgetError(f"an attempt must be sealed once, got {what} again: publish the bytes sealed first")
        if entry.attempt != latest:
            raise BudgetError(f"a seal must be of the last attempt, {latest}, got {what}, void for ever: seal {latest}")


def reserves(entry: Entry) -> bool:
    """Whether an entry is, or, if it is lost, may be, an attempt that also uses a reserved part of delta.

    That part covers failures of the masking graph, and the tail of sampled steps.
    """
    if not isinstance(entry, ChargeEntry):
        return isinstance(entry, LostEntry)
    return uses_reserve(masked=entry.facts.get("dp") == DISTRIBUTED, inclusion=entry.facts.get("inclusion", 1))


def _survey(entry: OpenEntry) -> dict[str, Any] | None:
    """The settings of a survey, if the run is one."""
    settings = entry.facts.get("settings")
    return settings if entry.facts.get("algorithm") == SURVEYING and isinstance(settings, dict) else None
