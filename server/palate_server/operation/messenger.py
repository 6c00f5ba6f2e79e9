"""MessageTransport: sends a server's messages to its devices; over Flower's grid in `service_app`, or in a test."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol

from palate_common.rounds.exchange import Availability
from palate_server.rounds.run import Transport


class MessageTransport(Protocol):
    """Sends a server's messages to its devices."""

    @property
    def heard(self) -> Set[int]:
        """The nodes that have answered anything in the latest attempt."""

    def online(self) -> Mapping[int, Availability]:
        """The nodes that are online, each with what it has declared."""

    def transport(self, cohort: Mapping[int, int], *, ttl: float, timeout: float) -> Transport:
        """The transport for one attempt's messages to a cohort.

        Args:
            cohort: the cohort, device -> node.
            ttl: seconds in which a message may be answered.
            timeout: seconds to wait for the answers of an exchange.
        """

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to sync again."""
