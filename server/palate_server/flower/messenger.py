"""Messenger: carries an operation's messages over a Flower grid.

    Operation -> GridMessenger -> GridTransport -> grid -> SuperLink -> devices

It stands apart from the ServerApp, so that whoever brings a grid of their own doesn't load Flower's servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from palate_common.rounds.exchange import Availability
from palate_server.flower.inbox import BATCH
from palate_server.flower.transport import RECORD, GridTransport

if TYPE_CHECKING:
    from palate_server.flower.grid import PromptGrid
    from palate_server.flower.spread_grid import SpreadGrid

COME_BACK = "come_back"
"""Name of the one value of a query: seconds after which a device that is not needed now should sync again."""
GOODBYE_SECONDS = 30.0
"""Seconds that a device has to fetch its dismissal."""


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

    def online(self) -> Mapping[int, Availability]:
        """The nodes that are online, each with what it has declared."""
        return self._grid.present()

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
