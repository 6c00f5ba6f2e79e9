"""Inventory: hash and size of every file of a finished run, signed with the run's key, in `files.json`.

A ledger vouches for releases and model, a card for the claim. Nothing else would vouch for the figures in `result.json`
and `report.html`, or for the devices' ledger. Whoever changes a file without the key is found by this list.

    write_inventory(folder, run, key, soon={"result.json": data})
    read_inventory((folder.path / FILES).read_bytes()).files["report.html"].sha256
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.signing import SigningKey, verify
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.run.run_folder import DRAFT, RunFolder

FILES = "files.json"
FILES_TAG = "palate/files/1"
MOST = 2**26
"""Bytes of the largest inventory that is read."""
MARK = "files"
"""The fact of a run's closing entry which says that its folder has an inventory, so that a missing one is noticed."""
SECRETS = frozenset({"key", "identities"})
"""Private keys, which nobody is handed."""
GROWING = frozenset({"lock", "events.jsonl", "flower.log", "ray.log"})
"""Files that are written after the inventory."""
BESIDE = ("-wal", "-shm")
"""Ends of the names of files that SQLite keeps beside an open database."""
OPTIONAL = ("people.json", "recommendations.csv.gz", "report.html", "split/")
"""What an operator may keep back from those who check a run: raw histories, or a page that shows some."""


class FileDigest(BaseModel):
    """Hash and size of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    bytes: int = Field(ge=0)


class Inventory(BaseModel):
    """What was signed: the files of a run by their paths in its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: str
    files: dict[str, FileDigest]
    public_key: str
    signature: str

    def check(self, public_key: str) -> None:
        """Check the signature.

        Raises:
            IntegrityError: it isn't by that key.
        """
        verify(public_key, FILES_TAG, canonical_json(self.model_dump(exclude={"signature"})), self.signature)

    def keeps(self, name: str, data: Path) -> bool:
        """Whether a file has the signed bytes."""
        return self.files.get(name) == facts_of(data)


def facts_of(path: Path) -> FileDigest:
    """Hash and size of a file, read in pieces."""
    with path.open("rb") as file:
        return FileDigest(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def listed(folder: Path) -> list[str]:
    """The files that an inventory of this folder names, as paths in it, sorted."""
    out = SECRETS | GROWING | {FILES}
    found = (path for path in folder.rglob("*") if path.is_file() and not DRAFT.fullmatch(path.name))
    return sorted(name for name in (path.relative_to(folder).as_posix() for path in found) if name not in out)


def write_inventory(folder: RunFolder, run: str, key: SigningKey, *, soon: Mapping[str, bytes]) -> None:
    """Sign all files of a folder.

    Args:
        folder: the run folder, with all of its files but `soon`.
        run: the run's id.
        key: the run's.
        soon: files that are written after it, with their bytes.
    """
    ledger = folder.path / "devices.db"
    if ledger.exists():
        SimulatedLedger(ledger).close()  # what an ended process left in a log beside it becomes part of the file
    named = [name for name in listed(folder.path) if name not in soon and not name.endswith(BESIDE)]
    files = {name: facts_of(folder.path / name) for name in named}
    files |= {name: FileDigest(sha256=digest(data), bytes=len(data)) for name, data in soon.items()}
    said = {
        "run": run,
        "files": {name: facts.model_dump() for name, facts in sorted(files.items())},
        "public_key": key.public,
    }
    folder.write(FILES, canonical_json({**said, "signature": key.sign(FILES_TAG, canonical_json(said))}))


def read_inventory(data: bytes) -> Inventory:
    """Read an inventory, without checking who signed it.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return Inventory.model_validate(read_canonical(data, most=MOST))
    except ValidationError:
        raise IntegrityError(f"{FILES} must be the list of a run's files, and is not") from None
