"""Models: the global model that this device uses. It is verified, never replaced by an older one, and always complete.

files_to_download -> the app downloads them -> folder
folder, files in use -> published.read (signature, sizes, hashes, content) -> rollback -> the ledger that it
shows, against the last one seen -> Journal (one transaction)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from palate_client.ledger.own_ledger import OwnLedger
from palate_client.service import Service, require
from palate_client.store.journal import Edition, Journal, note_refusal, reason_of
from palate_client.store.store import EventStore
from palate_common.models import published
from palate_common.models.manifest import MANIFEST, MOST_SIGNED, SIGNATURE, check_recorded, evidence_of, read_file
from palate_common.models.published import Published
from palate_core.device.ledger import DeviceLedger
from palate_core.errors import IntegrityError, PalateError, RefusedError, UnreachableError
from palate_core.log.canonical import digest
from palate_core.log.consistency import Shown, check_growth, check_pinned, spend_shown, taken_before
from palate_core.log.merkle import Checkpoint


class Models:
    """The model in use on this device.

    Args:
        store: the device's store.
        service: the server whose models are accepted; None: there is none.

    Attributes:
        taken: SHA-256 of the manifest that was taken into use last in this process; empty: none yet. When it changes,
            whatever was computed from a model is outdated.
    """

    def __init__(self, store: EventStore, service: Service | None) -> None:
        self.taken = ""
        self._store, self._service = store, service
        self._read: tuple[str, Published] | None = None

    def files_to_download(self, folder: Path) -> tuple[str, ...]:
        """See `Device.files_to_download`."""
        key = require(self._service).public_key
        signed = {name: read_file(folder / name, most=MOST_SIGNED) for name in (MANIFEST, SIGNATURE)}
        return published.wanted_files(signed, public_key=key, have=self.in_use())

    def update(self, folder: Path) -> bool:
        """See `Device.update_model`; files that the folder lacks come from the model in use."""
        key, most = require(self._service).public_key, require(self._service).most_bytes
        with self.noting_refusals():
            return self.take(published.read(folder, public_key=key, most=most, small=True, have=self.in_use()))

    @contextmanager
    def noting_refusals(self) -> Iterator[None]:
        """Record a model's errors in this context, for the privacy report; not that the server can't be reached."""
        try:
            yield
        except UnreachableError:
            raise
        except PalateError as error:
            note_refusal(self._store, "model", reason_of(error))
            raise

    def take(self, found: Published) -> bool:
        """Take a verified model into use; False if it is in use already.

        Raises:
            RefusedError: it is of another population, or older than the one in use.
            IntegrityError: too few of the app's witnesses have cosigned the state that it shows, or the model has no
                entry in the ledger where the app pins some; or its ledger does not
                extend the one seen last, in a plan or a model; or, if a plan has shown a later state, that state does
                not extend the model's ledger; or what was kept of that state can't be read.
        """
        service = require(self._service)
        with OwnLedger(self._store, service) as ledger:
            return self._take(found, service, ledger)

    def _take(self, found: Published, service: Service, ledger: DeviceLedger) -> bool:
        """Check a model against what this device has seen, then replace the one in use."""
        manifest, checkpoint = found.manifest, found.manifest.checkpoint
        if manifest.population != service.population:
            raise RefusedError(f"a model must be of {service.population!r}, got one of {manifest.population!r}")
        signed = digest(found.files[published.MANIFEST])
        with Journal(self._store.file) as journal:
            if signed in [each.manifest for each in journal.editions()[-1:]]:  # whatever later state a plan has shown
                return False
        self.see(service, ledger)
        seen, kept = ledger.seen(service.population)
        evidence = evidence_of(found.files)
        spent, before = spend_shown(evidence), spend_shown(kept)
        if seen is None or seen.size <= checkpoint.size:
            covered = check_pinned("model", manifest, pinned=service.pinned, evidence=kept)
            check_growth(covered, seen=seen, evidence=kept, spent=spent)
            check_recorded(manifest, service.pinned)
            # A model that doesn't say what was spent must not make this device forget what an earlier one said.
            silent = math.isinf(spent) and math.isfinite(before)
            if silent and manifest.handovers:
                raise IntegrityError("a model after a handover of the release key must say what was spent, got none")
            ledger.see(service.population, checkpoint, kept or b"" if silent else evidence, after=seen)
        else:
            later = check_pinned("model", manifest, pinned=service.pinned, evidence=kept).before
            check_recorded(manifest, service.pinned)
            if later is None or later.checkpoint != seen:
                later = Shown(checkpoint=seen)
            covered = taken_before("ledger that was seen last", later, evidence=evidence)
            check_growth(covered, seen=checkpoint, evidence=evidence, spent=before)
        edition = Edition(manifest.population, checkpoint.size, checkpoint.root, signed, self._store.clock())
        with Journal(self._store.file) as journal:
            adopted = journal.adopt(edition, found.files)
        self._read = (signed, found)
        if adopted:
            self.taken = signed
        return adopted

    def see(self, service: Service, ledger: DeviceLedger) -> None:
        """Record the checkpoint of the model in use as seen: a ledger that was lost before any charge forgot it."""
        with Journal(self._store.file) as journal:
            latest = [each for each in journal.editions() if each.population == service.population][-1:]
            seen = ledger.seen_checkpoint(service.population)
            if latest and (seen is None or seen.size < latest[0].version):
                stored = journal.files()
                evidence = b"" if stored is None or stored[0] != latest[0] else evidence_of(stored[1])
                ledger.see(latest[0].population, Checkpoint(latest[0].version, latest[0].root), evidence, after=seen)

    def current(self) -> Published | None:
        """The model in use; None if there is none yet, or no service.

        Raises:
            IntegrityError: the stored model is damaged.
        """
        service = self._service
        if service is None:
            return None
        with Journal(self._store.file) as journal:
            latest = journal.editions()[-1:]
            if not latest:
                return None
            if self._read is not None and self._read[0] == latest[0].manifest:
                return self._read[1]
            stored = journal.files()
        if stored is None:
            return None
        edition, files = stored
        read = published.unpack(files, public_key=service.public_key, most=service.most_bytes)
        self._read = (edition.manifest, read)
        return read

    def in_use(self) -> Mapping[str, bytes]:
        """The files of the model in use; empty if there is none, or if it is damaged and must be replaced."""
        try:
            current = self.current()
        except IntegrityError:
            return {}
        return {} if current is None else current.files
