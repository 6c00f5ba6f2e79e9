"""Subcohorts: the masked attempts of a plan side by side, each over devices of its own.

    directories --> Unmasking, Unmasking, ... --> a sum of each

All of them have the same plan, which names the directories of all, and the same charge. A device is in one only; what
protects it is the noise of its own. They go step by step together, so that one exchange carries the messages of
all; what becomes of one changes nothing for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step
from palate_core.masks.transcript import AttemptTerms
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.conduct import Conduct


class Subcohorts:
    """The sub-cohorts of an attempt on the server; mostly one.

    **Guarantees:** nobody is in two: each device's messages go to one sub-cohort, and its vector into one sum.

    Args:
        terms: the terms of each.
        directories: the devices of each, by directories that the terms name.
        key: the operator's signing key.

    Attributes:
        terms: the same terms.
        conduct: evidence against devices of any of them, and who was missing.
        machines: the attempt of each.
        place: device -> which of them it is in.
        ended: why some ended without a sum.

    Raises:
        InputError: a device is in two of them, or as `Unmasking`.
    """

    def __init__(self, terms: AttemptTerms, directories: Sequence[Directory], key: SigningKey) -> None:
        self.terms, self.conduct = terms, Conduct()
        self.place = {device: number for number, each in enumerate(directories) for device in each.identities}
        if len(self.place) != sum(map(len, directories)):
            raise InputError("each device must be in one sub-cohort, got one in two")
        self.machines = tuple(Unmasking(terms, each, key, conduct=self.conduct) for each in directories)
        self._named = tuple(each.to_bytes() for each in directories)
        self._open, self.ended = list(self.machines), list[IntegrityError]()

    @property
    def finished(self) -> bool:
        """Whether each sub-cohort has its sum or has ended without one."""
        return not self._open

    @property
    def step(self) -> Step:
        """The step that is awaited; where they are at several, as one draws its ring again, the earliest."""
        return min(machine.step for machine in self._open)

    @property
    def asked(self) -> tuple[int, ...]:
        """The devices whose answers are awaited."""
        return tuple(device for machine in self._open for device in machine.asked)

    def request(self, device: int) -> bytes:
        """The bytes for one device."""
        return self.machines[self.place[device]].request(device)

    def directory(self, device: int) -> bytes:
        """The directory that goes to one device, with the plan."""
        return self._named[self.place[device]]

    def signed(self, device: int) -> bytes:
        """What a device signs now beside its masked vector: the same for all of its sub-cohort, see `Unmasking`."""
        return self.machines[self.place[device]].signed

    def receive(self, device: int, answer: bytes) -> bool:
        """Take one answer; returns whether it was used."""
        machine = self._open_of(device)
        return machine is not None and machine.receive(device, answer)

    def receive_sum(self, signatures: Mapping[int, bytes], total: bytes) -> bool:
        """Take a sum of masked vectors of one sub-cohort, see `Unmasking`; returns whether it was used."""
        machine = self._open_of(min(signatures, default=-1))
        return machine is not None and machine.receive_sum(signatures, total)

    def _open_of(self, device: int) -> Unmasking | None:
        """The attempt of a device, if it goes on."""
        machine = self.machines[self.place[device]] if device in self.place else None
        return machine if machine in self._open else None

    def close(self) -> None:
        """End the step of each. One that ends without a sum is left out of the attempt.

        Raises:
            IntegrityError: none has a sum, and none goes on: the reason of the latest to end.
        """
        for machine in tuple(self._open):
            try:
                machine.close()
            except IntegrityError as error:
                self.ended.append(error)
                self._open.remove(machine)
            else:
                if machine.finished:
                    self._open.remove(machine)
        if not (self._open or self.opened):
            raise self.ended[-1]

    @property
    def opened(self) -> list[Unmasking]:
        """Those that have a sum."""
        return [machine for machine in self.machines if machine.finished]

    @property
    def malformed(self) -> int:
        """How many answers were no messages of the protocol."""
        return sum(machine.dropped["malformed"] for machine in self.machines)

    @property
    def invited(self) -> int:
        """How many devices were invited to all of them."""
        return len(self.place)
