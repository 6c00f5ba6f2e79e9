"""A store is of one version: another is refused, and its tables are made all or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from palate import Device
from palate_client.store import schema
from palate_core.errors import InputError, PalateError

Open = Callable[..., Device]


def test_a_store_of_another_version_is_refused_in_one_line(open_device: Open) -> None:
    with open_device() as device, device.store.transaction(write=True) as connection:
        connection.execute("PRAGMA user_version = 2")
    for _ in range(2):
        with pytest.raises(InputError, match=r"\Athe store must be of version 1, got 2\Z"):
            open_device()


def test_tables_are_made_all_or_none(open_device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "TABLES", (*schema.TABLES, "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(PalateError, match=r"\A[^\n]*no such table: nowhere[^\n]*\Z"):
        open_device()
    monkeypatch.undo()
    with open_device() as device:
        assert device.track("like", "book-7")
