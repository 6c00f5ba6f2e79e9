"""A server folder that one process looks at again and again: its ledger is read once, and then what is new of it.

    with WatchedSite(site.folder) as watched:
        with watched.reading() as ledger:  # as often as you like
            ledger.entries()

Metrics read it every few seconds, for years.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from palate_common.records.closing import Closing
from palate_core.log.entries import Entry
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger


class WatchedSite(Site, Closing):
    """A server folder whose `reading` keeps the ledger, in memory too, until it is closed.

    Entries are shared by all who read: nobody may change what is in their facts.

    **Guarantees:** a file that was replaced, or written to by no transaction, is read and checked from its first
    entry on; so is one of which reading failed. SQLite itself writes to it when it takes the write-ahead log over.
    """

    @contextmanager
    def reading(self) -> Iterator[Ledger]:
        """The ledger as it is now; another thread waits."""
        kept = self._kept
        with kept.lock:
            found = kept.open(self)
            try:
                yield found
            except BaseException:
                kept.close()
                raise

    def close(self) -> None:
        """Close the ledger; who reads again opens it again."""
        with self._kept.lock:
            self._kept.close()

    @cached_property
    def _kept(self) -> _Kept:
        return _Kept()


class _Kept:
    """The open ledger, and what its file was when it was opened."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._ledger: _ReadLedger | None = None
        self._stamp: tuple[int, ...] = ()

    def open(self, site: Site) -> Ledger:
        """The ledger, opened anew if its file is another than it was."""
        stamp = _stamp(site.ledger_file)
        if self._ledger is None or stamp != self._stamp:
            self.close()
            self._stamp = stamp
            self._ledger = _ReadLedger(site.ledger_file, population=site.config.population, read_only=True)
        return self._ledger

    def close(self) -> None:
        """Close it, and forget what was read."""
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None


class _ReadLedger(Ledger):
    """A ledger whose entries are parsed once."""

    @cached_property
    def _parsed(self) -> list[Entry]:
        return []

    def entries(self, run: str | None = None, *, since: int = 0) -> list[Entry]:
        """As in `Ledger`."""
        self._parsed += super().entries(since=len(self._parsed))
        return [entry for entry in self._parsed[since:] if run is None or getattr(entry, "run", None) == run]


def _stamp(file: Path) -> tuple[int, ...]:
    """What is another once a file was replaced or written to."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
