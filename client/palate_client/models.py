"""Models: the global model this device uses, verified, never an older one, and whole at any moment.

folder -> published.read (signature, sizes, hashes, content) -> rollback, fork -> Journal (one transaction)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palate_client.journal import Edition, Journal
from palate_client.service import Service
from palate_client.store import EventStore
from palate_common import published
from palate_common.canonical import digest
from palate_common.device_ledger import DeviceLedger
from palate_common.errors import RefusedError
from palate_common.published import Published


class Models:
    """The model in use on this device.

    Args:
        store: whose device it is.
        service: whose models are accepted.
    """

    def __init__(self, store: EventStore, service: Service) -> None:
        self._store, self._service = store, service
        self._read: tuple[str, Published] | None = None

    def read(self, folder: Path) -> Published:
        """A published model, verified.

        Raises:
            IntegrityError: it doesn't verify.
        """
        return published.read(folder, public_key=self._service.public_key, most=self._service.most_bytes, small=True)

    def unpack(self, files: Mapping[str, bytes]) -> Published:
        """The same, from the bytes of its files."""
        return published.unpack(files, public_key=self._service.public_key, most=self._service.most_bytes)

    def take(self, found: Published, ledger: DeviceLedger) -> bool:
        """Take a verified model into use; False if it is already.

        Raises:
            RefusedError: it is another population's, older than the one in use, or proves a forked ledger.
        """
        service = self._service
        manifest, checkpoint = found.manifest, found.manifest.checkpoint
        if manifest.population != service.population:
            raise RefusedError(f"a model must be of {service.population!r}, got one of {manifest.population!r}")
        seen = ledger.seen_checkpoint(service.population)
        if seen is not None and seen.size == checkpoint.size and seen.root != checkpoint.root:
            raise RefusedError(f"the ledger must be one, got another of the same size {seen.size}: forked")
        signed = digest(found.files[published.MANIFEST])
        edition = Edition(manifest.population, checkpoint.size, checkpoint.root, signed, self._store.clock())
        with Journal(self._store.file) as journal:
            adopted = journal.adopt(edition, found.files)
        self._read = (signed, found)
        return adopted

    def current(self) -> Published | None:
        """The model in use; None before the first.

        Raises:
            IntegrityError: what was stored is not what was taken into use.
        """
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
        self._read = (edition.manifest, self.unpack(files))
        return self._read[1]
