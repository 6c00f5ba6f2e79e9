"""Ledger entries: the fields of each kind of entry in a population's ledger, and their checks.

    >>> entry_from({"kind": "population", "seq": 0, "population": "readers", "created": "2025-01-01"}).kind
    'population'

`palate_server.ledger.history` checks which entry may follow which.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_core.log.cosignatures import MOST_WITNESSES, Quorum

Name = Annotated[str, Field(min_length=1, max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sig = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Key = Annotated[str, Field(min_length=1, max_length=400)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
MOST_EPOCH = 10_000
"""The most epochs of a ledger."""
MOST_COSIGNED = 2**14
"""Characters of the largest cosigned checkpoint that an entry, a plan or a model carries."""
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


class PublishEntry(_Entry):
    """A model is published; a later one has a larger log, and so a higher version.

    One that says what its manifest says is the last entry of the state that the manifest shows.
    """

    kind: Literal["publish"] = "publish"
    run: Name | None = Field(default=None, exclude_if=lambda run: run is None)
    """The closed run that it is of; None: the initial model, or one whose run was lost with a part of the ledger."""
    model_hash: Hash
    manifest: Hash | None = Field(default=None, exclude_if=lambda manifest: manifest is None)
    """Hash of what the model's manifest says; None: the entry binds none."""

    @model_validator(mode="after")
    def _says_of_what(self) -> Self:
        if self.run is None and self.manifest is None:
            raise ValueError("a publication must name its run or what its manifest says, got neither")
        return self


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
    epoch: Annotated[int | None, Field(ge=1, le=MOST_EPOCH)] = Field(
        default=None, exclude_if=lambda epoch: epoch is None
    )
    """Number of the ledger's epoch from here on, where it has witnesses: its checkpoints have another origin."""
    cosigned: Annotated[str | None, Field(max_length=MOST_COSIGNED)] = Field(
        default=None, exclude_if=lambda note: note is None
    )
    """The last checkpoint of the epoch before that is known to be cosigned, with its cosignatures: the state of
    `witness_size` and `witness_root`."""

    @model_validator(mode="after")
    def _epochs_are_cosigned(self) -> Self:
        if (self.epoch is None) != (self.cosigned is None):
            raise ValueError("an epoch must have the cosigned checkpoint of the one before, and only then")
        return self


class WitnessesEntry(_Entry):
    """Who is asked to cosign from here on: whoever reads the ledger sees each change of witnesses and quorum."""

    kind: Literal["witnesses"] = "witnesses"
    keys: Annotated[list[Key], Field(max_length=MOST_WITNESSES)]
    """Verifier keys; empty: nobody is asked any more."""
    needed: Annotated[int, Field(ge=0, le=MOST_WITNESSES)]

    @model_validator(mode="after")
    def _makes_a_quorum(self) -> Self:
        if self.keys or self.needed:
            Quorum.of(self.keys, self.needed)
        return self


class HandoverEntry(_Entry):
    """The release key changes: after this entry plans, models and checkpoints are signed by the new one.

    Both keys sign the change, for this population and this place in its ledger (`handovers.handover_bytes`). Where the
    old key was lost, the new one alone does: no device follows that, and apps have to pin the new key.
    """

    kind: Literal["handover"] = "handover"
    old_key: Hash
    new_key: Hash
    old_signature: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")]
    """Empty: the old key was lost."""
    new_signature: Sig


Entry = (
    PopulationEntry
    | BudgetEntry
    | OpenEntry
    | ChargeEntry
    | SealEntry
    | CloseEntry
    | PublishEntry
    | LostEntry
    | RestoredEntry
    | WitnessesEntry
    | HandoverEntry
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
