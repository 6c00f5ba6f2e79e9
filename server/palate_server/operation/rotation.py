"""Rotation: another release key for the same population, with its ledger, its spend and its devices.

    prepare      a new key in the folder, not in use; its verifier key goes to the ledger's witnesses
    replace_lost_key   a new start where there is no key to hand over with: apps have to pin the new one
    rotate_key   backup -> handover in the ledger, signed by both keys -> the new key is the key -> latest model again

Devices follow the handover (`palate_core.log.handovers`). Each step can be done again: a rotation that was
interrupted is finished by the next.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from palate_common.models import published
from palate_common.models.manifest import MANIFEST
from palate_common.models.published import Published
from palate_common.records.files import write_durably
from palate_common.records.key_file import load_key, save_key
from palate_core.errors import InputError, LockedError
from palate_core.log.checkpoints import origin_of
from palate_core.log.notes import ED25519, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.folder.backup import write_backup
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.witnesses import UncosignedError
from palate_server.operation.releases import latest_manifest, renew, republish
from palate_server.operation.restraint import restraint_of
from palate_server.rounds.lock import RunLock

NEXT = "next"
"""The file in `keys/` of a key that isn't in use yet."""


@dataclass(frozen=True)
class Rotation:
    """What a rotation did.

    Attributes:
        old: the former release key, public, hexadecimal.
        new: the present one.
        log: the ledger's verifier key from now on, which witnesses are given.
        published: the latest model, signed by the new key; None if there is none, or too few witnesses know the new
            log yet: it is published when the server runs and they do.
    """

    old: str
    new: str
    log: VerifierKey
    published: Published | None


def prepare(site: Site) -> VerifierKey:
    """Make the key that a rotation will hand over to, unless there is one; returns the ledger's verifier key with it.

    Raises:
        InputError: the folder can't be written.
    """
    path = site.folder / "keys" / NEXT
    if not path.exists():
        save_key(SigningKey.generate(), path)
    with site.ledger(read_only=True) as ledger:
        origin = origin_of(site.config.population, _began_with(site, ledger), ledger.epoch)
    return VerifierKey(origin, ED25519, bytes.fromhex(load_key(path).public))


def rotate_key(site: Site, archive: Path) -> Rotation:
    """Hand over to a new release key, after a backup. The server must be stopped.

    **Guarantees:** the handover is in the ledger, signed by both keys, before the new key signs anything else.

    Args:
        site: the server folder.
        archive: a new file for the backup, with the former key.

    Raises:
        LockedError: the server runs.
        InputError: an attempt is under way, the archive exists, or the folder can't be written.
        UncosignedError: too few witnesses know the new key yet: the key is changed, and the latest model is published
            when the server runs and they do.
    """
    with ExitStack() as stack:
        _lock(site, stack)
        if restraint_of(site).under_way:
            raise InputError("no round may be under way for another release key: start the server, and let it end")
        log = prepare(site)
        new = load_key(site.folder / "keys" / NEXT)
        with site.ledger() as ledger:
            done = ledger.handed_over()
            if not done or done[-1].new_key != new.public:
                write_backup(site, archive)
                ledger.hand_over(site.key(), new)
            old = ledger.handed_over()[-1].old_key
        write_durably(site.folder / "keys" / f"{old}.pub", f"{old}\n".encode())
        write_durably(site.folder / "key", new.to_pem(), mode=0o600)
        (site.folder / "keys" / NEXT).unlink()
    return Rotation(old, new.public, log, renew(site))


def replace_lost_key(site: Site) -> Rotation:
    """Give a population whose release key is lost a new one, which apps have to pin. The server must be stopped.

    The ledger says so, and goes on with what was spent; devices keep what they have seen of it. To witnesses it is
    another log.

    Raises:
        LockedError: the server runs.
        InputError: the key is there, or nothing says which one it was.
    """
    with ExitStack() as stack:
        _lock(site, stack)
        if (site.folder / "key").exists():
            raise InputError("`--lost` must be for a folder without its `key`, and it is there: hand over instead")
        former = latest_manifest(site)
        if former is None:
            raise InputError("a published model must say which key was lost, got none")
        read = json.loads((site.models / former / MANIFEST).read_bytes())
        old, new = str(read["public_key"]), SigningKey.generate()
        found = published.read(site.models / former, public_key=old)
        with site.ledger() as ledger:
            ledger.start_anew(old, new)
        save_key(new, site.folder / "key")
        write_durably(site.folder / "keys" / f"{old}.pub", f"{old}\n".encode())
        with site.ledger() as ledger:
            log = ledger.log_key(new.public)
    try:
        return Rotation(old, new.public, log, republish(site, found))
    except UncosignedError:  # whoever reads the new log's key here is who tells the witnesses of it
        return Rotation(old, new.public, log, None)


def _lock(site: Site, stack: ExitStack) -> None:
    """Own the folder, as the parts of a running server do.

    Raises:
        LockedError: the server runs.
    """
    try:
        for folder in (site.folder, site.state):
            stack.enter_context(RunLock(folder))
    except LockedError:
        raise LockedError(f"the server must be stopped for another release key, and runs: {site.folder}") from None


def _began_with(site: Site, ledger: Ledger) -> str:
    """The first release key, whether or not a handover is only half done."""
    done = ledger.handed_over()
    return done[0].old_key if done else site.key().public
