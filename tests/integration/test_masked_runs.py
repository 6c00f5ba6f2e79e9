"""Whole runs with `--dp distributed`: under masks, in the clear, with devices that are lost; over Flower's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from pydantic import ValidationError

from palate_client.rounds.contribution import Identity
from palate_common.interactions import Interactions
from palate_common.records.key_file import save_key
from palate_common.rounds.wire import REFUSED, ContributionHeader, decode_share, encode_share
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.layout import released_size
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.messages import Step
from palate_core.noise_share import ClearSum
from palate_core.plan import SignedPlan
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.noise import noised
from palate_server.rounds.run import run_round, run_rounds
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import NEXT, GridTransport, roll_call
from palate_sim.engines.identities import Identities
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.job import Job
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.local import run_local

ROUNDS = 2
ALS = {"algorithm": "als", "settings": {"rounds": ROUNDS, "popularity_only_below": 0, "embedding_size": 4}}
DEVICES = 24
FEWER = DEVICES - 4


def made_histories() -> Interactions:
    """Of no items up to eight, popular ones first."""
    rng, odds = np.random.default_rng(7), 1 / np.arange(1, 31)
    items = [rng.choice(30, device % 9, replace=False, p=odds / odds.sum()) for device in range(DEVICES)]
    owners = np.repeat(np.arange(DEVICES), [len(each) for each in items])
    return Interactions.from_pairs(owners, np.concatenate(items), n_users=DEVICES, n_items=30)


HISTORIES = made_histories()


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities.generate(DEVICES)


def distributed(identities: Identities | None = None, *, n_min: int = DEVICES, c_max: int = 1) -> dict[str, Any]:
    """Terms with masks, or, without identities, in the clear."""
    cohort = CohortTerms(n_max=DEVICES, n_min=n_min, c_max=c_max, masks=identities is not None, max_tosses=4)
    return {**ALS, "dp": "distributed", "cohort": cohort, "epsilon": 5.01, "histories": HISTORIES}


class Lossy(LocalGrid):
    """A grid that loses what some devices say from a step on."""

    def __init__(self, client: ClientApp, *, nodes: int, lost: dict[int, Step]) -> None:
        super().__init__(client, nodes=nodes)
        self.lost = lost
        self.exchanges: list[str] = []

    def _deliver(self, message: Message) -> Message:
        step, node = message.metadata.group_id, message.metadata.dst_node_id
        if step not in self.exchanges and message.metadata.message_type.startswith("train"):
            self.exchanges.append(step)
        reply = super()._deliver(message)
        if step.isdigit() and int(step) >= self.lost.get(node - 1, 99):
            return Message(Error(3), reply_to=message)
        return reply


def play(coordinator: Coordinator, grid: Grid, identities: Identities | None = None, **options: Any) -> None:
    """Every round over a grid."""
    directory_of = None if identities is None else identities.directory
    transport = GridTransport(grid, ttl=coordinator.terms.plan_seconds)
    run_rounds(coordinator, transport, directory_of=directory_of, **options)


def masked(run: Any, identities: Identities, lost: dict[int, Step] | None = None) -> tuple[list[Release], Lossy]:
    """Every round of a run under masks."""
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    grid = Lossy(node_app(lambda _: host), nodes=run.histories.n_users, lost=lost or {})
    releases: list[Release] = []
    play(run.coordinator(), grid, identities, on_release=releases.append)
    return releases, grid


def clear(
    make_run: Callable[..., Any], folder: Path, devices: Iterable[int] | None = None, **terms: Any
) -> list[Release]:
    """The same run, its shares summed in the clear, one device a node."""
    run = make_run(floors=Floors(allow_seeded=True, allow_unmasked=True).for_few(), **terms)
    run.folder = folder
    run.folder.mkdir()
    kept = range(DEVICES) if devices is None else devices
    with SimulatedLedger(":memory:", durable=False) as ledger:
        nodes = run.nodes(users_per_node=1, ledger=ledger)
        releases: list[Release] = []
        run_rounds(run.coordinator(), InProcess([nodes[device] for device in kept]), on_release=releases.append)
    return releases


def test_masks_change_nothing_but_who_sees_what(
    make_run: Callable[..., Any], identities: Identities, tmp_path: Path
) -> None:
    """The same seeds give the same bits, release by release, under masks and in the clear."""
    releases, grid = masked(make_run(**distributed(identities)), identities)
    again = clear(make_run, tmp_path / "clear", **distributed())
    assert [r.model.data for r in releases] == [r.model.data for r in again]
    assert [r.participation.users for r in releases] == [DEVICES] * ROUNDS
    assert len(grid.exchanges) == 6  # up to 250 devices nothing is committed to


def test_the_lost_are_in_no_sum(make_run: Callable[..., Any], identities: Identities, tmp_path: Path) -> None:
    """Whoever is lost before the input, at whichever step, is not in the sum; the others' exact noised sum is."""
    lost = {3: Step.ADVERTISE, 7: Step.SHARE, 19: Step.INPUT}
    terms = {"n_min": FEWER, "c_max": 2}
    releases, _ = masked(make_run(**distributed(identities, **terms)), identities, lost)
    kept = [device for device in range(DEVICES) if device not in lost]
    again = clear(make_run, tmp_path / "clear", kept, **distributed(**terms))
    assert [r.model.data for r in releases] == [r.model.data for r in again]
    assert [(r.participation.users, r.participation.refused_nodes) for r in releases] == [(DEVICES - 3, 3)] * ROUNDS


def test_the_lost_after_the_input_are_in_the_sum(
    make_run: Callable[..., Any], identities: Identities, tmp_path: Path
) -> None:
    lost = {3: Step.CONSISTENCY, 7: Step.UNMASK}
    terms = {"n_min": FEWER, "c_max": 2}
    releases, _ = masked(make_run(**distributed(identities, **terms)), identities, lost)
    again = clear(make_run, tmp_path / "clear", **distributed(**terms))
    assert [r.model.data for r in releases] == [r.model.data for r in again]


@pytest.mark.parametrize("step", list(Step)[1:])
def test_too_many_lost_release_nothing_and_stay_charged(
    make_run: Callable[..., Any], identities: Identities, step: Step
) -> None:
    run = make_run(**distributed(identities, n_min=DEVICES - 2, c_max=2))
    with pytest.raises(IntegrityError):
        masked(run, identities, {device: step for device in range(DEVICES // 2)})
    assert run.kinds() == ["open", "charge"]
    assert not list(run.folder.glob("releases/*"))


def test_an_aborted_attempt_is_tried_again_with_fresh_everything(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    run = make_run(**distributed(identities, n_min=DEVICES - 2, c_max=2))
    with pytest.raises(IntegrityError):
        masked(run, identities, {device: Step.UNMASK for device in range(DEVICES // 2)})
    releases, _ = masked(run, identities)
    assert [(r.plan.round, r.plan.attempt) for r in releases] == [(0, 1), (1, 0)]
    assert run.kinds() == ["open", "charge", *["charge", "seal"] * ROUNDS]
    assert run.coordinator().spent <= run.terms.facts.mu**2
    # A latch is of one device and one attempt.
    with run.devices._view() as connection:
        held = connection.execute("SELECT device, round, attempt, step FROM latches").fetchall()
    attempts, steps = [(0, 0), (0, 1), (1, 0)], ("open", "input", "consistency")
    assert sorted(held) == sorted((d, *a, s) for d in range(DEVICES) for a in attempts for s in steps)


def test_a_device_charges_before_it_answers_and_answers_an_attempt_once(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    run = make_run(**distributed(identities))
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    coordinator = run.coordinator()
    directory = identities.directory(range(DEVICES))
    asked = coordinator.open_attempt(directory), coordinator.model.data, directory.to_bytes()
    request = coordinator.unmasking().request(5)
    first = host.join(5, *asked, request)
    assert first != REFUSED
    assert len(run.devices.receipts(5)) == 1
    assert host.join(5, *asked, request) == first  # resent as it was
    assert host.go_on(5, request) == first
    restarted = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    assert restarted.join(5, *asked, request) == REFUSED
    assert restarted.go_on(5, request) == REFUSED
    assert len(run.devices.receipts(5)) == 1


def test_the_latch_outlives_the_process(tmp_path: Path) -> None:
    place = {"device": 3, "run": "run-1", "round_": 0, "attempt": 0}
    with SimulatedLedger(tmp_path / "devices.db") as ledger:
        ledger.latch("consistency", "aa", **place)
        ledger.latch("consistency", "aa", **place)
    with SimulatedLedger(tmp_path / "devices.db") as ledger:
        with pytest.raises(RefusedError, match="another request"):
            ledger.latch("consistency", "bb", **place)
        for other in ({"device": 4}, {"run": "run-2"}, {"round_": 1}, {"attempt": 1}):
            ledger.latch("consistency", "bb", **{**place, **other})
        ledger.latch("input", "bb", **place)


@pytest.mark.parametrize(
    ("request_", "plan"),
    [(b"", b""), (b"\x01", b""), (b"\x01\x09" + bytes(60), b"x"), (bytes(40), b"")],
)
def test_a_node_refuses_garbage_with_one_word(
    make_run: Callable[..., Any], identities: Identities, request_: bytes, plan: bytes
) -> None:
    run = make_run(**distributed(identities))
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    assert host.join(0, plan, b"", b"", request_) == REFUSED
    assert host.go_on(0, request_) == REFUSED


def test_what_is_asked_under_masks_is_not_answered_without(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    run = make_run(**distributed(identities))
    plan, model = run.first(identities.directory(range(DEVICES)))
    (node, *_) = run.nodes(users_per_node=1)
    assert node.answer(plan, model) == REFUSED
    assert "masks" in node.refusal
    assert not run.devices.receipts(0)  # what is not answered costs nothing


def test_what_is_asked_in_the_clear_is_refused_by_a_real_device(make_run: Callable[..., Any]) -> None:
    run = make_run(**distributed(), noise="secure", floors=Floors())
    plan, model = run.first()
    (node, *_) = run.nodes(users_per_node=1)
    assert node.answer(plan, model) == REFUSED
    assert "without masks" in node.refusal
    assert not run.devices.receipts(0)


def test_a_device_counts_the_honest(make_run: Callable[..., Any]) -> None:
    run = make_run(**distributed(), noise="secure", floors=Floors(allow_unmasked=True, min_honest=DEVICES))
    plan, model = run.first()
    (node, *_) = run.nodes(users_per_node=1)
    assert node.answer(plan, model) == REFUSED
    assert f"honest survivors, got {DEVICES - 1}" in node.refusal


def test_masks_want_one_installation_a_node_and_an_identity_of_the_directory(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    run, directory = make_run(**distributed(identities)), identities.directory(range(DEVICES))
    plan, model = run.first(directory)
    (several, *_) = run.nodes(users_per_node=2)
    with pytest.raises(InputError, match="one installation"):
        several.join(plan, model, Identity(identities.of(0), directory))
    single = run.nodes(users_per_node=1)[1]
    more = Identities.generate(DEVICES + 1).of(DEVICES).public
    swapped = {**directory.identities, 2: directory.identities[3], 3: directory.identities[2]}
    for others in (
        identities.directory(range(DEVICES)),  # of another salt
        replace(directory, identities=swapped),
        replace(directory, identities={**directory.identities, 2: more}),
        replace(directory, identities={**directory.identities, DEVICES: more}),
        replace(directory, identities=identities.directory(range(DEVICES - 1)).identities),
    ):
        with pytest.raises(RefusedError, match="directory"):
            single.join(plan, model, Identity(identities.of(1), others))
    with pytest.raises(InputError, match="identity"):
        single.join(plan, model, Identity(identities.of(2), directory))
    assert not run.devices.receipts(1)  # what doesn't fit costs nothing
    single.join(plan, model, Identity(identities.of(1), directory))
    (receipt,) = run.devices.receipts(1)
    plan_ = SignedPlan.model_validate_json(plan).plan
    assert receipt.n_bytes == -(-released_size(plan_.layout) * plan_.bits(1) // 8)


def test_a_machine_of_another_attempt_closes_nothing(make_run: Callable[..., Any], identities: Identities) -> None:
    run = make_run(**distributed(identities))
    coordinator = run.coordinator()
    directory = identities.directory(range(DEVICES))
    coordinator.open_attempt(directory)
    stale = coordinator.unmasking()
    coordinator.open_attempt(directory)
    with pytest.raises(InputError, match="another's"):
        coordinator.close_masked(stale)
    with pytest.raises(InputError):
        coordinator.unmasking()


def test_a_round_wants_a_directory_with_masks_and_only_then(
    make_run: Callable[..., Any], identities: Identities, tmp_path: Path
) -> None:
    masks, central = make_run(**distributed(identities)), make_run()
    with pytest.raises(InputError, match=r"directory.*nothing is charged"):
        play(masks.coordinator(), nobody())
    with pytest.raises(InputError, match="directory"):
        masks.coordinator().open_attempt()
    assert masks.kinds() == ["open"]
    central.folder = tmp_path / "central"
    central.folder.mkdir()
    coordinator = central.coordinator()
    coordinator.open_attempt()
    with pytest.raises(InputError, match="with masks"):
        coordinator.unmasking()


def nobody() -> LocalGrid:
    """A grid that a round has no reason to use."""
    return Lossy(ClientApp(), nodes=1, lost={})


def test_too_few_devices_cost_nothing(make_run: Callable[..., Any], identities: Identities) -> None:
    run = make_run(**distributed(identities))
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    grid = LocalGrid(node_app(lambda _: host), nodes=DEVICES - 1)
    with pytest.raises(IntegrityError, match="nothing is charged"):
        play(run.coordinator(), grid, identities)
    assert run.kinds() == ["open"]


def test_the_local_engine_runs_masks(make_run: Callable[..., Any], identities: Identities, tmp_path: Path) -> None:
    run = make_run(**distributed(identities))
    save_key(run.key, tmp_path / "release.key")
    identities.save(tmp_path / "identities")
    folder = tmp_path / "engine"
    folder.mkdir()
    job = Job(
        folder=folder,
        terms=run.terms,
        ledger=tmp_path / "ledger.db",
        key=tmp_path / "release.key",
        users_per_node=1,
        floors=run.floors,
        identities=tmp_path / "identities",
    )
    outcome = run_local(job, run.histories)
    again = clear(make_run, tmp_path / "clear", **distributed())
    assert outcome.model.data == again[-1].model.data
    assert outcome.updates == ROUNDS * DEVICES


def test_a_pooled_node_has_the_noise_of_all_its_devices(make_run: Callable[..., Any], tmp_path: Path) -> None:
    """With many devices a node the variance is theirs together; the release's own figure says so."""
    run = make_run(floors=Floors(allow_seeded=True, allow_unmasked=True).for_few(), **distributed(n_min=FEWER, c_max=4))
    coordinator = run.coordinator()
    run.one_round(coordinator)
    (path,) = run.folder.glob("releases/*.safetensors")
    noisy = run.registry.read(0, 0, run.ledger.entries(run.terms.run)[-1].release_hash)
    assert path.exists()
    assert noisy.users == DEVICES
    assert noisy.sigma**2 == pytest.approx(DEVICES / (FEWER - 4) * noisy.plan.sigma**2, rel=1e-3)
    dummies = noisy.steps[-64:].astype(float) / noisy.sigma
    assert 25 < np.square(dummies).sum() < 120  # chi^2 with 64 degrees: alpha below 1e-5
    assert NEXT == "train.masked"


def test_a_server_that_asks_for_no_noise_gets_nothing_of_a_device_that_masks(
    make_run: Callable[..., Any], identities: Identities
) -> None:
    """An operator may sign and charge any plan: one with dp central would bring the clipped vector itself."""
    run = make_run(**ALS, noise="secure", floors=Floors())
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    plan, model = run.first()
    assert host.answer(0, plan, model) == REFUSED
    assert host.join(0, plan, model, b"", b"") == REFUSED
    assert not run.devices.receipts(0)


def test_a_device_that_masks_keeps_the_checkpoint_it_saw(make_run: Callable[..., Any], identities: Identities) -> None:
    run, directory = make_run(**distributed(identities)), identities.directory(range(DEVICES))
    plan, model = run.first(directory)
    run.nodes(users_per_node=1)[0].join(plan, model, Identity(identities.of(0), directory))
    assert run.devices.seen_checkpoint("readers") == SignedPlan.model_validate_json(plan).charge.checkpoint


class Blank(Lossy):
    """A grid on which one device answers without an answer."""

    def _deliver(self, message: Message) -> Message:
        reply = super()._deliver(message)
        blank = message.metadata.dst_node_id == 4 and message.metadata.group_id in ("1", "2")
        return Message(RecordDict(), reply_to=message) if blank else reply


def test_a_reply_without_an_answer_is_as_silence(make_run: Callable[..., Any], identities: Identities) -> None:
    """An honest device refuses with the constant; who sends what nobody has signed is named for nothing."""
    run = make_run(**distributed(identities, n_min=FEWER, c_max=3))
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, key_of=identities.of)
    grid = Blank(node_app(lambda _: host), nodes=DEVICES, lost={})
    coordinator = run.coordinator()
    play(coordinator, grid, identities, most=1)
    assert (coordinator.conduct.unsigned, coordinator.conduct.named) == ({3}, set())


def test_attempts_that_cannot_be_masked_are_not_charged(
    make_run: Callable[..., Any], identities: Identities, tmp_path: Path
) -> None:
    larger = Identities.generate(DEVICES + 1)
    for n_max, invited in ((DEVICES, DEVICES + 1), (DEVICES + 1, DEVICES - 1)):
        terms = distributed(larger)
        terms["cohort"] = terms["cohort"].model_copy(update={"n_max": n_max})
        run = make_run(**terms)
        run.folder = tmp_path / f"most-{n_max}"
        run.folder.mkdir()
        transport = SimpleNamespace(invite=partial(_invited, invited))
        with pytest.raises(IntegrityError, match=rf"{DEVICES} to {n_max} devices, got {invited}: nothing is charged"):
            run_round(run.coordinator(), transport, directory_of=larger.directory)
        assert run.kinds() == ["open"]


def _invited(count: int, *, masked: bool) -> range:
    return range(count)


def test_terms_are_those_of_the_plan(make_run: Callable[..., Any], identities: Identities) -> None:
    run = make_run(**distributed(identities, n_min=FEWER, c_max=3))
    directory = identities.directory(range(DEVICES))
    signed = SignedPlan.model_validate_json(run.first(directory)[0])
    made, cohort = attempt_terms(signed), run.terms.cohort.model_copy(update={"directory": directory.hash})
    assert signed.plan.cohort == cohort
    found = (made.n_max, made.n_min, made.c_max, made.max_tosses, made.directory, made.bits)
    expected = (cohort.n_max, cohort.n_min, cohort.c_max, cohort.max_tosses, cohort.directory, signed.plan.bits(1))
    assert found == expected


def test_who_claims_a_device_first_is_not_pushed_out() -> None:
    class Claims(LocalGrid):
        def _deliver(self, message: Message) -> Message:
            return Message(RecordDict({"palate": ConfigRecord({"device": 7})}), reply_to=message)

    assert roll_call(Claims(ClientApp(), nodes=3), ttl=1.0) == {7: 1}


def test_a_release_below_n_min_is_none(make_run: Callable[..., Any]) -> None:
    """In the clear, too: the floor is the cohort's, whatever `cohort_floor` says."""
    run = make_run(
        floors=Floors(allow_seeded=True, allow_unmasked=True).for_few(), **distributed(n_min=DEVICES - 2, c_max=2)
    )
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    answers = {n: node.answer(plan, model) for n, node in enumerate(run.nodes(users_per_node=1)[: DEVICES - 3])}
    with pytest.raises(IntegrityError, match=f"at least {DEVICES - 2} installations, got {DEVICES - 3}"):
        coordinator.close_attempt(answers)
    assert run.kinds() == ["open", "charge"]


def test_the_charge_says_whose_noise_it_is(make_run: Callable[..., Any]) -> None:
    run = make_run(**distributed(n_min=FEWER, c_max=3))
    signed = SignedPlan.model_validate_json(run.first()[0])
    facts = signed.charge.entry["facts"]
    assert (facts["shares"], facts["share_sigma"]) == (FEWER - 3, signed.plan.share_sigma)


def test_the_devices_noise_is_all_there_is(make_run: Callable[..., Any]) -> None:
    plan = SignedPlan.model_validate_json(make_run(**distributed()).first()[0]).plan
    total = np.arange(released_size(plan.layout), dtype=np.int64)
    assert np.array_equal(noised(Aggregate(total, ParticipationCounts(DEVICES, 0, 0, 0)), plan).steps, total)
    with pytest.raises(IntegrityError, match=f"at most {DEVICES}"):
        noised(Aggregate(total, ParticipationCounts(DEVICES + 1, 0, 0, 0)), plan)


def test_what_is_reserved_of_delta_is_not_the_noises(make_run: Callable[..., Any]) -> None:
    """A mu that the whole delta allows is refused: a part of it is the graph's."""
    with pytest.raises(ValidationError, match="mu must be one that epsilon"):
        make_run(**{**distributed(), "epsilon": 5.0})


@pytest.mark.parametrize("number", [2**19, -(2**19) - 1])
def test_no_noised_sum_leaves_the_modulus(number: int) -> None:
    header = ContributionHeader(run="r", round=0, attempt=0, plan_hash="ab", users=1, rejected=0, size=1)
    record = encode_share(header, ClearSum(np.array([number]), 1), bits=20)
    with pytest.raises(IntegrityError, match="fit 20 bits"):
        decode_share(record, bits=20)
