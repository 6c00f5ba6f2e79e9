"""The ServerApp of a deployment: Flower's grid as the messenger of a site's `Operation`.

    SuperExec -> main -> Operation.serve -> PalateStrategy -> PromptGrid -> SuperLink -> devices

Flower loads it from the INSTALLED package; the run-config key `folder` names the server folder. It runs until it is
ended, and starts again where the ledger says it stopped.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.logger import update_console_handler

from palate_common.errors import LockedError, PalateError
from palate_common.secagg.directory import Directory
from palate_server.flower.exchanges import RECORD
from palate_server.flower.grid import PromptGrid
from palate_server.flower.strategy import PalateStrategy
from palate_server.flower.superlink_state import check_version, purge
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site, owner_only
from palate_server.operation.operation import Operation
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import RunLock

app = ServerApp()

COME_BACK = "come_back"
"""Seconds after which a device that is not needed now should sync again: a query's one value."""
GOODBYE_SECONDS = 30.0
"""How long a device may take to fetch its dismissal."""

LOCK_SECONDS = 30.0
"""How long another owner of the site is waited for."""


class GridMessenger:
    """Carries an operation's messages over a Flower grid.

    Args:
        grid: Flower's.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = PromptGrid(grid)

    @property
    def heard(self) -> Set[int]:
        """The nodes that have answered anything in the latest attempt."""
        return self._grid.heard

    def online(self) -> list[int]:
        """The nodes that are there."""
        return list(self._grid.get_node_ids())

    def attempt(
        self,
        coordinator: Coordinator,
        directory: Directory | None,
        cohort: Mapping[int, int],
        on_release: Callable[[Release], None],
        *,
        timeout: float,
    ) -> None:
        """One attempt with a cohort, device -> node."""
        masked = directory if coordinator.terms.cohort is not None and coordinator.terms.cohort.masks else None
        self._grid.heard.clear()
        strategy = PalateStrategy(coordinator, on_release=on_release, directory=masked, invite=lambda _: cohort)
        strategy.start(self._grid, num_rounds=1, timeout=timeout)

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to come back. What they answer means nothing, and isn't waited for."""
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({COME_BACK: seconds})}), node, MessageType.QUERY, ttl=GOODBYE_SECONDS
            )
            for node, seconds in nodes.items()
        ]
        for message in messages:
            self._grid.push_messages([message])


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve a site until this process is ended."""
    check_version()
    owner_only()
    update_console_handler(colored=False)  # its log is a file
    site = Site.at(Path(str(context.run_config["folder"])))
    try:
        with _own(site):
            Operation(site, GridMessenger(grid), lambda: purge(site.superlink_file)).serve()
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else type(error).__name__
        EventLog(site.events).tell("failed", kind=type(error).__name__, error=text)
        _log(site, error, text)
        raise


def _log(site: Site, error: Exception, text: str) -> None:
    """Say where it failed; not with what values, which may tell who took part."""
    lines = traceback.format_tb(error.__traceback__)
    with (site.logs / "serverapp.log").open("a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {type(error).__name__}: {text}\n{''.join(lines)}")


def _own(site: Site) -> RunLock:
    """The site's lock; its former owner, or the supervisor that looks whether there is one, may need a moment."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return RunLock(site.state)
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
