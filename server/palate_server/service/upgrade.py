"""Upgrade: takes a folder of an earlier version over, tried on a copy first, and with a backup as the way back.

    folder -> backup -> copy -> this version's start on the copy -> the same spend, devices and models? -> the folder

What a version changes in a folder is done by opening it, so that the trial on a copy is the upgrade itself.

| format | since it |
|---|---|
| 1 | there is no file `format` |
| 2 | the register has labels and quarters; `operators.jsonl`; sections `[metrics]`, `[problems]`, `[logs]` |
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate_core.errors import IntegrityError
from palate_server.folder.archive import unpack
from palate_server.folder.backup import scratch, write_backup
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import FORMAT, Site, format_of, write_format
from palate_server.operation.releases import candidate, latest, listed
from palate_server.operation.terms import check_config
from palate_server.rounds.lock import own_folder
from palate_server.service.status import read_status, runs_of


@dataclass(frozen=True)
class Standing:
    """What must be the same before and after: nothing of it may be forgotten.

    Attributes:
        entries: number of the ledger's entries.
        root: the root of their tree.
        spent: mu^2 of all charges.
        devices: how many were ever enrolled, and how many of them are revoked, have left, and are named.
        identities: the hash of the directory of identities; "" without one.
        models: versions of the published models.
        release_key: the public key of plans and models.
    """

    entries: int
    root: str
    spent: float
    devices: tuple[int, int, int, int]
    identities: str
    models: tuple[int, ...]
    release_key: str


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade changes, or has changed.

    Attributes:
        former: the folder's format.
        present: the format of this version.
        changes: what is changed, a line each.
        standing: what stays.
    """

    former: int
    present: int
    changes: tuple[str, ...]
    standing: Standing

    def as_dict(self) -> dict[str, Any]:
        """The upgrade as JSON values."""
        return asdict(self)


def standing(site: Site) -> Standing:
    """What must not change, read from a folder.

    Raises:
        InputError, IntegrityError: one of its files is invalid.
    """
    status = read_status(site)
    there = status.devices
    with Enrolments(site.enrolment_file) as register:
        directory = register.directory()
    return Standing(
        status.ledger["size"],
        status.ledger["root"],
        status.mu2_spent,
        (there["enrolled"] + there["revoked"] + there["left"], there["revoked"], there["left"], there["named"]),
        "" if directory is None else directory.hash,
        tuple(sorted(found for found, _, _ in listed(site))),
        status.release_key,
    )


def try_upgrade(site: Site) -> Upgrade:
    """Upgrade a copy of a folder, and compare; the folder itself stays as it is, and may be served meanwhile.

    Raises:
        InputError: the folder is of a later version, or this version can't work with its configuration.
        IntegrityError: something would be forgotten, or can't be read.
    """
    changes = _changes(site)
    with scratch(site) as place:
        archive, folder = place / "copy.tar", place / "copy"
        write_backup(site, archive, remember=False)
        unpack(archive, folder)
        copy = Site.at(folder)
        copy.make_folders()
        before = _untouched(folder)
        after = _taken_over(copy)
    if before != (after.entries, after.devices[0]):
        raise IntegrityError(
            f"an upgrade must forget nothing, got {after.entries} entries and {after.devices[0]} devices of "
            f"{before[0]} and {before[1]}"
        )
    return Upgrade(format_of(site.folder), FORMAT, changes, after)


def upgrade(site: Site, archive: Path) -> Upgrade:
    """Try it on a copy, back the folder up, and take it over. The server must be stopped.

    Args:
        site: the server folder.
        archive: a new file for the backup, which the former version restores, too.

    Raises:
        InputError, IntegrityError: as `try_upgrade`; the folder is as it was.
        LockedError: the server runs.
    """
    with own_folder(site.folder):
        found = try_upgrade(site)
        write_backup(site, archive)
        after = _taken_over(site)
        if after != found.standing:
            raise IntegrityError(f"an upgrade must give what it gave on a copy, and doesn't: restore {archive}")
        write_format(site.folder)
    return found


def _changes(site: Site) -> tuple[str, ...]:
    """What will be another in the folder, in words."""
    former, found = format_of(site.folder), []
    if former < FORMAT:
        found.append(f"format {former} -> {FORMAT}")
    with closing(sqlite3.connect(f"file:{site.enrolment_file}?mode=ro", uri=True)) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if new := sorted({"labels", "seen", "named", "evidence"} - known):
        found.append(f"register: tables {', '.join(new)}, empty; the former version reads on")
    return tuple(found) or ("nothing",)


def _untouched(folder: Path) -> tuple[int, int]:
    """Entries of the ledger and devices of the register, read without this version's own code."""
    with (
        closing(sqlite3.connect(folder / "ledger.db")) as ledger,
        closing(sqlite3.connect(folder / "enrolment.db")) as register,
    ):
        entries = ledger.execute("SELECT count(*) FROM entries").fetchone()[0]
        return int(entries), int(register.execute("SELECT count(*) FROM devices").fetchone()[0])


def _taken_over(site: Site) -> Standing:
    """Open all that this version opens when it starts and trains; what stays."""
    found = standing(site)
    check_config(site.config, n_items=len(site.catalogue.items), inputs=site.public_inputs)
    latest(site)
    with site.ledger(read_only=True) as ledger:
        closed = [run for run, state in runs_of(ledger_entries=ledger.entries()).items() if state == "closed"]
        for run in closed[:1]:
            candidate(site, ledger, run)
    return found
