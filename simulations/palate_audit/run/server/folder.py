"""A server folder, audited: its ledger, the releases of each run, published models, surveys, the witness.

A folder that serves goes on changing, so that no list of its files is signed. What left it is: models with their
manifests, surveys, plans in the witness folder. The ledger has to extend what each of them shows, and every run's files
have to be those that the ledger charged and sealed. What nothing vouches for is named.

    section = audit_server(Path("server"))
    [found.said for found in section.alarms]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from palate_audit.evidence.claim import stated
from palate_audit.evidence.evidence import Finding, Section, Verdict
from palate_audit.evidence.guard import guarded
from palate_audit.run.accounts import charged_costs
from palate_audit.run.checkpoints import chain, fits, rollback
from palate_audit.run.completeness import of_releases, replayed_hash
from palate_audit.run.extract import Known
from palate_audit.run.live import LiveLedger, read_live
from palate_audit.run.receipts import Receipts, reconcile
from palate_audit.run.run_records import RunRecords
from palate_audit.run.server.mirror import MIRROR, audit_own_mirror
from palate_audit.run.server.models import audit_models, audit_witness, audit_witnessed_model
from palate_audit.run.server.records import CONFIG, LEDGER, ServerRecords
from palate_audit.run.signed_files import private_keys
from palate_audit.run.statements import ordered
from palate_common.algorithms.popularity import COUNTS
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue, read_lines
from palate_common.models.model import GlobalModel
from palate_common.survey import SURVEYING
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.merkle import Checkpoint
from palate_server.operation.survey_results import read_result
from palate_sim.run.run_folder import DRAFT

ITEMS, REGISTER = "items", "enrolment.db"
OPEN = frozenset(
    {
        CONFIG,
        REGISTER,
        "panel.safetensors",
        "item-table.json",
        "rules.json",
        "tls",
        "state",
        "logs",
        "keys",
        "metrics.token",
        "format",
    }
)
"""What nothing vouches for: it decides what a server does next, and is no release."""
AUDITED = frozenset({LEDGER, ITEMS, "key", "runs", "surveys", "public", "witness", "audit.html", "audit.json"})
OF_A_RUN = frozenset({"releases", "inputs.safetensors", "lock"})
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
    models = [*guarded("published models", lambda: audit_models(records, known))]
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("witness", lambda: audit_witness(records, known)),
        ("witnessed model", lambda: audit_witnessed_model(records, known)),
        ("ledger", lambda: _ledger(records, known, expect_head, receipts)),
        ("private key", lambda: private_keys(folder, records.key and records.keys[-1])),
        ("runs", lambda: _runs(records)),
        ("surveys", lambda: _surveys(records)),
        ("mirror", lambda: audit_own_mirror(records)),
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


def _result(data: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """A survey's result, signed by one of the release keys."""
    for key in keys[:-1]:
        with suppress(IntegrityError):
            return read_result(data, public_key=key)
    return read_result(data, public_key=keys[-1])


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
