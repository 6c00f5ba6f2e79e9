"""Extract: one run's entries of the ledger, for the run's folder, each with a proof that it is in the population's log.

The operator writes and signs it when a run ends; anyone with the operator's public key can verify it without the
ledger.

    >>> from palate_server.ledger.ledger import Ledger
    >>> key = SigningKey.generate()
    >>> with Ledger(":memory:", population="readers") as ledger:
    ...     ledger.open_run("run-1", {})
    ...     data = ledger.extract("run-1", key)
    >>> verify_extract(data, key.public).run
    'run-1'

It also states how many other runs used the same population and what they spent. The operator's signature stands for
these numbers and for the list being complete; that each entry is in the checkpoint's log is proved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.entries import MOST_ENTRY, Entry, Hash, Name, entry_from, one_line
from palate_core.log.merkle import Checkpoint, verify_inclusion
from palate_core.log.signing import SigningKey, verify
from palate_server.ledger.history import History
from palate_server.ledger.log import Log

EXTRACT_TAG = "palate/ledger-extract/1"
MOST_EXTRACT = 2**24
"""The most bytes of an extract that is read: thousands of charges."""


@dataclass(frozen=True)
class Extract:
    """The contents of a verified extract.

    Attributes:
        population: the ledger's population.
        run: the run.
        checkpoint: the state of the log when it was written.
        entries: the entries of population and budgets, and all of the run, in the log's order.
        spent: mu^2 of the run's charges, sealed or not, rounded up.
        other_runs: number of the population's other runs.
        other_mu2: their mu^2, rounded up.
        other_unprotected: number of them without noise or with seeded noise, for which mu^2 is no bound.
    """

    population: str
    run: str
    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    spent: float
    other_runs: int
    other_mu2: float
    other_unprotected: int


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Proved(_Strict):
    entry: dict[str, Any]
    proof: list[Hash]


class _Payload(_Strict):
    format: Literal["palate-ledger-extract-1"] = "palate-ledger-extract-1"
    population: Name
    run: Name
    size: Annotated[int, Field(gt=0)]
    root: Hash
    entries: list[_Proved]
    other_runs: Annotated[int, Field(ge=0)]
    other_mu2: Annotated[float, Field(ge=0)]
    other_unprotected: Annotated[int, Field(ge=0)]


def write_extract(log: Log, *, run: str, key: SigningKey) -> bytes:
    """Write and sign the extract of a run in the log, as canonical JSON."""
    values = [read_canonical(leaf, most=MOST_ENTRY) for leaf in log.leaves]
    payload = _Payload(
        population=log.history.population or "",
        run=run,
        size=log.size,
        root=log.tree.root(),
        entries=[
            _Proved(entry=value, proof=list(log.tree.inclusion_proof(value["seq"], log.size)))
            for value in values
            if value.get("run", run) == run
        ],
        other_runs=len(log.history.runs()) - 1,
        other_mu2=log.history.spent_elsewhere(run),
        other_unprotected=sum(v["kind"] == "open" and v["run"] != run and _unprotected(v["facts"]) for v in values),
    ).model_dump()
    signature = key.sign(EXTRACT_TAG, canonical_json(payload))
    return canonical_json({"payload": payload, "public_key": key.public, "signature": signature})


def verify_extract(data: bytes, public_key: str) -> Extract:
    """Verify an extract: format, signature, proofs, and the rules of the ledger.

    Args:
        data: the bytes of `ledger.json`.
        public_key: the operator's public key, 64 hexadecimal digits, from a source that the reader trusts.

    Raises:
        IntegrityError: a byte differs from what that key has signed, or the content is inconsistent.
    """
    envelope = read_canonical(data, most=MOST_EXTRACT)
    if not isinstance(envelope, dict) or set(envelope) != {"payload", "public_key", "signature"}:
        raise IntegrityError("an extract must hold payload, public_key and signature, got something else")
    if envelope["public_key"] != public_key:
        raise IntegrityError("an extract must be signed by the operator's key, got another key")
    verify(public_key, EXTRACT_TAG, canonical_json(envelope["payload"]), envelope["signature"])
    try:
        return _read(_Payload.model_validate(envelope["payload"]))
    except ValidationError as error:
        raise IntegrityError(f"an extract must be well formed, got: {one_line(error)}") from None
    except (InputError, BudgetError) as error:
        raise IntegrityError(f"an extract must follow the ledger's rules, got: {error}") from None


def _read(payload: _Payload) -> Extract:
    """Check proofs and rules of a payload whose signature is valid."""
    checkpoint, history, last = Checkpoint(payload.size, payload.root), History(), -1
    entries = []
    for item in payload.entries:
        entry = entry_from(item.entry)
        verify_inclusion(
            canonical_json(item.entry), index=entry.seq, size=payload.size, root=payload.root, proof=item.proof
        )
        if entry.seq <= last or entry.body.get("run", payload.run) != payload.run:
            raise IntegrityError(f"an extract must hold one run in order, got entry {entry.seq} after {last}")
        history.record(entry)
        entries.append(entry)
        last = entry.seq
    if history.population != payload.population or history.runs() != (payload.run,):
        raise IntegrityError("an extract must hold the entries of its own population and run, got others")
    return Extract(
        population=payload.population,
        run=payload.run,
        checkpoint=checkpoint,
        entries=tuple(entries),
        spent=history.spent(payload.run),
        other_runs=payload.other_runs,
        other_mu2=payload.other_mu2,
        other_unprotected=payload.other_unprotected,
    )


def _unprotected(facts: dict[str, Any]) -> bool:
    """Whether a run's terms guarantee no privacy."""
    return facts.get("dp") == "off" or facts.get("noise") == "seeded"
