"""The device of the browser package in masked attempts: with Python's devices and server, and against a lying server.

Each attack that Python's devices refuse, these refuse, too; and each recovers what is private once its checks are taken
out of them, as it does there.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mechanism.secagg import cohort as cohorts
from mechanism.secagg.attacks import ATTACKS, SMALL_RINGS, Attack, small_rings
from mechanism.secagg.cohort import MaskedCohort
from palate_core import errors
from palate_core.device.attempt import MaskedDevice
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import Dealt
from palate_core.masks.messages import Step

WEB = Path(__file__).parents[2] / "client" / "web"


class Machines:
    """A process with devices of the browser package."""

    def __init__(self) -> None:
        assert (WEB / "node_modules").is_dir(), "`make web` installs what the browser package is built with"
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(["node", "test/driver/machines.mjs"], cwd=WEB, **pipes)
        self.names = itertools.count()

    def ask(self, what: str, **rest: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, **rest}) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        if "error" in found:
            raise getattr(errors, found["kind"], AssertionError)(found["error"])
        return found["answer"]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class WebDevice:
    """One of them, where a device in Python is expected."""

    def __init__(self, machines: Machines, name: int) -> None:
        self._machines, self._name = machines, name

    def answer(self, step: Step, request: bytes) -> bytes:
        asked = {"step": step.name.lower(), "request": request.hex()}
        return bytes.fromhex(self._machines.ask("answer", name=self._name, **asked))

    @property
    def _state(self) -> Any:
        found = self._machines.ask("state", name=self._name)
        pair = None if found["mask"] is None else KeyPair.from_private(bytes.fromhex(found["mask"]))
        shares = {slot: Dealt(*(tuple(map(bytes.fromhex, each)) for each in dealt)) for slot, *dealt in found["shares"]}
        return SimpleNamespace(at=found["at"], mask_pair=pair, shares=shares)

    def __copy__(self) -> WebDevice:
        name = next(self._machines.names)
        self._machines.ask("copy", name=self._name, to=name)
        return WebDevice(self._machines, name)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    found = Machines()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def web(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], bool]], None]:
    """Let the devices of every cohort that a test makes be of the browser package, or those for which `of` says so."""

    def patch(of: Callable[[int], bool]) -> None:
        def make(terms: Any, *, id: int, identity: Any, vector: Any, latch: Any, **rest: Any) -> Any:
            if not of(id):
                return MaskedDevice(terms, id=id, identity=identity, vector=vector, latch=latch, **rest)
            name, sizes = next(machines.names), ("size", "bits", "directory")
            said = {each: getattr(terms, each) for each in sizes} | {"context": terms.context.hex()}
            said |= {"nMax": terms.n_max, "nMin": terms.n_min, "cMax": terms.c_max, "maxTosses": terms.max_tosses}
            secret = identity._private.private_bytes_raw().hex()
            keys = {"directory": rest["directory"].to_bytes().hex(), "server": rest["server_key"], "secret": secret}
            machines.ask("make", name=name, terms=said, id=id, vector=vector().steps.tolist(), **keys)
            return WebDevice(machines, name)

        monkeypatch.setattr(cohorts, "MaskedDevice", make)

    machines.ask("drop")
    machines.ask("settle")
    return patch


LOST = {Step.SHARE: [1], Step.INPUT: [2], Step.CONSISTENCY: [3], Step.UNMASK: [4]}


@pytest.mark.parametrize("bits", [32, 45])
@pytest.mark.parametrize(("n", "n_max"), [(12, None), (24, 251)])
def test_a_cohort_of_both_kinds_gives_the_sum(
    web: Any, machines: Machines, n: int, n_max: int | None, bits: int
) -> None:
    """With and without a ring, whoever is lost where; every other device is of the browser package."""
    web(lambda device: device % 2 == 0)
    machines.ask("settle", shapes=SMALL_RINGS)
    with small_rings():
        for missing in ({}, LOST if n_max is None else {Step.INPUT: [2]}):
            world = MaskedCohort(n, n_min=8 if n_max is None else 14, n_max=n_max, bits=bits, size=70)
            server = world.run(missing)
            gone = {device for step in missing if step <= Step.INPUT for device in missing[step]}
            expected = world.sum_of(set(range(n)) - gone)
            assert server.total.tolist() == expected.tolist()
            assert world.refusals == []


@pytest.mark.soak
def test_a_real_ring(web: Any) -> None:
    """Of the least size that has one: its terms, places and draws are the same in both languages."""
    web(lambda device: device % 9 == 0)
    world = MaskedCohort(300, n_min=270, c_max=15, size=3)
    assert world.run({Step.INPUT: range(5)}).total.tolist() == world.sum_of(range(5, 300)).tolist()
    assert world.refusals == []


LONG = {"stretches_of_their_own"}
"""Of 80 devices: where there is time."""
TRIED = [
    pytest.param(attack, id=attack.name, marks=pytest.mark.soak if attack.name in LONG else ()) for attack in ATTACKS
]


@pytest.mark.parametrize("attack", TRIED)
def test_an_attack_is_refused(attack: Attack, web: Any, machines: Machines) -> None:
    web(lambda device: True)
    machines.ask("settle", shapes=SMALL_RINGS)
    with small_rings():
        assert not attack.run()


@pytest.mark.parametrize("attack", TRIED)
def test_an_attack_succeeds_without_its_walls(attack: Attack, web: Any, machines: Machines) -> None:
    web(lambda device: True)
    weak = {"threshold": attack.weak_threshold} if "threshold" in attack.walls else {}
    machines.ask("settle", shapes=SMALL_RINGS, every=weak, without=sorted(set(attack.walls) - {"threshold"}))
    with small_rings(**weak):
        assert attack.run()


def test_broken_requests_are_refused_and_change_nothing(web: Any) -> None:
    """At every step: another bit, a byte too few or too many. Then the right request is answered, once."""
    web(lambda device: device == 0)
    rng = np.random.default_rng(3)
    for n_max in (None, 251):
        world = MaskedCohort(6, n_min=6, n_max=n_max)
        server = world.begin()
        while not server.finished:
            request, device = server.request(0), world.devices[0]
            for _ in range(25):
                broken = bytearray(request)
                place = rng.choice([at for at in range(len(broken)) if at not in (2, 3)])  # a toss may be a new one
                broken[place] ^= 1 << int(rng.integers(8))
                broken = broken if rng.integers(3) else broken[: rng.integers(len(broken))]
                whole = len(broken) == len(request)
                if server.step is Step.CHECK and whole and broken[:41] == request[:41]:
                    continue  # a box that its sender hasn't signed is received as none
                if server.step is Step.ADVERTISE and whole and broken[:40] == request[:40]:
                    continue  # a root is compared once its list is shown
                with pytest.raises((errors.IntegrityError, errors.RefusedError)):
                    device.answer(server.step, bytes(broken))
            answer = device.answer(server.step, request)
            assert device.answer(server.step, request) == answer
            with pytest.raises((errors.IntegrityError, errors.RefusedError)):
                device.answer(server.step, request + b"\0")
            world.exchange(server, {})
        assert world.devices[0]._state.at == "done"  # type: ignore[attr-defined]
        assert server.total.tolist() == world.sum_of(range(6)).tolist()
