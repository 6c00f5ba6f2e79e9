"""A ledger that is kept open: what others write to it is seen, and what nobody may write is not believed."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from palate_core.errors import PalateError
from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.ledger_file import LedgerFile
from palate_server.ledger.log import Log
from palate_server.operation.terms import budgets_of
from palate_server.service.problems import problems
from palate_server.service.setup import make_site
from palate_server.service.status import read_status


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path / "site", 'population = "p"\n', ("a", "b"))
    runs(made, 0, 3)
    return made


def runs(site: Site, first: int, count: int) -> None:
    with site.ledger() as ledger:
        for number in range(first, first + count):
            ledger.open_run(f"run-{number}", {"about": {"period": 1}})
            ledger.charge(
                run=f"run-{number}", round_=0, attempt=0, plan_hash="ab" * 32, mu2=0.01, run_limit=None, facts={}
            )
            ledger.seal(run=f"run-{number}", round_=0, attempt=0, release_hash="cd" * 32)


def test_what_was_read_is_not_read_again_and_what_is_new_is_seen(site: Site) -> None:
    with (
        WatchedSite(site.folder) as watched,
        mock.patch.object(Log, "replay", autospec=True, side_effect=Log.replay) as replay,
    ):
        for _ in range(3):
            with watched.reading() as kept, site.ledger(read_only=True) as anew:
                replay.reset_mock()
                assert kept.entries() == anew.entries()
                assert kept.entries("run-1", since=2) == anew.entries("run-1", since=2)
                assert (kept.spent(), kept.checkpoint()) == (anew.spent(), anew.checkpoint())
                assert budgets_of(site.config, kept, now=1e9) == budgets_of(site.config, anew, now=1e9)
        assert read_status(watched) == read_status(site)
        replay.reset_mock()
        with site.ledger() as other:  # which stays open, as the ServerApp's does: SQLite leaves the file itself alone
            other.open_run("another", {})
            replay.reset_mock()
            with watched.reading() as kept:
                assert [entry.kind for entry in kept.entries()[-1:]] == ["open"]
            assert replay.call_count == 1, "the new entry, and no other"
            replay.reset_mock()
            read_status(watched)
            problems(watched, now=1e9, parts=None)
            assert replay.call_count == 0


def test_a_file_that_was_changed_or_replaced_is_read_from_its_first_entry_on(site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.folder, tmp_path / "copy")
    with WatchedSite(site.folder) as watched:
        assert len(read_status(watched).runs) == 3
        with closing(sqlite3.connect(site.ledger_file)) as stranger:
            stranger.executescript("DROP TRIGGER no_update; UPDATE entries SET leaf = replace(leaf, 'run-0', 'run-9')")
        assert "folder_damaged" in {each.code for each in problems(watched, now=1e9, parts=None)}
        with pytest.raises(PalateError):
            read_status(watched)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{site.ledger_file}{suffix}").unlink(missing_ok=True)
        shutil.copy(tmp_path / "copy" / "ledger.db", site.ledger_file)
        assert len(read_status(watched).runs) == 3
        site.ledger_file.write_bytes(b"nothing" * 1000)
        with pytest.raises(PalateError):
            read_status(watched)
        site.ledger_file.unlink()
        with pytest.raises(PalateError), watched.reading():
            pass


def test_several_threads_read_while_another_writes(site: Site) -> None:
    with WatchedSite(site.folder) as watched, ThreadPoolExecutor(4) as pool:
        writing = pool.submit(runs, site, 3, 10)
        found = [pool.submit(read_status, watched) for _ in range(12)]
        sizes = [each.result().attempts for each in found]
        writing.result()
        assert set(sizes) <= set(range(3, 14))
        assert read_status(watched).attempts == 13
    watched.close()
    with watched.reading() as ledger:
        assert isinstance(ledger, LedgerFile)
    watched.close()
