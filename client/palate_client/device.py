"""Device: what an app embeds. Behaviour goes in, and stays in an encrypted store on this machine.

    import palate

    with palate.open("data/palate", app="bookshop", key=key) as device:
        device.consent.grant("store", version="2026-01")
        device.track("view", "book-7")

It has no thread, no queue and no network, so that there is nothing to lose when the host is killed, and nothing that
could hold up its exit. What the machine can't do (a full disk, a locked file) never raises from `track`: the outcome
says so, and `problem` why. A mistake of the app's (a kind that doesn't exist) does raise, in every environment alike.
"""

from __future__ import annotations

import logging
import time as _time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from palate_client.consent import Consent
from palate_client.delivering import Delivering
from palate_client.delivery.calendar import Calendar, Zone
from palate_client.events import Event, Kind, Source, Tracked
from palate_client.online.joining import Online
from palate_client.portability import ImportReport, export_lines, import_file
from palate_client.recommend.interests import Interests
from palate_client.recommending import Recommending
from palate_client.service import Service
from palate_client.sharing import Sharing
from palate_client.store.erasing import folder_of
from palate_client.store.folder import StoreFolder
from palate_client.store.pace import ahead
from palate_client.store.retention import Limits
from palate_client.store.store import EventStore
from palate_client.store.vault import Caller, Keyring, Vault
from palate_common.errors import InputError, PalateError
from palate_common.records.closing import Closing
from palate_common.records.files import write_durably
from palate_common.weighting import Weighting, weighting_of

if TYPE_CHECKING:
    from palate_client.models import Models
    from palate_common.models.published import Published

logger = logging.getLogger("palate")


class Device(Online, Sharing, Recommending, Delivering, Closing):
    """One user's Palate on this machine. Made by `palate.open`.

    Attributes:
        app: the app's name.
        consent: what the user agreed to.
        weighting: what an event counts.
        store: the encrypted events.
        service: the server it has models from and may take part with; None: there is none.
        calendar: the user's days and hours.
        problem: why the latest event could not be kept; empty if none failed.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        app: str,
        weighting: Weighting,
        service: Service | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        self.app, self.weighting, self.store, self.service = app, weighting, store, service
        self.calendar = calendar or Calendar()
        self.consent = Consent(store)
        self.problem = ""

    def track(
        self,
        kind: Kind,
        item: str,
        *,
        value: float | None = None,
        time: float | datetime | None = None,
        source: Source = "online",
        id: str = "",
        props: Mapping[str, Any] | None = None,
    ) -> Tracked:
        """Store one event. It survives a kill of the process when this returns.

        Args:
            kind: what the user did.
            item: with which item of the app's catalogue.
            value: seconds of a view or play, the verdict of a rate, the number of a purchase.
            time: when, seconds since 1970 or a `datetime` with a time zone; None: now.
            source: in the app, or elsewhere.
            id: the app's own id of the event, by which it is stored once.
            props: whatever else the app wants to find again, as JSON.

        Returns:
            What became of it; only `Tracked.STORED` is true. Without the user's consent to `store` nothing is stored.

        Raises:
            InputError: an argument that makes no sense.
        """
        return self._add([Event(kind, item, time, value, source, id, props)])[0]

    def track_many(self, events: Iterable[Event]) -> list[Tracked]:
        """Store events in one transaction: all that can be, or, if the machine fails, none.

        Args:
            events: in order.

        Returns:
            What became of each.
        """
        return self._add(list(events))

    def flush(self) -> None:
        """Bring what was tracked to the disk, so that it survives a power cut.

        Raises:
            PalateError: the disk does not take it.
        """
        self.store.flush()

    def interests(self, catalogue: Sequence[str]) -> Interests:
        """What the events say, against a catalogue. Keep the result: it only reads what is new.

        Args:
            catalogue: item ids in row order.
        """
        return Interests(self.store, catalogue, self.weighting)

    def import_jsonl(self, path: Path | str) -> ImportReport:
        """Store the events of a file of JSON lines, such as receipts, or another app's or Palate's own export.

        A line that is no event is reported and harms no other; a file that is read twice is stored once.

        Raises:
            InputError: the file can't be read.
            PalateError: the store can't be written; what was stored before stays.
        """
        return import_file(self.store, Path(path))

    def export_lines(self) -> Iterator[str]:
        """All of the user's data as lines of JSON."""
        yield from export_lines(self.store, app=self.app)
        yield from self._shared_lines()
        yield from self._delivery_lines()

    def export(self, path: Path | str) -> int:
        """Write all of the user's data to a file, readable by its owner alone, in the place of what was there.

        Returns:
            The number of lines.

        Raises:
            InputError: the file can't be written.
            PalateError: the store can't be read.
        """
        written = 0

        def lines() -> Iterator[bytes]:
            nonlocal written
            for line in self.export_lines():
                yield f"{line}\n".encode()
                written += 1

        try:
            write_durably(Path(path), lines(), mode=0o600)
        except OSError as error:
            raise InputError(f"`path` must be a file that can be written, got {path}: {error.strerror}") from None
        return written

    def erase(self) -> None:
        """Destroy the store's key, then its files. Nothing stored here can be read again, whoever has a copy of it.

        The device is closed; `palate.open` makes a new, empty store, to which nobody has consented.

        Raises:
            LockedError: another process is opening or erasing the store; nothing was erased.
            PalateError: the key can't be overwritten, and nothing was erased; or the keyring keeps its entry, or a file
                can't be removed now, and the key is gone.
        """
        self.forget_model()
        self.store.erase()

    def close(self) -> None:
        """Let go of the file. Not needed at exit: what was tracked is stored."""
        self.store.close()

    def __repr__(self) -> str:
        return f"Device(app={self.app!r}, {self.store.file.state})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """A copy would share the open file, and its locks."""
        raise InputError("a device must be opened where it is used, got an attempt to copy or pickle it: `palate.open`")

    def _take(self, read: Callable[[Models], Published]) -> bool:
        """Take a verified model into use, for recommending too."""
        changed = super()._take(read)
        if changed:
            self.forget_model()
        return changed

    def _add(self, events: list[Event]) -> list[Tracked]:
        """Store events; the machine's failures are told, not raised."""
        try:
            with ahead():
                return self.store.add(events)
        except (PalateError, OSError) as error:
            if self.problem != str(error):
                self.problem = str(error)
                logger.warning("events are not kept: %s", error)
            return [Tracked.FAILED] * len(events)


def open_device(
    path: Path | str,
    *,
    app: str,
    key: bytes | None = None,
    preset: str | Weighting = "plain",
    limits: Limits | None = None,
    service: Service | None = None,
    zone: Zone = None,
    clock: Callable[[], float] = _time.time,
) -> Device:
    """Open the encrypted store of this app's user, made if it isn't there.

    Args:
        path: a folder of its own, on a local disk.
        app: the app's name; a store opens only under the name it was made with.
        key: at least 32 random bytes that the app keeps, see `palate.new_key`. None: the operating system's keyring
            keeps a key (`pip install 'palate[keyring]'`). There is no store without encryption.
        preset: what an event counts: movies, music, news, plain or shop, or a `Weighting` of the app's own.
        limits: how much is kept, and how long.
        service: the server whose models the app uses and whose rounds its user may join; None: it does neither.
        zone: where the user is, for days and quiet hours: a time zone, its name, or a function that says it; None: what
            this machine is set to.
        clock: Unix time in seconds.

    Raises:
        WrongKeyError: the store was made with another key, or its own key is gone.
        InputError: the folder, the key or a setting can't be used, or the store is another app's.
        IntegrityError: a file of the store is damaged or gone; `palate.erase` is the way to begin anew.
        LockedError: another process kept the store locked.
    """
    if not isinstance(app, str) or not 1 <= len(app) <= 100 or not app.isprintable():
        raise InputError(f"`app` must be a name of 1 to 100 printable characters, got {app!r:.80}")
    weighting = preset if isinstance(preset, Weighting) else weighting_of(preset)
    calendar, folder = Calendar(zone), folder_of(path)
    vault = Vault(folder, app, Keyring() if key is None else Caller(key))
    store = EventStore(StoreFolder(folder, vault), limits=limits or Limits(), clock=clock)
    return Device(store, app=app, weighting=weighting, service=service, calendar=calendar)
