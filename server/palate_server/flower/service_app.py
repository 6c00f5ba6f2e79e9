"""The ServerApp of a deployment: it runs an `Operation` whose messages go over Flower's grid.

    supervisor -> main -> Operation.serve -> run_round -> GridTransport -> PromptGrid -> SuperLink -> devices

    python -m palate_server.flower.service_app FOLDER

It runs until it is stopped, and a new process continues at the state of the ledger. It takes its tasks at the
SuperLinks itself, see `palate_server.flower.task`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path

from flwr.supercore.logger import update_console_handler

from palate_core.errors import LockedError, PalateError
from palate_server.flower.grid import PromptGrid
from palate_server.flower.messenger import GridMessenger
from palate_server.flower.spread_grid import Connection, SpreadGrid
from palate_server.flower.superlink_state import LinkControl, check_version
from palate_server.flower.task import identify, join, keep
from palate_server.folder.events import EventLog
from palate_server.folder.logs import PartLog
from palate_server.folder.server_folder import Site, owner_only
from palate_server.operation.operation import Operation
from palate_server.rounds.lock import RunLock

LOCK_SECONDS = 30.0
"""Seconds to wait for another owner of the server folder."""
TASK_SECONDS = 60.0
"""Seconds in which the first SuperLink must give the task."""
PULSE = 1.0
"""Seconds between two signs of life."""


def main(folder: Path) -> int:
    """Serve a server folder until this process is stopped; returns the exit code."""
    check_version()
    owner_only()
    update_console_handler(colored=False)  # the log is a file
    site = Site.at(folder)
    try:
        with _own(site) as lock:
            _show_life(lock.path)
            messenger = GridMessenger(grid_of(site))
            Operation(site, messenger, messenger.purge).serve()
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else type(error).__name__
        EventLog(site.events).tell("failed", kind=type(error).__name__, error=text)
        _log(site, error, text)
        return 1
    return 0


def grid_of(site: Site) -> PromptGrid | SpreadGrid:
    """Take the task at the first SuperLink, and make the grid of it, or of all of them, whose tasks are kept.

    Raises:
        httpx.HTTPError, PalateError: that SuperLink gives none in time.
    """
    places, until = range(site.config.gateway.superlinks), time.monotonic() + TASK_SECONDS
    connections = [Connection(place, partial(join, LinkControl(site, place))) for place in places]
    grid = connections[0].grid(until=lambda: time.monotonic() > until)
    identify(grid.run)
    keep(connections)
    return PromptGrid(grid) if len(connections) == 1 else SpreadGrid(connections)


def _show_life(path: Path) -> None:
    """Let a file's time go on as long as this process does: the supervisor looks at it."""

    def show() -> None:
        while True:
            os.utime(path)
            time.sleep(PULSE)

    threading.Thread(target=show, daemon=True, name="shows-life").start()


def _log(site: Site, error: Exception, text: str) -> None:
    """Log where it failed, but no values, which may show who took part."""
    log = PartLog(
        site.logs / "serverapp.log", "serverapp", most=site.config.logs.mib * 2**20, keep=site.config.logs.keep
    )
    where = "".join(traceback.format_tb(error.__traceback__))
    log.tell(f"{type(error).__name__}: {text}\n{where}", "error")


def _own(site: Site) -> RunLock:
    """Take the folder's lock; its former owner, or the supervisor that checks it, may need a moment to release it."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return RunLock(site.state)
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
