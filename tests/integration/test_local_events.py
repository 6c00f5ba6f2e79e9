"""Runs with dp local whose unit is one event, and servers and devices that disagree about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_cli.cli import run as palate
from palate_common.algorithms import PublicFacts
from palate_core.cohort_terms import RESERVED_DELTA
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.plan import SignedPlan
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.run import run_rounds
from palate_sim.config import build_config
from palate_sim.engines.in_process import InProcess

MakeRun = Callable[..., Any]
LOOSE = {"allow_seeded": True, "allow_events": True}
SETTINGS = {"embedding_size": 4, "user_steps": 2}


@pytest.fixture
def events(make_run: MakeRun, histories: Any) -> Callable[..., Any]:
    def make(inclusion: float = 1.0, floors: dict[str, Any] | None = None) -> Any:
        facts = PublicFacts(n_users=histories.n_users, n_items=histories.n_items, mu=1.0, seed=3, local=True)
        run = make_run(
            histories=histories, dp="local", facts=facts, epsilon=5.02, algorithm="event-mf", events=inclusion,
            settings={**SETTINGS, "inclusion": inclusion}, floors=Floors(**{**LOOSE, **(floors or {})}),
        )  # fmt: skip
        run.ledger = Ledger(":memory:", population="readers", unit="event")
        return run

    return make


@pytest.mark.parametrize("inclusion", [1.0, 0.5])
def test_a_run_charges_all_steps_of_all_rounds_to_both_ledgers(events: Any, inclusion: float) -> None:
    run = events(inclusion)
    coordinator = run.coordinator()
    releases: list[Any] = []
    run_rounds(coordinator, InProcess(run.nodes(users_per_node=5)), on_release=releases.append)
    assert [each.plan.events.steps for each in releases] == [1, 3, 3]
    assert {each.plan.events.inclusion for each in releases} == {inclusion}
    charges = [entry for entry in run.ledger.entries() if entry.kind == "charge"]
    assert [charge.facts["steps"] for charge in charges] == [1, 3, 3]
    assert {charge.facts["unit"] for charge in charges} == {"event"}
    assert run.devices.spent(2) == pytest.approx(coordinator.spent, rel=1e-12)
    assert 0.95 < coordinator.spent <= 1.0
    assert coordinator.terms.noise_delta == coordinator.terms.delta - (RESERVED_DELTA if inclusion < 1 else 0)


@pytest.mark.parametrize(
    "lie",
    [
        {"events": {"inclusion": 0.1, "steps": 3}},
        {"events": {"inclusion": 0.5, "steps": 4}},
        {"sigma": 2**12},
    ],
)
def test_a_plan_whose_steps_cost_more_or_less_than_was_charged_is_refused(events: Any, lie: dict[str, Any]) -> None:
    """What a device works out itself counts; a plan that costs less than it says is still another than was charged."""
    run = events(0.5)
    plan, model = run.first()
    asked = SignedPlan.model_validate_json(plan).plan
    # Fewer events than charged for is no harm by itself, but the charge is for another plan.
    mu2 = asked.mu2 if lie == {"events": {"inclusion": 0.1, "steps": 3}} else asked.mu2 * 0.5
    with pytest.raises(IntegrityError):
        run.nodes()[0].contribute(_resigned(run, plan, {**lie, "mu2": mu2}), model)
    assert run.devices.receipts(0) == []


def _resigned(run: Any, plan: bytes, changes: dict[str, Any]) -> bytes:
    """The same charge under another plan, signed by the server itself."""
    from palate_core.plan import RoundPlan, sign_plan

    signed = SignedPlan.model_validate_json(plan)
    changed = RoundPlan.model_validate({**signed.plan.model_dump(), **changes})
    return sign_plan(changed, signed.charge, run.key).to_bytes()


def test_a_plan_of_one_unit_with_an_algorithm_of_the_other_is_refused_before_any_charge(
    events: Any, make_run: MakeRun, histories: Any, tmp_path: Path
) -> None:
    run = events()
    base, model = run.first()
    node = run.nodes()[0]
    with pytest.raises(RefusedError, match="one of the plan's unit"):
        node.contribute(run.altered(base, events=None), model)
    facts = PublicFacts(n_users=histories.n_users, n_items=histories.n_items, mu=1.0, seed=3, local=True)
    plain = make_run(histories=histories, dp="local", facts=facts, epsilon=5.02, floors=Floors(**LOOSE))
    plain.folder = tmp_path / "plain"
    plain.folder.mkdir()
    base, model = plain.first()
    with pytest.raises(RefusedError, match="one of the plan's unit"):
        plain.nodes()[0].contribute(plain.altered(base, events={"inclusion": 1.0, "steps": 1}), model)
    assert plain.devices.receipts(0) == []


def test_a_ledger_counts_one_unit(events: Any, tmp_path: Path) -> None:
    run = events()
    run.ledger.close()
    run.ledger = Ledger(":memory:", population="readers")
    with pytest.raises(InputError, match="the run's unit must be its ledger's, user, got event"):
        run.coordinator()
    path = tmp_path / "readers.ledger.db"
    Ledger(path, population="readers", unit="event").close()
    with Ledger(path, population="readers") as ledger:
        assert ledger.unit == "event"
    with pytest.raises(InputError, match="`unit` must be the ledger's, event, got user"):
        Ledger(path, population="readers", unit="user")


@pytest.mark.parametrize(
    ("privacy", "algorithm", "said"),
    [
        ({"unit": "event"}, "event-mf", "`privacy.unit` event needs `privacy.dp` local, got distributed"),
        ({"unit": "event", "dp": "local"}, "als", "must be one for `privacy.unit` event, such as event-mf, got als"),
        ({"dp": "local"}, "event-mf", "must be one for `privacy.unit` user, such as als, got event-mf"),
    ],
)
def test_units_modes_and_algorithms_must_fit(privacy: dict[str, Any], algorithm: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_config({"privacy": privacy, "algorithm": {"name": algorithm}})


@pytest.mark.parametrize("inclusion", [1.0, pytest.param(0.5, marks=pytest.mark.soak)])
def test_the_command_runs_judges_and_audits_events(
    inclusion: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    odds = 1 / np.arange(1, 41)
    lines = ["user_id,item_id"]
    for user in range(120):
        items = rng.choice(40, rng.integers(4, 15), replace=False, p=odds / odds.sum())
        lines += [f"u{user},i{item}" for item in items]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "run"
    words = ["simulate", str(tmp_path / "log.csv"), "--dp", "local", "--epsilon", "8", "--out", str(folder)]
    words += ["--algorithm", "event-mf", "--set", "privacy.unit=event", "--set", "evaluation.baselines=none"]
    words += ["--set", f"algorithm.settings.inclusion={inclusion}", "--set", "algorithm.settings.embedding_size=4"]
    assert palate(words) == 0
    assert "unit: event" in capsys.readouterr().out
    card = (folder / "privacy_card.json").read_text()
    assert "NOT a user as a whole" in card
    assert ("secret coin" in card) == (inclusion < 1)
    assert palate(["audit", "ledger", str(folder)]) == 0
    assert palate(["audit", "card", str(folder)]) == 0
    assert palate(["audit", "attacks", str(folder)]) == 2
    assert "this run protects one event of theirs" in capsys.readouterr().err
