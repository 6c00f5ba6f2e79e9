"""What the privacy report says was spent: with what that relies on, and what it is if nobody else is honest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from plans import kept_plan, make_plan

import palate
from palate_client.ledger.own_ledger import OwnLedger
from palate_core.cohort_terms import CohortTerms
from palate_core.device.trust import Trust
from palate_core.plan import SignedPlan

OpenDevice = Callable[..., palate.Device]
SHARED: dict[str, Any] = {"dp": "distributed", "cohort": CohortTerms(n_max=200, n_min=180, c_max=20, masks=False)}


@pytest.fixture
def charged(open_device: OpenDevice) -> Callable[..., palate.Device]:
    """A device whose ledger has charges of these."""

    def make(*plans: dict[str, Any]) -> palate.Device:
        service = palate.Service(public_key="ab" * 32, population="readers")
        device = open_device(service=service)
        with OwnLedger(device.store, service) as ledger:
            for round_, plan in enumerate(plans):
                assert ledger.charge(kept_plan(round_, mu2=0.04, **plan), n_bytes=1, purpose="train")
        return device

    return make


def test_epsilon_stands_with_its_condition_and_the_worst_case(charged: Callable[..., palate.Device]) -> None:
    device = charged(SHARED, SHARED)
    spending = device.privacy_report().spending
    assert spending is not None
    assert spending.epsilon_alone == pytest.approx(palate_epsilon(2 * make_plan(**SHARED).mu2_alone), abs=1e-3)
    text = str(device.privacy_report())
    lines = text[text.index("Spent") :].splitlines()[:3]
    assert lines[1] == "  if at most 20 of the 200 devices of a cohort are the operator's"
    assert lines[2].startswith(f"  if all other devices are the operator's: ε = {spending.epsilon_alone:.4g} of ")
    for word in ("unit: user", "adjacency: zero-out", "δ = 1e-06", "accountant"):
        assert word in lines[0]
    json.loads(json.dumps(device.privacy_report().as_dict(), allow_nan=False))


def palate_epsilon(mu2: float) -> float:
    return palate.Service(public_key="ab" * 32, population="readers").epsilon_of(mu2)


@pytest.mark.parametrize("plan", [{"dp": "central"}, SHARED | {"sigma": 640}, SHARED | {"sigma": 910, "grid": 2**26}])
def test_a_worst_case_that_isnt_known_or_bounded_is_said_to_be_so(
    charged: Callable[..., palate.Device], plan: dict[str, Any]
) -> None:
    report = charged(plan, SHARED).privacy_report()
    assert report.spending is not None
    assert report.spending.epsilon_alone is None
    assert "if all other devices are the operator's: not bounded, or not known" in str(report)


def test_a_round_notes_what_its_cost_relies_on(make_run: Callable[..., Any]) -> None:
    run = make_run()
    plan, model = run.first()
    (node, *_) = run.nodes()
    node.contribute(plan, model)
    assert run.devices.receipts(0)[0].trust == Trust.of(SignedPlan.model_validate_json(plan).plan)
