"""What left a server folder: its published models and their manifests, and the copies in the witness folder.

All of it is signed by the operator, and shows heads of the ledger, which has to extend each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from palate_audit.evidence.evidence import Finding
from palate_audit.evidence.guard import BROKEN
from palate_audit.run.extract import Known
from palate_audit.run.receipts import of_evidence
from palate_audit.run.server.records import ServerRecords
from palate_common.models import published
from palate_common.models.manifest import Manifest, files_of, read_manifest
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.signing import verify
from palate_core.plan import PLAN_TAG, read_plan, signed_bytes, signer
from palate_server.folder.witness import MODEL, WITNESS
from palate_server.ledger.history import ChargeEntry, PublishEntry, RestoredEntry, SealEntry
from palate_server.operation.releases import CARD, LATEST
from palate_sim.card.card import verify_card
from palate_sim.run.run_folder import DRAFT

KEPT = 5
"""Models that a server keeps, unless its configuration says otherwise."""


def audit_models(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
    """Every published model is whole and signed, under its manifest's hash; collects what they show of the ledger."""
    test, good, newest = "published models", 0, (-1, "")
    entries = records.entries(PublishEntry)
    for folder in records.models:
        reason, manifest = _model(records, folder, entries)
        if manifest is not None:
            newest = max(newest, (manifest.version, folder.name))
            data = (folder / published.MANIFEST).read_bytes()
            evidence = {"manifest": json.loads(data), "signature": (folder / published.SIGNATURE).read_text("ascii")}
            known += [
                Known(0, manifest.checkpoint.size, manifest.checkpoint.root, f"public/models/{folder.name[:12]}…")
            ]
            known += of_evidence(canonical_json(evidence), f"public/models/{folder.name[:12]}…")
        if reason:
            yield Finding.checked(test, False, f"public/models/{folder.name[:16]}…: {reason}", folder=folder.name)
        else:
            good += 1
    yield _kept(records, good)
    yield _latest(records, newest)


def _model(records: ServerRecords, folder: Path, entries: Sequence[PublishEntry]) -> tuple[str, Manifest | None]:
    """What is wrong with a published model, or ""; and its manifest, if that is signed."""
    try:
        files = {name: (folder / name).read_bytes() for name in (published.MANIFEST, published.SIGNATURE)}
        manifest = read_manifest(files, records.keys[0])
    except OSError as error:
        return f"{Path(str(error.filename)).name} is gone", None
    except PalateError as error:
        return f"{published.MANIFEST} or {published.SIGNATURE}: {error}", None
    if digest(files[published.MANIFEST]) != folder.name:
        return f"{published.MANIFEST} isn't the one that the folder is named after", manifest
    named = {name: facts.sha256 for name, facts in manifest.files.items()}
    if "card" in (manifest.model_extra or {}):
        named[CARD] = str((manifest.model_extra or {})["card"])
    for name, sha256 in named.items():
        if not (folder / name).is_file():
            return f"{name} is gone", manifest
        if digest((folder / name).read_bytes()) != sha256:
            return f"{name} isn't the one that was signed", manifest
    known = named.keys() | {published.MANIFEST, published.SIGNATURE}
    if strange := sorted(p.name for p in folder.iterdir() if p.name not in known and not DRAFT.fullmatch(p.name)):
        return f"{strange[0]} is published and no manifest names it", manifest
    if manifest.releases and manifest.model_hash not in {entry.model_hash for entry in entries}:
        return f"{published.MODEL} was never published by the ledger", manifest
    if manifest.publication is None and any(entry.manifest and entry.seq < manifest.version for entry in entries):
        return f"{published.MANIFEST} shows no entry of the ledger, and earlier ones do", manifest
    try:
        published.read(folder, public_key=records.keys[0])
        if CARD in named:
            card = json.loads((folder / CARD).read_bytes())
            verify_card(card, public_key=records.among(card.get("public_key")))
    except BROKEN as error:
        return " ".join(str(error).split())[:200] or type(error).__name__, manifest
    return "", manifest


def _kept(records: ServerRecords, good: int) -> Finding:
    """As many models are there as the server keeps of those that it published."""
    test, release = "models kept", records.config.get("release")
    keep = release.get("keep", KEPT) if isinstance(release, Mapping) else KEPT
    entries = records.entries(PublishEntry)
    every = len(list(groupby(entries, lambda entry: (entry.run, entry.model_hash))))  # one that was lost is made again
    owed = min(int(keep), every + all(entry.run is not None for entry in entries))
    said = f"{len(records.models)} models, {good} of them whole; {owed} of all that were published are kept"
    return Finding.checked(test, len(records.models) >= owed, said)


def _latest(records: ServerRecords, newest: tuple[int, str]) -> Finding:
    """`latest` names the newest model."""
    test, path = "latest model", records.folder / "public" / "models" / LATEST
    try:
        offer = json.loads(path.read_bytes())
        good = (offer["version"], offer["manifest"]) == newest and canonical_json(offer) == path.read_bytes()
    except OSError:
        return Finding.checked(test, not records.models, f"public/models/{LATEST} is gone")
    except (ValueError, KeyError, TypeError, PalateError):
        good = False
    said = (
        f"public/models/{LATEST} names version {newest[0]}" if good else f"public/models/{LATEST} names another model"
    )
    return Finding.checked(test, good, said)


def _witness_place(records: ServerRecords) -> str:
    """The folder of `backup.witness`; empty: the one in the server folder."""
    backup = records.config.get("backup")
    return str(backup.get("witness") or "") if isinstance(backup, Mapping) else ""


def audit_witnessed_model(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
    """The manifest in the witness folder, which is there until the next charge, is signed, and of this ledger."""
    test, place = "witnessed model", _witness_place(records)
    try:
        data = (records.folder / (place or "witness") / MODEL).read_bytes()
    except OSError:
        late = [entry.seq for kind in (ChargeEntry, RestoredEntry) for entry in records.entries(kind)]
        newest = max((_version(folder) for folder in records.models), default=0)
        if not place and newest > max(late, default=-1) + 1:
            said = f"witness/{MODEL} is gone: version {newest} was published after the latest charge"
            yield Finding.checked(test, False, said)
        else:
            yield Finding.missing(test, f"no {MODEL} is in the witness folder, as after a charge")
        return
    try:
        manifest = read_manifest(files_of(data), records.keys[0])
    except PalateError as error:
        yield Finding.checked(test, False, f"witness/{MODEL}: {error}")
        return
    if any(manifest.version <= entry.seq for entry in records.entries(RestoredEntry)):
        yield Finding.missing(test, f"the model of version {manifest.version} is from before the ledger was restored")
        return
    known += of_evidence(data, f"witness/{MODEL}")
    yield Finding.checked(test, True, f"the model of version {manifest.version}")


def _version(folder: Path) -> int:
    """The version of a model's folder; 0 where its manifest, which has an alarm of its own, doesn't say so."""
    try:
        return int(json.loads((folder / published.MANIFEST).read_bytes())["checkpoint"]["size"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def audit_witness(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
    """The plan in the witness folder is signed and charged, and no sealed attempt came after it."""
    test, place = "witness", _witness_place(records)
    path = records.folder / (place or "witness") / WITNESS
    restored = [entry.seq for entry in records.entries(RestoredEntry)]
    since = restored[-1] if restored else -1  # a restored folder has the models of before, and no witness yet
    sealed = [entry.seq for entry in records.entries(SealEntry) if entry.seq > since]
    try:
        data = path.read_bytes()
    except OSError:
        if not sealed:
            yield Finding.missing(test, f"nothing was sealed{' since the ledger was restored' if restored else ' yet'}")
        elif place:
            yield Finding.missing(test, f"the witness folder isn't here: {path}")
        else:
            yield Finding.checked(test, False, f"witness/{WITNESS} is gone: attempts were sealed, which it must show")
        return
    try:
        signed = read_plan(data)
        verify(signer(signed, records.keys[0]), PLAN_TAG, signed_bytes(signed), signed.signature)
    except PalateError as error:
        yield Finding.checked(test, False, f"witness/{WITNESS}: {error}")
        return
    at = None if signed.charge is None else signed.charge.entry.get("seq")
    if isinstance(at, int) and at < since and not sealed:
        yield Finding.missing(test, f"the plan of entry {at} is from before the ledger was restored")
        return
    known += of_evidence(data, f"witness/{WITNESS}")
    charged = [entry.seq for entry in records.entries(ChargeEntry)]
    before = [seq for seq in charged if sealed and seq < sealed[-1]]
    if isinstance(at, int) and before and at < before[-1]:
        said = f"witness/{WITNESS} is of entry {at}, and an attempt was sealed that was charged by entry {before[-1]}"
        yield Finding.checked(test, False, said)
        return
    yield Finding.checked(
        test, True, f"the plan of round {signed.plan.round} of {signed.plan.run}, charged by entry {at}"
    )
