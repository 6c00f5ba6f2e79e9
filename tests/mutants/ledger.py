"""Mutants of the ledger: a release without a charge, or a charge that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_core import plan as plans
from palate_core.errors import BudgetError
from palate_core.plan import ChargeProof, RoundPlan
from palate_server.ledger.history import ChargeEntry, Entry, History, entry_from
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator


@contextmanager
def _uncharged(free: Callable[[RoundPlan], bool]) -> Iterator[None]:
    """In some rounds devices receive an old charge and accept it; those rounds' releases aren't sealed."""
    charge, seal = Coordinator._charge, Ledger.seal
    shown: dict[int, ChargeProof] = {}
    skipped: set[tuple[int, int]] = set()

    def old(self: Coordinator, plan: RoundPlan) -> ChargeProof:
        if not free(plan):
            shown[id(self.ledger)] = charge(self, plan)
            return shown[id(self.ledger)]
        skipped.add((plan.round, plan.attempt))
        checkpoint = self.ledger.checkpoint()
        return ChargeProof(entry={"kind": "charge", "seq": 0}, checkpoint=checkpoint, inclusion=(), consistency={})

    def unsealed(self: Ledger, *, run: str, round_: int, attempt: int, release_hash: str) -> int:
        if (round_, attempt) in skipped:
            return 0
        return seal(self, run=run, round_=round_, attempt=attempt, release_hash=release_hash)

    with (
        mock.patch.object(Coordinator, "_charge", old),
        mock.patch.object(Ledger, "seal", unsealed),
        mock.patch.object(plans, "_verify_charge"),
        mock.patch.object(plans, "check_pinned"),
        mock.patch.object(plans, "check_growth"),
    ):
        yield


@mutant(
    "uncharged round",
    bug="every second round goes out under an old charge",
    seen="an evaluation round, or a warm-up, that nobody thought of as a release",
    test="ledgers",
)
def uncharged_round() -> Iterator[None]:
    with _uncharged(lambda plan: plan.round % 2 == 1):
        yield


@mutant(
    "round 0 uncharged",
    bug="the round that counts popularity is not charged",
    seen="statistics before training are taken for preparation",
    test="ledgers",
)
def first_round_free() -> Iterator[None]:
    with _uncharged(lambda plan: plan.round == 0):
        yield


@mutant(
    "charge in a rolled-back transaction",
    bug="the charge is in memory and was never committed",
    seen="an exception handler, or an outer transaction, that rolls back more than it knows",
    test="ledgers",
)
def rolled_back() -> Iterator[None]:
    real, catch_up = Ledger._append, Ledger._catch_up
    begun: set[int] = set()

    def append(self: Ledger, connection: Any, **fields: Any) -> Entry:
        if fields["kind"] == "charge":
            begun.add(id(self._log))
        if id(self._log) not in begun:
            return real(self, connection, **fields)
        entry = entry_from({"seq": self._log.size, **fields})
        self._log.take(entry, entry.leaf())
        return entry

    def stay(self: Ledger, connection: Any) -> None:
        if id(self._log) not in begun:
            catch_up(self, connection)

    with mock.patch.object(Ledger, "_append", append), mock.patch.object(Ledger, "_catch_up", stay):
        yield


@mutant(
    "concurrent ledger writes",
    bug="each writer checks the budget against its own charges only",
    seen="read, check, write without a transaction around it",
    test="ledgers",
)
def own_charges_only() -> Iterator[None]:
    admit, charge = History._admit_charge, Ledger.charge
    own: dict[int, Fraction] = {}

    def admitted(self: History, entry: ChargeEntry, run: Any) -> None:
        budget, self.budget = self.budget, None
        try:
            admit(self, entry if entry.run_limit is not None else entry.model_copy(update={"run_limit": 1e9}), run)
        finally:
            self.budget = budget

    def charged(self: Ledger, **fields: Any) -> Any:
        budget = self._log.history.budget
        after = own.get(id(self), Fraction(0)) + Fraction(fields["mu2"])
        if budget is not None and after > Fraction(budget.mu2):
            raise BudgetError("the population's budget is spent")
        found = charge(self, **fields)
        own[id(self)] = after
        return found

    with mock.patch.object(History, "_admit_charge", admitted), mock.patch.object(Ledger, "charge", charged):
        yield


@mutant(
    "a budget shared by two populations",
    bug="an attempt that one population of a server has charged isn't charged to another whose run has the same name",
    seen="a cache of charges by run and round, in a process or a database that serves several tenants",
    test="ledgers",
)
def shared_charges() -> Iterator[None]:
    charge = Ledger.charge
    charged: dict[tuple[object, ...], tuple[str, Any]] = {}

    def instead(self: Ledger, **fields: Any) -> Any:
        place = (fields["run"], fields["round_"], fields["attempt"])
        population, proof = charged.get(place, (self.population, None))
        if population != self.population:
            return proof
        proof = charge(self, **fields)
        charged[place] = self.population, proof
        return proof

    with mock.patch.object(Ledger, "charge", instead):
        yield
