from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_client import contribution
from palate_client.contribution import Contributor, Floors
from palate_common.algorithms import PublicFacts
from palate_common.clipping import clip
from palate_common.device_ledger import DeviceLedger
from palate_common.errors import InputError, IntegrityError, RefusedError
from palate_common.interactions import Interactions
from palate_common.ledger import Ledger
from palate_common.model import GlobalModel
from palate_common.plan import Charge, DpMode, RoundPlan, SignedPlan, sign_plan
from palate_common.signing import SigningKey
from palate_common.update import OuterBlock, Update
from palate_common.wire import REFUSED, decode

MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


def first(run: Any) -> tuple[bytes, bytes]:
    """The first attempt's plan, and the model it starts from."""
    coordinator = run.coordinator()
    return coordinator.open_attempt(), coordinator.model.data


def altered(run: Any, base: bytes, **changes: Any) -> bytes:
    """A later attempt with changes, charged in the ledger and signed by the operator like any other."""
    plan = SignedPlan.model_validate_json(base).plan
    fields = {name: getattr(plan, name) for name in RoundPlan.model_fields}
    plan = RoundPlan.model_validate({**fields, "attempt": plan.attempt + 1, **changes})
    if plan.dp is DpMode.OFF:
        return sign_plan(plan, None, run.key).to_bytes()
    earlier = run.ledger.checkpoint().size
    charged = run.ledger.charge(
        run=plan.run,
        round_=plan.round,
        attempt=plan.attempt,
        plan_hash=plan.hash,
        mu2=plan.mu2,
        facts={},
        run_limit=1e9,
    )
    size = charged.checkpoint.size
    charge = Charge(
        entry=charged.entry.body,
        checkpoint=charged.checkpoint,
        inclusion=run.ledger.inclusion_proof(charged.seq, size),
        consistency={old: run.ledger.consistency_proof(old, size) for old in range(1, earlier + 1)},
    )
    return sign_plan(plan, charge, run.key).to_bytes()


def test_an_answer_is_the_clipped_sum_of_the_nodes_users(run: Any) -> None:
    plan, model = first(run)
    node = run.nodes(users_per_node=40)[0]
    opened = SignedPlan.model_validate_json(plan).plan
    got = decode(node.answer(plan, model), grid=opened.grid)
    update = GlobalModel.from_bytes(model).algorithm.contribute({}, 0, run.histories)
    expected = clip(update, opened.layout, clip_norm=opened.clip_norm, grid=opened.grid)
    assert got.total.tolist() == expected.total().tolist()
    assert (got.header.users, got.header.rejected, got.header.plan_hash) == (40, 0, opened.hash)
    assert node.refusal == ""


def test_a_receipt_says_what_left_and_what_it_cost(run: Any) -> None:
    plan, model = first(run)
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

    for name in ("open_plan", "check_floors", "train", "clip", "encode"):
        watch(contribution, name)
    watch(DeviceLedger, "charge")
    plan, model = first(run)
    node = run.nodes()[0]
    assert node.answer(plan, model) != REFUSED
    assert order == ["open_plan", "check_floors", "charge", "train", "clip", "encode"]
    order.clear()
    assert node.answer(plan[:-2], model) == REFUSED
    assert order == ["open_plan"]


def test_a_charge_that_fails_stops_everything(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model = first(run)
    node = run.nodes()[0]
    run.devices.close()
    monkeypatch.setattr(contribution, "train", lambda *_: pytest.fail("trained without a charge"))
    assert node.answer(plan, model) == REFUSED


def test_an_attempt_is_answered_at_most_once(run: Any, tmp_path: Path) -> None:
    plan, model = first(run)
    with DeviceLedger(tmp_path / "devices.db") as devices:
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) != REFUSED
        assert node.answer(plan, model) == REFUSED
        assert "must be above every earlier one" in node.refusal
        later = altered(run, plan)
        assert node.answer(later, model) != REFUSED
    with DeviceLedger(tmp_path / "devices.db") as devices:  # after a restart
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) == REFUSED
        assert node.answer(later, model) == REFUSED
        assert len(devices.receipts(0)) == 2


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300])
def test_how_many_answer_does_not_depend_on_what_anybody_did(
    run: Any, monkeypatch: pytest.MonkeyPatch, odd: float
) -> None:
    """A contribution that is not finite is sent as zero, by a shard and by a device alone: it still takes part."""
    plan, model = first(run)
    clean = run.nodes(users_per_node=40)[0]
    spoiled = run.nodes(users_per_node=40, ledger=(others := DeviceLedger(":memory:")))[0]
    alone = run.nodes(users_per_node=1, ledger=(own := DeviceLedger(":memory:")))[7]
    got = decode(clean.answer(plan, model), grid=2**14)
    train = contribution.train

    def broken(model: GlobalModel, round_: int, histories: Interactions) -> Update:
        update = train(model, round_, histories)
        (block,) = update.blocks
        assert isinstance(block, OuterBlock)
        block.columns[7 if histories.n_users > 1 else 0] = odd
        return update

    monkeypatch.setattr(contribution, "train", broken)
    with others, own:
        worse = decode(spoiled.answer(plan, model), grid=2**14)
        single = decode(alone.answer(plan, model), grid=2**14)
    assert worse.header == got.header
    assert (single.header.users, single.header.rejected) == (1, 0)
    assert not single.total.any()
    monkeypatch.setattr(contribution, "train", train)
    opened = SignedPlan.model_validate_json(plan).plan
    update = train(GlobalModel.from_bytes(model), 0, run.histories.user(7))
    removed = clip(update, opened.layout, clip_norm=1.0, grid=2**14).total()
    assert (got.total - worse.total).tolist() == removed.tolist()


@pytest.mark.parametrize(
    ("floors", "changes", "reason"),
    [
        pytest.param({}, {"expires": 10}, "the plan has expired", id="expired"),
        pytest.param({"min_sigma": 2**24}, {}, "`sigma` must be >= 16777216 steps", id="little noise"),
        pytest.param({"max_mu2": 0.1}, {}, r"one attempt may cost mu\^2 <= 0.1, got", id="dear"),
        pytest.param({"min_cohort": 100}, {}, "`cohort_floor` must be >= 100", id="small cohort"),
        pytest.param({"allow_seeded": False}, {}, "accepts no seeded noise", id="seeded"),
        pytest.param({}, {"dp": "off", "sigma": 0, "mu2": 0.0}, "takes no part without privacy", id="off"),
    ],
)
def test_a_plan_below_the_floors_is_refused_before_any_charge(
    run: Any, floors: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    base, model = first(run)
    plan = altered(run, base, **changes) if changes else base
    node = run.nodes(floors=Floors(**{"allow_seeded": True, **floors}))[0]
    with pytest.raises(RefusedError, match=reason):
        node.contribute(plan, model)
    assert run.devices.receipts(0) == []
    assert node.answer(plan, model) == REFUSED


def test_the_floors_of_an_app_are_strict() -> None:
    assert not Floors().allow_seeded
    assert not Floors().allow_off
    assert Floors().min_sigma >= 64


def test_a_plan_is_answered_up_to_its_last_second(run: Any) -> None:
    plan, model = first(run)
    expires = SignedPlan.model_validate_json(plan).plan.expires
    assert run.nodes(clock=lambda: expires + 0.5)[0].answer(plan, model) == REFUSED
    assert run.nodes(clock=lambda: float(expires))[0].answer(plan, model) != REFUSED


def test_a_device_at_its_own_limit_sits_out_and_the_others_go_on(run: Any) -> None:
    plan, model = first(run)
    cost = SignedPlan.model_validate_json(plan).plan.mu2
    with DeviceLedger(":memory:", limit_mu2=1.5 * cost) as devices:
        devices.charge("ef" * 32, run="before", round_=0, attempt=0, mu2=cost, n_bytes=1, devices=[1, 2, 39])
        got = decode(run.nodes(users_per_node=40, ledger=devices)[0].answer(plan, model), grid=2**14)
        assert (got.header.users, got.header.rejected) == (37, 3)
        assert len(devices.receipts(1)) == 1
        rest = np.setdiff1d(np.arange(40), [1, 2, 39])
        expected = run.nodes(users_per_node=40)[0]
        update = contribution.train(GlobalModel.from_bytes(model), 0, run.histories.users(rest))
        opened = SignedPlan.model_validate_json(plan).plan
        assert got.total.tolist() == clip(update, opened.layout, clip_norm=1.0, grid=2**14).total().tolist()
        assert expected.answer(plan, model) != REFUSED
        later = altered(run, plan)
        node = run.nodes(users_per_node=40, ledger=devices)[0]
        assert node.answer(later, model) == REFUSED
        assert "reached a limit of its own" in node.refusal


def test_participations_are_limited_too(run: Any) -> None:
    plan, model = first(run)
    with DeviceLedger(":memory:", max_participations=1) as devices:
        node = run.nodes(ledger=devices)[0]
        assert node.answer(plan, model) != REFUSED
        assert node.answer(altered(run, plan), model) == REFUSED


def test_another_model_than_the_plans_is_refused_before_any_charge(run: Any) -> None:
    plan, model = first(run)
    node = run.nodes()[0]
    read = GlobalModel.from_bytes(model)
    other = GlobalModel(read.header, {"counts": np.ones(30, np.float32)})
    for data in (other.data, model[:-1], b"", model + b" "):
        with pytest.raises(IntegrityError, match="the model must be the one the plan names"):
            node.contribute(plan, data)
    assert run.devices.receipts(0) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "als"},
        {"settings": {"exponent": 1}},
        {"facts": PublicFacts(n_users=41, n_items=30, mu=1.0)},
        {"model_hash": "00" * 32},
    ],
)
def test_a_plan_that_misnames_its_model_is_refused(run: Any, changes: dict[str, Any]) -> None:
    base, model = first(run)
    with pytest.raises(IntegrityError, match="the model must"):
        run.nodes()[0].contribute(altered(run, base, **changes), model)


def test_a_plan_for_another_catalogue_is_refused(run: Any) -> None:
    plan, model = first(run)
    histories = Interactions.from_pairs([0], [0], n_users=1, n_items=31)
    node = Contributor(histories, [0], run.devices, run.key.public, run.floors)
    with pytest.raises(RefusedError, match="the catalogue must have 31 items, got 30"):
        node.contribute(plan, model)


def test_every_refusal_looks_the_same_to_the_server(run: Any) -> None:
    plan, model = first(run)
    node = run.nodes()[0]
    stranger = run.nodes(public_key=SigningKey.generate().public)[0]
    reasons = set()
    for device, sent in ((node, (b"", model)), (node, (plan, b"")), (stranger, (plan, model))):
        assert device.answer(*sent) == REFUSED
        reasons.add(device.refusal)
    assert len(reasons) == 3
    assert all(reasons)
    assert node.answer(plan, model) != REFUSED
    assert node.refusal == ""


def test_one_device_a_row_or_none_at_all(run: Any) -> None:
    with pytest.raises(InputError, match="`devices` must be one a user, 40, got 39"):
        Contributor(run.histories, range(39), run.devices, run.key.public)
    plan, model = first(run)
    empty = Contributor(run.histories.users(slice(0, 0)), [], run.devices, run.key.public, run.floors)
    assert empty.answer(plan, model) == REFUSED


def test_an_algorithm_that_contributes_twice_a_user_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model = first(run)
    train = contribution.train

    def twice(model: GlobalModel, round_: int, histories: Interactions) -> Update:
        return train(model, round_, histories.users(np.repeat(np.arange(histories.n_users), 2)))

    monkeypatch.setattr(contribution, "train", twice)
    node = run.nodes()[0]
    with pytest.raises(InputError, match="must contribute once a user, 16, got 32"):
        node.contribute(plan, model)


def test_devices_remember_the_ledger_and_keep_the_evidence(run: Any) -> None:
    plan, model = first(run)
    run.nodes()[0].answer(plan, model)
    assert run.devices.seen_checkpoint("readers") == run.ledger.checkpoint()
    assert run.devices.seen_payload("readers") == plan


def test_devices_follow_the_ledger_from_run_to_run(make_run: MakeRun) -> None:
    run = make_run()
    plan, model = first(run)
    assert run.nodes()[0].answer(plan, model) != REFUSED
    run.terms = run.terms.model_copy(update={"run": "run-2"})
    plan, model = first(run)
    node = run.nodes()[0]
    assert node.answer(plan, model) != REFUSED, node.refusal


def test_a_forked_ledger_finds_no_takers(run: Any) -> None:
    """The operator shows these devices one ledger, and starts another with fewer charges for the next attempt."""
    plan, model = first(run)
    assert run.nodes()[0].answer(plan, model) != REFUSED
    with Ledger(":memory:", population="readers") as fork:
        fork.open_run("a run that the devices' ledger doesn't have", {})
        run.ledger = fork
        again = altered(run, first(run)[0])
        node = run.nodes()[0]
        assert node.answer(again, model) == REFUSED
        assert "extend" in node.refusal
