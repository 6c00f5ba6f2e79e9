"""Hosting: one app's device as what a server's messages reach, see `palate_client.rounds.dispatch`.

The same `Device.contribute` and `Device.join` that an app can call by hand. What is wrong with a plan is refused there,
written down there, and never told to the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from palate_client.online.https import StoppedError
from palate_client.online.retry import OverError
from palate_client.rounds.participation import Masked, note_refusal, reason_of
from palate_client.sharing import Sharing
from palate_common.errors import RefusedError
from palate_common.records.closing import Closing
from palate_common.rounds.plan import read_plan
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.directory import Directory

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class OwnHost(Closing):
    """A node with one installation: this app's.

    Args:
        device: the app's device.
        number: of the installation, by its enrolment.
        directory_of: fetches the directory of a hash.

    Attributes:
        rounds: attempts that it took part in.
        refused: messages that it refused.
    """

    def __init__(self, device: Sharing, number: int, directory_of: Callable[[str], Directory]) -> None:
        self.rounds = self.refused = 0
        self._device, self._number, self._directory_of = device, number, directory_of
        self._machine: Masked | None = None
        self._plan = b""

    def close(self) -> None:
        """Leave the masked attempt, if it is in one."""
        machine, self._machine, self._plan = self._machine, None, b""
        if machine is not None:
            machine.close()

    def device(self, node: int) -> int:
        """The installation's number."""
        return self._number

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal."""
        return self._counted(self._device.contribute(plan, model, number=self._number), begins=True)

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """Take part in a masked attempt. The same plan again reaches the same machine."""
        begins = self._machine is None or self._plan != plan
        if begins:
            self.close()
            try:
                directory = self._directory_of(_directory_hash(plan))
            except (OverError, StoppedError):
                raise
            except Exception as error:
                note_refusal(self._device.store, "plan", reason_of(error))
                return self._counted(REFUSED)
            self._machine, self._plan = self._device.join(plan, model, directory, number=self._number), plan
        return self._counted(self._next(request), begins=begins)

    def go_on(self, node: int, request: bytes) -> bytes:
        """The answer to a later request."""
        return self._counted(self._next(request))

    def _next(self, request: bytes) -> bytes:
        """What the machine says."""
        if self._machine is None:
            return REFUSED
        answer = self._machine.answer(request)
        if answer == REFUSED:
            note_refusal(self._device.store, "request", self._machine.refusal)
        return answer

    def _counted(self, answer: bytes, *, begins: bool = False) -> bytes:
        """Keep count."""
        self.refused += answer == REFUSED
        self.rounds += begins and answer != REFUSED
        return answer


def _directory_hash(plan: bytes) -> str:
    """The directory that a plan names. Nothing is verified yet: it says what to fetch, and nothing else."""
    cohort = read_plan(plan).plan.cohort
    name = None if cohort is None else cohort.directory
    if name is None or not _HEX.fullmatch(name):
        raise RefusedError("a masked attempt's plan must name a directory, got none")
    return name
