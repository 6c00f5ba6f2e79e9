"""The touches of Flower's internals: one version, and logs that are files."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from importlib.metadata import version

import pytest
import uvicorn
from flwr.supercore import cli
from flwr.supercore.logger import FLOWER_LOGGER, console_handler, update_console_handler
from flwr.supercore.object_store import in_memory_object_store
from flwr.superlink import main as superlink
from flwr.superlink.servicer.fleet import fleet_handlers

from palate_common.errors import InputError
from palate_server.flower import superlink_state as flower
from palate_server.flower.superlink import adapt
from palate_server.flower.superlink_state import SUPEREXEC, check_version


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
    monkeypatch.setitem(sys.modules, cli.__name__, cli)  # the command loads itself alone
    command = sys.modules[f"{cli.__name__}.flower_superexec"]
    monkeypatch.setattr(command, "flower_superexec", lambda: started.append(sys.argv[0]))
    replaced: list[tuple[object, str]] = [  # by `adapt`, in this process
        (superlink, "_get_middleware"),
        (fleet_handlers, "push_messages"),
        (in_memory_object_store, "validate_object_content"),
        (uvicorn, "run"),
    ]
    for module, name in replaced:
        monkeypatch.setattr(module, name, getattr(module, name))
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
