"""Fuzzing of masked attempts: device and server must refuse each broken record by name, and keep their state.

>>> fuzz(200, seed=1).refused
200
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mechanism.secagg.cohort import MaskedCohort
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import IntegrityError, PalateError, RefusedError
from palate_core.masks.messages import HEADER, VERSION, Header, Step, write


@dataclass(frozen=True)
class FuzzReport:
    """How many broken records were tried and refused, and at which step of which side."""

    tried: int
    refused: int
    by_step: dict[str, int]


def fuzz(records: int, *, seed: int) -> FuzzReport:
    """Break real records of both sides, at every step, with and without a ring.

    Args:
        records: number of records.
        seed: of the choice of faults; keys and masks are fresh.

    Raises:
        PalateError: a broken record was accepted, or raised anything but IntegrityError or RefusedError.
    """
    rng = np.random.default_rng(seed)
    tried: Counter[str] = Counter()
    while sum(tried.values()) < records:
        world = MaskedCohort(6, n_min=5, n_max=251 if rng.integers(2) else None, size=int(rng.integers(1, 9)))
        server = world.begin()
        while not server.finished:
            step, context = server.step, world.terms.context
            request = server.request(0)
            device = copy.copy(world.devices[0])
            answer = world.devices[0].answer(step, request)
            latches = dict(world.latches[0].held)
            for broken in _broken(request, Header(step, 0, 0, context), rng, answer=False):
                if step is Step.CHECK and len(broken) == len(request) and broken[: HEADER + 1] == request[: HEADER + 1]:
                    continue  # a broken box is no box, and is received as none
                if sum(tried.values()) < records:
                    _device_refuses(device, step, broken, latched=latches)
                    tried[f"device, {step.name.lower()}"] += 1
            for broken in _broken(answer, Header(step, 0, 0, context), rng, answer=True):
                if sum(tried.values()) < records and not _harmless(step, broken, len(answer)):
                    if server.receive(0, broken):
                        raise PalateError(f"the server took a broken {step.name.lower()}: {broken.hex()}")
                    tried[f"server, {step.name.lower()}"] += 1
            world.exchange(server, {})
        if server.total.tolist() != world.vectors.sum(axis=0).tolist():
            raise PalateError("the sum must be exact after broken records, got another")
    return FuzzReport(records, sum(tried.values()), dict(tried))


def _device_refuses(device: MaskedDevice, step: Step, broken: bytes, *, latched: dict[str, str]) -> None:
    """A broken request must raise one of two errors and keep the state."""
    device = copy.copy(device)
    before = device._state
    try:
        device.answer(step, broken)
    except (IntegrityError, RefusedError):
        if device._state is not before:
            raise PalateError(f"a refused {step.name.lower()} must change nothing, got another state") from None
        return
    raise PalateError(f"the device took a broken {step.name.lower()}: {broken.hex()}")


def _harmless(step: Step, broken: bytes, length: int) -> bool:
    """Whether the server can't detect it: sealed boxes and masked vectors are opaque until they are opened."""
    return step in (Step.SHARE, Step.INPUT) and len(broken) == length


def _broken(record: bytes, header: Header, rng: np.random.Generator, *, answer: bool) -> Iterator[bytes]:
    """A few broken versions of a record, each different from the original."""
    for _ in range(12):
        how = int(rng.integers(7))
        data = bytearray(record)
        at = int(rng.integers(len(data)))
        if how == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif how == 1:
            del data[at:]
        elif how == 2:
            data += rng.bytes(int(rng.integers(1, 50)))
        elif how == 3:
            data[at : at + 4] = rng.bytes(int(rng.integers(1, 9)))
        elif how == 4:
            data = bytearray(rng.bytes(int(rng.integers(0, 300))))
        elif how == 5:
            data = bytearray(write(header, rng.bytes(int(rng.integers(0, 300))), answer=answer))
        else:
            data[at : at + 32] = bytes(len(data[at : at + 32]))
        if bytes(data) != record and not _first_step(header, bytes(data), answer=answer):
            yield bytes(data)


def _first_step(header: Header, data: bytes, *, answer: bool) -> bool:
    """Whether an honest server could make this request: any toss may be the first, under any root."""
    if answer or header.step not in (Step.COMMIT, Step.ADVERTISE):
        return False
    return data[:2] == bytes([VERSION, header.step]) and data[4:40] == write(header, b"", answer=False)[4:40]
