"""Signed files: every file of a run folder against the inventory that the operator signed, and private keys in it.

A run's `files.json` names its files with hash and size. A file that was changed, exchanged or taken away is named, and
so is each file that nothing vouches for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from palate_audit.evidence.evidence import Finding
from palate_audit.run.run_records import RunRecords
from palate_core.errors import InputError, PalateError
from palate_core.log.signing import MOST_KEY, SigningKey
from palate_sim.run.inventory import FILES, GROWING, MARK, OPTIONAL, SECRETS, Inventory, listed, read_inventory

AUDITS = frozenset({"audit.html", "audit.json"})
"""Reports of an audit, which it may leave in the folder."""
PRIVATE = b"PRIVATE KEY-----"
NAMED = 6
"""Names that a finding has in full."""


def signed_files(records: RunRecords, *, public_key: str | None) -> Iterator[Finding]:
    """Every finding on the inventory."""
    test, path = "G signed files", records.folder / FILES
    if not path.is_file():
        finished = (records.folder / "result.json").is_file()
        if finished and records.closed is not None and MARK in records.closed:
            said = f"{FILES} is gone, which the run's closing entry says was signed: nothing vouches for "
            yield Finding.checked(test, False, said + "report.html, result.json and devices.db", gone=[FILES])
        else:
            why = "the run was made before there was one" if finished else "the run is not finished"
            said = f"there is no {FILES}, {why}: nothing vouches for report.html, result.json, run.json and devices.db"
            yield Finding.missing(test, said)
        return
    try:
        inventory = read_inventory(path.read_bytes())
        inventory.check(public_key or (records.extract.public_key if records.extract else inventory.public_key))
    except PalateError as error:
        yield Finding.checked(test, False, f"{FILES}: {error}", changed=[FILES])
        return
    if inventory.run != records.run:
        yield Finding.checked(test, False, f"{FILES} is of another run, {inventory.run!r:.80}", changed=[FILES])
        return
    yield _compared(records.folder, inventory)
    yield from _unsigned(records.folder, inventory)


def _compared(folder: Path, inventory: Inventory) -> Finding:
    """Each file that is named has the signed bytes, and is there."""
    test, there = "G signed files", set(listed(folder))
    kept = {name for name in inventory.files if name.startswith(OPTIONAL)}
    gone = sorted(inventory.files.keys() - there - kept)
    changed = [name for name in sorted(inventory.files.keys() & there) if not inventory.keeps(name, folder / name)]
    if gone or changed:
        parts = [f"changed: {_names(changed)}"] if changed else []
        parts += [f"gone: {_names(gone)}"] if gone else []
        return Finding.checked(
            test, False, f"not what the operator signed; {'; '.join(parts)}", changed=changed, gone=gone
        )
    back = sorted(inventory.files.keys() - there)
    told = f"; kept back, and not checked: {_names(back)}" if back else ""
    return Finding.checked(test, True, f"{len(inventory.files) - len(back)} files have their signed hashes{told}")


def _unsigned(folder: Path, inventory: Inventory) -> Iterator[Finding]:
    """Files that nothing vouches for."""
    free = sorted(name for name in GROWING if (folder / name).is_file() and (folder / name).stat().st_size)
    known = inventory.files.keys() | AUDITS
    extra = sorted(name for name in listed(folder) if name not in known)
    if free:
        said = f"{_names(free)}: written to the end of the run, so that nobody signed it; no figure is taken from it"
        yield Finding.missing("G files not covered", said, names=free)
    if extra:
        yield Finding.missing("G files not signed", f"{_names(extra)}: not there when the run ended", names=extra)


def _names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def private_keys(folder: Path, signer: str | None) -> Iterator[Finding]:
    """Private keys among the files: whoever has one can sign whatever is in the folder.

    Args:
        folder: a run or server folder.
        signer: the public key that its signatures are by, if it is known.
    """
    test, path = "G private key", folder / "key"
    try:
        data = path.read_bytes()
    except OSError:
        data = None
    if data is not None and signer is not None:
        try:
            read = SigningKey.from_pem(data)
            own = read.public if read.to_pem() == data else ""
        except InputError:
            own = ""
        if own != signer:
            what = "is another key" if own else "isn't one as Palate writes it"
            yield Finding.checked(
                test, False, f"the file key {what}; the rest was signed by {signer[:16]}…", changed=["key"]
            )
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_private(path))
    found += sorted(name for name in SECRETS if (folder / name).is_file() and name not in found)
    if found:
        said = f"{_names(found)}: who has this folder can sign in the operator's or a device's name, so that its "
        said += "signatures are no evidence against them; hand on a copy without it"
        yield Finding.missing(test, said, names=found)
    else:
        yield Finding.checked(test, True, "no private key is in the folder")


def _is_private(path: Path) -> bool:
    """Whether a file is a private key in PEM."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_KEY:
            return False
        return PRIVATE in path.read_bytes()
    except OSError:
        return False
