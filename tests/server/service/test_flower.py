"""The touches of Flower's internals: one version, and what its database keeps of messages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.object_store import ObjectStoreFactory

from palate_common.errors import InputError, PalateError
from palate_server.service import flower
from palate_server.service.flower import MESSAGES, check_version, purge

pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # Flower's, of alembic


def test_the_known_version_is_installed() -> None:
    """Loudly: read `flower.py`, `superlink.py` and `grid.py` against a new version, try them, then raise KNOWN."""
    assert version("flwr").startswith(flower.KNOWN)
    check_version()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "version", lambda name: "1.43.0")
    with pytest.raises(InputError, match=r"Flower must be 1\.42\.x, .* got 1\.43\.0"):
        check_version()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Flower's own database, as its SuperLink makes it."""
    from flwr.superlink.federation import NoOpFederationManager

    path = tmp_path / "superlink.db"
    LinkStateFactory(str(path), NoOpFederationManager(), ObjectStoreFactory(str(path))).state()
    return path


def test_every_table_that_may_hold_a_message_is_purged(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        blobs = {
            table
            for table in tables
            for _, _, kind, *_ in connection.execute(f"PRAGMA table_info({table})")
            if kind in ("BLOB", "VARBINARY", "LargeBinary")
        }
    assert set(MESSAGES) <= tables
    assert {table for table in tables if "message" in table or "object" in table} - set(MESSAGES) <= {
        "message",  # of AI agents' conversations, which this server has none of
        "task_message",
        "objectstore_locks",
    }
    assert "objects" in blobs


def test_an_update_is_gone_from_the_disk_after_the_purge(database: Path) -> None:
    secret = b"a clipped update of one device " * 2000
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "INSERT INTO objects(object_id, content, is_available, ref_count) VALUES ('a', ?, 1, 0)", (secret,)
        )
        connection.commit()
        files = [Path(f"{database}{suffix}") for suffix in ("", "-wal")]
        assert any(secret[:64] in file.read_bytes() for file in files if file.exists())
        assert purge(database) == 1
        assert not any(secret[:31] in file.read_bytes() for file in files if file.exists())


def test_a_database_that_is_none_is_not_purged(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with pytest.raises(PalateError, match="must be purged"):
        purge(path)
