"""Backup: what can't be made again, as one file, and a server folder from it.

What was charged after the backup was made is lost with the machine, but not with the world: devices have seen signed
plans, and `backup.witness` has the latest. A restored ledger is filled up to the size that was witnessed and goes on
from the spend that was witnessed (`Ledger.restore`): devices accept that once, and refuse a ledger that has forgotten.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate_common.errors import InputError, IntegrityError
from palate_common.models import published
from palate_common.models.manifest import MOST_SIGNED
from palate_common.models.published import MANIFEST, MANIFEST_TAG, SIGNATURE
from palate_common.records.canonical import read_canonical
from palate_common.records.consistency import SPENT, spend_shown
from palate_common.records.files import write_durably
from palate_common.records.merkle import Checkpoint
from palate_common.records.signing import verify
from palate_common.rounds.plan import PLAN_TAG, read_plan, signed_bytes
from palate_server.folder.archive import FILES, FOLDERS, pack, unpack
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import WITNESS
from palate_server.ledger.ledger import Ledger


def write_backup(site: Site, archive: Path) -> Checkpoint:
    """Write a backup, while the server runs; the state of the ledger in it.

    The ledger is copied first: every release that it has sealed is in the archive. The server folder must be writable:
    for a copy of what is in use, and because SQLite has no other way to read a file that somebody writes.

    Raises:
        InputError: the archive exists, or it or the server folder can't be written.
    """
    if archive.exists():
        raise InputError(f"`ARCHIVE` must be a new file, got {archive}")
    with _scratch(site) as scratch:
        folder = Path(scratch)
        with site.ledger(read_only=True) as ledger:
            ledger.copy(folder / "ledger.db")
        features = site.config.training.features
        for name in (*FILES, *([features] if features else [])):
            shutil.copy2(site.folder / name, folder / name)
        for name in FOLDERS:
            shutil.copytree(site.folder / name, folder / name, ignore=_drafts)
        with Enrolments(site.enrolment_file) as register:
            register.copy(folder / "enrolment.db")
        with Ledger(folder / "ledger.db", population=site.config.population, read_only=True) as copied:
            checkpoint = copied.checkpoint()
        data = pack(folder)
    try:
        write_durably(archive, data, mode=0o600)
    except OSError as error:
        raise InputError(f"`ARCHIVE` must be in a writable folder, got {archive}: {error.strerror}") from None
    return checkpoint


def _scratch(site: Site) -> tempfile.TemporaryDirectory[str]:
    """A folder for copies, on the server's own disk: an interrupted backup leaves no key elsewhere."""
    try:
        return tempfile.TemporaryDirectory(dir=site.state)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable for a backup, got {site.state}: {error.strerror}") from None


@dataclass(frozen=True)
class Witnessed:
    """What is known to have been seen of a ledger.

    Attributes:
        checkpoint: a state of it.
        spent: the population's mu^2 then; None where that wasn't shown, as by models of earlier versions.
    """

    checkpoint: Checkpoint
    spent: float | None


def read_backup(archive: Path, folder: Path, *, witnesses: Sequence[Path], without_witness: bool) -> str:
    """Make a server folder from a backup; what became of the ledger, in words.

    Args:
        archive: what `write_backup` wrote.
        folder: new, or empty.
        witnesses: folders or files: signed plans, and published models.
        without_witness: there is none; the lifetime budget then counts as spent.

    Raises:
        InputError: no archive, no place for it, or neither a witness nor the statement that there is none.
        IntegrityError: what was backed up, or a witness, doesn't verify.
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
        return _new_epoch(site, witnesses)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if there:
            folder.mkdir(mode=0o700)
        raise


def _new_epoch(site: Site, witnesses: Sequence[Path]) -> str:
    """Bring the ledger to what was witnessed, and put the witness where the next one will be."""
    key = site.key().public
    with site.ledger() as ledger:
        backed_up = ledger.checkpoint()
        seen = [found for path in witnesses for found in _read_witness(path, key, site.config.population)]
        if witnesses:
            _check_witnesses(seen, witnesses[0])
        shown = [each.spent for each in seen if each.spent is not None]
        if not seen:
            budget = min((entry.mu2 for entry in ledger.entries() if entry.kind == "budget"), default=math.inf)
            seen, shown = [Witnessed(Checkpoint(backed_up.size + 1, "0" * 64), budget)], [budget]
        latest = max(seen, key=lambda each: each.checkpoint.size)
        new = ledger.restore(witness=latest.checkpoint, spent=max(shown))
    if new is None:
        return f"restored: the backup has all that was witnessed, {backed_up.size} entries"
    return (
        f"restored: a new epoch; {latest.checkpoint.size - backed_up.size} entries are lost, the ledger goes on at "
        f"{new.size} entries"
    )


def _check_witnesses(seen: Sequence[Witnessed], where: Path) -> None:
    """The latest says what was spent, and no two show different ledgers of one size.

    Raises:
        InputError: there is none, or the latest doesn't say.
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


def _read_witness(path: Path, public_key: str, population: str) -> Iterator[Witnessed]:
    """What a folder or a file shows, verified; other files are passed over.

    Raises:
        InputError: it can't be read.
        IntegrityError: signed by another key.
    """
    if path.is_dir():
        if (path / MANIFEST).is_file():
            payload, signature = (path / MANIFEST).read_bytes(), (path / SIGNATURE).read_text()
            verify(public_key, MANIFEST_TAG, payload, signature)
            manifest = published.Manifest.model_validate(read_canonical(payload, most=MOST_SIGNED))
            if manifest.population == population:
                yield Witnessed(manifest.checkpoint, manifest.model_dump().get(SPENT))
        for each in sorted(path.iterdir()):
            if each.is_dir() or each.name == WITNESS:
                yield from _read_witness(each, public_key, population)
        return
    try:
        data = path.read_bytes()
        signed = read_plan(data)
    except OSError as error:
        raise InputError(f"`--witness` must be readable, got {path}: {error.strerror}") from None
    except IntegrityError:
        raise InputError(f"`--witness` must be a signed plan, or a folder with some, got {path}") from None
    verify(public_key, PLAN_TAG, signed_bytes(signed), signed.signature)
    if signed.plan.population != population or signed.charge is None:
        raise IntegrityError(f"a witness must be of the population {population!r}, got {signed.plan.population!r}")
    yield Witnessed(signed.charge.checkpoint, spend_shown(data))


def _drafts(_: str, names: list[str]) -> set[str]:
    """Files that are not yet what they will be called, and locks."""
    return {name for name in names if name.startswith(".") or name == "lock"}
