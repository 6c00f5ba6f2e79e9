"""A server folder, audited: its ledger, the releases of each run, published models, surveys, directories, the witness.

A folder that serves goes on changing, so that no list of its files is signed. What left it is: models with their
manifests, surveys, plans in the witness folder. The ledger has to extend what each of them shows, and every run's files
have to be those that the ledger charged and sealed. What nothing vouches for is named.

    section = audit_server(Path("server"))
    [found.said for found in section.alarms]
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

from palate_audit.evidence.claim import stated
from palate_audit.evidence.evidence import Finding, Section, Verdict
from palate_audit.evidence.guard import BROKEN, guarded
from palate_audit.run.accounts import charged_costs
from palate_audit.run.checkpoints import chain, fits, rollback
from palate_audit.run.completeness import of_releases, replayed_hash
from palate_audit.run.extract import Known
from palate_audit.run.live import LiveLedger, read_live
from palate_audit.run.receipts import Receipts, of_evidence, reconcile
from palate_audit.run.run_records import RunRecords
from palate_audit.run.signed_files import private_keys
from palate_audit.run.statements import ordered
from palate_common.algorithms.popularity import COUNTS
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue, read_lines
from palate_common.models.manifest import Manifest, files_of, read_manifest
from palate_common.models.model import GlobalModel
from palate_common.records.tiles import CHECKPOINT, WIDTH, pack_entries, tile, tile_path, tiles_of
from palate_common.survey import SURVEYING
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.checkpoints import open_checkpoint, origin_of
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import ED25519, Note, VerifierKey, read_note
from palate_core.log.signing import SigningKey, verify
from palate_core.masks.directory import Directory
from palate_core.plan import PLAN_TAG, read_plan, signed_bytes, signer
from palate_server.folder.witness import MODEL, WITNESS
from palate_server.ledger.history import ChargeEntry, Entry, HandoverEntry, PublishEntry, RestoredEntry, SealEntry
from palate_server.operation.releases import CARD, LATEST
from palate_server.operation.survey_results import read_result
from palate_sim.card.card import verify_card
from palate_sim.run.run_folder import DRAFT

CONFIG, LEDGER, ITEMS, REGISTER = "server.toml", "ledger.db", "items", "enrolment.db"
OPEN = frozenset(
    {CONFIG, REGISTER, "panel.safetensors", "item-table.json", "tls", "state", "logs", "keys"}
    | {"operators.jsonl", "metrics.token", "format"}
)
"""What nothing vouches for: it decides what a server does next, and is no release."""
AUDITED = frozenset({LEDGER, ITEMS, "key", "runs", "surveys", "public", "witness", "audit.html", "audit.json"})
OF_A_RUN = frozenset({"releases", "inputs.safetensors", "lock"})
MIRROR = "public/ledger"
TILE = re.compile(r"tile/(?P<level>[0-9]|entries)/(?P<index>(x\d{3}/)*\d{3})(\.p/(?P<width>[1-9]\d{0,2}))?", re.ASCII)
KEPT = 5
"""Models that a server keeps, unless its configuration says otherwise."""
ASSUMPTIONS = (
    "Every release was charged before it was computed: a release that left no file, no charge and no receipt can't be "
    "seen from files.",
    "The stated code ran: this compares what was written down, and the mechanism's own tests are another part.",
    "Configuration, register, certificates, state and logs are the operator's word: nothing vouches for them.",
    "SHA-256 and Ed25519 are what they are held to be, and the operator's key has signed one story only.",
)


def is_server(folder: Path) -> bool:
    """Whether a folder is a server's, and not a run's."""
    return not (folder / "run.json").exists() and any((folder / name).is_file() for name in (CONFIG, LEDGER))


@dataclass(frozen=True)
class ServerRecords:
    """The files of a server folder beside its ledger.

    Attributes:
        folder: the server folder.
        live: its ledger.
        pinned: the operator's public key from outside; None takes the one that the folder itself names.
    """

    folder: Path
    live: LiveLedger
    pinned: str | None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration as it is written; {} if it can't be read."""
        try:
            return tomllib.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @cached_property
    def key(self) -> str | None:
        """The public key that the folder's signatures must be by."""
        if self.pinned is not None:
            return self.pinned
        named = [self._named(folder) for folder in self.models]
        told = [key for key in named if key]
        if told:
            return max(set(told), key=told.count)
        try:
            return SigningKey.from_pem((self.folder / "key").read_bytes()).public
        except (OSError, InputError):
            return None

    @cached_property
    def keys(self) -> list[str]:
        """The release keys that the ledger was handed over along, oldest first; the one alone if there was no handover.

        Replaying the ledger has checked that each handover goes on from the one before, signed by both keys.
        """
        handovers = self.entries(HandoverEntry)
        lost = max((place for place, each in enumerate(handovers) if not each.old_signature), default=-1)
        handovers = handovers[lost + 1 :]
        chain = [each.old_key for each in handovers[:1]] + [each.new_key for each in handovers]
        return chain if self.key in chain else [self.key or ""]

    def among(self, named: object) -> str:
        """A key that something names, if it is one of the release keys; else the present one, which won't fit."""
        return str(named) if named in self.keys else self.keys[-1]

    @staticmethod
    def _named(folder: Path) -> str | None:
        """The key that a manifest names, if it is signed by it."""
        try:
            data = (folder / published.MANIFEST).read_bytes()
            key = str(json.loads(data)["public_key"])
            verify(key, published.MANIFEST_TAG, data, (folder / published.SIGNATURE).read_text("ascii"))
        except (OSError, ValueError, KeyError, TypeError, PalateError):
            return None
        return key

    @cached_property
    def models(self) -> list[Path]:
        """The folders of published models."""
        place = self.folder / "public" / "models"
        found = sorted(place.iterdir()) if place.is_dir() else []
        return [path for path in found if path.is_dir() and not path.name.startswith(".")]

    @cached_property
    def runs(self) -> dict[str, RunRecords]:
        """The records of each run that the ledger opened."""
        names = dict.fromkeys(entry.run for entry in self.live.entries if entry.kind == "open")
        return {name: self._run(name) for name in names}

    def _run(self, name: str) -> RunRecords:
        own = [entry for entry in self.live.entries if getattr(entry, "run", None) == name]
        return RunRecords(self.folder / "runs" / name, name, self.population, own, None, self.live)

    @cached_property
    def population(self) -> str:
        """Whose ledger it is."""
        first = next((entry for entry in self.live.entries if entry.kind == "population"), None)
        return str(getattr(first, "population", "unknown"))

    def entries(self, kind: type[Entry]) -> list[Any]:
        """The ledger's entries of a kind."""
        return [entry for entry in self.live.entries if isinstance(entry, kind)]


def audit_server(
    folder: Path,
    *,
    ledger: Path | None = None,
    expect_head: Checkpoint | None = None,
    receipts: Sequence[Receipts] = (),
    public_key: str | None = None,
) -> Section:
    """Replay the ledger of a server folder, and compare its files with it.

    Args:
        folder: the server folder, whether it serves or not; nothing is written and nothing is locked.
        ledger: another copy of its ledger.
        expect_head: size and root of the ledger, from a source outside the operator.
        receipts: of devices.
        public_key: the operator's, from outside the folder.

    Raises:
        InputError: `ledger` is given and no ledger.
    """
    damaged, live = list[Finding](), LiveLedger(folder / LEDGER, (), (), 0, None)
    try:
        live = read_live(folder / LEDGER if ledger is None else ledger)
    except InputError as error:
        if ledger is not None:
            raise
        what = "is gone" if not (folder / LEDGER).exists() else "is no ledger"
        damaged.append(Finding.checked("live ledger", False, f"{LEDGER} {what}: {error}", changed=[LEDGER]))
    records, known = ServerRecords(folder, live, public_key), list[Known]()
    models = [*guarded("published models", lambda: _models(records, known))]
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("witness", lambda: _witness(records, known)),
        ("witnessed model", lambda: _witnessed_model(records, known)),
        ("ledger", lambda: _ledger(records, known, expect_head, receipts)),
        ("private key", lambda: private_keys(folder, records.key and records.keys[-1])),
        ("runs", lambda: _runs(records)),
        ("surveys", lambda: _surveys(records)),
        ("directories", lambda: _directories(records)),
        ("mirror", lambda: _mirror(records)),
        ("catalogue", lambda: _catalogue(records)),
        ("files not covered", lambda: _names(records)),
    ]
    found = [*damaged, *models, *(each for test, part in parts for each in guarded(test, part))]
    for receipt in receipts:
        whole = RunRecords(folder, "", records.population, live.entries, None, live)
        found += guarded("receipts", partial(reconcile, whole, receipt, test="receipts"))
    series: dict[str, Any] = {"facts": {"population": records.population, "runs": len(records.runs)}}
    for _, last in list(records.runs.items())[-1:]:
        try:
            series["claim"] = stated(last.terms, None)
        except PalateError:
            continue
    subject = (
        f"server folder {folder} of {records.population!r}: {len(records.runs)} runs, {len(records.models)} models"
    )
    return Section("ledger", subject, tuple(found), (), ASSUMPTIONS, series)


def _ledger(
    records: ServerRecords, known: Sequence[Known], head: Checkpoint | None, receipts: Sequence[Receipts]
) -> Iterator[Finding]:
    """The log by itself, and against everything that was signed."""
    live = records.live
    yield chain(live, known)
    yield fits("checkpoints", live.leaves, list(known), "what the operator signed")
    whole = RunRecords(records.folder, "", records.population, live.entries, None, live)
    yield from rollback(whole, live.leaves, head, receipts, known)
    covered = max((node.end for node in known if node.start == 0), default=0)
    if covered < len(live.leaves):
        said = f"{len(live.leaves) - covered} entries of ledger.db, from entry {covered} on, are in nothing that was "
        yield Finding.missing("end of the ledger", said + "signed and kept here: only receipts or a head show a change")
    if records.pinned is None:
        named = (records.key or "no key")[:16]
        yield Finding.missing(
            "signing key", f"{named}… is what the folder itself names; give --public-key from outside"
        )


def _models(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
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


def _witnessed_model(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
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


def _witness(records: ServerRecords, known: list[Known]) -> Iterator[Finding]:
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


def _runs(records: ServerRecords) -> Iterator[Finding]:
    """The files of each run; what holds for all of them is said once."""
    by_test: dict[str, list[tuple[str, Finding]]] = {}
    for name, run in records.runs.items():
        for found in guarded("run", partial(_run, run)):
            by_test.setdefault(found.test, []).append((name, found))
    for told in by_test.values():
        passed = [found for _, found in told if found.verdict is Verdict.PASS]
        for name, found in told:
            if found.verdict is not Verdict.PASS:
                yield replace(found, said=f"runs/{name}: {found.said}")
        if passed:
            yield replace(passed[-1], said=f"{len(passed)} runs; the last: {passed[-1].said}")
    place = records.folder / "runs"
    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if strange := sorted(there - records.runs.keys()):
        yield Finding.checked("runs of the ledger", False, f"runs/{strange[0]} is no run that the ledger opened")
    else:
        yield Finding.checked("runs of the ledger", True, f"{len(there)} folders, each of a run that the ledger opened")


def _run(run: RunRecords) -> Iterator[Finding]:
    yield from of_releases(run)
    yield charged_costs(run)
    if run.closed is not None and run.terms.mode.private:
        found, owed = replayed_hash(run), run.closed.get("model_hash")
        said = f"its releases give the model {found[:16]}…, closed with {str(owed)[:16]}…"
        if run.terms.algorithm != SURVEYING or found == owed:
            yield Finding.checked("model from releases", found == owed, said)
    known = {path.name for path in run.folder.iterdir()} if run.folder.is_dir() else set()
    if strange := sorted(name for name in known - OF_A_RUN if not DRAFT.fullmatch(name)):
        yield Finding.missing("other files", f"{strange[0]} is nothing that Palate writes")
    if (run.folder / "lock").is_file() and (run.folder / "lock").stat().st_size:
        yield Finding.missing("other files", "lock must be empty, and holds something")


def _surveys(records: ServerRecords) -> Iterator[Finding]:
    """The figures of each closed survey are there, and signed."""
    test, place = "surveys", records.folder / "surveys"
    owed = {
        f"{run.terms.settings['first_day']}.json": name
        for name, run in records.runs.items()
        if run.terms.algorithm == SURVEYING and run.closed is not None and run.seals
    }
    there = {path.name for path in place.iterdir() if not DRAFT.fullmatch(path.name)} if place.is_dir() else set()
    for name in sorted(there | owed.keys()):
        if name not in there:
            yield Finding.checked(test, False, f"surveys/{name} is gone: its survey was released")
            continue
        try:
            result = _result((place / name).read_bytes(), records.keys)
        except PalateError as error:
            yield Finding.checked(test, False, f"surveys/{name}: {error}")
            continue
        if (f"{result.get('week')}.json", result.get("run")) != (name, owed.get(name)):
            yield Finding.checked(test, False, f"surveys/{name} is of another week or run")
            continue
        yield Finding.checked(test, True, f"surveys/{name} has the operator's signature")


def _directories(records: ServerRecords) -> Iterator[Finding]:
    """Each list of identities has the hash that it is named after; those of masked runs are there."""
    test, place, good = "directories", records.folder / "public" / "directory", 0
    cohorts = [run.terms.cohort for run in records.runs.values()]
    owed = {str(cohort.directory) for cohort in cohorts if cohort is not None and cohort.directory is not None}
    there = {path.name for path in place.iterdir() if not DRAFT.fullmatch(path.name)} if place.is_dir() else set()
    for name in sorted(there | owed):
        if name not in there:
            yield Finding.checked(test, False, f"public/directory/{name} is gone: a run's terms name it")
            continue
        try:
            data = (place / name).read_bytes()
            same = Directory.from_json(data).hash == name and Directory.from_json(data).to_json() == data
        except PalateError:
            same = False
        if not same:
            yield Finding.checked(test, False, f"public/directory/{name} isn't the list that it is named after")
        good += same
    if good:
        yield Finding.checked(test, True, f"{good} lists of identities have the hashes that they are named after")


def _mirror(records: ServerRecords) -> Iterator[Finding]:
    """The mirror is of this ledger, file by file, and its checkpoint is signed by the operator."""
    test, place, leaves = "mirror", records.folder / MIRROR, records.live.leaves
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if not DRAFT.fullmatch(path.name)}
    if not files:
        yield Finding.missing(test, f"{MIRROR} is empty: the server has not run yet")
        return
    if records.key is None:
        yield Finding.missing(test, "whose ledger it is isn't known: give --public-key from outside")
        return
    tree, wrong = MerkleTree(leaves), list[str]()
    try:
        note = read_note(files.pop(CHECKPOINT).read_bytes()) if CHECKPOINT in files else None
        now = None if note is None else open_checkpoint(note, _log_of(note, records))
        if now is None or now.size > tree.size or tree.root(now.size) != now.root:
            wrong.append(CHECKPOINT)
    except PalateError:
        now, wrong = None, [CHECKPOINT]
    size = tree.size if now is None else min(now.size, tree.size)
    owed = {tile_path(level, index, width) for level, index, width in tiles_of(size)}
    owed |= {tile_path("entries", index, width) for level, index, width in tiles_of(size) if level == 0}
    wrong += sorted(owed - set(files))
    wrong += sorted(name for name, path in files.items() if mirrored(name, tree, leaves) != path.read_bytes())
    for name in wrong[:1]:
        said = f"{MIRROR}/{name} is gone, or isn't what this ledger's is"
        yield Finding.checked(test, False, said, changed=[f"{MIRROR}/{each}" for each in wrong])
    if not wrong:
        yield Finding.checked(
            test, True, f"size {size} in {len(files)} files: checkpoint, tiles and entries of this ledger"
        )


def _log_of(note: Note, records: ServerRecords) -> VerifierKey:
    """The ledger's key that has signed a checkpoint: one of before a handover or epoch may still be in the mirror."""
    epochs = [0, *(entry.epoch for entry in records.entries(RestoredEntry) if entry.epoch)]
    keys = [
        VerifierKey(origin_of(records.population, records.keys[0], epoch), ED25519, bytes.fromhex(key))
        for epoch in epochs
        for key in records.keys
    ]
    return next((key for key in reversed(keys) if note.by(key)), keys[-1])


def _result(data: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """A survey's result, signed by one of the release keys."""
    for key in keys[:-1]:
        with suppress(IntegrityError):
            return read_result(data, public_key=key)
    return read_result(data, public_key=keys[-1])


def mirrored(name: str, tree: MerkleTree, leaves: Sequence[bytes]) -> bytes | None:
    """What a file of a ledger's mirror must have; None if it has no such file."""
    found = TILE.fullmatch(name)
    if found is None:
        return None
    index, width = int(found["index"].replace("x", "").replace("/", "")), int(found["width"] or WIDTH)
    try:
        if found["level"] != "entries":
            return tile(tree, int(found["level"]), index, width)
        part = leaves[index * WIDTH : index * WIDTH + width]
        return pack_entries(part) if len(part) == width else None
    except InputError:
        return None


def _catalogue(records: ServerRecords) -> Iterator[Finding]:
    """The catalogue is the one of the last run, and its order doesn't follow the counts, as far as they show it."""
    test, path = "catalogue", records.folder / ITEMS
    try:
        items = read_lines(path.read_bytes())
        now = ItemCatalogue(items).hash
    except OSError:
        yield Finding.checked(test, False, f"the file {ITEMS} is gone")
        return
    except (ValueError, PalateError):
        yield Finding.checked(test, False, f"the file {ITEMS} is no catalogue")
        return
    trained = [run.terms.catalogue for run in records.runs.values() if run.terms.algorithm != SURVEYING]
    trained = trained or [manifest for manifest in map(_catalogue_of, records.models) if manifest]
    if not trained or trained[-1] != now:
        yield Finding.missing(test, f"the file {ITEMS} is another than the one of the last run: nobody signed it")
    else:
        yield Finding.checked(test, True, f"{len(items):,} items, those of the last run's terms")
    for folder in reversed(records.models):
        try:
            model = GlobalModel.from_bytes((folder / published.MODEL).read_bytes())
            listed = read_lines((folder / published.ITEMS).read_bytes())
        except (OSError, ValueError, PalateError):
            continue
        if model.header.releases:
            yield ordered("order of the catalogue", listed, model.state.get(COUNTS), own=False)
            return


def _catalogue_of(folder: Path) -> str | None:
    """The catalogue that a manifest names."""
    try:
        return str(json.loads((folder / published.MANIFEST).read_bytes())["catalogue"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _names(records: ServerRecords) -> Iterator[Finding]:
    """What nothing vouches for."""
    folder = records.folder
    if not (folder / CONFIG).is_file():
        yield Finding.checked("configuration", False, f"{CONFIG} is gone")
    elif not records.config:
        yield Finding.checked("configuration", False, f"{CONFIG} can't be read")
    elif records.config.get("population") != records.population:
        said = f"{CONFIG} is of the population {records.config.get('population')!r:.60}, the ledger of another"
        yield Finding.checked("configuration", False, said)
    there = {path.name for path in folder.iterdir() if not DRAFT.fullmatch(path.name)}
    there -= {f"{name}{end}" for name in (LEDGER, REGISTER) for end in ("-wal", "-shm", "-journal")}
    features = (records.config.get("training") or {}).get("features")
    loose = there & {*OPEN, str(features)}
    inside = (path for name in loose for path in (folder / name, *(folder / name).rglob("*")) if path.is_file())
    former = [path for path in (folder / MIRROR).rglob("*.p/*") if path.is_file()]  # whether one is gone can't be seen
    names = sorted(path.relative_to(folder).as_posix() for path in (*inside, *former))
    said = f"{', '.join(sorted(loose))}: nobody signs them; they decide what the server does next, and are no release"
    yield Finding.missing("files not covered", said, names=names)
    if REGISTER not in there:
        yield Finding.missing("register", f"{REGISTER} isn't here: who is enrolled may be kept back")
    if strange := sorted(there - AUDITED - loose):
        yield Finding.missing("other files", f"{strange[0]} is nothing that Palate writes", names=strange)
