"""People: whose devices a node hosts. Each has a store, a token and sources of their own.

    node.json            the owner's token, hashed; the server whose rounds its people may join
    keys/NAME            the key of a person's store: put this folder on another disk
    people/NAME/         person.json: their token, hashed, whether they are on, their sources; store/: their device

**Guarantees:** tokens keep people apart: each reaches one person's device, and only its hash is kept.
**Guarantees:** who is switched off is neither read nor shown until switched on; who is erased can't be read again.

**Assumes:** its people trust who runs the node, as with the media server beside it, for keys and stores are theirs.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from palate_client.device import Device, open_device
from palate_client.history.formats import Row
from palate_client.history.preview import HistoryReport, RowMatcher, preview_rows
from palate_client.service import Service
from palate_client.starter import Starter
from palate_client.store.erasing import erase
from palate_client.store.vault import new_key
from palate_common.enrolment import Invitation
from palate_common.models.item_table import ItemTable
from palate_common.records.closing import Closing
from palate_common.records.file_lock import FileLock
from palate_common.records.files import create_durably, make_folder, write_durably
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import digest
from palate_node.sources import MediaServer, source_of

APP = "node"
OWNER = "owner"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_NODE, _PERSON = "node.json", "person.json"
_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class PersonSettings:
    """What is kept of a person beside their store.

    Attributes:
        token: its hash.
        on: whether anything is read, shown or sent.
        sources: kind and settings of each.
        invitation: to the population that the person takes part in; None: to none.
    """

    token: str
    on: bool = True
    sources: tuple[Mapping[str, str], ...] = ()
    invitation: str | None = field(default=None, repr=False)


class HostedPerson:
    """One person's device, opened when it is first used.

    Args:
        name: the person's name on this node.
        home: the node's folder.
        starter: what is recommended by before a server's model is there.
        service: whose rounds the person may join; None: there is none.

    Attributes:
        said: where history is from -> how it went the last time.
    """

    def __init__(self, name: str, home: Path, starter: Starter, service: Service | None) -> None:
        self.name, self._home, self._starter, self._service = name, home, starter, service
        self.folder = home / "people" / name
        self.said = dict[str, str]()
        try:
            self.settings = _read(PersonSettings, self.folder / _PERSON)
        except InputError as error:  # the others go on; who gets another token is switched on again by a button
            self.settings, self.said["switched off"] = PersonSettings("", on=False), str(error)
        self._device: Device | None = None
        self._finds: tuple[ItemTable, RowMatcher] | None = None
        self._lock = threading.RLock()

    @property
    def device(self) -> Device:
        """The person's device.

        Raises:
            InputError: the person was switched off.
        """
        with self._lock:
            if not self.settings.on:
                raise InputError("a person must be switched on, got one who is off")
            if self._device is None:
                path = self._home / "keys" / self.name
                if not path.is_file():
                    raise InputError(f"a person's key must be in {path}, got none")
                self._device = open_device(self.folder / "store", app=APP, key=path.read_bytes(), service=self._service)
                if self._device.model() is None:  # in memory alone: a store has the models of its own population
                    model = self._starter.published
                    self._device.use_model(model.model, model.items, domains=model.domains)
            return self._device

    @property
    def table(self) -> ItemTable:
        """Titles and public ids of the model in use."""
        found = self.device.items()
        return self._starter.published.table or ItemTable.of(()) if found is None else found

    @property
    def sources(self) -> list[MediaServer]:
        """What the person's history is read from."""
        return list(map(source_of, self.settings.sources))

    @property
    def matcher(self) -> RowMatcher:
        """What finds the model's items."""
        table = self.table
        with self._lock:
            if self._finds is None or self._finds[0] is not table:
                self._finds = table, RowMatcher(table)
            return self._finds[1]

    def take(self, rows: Iterable[Row], service: str, *, made_known: bool = False) -> HistoryReport:
        """Store what the person did, as a part of one import for each service; without consent nothing is stored.

        Raises:
            InputError: the person was switched off.
            PalateError: the store can't be written; nothing was stored.
        """
        device = self.device
        found = preview_rows(device.store, self.matcher, rows, service, of="titles")
        sure = [each for each in found.to_confirm if made_known and len(each.items) == 1]
        with self._lock:
            before = [each.id for each in device.imports() if each.service == service]
            report = found.store(sure, into=before[-1] if before else None)
        unsure = len(found.to_confirm) - len(sure)
        self.said[service] = f"{report.stored} new, {found.unknown} not in the catalogue, {unsure} that may be several"
        return report

    def change(self, **changes: Any) -> None:
        """Keep other settings; a person who is switched off has no open device."""
        with self._lock:
            self.settings = replace(self.settings, **changes)
            _write(self.folder / _PERSON, asdict(self.settings))
            if not self.settings.on:
                self.close()

    def erase(self) -> None:
        """Leave the server if it answers, destroy the store's key, then all files of the person, even damaged ones.

        Raises:
            PalateError: the key can't be destroyed; it is tried again by the next call.
        """
        with self._lock:
            with suppress(PalateError):  # a store that can't be opened is erased all the same
                self.settings = replace(self.settings, on=True)
                if self.device.service is not None and self.device.enrolment is not None:
                    self.device.leave(seconds=10.0)
            self.settings = replace(self.settings, on=False)
            self.close()
            with suppress(InputError):  # there was none yet
                erase(self.folder / "store")
            (self._home / "keys" / self.name).unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    def close(self) -> None:
        """Close the device; the next use opens it again."""
        with self._lock:
            device, self._device = self._device, None
            if device is not None:
                device.close()


class HostedPeople(Closing):
    """The people of a node.

    Args:
        home: the node's folder.
        starter: what is recommended by before a server's model is there.

    Raises:
        LockedError: a node runs there, or is changed by a command.
    """

    def __init__(self, home: Path, starter: Starter) -> None:
        self.home, self._starter = home, starter
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(home / "lock")
        folders = sorted((home / "people").iterdir()) if (home / "people").is_dir() else []
        found = (each.name for each in folders if (each / _PERSON).is_file())
        self._people = {name: HostedPerson(name, home, starter, self.service) for name in found}

    def __iter__(self) -> Iterator[HostedPerson]:
        return iter(list(self._people.values()))

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """What `node.json` has."""
        path = self.home / _NODE
        return _read(dict[str, Any], path) if path.is_file() else {}

    @property
    def service(self) -> Service | None:
        """The server whose rounds people may join; None: there is none."""
        kept = self._kept.get("service")
        return None if kept is None else _service(kept)

    def get(self, name: str) -> HostedPerson:
        """A person by name.

        Raises:
            InputError: there is none.
        """
        if name not in self._people:
            raise InputError(f"`name` must be one of {', '.join(self._people) or 'nobody'}, got {name!r:.80}")
        return self._people[name]

    def add(self, name: str) -> str:
        """Add a person, or give one another token; "owner" is who runs the node. The token is shown once.

        Raises:
            InputError: it is no name.
        """
        if not NAME.fullmatch(name):
            raise InputError(f"`name` must be a name of a-z, 0-9 and -, got {name!r:.80}")
        token = str(uuid.uuid4())  # of 122 random bits, in the shape of ListenBrainz's: Supysonic keeps 36 characters
        for folder in (self.home / "keys", self.home / "people"):
            make_folder(folder)
            folder.chmod(0o700)
        if name == OWNER:
            self._kept["owner"] = digest(token.encode())
            _write(self.home / _NODE, self._kept)
        elif name in self._people:
            self._people[name].change(token=digest(token.encode()))
        else:
            key, folder = self.home / "keys" / name, self.home / "people" / name
            if not key.exists():
                create_durably(key, new_key(), mode=0o600)
            make_folder(folder)
            _write(folder / _PERSON, asdict(PersonSettings(digest(token.encode()))))
            self._people[name] = HostedPerson(name, self.home, self._starter, self.service)
        return token

    def of(self, token: str) -> HostedPerson | str | None:
        """Whose token it is: a person, `OWNER`, or None."""
        hashed = digest(token.encode("utf-8", "replace"))
        if secrets.compare_digest(hashed, str(self._kept.get("owner", ""))):
            return OWNER
        return next((each for each in self if secrets.compare_digest(hashed, each.settings.token)), None)

    def invite(self, name: str, invitation: Invitation, **limits: Any) -> None:
        """Let a person take part in a population, once they agree to it. A node takes part in one.

        Args:
            name: the person.
            invitation: of the population's operator.
            limits: of `Service`, such as `epsilon`.

        Raises:
            InputError: there is no such person, or it is of another population or key than the node's first.
        """
        person = self.get(name)
        known: dict[str, Any] = {"public_key": invitation.public_key, "population": invitation.population}
        known |= {"witnesses": invitation.witnesses, "quorum": invitation.quorum} if invitation.witnesses else {}
        kept = self._kept.get("service", {**known, **limits})
        _service(kept).check_invitation(invitation)
        self._kept["service"] = kept
        _write(self.home / _NODE, self._kept)
        person.change(invitation=invitation.to_json())

    def erase(self, person: HostedPerson) -> None:
        """Erase a person, see `HostedPerson.erase`."""
        person.erase()
        self._people.pop(person.name, None)

    def close(self) -> None:
        """Close all devices, and let others have the folder."""
        for each in self:
            each.close()
        self._lock.close()


def _service(kept: Mapping[str, Any]) -> Service:
    return Service(**{**kept, "witnesses": tuple(kept.get("witnesses", ()))})


def _read(of: type[_Kept], path: Path) -> _Kept:
    try:
        found: _Kept = TypeAdapter(of).validate_json(path.read_bytes())
        return found
    except (OSError, ValueError):  # their words may have what the file has
        raise InputError(f"{path} must be as this node writes it, got something else") from None


def _write(path: Path, value: object) -> None:
    write_durably(path, json.dumps(value, indent=1).encode(), mode=0o600)
