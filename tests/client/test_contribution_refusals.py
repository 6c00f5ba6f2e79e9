import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate_client.rounds.contribution import Contributor
from palate_common.accounting import sampled
from palate_common.algorithms import PublicFacts, State
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Update
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.device.admission import check_floors
from palate_core.device.floors import Floors
from palate_core.device.trust import Trust
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log.signing import SigningKey
from palate_core.plan import SignedPlan
from palate_server.ledger.ledger import Ledger

MakeRun = Callable[..., Any]
MU = 1.0


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


@pytest.mark.parametrize(
    ("floors", "changes", "reason"),
    [
        pytest.param({}, {"expires": 10}, "the plan has expired", id="expired"),
        pytest.param({"min_sigma": 2**24}, {}, "`sigma` must be >= 16777216 steps", id="little noise"),
        pytest.param({"max_mu2": 0.1}, {}, r"one attempt may cost mu\^2 <= 0.1, got", id="dear"),
        pytest.param({"min_cohort": 100}, {}, "`cohort_floor` must be >= 100", id="small cohort"),
        pytest.param({"allow_seeded": False}, {}, "accepts no seeded noise", id="seeded"),
        pytest.param({"allow_central": False}, {}, "nothing without noise of its own", id="central"),
        pytest.param({}, {"dp": "off", "sigma": 0, "mu2": 0.0}, "takes no part without privacy", id="off"),
    ],
)
def test_a_plan_below_the_floors_is_refused_before_any_charge(
    run: Any, floors: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    base, model = run.first()
    plan = run.altered(base, **changes) if changes else base
    node = run.nodes(floors=Floors(**{"allow_seeded": True, "allow_central": True, **floors}))[0]
    with pytest.raises(RefusedError, match=reason):
        node.contribute(plan, model)
    assert run.devices.receipts(0) == []
    assert node.answer(plan, model) == REFUSED


def test_floors_come_before_sampled_steps_are_counted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes seconds: a device that refuses single events anyway must not be made to."""
    base, model = run.first()
    plan = run.altered(base, dp="local", events={"inclusion": 0.001, "steps": 64})
    monkeypatch.setattr(sampled, "sampled_mu2", lambda **_: pytest.fail("counted"))
    with pytest.raises(RefusedError, match="not single events"):
        run.nodes()[0].contribute(plan, model)


@pytest.mark.parametrize(
    ("n_max", "n_min", "c_max", "refused"),
    [
        (200, 200, 1, "count >= 20 of the cohort as corrupt, got 1"),
        (200, 180, 19, "count >= 20 of the cohort as corrupt, got 19"),
        (201, 180, 20, "count >= 21 of the cohort as corrupt, got 20"),
        (22, 22, 3, "count on >= 20 honest survivors, got 19"),
        (200, 180, 20, None),
        (30, 23, 3, None),  # 0.1 * 30 is above 3 in binary
    ],
)
def test_an_app_wants_a_tenth_counted_as_corrupt_and_twenty_as_honest(
    make_run: MakeRun, n_max: int, n_min: int, c_max: int, refused: str | None
) -> None:
    """With one of 200 counted as the operator's, 199 of his own would leave a device alone with a sliver of noise."""
    cohort = CohortTerms(n_max=n_max, n_min=n_min, c_max=c_max, masks=False)
    data, _ = make_run(dp="distributed", cohort=cohort, epsilon=5.01).first()
    plan = SignedPlan.model_validate_json(data).plan
    strict = Floors(allow_seeded=True, allow_unmasked=True)
    check_floors(plan, strict.for_few(), now=0.0)
    if refused is None:
        check_floors(plan, strict, now=0.0)
    else:
        with pytest.raises(RefusedError, match=refused):
            check_floors(plan, strict, now=0.0)


@pytest.mark.parametrize(("dp", "alone"), [("distributed", 150), ("local", 1), ("central", math.inf)])
def test_a_floor_on_what_an_attempt_costs_if_all_others_are_the_servers(
    make_run: MakeRun, dp: str, alone: float
) -> None:
    cohort = CohortTerms(n_max=200, n_min=170, c_max=20, masks=False)
    facts = PublicFacts(n_users=40, n_items=30, mu=MU, seed=3, local=dp == "local")
    terms = {"cohort": cohort} if dp == "distributed" else {}
    data, _ = make_run(dp=dp, epsilon=5.01, facts=facts, **terms).first()
    plan = SignedPlan.model_validate_json(data).plan
    assert plan.mu2_alone == pytest.approx(alone * plan.mu2, rel=0.02)
    assert Trust.of(plan).alone_mu2 == (plan.mu2_alone if math.isfinite(alone) else None)  # what the ledger keeps
    loose = Floors(allow_seeded=True, allow_unmasked=True, allow_central=True)
    check_floors(plan, replace(loose, max_alone_mu2=plan.mu2_alone), now=0.0)
    with pytest.raises(RefusedError, match="alone, one attempt may cost"):
        check_floors(plan, replace(loose, max_alone_mu2=min(plan.mu2_alone, 1e9) * 0.999), now=0.0)


def test_a_plan_is_answered_up_to_its_last_second(run: Any) -> None:
    plan, model = run.first()
    expires = SignedPlan.model_validate_json(plan).plan.expires
    assert run.nodes(clock=lambda: expires + 0.5)[0].answer(plan, model) == REFUSED
    assert run.nodes(clock=lambda: float(expires))[0].answer(plan, model) != REFUSED


def test_another_model_than_the_plans_is_refused_before_any_charge(run: Any) -> None:
    plan, model = run.first()
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
    base, model = run.first()
    with pytest.raises(IntegrityError, match="the model must"):
        run.nodes()[0].contribute(run.altered(base, **changes), model)


def test_a_plan_for_another_catalogue_is_refused(run: Any) -> None:
    plan, model = run.first()
    histories = Interactions.from_pairs([0], [0], n_users=1, n_items=31)
    node = Contributor(histories, [0], run.devices, run.key.public, run.floors, pinned=None)
    with pytest.raises(RefusedError, match="the catalogue must have 31 items, got 30"):
        node.contribute(plan, model)


def test_every_refusal_looks_the_same_to_the_server(run: Any) -> None:
    plan, model = run.first()
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
        Contributor(run.histories, range(39), run.devices, run.key.public, run.floors, pinned=None)
    plan, model = run.first()
    empty = Contributor(run.histories.users(slice(0, 0)), [], run.devices, run.key.public, run.floors, pinned=None)
    assert empty.answer(plan, model) == REFUSED


@pytest.mark.parametrize("left_out", ["floors", "pinned"])
def test_what_a_device_demands_of_a_plan_is_always_said(run: Any, left_out: str) -> None:
    said = {"ledger": run.devices, "public_key": run.key.public, "floors": run.floors, "pinned": None}
    with pytest.raises(TypeError, match=f"missing 1 required.*'{left_out}'"):
        Contributor(run.histories, range(40), **{name: each for name, each in said.items() if name != left_out})


def test_an_algorithm_that_contributes_twice_a_user_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model = run.first()
    contribute = Popularity.contribute

    def twice(self: Popularity, state: State, round_: int, histories: Interactions) -> Update:
        return contribute(self, state, round_, histories.users(np.repeat(np.arange(histories.n_users), 2)))

    monkeypatch.setattr(Popularity, "contribute", twice)
    node = run.nodes()[0]
    with pytest.raises(InputError, match="must contribute once a user, 16, got 32"):
        node.contribute(plan, model)


def test_a_forked_ledger_finds_no_takers(run: Any) -> None:
    """The operator shows these devices one ledger, and starts another with fewer charges for the next attempt."""
    plan, model = run.first()
    assert run.nodes()[0].answer(plan, model) != REFUSED
    with Ledger(":memory:", population="readers") as fork:
        fork.open_run("a run that the devices' ledger doesn't have", {})
        run.ledger = fork
        again = run.altered(run.first()[0])
        node = run.nodes()[0]
        assert node.answer(again, model) == REFUSED
        assert "extend" in node.refusal
