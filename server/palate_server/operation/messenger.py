"""Messenger: who carries an attempt's messages between a site and its devices; Flower's grid in `app`, or a test's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Protocol

from palate_common.secagg.directory import Directory
from palate_server.rounds.coordinator import Coordinator, Release


class MessageTransport(Protocol):
    """Who carries an attempt's messages: Flower's grid, or a test's."""

    @property
    def heard(self) -> Set[int]:
        """The nodes that have answered anything in the latest attempt."""

    def online(self) -> list[int]:
        """The nodes that are there."""

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

    def send_home(self, nodes: Mapping[int, int]) -> None:
        """Tell each node in how many seconds to come back."""
