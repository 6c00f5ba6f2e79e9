"""The touches of Flower's internals: one version, and what its database keeps of messages."""

from __future__ import annotations

import logging
import sqlite3
import sys
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

import pytest
import uvicorn
from flwr.server.superlink.linkstate import LinkStateFactory, SqlLinkState, sql_linkstate
from flwr.server.superlink.linkstate.utils import generate_rand_int_from_bytes as draw
from flwr.supercore import cli, sql_mixin
from flwr.supercore.corestate.sql_corestate import SqlCoreState
from flwr.supercore.logger import FLOWER_LOGGER, console_handler, update_console_handler
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink import main as superlink

from palate_common.errors import InputError, PalateError
from palate_server.flower import superlink_state as flower
from palate_server.flower.superlink import adapt
from palate_server.flower.superlink_state import MESSAGES, SUPEREXEC, check_version, purge

pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # Flower's, of alembic


def test_the_known_version_is_installed() -> None:
    """Loudly: read `flower.py`, `superlink.py` and `grid.py` against a new version, try them, then raise KNOWN."""
    assert version("flwr").startswith(flower.KNOWN)
    check_version()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "version", lambda name: "1.43.0")
    with pytest.raises(InputError, match=r"Flower must be 1\.42\.x, .* got 1\.43\.0"):
        check_version()


def test_logs_that_go_to_a_file_have_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """SuperExec's and the SuperLink's; a setting of Flower's own would be better, and there is none."""
    started: list[str] = []
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": "said"})
    monkeypatch.setattr(cli, "flower_superexec", lambda: started.append(sys.argv[0]))
    for name in ("_get_middleware", "SQLITE_PRAGMAS"):  # which `adapt` replaces in this process
        module = superlink if name == "_get_middleware" else sql_mixin
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(SqlCoreState, "_cleanup_expired_task_tokens", SqlCoreState._cleanup_expired_task_tokens)
    monkeypatch.setattr(uvicorn, "run", uvicorn.run)
    monkeypatch.setattr(SqlLinkState, "create_node", SqlLinkState.create_node)
    monkeypatch.setattr(sql_linkstate, "generate_rand_int_from_bytes", draw)
    monkeypatch.setattr(sys, "argv", ["-c"])
    level = FLOWER_LOGGER.level
    try:
        for start in (lambda: exec(SUPEREXEC), adapt):  # noqa: S102 - what a process is started with
            update_console_handler(colored=True)
            assert "\033" in console_handler.format(record)
            with suppress(SystemExit):
                start()
            assert "\033" not in console_handler.format(record)
    finally:
        update_console_handler(colored=True)
        FLOWER_LOGGER.setLevel(level)
    assert started == ["flower-superexec"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Flower's own database, as its SuperLink makes it."""
    from flwr.superlink.federation import NoOpFederationManager

    path = tmp_path / "superlink.db"
    objects = ObjectStoreFactory(str(path))
    for made in (LinkStateFactory(str(path), NoOpFederationManager(), objects).state(), objects.store()):
        assert isinstance(made, sql_mixin.SqlMixin)
        assert made._engine is not None
        made._engine.dispose()  # Flower has no way to close what it opened
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


def test_of_when_a_node_was_there_the_day_is_left(database: Path) -> None:
    """To the second it would tell which nodes of two populations are one device; who is online stays so."""
    day, at = "2026-11-24", 1795532345.678
    with closing(sqlite3.connect(database)) as connection:
        for number, status in enumerate(("online", "offline")):
            times = (f"{day}T14:59:05.678+00:00",) * 3
            connection.execute(
                "INSERT INTO node(node_id, status, registered_at, last_activated_at, last_deactivated_at, online_until)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (number, status, *times, at),
            )
        connection.execute("INSERT INTO node(node_id, status) VALUES (2, 'registered')")
        connection.commit()
        purge(database)
        query = "SELECT registered_at, last_activated_at, last_deactivated_at, online_until FROM node ORDER BY node_id"
        assert connection.execute(query).fetchall() == [
            (day, day, day, at),
            (day, day, day, at - at % 86400),
            (None, None, None, None),
        ]
    assert b"14:59:05" not in b"".join(path.read_bytes() for path in database.parent.glob("superlink.db*"))


def test_a_database_that_is_none_is_not_purged(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with pytest.raises(PalateError, match="must be purged"):
        purge(path)
