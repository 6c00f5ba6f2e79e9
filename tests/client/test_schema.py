"""Versions: a store of every released version opens, a failed step changes nothing, a newer store is refused.

`samples/store-1` was written by the first version, under the key of these tests. It is never written again: a later
version adds its own sample beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from palate import Device, Event
from palate_client.consent import Decision
from palate_client.store import schema, store_file
from palate_core.errors import InputError, PalateError

NOW = 1_790_000_000.0
SAMPLES = Path(__file__).parent / "samples"
Open = Callable[..., Device]


def version(device: Device) -> int:
    with device.store.transaction() as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def test_there_is_a_sample_of_every_version() -> None:
    assert {path.name for path in SAMPLES.glob("store-*")} == {f"store-{n + 1}" for n in range(len(schema.STEPS))}


@pytest.mark.parametrize("sample", ["store-1"])
def test_a_store_of_an_earlier_version_opens(open_device: Open, folder: Path, sample: str) -> None:
    shutil.copytree(SAMPLES / sample, folder)
    device = open_device(consent=False)
    assert version(device) == len(schema.STEPS)
    assert list(device.store.events()) == [
        Event("rate", "book-7", NOW, 4.0, "offline", "till-1", {"note": "kept"}),
        Event("view", "book-8", NOW, id="view-1"),
        Event("hide", "book-9", NOW, id="hide-1"),
    ]
    assert device.consent.history() == (
        Decision("store", True, "2026-01", NOW),
        Decision("messaging", False, "1", NOW),
    )
    assert device.track("like", "book-7")


def test_steps_are_taken_one_by_one_and_a_failed_one_not_at_all(
    open_device: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SAMPLES / "store-1", folder)
    good = ("CREATE TABLE notes(text TEXT)", "INSERT INTO notes SELECT item FROM events")
    bad = ("CREATE TABLE more(text TEXT)", "INSERT INTO nowhere VALUES (1)")
    current = schema.STEPS

    def migrate_with(*more: tuple[str, ...]) -> None:
        monkeypatch.setattr(store_file, "migrate", lambda database: schema.migrate(database, (*current, *more)))

    migrate_with(good, bad)
    with pytest.raises(PalateError, match=r"\A[^\n]*no such table: nowhere[^\n]*\Z"):
        open_device()
    migrate_with(good)
    with open_device() as device:
        assert version(device) == len(current) + 1
        with device.store.transaction() as connection:
            assert len(connection.execute("SELECT * FROM notes").fetchall()) == 3
            assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall() == []
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"\Athe store must be of version \d or older, got \d: update palate\Z"):
        open_device()
