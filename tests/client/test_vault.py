"""The vault: one key opens a store, and a destroyed one opens nothing."""

from __future__ import annotations

import builtins
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
from keyring.errors import KeyringLocked, PasswordDeleteError

import palate
from palate_client.store.vault import Caller, Vault
from palate_core.errors import InputError, IntegrityError, PalateError, WrongKeyError

KEY, OTHER = bytes(range(32)), bytes(32)


class Drawer(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1.0  # type: ignore[assignment] # keyring's own declaration is a class property

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


@pytest.fixture
def drawer() -> Any:
    before, drawer = keyring.get_keyring(), Drawer()
    keyring.set_keyring(drawer)
    yield drawer
    keyring.set_keyring(before)


def test_a_new_key_opens_its_store_only(tmp_path: Path) -> None:
    key = palate.new_key()
    assert len({key, palate.new_key()}) == 2
    palate.open(tmp_path, app="a", key=key).close()
    palate.open(tmp_path, app="a", key=key).close()
    with pytest.raises(WrongKeyError, match=r"\A`key` must be the one this store was made with, got another[^\n]*\Z"):
        palate.open(tmp_path, app="a", key=OTHER)


@pytest.mark.parametrize("key", [b"", b"secret", bytes(31), "text" * 8])
def test_a_key_that_cannot_be_random_is_refused(tmp_path: Path, key: Any) -> None:
    with pytest.raises(InputError, match=r"\A`key` must be at least 32 random bytes, [^\n]*\Z"):
        palate.open(tmp_path / "new", app="a", key=key)
    assert not (tmp_path / "new").exists()


def test_another_app_is_refused(tmp_path: Path) -> None:
    palate.open(tmp_path, app="a", key=KEY).close()
    with pytest.raises(InputError, match=r"\A`app` must be 'a', whose store this is, got 'b'\Z"):
        palate.open(tmp_path, app="b", key=KEY)


def test_every_member_of_the_key_file_is_authenticated(tmp_path: Path) -> None:
    vault = Vault(tmp_path, "a", Caller(KEY))
    vault.create("ab" * 16)
    opened = vault.open()
    assert len(opened) == 32
    file = tmp_path / "key.json"
    original = json.loads(file.read_text())
    assert opened.hex() not in file.read_text()
    for member, value in original.items():
        changed = {"format": 2, "holder": "keyring", "app": "b"}.get(member) or f"{int(value[0], 16) ^ 1:x}{value[1:]}"
        file.write_text(json.dumps(original | {member: changed}))
        app = "b" if member == "app" else "a"
        with pytest.raises(PalateError, match=r"\A[^\n]* must [^\n]*\Z"):
            Vault(tmp_path, app, Caller(KEY)).open()
    file.write_text(json.dumps(original))
    assert vault.open() == opened


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}', b"nonsense"])
def test_a_damaged_key_file_is_an_integrity_error(tmp_path: Path, data: bytes) -> None:
    palate.open(tmp_path, app="a", key=KEY).close()
    (tmp_path / "key.json").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"\Akey.json must be [^\n]*\Z"):
        palate.open(tmp_path, app="a", key=KEY)


WRAPPED = {"app": "a", "format": 1, "holder": "caller", "nonce": "00" * 12, "salt": "00" * 16, "store": "ab" * 16}


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": 7},
        {"salt": "zz" * 16},
        {"salt": "00"},
        {"nonce": None},
        {"store": "x"},
        {"store": "AB" * 16},
        {"holder": ["caller"]},
        {"app": {}},
        {"format": True},
        {"wrapped": "00" * 47},
        "[" * 5000,
        "[" * 2000,
        '{"format": 1, "erased": 7}',
        " " * 2**13 + "{}",
    ],
)
def test_a_key_file_of_other_types_and_sizes_is_an_integrity_error(tmp_path: Path, changes: Any) -> None:
    text = changes if isinstance(changes, str) else json.dumps({**WRAPPED, "wrapped": "00" * 48, **changes})
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"\Akey.json must be [^\n]*\Z"):
        palate.open(tmp_path, app="a", key=KEY)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_tombstone_deletes_nothing_outside_its_own_folder(tmp_path: Path, absolute: bool) -> None:
    """It is signed by nobody: a restored or synced folder may say anything."""
    photos, store = tmp_path / "photos.db", tmp_path / "store"
    photos.touch()
    store.mkdir()
    named = str(tmp_path / "photos") if absolute else "../photos"
    (store / "key.json").write_text(json.dumps({"format": 1, "erased": named}))
    with pytest.raises(IntegrityError):
        palate.open(store, app="a", key=KEY)
    assert photos.exists()


def test_a_store_whose_key_file_is_gone_is_not_replaced(tmp_path: Path) -> None:
    palate.open(tmp_path, app="a", key=KEY).close()
    (tmp_path / "key.json").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WrongKeyError, match="nobody can open it any more"):
        palate.open(tmp_path, app="a", key=KEY)
    assert sorted(tmp_path.iterdir()) == before


def test_destroying_leaves_no_wrapped_key_even_in_the_old_file(tmp_path: Path) -> None:
    vault = Vault(tmp_path, "a", Caller(KEY))
    store = "ab" * 16
    vault.create(store)
    wrapped = json.loads((tmp_path / "key.json").read_text())["wrapped"]
    file, link = tmp_path / "key.json", tmp_path / "link"
    link.hardlink_to(file)  # the blocks of the old file, which a rename alone would leave
    vault.destroy(store)
    assert link.read_bytes() == file.read_bytes()
    assert wrapped.encode() not in link.read_bytes()
    assert (vault.store(), vault.store_in_erasure()) == (None, store)
    with pytest.raises(WrongKeyError):
        vault.open()


def test_keys_are_not_shown() -> None:
    assert KEY.hex() not in repr(Caller(KEY))
    assert repr(KEY) not in repr(Vault(Path(), "a", Caller(KEY)))


def test_the_keyring_keeps_a_key_a_store(tmp_path: Path, drawer: Drawer) -> None:
    with palate.open(tmp_path, app="a") as device:
        device.consent.grant("store")
        device.track("like", "book-7")
    ((service, _), secret), *rest = drawer.kept.items()
    assert (service, len(secret), rest) == ("palate/a", 44, [])
    with palate.open(tmp_path, app="a") as device:
        assert [event.item for event in device.store.events()] == ["book-7"]
        with pytest.raises(InputError, match=r"\A`key` of this store must be left out: the keyring has it\Z"):
            palate.open(tmp_path, app="a", key=KEY)


def test_after_erasing_not_even_a_copy_of_the_whole_folder_opens_under_a_keyring(
    tmp_path: Path, drawer: Drawer
) -> None:
    with palate.open(tmp_path / "store", app="a") as device:
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        device.erase()
    assert drawer.kept == {}
    with pytest.raises(WrongKeyError, match="the keyring must have the key of this store of 'a', got none"):
        palate.open(tmp_path / "copy", app="a")


def test_a_locked_keyring_is_said_in_one_line(tmp_path: Path, drawer: Drawer) -> None:
    palate.open(tmp_path, app="a").close()
    drawer.locked = True
    with pytest.raises(PalateError, match=r"\Athe keyring must give the key, got: locked\Z"):
        palate.open(tmp_path, app="a")


def test_a_changed_entry_of_the_keyring_opens_nothing(tmp_path: Path, drawer: Drawer) -> None:
    palate.open(tmp_path, app="a").close()
    for secret in ("nonsense!", "", "A" * 44):
        drawer.kept = dict.fromkeys(drawer.kept, secret)
        with pytest.raises(WrongKeyError, match=r"\A[^\n]*, got [^\n]*\Z"):
            palate.open(tmp_path, app="a")


def test_a_keyring_that_does_not_let_go_is_told_and_all_else_is_gone(tmp_path: Path, drawer: Drawer) -> None:
    device = palate.open(tmp_path, app="a")
    drawer.locked = True
    with pytest.raises(PalateError, match="locked"):
        device.erase()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_machine_without_a_keyring_says_how_to_go_on(tmp_path: Path, drawer: Drawer) -> None:
    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(InputError, match=r"\A`key` must be given on a machine without a keyring: [^\n]*new_key"):
        palate.open(tmp_path, app="a")


def test_the_keyring_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actual: Callable[..., Any] = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "keyring":
            raise ModuleNotFoundError(name="keyring")
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"pip install 'palate\[keyring\]'"):
        palate.open(tmp_path, app="a")


@pytest.mark.parametrize("broken", ["key.json", "*.db", "key", "nothing"])
def test_a_store_that_cannot_be_opened_can_be_erased_and_begun_anew(tmp_path: Path, broken: str) -> None:
    with palate.open(tmp_path, app="a", key=KEY) as device:
        device.consent.grant("store")
        (tmp_path / "photo.db").touch()  # stays, and is in nobody's way
        (tmp_path / ".key.json.k1ll3d").write_bytes((tmp_path / "key.json").read_bytes())
        if broken != "key":
            (file,) = [path for path in tmp_path.glob(broken) if path.name != "photo.db"] or [tmp_path / "nothing"]
            file.write_bytes(b"x" * 5000)
        palate.erase(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) in (
            ["lock", "photo.db"],
            ["lock", "nothing", "photo.db"],
        )
        assert device.track("view", "a") is palate.Tracked.NO_CONSENT
    with palate.open(tmp_path, app="b", key=OTHER) as device:
        assert device.consent.history() == ()


@pytest.mark.parametrize("kind", ["symbolic", "pipe"])
def test_a_key_file_that_is_a_link_destroys_nothing_elsewhere(tmp_path: Path, kind: str) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "store"
    victim.write_text("mine")
    folder.mkdir()
    if kind == "symbolic":
        (folder / "key.json").symlink_to(victim)
    else:
        os.mkfifo(folder / "key.json")
    with pytest.raises(PalateError, match=r"\A[^\n]+\Z"):
        palate.open(folder, app="a", key=KEY)
    (folder / f"{'ab' * 16}.db").touch()
    palate.erase(folder)
    assert victim.read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_erasing_a_folder_needs_a_store_in_it_and_takes_its_entry_out_of_the_keyring(
    tmp_path: Path, drawer: Drawer
) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"\A`path` must be the folder of a store, got [^\n]*\Z"):
            palate.erase(path)
    assert list(tmp_path.iterdir()) == []
    palate.open(tmp_path, app="a").close()
    palate.erase(tmp_path)
    assert drawer.kept == {}


def test_files_of_others_are_no_store_by_their_names_alone(tmp_path: Path) -> None:
    names = sorted([f"{'0a' * 16}.jpg", "settings.new", "settings.db"])
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="must be the folder of a store"):
        palate.erase(tmp_path)
    palate.open(tmp_path, app="a", key=KEY).close()
    palate.erase(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "lock"])


def test_what_is_left_of_an_erasing_that_was_cut_short_is_removed(tmp_path: Path) -> None:
    palate.open(tmp_path, app="a", key=KEY).close()
    (file,) = tmp_path.glob("*.db")
    vault = Vault(tmp_path, "a", Caller(KEY))
    vault.destroy(file.stem)
    for path in tmp_path.glob(f"{file.stem}.*"):
        path.unlink()
    (tmp_path / f"{file.stem}.journal-wal").touch()
    palate.erase(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_path_in_the_users_home_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    palate.open("~/shelf", app="a", key=KEY).close()
    assert (tmp_path / "home" / "shelf" / "key.json").exists()
    with pytest.raises(InputError, match=r"\A`path` must be in the home of a user that there is, got [^\n]*\Z"):
        palate.open("~nobody-of-this-name/shelf", app="a", key=KEY)
    with pytest.raises(InputError, match=r"\A`path` must be text that names files, got [^\n]*\Z"):
        palate.open("\ud800", app="a", key=KEY)
    palate.erase("~/shelf")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("path", ["", "a\0b", None, b"here"])
def test_a_path_that_names_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\A`path` must name the folder of the store, got [^\n]*\Z"):
        palate.open(path, app="a", key=KEY)
    assert list(tmp_path.iterdir()) == []
