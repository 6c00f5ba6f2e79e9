"""Backup: saves the data that can't be recreated in one file, and restores a server folder from it.

Charges after the backup are lost with the machine, but devices have seen their signed plans, and `backup.witness` has
the latest one. A restored ledger is extended to the size that was witnessed and continues at the spend that was
witnessed (`Ledger.restore`): devices accept that once, and refuse a ledger that lacks charges.
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
from palate_server.folder.server_folder import PANEL_FILE, Site
from palate_server.folder.witness import WITNESS
from palate_server.ledger.ledger import Ledger


def write_backup(site: Site, archive: Path) -> Checkpoint:
    """Write a backup while the server runs; returns the state of the ledger in it.

    The ledger is copied first: every release that it has sealed is in the archive. The server folder must be writable,
    for temporary copies, and because SQLite needs it to read a file that another process writes.

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
        panel = [PANEL_FILE] if site.panel_file.exists() else []
        for name in (*FILES, *([features] if features else []), *panel):
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
    """A temporary folder in the server folder, so that an interrupted backup leaves no key elsewhere."""
    try:
        return tempfile.TemporaryDirectory(dir=site.state)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable for a backup, got {site.state}: {error.strerror}") from None


@dataclass(frozen=True)
class Witnessed:
    """A state of the ledger that others are known to have seen.

    Attributes:
        checkpoint: the state.
        spent: the population's mu^2 in it; None if it wasn't shown, as by models of earlier versions.
    """

    checkpoint: Checkpoint
    spent: float | None


def read_backup(archive: Path, folder: Path, *, witnesses: Sequence[Path], without_witness: bool) -> str:
    """Restore a server folder from a backup; returns what was done with the ledger, in words.

    Args:
        archive: a file of `write_backup`.
        folder: a new or empty folder.
        witnesses: folders or files with signed plans and published models.
        without_witness: whether there is no witness; then the whole lifetime budget counts as spent.

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
        return _new_epoch(site, witnesses)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if there:
            folder.mkdir(mode=0o700)
        raise


def _new_epoch(site: Site, witnesses: Sequence[Path]) -> str:
    """Extend the ledger to the witnessed state; returns what was done, in words."""
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


def _read_witness(path: Path, public_key: str, population: str) -> Iterator[Witnessed]:
    """The verified states that a folder or a file shows; other files are skipped.

    Raises:
        InputError: it can't be read.
        IntegrityError: it is signed by another key.
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
    """Temporary files and locks, which a backup leaves out."""
    return {name for name in names if name.startswith(".") or name == "lock"}
