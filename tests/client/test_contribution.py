from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_ledgers import open_ledger
from plans import kept_plan

from palate_client.rounds import contribution
from palate_client.rounds.contribution import Identity, ModelReader, OneDevice
from palate_common.algorithms import PublicFacts, State
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, DenseSteps, OuterBlock, Update
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED, decode, split
from palate_core.accounting import mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.device import participation
from palate_core.device.ledger import DeviceLedger
from palate_core.errors import IntegrityError, RefusedError
from palate_core.log.canonical import digest
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.plan import SignedPlan
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


def test_an_answer_is_the_clipped_sum_of_the_nodes_users(run: Any) -> None:
    plan, model = run.first()
    node = run.nodes(users_per_node=40)[0]
    opened = SignedPlan.model_validate_json(plan).plan
    got = decode(node.answer(plan, model), grid=opened.grid)
    update = GlobalModel.from_bytes(model).algorithm.contribute({}, 0, run.histories)
    expected = clip(update, opened.layout, clip_norm=opened.clip_norm, grid=opened.grid)
    assert got.total.tolist() == expected.total().tolist()
    assert (got.header.users, got.header.rejected, got.header.plan_hash) == (40, 0, opened.hash)
    assert node.refusal == ""


def test_a_receipt_says_what_left_and_what_it_cost(run: Any) -> None:
    plan, model = run.first()
    run.nodes()[0].answer(plan, model)
    (receipt,) = run.devices.receipts(5)
    opened = SignedPlan.model_validate_json(plan).plan
    assert (receipt.run, receipt.round, receipt.attempt) == ("run-1", 0, 0)
    assert (receipt.plan_hash, receipt.mu2, receipt.n_bytes) == (opened.hash, opened.mu2, 4 * 30)
    assert run.devices.receipts(16) == []  # of another node


def test_nothing_is_computed_from_behaviour_before_the_plan_is_verified_and_charged(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def watch(target: Any, name: str) -> None:
        original = getattr(target, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            order.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(target, name, watched)

    for module, name in (
        (participation, "open_plan"), (participation, "check_floors"), (contribution, "clip"), (contribution, "encode"),
    ):  # fmt: skip
        watch(module, name)
    watch(Popularity, "contribute")
    watch(SimulatedLedger, "charge")
    plan, model = run.first()
    node = run.nodes()[0]
    assert node.answer(plan, model) != REFUSED
    assert order == ["open_plan", "check_floors", "charge", "contribute", "clip", "encode"]
    order.clear()
    assert node.answer(plan[:-2], model) == REFUSED
    assert order == ["open_plan"]


def test_a_charge_that_fails_stops_everything(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model = run.first()
    node = run.nodes()[0]
    run.devices.close()
    monkeypatch.setattr(Popularity, "contribute", lambda *_: pytest.fail("trained without a charge"))
    assert node.answer(plan, model) == REFUSED


@pytest.mark.parametrize("masks", [False, True])
def test_a_ledger_that_only_says_yes_charges_nobody_and_so_nothing_is_sent(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, masks: bool
) -> None:
    """What noise is drawn for is the plan that the ledger gives back, not that somebody could be charged."""
    monkeypatch.setattr(DeviceLedger, "charge", lambda self, kept, **_: self.affords(kept.plan))
    keys = [SigningKey.generate() for _ in range(40)]
    directory = Directory({number: key.public for number, key in enumerate(keys)})
    cohort = CohortTerms(n_max=40, n_min=40, c_max=1, masks=True, max_tosses=4)
    run = make_run(**({"dp": "distributed", "cohort": cohort, "epsilon": 5.01} if masks else {}))
    asked = run.first(directory if masks else None)
    with open_ledger(tmp_path / "ledger.db") as ledger:
        device = run.nodes(users_per_node=1, ledger=OneDevice(ledger))[0]
        with pytest.raises(AttributeError):
            device.join(*asked, Identity(keys[0], directory))._vector() if masks else device.contribute(*asked)
        assert not ledger.receipts()


def test_an_attempt_is_answered_at_most_once(run: Any, tmp_path: Path) -> None:
    plan, model = run.first()
    with SimulatedLedger(tmp_path / "devices.db") as devices:
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) != REFUSED
        assert node.answer(plan, model) == REFUSED
        assert "must be above every earlier one" in node.refusal
        later = run.altered(plan)
        assert node.answer(later, model) != REFUSED
    with SimulatedLedger(tmp_path / "devices.db") as devices:  # after a restart
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) == REFUSED
        assert node.answer(later, model) == REFUSED
        assert len(devices.receipts(0)) == 2


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300])
def test_how_many_answer_does_not_depend_on_what_anybody_did(
    run: Any, monkeypatch: pytest.MonkeyPatch, odd: float
) -> None:
    """A contribution that is not finite is sent as zero, by a shard and by a device alone: it still takes part."""
    plan, model = run.first()
    clean = run.nodes(users_per_node=40)[0]
    spoiled = run.nodes(users_per_node=40, ledger=(others := SimulatedLedger(":memory:")))[0]
    alone = run.nodes(users_per_node=1, ledger=(own := SimulatedLedger(":memory:")))[7]
    got = decode(clean.answer(plan, model), grid=2**14)
    contribute = Popularity.contribute

    def broken(self: Popularity, state: State, round_: int, histories: Interactions) -> Update:
        update = contribute(self, state, round_, histories)
        (block,) = update.blocks
        assert isinstance(block, OuterBlock)
        block.columns[7 if histories.n_users > 1 else 0] = odd
        return update

    monkeypatch.setattr(Popularity, "contribute", broken)
    with others, own:
        worse = decode(spoiled.answer(plan, model), grid=2**14)
        single = decode(alone.answer(plan, model), grid=2**14)
    assert worse.header == got.header
    assert (single.header.users, single.header.rejected) == (1, 0)
    assert not single.total.any()
    monkeypatch.setattr(Popularity, "contribute", contribute)
    opened, served = SignedPlan.model_validate_json(plan).plan, GlobalModel.from_bytes(model)
    update = served.algorithm.contribute(served.state, 0, run.histories.user(7))
    removed = clip(update, opened.layout, clip_norm=1.0, grid=2**14).total()
    assert (got.total - worse.total).tolist() == removed.tolist()


def test_a_device_at_its_own_limit_sits_out_and_the_others_go_on(run: Any) -> None:
    plan, model = run.first()
    cost = SignedPlan.model_validate_json(plan).plan.mu2
    with SimulatedLedger(":memory:", limit_mu2=1.5 * cost) as devices:
        devices.charge(kept_plan(run="before", mu2=cost), n_bytes=1, purpose="train", devices=[1, 2, 39])
        got = decode(run.nodes(users_per_node=40, ledger=devices)[0].answer(plan, model), grid=2**14)
        assert (got.header.users, got.header.rejected) == (37, 3)
        assert len(devices.receipts(1)) == 1
        rest = np.setdiff1d(np.arange(40), [1, 2, 39])
        expected = run.nodes(users_per_node=40)[0]
        served = GlobalModel.from_bytes(model)
        update = served.algorithm.contribute(served.state, 0, run.histories.users(rest))
        opened = SignedPlan.model_validate_json(plan).plan
        assert got.total.tolist() == clip(update, opened.layout, clip_norm=1.0, grid=2**14).total().tolist()
        assert expected.answer(plan, model) != REFUSED
        later = run.altered(plan)
        node = run.nodes(users_per_node=40, ledger=devices)[0]
        assert node.answer(later, model) == REFUSED
        assert "reached a limit of its own" in node.refusal


def test_participations_are_limited_too(run: Any) -> None:
    plan, model = run.first()
    with SimulatedLedger(":memory:", max_participations=1) as devices:
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) != REFUSED
        assert node.answer(run.altered(plan), model) == REFUSED


def test_devices_remember_the_ledger_and_keep_the_evidence(run: Any) -> None:
    plan, model = run.first()
    run.nodes()[0].answer(plan, model)
    assert run.devices.seen_checkpoint("readers") == run.ledger.checkpoint()
    assert run.devices.seen_payload("readers") == plan


def test_devices_follow_the_ledger_from_run_to_run(make_run: MakeRun) -> None:
    run = make_run()
    plan, model = run.first()
    assert run.nodes()[0].answer(plan, model) != REFUSED
    run.terms = run.terms.model_copy(update={"run": "run-2"})
    plan, model = run.first()
    node = run.nodes()[0]
    assert node.answer(plan, model) != REFUSED, node.refusal


def test_a_state_that_another_process_has_seen_meanwhile_costs_no_charge(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plan, model), node, read = run.first(), run.nodes()[0], contribution.Contributor._read_model

    def reading(self: contribution.Contributor, *args: Any) -> Any:
        self.ledger.see("readers", Checkpoint(run.ledger.checkpoint().size + 1, "ab" * 32), after=None)
        return read(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(contribution.Contributor, "_read_model", reading)
        assert node.answer(plan, model) == REFUSED
    assert run.devices.size() == 0
    with SimulatedLedger(":memory:") as devices:
        assert run.nodes(ledger=devices)[0].answer(plan, model) != REFUSED


@pytest.mark.parametrize("dp", ["central", "off"])
def test_a_node_that_works_in_parts_answers_with_the_same_bytes(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, dp: str
) -> None:
    run = make_run(dp=dp)
    plan, model = run.first()
    answers, shown = [], list[int]()
    for at_once in (16_384, 40, 39, 7, 1):
        monkeypatch.setattr(contribution, "USERS_AT_ONCE", at_once)
        with SimulatedLedger(":memory:") as devices:
            node = run.nodes(users_per_node=40, ledger=devices, advance=shown.append)[0]
            answers.append(node.answer(plan, model))
    assert answers[0] != REFUSED
    assert set(answers) == {answers[0]}
    assert shown == [40, 40, 39, 1, 7, 7, 7, 7, 7, 5, *[1] * 40]


def test_a_history_that_the_algorithm_fails_on_counts_as_empty_in_its_part_alone(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, model = run.first()
    contribute, bad = Popularity.contribute, run.histories.user(9).indices

    def fails(self: Popularity, state: State, round_: int, histories: Interactions) -> Update:
        if any(np.array_equal(histories.items_of(row), bad) for row in range(histories.n_users)):
            raise ValueError("this history")
        return contribute(self, state, round_, histories)

    monkeypatch.setattr(Popularity, "contribute", fails)
    answers = []
    for at_once in (40, 7):
        monkeypatch.setattr(contribution, "USERS_AT_ONCE", at_once)
        with SimulatedLedger(":memory:") as devices:
            answers.append(decode(run.nodes(users_per_node=40, ledger=devices)[0].answer(plan, model), grid=2**14))
    assert answers[0].header == answers[1].header
    assert answers[0].header.users == 40
    assert answers[0].total.tolist() == answers[1].total.tolist()


def test_a_history_that_the_algorithm_fails_on_takes_nobody_along_in_a_node_of_hundreds(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, data = run.first()
    plan, model, node = SignedPlan.model_validate_json(signed).plan, GlobalModel.from_bytes(data), run.nodes()[0]
    contribute, bad, owners = Popularity.contribute, run.histories.items_of(9), np.arange(360) % 40
    many = run.histories.users(owners)
    expected = node._train_and_clip(plan, model, many.only(owners != 9)).total()

    def fails(self: Popularity, state: State, round_: int, histories: Interactions) -> Update:
        if any(np.array_equal(histories.items_of(row), bad) for row in range(histories.n_users)):
            raise ValueError("this history")
        return contribute(self, state, round_, histories)

    monkeypatch.setattr(Popularity, "contribute", fails)
    assert node._train_or_fall_back(plan, model, many).total().tolist() == expected.tolist()


def test_nodes_that_share_a_reader_verify_and_parse_a_model_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model = run.first()
    parsed = list[int]()
    parse = GlobalModel.from_bytes
    monkeypatch.setattr(contribution.GlobalModel, "from_bytes", lambda data: (parsed.append(len(data)), parse(data))[1])
    reader = ModelReader()
    nodes = run.nodes(users_per_node=10, reader=reader)
    assert nodes[0].answer(plan, model) != REFUSED
    assert nodes[1].answer(plan, bytes(bytearray(model))) != REFUSED  # the same bytes, as they come by another message
    assert nodes[2].answer(plan, model[:-1] + bytes([model[-1] ^ 1])) == REFUSED
    assert nodes[3].answer(plan, model) != REFUSED
    assert parsed == [len(model)]
    array = next(iter(reader.read(model, digest(model)).state.values()))
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 1


@pytest.mark.parametrize("known", [False, True])
def test_a_reader_refuses_a_model_that_the_plan_does_not_name(run: Any, known: bool) -> None:
    _, model = run.first()
    reader = ModelReader()
    if known:
        reader.read(model, digest(model))
    other = bytes(bytearray(model))
    for data in (model, other):
        with pytest.raises(IntegrityError, match="the one the plan names"):
            reader.read(data, digest(b"another"))
    with pytest.raises(IntegrityError, match="the one the plan names"):
        reader.read(model + b" ", digest(model))


class Unreadable:
    """The history of one installation, whose reader refuses, as one would that looks at what was done."""

    n_users, n_items = 1, 30

    def users(self, rows: object) -> Interactions:
        raise RefusedError("there is nothing to contribute")


@pytest.mark.parametrize("dp", ["central", "local", "distributed"])
def test_one_devices_vector_passes_the_final_norm_check_and_is_sent_whatever_its_history(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, dp: str
) -> None:
    """Where clipping lets through 650 clip norms, what leaves is what leaves of a user without events.

    So it is of a history that can't be read: a refusal after the charge, or no vector, would be one bit of it.
    """
    keys = [SigningKey.generate() for _ in range(40)]
    directory = Directory({number: key.public for number, key in enumerate(keys)})
    cohort = CohortTerms(n_max=40, n_min=40, c_max=1, masks=True, max_tosses=4)
    facts = PublicFacts(n_users=40, n_items=30, mu=mu_of(epsilon=5.0, delta=1e-6), seed=3, local=dp == "local")
    run = make_run(dp=dp, epsilon=5.01, facts=facts, **({"cohort": cohort} if dp == "distributed" else {}))
    masked, at = run.first(directory if dp == "distributed" else None), int(np.argmax(np.diff(run.histories.indptr)))
    clean, vectors = contribution.clip, list[Any]()

    def lengthened(update: Update, layout: Any, *, clip_norm: float, grid: int) -> ClippedUpdate:
        found = clean(update, layout, clip_norm=clip_norm, grid=grid)
        return ClippedUpdate((DenseSteps(found.vector(0)[None] * 650),), found.accepted, found.grid)

    def sent(histories: Unreadable | None = None) -> list[int]:
        """What leaves the device with the longest history, before it is masked."""
        with SimulatedLedger(":memory:") as ledger:
            device = run.nodes(users_per_node=1, ledger=ledger)[at]
            device.histories = histories or device.histories
            if dp == "distributed":
                device.join(*masked, Identity(keys[at], directory))
                return vectors.pop()().steps.tolist()
            header, numbers = split(device.contribute(*masked))
            assert header.users == 1
            return np.frombuffer(numbers, np.int32).tolist()

    monkeypatch.setattr(contribution, "MaskedDevice", lambda *_, vector, **__: vectors.append(vector))
    honest, unread = sent(), sent(Unreadable())
    monkeypatch.setattr(contribution, "clip", lengthened)
    found = sent()
    monkeypatch.setattr(contribution, "clip", clean)
    run.histories = run.histories.only(np.zeros(run.histories.n_users, np.bool_))
    assert found == unread == sent() != honest
