"""A cohort of masked devices in one process, with dropouts: secure aggregation without a network.

    >>> cohort = MaskedCohort(5, n_min=4, size=3)
    >>> cohort.run().total.tolist() == cohort.vectors.sum(axis=0).tolist()
    True

Devices and server are the real implementation; a dictionary replaces the network. Keys, nonces and masks are fresh in
every attempt and never seeded; only dropouts and the synthetic vectors are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from palate_core.device.attempt import MaskedDevice
from palate_core.errors import PalateError, RefusedError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step
from palate_core.masks.transcript import AttemptTerms
from palate_core.noise_share import NoisedVector
from palate_server.secagg.attempt import Unmasking

Missing = Mapping[Step, Collection[int]]
"""The devices that stop answering at a step."""


class Vectors(Protocol):
    """Returns a device's vector by the device's number."""

    def __getitem__(self, device: int, /) -> npt.NDArray[np.int64]:
        """int64 [size]."""
        ...


@dataclass
class Latch:
    """One device's signatures, in memory: an attempt has one digest a step."""

    held: dict[str, str] = field(default_factory=dict)

    def __call__(self, step: str, digest: str) -> None:
        """Keep the first digest; refuse another one."""
        if self.held.setdefault(step, digest) != digest:
            raise RefusedError(f"this attempt has another {step} latched")


class MaskedCohort:
    """`n` devices with synthetic vectors, and the terms of their attempts.

    Args:
        n: number of devices.
        n_min: fewest devices whose sum may be opened.
        size: number of coordinates.
        bits: of the modulus.
        c_max: how many devices may be corrupt.
        n_max: most devices that may take part; `n` if None. Above 250 the devices form a ring.
        max_tosses: how often a ring may be drawn.
        seed: of the vectors.
        vectors: gives a device's vector, int64 [size], by its number; if None they are made from `seed`.

    Attributes:
        vectors: int64 [n, size], or the given vectors.
        devices: the devices of the last attempt.
        refusals: why devices did not answer in the last attempt.
    """

    def __init__(
        self,
        n: int,
        *,
        n_min: int,
        size: int = 5,
        bits: int = 24,
        c_max: int = 1,
        n_max: int | None = None,
        max_tosses: int = 1024,
        seed: int = 0,
        vectors: Vectors | None = None,
    ) -> None:
        self.identities = _keys(n)
        self.server = _keys(1)[0]
        self.vectors: Any = _made_vectors(n, size, bits, seed) if vectors is None else vectors
        self._terms: dict[str, Any] = {
            "size": size,
            "bits": bits,
            "n_max": n_max or n,
            "n_min": n_min,
            "c_max": c_max,
            "max_tosses": max_tosses,
        }
        self.devices: list[Any] = []
        self.latches: list[Latch] = []
        self.refusals: list[str] = []
        self.begin()

    def begin(self, invited: Collection[int] | None = None) -> Unmasking:
        """Begin a new attempt, of all devices or of some, with fresh terms, devices and server."""
        some = range(len(self.identities)) if invited is None else sorted(invited)
        self.directory = Directory({i: self.identities[i].public for i in some})
        self.terms = AttemptTerms(context=os.urandom(32), directory=self.directory.hash, **self._terms)
        self.latches = [Latch() for _ in self.identities]
        self.devices = [self.device(i) if i in some else None for i in range(len(self.identities))]
        self.refusals = []
        return Unmasking(self.terms, self.directory, self.server)

    def device(self, i: int, latch: Callable[[str, str], None] | None = None) -> MaskedDevice:
        """One device at the start of the current attempt."""
        return MaskedDevice(
            self.terms,
            id=i,
            identity=self.identities[i],
            directory=self.directory,
            server_key=self.server.public,
            vector=lambda: NoisedVector(self.vectors[i]),
            latch=latch or self.latches[i],
        )

    def run(self, missing: Missing | None = None) -> Unmasking:
        """Run one attempt; a device that is missing at a step is missing from then on.

        Raises:
            IntegrityError: the attempt ended without a result.
        """
        server = self.begin()
        while not server.finished:
            self.exchange(server, missing or {})
        return server

    def exchange(self, server: Unmasking, missing: Missing) -> None:
        """One step: ask, answer, collect. A device that refuses does not answer."""
        gone = {device for step, devices in missing.items() if step <= server.step for device in devices}
        for i in server.asked:
            if i not in gone:
                try:
                    server.receive(i, self.devices[i].answer(server.step, server.request(i)))
                except PalateError as error:
                    self.refusals.append(str(error))
        server.close()

    def sum_of(self, devices: Collection[int]) -> npt.NDArray[np.int64]:
        """The true sum of some devices' vectors, int64 [size]."""
        total: npt.NDArray[np.int64] = self.vectors[sorted(devices)].sum(axis=0)
        return total


def _made_vectors(n: int, size: int, bits: int, seed: int) -> npt.NDArray[np.int64]:
    """Vectors whose sum doesn't wrap."""
    bound = max(1, 2 ** (bits - 1) // n - 1)
    return np.random.default_rng(seed).integers(-bound, bound, size=(n, size), endpoint=True)


@lru_cache(maxsize=64)
def _keys(n: int) -> tuple[SigningKey, ...]:
    return tuple(SigningKey.generate() for _ in range(n))
