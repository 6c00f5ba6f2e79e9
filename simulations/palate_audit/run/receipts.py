"""Receipts: devices' records of participation and of the ledger states they saw; evidence from outside the operator.

They come from a device's privacy report (`palate device report --json`), its export (`palate device export`), a ledger
of devices (`devices.db`), or the `ledger.json` of another run on the population, which vouches for its own entries. For
each answer of a device there must be a charge of the same cost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_audit.evidence.evidence import Finding
from palate_audit.run.extract import Known, of_consistency, of_inclusion, of_root, read_extract
from palate_audit.run.live import snapshot
from palate_audit.run.run_records import Place, RunRecords
from palate_common.models.manifest import Publication
from palate_core.device.ledger import Receipt
from palate_core.device.trust import Trust
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.consistency import shown_by
from palate_core.log.merkle import Checkpoint
from palate_core.plan import SignedPlan
from palate_server.rounds.registry import Registry
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

SQLITE = b"SQLite format 3\x00"
NOT_ASKED = Trust(None, None, None)
"""What a cost relies on is no part of what is reconciled."""
_FIELDS = tuple(each.name for each in fields(Receipt) if each.name not in ("trust", "purpose"))


@dataclass(frozen=True)
class Receipts:
    """The records of some devices.

    Attributes:
        source: the file.
        receipts: participations, each with the devices that report it.
        seen: checkpoints of the population's ledger that the devices saw.
        known: hashes that follow from the checkpoints, and from the signed plans that devices kept.
    """

    source: str
    receipts: Sequence[tuple[Receipt, Sequence[int] | npt.NDArray[np.int64]]]
    seen: Sequence[Checkpoint]
    known: Sequence[Known]


def read_receipts(path: Path, *, population: str) -> Receipts:
    """Read a report, an export, a ledger of devices or another run's extract, without changing the file.

    Args:
        path: the file.
        population: whose ledger.

    Raises:
        InputError: it is none of these.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE))
        if start == SQLITE:
            return _from_ledger(path, population)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"`--receipts` must be a readable file, got {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    try:
        return _from_json(text, str(path), population)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(
            f"`--receipts` must be a device's report or export, a devices.db or a ledger.json, got another file: {path}"
        ) from None


def _from_ledger(path: Path, population: str) -> Receipts:
    """A devices' ledger, from a snapshot."""
    with snapshot(path) as copy:
        try:
            with SimulatedLedger(copy, durable=False) as ledger:
                charges = ledger.charges()
                seen, signed = ledger.seen_checkpoint(population), ledger.seen_payload(population)
        except InputError:
            raise InputError(f"`--receipts` must be a ledger of devices, got another database: {path}") from None
    known = _of_checkpoint(seen, str(path)) if seen else []
    return Receipts(str(path), charges, [seen] if seen else [], [*known, *of_evidence(signed or b"", str(path))])


def _from_json(text: str, source: str, population: str) -> Receipts:
    """Receipts from a report, which is one JSON object, or an export, which has one a line."""
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "payload" in whole:
        return _from_extract(text, source, population)
    if isinstance(whole, dict) and whole.get("palate") == "privacy report":
        spending = whole["spending"] or {"population": None}
        ours = spending["population"] == population
        receipts, models = spending["receipts"] if ours else [], list(whole["models"])
        if ours and (last := spending.get("seen")) is not None:
            models.append({"population": population, "version": last["size"], "root": last["root"]})
    else:
        lines = [json.loads(line) for line in text.splitlines() if line]
        if not lines or not all("type" in line for line in lines):
            raise ValueError("no export")
        receipts = [line for line in lines if line["type"] == "participation"]
        models = [line for line in lines if line["type"] == "model"]
    seen = [Checkpoint(int(m["version"]), str(m["root"])) for m in models if m["population"] == population]
    if any(checkpoint.size < 1 for checkpoint in seen):
        raise ValueError("no size of a ledger")
    known = [node for checkpoint in seen for node in _of_checkpoint(checkpoint, source)]
    return Receipts(source, [(_receipt(each), (0,)) for each in receipts], seen, known)


def _from_extract(text: str, source: str, population: str) -> Receipts:
    """Receipts from another run's extract, with its signature."""
    extract = read_extract(text.encode())
    if not extract.signed or extract.population != population:
        raise InputError(
            f"`--receipts` must be a signed extract of the ledger of {population!r}, got another: {source}"
        )
    return Receipts(source, [], [Checkpoint(extract.size, extract.root)], extract.known)


def _receipt(value: Mapping[str, Any]) -> Receipt:
    told = {name: value[name] for name in _FIELDS}
    return Receipt(**told, trust=NOT_ASKED, purpose="")


def _of_checkpoint(checkpoint: Checkpoint, source: str) -> list[Known]:
    """The known hashes of a checkpoint."""
    return of_root(checkpoint.size, checkpoint.root, by=source)


def of_evidence(signed: bytes, source: str) -> list[Known]:
    """The known hashes in the signed plan or manifest of a checkpoint: a charge, and older sizes of the log."""
    shown = shown_by(signed)
    if shown is None:
        return []
    size, root = shown.checkpoint.size, shown.checkpoint.root
    found = [known for old, proof in shown.consistency.items() for known in of_consistency(old, size, proof, by=source)]
    with suppress(ValueError, KeyError, TypeError):
        made = Publication.model_validate(json.loads(signed)["manifest"]["publication"])
        found += of_inclusion(canonical_json(made.entry), made.entry["seq"], size, root, made.inclusion, by=source)
    try:
        charge = SignedPlan.model_validate_json(signed).charge
    except ValueError:
        return found
    if charge is not None and isinstance(charge.entry.get("seq"), int):
        leaf = canonical_json(charge.entry)
        found += of_inclusion(leaf, charge.entry["seq"], size, root, charge.inclusion, by=source)
    return found


def reconcile(records: RunRecords, found: Receipts, *, test: str) -> Iterator[Finding]:
    """Compare the devices' participations with the charges."""
    charged, every = dict(records.charges), {}
    if records.live is not None:
        every = {(e.run, e.round, e.attempt): e for e in records.live.entries if e.kind == "charge"}
    elsewhere, matched, named = 0, 0, f"{test}, {Path(found.source).name}"
    for receipt, _ in found.receipts:
        place = (receipt.round, receipt.attempt)
        entry = charged.get(place) if receipt.run == records.run else every.get((receipt.run, *place))
        if entry is None and receipt.run != records.run and records.live is None:
            elsewhere += 1
            continue
        if entry is None and receipt.mu2 == 0:
            continue  # a plan with dp off states that it is not charged
        what = f"round {receipt.round}, attempt {receipt.attempt} of {receipt.run}"
        if entry is None:
            yield Finding.checked(named, False, f"devices took part in {what}, which the ledger doesn't have")
            return
        if (entry.plan_hash, entry.mu2) != (receipt.plan_hash, receipt.mu2):
            said = f"entry {entry.seq}: devices answered another plan, or at another cost, in {what}"
            yield Finding.checked(named, False, said, first_bad=entry.seq)
            return
        matched += 1
    more = f"; {elsewhere} of other runs are not checkable without the live ledger" if elsewhere else ""
    yield Finding.checked(named, True, f"{matched} participations are charged, with the same plan and cost{more}")


def participation(records: RunRecords, found: Receipts) -> Finding:
    """No device took part twice in an attempt; every user of a sum has a receipt, and so has every release."""
    test, times = "participation cap", dict[Place, list[Sequence[int] | npt.NDArray[np.int64]]]()
    for receipt, devices in found.receipts:
        if receipt.run == records.run:
            times.setdefault((receipt.round, receipt.attempt), []).append(devices)
    if not times and not records.seals:
        return Finding.missing(test, "no device has a receipt of this run")
    most = 0
    for place in sorted(times.keys() | records.seals.keys()):
        groups = [np.asarray(group, np.int64) for group in times.get(place, [])]
        ids, counts = np.unique(np.concatenate([np.empty(0, np.int64), *groups]), return_counts=True)
        if (counts > 1).any():
            said = f"device {int(ids[counts > 1][0])} took part twice in round {place[0]}, attempt {place[1]}"
            return Finding.checked(test, False, said)
        most = max(most, len(ids))
        users = _users(records, place)
        if not groups and users != 0:
            said = f"round {place[0]}, attempt {place[1]} was released, and no device has a receipt of it: "
            return Finding.checked(test, False, said + "participations were taken away")
        if users is not None and users > len(ids):
            said = f"round {place[0]}, attempt {place[1]} sums {users} users, and {len(ids)} devices took part"
            return Finding.checked(test, False, said)
    said = f"at most once an attempt in {len(times)} attempts, {most} devices at most, no sum has more"
    return Finding.checked(test, True, said)


def _users(records: RunRecords, place: Place) -> int | None:
    """The number of users in a release's sum; None if there is no release."""
    try:
        return Registry(records.folder).read(*place, None).users
    except PalateError:
        return None
