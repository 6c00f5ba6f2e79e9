"""MessageTransport: sends a server's messages to its devices; over edges in `palate_server.edge`, or in a test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Protocol

from palate_common.rounds.exchange import Availability
from palate_server.rounds.run import Transport


class MessageTransport(Protocol):
    """Sends a server's messages to its devices."""

    @property
    def heard(self) -> Set[int]:
        """The devices that have answered anything in the latest attempt."""

    def online(self, *, wait: float = 0.0, enough: int = 1) -> Mapping[int, Availability]:
        """The devices that are online, each with what it has declared.

        Args:
            wait: seconds for which it may take until enough are.
            enough: how many that are.
        """

    def transport(self, cohort: Collection[int], *, timeout: float) -> Transport:
        """The transport for one attempt's messages to a cohort.

        Args:
            cohort: the devices.
            timeout: seconds to wait for the answers of an exchange.
        """

    def send_home(self, devices: Mapping[int, float]) -> None:
        """Tell each device in how many seconds to sync again."""

    def close(self) -> None:
        """Let nobody answer any more what was asked last."""
