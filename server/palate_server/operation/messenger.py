"""Messenger: how a site reaches its devices; over Flower's grid in `service_app`, or a test's."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol

from palate_server.rounds.run import Transport


class MessageTransport(Protocol):
    """How a site reaches its devices."""

    @property
    def heard(self) -> Set[int]:
        """The nodes that have answered anything in the latest attempt."""

    def online(self) -> list[int]:
        """The nodes that are there."""

    def transport(self, cohort: Mapping[int, int], *, ttl: float, timeout: float) -> Transport:
        """Carries one attempt's messages to a cohort, device -> node.

        Args:
            cohort: whom it asks.
            ttl: seconds that a message may be answered.
            timeout: seconds that an exchange is waited for.
        """

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to come back."""
