"""The entries of a population's ledger, and the rules by which one may follow another.

Writing a ledger, replaying it on open and checking an extract all go through `History`: what can't be written can't
be believed either.

    >>> history = History()
    >>> history.record(entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"}))
    >>> history.record(entry_from({"kind": "open", "seq": 1, "run": "a", "facts": {}}))
    >>> history.spent()
    0.0

The unit is one user (one installation), the adjacency zero-out: what is bounded is how far the releases move when one
user's events are emptied. What is stored is mu^2 of Gaussian differential privacy, which adds up; eps doesn't.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from palate_common.canonical import canonical_json
from palate_common.errors import BudgetError, InputError

Name = Annotated[str, Field(min_length=1, max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]


class _Entry(BaseModel):
    """What every entry has: its place in the log, from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    seq: Annotated[int, Field(ge=0)]

    @property
    def body(self) -> dict[str, Any]:
        """The entry's fields as a JSON object, a copy."""
        return self.model_dump()

    def leaf(self) -> bytes:
        """The entry's canonical JSON, which is its leaf in the Merkle tree."""
        return canonical_json(self.body)


class PopulationEntry(_Entry):
    """The first entry: whose ledger this is."""

    kind: Literal["population"] = "population"
    population: Name
    unit: Literal["user"] = "user"
    adjacency: Literal["zero-out"] = "zero-out"
    created: str


class BudgetEntry(_Entry):
    """A lifetime limit on the population's mu^2, and the (epsilon, delta) it stands for."""

    kind: Literal["budget"] = "budget"
    mu2: Positive
    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]


class OpenEntry(_Entry):
    """A run begins."""

    kind: Literal["open"] = "open"
    run: Name
    facts: dict[str, Any]


class ChargeEntry(_Entry):
    """One attempt at a round is paid for, before anything of it is sent."""

    kind: Literal["charge"] = "charge"
    run: Name
    round: Natural
    attempt: Natural
    plan_hash: Hash
    mu2: Positive
    run_limit: Positive | None
    facts: dict[str, Any]


class SealEntry(_Entry):
    """A charged attempt's release is fixed, before it is published."""

    kind: Literal["seal"] = "seal"
    run: Name
    round: Natural
    attempt: Natural
    release_hash: Hash


class CloseEntry(_Entry):
    """A run is over: no further charge, no further seal."""

    kind: Literal["close"] = "close"
    run: Name
    facts: dict[str, Any]


class AuditEntry(_Entry):
    """What an audit has found of a run that is over."""

    kind: Literal["audit"] = "audit"
    run: Name
    facts: dict[str, Any]


Entry = PopulationEntry | BudgetEntry | OpenEntry | ChargeEntry | SealEntry | CloseEntry | AuditEntry
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def entry_from(fields: Mapping[str, Any]) -> Entry:
    """Build an entry from its fields.

    Raises:
        InputError: a field is missing, unknown, of another type or out of range.
    """
    try:
        return _ENTRY.validate_python(fields)
    except ValidationError as error:
        raise InputError(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """The first thing pydantic has to say, as "`x` must be ..., got ..."."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"][1:] or first["loc"])
    reason = first["msg"].replace("Input should be", "must be").replace("Field required", "must be given")
    return f"`{name}` {reason}, got {first['input']!r:.80}".replace("\n", " ")


def total_mu2(charges: Iterable[float]) -> float:
    """The sum of charges: added exactly, then rounded up to the next float if it isn't one."""
    return _round_up(sum(map(Fraction, charges), Fraction(0)))


@dataclass
class _Run:
    """What the rules remember of a run."""

    spent: Fraction = Fraction(0)
    closed: bool = False
    latest: dict[int, int] = field(default_factory=dict)  # round -> its last attempt
    sealed: set[tuple[int, int]] = field(default_factory=set)


class History:
    """The state that a sequence of entries leads to.

    **Guarantees:** the exact sum of all charges, sealed or not, never exceeds the population's lowest budget, nor a
    run's charges the limit given with them; an attempt is charged once and sealed at most once; an attempt that a
    later one of its round has overtaken, or that was open when its run closed, is never sealed.

    **Assumes:** every release is charged here before it is computed, at its true mu^2.
    """

    def __init__(self) -> None:
        self.population: str | None = None
        self.budget: BudgetEntry | None = None
        self._spent = Fraction(0)
        self._runs: dict[str, _Run] = {}

    def runs(self) -> tuple[str, ...]:
        """The runs, in the order they were opened."""
        return tuple(self._runs)

    def spent(self, run: str | None = None) -> float:
        """The mu^2 charged by a run (0 for an unknown one) or by all, rounded up."""
        return _round_up(self._spent if run is None else self._runs.get(run, _Run()).spent)

    def record(self, entry: Entry) -> None:
        """Admit an entry and move to the state after it."""
        self.admit(entry)
        match entry:
            case PopulationEntry():
                self.population = entry.population
            case BudgetEntry():
                self.budget = entry
            case OpenEntry():
                self._runs[entry.run] = _Run()
            case ChargeEntry():
                run, cost = self._runs[entry.run], Fraction(entry.mu2)
                self._spent += cost
                run.spent += cost
                run.latest[entry.round] = entry.attempt
            case SealEntry():
                self._runs[entry.run].sealed.add((entry.round, entry.attempt))
            case CloseEntry():
                self._runs[entry.run].closed = True
            case AuditEntry():
                pass

    def admit(self, entry: Entry) -> None:
        """Check that an entry may come next; changes nothing.

        Raises:
            InputError: a population twice or not first, a run opened twice, or an unknown run.
            BudgetError: the entry is refused: budget, limit, closed run, or an attempt out of order.
        """
        if (self.population is None) != isinstance(entry, PopulationEntry):
            raise InputError("the first entry of a ledger, and no other, must be its population")
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
            case ChargeEntry():
                self._admit_charge(entry, self._open(entry.run))
            case SealEntry():
                self._admit_seal(entry, self._open(entry.run))
            case CloseEntry():
                self._open(entry.run)
            case AuditEntry():
                if not (entry.run in self._runs and self._runs[entry.run].closed):
                    raise InputError(f"an audit must be of a run that is closed, got {entry.run!r}: close it first")

    def _open(self, run: str) -> _Run:
        """A run that may still act."""
        if run not in self._runs:
            raise InputError(f"`run` must be opened in the ledger first, got {run!r}")
        if self._runs[run].closed:
            raise BudgetError(f"`run` must be open, got {run!r}, which is closed: open a new run")
        return self._runs[run]

    def _admit_charge(self, entry: ChargeEntry, run: _Run) -> None:
        """A charge: next attempt of its round, within every limit, and under at least one."""
        latest = run.latest.get(entry.round, -1)
        if entry.attempt <= latest:
            raise BudgetError(
                f"`attempt` must be above {latest} in round {entry.round} of run {entry.run!r}, got {entry.attempt}: "
                f"retry as attempt {latest + 1}, which is a new charge"
            )
        if self.budget is None and entry.run_limit is None:
            raise BudgetError("a charge must have a limit, got neither a population budget nor `run_limit`: set one")
        budget = None if self.budget is None else self.budget.mu2
        limits = (("population's budget", budget, self._spent), ("run's limit", entry.run_limit, run.spent))
        for name, limit, spent in limits:
            if limit is not None and spent + Fraction(entry.mu2) > limit:
                raise BudgetError(
                    f"the {name} must cover the charge, got mu2 {_round_up(spent):.6g} spent + {entry.mu2:.6g} > "
                    f"{limit:.6g}: use more noise or fewer rounds"
                )

    def _admit_seal(self, entry: SealEntry, run: _Run) -> None:
        """A seal: of the last attempt of its round, once."""
        what = f"attempt {entry.attempt} of round {entry.round} of run {entry.run!r}"
        latest = run.latest.get(entry.round, -1)
        if entry.attempt > latest:
            raise BudgetError(f"a seal must follow a charge, got {what}, which isn't charged: charge it first")
        if (entry.round, entry.attempt) in run.sealed:
            raise BudgetError(f"an attempt must be sealed once, got {what} again: publish the bytes sealed first")
        if entry.attempt != latest:
            raise BudgetError(f"a seal must be of the last attempt, {latest}, got {what}, void for ever: seal {latest}")


def _round_up(exact: Fraction) -> float:
    """The smallest float that isn't below an exact value."""
    try:
        nearest = float(exact)
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)
