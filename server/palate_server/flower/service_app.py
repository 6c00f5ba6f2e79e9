"""The ServerApp of a deployment: it runs an `Operation` whose messages go over Flower's grid.

    SuperExec -> main -> Operation.serve -> run_round -> GridTransport -> PromptGrid -> SuperLink -> devices

Flower loads it from the INSTALLED package; the run-config key `folder` names the server folder. It runs until it is
stopped, and a new process continues at the state of the ledger.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.logger import update_console_handler
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.errors import LockedError, PalateError
from palate_server.flower.grid import PromptGrid
from palate_server.flower.messenger import GridMessenger
from palate_server.flower.spread_grid import SpreadGrid
from palate_server.flower.superlink_state import check_version
from palate_server.folder.events import EventLog
from palate_server.folder.logs import PartLog
from palate_server.folder.server_folder import Site, owner_only
from palate_server.operation.operation import Operation
from palate_server.rounds.lock import RunLock

app = ServerApp()

LOCK_SECONDS = 30.0
"""Seconds to wait for another owner of the server folder."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve a server folder until this process is stopped."""
    check_version()
    owner_only()
    update_console_handler(colored=False)  # the log is a file
    site = Site.at(Path(str(context.run_config["folder"])))
    try:
        with _own(site):
            messenger = GridMessenger(_grid(site, grid))
            Operation(site, messenger, messenger.purge).serve()
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else type(error).__name__
        EventLog(site.events).tell("failed", kind=type(error).__name__, error=text)
        _log(site, error, text)
        raise


def _grid(site: Site, grid: Grid) -> PromptGrid | SpreadGrid:
    """The grid of the server's SuperLink, or of all of them."""
    if site.config.gateway.superlinks == 1:
        return PromptGrid(grid)

    if not isinstance(grid, HttpGrid):
        raise TypeError(f"`grid` must be the one of a SuperLink, got {type(grid).__name__}")
    return SpreadGrid.over(site, grid)


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
