"""The ServerApp of a deployment: it runs an `Operation` whose messages go over Flower's grid.

    SuperExec -> main -> Operation.serve -> run_round -> GridTransport -> PromptGrid -> SuperLink -> devices

Flower loads it from the INSTALLED package; the run-config key `folder` names the server folder. It runs until it is
stopped, and a new process continues at the state of the ledger.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Set
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.logger import update_console_handler
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.errors import LockedError, PalateError
from palate_server.flower.grid import PromptGrid
from palate_server.flower.inbox import BATCH
from palate_server.flower.spread_grid import SpreadGrid
from palate_server.flower.superlink_state import check_version
from palate_server.flower.transport import RECORD, GridTransport
from palate_server.folder.events import EventLog
from palate_server.folder.logs import PartLog
from palate_server.folder.server_folder import Site, owner_only
from palate_server.operation.operation import Operation
from palate_server.rounds.lock import RunLock

app = ServerApp()

COME_BACK = "come_back"
"""Name of the one value of a query: seconds after which a device that is not needed now should sync again."""
GOODBYE_SECONDS = 30.0
"""Seconds that a device has to fetch its dismissal."""

LOCK_SECONDS = 30.0
"""Seconds to wait for another owner of the server folder."""


class GridMessenger:
    """Carries an operation's messages over a Flower grid.

    Args:
        grid: the grid of the server's SuperLink, or of all of them.
    """

    def __init__(self, grid: PromptGrid | SpreadGrid) -> None:
        self._grid = grid

    @property
    def heard(self) -> Set[int]:
        """The nodes that have answered anything in the latest attempt."""
        return self._grid.heard

    def online(self) -> list[int]:
        """The nodes that are online."""
        return list(self._grid.get_node_ids())

    def transport(self, cohort: Mapping[int, int], *, ttl: float, timeout: float) -> GridTransport:
        """The transport for an attempt's messages to a cohort, device -> node."""
        self._grid.heard.clear()
        return GridTransport(self._grid, ttl=ttl, timeout=timeout, cohort=cohort)

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to sync again. Their answers are ignored."""
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({COME_BACK: seconds})}), node, MessageType.QUERY, ttl=GOODBYE_SECONDS
            )
            for node, seconds in nodes.items()
        ]
        for start in range(0, len(messages), BATCH):
            self._grid.push_messages(messages[start : start + BATCH])

    def purge(self) -> None:
        """Let each SuperLink delete all messages."""
        self._grid.purge()


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
