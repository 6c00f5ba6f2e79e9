"""Backup: saves the data that can't be recreated in one file, and restores a server folder from it.

Charges after the backup are lost with the machine, but devices have seen their signed plans, and `backup.witness` has
the latest one. A restored ledger is extended to the size that was witnessed and continues at the spend that was
witnessed (`Ledger.restore`): devices accept that once, and refuse a ledger that lacks charges. A mirror of the ledger
has the lost entries themselves: what is read from one isn't lost, and to the witnesses of the ledger it goes on.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from palate_common.models.manifest import MANIFEST, SIGNATURE, files_of, read_manifest
from palate_common.records.files import write_durably
from palate_common.records.tiles import CHECKPOINT, read_log
from palate_common.system import lock_folder
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.checkpoints import open_checkpoint, origin_of, read_state
from palate_core.log.consistency import SPENT, spend_shown
from palate_core.log.entries import MOST_EPOCH
from palate_core.log.handovers import Handover, signer_of
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import ED25519, Note, VerifierKey, read_note
from palate_core.log.signing import verify
from palate_core.plan import PLAN_TAG, read_plan, signed_bytes, signer
from palate_server.folder.archive import FILES, FOLDERS, FURTHER, pack, unpack
from palate_server.folder.enrolments import copy_register
from palate_server.folder.server_folder import COSIGNED, Site, read_cosigned
from palate_server.folder.witness import MODEL, WITNESS
from palate_server.ledger.ledger import Ledger

MADE = "backup.json"
"""The file in `state/` that says when the latest backup was made."""
SCRATCH = "copy-"
"""How the names of temporary copies in `state/` begin."""
MOST_MIRROR = 2**28
"""Bytes of the entries of the largest mirror that is read."""


def write_backup(site: Site, archive: Path, *, remember: bool = True) -> Checkpoint:
    """Write a backup while the server runs; returns the state of the ledger in it.

    The ledger is copied first: every release that it has sealed is in the archive. The server folder must be writable,
    for temporary copies, and because SQLite needs it to read a file that another process writes.

    Args:
        site: the server folder.
        archive: a new file.
        remember: whether it is from then on the latest backup.

    Raises:
        InputError: the archive exists, or it or the server folder can't be written.
    """
    if archive.exists():
        raise InputError(f"`ARCHIVE` must be a new file, got {archive}")
    began = int(time.time())
    with scratch(site) as folder:
        with _locked(site.folder):  # no model is published, and no list of items changed, between two of the copies
            with site.ledger(read_only=True) as ledger:
                ledger.copy(folder / "ledger.db")
            features = site.config.training.features
            more = [name for name in FURTHER if (site.folder / name).exists()]
            for name in (*FILES, *([features] if features else []), *more):
                shutil.copy2(site.folder / name, folder / name)
            for name in FOLDERS:
                shutil.copytree(site.folder / name, folder / name, ignore=partial(_passing, site))
        devices = copy_register(site.enrolment_file, folder / "enrolment.db")
        with Ledger(folder / "ledger.db", population=site.config.population, read_only=True) as copied:
            checkpoint = copied.checkpoint()
        data = pack(folder)
    try:
        write_durably(archive, data, mode=0o600)
    except OSError as error:
        raise InputError(f"`ARCHIVE` must be in a writable folder, got {archive}: {error.strerror}") from None
    if remember:
        made = LastBackup(began, checkpoint.size, devices)
        write_durably(site.state / MADE, canonical_json(asdict(made)), mode=0o600)
    return checkpoint


@dataclass(frozen=True)
class LastBackup:
    """The latest backup of a folder.

    Attributes:
        at: when it was begun, seconds since 1970.
        size: number of the ledger's entries in it.
        devices: number of the register's devices in it.
    """

    at: float
    size: int
    devices: int


def last_backup(site: Site) -> LastBackup | None:
    """The latest backup of this folder; None: there was none, or it isn't known."""
    try:
        value = read_canonical((site.state / MADE).read_bytes(), most=1024)
        return LastBackup(float(value["at"]), int(value["size"]), int(value["devices"]))
    except (OSError, PalateError, KeyError, TypeError, ValueError):
        return None


@contextmanager
def scratch(site: Site) -> Iterator[Path]:
    """A temporary folder in the server folder, so that an interrupted copy leaves no key elsewhere.

    It has a lock while its process lives: those of processes that were killed are removed, see `remove_left_over`.

    Raises:
        InputError: the server folder can't be written.
    """
    try:
        remove_left_over(site)
        with _locked(site.state):  # so that nobody takes it for one that is left over
            folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=site.state))
            held = lock_folder(folder, wait=True)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable for a backup, got {site.state}: {error.strerror}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def remove_left_over(site: Site) -> None:
    """Remove temporary copies of the folder whose process was killed: they have its key, and its register as it was.

    Raises:
        OSError: the server folder can't be written.
    """
    with _locked(site.state):
        for folder in site.state.glob(f"{SCRATCH}*"):
            with suppress(OSError):
                held = lock_folder(folder, wait=False)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = lock_folder(folder, wait=True)
    try:
        yield
    finally:
        os.close(held)


@dataclass(frozen=True)
class Witnessed:
    """A state of the ledger that others are known to have seen.

    Attributes:
        checkpoint: the state.
        spent: the population's mu^2 in it; None if it wasn't shown.
        cosigned: the checkpoint with cosignatures, if it was shown with some.
    """

    checkpoint: Checkpoint
    spent: float | None
    cosigned: str | None = None


def read_backup(
    archive: Path, folder: Path, *, witnesses: Sequence[Path], without_witness: bool, mirror: Path | None = None
) -> str:
    """Restore a server folder from a backup; returns what was done with the ledger, in words.

    Args:
        archive: a file of `write_backup`.
        folder: a new or empty folder.
        witnesses: folders or files with signed plans and published models.
        without_witness: whether there is no witness; then the whole lifetime budget counts as spent.
        mirror: a copy of the ledger's mirror, from which entries after the backup are read.

    Raises:
        InputError: the archive or the folder can't be used, or not exactly one of witness and `without_witness`.
        IntegrityError: the backup or a witness doesn't verify.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`FOLDER` must be new or empty, got {folder}")
    if bool(witnesses) == without_witness:
        raise InputError("`--witness` must be given, or `--without-witness` where nothing has survived, and not both")
    there = folder.exists()
    try:
        unpack(archive, folder)
        site = Site.at(folder)
        site.make_folders()
        with site.ledger(read_only=True) as ledger:
            since = ledger.checkpoint().size
        return _recovered(site, mirror) + _new_epoch(site, witnesses, since)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if there:
            folder.mkdir(mode=0o700)
        raise


def _recovered(site: Site, mirror: Path | None) -> str:
    """Append what a mirror has and the backup lacks; says so, in words."""
    if mirror is None:
        return ""
    try:
        note = read_note((mirror / CHECKPOINT).read_bytes())
    except OSError as error:
        raise InputError(f"`--mirror` must be a copy of a ledger's mirror, got {mirror}: {error.strerror}") from None

    def fetch(path: str, most: int) -> bytes:
        try:
            with (mirror / path).open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise InputError(f"`--mirror` must have {path}, got {error.strerror}: {mirror}") from None

    with site.ledger() as ledger:
        now = open_checkpoint(note, ledger.log_key(site.key().public))
        found = ledger.recover(read_log(fetch, now, most=MOST_MIRROR))
    return f"{found} entries are read from the mirror; " if found else ""


def _close_lost(ledger: Ledger, since: int) -> None:
    """Close the runs that went on after the backup, as far as their entries are known: their files are gone."""
    entries = ledger.entries()
    closed = {entry.body["run"] for entry in entries if entry.kind == "close"}
    for run in dict.fromkeys(entry.body["run"] for entry in entries[since:] if "run" in entry.body):
        if run not in closed:
            created = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
            ledger.close_run(run, {"created": created, "releases": 0, "lost": True})


def _new_epoch(site: Site, witnesses: Sequence[Path], since: int) -> str:
    """Extend the ledger to the witnessed state; returns what was done, in words. `since` is the backup's size."""
    with site.ledger() as ledger:
        key = site.key().public
        first = ledger.first_key(key)
        backed_up = ledger.checkpoint()
        seen = [found for path in witnesses for found in _read_witness(path, first, key, site.config.population)]
        if witnesses:
            _check_witnesses(seen, witnesses[0])
        shown = [each.spent for each in seen if each.spent is not None]
        if not seen:
            budget = min((entry.mu2 for entry in ledger.entries() if entry.kind == "budget"), default=math.inf)
            seen, shown = [Witnessed(Checkpoint(backed_up.size + 1, "0" * 64), budget)], [budget]
        latest = max(seen, key=lambda each: (each.checkpoint.size, each.cosigned is not None))
        new = ledger.restore(witness=latest.checkpoint, spent=max(shown), cosigned=latest.cosigned)
        log = ledger.log_key(key)
        if new is None:
            _close_lost(ledger, since)
    if new is None:
        return f"restored: the backup has all that was witnessed, {backed_up.size} entries"
    lost = latest.checkpoint.size - backed_up.size
    said = f"restored: a new epoch; {lost} {'entry is' if lost == 1 else 'entries are'} lost, the ledger goes on at "
    said += f"{new.size} entries"
    if site.config.witnesses.keys:
        said += f"; its witnesses must be given {log}"
        if latest.cosigned is None:
            said += ", and devices whose app pins witnesses refuse it, as nothing shows what those have cosigned last"
    return said


def _check_witnesses(seen: Sequence[Witnessed], where: Path) -> None:
    """Check that the latest witness shows what was spent, and that no two contradict each other.

    Raises:
        InputError: there is none, or the latest doesn't show it.
        IntegrityError: the ledger was forked.
    """
    if not seen:
        raise InputError(f"`--witness` must hold a signed plan or a model of this server, got none in {where}")
    roots: dict[int, str] = {}
    for each in seen:
        size, root = each.checkpoint.size, each.checkpoint.root
        if roots.setdefault(size, root) != root:
            raise IntegrityError(f"witnesses must show one ledger, got two of the size {size}: forked")
    size = max(roots)
    if all(each.spent is None for each in seen if each.checkpoint.size == size):
        raise InputError(f"`--witness` must show what was spent at {size} entries, got a model without `{SPENT}`")


def _read_witness(path: Path, first: str, present: str, population: str) -> Iterator[Witnessed]:
    """The verified states that a folder or a file shows; other files are skipped.

    Args:
        path: the folder or file.
        first: the release key with which the ledger began.
        present: the release key of the backup.
        population: the population.

    Raises:
        InputError: it can't be read, or the release key was handed over after the backup.
        IntegrityError: it is signed by another key.
    """
    owner = first, present, population
    if path.is_dir():
        if (path / MANIFEST).is_file():
            yield from _shown({name: (path / name).read_bytes() for name in (MANIFEST, SIGNATURE)}, *owner)
        for each in sorted(path.iterdir()):
            if each.name == COSIGNED:
                note, spent = read_cosigned(each)
                yield Witnessed(_own(note, first, present, population, each), spent, note.to_bytes().decode())
            elif each.is_dir() or each.name in (WITNESS, MODEL):
                yield from _read_witness(each, *owner)
        return
    try:
        data = path.read_bytes()
        model = files_of(data) if path.name == MODEL else None
        signed = read_plan(data) if model is None else None
    except OSError as error:
        raise InputError(f"`--witness` must be readable, got {path}: {error.strerror}") from None
    except IntegrityError:
        raise InputError(f"`--witness` must be a signed plan, or a folder with some, got {path}") from None
    if signed is None:
        yield from _shown(model or {}, *owner)
        return
    verify(signer(signed, first), PLAN_TAG, signed_bytes(signed), signed.signature)
    if signed.plan.population != population or signed.charge is None:
        raise IntegrityError(f"a witness must be of the population {population!r}, got {signed.plan.population!r}")
    _same_key(signed.charge.handovers, present, population)
    yield Witnessed(signed.charge.checkpoint, spend_shown(data), signed.charge.cosigned)


def _shown(files: Mapping[str, bytes], first: str, present: str, population: str) -> Iterator[Witnessed]:
    """The state that a model's manifest shows, if it is this population's; as `_read_witness`."""
    manifest = read_manifest(files, first)
    _same_key(manifest.handovers, present, population)
    if manifest.population == population:
        yield Witnessed(manifest.checkpoint, manifest.model_dump().get(SPENT), manifest.cosigned)


def _own(note: Note, first: str, present: str, population: str, path: Path) -> Checkpoint:
    """The state of a checkpoint of this ledger, in whatever epoch, signed by its present or its first release key.

    Raises:
        IntegrityError: it is of another ledger, or not signed by that key.
    """
    origin, epochs = read_state(note.text).origin, range(MOST_EPOCH + 1)
    logs = [VerifierKey(origin, ED25519, bytes.fromhex(key)) for key in (present, first)]
    log = next((each for each in logs if note.by(each)), None)
    if log is None or all(origin != origin_of(population, first, epoch) for epoch in epochs):
        raise IntegrityError(f"`--witness` must be of this server, got another's checkpoint: {path}")
    return open_checkpoint(note, log)


def _same_key(handovers: Sequence[Handover], present: str, population: str) -> None:
    """Refuse a backup of before a handover that others have seen: what it could sign, nobody would take.

    Raises:
        InputError: the release key was handed over since.
    """
    if handovers and signer_of(present, population, handovers) != present:
        raise InputError("`ARCHIVE` must be from after the last handover of the release key, got an earlier one")


def _passing(site: Site, folder: str, names: list[str]) -> set[str]:
    """What a backup leaves out: temporary files, locks, and the model of the open attempt, which is made again."""
    return {name for name in names if name.startswith(".") or name == "lock" or Path(folder) == site.round_models}
