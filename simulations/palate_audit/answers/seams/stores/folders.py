"""Folders: keys of stores, damaged files, erasures and what is left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import file_sizes, made_folder
from palate_audit.answers.made.stores import NOW, made_disk
from palate_audit.answers.made.telling import as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_client.consent import PURPOSES, Consent
from palate_client.events import Event
from palate_client.store import erasing, folder, key_file, store_file
from palate_client.store.folder import StoreFolder
from palate_client.store.journal import Journal
from palate_client.store.retention import Limits
from palate_client.store.store import EventStore
from palate_client.store.vault import Caller, Holder, Keyring, Vault, new_key
from palate_core.errors import PalateError

NAMES = ("db", "new", "journal", "reserve", "deliveries", "denied-train")


class _Kept:
    """A folder that stores are made, opened, damaged and erased in."""

    def __init__(self, dice: Dice, answer: CaseAnswer, path: Path, room: SimpleNamespace) -> None:
        self.dice, self.answer, self.path, self.room = dice, answer, path, room
        self.clock, self.stores = MadeClock(NOW), list[EventStore]()
        holders: tuple[Holder, ...] = (Caller(b"k" * 32), Caller(b"k" * 33), Keyring())
        self.holder, self.app, self.old = dice.one_of(holders), "shelf", b""

    def tried(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call, and tell what it raises; None where it did."""
        return tell_refusal(self.answer, call, *args, **named)

    def year(self) -> None:
        """Some of what happens to a store, and then it is opened or erased."""
        troubles = (self.strange, self.end, self.lose, self.lose, self.damage, self.restore, self.beside, self.deny,
                    self.stray, self.stray, self.blocked)  # fmt: skip
        self.step(self.open)
        for trouble in self.dice.some_of(troubles, 0.15):
            self.step(trouble)
        self.step(self.dice.one_of((self.open, self.erase, self.erase, self.forget, self.forget)))

    def step(self, step: Callable[[], None]) -> None:
        """One thing that happens, and what is in the folder then."""
        self.answer.tell(step.__name__)
        step()
        self.answer.tell(as_text(file_sizes(self.path) if self.path.is_dir() else None))
        for each in self.stores:
            self.answer.tell(each.file.state, each.file.openings, as_text(each.granted))
        file = self.path / key_file.KEY_FILE
        if file.exists():
            self.answer.tell(file.read_bytes(), file.stat().st_mode & 0o777)

    def open(self) -> None:
        """Open, and store something."""
        vault = Vault(self.path, self.app, self.holder)
        made = self.tried(EventStore, StoreFolder(self.path, vault), limits=Limits(), clock=self.clock)
        if made is not None:
            self.stores.append(made)
            self.tried(Consent(made).grant, "store")
            self.answer.tell(
                as_text(self.tried(made.add, [Event("like", "a")])),
                as_text(self.tried(lambda: len(list(made.events())))),
            )

    def strange(self) -> None:
        """Open with another key, another app, or another holder."""
        holder: Any = self.dice.one_of((Caller(b"o" * 32), self.holder, Keyring(), Caller(b"k" * 32)))
        vault = Vault(self.path, self.dice.one_of((self.app, "Shelf", "till", "s" * 101)), holder)
        made = self.tried(EventStore, StoreFolder(self.path, vault), limits=Limits(), clock=self.clock)
        if made is not None:
            self.stores.append(made)

    def erase(self) -> None:
        """Erase by one that is open."""
        if self.stores:
            still = self.dice.chance(0.8)
            self.answer.tell(self.tried(self.dice.one_of(self.stores).erase, still=lambda: still))

    def end(self) -> None:
        """Close one."""
        if self.stores:
            each = self.dice.one_of(self.stores)
            each.close()
            each.close()
            self.tried(each.add, [Event("like", "b")])
            self.tried(each.first)

    def forget(self) -> None:
        """Erase without a key."""
        where: Any = self.dice.one_of((self.path, str(self.path), self.path / "other", "", "a\0b", 7))
        self.tried(erasing.erase, where)
        self.answer.tell(erasing.folder_of(self.path) == self.path, erasing.folder_of("x") == Path.cwd() / "x")

    def lose(self) -> None:
        """Files go, become empty, or come."""
        files = sorted(
            each for each in self.path.glob("*.*") if not each.name.startswith(".") and each.suffix != ".db-shm"
        )
        for each in self.dice.some_of(files, 0.3):
            if each.name != key_file.KEY_FILE or self.dice.chance(0.5):
                each.unlink() if self.dice.chance(0.6) else each.write_bytes(b"")

    def stray(self) -> None:
        """Files come that are no store's, or another one's."""
        if not self.path.is_dir():
            return
        for _ in range(3):
            stem = self.dice.one_of(("ab" * 16, "cd" * 16, "AB" * 16, "photo", "ab" * 15))
            (self.path / f"{stem}.{self.dice.one_of((*NAMES, 'png'))}").write_bytes(self.dice.one_of((b"", b"x")))
        (self.path / f".{key_file.KEY_FILE}.draft").write_bytes(b"")
        if self.dice.chance(0.3):
            (self.path / key_file.KEY_FILE).unlink(missing_ok=True)

    def blocked(self) -> None:
        """A folder is where a file should be."""
        file = self.dice.one_of((self.path / "lock", *sorted(self.path.glob("*.reserve"))))
        if self.path.is_dir() and not file.is_dir():
            file.unlink(missing_ok=True)
            file.mkdir()

    def damage(self) -> None:
        """Another key file."""
        file = self.path / key_file.KEY_FILE
        if not self.path.is_dir():
            return
        data = file.read_bytes() if file.exists() else b"{}"
        self.old = data if len(data) > 200 else self.old
        tombs = (b'{"erased":"%s","format":1}' % (b"ab" * 16), b'{"erased":"x","format":1}')
        file.write_bytes(
            self.dice.one_of((*tombs, *tombs, data[:-9], data.replace(b"shelf", b"till"), b"", data + b" " * 9))
        )

    def restore(self) -> None:
        """The former key file comes back."""
        if self.old and self.path.is_dir():
            (self.path / key_file.KEY_FILE).write_bytes(self.old)

    def beside(self) -> None:
        """Other files, a lock, and leisure."""
        if not self.stores:
            return
        each = self.dice.one_of(self.stores)
        self.tried(lambda: Journal(each.file).close())
        self.tried(self._together, each)
        self.tried(each.file.checkpoint)
        with suppress(PalateError):
            with each.file.at_leisure():
                each.add([Event("like", f"c{self.dice.whole(0, 99)}")])
                pragma = each.file.open()._connection.execute("PRAGMA wal_autocheckpoint").fetchone()
            self.answer.tell(pragma, each.file.open()._connection.execute("PRAGMA wal_autocheckpoint").fetchone())

    def _together(self, each: EventStore) -> None:
        """Two that are online at once, and one that opens while another does."""
        with each.file.alone_online():
            self.tried(lambda: each.file.alone_online().__enter__())
        with each.file.there():
            self.tried(lambda: each.file.folder.lock().__enter__())

    def deny(self) -> None:
        """Decisions, on a disk that may be full, or can't be written."""
        if not self.stores:
            return
        each = self.dice.one_of(self.stores)
        self.room.free = self.dice.one_of((2**40, 4096, 4095, 1024, 1023, 0))
        purpose: Any = self.dice.one_of(("train", "store", "panel"))
        broken = mock.patch.object(Path, "touch", side_effect=OSError(28, "full"))
        with broken if self.dice.chance(0.4) else ExitStack():
            self.tried(each.file.deny, purpose)
        self.answer.tell(as_text(self.tried(each.file.denied)), as_text(self.tried(Consent(each).get, purpose)))
        for other in self.stores:
            self.answer.tell(as_text(self.tried(Consent(other).get, "train")))
        if self.dice.chance(0.5):
            each.file.decided(purpose)
        self.tried(Consent(each).grant, self.dice.one_of(PURPOSES))


@contextmanager
def drawer(dice: Dice) -> Iterator[dict[tuple[str, str], str]]:
    """A keyring of the operating system; or one that is locked, or none."""
    entries = dict[tuple[str, str], str]()
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    failing: Any = type("KeyringError", (Exception,), {})
    absent: Any = type("NoKeyringError", (failing,), {})
    trouble = dice.one_of((None,) * 8 + (failing, absent))

    def called(name: str, *values: str) -> Any:
        if trouble is not None and len(entries) == trouble_after:
            raise trouble("locked 7")
        if name == "set":
            entries[values[0], values[1]] = values[2]
        place = values[0], values[1]
        return entries.pop(place, None) if name == "delete" else entries.get(place)

    trouble_after = dice.whole(0, 1)
    parts = {"set_password": "set", "get_password": "get", "delete_password": "delete"}
    for attribute, name in parts.items():
        setattr(module, attribute, lambda *values, name=name: called(name, *values))
    errors.KeyringError, errors.NoKeyringError = failing, absent  # type: ignore[attr-defined]
    module.errors = errors  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"keyring": module, "keyring.errors": errors}):
        yield entries


def _keys(dice: Dice, answer: CaseAnswer) -> None:
    """Folders of stores, their keys, and what is left of them."""
    with ExitStack() as stack:
        for owner, name in ((folder, "LOCK_SECONDS"), (store_file, "BUSY_SECONDS")):
            stack.enter_context(mock.patch.object(owner, name, 0.0))
        path, entries = stack.enter_context(made_folder(answer)), stack.enter_context(drawer(dice))
        room = stack.enter_context(made_disk(dice.one_of((2**40, 4096, 4095, 1023))))
        (path / "file").write_bytes(b"")
        lived = _Kept(dice, answer, path / dice.one_of(("deep", "deep", "deep", "deep", "file")) / "s", room)
        for _ in range(dice.whole(2, 3)):
            lived.year()
            answer.tell(entries)
            if entries and dice.chance(0.3):
                entries[next(iter(entries))] = dice.one_of(("!", "a2V5", "\u00fc"))
                if dice.chance(0.4):
                    entries.clear()
        for each in lived.stores:
            each.close()


def _key_files(dice: Dice, answer: CaseAnswer) -> None:
    """Bytes of key files."""
    whole = key_file.Wrapped(dice.one_of(("shelf", "s" * 100, "s" * 101, "")), "ab" * 16, dice.one_of(key_file.HOLDERS),
                             dice.bytes(16), dice.bytes(12), dice.bytes(48))  # fmt: skip
    answer.tell(whole.header, whole.to_bytes())
    for _ in range(12):
        found: dict[str, Any] = json.loads(whole.to_bytes())
        if dice.chance(0.3):
            found = {"erased": "cd" * 16, "format": 1}
        wrong: tuple[Any, ...] = (
            None,
            1,
            2,
            True,
            1.0,
            "",
            "x",
            "ab" * 16,
            "AB" * 16,
            "ab" * 12,
            "ab" * 48,
            "ab" * 17,
            "a" * 31,
            [],
            {},
            "keyring",
            0,
            -1,
        )
        for name in dice.some_of([*found, "more"], 0.2):
            found[name] = dice.one_of(wrong)
        for name in dice.some_of(list(found), 0.03):
            del found[name]
        data = json.dumps(found).encode()
        size = dice.one_of((0, 0, 0, 4096, 4097))
        tell_text(
            answer,
            key_file.parse,
            data.ljust(size) if dice.chance(0.95) else dice.one_of((b"[" * 4000, b"\xff", b"[]")),
        )
    for text in ("ab" * 16, "ab" * 15 + "a", "\u0663" * 32, b"ab" * 16, "ab" * 16 + "\n", None):
        answer.tell(key_file.is_id(text))
    with made_folder(answer) as path:
        file = path / "key.json"
        tell_text(answer, key_file.read, file)
        tell_text(answer, key_file.bury, file, "ab" * 16)
        file.write_bytes(b"x" * dice.one_of((0, 10, 54, 4095, 4096, 5000)))
        tell_text(answer, key_file.read, file)
        tell_text(answer, dice.one_of((lambda: key_file.bury(file, "ef" * 16), lambda: key_file.overwrite(file))))
        answer.tell(file.read_bytes())
        tell_text(answer, key_file.read, file)
        with mock.patch.object(key_file, "sync", side_effect=OSError(5, "bad")):
            tell_text(answer, key_file.bury, file, "ef" * 16)
        answer.tell(file.exists())
        tell_text(answer, key_file.read, path)
    answer.tell(new_key())
    for key in (b"k" * 31, b"k" * 32, "k" * 32, None):
        tell_text(answer, lambda key=key: bool(Caller(key)))


SEAMS: tuple[Seam, ...] = (
    Seam("store: keys, damaged files, erasures and what is left", _keys, 18),
    Seam("store: key files of every form", _key_files, 18),
)
