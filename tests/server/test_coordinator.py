import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.rounds.wire import REFUSED
from palate_core.accounting import charged_mu2
from palate_core.errors import BudgetError, InputError, IntegrityError, LockedError
from palate_core.layout import DUMMIES
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.ledger import ledger as ledger_module
from palate_server.ledger.ledger import Ledger
from palate_server.rounds import coordinator as coordinator_module
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay

MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


def plan_of(signed: bytes) -> RoundPlan:
    return SignedPlan.model_validate_json(signed).plan


def test_the_charge_is_in_the_ledger_before_the_plan_is_signed_and_the_seal_before_the_model_moves(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def watch(target: Any, name: str, label: str) -> None:
        original = getattr(target, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            order.append(f"{label}?")
            result = original(*args, **kwargs)
            order.append(label)
            return result

        monkeypatch.setattr(target, name, watched)

    watch(Ledger, "charge", "charge")
    watch(SigningKey, "sign", "sign")
    watch(coordinator_module, "noised", "noise")
    watch(Registry, "persist", "persist")
    watch(Ledger, "seal", "seal")
    watch(Replay, "apply", "apply")
    coordinator = run.coordinator()
    plan = coordinator.open_attempt()
    assert order == ["charge?", "charge", "sign?", "sign"]
    assert SignedPlan.model_validate_json(plan).charge is not None
    order.clear()
    model = coordinator.model.data
    coordinator.close_attempt({0: run.nodes(users_per_node=40)[0].answer(plan, model)})
    assert order == ["noise?", "noise", "persist?", "persist", "seal?", "seal", "apply?", "apply"]


def test_a_charge_that_fails_leaves_no_signed_plan(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = run.coordinator()

    def refuse(*_: Any, **__: Any) -> None:
        raise BudgetError("no")

    monkeypatch.setattr(Ledger, "charge", refuse)
    monkeypatch.setattr(SigningKey, "sign", lambda *_: pytest.fail("signed without a charge"))
    with pytest.raises(BudgetError):
        coordinator.open_attempt()
    with pytest.raises(InputError, match="must be opened before it is closed"):
        coordinator.close_attempt({})


def test_what_is_charged_is_what_the_noise_costs(run: Any) -> None:
    coordinator = run.coordinator()
    plan = plan_of(coordinator.open_attempt())
    (charge,) = [entry.body for entry in run.ledger.entries("run-1") if entry.kind == "charge"]
    assert charge["plan_hash"] == plan.hash
    assert charge["mu2"] == plan.mu2 == charged_mu2(sensitivity=plan.grid, sigma=plan.sigma)
    assert charge["run_limit"] <= run.terms.facts.mu**2
    assert charge["facts"] == {
        "mechanism": "discrete Gaussian",
        "sensitivity": plan.grid,
        "sigma": plan.sigma,
        "dimension": 30 + DUMMIES,
        "spent": plan.mu2,
        "dp": "central",
        "noise": "seeded",
    }
    assert coordinator.spent == plan.mu2


def test_too_small_a_cohort_releases_nothing_but_stays_charged(make_run: MakeRun) -> None:
    run = make_run(cohort_floor=17)
    coordinator, nodes = run.coordinator(), run.nodes()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    with pytest.raises(IntegrityError, match="at least 17 installations, got 16"):
        coordinator.close_attempt({0: nodes[0].answer(plan, model), 1: REFUSED, 2: b"malformed"})
    assert coordinator.model.header.releases == 0
    assert run.kinds() == ["open", "charge"]
    with pytest.raises(InputError, match="is closed once"):  # the late answers of the others are of no use
        coordinator.close_attempt({number: node.answer(plan, model) for number, node in enumerate(nodes)})
    assert not (run.folder / "releases").exists()


def test_an_attempt_is_noised_once(run: Any) -> None:
    """Closed again with the same answers it would be a second release under one charge."""
    coordinator, node = run.coordinator(), run.nodes(users_per_node=40)[0]
    plan, model = coordinator.open_attempt(), coordinator.model.data
    replies = {0: node.answer(plan, model)}
    coordinator.close_attempt(replies)
    with pytest.raises(InputError, match="is closed once"):
        coordinator.close_attempt(replies)
    assert run.kinds() == ["open", "charge", "seal"]
    assert len(list((run.folder / "releases").iterdir())) == 1


def test_a_bad_node_costs_itself_not_the_round(run: Any) -> None:
    coordinator, nodes = run.coordinator(), run.nodes()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    good = nodes[0].answer(plan, model)
    found = coordinator.close_attempt({0: good, 1: b"\0" * 400, 2: REFUSED, 3: good[:-4]}).participation
    assert (found.users, found.refused_nodes, found.malformed_nodes) == (16, 1, 2)


def test_a_release_shows_who_took_part_but_not_the_sum(run: Any) -> None:
    release = run.one_round(run.coordinator())
    assert not hasattr(release.participation, "total")
    arrays = [value for value in vars(release).values() if isinstance(value, np.ndarray)]
    assert arrays == []


def test_off_is_in_the_ledger_without_a_charge(make_run: MakeRun) -> None:
    run = make_run(dp="off")
    coordinator = run.coordinator()
    plan = coordinator.open_attempt()
    assert SignedPlan.model_validate_json(plan).charge is None
    model = coordinator.model.data
    nodes = run.nodes()
    release = coordinator.close_attempt({n: node.answer(plan, model) for n, node in enumerate(nodes)})
    assert run.kinds() == ["open"]
    assert run.ledger.entries("run-1")[0].body["facts"]["dp"] == "off"
    assert run.ledger.spent() == 0
    assert (release.plan.mu2, release.plan.sigma) == (0, 0)
    exact = np.zeros(30)
    weights = 1 / np.sqrt(np.repeat(run.histories.counts(), run.histories.counts()))
    np.add.at(exact, run.histories.indices, weights)
    assert np.allclose(release.model.state["counts"], exact, atol=40 / 2**14 + 1e-3)


def test_seeded_runs_repeat_and_secure_ones_do_not(tmp_path: Path, make_run: MakeRun) -> None:
    def final(noise: str, name: str) -> str:
        run = make_run(noise=noise)
        run.folder = tmp_path / name
        run.folder.mkdir()
        return run.one_round(run.coordinator()).model.hash

    assert final("seeded", "a") == final("seeded", "b")
    assert len({final("secure", "c"), final("secure", "d"), final("seeded", "e")}) == 3


def test_who_lost_the_folder_charges_nothing_and_seals_nothing(run: Any) -> None:
    coordinator, nodes = run.coordinator(), run.nodes()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    (run.folder / "lock").unlink()
    with pytest.raises(LockedError):
        coordinator.close_attempt({n: node.answer(plan, model) for n, node in enumerate(nodes)})
    with pytest.raises(LockedError):
        coordinator.open_attempt()
    assert run.kinds() == ["open", "charge"]
    assert not (run.folder / "releases").exists()


def test_another_populations_ledger_is_refused(run: Any) -> None:
    with Ledger(":memory:", population="writers") as other:
        with pytest.raises(InputError, match="`population` must be the ledger's, 'writers', got 'readers'"):
            run.coordinator(ledger=other)
        assert len(other.entries()) == 1


def test_a_finished_run_opens_no_attempt(run: Any) -> None:
    coordinator = run.coordinator()
    run.one_round(coordinator, run.nodes())
    assert coordinator.finished
    with pytest.raises(InputError, match="must have a round left"):
        coordinator.open_attempt()
    assert run.kinds() == ["open", "charge", "seal"]


def test_plans_prove_the_latest_checkpoints_and_no_more(
    run: Any, monkeypatch: pytest.MonkeyPatch, set_shares: Callable[..., None]
) -> None:
    monkeypatch.setattr(ledger_module, "PROVED", 2)
    set_shares(*[0.25] * 4)
    coordinator = run.coordinator()
    sizes = []
    for _ in range(4):
        charge = SignedPlan.model_validate_json(coordinator.open_attempt()).charge
        assert charge is not None
        assert [size for size in sorted(charge.consistency) if size > 2] == sizes[-2:]
        sizes.append(charge.checkpoint.size)


def test_a_plan_expires_by_the_servers_clock(run: Any) -> None:
    coordinator = run.coordinator(clock=lambda: 1000.75)
    assert plan_of(coordinator.open_attempt()).expires == 1000 + run.terms.plan_seconds


def test_what_a_run_leaves_in_its_folder_is_public(run: Any) -> None:
    """Nothing there may depend on one user beyond the noised sum: no raw count, no number of rejected updates."""
    coordinator = run.coordinator()
    run.one_round(coordinator, run.nodes())
    files = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file())
    assert files == ["lock", "releases/round-0-attempt-0.safetensors"]
    seal = run.ledger.entries("run-1")[-1].body
    assert set(seal) == {"seq", "kind", "run", "round", "attempt", "release_hash"}
    assert math.isfinite(json.loads(json.dumps(coordinator.spent)))
