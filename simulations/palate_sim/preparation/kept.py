"""Kept histories: a large log, prepared once, in a folder that later runs of the same log and settings map.

    CACHE/prepared/KEY/
        prepared.json        what it was made of, and size and SHA-256 of every other file
        train/ validation/ test/    the histories, as `histories` writes them
        *.arrow              ids of items and users
        catalogue.parquet, *_groups.parquet, candidates.npy    where there are any

KEY is a hash of the files of the log (path, size, time of change), the settings and the code that prepares it. A folder
appears under its name when it is whole; a run that prepares the same log meanwhile waits for it. Whoever opens it
checks every file.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_common.interactions import map_interactions, save_array
from palate_common.records.closing import Closing
from palate_common.records.file_lock import FileLock
from palate_common.records.files import write_durably
from palate_core.errors import InputError, LockedError
from palate_core.log.canonical import canonical_json, digest
from palate_sim.data.columns import show
from palate_sim.data.download import cache_dir
from palate_sim.data.events import when_gone
from palate_sim.data.ids import IdList
from palate_sim.preparation.splits import Heldout, Split
from palate_sim.provenance import preparation_sources
from palate_sim.steps import Notify, step

FORMAT = 2
MANIFEST = "prepared.json"
LARGEST_MANIFEST = 2**24  # bytes
CHUNK = 2**22  # bytes hashed at once


@dataclass(frozen=True)
class Facts:
    """What is kept beside the split.

    Attributes:
        name: what to call the data.
        repairs: what reading repaired, name -> count.
        dropped: what filters and the choice of positives removed.
        terms: the publisher's terms of use.
        filtered: which filter was used.
        fingerprint: see `Prepared.fingerprint`.
    """

    name: str
    repairs: dict[str, int]
    dropped: dict[str, int]
    terms: str
    filtered: str
    fingerprint: str


class Draft(Closing):
    """A folder in which a log is prepared; it is made when it is first asked for, and is gone unless it is kept.

    Args:
        parent: the folder of all kept histories.
        key: what they will be kept under; None: they can't be found again, and go with the last reference to the draft.
        notify: called with progress events.
    """

    def __init__(self, parent: Path, key: str | None, notify: Notify) -> None:
        self._parent, self.key, self._notify = parent, key, notify
        self._lock: FileLock | None = None
        self._path: Path | None = None
        self._removal: weakref.finalize[..., Any] | None = None

    def path(self) -> Path:
        """The folder.

        Raises:
            ReadyError: another run has prepared the same log in the meantime.
            OSError: it can't be made.
        """
        if self._path is None:
            self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sweep(self._parent)
            name = self.key or f"once-{secrets.token_hex(8)}"
            self._lock = _wait(self._parent / f"{name}.lock", self._notify)
            if self.key is not None and (self._parent / self.key).exists():
                raise ReadyError
            self._path = self._parent / f"{name}.partial"
            shutil.rmtree(self._path, ignore_errors=True)
            self._path.mkdir(mode=0o700)
            self._removal = when_gone(self, _discard, self._path, self._lock)
        return self._path

    def keep(self) -> Path:
        """Give the folder its name; returns where it lies now. Without a key it stays a draft."""
        path = self.path()
        if self.key is None:
            return path
        return path.rename(self._parent / self.key)

    def close(self) -> None:
        """Remove what isn't kept, and let other runs go on."""
        if self._removal is not None:
            self._removal()
        elif self._lock is not None:
            _release(self._lock)
        self._path = self._lock = self._removal = None


class ReadyError(Exception):
    """Another run has prepared the same log."""


def kept_folder(chosen: str | None) -> Path:
    """The folder of all kept histories: the configured one, or one in the user's cache.

    Raises:
        InputError: no folder can have that name.
    """
    if chosen is not None and "\0" in chosen:
        raise InputError(f"`data.cache` must be the name of a folder, got {show(chosen)}")
    return (cache_dir() if chosen is None else Path(chosen)) / "prepared"


def key_of(files: Sequence[Sequence[str | int]], settings: Mapping[str, Any]) -> str:
    """The key of a log, its settings and the code that prepares it: 64 hexadecimal digits."""
    return digest(json.dumps([preparation_sources(), files, settings], sort_keys=True, default=str).encode())


def write_kept(folder: Path, cut: Split, catalogue: pd.DataFrame | None, facts: Facts, notify: Notify) -> None:
    """Complete a folder whose histories are written.

    Raises:
        OSError: the disk is full.
    """
    for rows in folder.glob(".rows-*"):  # an exception may still hold what was read
        shutil.rmtree(rows)
    _ids(cut.items).save(folder / "items.arrow")
    _ids(cut.train_users).save(folder / "train_users.arrow")
    for role, heldout in _heldout(cut).items():
        _ids(heldout.users).save(folder / f"{role}_users.arrow")
        if heldout.groups:
            pd.DataFrame(heldout.groups).to_parquet(folder / f"{role}_groups.parquet")
    if catalogue is not None:
        catalogue.to_parquet(folder / "catalogue.parquet")
    if cut.candidates is not None:
        save_array(folder / "candidates.npy", cut.candidates)
    names = _files(folder)
    hashes = _hash(folder, names, notify)
    about = {name: getattr(cut, name) for name in _ABOUT} | {name: list(getattr(cut, name)) for name in _LISTS}
    manifest = {
        "format": FORMAT,
        "facts": asdict(facts),
        "split": about,
        "files": {name: [(folder / name).stat().st_size, hashes[name]] for name in names},
    }
    write_durably(folder / MANIFEST, canonical_json(manifest))


def open_kept(folder: Path, notify: Notify) -> tuple[Split, pd.DataFrame | None, Facts]:
    """The split, the catalogue and the facts of a kept folder, whose files are checked.

    Raises:
        InputError: a file is missing or was changed.
    """
    try:
        if (folder / MANIFEST).stat().st_size > LARGEST_MANIFEST:
            raise ValueError("it is too large")
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise ValueError(f"the format {manifest['format']!r}")
        facts, about, files = Facts(**manifest["facts"]), manifest["split"], manifest["files"]
        sizes = {name: (folder / name).stat().st_size for name in files}
        found = _hash(folder, list(files), notify)
        strange = [name for name in _files(folder) if name not in files and name != MANIFEST]
        if strange:
            raise ValueError(f"{strange[0]} beside what was written")
        changed = [name for name, (size, sha) in files.items() if (sizes[name], found[name]) != (size, sha)]
        if changed:
            raise ValueError(f"{changed[0]} was changed")
        cut = Split(
            train=map_interactions(folder / "train"),
            train_users=IdList.load(folder / "train_users.arrow"),
            validation=_open_heldout(folder, "validation") if "validation_users.arrow" in files else None,
            test=_open_heldout(folder, "test"),
            items=tuple(IdList.load(folder / "items.arrow")),
            candidates=np.load(folder / "candidates.npy") if "candidates.npy" in files else None,
            **(about | {name: tuple(about[name]) for name in _LISTS}),
        )
        catalogue = pd.read_parquet(folder / "catalogue.parquet") if "catalogue.parquet" in files else None
    except (OSError, ValueError, KeyError, TypeError, InputError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "delete that folder, and the log is prepared again"
        raise InputError(
            f"`data` must be prepared histories as they were written, got {reason} in {folder}: {hint}"
        ) from None
    return cut, catalogue, facts


_ABOUT = ("name", "skipped", "sampled_negatives", "negatives_exclude_heldout", "excluded")
_LISTS = ("notes", "metrics")


def _open_heldout(folder: Path, role: str) -> Heldout:
    """The held-out users of one role."""
    place, groups = folder / role, folder / f"{role}_groups.parquet"
    table = pd.read_parquet(groups) if groups.exists() else pd.DataFrame()
    return Heldout(
        foldin=map_interactions(place / "foldin"),
        target=map_interactions(place / "target"),
        users=IdList.load(folder / f"{role}_users.arrow"),
        groups={str(column): tuple(table[column]) for column in table},
        withheld=map_interactions(place / "withheld") if (place / "withheld").exists() else None,
    )


def moved(cut: Split, folder: Path) -> Split:
    """The split with its files where they lie now."""
    validation = None if cut.validation is None else _open_heldout(folder, "validation")
    test = _open_heldout(folder, "test")
    return replace(cut, train=map_interactions(folder / "train"), validation=validation, test=test)


def _heldout(cut: Split) -> dict[str, Heldout]:
    """The held-out parts that there are, by role."""
    return {"test": cut.test} | ({} if cut.validation is None else {"validation": cut.validation})


def _ids(ids: Sequence[str]) -> IdList:
    return ids if isinstance(ids, IdList) else IdList(pa.chunked_array([pa.array(ids, pa.large_string())]))


def _files(folder: Path) -> list[str]:
    """The names of all files below a folder, without hidden ones, which a desktop may add."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _hash(folder: Path, names: Sequence[str], notify: Notify) -> dict[str, str]:
    """The SHA-256 of files."""
    found = {}
    total = sum((folder / name).stat().st_size for name in names)
    with step(notify, "checking prepared histories", of=total, unit="bytes") as advance:
        for name in names:
            sha = hashlib.sha256()
            with (folder / name).open("rb") as file:
                while chunk := file.read(CHUNK):
                    sha.update(chunk)
                    advance(len(chunk))
            found[name] = sha.hexdigest()
    return found


def _wait(path: Path, notify: Notify) -> FileLock:
    """Take a lock, however long another run holds it."""
    if (lock := _taken(path, seconds=0.0)) is not None:
        return lock
    with step(notify, "waiting for another run that prepares this log", unit="seconds") as advance:
        while (lock := _taken(path, seconds=1.0)) is None:
            advance(1)
    return lock


def _taken(path: Path, *, seconds: float) -> FileLock | None:
    """A lock, or None if another run holds it that long, or has removed its file meanwhile."""
    try:
        lock = FileLock(path, seconds=seconds)
    except LockedError:
        return None
    if lock.is_there():
        return lock
    lock.close()
    return None


def _discard(path: Path, lock: FileLock) -> None:
    """Remove a draft, or nothing where it was kept, and its lock."""
    shutil.rmtree(path, ignore_errors=True)
    _release(lock)


def _release(lock: FileLock) -> None:
    """Remove a lock's file while it is held, and release it."""
    with suppress(OSError):
        lock.path.unlink()
    lock.close()


def _sweep(parent: Path) -> None:
    """Remove the drafts of runs that were killed: nobody holds their locks."""
    for draft in parent.glob("*.partial"):
        with suppress(LockedError, OSError), FileLock(draft.with_suffix(".lock")):
            shutil.rmtree(draft, ignore_errors=True)
            draft.with_suffix(".lock").unlink()
