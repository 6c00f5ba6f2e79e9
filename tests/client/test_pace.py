"""Pace: who tracks goes first, and long work never keeps the store to itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate import Device, Event, Tracked
from palate_client.portability import BATCH
from palate_client.recommend.interests import Interests
from palate_client.store import pace
from palate_client.store.store import PAGE
from palate_client.store.store_file import PAGES, StoreFile
from palate_core.errors import PalateError

COUNT = 1000


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves by sleeping only."""
    now = [0.0]
    monkeypatch.setattr(pace, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pace, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_work_rests_after_each_piece_and_not_within_one(time: list[float]) -> None:
    step = pace.Pace()
    step()
    assert time[0] == 0
    time[0] = pace.PIECE
    step()
    assert time[0] == pace.PIECE + pace.REST


def test_work_rests_while_another_thread_tracks_and_not_for_ever(time: list[float]) -> None:
    step = pace.Pace()
    with pace.ahead():
        step()
    assert pace.PATIENCE <= time[0] < pace.PATIENCE + 3 * pace.REST
    rested = time[0]
    step()
    assert time[0] == rested


def test_beside_who_tracks_all_the_time_each_piece_gets_done(time: list[float]) -> None:
    step, worked, steps = pace.Pace(), pace.PIECE / 10, 100
    with pace.ahead():
        for _ in range(steps):
            time[0] += worked
            step()
    pieces = steps * worked / pace.PIECE
    assert pieces - 1 <= (time[0] - steps * worked) / pace.PATIENCE < (pieces + 1) * 1.1


def test_who_tracks_goes_ahead_and_an_import_does_not(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, seen = device.store.add, list[bool]()
    monkeypatch.setattr(
        device.store, "add", lambda *args, **named: (seen.append(bool(pace._ahead)), real(*args, **named))[1]
    )
    assert device.track("view", "a") is Tracked.STORED
    (tmp_path / "a.jsonl").write_text('{"kind": "view", "item": "b"}\n')
    assert device.import_jsonl(tmp_path / "a.jsonl").stored == 1
    assert (seen, pace._ahead) == ([True, False], set())


@pytest.mark.parametrize("work", ["export", "import", "loyalty", "interests", "tuning"])
def test_long_work_lets_go_of_the_store_after_each_page(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: str
) -> None:
    device.track_many([Event("view", f"i{n}") for n in range(COUNT)])
    (tmp_path / "a.jsonl").write_text("".join(f'{{"kind": "click", "item": "{n}"}}\n' for n in range(COUNT)))
    works: dict[str, Callable[[], object]] = {
        "export": lambda: device.export(tmp_path / "out.jsonl"),
        "import": lambda: device.import_jsonl(tmp_path / "a.jsonl"),
        "loyalty": device.loyalty,
        "interests": device.interests(["i1"]).look,
        "tuning": device.tuning,
    }
    rests, pieces = list[bool](), list[int]()

    def other(step: pace.Pace) -> None:
        """Whether another thread could work on the store now."""
        found = list[bool]()
        thread = threading.Thread(target=lambda: found.append(_free(device.store.lock)))
        if len(rests) < 20:
            thread.start()
            thread.join()
            rests.extend(found)
        pieces.append(1)

    monkeypatch.setattr(pace.Pace, "__call__", other)
    connection = device.store.file.open()._connection
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    works[work]()
    connection.set_trace_callback(None)
    assert rests
    assert all(rests)
    assert len(pieces) >= COUNT // PAGE - 1
    reads = [text for text in statements if "FROM events WHERE seq >" in text]
    assert all(f"LIMIT {PAGE}" in text for text in reads)
    if work == "import":
        assert statements.count("COMMIT") >= COUNT // BATCH


def test_while_interests_are_worked_out_who_tracks_needs_not_wait_and_who_forks_does(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    interests, found, real = device.interests(["i1"]), list[bool](), Interests._look_at

    def made(*args: Any) -> Any:
        thread = threading.Thread(target=lambda: found.extend(map(_free, (device.store.lock, interests._lock))))
        thread.start()
        thread.join()
        return real(*args)

    monkeypatch.setattr(Interests, "_look_at", made)
    device.track("like", "i1")
    assert interests.look().interactions.nnz == 1
    assert found == [True, False]


def _free(lock: Any) -> bool:
    """Whether this thread gets a lock at once."""
    got = lock.acquire(blocking=False)
    if got:
        lock.release()
    return bool(got)


def test_no_commit_of_an_import_moves_the_wal_to_the_main_file(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, limits = device.store.file, list[int]()
    real = device.store.add

    def limit() -> int:
        (found,) = file.open()._connection.execute("PRAGMA wal_autocheckpoint").fetchone()
        return int(found)

    monkeypatch.setattr(device.store, "add", lambda *args, **named: (limits.append(limit()), real(*args, **named))[1])
    (tmp_path / "a.jsonl").write_text("".join(f'{{"kind": "click", "item": "{n}"}}\n' for n in range(50)))
    assert device.import_jsonl(tmp_path / "a.jsonl").stored == 50
    assert limits == [0, 0]
    assert limit() == PAGES
    (wal,) = file.folder.path.glob("*.db-wal")
    database = file.open()._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert database[1] == database[2]  # all of it has been moved
    assert wal.exists()


def test_after_an_import_that_could_not_move_the_wal_later_commits_do(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: StoreFile) -> None:
        raise PalateError("a full disk")

    (tmp_path / "a.jsonl").write_text('{"kind": "view", "item": "b"}\n')
    with monkeypatch.context() as patched:
        patched.setattr(StoreFile, "checkpoint", full)
        assert device.import_jsonl(tmp_path / "a.jsonl").stored == 1
    connection = device.store.file.open()._connection
    assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (PAGES,)


@pytest.mark.parametrize("work", ["flush", "import"])
def test_a_fork_of_another_thread_closes_no_file_that_is_being_worked_on(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: str
) -> None:
    file, threads = device.store.file, list[threading.Thread]()
    real = file.open

    def opened() -> Any:
        database = real()
        threads.append(threading.Thread(target=file.disconnect))  # as before a fork
        threads[-1].start()
        threads[-1].join(0.05)
        return database

    (tmp_path / "a.jsonl").write_text('{"kind": "view", "item": "b"}\n')
    works = {"flush": device.flush, "import": lambda: device.import_jsonl(tmp_path / "a.jsonl").stored == 1}
    monkeypatch.setattr(file, "open", opened)
    assert works[work]() in (None, True)
    for thread in threads:
        thread.join()


def test_an_import_into_a_store_that_is_erased_meanwhile_ends(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = device.store.add
    monkeypatch.setattr(device.store, "add", lambda *args, **named: (device.erase(), real(*args, **named))[1])
    (tmp_path / "a.jsonl").write_text('{"kind": "view", "item": "b"}\n')
    assert device.import_jsonl(tmp_path / "a.jsonl").not_stored == 1


def test_a_report_leaves_the_files_of_the_store_as_they_are(device: Device, folder: Path) -> None:
    device.privacy_report()
    (journal,) = folder.glob("*.journal")
    before = journal.read_bytes(), journal.stat().st_mtime_ns
    device.privacy_report()
    assert (journal.read_bytes(), journal.stat().st_mtime_ns) == before


def test_opening_the_journal_keeps_no_event_waiting(device: Device) -> None:
    with device.store.file.beside("journal"):
        found = list[bool]()
        thread = threading.Thread(target=lambda: found.append(_free(device.store.lock)))
        thread.start()
        thread.join()
    assert found == [True]


def test_threads_of_an_event_loop_may_do_everything_at_once(device: Device, tmp_path: Path) -> None:
    async def main() -> list[Any]:
        tracks = [asyncio.to_thread(device.track, "view", f"i{n}") for n in range(20)]
        works = (device.loyalty, device.privacy_report, device.flush)
        return await asyncio.gather(
            *tracks, asyncio.to_thread(device.export, tmp_path / "a.jsonl"), *map(asyncio.to_thread, works)
        )

    assert asyncio.run(main())[:20] == [Tracked.STORED] * 20
    assert len(list(device.store.events())) == 20
