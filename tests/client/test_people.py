"""Tests that accounts on one device inherit nothing, and that a move to another phone forgets no spend and no revocation."""

from pathlib import Path

import pytest

import palate
from palate_core.errors import InputError, WrongKeyError

KEY = bytes(range(32))


def _items(device: palate.Device) -> list[str]:
    return [event.item for event in device.store.events()]


def test_accounts_of_one_folder_inherit_nothing(tmp_path: Path) -> None:
    users = (None, "anna", "ben")
    for user in users:
        with palate.open(tmp_path, app="app", user=user, key=KEY) as device:
            assert (device.consent.history(), _items(device)) == ((), [])
            device.consent.grant("store")
            device.track("like", f"of {user}")
    with palate.open(tmp_path, app="app", user="ben", key=KEY) as device:
        device.consent.revoke("store")
        assert _items(device) == ["of ben"]
    palate.erase(tmp_path, user="anna")
    for user, found in (None, ["of None"]), ("anna", []), ("ben", ["of ben"]):
        with palate.open(tmp_path, app="app", user=user, key=KEY) as device:
            assert _items(device) == found
            assert device.consent.get("store") is (user is None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if "ben" in path.name or b"ben" in path.read_bytes()]


def test_a_users_store_is_opened_for_nobody_else(tmp_path: Path) -> None:
    palate.open(tmp_path, app="app", user="ben", key=KEY).close()
    (of_ben,) = (tmp_path / "users").iterdir()
    for user, app, said in (None, "app", "`user` must be the one"), (None, "other", "`app` must be 'app'"):
        with pytest.raises(InputError, match=said):
            palate.open(of_ben, app=app, user=user, key=KEY)
    with pytest.raises(WrongKeyError):
        palate.open(tmp_path, app="app", user="ben", key=bytes(32))
    with pytest.raises(InputError, match="`user` must be a name"):
        palate.open(tmp_path, app="app", user="", key=KEY)
