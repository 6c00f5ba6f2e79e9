"""Masking cost: the cost of one masked attempt for the server and a device, relative to a measured lower bound.

    scale = Scale(devices=1000, coordinates=100_000, corrupt=100, dropped=100)
    cost = measure(scale, seed=1)
    cost.server.ratio, cost.device.ratio, cost.upload / cost.packed

Devices and server are the real implementation, in one process. A device that drops out has shared its secrets but sends
no vector: the most expensive case for the server. Time is CPU time of the thread. The lower bound's operations (the
floor) alternate with the protocol's, as many as the protocol needs, so that a busy machine slows both.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from benchmarks.secagg.floor import Floor, Operations
from mechanism.secagg.cohort import MaskedCohort
from palate_common.mechanism.update import Int64
from palate_common.system import peak_memory
from palate_core.cohort_terms import modulus_bits, share_sigma
from palate_core.device.attempt import MaskedDevice
from palate_core.device.states import Agreed
from palate_core.errors import InputError, IntegrityError
from palate_core.layout import DUMMIES
from palate_core.log import signing
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.messages import HEADER, Step, UnmaskRequest
from palate_core.masks.packing import packed_bytes
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource
from palate_server.secagg.attempt import Unmasking

GRID = 2**14
"""Steps per clip norm, as in plans."""
SAMPLE = 50
"""How many devices are timed; the others do the same work untimed."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size of an attempt.

    Attributes:
        devices: number of devices that take part.
        coordinates: of the released vector; the dummies of every release come on top.
        corrupt: how many corrupt devices the attempt must tolerate.
        dropped: how many devices are lost after they have shared their secrets.
        noise_multiplier: of the release; it determines the bits, as in a plan.

    Raises:
        InputError: numbers out of range, or a cohort that no graph protects.
    """

    devices: int
    coordinates: int
    corrupt: int
    dropped: int
    noise_multiplier: float = 4.0

    def __post_init__(self) -> None:
        if self.devices < 3 or self.coordinates < 1:
            raise InputError(
                f"`devices` must be at least 3 and `coordinates` at least 1, got {self.devices} and {self.coordinates}"
            )
        if self.corrupt < 1 or self.dropped < 0 or self.corrupt + self.dropped > self.devices - 2:
            raise InputError(
                f"`corrupt` must be at least 1, `dropped` at least 0, and both must leave 2 of {self.devices} devices,"
                f" got {self.corrupt} and {self.dropped}"
            )
        if not 0 < self.noise_multiplier < float("inf"):
            raise InputError(f"`noise_multiplier` must be above 0, got {self.noise_multiplier}")

    @property
    def size(self) -> int:
        """Coordinates of a masked vector."""
        return self.coordinates + DUMMIES

    @property
    def share_sigma(self) -> int:
        """Standard deviation of one device's noise, steps."""
        shares = self.devices - self.dropped - self.corrupt
        return share_sigma(sigma=max(1, round(self.noise_multiplier * GRID)), shares=shares)

    @property
    def bits(self) -> int:
        """Bits of the modulus, as in a plan for these devices."""
        return modulus_bits(n_max=self.devices, grid=GRID, share=self.share_sigma)

    @property
    def graph(self) -> GraphTerms:
        """Neighbours and threshold."""
        return graph_terms(self.devices, corrupt=self.corrupt, dropped=self.dropped)


@dataclass(frozen=True)
class Side:
    """CPU seconds of the server, or of one device: step -> (the protocol's, the floor's)."""

    taken: dict[str, float]
    floor: dict[str, float]

    @property
    def seconds(self) -> float:
        """The sum of all steps."""
        return sum(self.taken.values())

    @property
    def floor_seconds(self) -> float:
        """The floor's sum of all steps."""
        return sum(self.floor.values())

    @property
    def ratio(self) -> float:
        """The protocol's seconds over the floor's."""
        return self.seconds / self.floor_seconds


@dataclass(frozen=True, kw_only=True)
class MaskingCost:
    """The cost of one attempt.

    Attributes:
        scale: its size.
        graph: its neighbours and threshold.
        bits: of the modulus.
        survivors: number of vectors in the sum.
        exact: whether the sum is exactly that of the survivors' vectors.
        server: CPU seconds of the whole server.
        device: CPU seconds of one device, the mean of those timed.
        timed: how many devices were timed.
        upload: bytes that one survivor sends in all.
        packed: bytes of its packed vector alone.
        noise_seconds: CPU seconds of one device's share of the noise, not part of `device`.
        peak_mib: most memory of the process, MiB.
    """

    scale: Scale
    graph: GraphTerms
    bits: int
    survivors: int
    exact: bool
    server: Side
    device: Side
    timed: int
    upload: float
    packed: int
    noise_seconds: float
    peak_mib: float


class _Vectors:
    """Synthetic vectors, made one at a time, the same for the same device. A vector made ahead is returned once."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self._size, self._seed = scale.size, seed
        self._bound = max(1, 2 ** (scale.bits - 1) // scale.devices - 1)
        self._ahead: dict[int, Int64] = {}

    def __getitem__(self, device: int) -> Int64:
        made = self._ahead.pop(device, None)
        return self._made(device) if made is None else made

    def make_ahead(self, device: int) -> None:
        """Make a device's vector now, so that the device's timing doesn't include it."""
        self._ahead[device] = self._made(device)

    def _made(self, device: int) -> Int64:
        rng = np.random.default_rng((self._seed, device))
        return rng.integers(-self._bound, self._bound, size=self._size, endpoint=True)


class _Run:
    """One timed attempt."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.scale, self.graph, self.vectors = scale, scale.graph, _Vectors(scale, seed)
        self.world = MaskedCohort(
            scale.devices,
            n_min=scale.devices - scale.dropped,
            size=scale.size,
            bits=scale.bits,
            c_max=scale.corrupt,
            vectors=self.vectors,
        )
        self.floor = Floor(scale.size, scale.bits)
        chosen = np.random.default_rng(seed).permutation(scale.devices).tolist()
        self.lost = frozenset(chosen[: scale.dropped])
        self.sample = frozenset(chosen[scale.dropped :][:SAMPLE])
        self.devices: list[MaskedDevice | None] = []
        self.server_taken, self.server_floor = defaultdict[str, float](float), defaultdict[str, float](float)
        self.device_taken, self.device_floor = defaultdict[str, float](float), defaultdict[str, float](float)
        self.sent = 0
        self.pairs = 0
        """Pairs of a survivor and a lost neighbour, whose masks the server must compute."""

    def attempt(self) -> Unmasking:
        """Run from the first request to the sum."""
        server = self.world.begin()
        self.devices = [*self.world.devices]
        self.world.devices = []  # no reference is left, so a finished device is freed
        while not server.finished:
            step = server.step
            for device in server.asked:
                if step < Step.INPUT or device not in self.lost:
                    self._exchange(server, step, device)
            first, second = self._needed_to_close(step).halves()
            self.server_floor[step.name] += self.floor.seconds(first)
            began = time.thread_time()
            server.close()
            self.server_taken[step.name] += time.thread_time() - began
            self.server_floor[step.name] += self.floor.seconds(second)
        return server

    def _exchange(self, server: Unmasking, step: Step, number: int) -> None:
        """One request and its answer."""
        device = self.devices[number]
        if device is None:
            raise IntegrityError(f"device {number} must take part until its shares are out")
        if step is Step.INPUT:
            self.vectors.make_ahead(number)
        standing = device._state
        clock = time.thread_time
        asked = clock()
        request = server.request(number)
        signing._fitting.clear()  # every device is a process of its own
        begun = clock()
        answer = device.answer(step, request)
        done = clock()
        # The floor runs before and after the server in turns, because the second one finds warm caches.
        if number % 2:
            self.server_floor[step.name] += self.floor.seconds(self._needed_of_answer(step))
        signing._fitting.clear()  # every device is a process of its own
        received = clock()
        server.receive(number, answer)
        self.server_taken[step.name] += begun - asked + clock() - received
        if not number % 2:
            self.server_floor[step.name] += self.floor.seconds(self._needed_of_answer(step))
        self.sent += len(answer) if number not in self.lost else 0
        alive = drawn = 0
        if isinstance(standing, Agreed):
            signers = UnmaskRequest.decode(request[HEADER:], n=self.scale.devices).signers
            alive = int(signers[standing.masked.neighbours].sum())
            drawn = self.graph.sample * (int(signers.sum()) - 1 - alive) // (self.scale.devices - 1)
            self.pairs += self.graph.neighbours - alive
        if number in self.sample:
            self.device_taken[step.name] += done - begun
            self.device_floor[step.name] += self.floor.seconds(self._needed_by_device(step, alive + drawn))
        if step is Step.INPUT:
            device._answers.clear()  # a device keeps its vector to send it again; a thousand don't fit into memory
        if step is Step.UNMASK or (step is Step.CHECK and number in self.lost):
            self.devices[number] = None

    def _needed_by_device(self, step: Step, signers: int) -> Operations:
        """A device's necessary operations; `signers` are its neighbours and drawn devices that have survived."""
        k = self.graph.neighbours
        return {
            Step.COMMIT: Operations(signatures=1),
            Step.ADVERTISE: Operations(signatures=1),
            Step.SHARE: Operations(agreements=2 * k, signatures=k, checks=k),
            Step.CHECK: Operations(agreements=k, signatures=1, checks=k),
            Step.OPEN: Operations(),
            Step.INPUT: Operations(streams=k + 1, agreements=k, signatures=1, checks=1),
            Step.CONSISTENCY: Operations(signatures=1),
            Step.UNMASK: Operations(signatures=1, checks=signers),
        }[step]

    def _needed_of_answer(self, step: Step) -> Operations:
        """The server's necessary operations for an answer: its signature, which boxes have for their receivers."""
        return Operations(checks=int(step is not Step.SHARE))

    def _needed_to_close(self, step: Step) -> Operations:
        """The server's necessary operations between two steps."""
        if step is Step.UNMASK:
            survivors = self.scale.devices - self.scale.dropped
            return Operations(streams=survivors + self.pairs, agreements=self.pairs)
        return Operations(signatures=int(step is Step.CHECK))  # on the list of devices that have shared


def measure(scale: Scale, *, seed: int = 1) -> MaskingCost:
    """Run one attempt and time it.

    Args:
        scale: size of the attempt.
        seed: of the vectors and of the lost devices; keys and masks are fresh.

    Raises:
        InputError: a cohort that no graph protects.
        IntegrityError: too few devices are left (once in a million attempts).
    """
    run = _Run(scale, seed)
    server = run.attempt()
    expected = np.zeros(scale.size, np.int64)
    for device in server.survivors:
        expected += run.vectors[device]
    began = time.thread_time()
    sample_discrete_gaussian(scale.size, sigma=scale.share_sigma, source=SecureSource())
    noise_seconds = time.thread_time() - began
    timed = len(run.sample)
    return MaskingCost(
        scale=scale,
        graph=run.graph,
        bits=scale.bits,
        survivors=len(server.survivors),
        exact=bool(np.array_equal(server.total, expected)),
        server=Side(dict(run.server_taken), dict(run.server_floor)),
        device=Side(
            {step: value / timed for step, value in run.device_taken.items()},
            {step: value / timed for step, value in run.device_floor.items()},
        ),
        timed=timed,
        upload=run.sent / len(server.survivors),
        packed=packed_bytes(scale.size, scale.bits),
        noise_seconds=noise_seconds,
        peak_mib=peak_mib(),
    )


def peak_mib() -> float:
    """The peak memory of this process, MiB."""
    return (peak_memory(children=False) or 0) / 2**20
