"""Ledger entries: the fields of each kind of entry in a population's ledger, and their checks.

    >>> entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"}).kind
    'population'

`palate_server.ledger.history` checks which entry may follow which.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from palate_common.errors import InputError
from palate_common.records.canonical import canonical_json

Name = Annotated[str, Field(min_length=1, max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
MOST_ENTRY = 2**20
"""Bytes of the largest entry that is read."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class _Entry(BaseModel):
    """Base of all entries: `seq` is the place in the log, from 0."""

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
    unit: Literal["user", "event"] = "user"
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
    """One attempt at a round is charged, before anything of it is sent."""

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


class PublishEntry(_Entry):
    """A closed run's model is published; a later one has a larger log, and so a higher version."""

    kind: Literal["publish"] = "publish"
    run: Name
    model_hash: Hash


class LostEntry(_Entry):
    """Placeholder of an entry that a signed message has shown, and that the restored backup lacks."""

    kind: Literal["lost"] = "lost"


class RestoredEntry(_Entry):
    """The ledger was restored from a backup, which begins a new epoch. All earlier runs are closed."""

    kind: Literal["restored"] = "restored"
    base: Annotated[int, Field(ge=1)]
    """Number of entries in the backup; those between them and this entry are lost."""
    spent: Annotated[float, Field(ge=0)]
    """Least mu^2 of the population from here on: the highest that a signed plan has shown."""
    witness_size: Annotated[int, Field(ge=1)]
    """Size of the latest known state of the lost log."""
    witness_root: Hash
    """Root of that state."""
    created: str | None = Field(default=None, exclude_if=lambda created: created is None)
    """Time of the restoration, ISO 8601, UTC: lost entries may include evaluations of A/B tests that began before."""


Entry = (
    PopulationEntry
    | BudgetEntry
    | OpenEntry
    | ChargeEntry
    | SealEntry
    | CloseEntry
    | AuditEntry
    | PublishEntry
    | LostEntry
    | RestoredEntry
)
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
    """The first error of pydantic, as "`x` must be ..., got ..."."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"][1:] or first["loc"])
    if first["type"] == "value_error":  # from a validator of Palate, whose message has the value
        return f"{f'`{name}`: ' if name else ''}{first['msg'].removeprefix('Value error, ')}".replace("\n", " ")
    reason = first["msg"].replace("Input should be", "must be").replace("Field required", "must be given")
    return f"`{name}` {reason}, got {_shown(first['input'])}".replace("\n", " ")


def _shown(value: object) -> str:
    """A value in at most 80 characters, however large or deeply nested it is."""
    try:
        return _SHORT.repr(value)[:80]
    except (ValueError, RecursionError):  # more digits than are printed, or a value that contains itself
        return type(value).__name__
