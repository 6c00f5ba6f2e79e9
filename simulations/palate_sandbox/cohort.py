"""Cohort: who is asked in a round, and how messages reach them in this process.

one plan to all -> contributions with their share of the noise -> sum
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from palate_core.errors import PalateError
from palate_server.rounds.run import Request, Transport


@dataclass(frozen=True)
class SandboxCohort:
    """Who is asked.

    Attributes:
        devices: how many installations they are, which is public.
        transport: carries the messages.
    """

    devices: int
    transport: Transport


class EndingTransport:
    """A transport that carries nothing any more once the sandbox ends: the attempt is void.

    Args:
        carrier: carries the messages.
        ending: set when the sandbox ends.
    """

    def __init__(self, carrier: Transport, ending: threading.Event) -> None:
        self._carrier, self._ending = carrier, ending

    def invite(self, *, masked: bool) -> Collection[int]:
        """As the carrier."""
        return self._carrier.invite(masked=masked)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """As the carrier.

        Raises:
            PalateError: the sandbox has ended.
        """
        answers = iter(self._carrier.exchange(request))
        while not self._ending.is_set():
            if (answer := next(answers, None)) is None:
                return
            yield answer
        raise PalateError("the sandbox has ended: the attempt is void")
