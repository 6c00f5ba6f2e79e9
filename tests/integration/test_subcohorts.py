"""Sub-cohorts: several masked cohorts in one attempt, each with all of the noise, each device in one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.rounds.wire import REFUSED
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Header, Step, write
from palate_core.plan import read_plan, sign_plan
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.run import Request, masked_request, run_round, run_rounds
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.stage import UnmaskedSum
from palate_server.secagg.subcohorts import Subcohorts
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.identities import Identities
from palate_sim.engines.in_process import InProcess

DEVICES, PARTS, ITEMS = 24, 3, 30
MADE = np.random.default_rng(7)
OWNERS = np.repeat(np.arange(DEVICES), 5)
HISTORIES = Interactions.from_pairs(OWNERS, MADE.integers(0, ITEMS, len(OWNERS)), n_users=DEVICES, n_items=ITEMS)
FLOORS = Floors(allow_seeded=True, allow_unmasked=True).for_few()


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities.generate(DEVICES)


def terms(identities: Identities | None, parts: int = PARTS, *, dropout: float = 0.25) -> dict[str, Any]:
    """Terms of a run over all devices; of eight a sub-cohort has six at least, with one that is corrupt."""
    masks = identities is not None
    cohort = choose_cohort(n_users=DEVICES, corrupt=0.1, dropout=dropout, masks=masks, subcohorts=parts)
    mu = mu_of(epsilon=5.0, delta=1e-6)
    facts = PublicFacts(n_users=DEVICES, n_items=ITEMS, mu=mu, seed=3, subcohorts=parts)
    return {"dp": "distributed", "cohort": cohort, "facts": facts, "epsilon": 5.01, "histories": HISTORIES}


def made(make_run: Callable[..., Any], folder: Path, **changes: Any) -> Any:
    """A run in a folder of its own."""
    run = make_run(floors=FLOORS, **changes)
    run.folder = folder
    folder.mkdir()
    return run


class World:
    """Real devices behind a grid, and the server of a run that they take part in."""

    def __init__(self, run: Any, identities: Identities) -> None:
        self.run, self.identities = run, identities
        self.coordinator: Coordinator = run.coordinator()
        self.transport = GridTransport(
            LocalGrid(node_app(lambda _: self.host), nodes=DEVICES), ttl=run.terms.plan_seconds
        )
        self.restart()

    def restart(self) -> None:
        """All devices are started again: what isn't on their disks is gone."""
        self.host = Host(
            Shards(HISTORIES, 1), self.run.devices, self.run.key.public, self.run.floors,
            key_of=self.identities.of,
        )  # fmt: skip

    def attempt(self, lost: Callable[[Subcohorts, int], bool] = lambda attempt, device: False) -> Subcohorts:
        """An attempt up to its sums, in which some are lost before they send their vectors."""
        directory = self.identities.directory(self.transport.invite(masked=True))
        asked = {"plan": self.coordinator.open_attempt(directory), "model": self.coordinator.model.data}
        attempt = self.coordinator.unmasking()
        while not attempt.finished:
            late = attempt.step >= Step.INPUT
            for device, answer in self.transport.exchange(masked_request(attempt, asked)):
                if not (late and lost(attempt, device)):
                    attempt.receive(device, answer)
            attempt.close()
            asked = {}
        return attempt

    def round(self) -> Release:
        """A whole attempt."""
        return run_round(self.coordinator, self.transport, directory_of=self.identities.directory)


def test_the_sum_of_all_has_each_ones_noise_and_costs_what_one_does(
    make_run: Callable[..., Any], identities: Identities, tmp_path: Path
) -> None:
    whole = World(made(make_run, tmp_path / "whole", **terms(identities, 1)), identities).round()
    run = made(make_run, tmp_path / "parts", **terms(identities))
    release = World(run, identities).round()
    clear, again = made(make_run, tmp_path / "clear", **terms(None)), list[Release]()
    run_rounds(clear.coordinator(), InProcess(clear.nodes(users_per_node=1)), on_release=again.append)
    assert release.model.data == again[0].model.data  # the same numbers in the clear, each node one device
    assert release.plan.mu2 == whole.plan.mu2
    assert (release.participation.users, release.participation.subcohorts) == (DEVICES, PARTS)
    charge, seal = run.ledger.entries("run-1")[-2:]
    assert (charge.kind, seal.kind, charge.facts["subcohorts"]) == ("charge", "seal", PARTS)
    noisy = run.registry.read(0, 0, seal.release_hash)
    assert noisy.sizes == (DEVICES // PARTS,) * PARTS
    # Eight shares of a fifth of the variance are in each; the sum has root k times the noise of one.
    assert noisy.sigma == pytest.approx(math.sqrt(PARTS * 8 / 5) * noisy.plan.sigma, rel=1e-3)
    assert run.coordinator().model.hash == release.model.hash  # as a restart finds it


def test_one_that_ends_is_left_out_and_the_round_goes_on(make_run: Callable[..., Any], identities: Identities) -> None:
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    attempt = world.attempt(lambda found, device: found.place[device] == 1)
    release = world.coordinator.close_masked(attempt)
    others = [device for device in range(DEVICES) if attempt.place[device] != 1]
    assert (release.participation.users, release.participation.refused_nodes) == (len(others), DEVICES - len(others))
    assert release.participation.subcohorts == PARTS - 1
    assert [str(each) for each in release.left_out] == ["at least 6 devices must be left after input, got 0"]
    sums = sum(machine.total for machine in attempt.opened)
    found = world.run.registry.read(0, 0, world.run.ledger.entries("run-1")[-1].release_hash)
    assert np.array_equal(found.steps, sums)
    assert all(len(world.run.devices.receipts(device)) == 1 for device in range(DEVICES)), "all have paid"


def test_if_all_end_the_attempt_is_void(make_run: Callable[..., Any], identities: Identities) -> None:
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    with pytest.raises(IntegrityError, match="at least 6 devices"):
        world.attempt(lambda found, device: True)
    early = world.coordinator.unmasking()
    with pytest.raises(IntegrityError, match="must have ended with a sum"):
        world.coordinator.close_masked(early)
    assert world.run.kinds() == ["open", "charge"]
    assert not list(world.run.folder.glob("releases/*"))


def test_an_impossible_sum_spoils_its_own_sub_cohort_alone(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    attempt = world.attempt()
    poison(attempt.machines[:1])
    release = world.coordinator.close_masked(attempt)
    assert (release.participation.users, release.participation.subcohorts) == (16, 2)
    assert ["an impossible sum" in str(each) for each in release.left_out] == [True]


def test_if_all_sums_are_impossible_the_attempt_is_void(make_run: Callable[..., Any], identities: Identities) -> None:
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    attempt = world.attempt()
    poison(attempt.machines)
    with pytest.raises(IntegrityError, match="impossible sum"):
        world.coordinator.close_masked(attempt)
    assert world.run.kinds() == ["open", "charge"]


def poison(machines: Iterable[Unmasking]) -> None:
    """Let a device of each have sent what no device sends: under masks only the sum shows it."""
    for machine in machines:
        machine._result = UnmaskedSum(machine.total + 2**40, machine.survivors)


def test_below_the_floor_nothing_is_opened(make_run: Callable[..., Any], identities: Identities) -> None:
    """The floor is each sub-cohort's: in the terms, in the devices that are invited, and in each sum."""
    with pytest.raises(ValueError, match="`cohort_floor` must be at most n_min of the cohort, 6"):
        make_run(**terms(identities), cohort_floor=7)
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    few = [device for device in range(DEVICES) if device % 4]
    with pytest.raises(IntegrityError, match="needs 18 to 24 devices, got 17: nothing is charged"):
        run_round(world.coordinator, _Inviting(few[:17]), directory_of=identities.directory)
    assert world.run.kinds() == ["open"]
    attempt = world.attempt()
    short = attempt.machines[2]
    short._result = UnmaskedSum(short.total, short.survivors[:5])
    assert world.coordinator.close_masked(attempt).participation.users == 16


class _Inviting:
    """A transport that would invite some."""

    def __init__(self, devices: list[int]) -> None:
        self.devices = devices

    def invite(self, *, masked: bool) -> list[int]:
        return self.devices

    def exchange(self, request: Request) -> Any:
        raise AssertionError("nothing is asked")


@pytest.mark.parametrize("together", [True, False])
def test_nobody_is_in_two_whatever_a_lying_server_asks(
    make_run: Callable[..., Any], identities: Identities, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    """It asks device 0 in two sub-cohorts of one plan: at each step in both, or in one after the other."""
    world = World(make_run(**terms(identities, 2), floors=FLOORS), identities)
    parts = named([identities.directory([*range(12)]), identities.directory([0, *range(12, 23)])])
    plan, model = opened(world, parts, monkeypatch)
    masked, answered = attempt_terms(read_plan(plan)), list[tuple[int, Step]]()
    with pytest.raises(InputError, match="one in two"):
        world.coordinator.unmasking()
    machines = [Unmasking(masked, part, world.run.key) for part in parts]

    def exchange(number: int) -> None:
        machine = machines[number]
        for device in machine.asked:
            step, request = machine.step, machine.request(device)
            if step == Step.ADVERTISE:
                answer = world.host.join(device, plan, model, parts[number].to_bytes(), request)
            else:
                answer = world.host.go_on(device, request)
            if machine.receive(device, answer) and device == 0:
                answered.append((number, step))
        machine.close()

    if not together:
        while not machines[0].finished:
            exchange(0)
        world.restart()  # what isn't on the device's disk can't keep it from answering again
    while not all(machine.finished for machine in machines):
        for number, machine in enumerate(machines):
            if not machine.finished:
                exchange(number)
    # The first request is the same in both, and so is its answer; what depends on a list is answered for one.
    assert [number for number, step in answered if step > Step.ADVERTISE] == [0] * 5
    assert 0 in machines[0].survivors
    assert machines[1].survivors == tuple(range(12, 23))
    assert len(world.run.devices.receipts(0)) == 1


def test_less_noise_in_one_sub_cohort_is_another_plan(make_run: Callable[..., Any], identities: Identities) -> None:
    """A lying server gives one sub-cohort a k-th of the noise: that plan isn't the charged one, whatever it signs."""
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    plan, model = world.coordinator.open_attempt(identities.directory(range(DEVICES))), world.coordinator.model.data
    signed, key = read_plan(plan), world.run.key
    attempt = world.coordinator.unmasking()
    directory, request = attempt.directory(5), attempt.request(5)
    cohort = signed.plan.cohort
    assert cohort is not None
    lies = [
        {"sigma": signed.plan.sigma // PARTS},
        {"cohort": cohort.model_copy(update={"n_min": 18, "n_max": 24})},  # shares of all devices' noise
        {"cohort": cohort.model_copy(update={"subcohorts": 1})},
        {"cohort_floor": 1, "mu2": signed.plan.mu2 / PARTS},
    ]
    for lie in lies:
        other = sign_plan(signed.plan.model_copy(update=lie), signed.charge, key)
        assert world.host.join(5, other.to_bytes(), model, directory, request) == REFUSED, lie
        assert not world.run.devices.receipts(5)
    assert world.host.join(5, plan, model, directory, request) != REFUSED


class Unchecked(Directory):
    """What a lying server sends as a directory."""

    def __post_init__(self) -> None:
        pass


def named(parts: list[Directory]) -> tuple[Directory, ...]:
    """Directories, each with the hashes of all."""
    return tuple(replace(each, beside=tuple(part.hash for part in parts)) for each in parts)


def opened(world: World, parts: tuple[Directory, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """The plan of an attempt with these sub-cohorts, charged and signed, and its model."""
    monkeypatch.setattr("palate_server.rounds.coordinator.drawn", lambda *_: parts)
    return world.coordinator.open_attempt(parts[0]), world.coordinator.model.data


def whole(parts: tuple[Directory, ...]) -> tuple[Directory, ...]:
    return parts


def not_named(parts: tuple[Directory, ...]) -> tuple[Directory, ...]:
    """The first isn't one of those that the plan names: it may be anybody's."""
    return (Unchecked(parts[0].identities, bytes(32), parts[0].beside), *parts[1:])


def named_twice(parts: tuple[Directory, ...]) -> tuple[Directory, ...]:
    """The first is named in the place of the second, too."""
    beside = (parts[0].own_hash, parts[0].own_hash, parts[2].own_hash)
    return (Unchecked(parts[0].identities, parts[0].salt, beside), *parts[1:])


def others_named_twice(parts: tuple[Directory, ...]) -> tuple[Directory, ...]:
    """The third is named in the place of the second, too."""
    beside = (parts[0].own_hash, parts[2].own_hash, parts[2].own_hash)
    return (Unchecked(parts[0].identities, parts[0].salt, beside), *parts[1:])


def too_many(parts: tuple[Directory, ...]) -> tuple[Directory, ...]:
    """The first has one device more than a sub-cohort may have."""
    more = replace(parts[0], identities={**parts[0].identities, 8: parts[1].identities[8]}, beside=())
    return named([more, *(replace(part, beside=()) for part in parts[1:])])


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (not_named, "one of those that are named with it, each once"),
        (named_twice, "one of those that are named with it, each once"),
        (others_named_twice, "one of those that are named with it, each once"),
        (too_many, "got another, or one of too many"),
        (whole, ""),
    ],
)
def test_a_device_takes_only_the_directory_that_its_plan_names_once(
    make_run: Callable[..., Any],
    identities: Identities,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lie: Callable[[tuple[Directory, ...]], tuple[Directory, ...]],
    reason: str,
) -> None:
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    parts = lie(named([identities.directory(range(first, first + 8)) for first in range(0, DEVICES, 8)]))
    plan, model = opened(world, parts, monkeypatch)
    request = first_request(plan, 5)
    with caplog.at_level(logging.INFO):
        answer = world.host.join(5, plan, model, parts[0].to_bytes(), request)
    assert (answer == REFUSED, len(world.run.devices.receipts(5))) == (bool(reason), 0 if reason else 1)
    assert reason in caplog.text


def test_a_device_takes_no_other_directory_of_its_plan(make_run: Callable[..., Any], identities: Identities) -> None:
    """Neither another sub-cohort's, nor its own without the list, in another order, or with another plan's."""
    world = World(make_run(**terms(identities), floors=FLOORS), identities)
    directory = identities.directory(range(DEVICES))
    plan, model = world.coordinator.open_attempt(directory), world.coordinator.model.data
    attempt = world.coordinator.unmasking()
    own, request = attempt.directory(5), attempt.request(5)
    hashes, lines = own[: 32 * PARTS], own[32 * PARTS :]
    other = next(device for device in range(DEVICES) if attempt.place[device] != attempt.place[5])
    lies = [
        attempt.directory(other),
        lines,
        hashes[32:] + hashes[:32] + lines,
        hashes[:64] + lines,
        hashes + hashes + lines,
        directory.to_bytes(),
    ]
    for lie in lies:
        assert world.host.join(5, plan, model, lie, request) == REFUSED
    assert not world.run.devices.receipts(5)
    assert world.host.join(5, plan, model, own, request) != REFUSED


def first_request(plan: bytes, device: int) -> bytes:
    """The server's first request of a complete graph's attempt."""
    return write(Header(Step.ADVERTISE, 0, device, attempt_terms(read_plan(plan)).context), b"", answer=False)
