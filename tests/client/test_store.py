"""The encrypted store: nothing readable on disk, nothing lost, nothing doubled."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palate
from palate import Device, Event, Limits, Tracked
from palate_client.store.folder import StoreFolder
from palate_client.store.vault import Caller, Vault
from palate_common.records.file_lock import FileLock
from palate_core.errors import ClosedError, ErasedError, IntegrityError, LockedError, PalateError, WrongKeyError

KEY, DAY = bytes(range(32)), 86_400.0
Open = Callable[..., Device]


def items(device: Device) -> list[str]:
    return [event.item for event in device.store.events()]


def test_what_was_tracked_is_there_after_reopening(open_device: Open, clock: Any) -> None:
    with open_device() as device:
        assert (
            device.track("rate", "book-7", value=4, source="offline", id="till-1", props={"till": 3}) is Tracked.STORED
        )
        assert device.track("view", "book-8", time=clock.now - 60) is Tracked.STORED
    first, second = open_device().store.events()
    assert first == Event("rate", "book-7", clock.now, 4.0, "offline", "till-1", {"till": 3})
    assert (second.kind, second.item, second.time, len(second.id)) == ("view", "book-8", clock.now - 60, 32)


def test_what_sqlite_sorts_stays_in_memory(device: Device) -> None:
    with device.store.transaction() as connection:
        assert str(connection.execute("PRAGMA temp_store").fetchone()[0]) == "2"


def test_the_folder_is_its_owners_alone(device: Device, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key.json").stat().st_mode & 0o777 == 0o600


def test_an_event_with_an_id_is_stored_once(device: Device) -> None:
    events = [Event("purchase", "a", id="1"), Event("purchase", "b", id="1"), Event("purchase", "a", id="2")]
    assert device.track_many(events) == [Tracked.STORED, Tracked.DUPLICATE, Tracked.STORED]
    assert device.track("like", "c", id="2") is Tracked.DUPLICATE
    assert items(device) == ["a", "a"]


def test_without_an_id_the_same_within_the_window_is_stored_once(open_device: Open, clock: Any) -> None:
    device = open_device(limits=Limits(window_seconds=2.0))
    assert device.track("view", "a") is Tracked.STORED
    clock.now += 1.9
    assert [device.track("view", "a"), device.track("like", "a")] == [Tracked.DUPLICATE, Tracked.STORED]
    device.close()
    device = open_device(limits=Limits(window_seconds=2.0))
    assert device.track("view", "a") is Tracked.DUPLICATE  # also after a restart
    clock.now += 2.0
    assert device.track("view", "a") is Tracked.STORED
    clock.now -= 1.0  # the clock is set back
    assert device.track("view", "a") is Tracked.DUPLICATE
    clock.now -= 3600.0
    assert device.track("view", "a") is Tracked.STORED


def test_events_with_times_of_their_own_are_the_same_only_if_these_times_are_close(
    open_device: Open, clock: Any
) -> None:
    limits = Limits(window_seconds=2.0)
    week = [Event("purchase", "a", time=clock.now - day * DAY) for day in range(7)]
    for outcome in (Tracked.STORED, Tracked.DUPLICATE):  # the queue is delivered again, after a restart
        with open_device(limits=limits) as device:
            assert device.track_many(week) == [outcome] * 7
    device, at = open_device(limits=limits), clock.now - 30 * DAY
    outcomes = [device.track("view", "b", time=at + seconds) for seconds in (0, -1.9, 1.9, 4, 2.1, 2, 6.5)]
    same = (Tracked.STORED, Tracked.DUPLICATE)
    assert outcomes == [same[repeated] for repeated in (0, 1, 1, 0, 1, 0, 0)]
    values = [(at, 3), (at + 1, 5), (at + 1.1, 3), (at + 1.2, 3)]
    assert [device.track("rate", "c", value=value, time=time) for time, value in values] == [*same[:1] * 3, same[1]]


def test_past_events_are_all_kept_and_count_for_their_own_days(open_device: Open, clock: Any) -> None:
    limits = Limits(max_per_day=100)
    device = open_device(limits=limits)
    midnight = clock.now // DAY * DAY
    past = [Event("view", f"i{n % 160}", time=midnight - 1 - n * 1200) for n in range(5000)]
    assert Counter(device.track_many(past)) == {Tracked.STORED: 5000}
    assert device.track_many([Event("click", f"i{n}") for n in range(101)])[99:] == [Tracked.STORED, Tracked.LIMITED]
    for days, stored in ((0, 0), (1, 100 - 72), (1, 0)):  # each day has its own limit
        outcomes = Counter(device.track("click", f"{stored}-{n}", time=clock.now - days * DAY) for n in range(40))
        assert outcomes[Tracked.STORED] == stored
    device.close()
    assert open_device(limits=limits).track("click", "other", time=clock.now - DAY) is Tracked.LIMITED


def test_a_changed_mind_is_no_repeat_and_the_same_verdict_is(open_device: Open) -> None:
    device = open_device()
    assert device.track("rate", "a", value=3) is Tracked.STORED
    assert device.track("rate", "a", value=3.0) is Tracked.DUPLICATE
    assert device.track("rate", "a", value=5) is Tracked.STORED
    device.close()
    device = open_device()
    assert device.track("rate", "a", value=5) is Tracked.DUPLICATE  # also after a restart
    assert device.track("rate", "a", value=3) is Tracked.STORED
    assert [event.value for event in device.store.events()] == [3, 5, 3]


def test_two_handles_see_each_other(open_device: Open) -> None:
    mine, yours = open_device(), open_device()
    assert mine.track("view", "a") is Tracked.STORED
    assert yours.track("view", "a") is Tracked.DUPLICATE
    assert yours.track("view", "b") is Tracked.STORED
    assert items(mine) == items(yours) == ["a", "b"]
    yours.consent.revoke("store")
    assert mine.track("view", "c") is Tracked.NO_CONSENT


def test_a_times_future_is_now_and_an_unset_clock_says_nothing(open_device: Open, clock: Any) -> None:
    device, now = open_device(), clock.now
    device.track("view", "future", time=now + 1e9)
    device.track("view", "past", time=now - 1e7)
    clock.now = 3600.0  # 1970: the clock was never set
    device.track("view", "unset")
    device.track("view", "told", time=now)
    assert [event.time for event in device.store.events()] == [now, now - 1e7, None, now]


def test_a_flood_is_bounded_by_the_day(open_device: Open, clock: Any) -> None:
    limits = Limits(max_per_day=10)
    device = open_device(limits=limits)
    outcomes = Counter(device.track("click", f"i{n}") for n in range(15))
    assert outcomes == {Tracked.STORED: 10, Tracked.LIMITED: 5}
    device.close()
    assert open_device(limits=limits).track("click", "after a restart") is Tracked.LIMITED
    clock.now += DAY
    assert open_device(limits=limits).track("click", "tomorrow") is Tracked.STORED


def test_above_the_bound_impressions_go_first_then_the_oldest(open_device: Open, clock: Any) -> None:
    device = open_device(limits=Limits(max_events=20))
    device.track_many([Event("like", f"old-{n}", clock.now - 1000 - n) for n in range(8)])
    device.track_many([Event("impression", f"shown-{n}") for n in range(3)])
    device.track_many([Event("like", f"new-{n}") for n in range(9)])
    assert len(items(device)) == 20
    device.track("like", "one more")  # drops 1 + a tenth: the three impressions
    assert items(device) == [*(f"old-{n}" for n in range(8)), *(f"new-{n}" for n in range(9)), "one more"]
    device.track_many([Event("like", f"newer-{n}") for n in range(3)])
    assert items(device)[:5] == [f"old-{n}" for n in range(5)]
    assert items(device)[5] == "new-0"


def test_the_file_stays_below_its_bound(open_device: Open, folder: Path) -> None:
    bound = 2**20
    device = open_device(limits=Limits(max_bytes=bound, max_per_day=10**6))
    for start in range(0, 9000, 300):
        device.track_many([Event("view", f"{start + n:0100d}", props={"text": "x" * 200}) for n in range(300)])
    kept = items(device)
    assert 1000 < len(kept) < 9000
    assert kept[-1] == f"{8999:0100d}"
    device.close()
    (file,) = folder.glob("*.db")
    assert file.stat().st_size <= bound * 1.05


def test_what_is_too_old_is_dropped_at_opening(open_device: Open, clock: Any) -> None:
    limits = Limits(keep_days=10)
    device = open_device(limits=limits)
    device.track_many([Event("view", "old", clock.now - 9 * DAY), Event("view", "new")])
    device.close()
    clock.now += 2 * DAY
    assert items(open_device(limits=limits)) == ["new"]


def test_what_comes_after_a_reset_counts_though_all_before_it_was_dropped(open_device: Open, clock: Any) -> None:
    with open_device() as device:
        device.track_many([Event("like", f"i{n}") for n in range(5)])
        device.reset_taste()
    clock.now += 20 * DAY
    with open_device(limits=Limits(keep_days=10)) as device:
        assert items(device) == []
        assert device.track("like", "i1")
        assert device.interests(["i0", "i1"]).interactions().indices.tolist() == [1]


def test_what_is_too_old_is_said_at_once(open_device: Open, clock: Any) -> None:
    device = open_device(limits=Limits(keep_days=10))
    assert device.track_many([Event("view", "a", clock.now - days * DAY) for days in (9.9, 10.1)]) == [
        Tracked.STORED,
        Tracked.TOO_OLD,
    ]


def test_a_clock_that_leaps_ahead_deletes_nothing(open_device: Open, clock: Any) -> None:
    def history() -> list[str]:
        with open_device() as device:
            device.track("view", f"{clock.now}")
            return items(device)[:5]

    with open_device() as device:
        device.track_many([Event("purchase", f"{n}", time=clock.now - n * 170 * DAY) for n in range(5)])
    five = [f"{n}" for n in range(5)]
    for years in (10, 10.01, 1):  # for a while, then it is set right
        for _ in range(9):
            clock.now += years * 365 * DAY
            assert history() == five
            clock.now -= (years * 365 - 1 / 24) * DAY
        assert history() == five
    clock.now += 3650 * DAY
    for _ in range(29):
        clock.now += DAY
        assert history() == five


def test_a_long_absence_is_believed_once_the_clock_has_run_on(open_device: Open, clock: Any) -> None:
    with open_device() as device:
        device.track("view", "old")
    clock.now += 3 * 365 * DAY
    for days, left in ((0, ["old"]), (29, ["old"]), (2, [])):
        clock.now += days * DAY
        with open_device() as device:
            device.consent.grant("store")
            assert items(device)[:1] == left, days


def test_a_clock_that_is_not_set_makes_nothing_old(open_device: Open, clock: Any) -> None:
    with open_device() as device:
        device.track("view", "a")
    start = clock.now
    for times, now in enumerate((5.0, start + 3650 * DAY, start + DAY, 5.0, start + 2 * DAY), 1):
        clock.now = now  # 1970 says nothing: what comes after it is a leap as it would be without
        with open_device() as device:
            device.track("view", f"{times}")
            assert items(device) == ["a", *(f"{n}" for n in range(1, times + 1))]


def test_an_event_that_is_not_kept_takes_no_id(open_device: Open, clock: Any) -> None:
    device = open_device(limits=Limits(keep_days=10))
    days = (11, 1, 1)
    outcomes = device.track_many([Event("view", "a", clock.now - day * DAY, id="till-1") for day in days])
    assert outcomes == [Tracked.TOO_OLD, Tracked.STORED, Tracked.DUPLICATE]


@pytest.mark.parametrize(("every", "behind"), [(13, 0), (31, 0), (60, 60), (400, 400)])
def test_a_right_clock_deletes_though_the_device_is_opened_rarely(
    open_device: Open, clock: Any, every: int, behind: int
) -> None:
    for _ in range(0, 900, every):
        clock.now += every * DAY
        with open_device(limits=Limits(keep_days=50)) as device:
            device.track("like", f"{clock.now}")
            ages = [(clock.now - event.time) / DAY for event in device.store.events()]
            assert max(ages) <= 50 + behind


def test_a_clock_is_believed_a_month_after_a_long_absence(open_device: Open, clock: Any) -> None:
    with open_device(limits=Limits(keep_days=100)) as device:
        device.track("like", "old")
    clock.now += 300 * DAY
    for day in range(60):
        assert ("old" in items(open_device(limits=Limits(keep_days=100)))) == (day < 30)
        clock.now += DAY


def test_an_app_that_stays_open_for_months_deletes_what_is_too_old(open_device: Open, clock: Any) -> None:
    device = open_device(limits=Limits(keep_days=10))
    for _ in range(60):
        clock.now += DAY
        device.track("view", f"{clock.now}")
        assert len(items(device)) <= 11
    clock.now = 5.0  # a clock that isn't set says nothing
    assert device.track("view", "unset")
    assert len(items(device)) == 12


@pytest.mark.parametrize("limits", [{"keep_days": 0}, {"max_events": 0}, {"max_bytes": 1}, {"window_seconds": -1}])
def test_bounds_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(palate.InputError, match=r"\A`[a-z_]+` must be a number from \d+, got [^\n]*\Z"):
        Limits(**limits)


def test_acknowledging_is_a_commit_and_flushing_waits_for_the_disk(device: Device) -> None:
    statements: list[str] = []
    connection = device.store.file.open()._connection
    connection.set_trace_callback(statements.append)
    device.track("view", "a")
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert "COMMIT" in statements
    assert not [text for text in statements if "synchronous =" in text]
    statements.clear()
    device.flush()
    levels = [text for text in statements if text in ("PRAGMA synchronous = 2", "COMMIT", "PRAGMA synchronous = 1")]
    assert levels == ["PRAGMA synchronous = 2", "COMMIT", "PRAGMA synchronous = 1"]
    assert statements[-1] == "PRAGMA wal_checkpoint(PASSIVE)"
    statements.clear()
    device.consent.grant("train")
    assert statements.index("PRAGMA synchronous = 2") < statements.index("COMMIT")


def test_a_batch_is_whole_or_not_at_all(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.store, "_delete_excess", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    assert device.track_many([Event("view", "a"), Event("view", "b")]) == [Tracked.FAILED] * 2
    monkeypatch.undo()
    assert items(device) == []
    assert device.track("view", "a") is Tracked.STORED  # what failed is no repeat


def test_erasing_leaves_nothing_that_opens_a_copy(open_device: Open, folder: Path, tmp_path: Path) -> None:
    device, other = open_device(), open_device()
    device.track("like", "secret")
    device.flush()
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in folder.glob("*.db*"):
        shutil.copy(file, copies)
    device.erase()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert [each.track("view", "later") for each in (device, other)] == [Tracked.NO_CONSENT] * 2
    for each in (device, other):
        with pytest.raises(ErasedError):
            each.consent.get("store")
    fresh = open_device()
    assert (items(fresh), len(fresh.consent.history())) == ([], 1)
    fresh.track("view", "new")
    shutil.copytree(copies, folder, dirs_exist_ok=True)
    other.close()  # must not touch its successor's files
    fresh.close()
    assert items(open_device()) == ["new"]
    shutil.copy(folder / "key.json", copies)  # nothing left on the device opens the old file
    key = json.loads((copies / "key.json").read_text())
    (old,) = copies.glob("*.db")
    old.rename(copies / f"{key['store']}.db")
    for extra in copies.glob("*.db-*"):
        extra.unlink()
    with pytest.raises(IntegrityError):
        palate.open(copies, app="shelf", key=KEY)


def test_an_erasing_that_was_cut_short_is_finished(open_device: Open, folder: Path) -> None:
    with open_device() as device:
        device.track("view", "b")
        vault = device.store.file.folder.vault
        vault.destroy(vault.store() or "")  # killed after the key went
    with open_device(consent=False) as device:
        assert (items(device), device.consent.history()) == ([], ())
    assert len(list(folder.glob("*.db"))) == 1


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_events_that_are_gone_are_missed_and_not_replaced(open_device: Open, folder: Path, how: str) -> None:
    open_device().close()
    (file,) = folder.glob("*.db")
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(b"")
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(IntegrityError, match=r"\Athe store must have its events, got [^\n]*palate.erase[^\n]*\Z"):
        open_device()
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_store_whose_making_was_cut_short_is_made(open_device: Open, folder: Path) -> None:
    vault = Vault(folder, "shelf", Caller(KEY))
    place = StoreFolder(folder, vault)
    place.make()
    with place.lock():
        store, _ = place.settle()  # killed before the events' file was there
    assert {path.suffix for path in folder.iterdir()} == {".json", ".new", ""}
    with open_device() as device:
        assert device.track("view", "a")
    assert vault.store() == store
    assert not list(folder.glob("*.new"))


def test_a_key_file_that_was_being_written_at_a_kill_is_removed(open_device: Open, folder: Path) -> None:
    open_device().close()
    draft = folder / ".key.json.k1ll3d"
    draft.write_bytes((folder / "key.json").read_bytes())
    with open_device() as device:
        assert not draft.exists()
        device.erase()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_damaged_store_is_an_integrity_error_and_can_be_erased(open_device: Open, folder: Path, capfd: Any) -> None:
    with open_device() as device:
        device.track_many([Event("view", f"i{n}") for n in range(500)])
    (file,) = folder.glob("*.db")
    data = bytearray(file.read_bytes())
    data[6000:] = b"\xff" * (len(data) - 6000)
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"\Athe store must be intact, got a damaged file: [^\n]*\Z"):
        open_device()
    assert capfd.readouterr() == ("", "")


def test_tracking_into_a_damaged_store_fails_softly(open_device: Open, folder: Path, caplog: Any) -> None:
    device = open_device()
    device.track_many([Event("view", f"i{n}") for n in range(500)])
    device.flush()
    (wal,) = folder.glob("*.db")
    device.store.file.disconnect()
    data = bytearray(wal.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    wal.write_bytes(data)
    assert [device.track("view", "a"), device.track("view", "b")] == [Tracked.FAILED] * 2
    assert "damaged" in device.problem
    assert len(caplog.records) == 1  # said once
    device.erase()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_locked_store_is_waited_for_then_given_up(open_device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate_client.store.store_file.BUSY_SECONDS", 0.1)
    mine, yours = open_device(), open_device()
    with mine.store.transaction(write=True):
        assert yours.track("view", "a") is Tracked.FAILED
        assert "another process" in yours.problem
    assert yours.track("view", "a") is Tracked.STORED


def test_while_another_process_opens_nothing_is_erased(open_device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate_client.store.folder.LOCK_SECONDS", 0.0)
    device = open_device()
    place = device.store.file.folder
    with FileLock(place.path / "lock"):
        for erase in (device.erase, lambda: palate.erase(place.path)):
            with pytest.raises(LockedError, match=r"\Athe store must be free, got [^\n]*\Z"):
                erase()
        assert device.track("view", "a") is Tracked.STORED
    device.erase()


def test_erasing_waits_for_no_writer_and_what_that_one_writes_is_gone(open_device: Open, folder: Path) -> None:
    mine, yours = open_device(), open_device()
    with mine.store.transaction(write=True):
        yours.erase()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert mine.track("view", "a") is Tracked.NO_CONSENT


def test_a_closed_device_stores_nothing_and_harms_nobody(device: Device) -> None:
    device.close()
    device.close()
    assert device.track("view", "a") is Tracked.FAILED
    with pytest.raises(ClosedError):
        device.flush()


def test_places_where_no_store_can_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(palate.InputError, match=r"\Athe store must be [^\n]*\Z"):
            palate.open(path, app="a", key=KEY)


def test_errors_are_of_one_tree() -> None:
    assert issubclass(WrongKeyError, palate.InputError)
    assert issubclass(ErasedError, PalateError)
