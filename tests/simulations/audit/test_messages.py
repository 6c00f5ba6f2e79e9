"""What each device sends with dp local, as a target of the audit."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mechanism.harness.messages import DeviceMessages
from mutants import asking
from mutants.listed import find
from palate_audit.evidence.evidence import Verdict, judge
from palate_audit.harness import production
from palate_audit.harness.canaries import orthogonal
from palate_audit.harness.target import Contributions, check_target
from palate_audit.run.mechanism import audit_mechanism
from palate_cli.cli import run
from palate_core.errors import InputError

FEW = DeviceMessages(users=40, epsilon=8.0)


@pytest.fixture(autouse=True)
def few_fresh_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand take some seconds, and so do the tables of all seeds."""
    monkeypatch.setattr("palate_audit.counted.seeds.FRESH", 64)
    monkeypatch.setattr("palate_audit.counted.seeds.SEEDS", 256)


def test_every_canary_is_in_its_own_devices_message_and_nobody_elses() -> None:
    check_target(FEW, "messages")
    canaries = orthogonal(FEW.blocks, users=FEW.users, seed=4)
    inside = np.arange(FEW.users) % 2 == 0
    with_, without = (FEW.run(canaries.rows.only(kept), seed=3) for kept in (inside, np.zeros(FEW.users, np.bool_)))
    size = FEW.production.dimension
    assert size == 16
    for one, other, claim in zip(with_.vectors, without.vectors, FEW.claim.releases, strict=True):
        # A message's place in the long vector follows from whose canary is where, so compare what canaries own.
        moved = (one - other)[canaries.places]
        assert len(one) == FEW.users * (size + 64)
        assert claim.stated == claim.sigma
        spread = np.abs(one[canaries.places[inside]] * canaries.signs[inside]).mean()
        assert spread > 0
        assert moved.shape == (FEW.users, 8)


def test_the_claim_is_one_devices() -> None:
    found = FEW.production.evidence(Contributions.empty(40, 16), keep_answers=True)
    assert [plan.sigma for plan in found.plans] == [each.sigma for each in FEW.claim.releases]
    assert FEW.claim.mu == pytest.approx(np.sqrt(sum(plan.mu2 for plan in found.plans)))
    assert 0.999 < FEW.claim.epsilon / 8.0 <= 1.0
    assert FEW.production.claim.epsilon < FEW.claim.epsilon  # the sum tells less of one device
    assert len(found.answers[0]) == 40


def test_messages_pass_and_are_bounded_close_to_their_claim() -> None:
    section = audit_mechanism(DeviceMessages(users=120, epsilon=8.0), seed=5, thorough=False)
    assert section.alarms == ()
    best = max(bound.epsilon for bound in section.bounds)
    assert best > 0.6 * 8.0  # the sum's noise would bound it by less than 1
    assert {each.test for each in section.findings} >= {"noise variance", "kurtosis", "small and public seeds"}


def test_noise_of_the_sums_scale_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "DEVICES", 40)
    found = find("local noise of the sum's scale")
    with found.injected():
        judged = judge(asking.releases("local", quick=True))
    alarms = {each.test for each in judged if each.verdict is Verdict.ALARM}
    assert "noise variance" in alarms
    assert any(test.startswith(("L0", "L1", "L2")) for test in alarms)


def test_the_command_audits_the_sum_of_local_noises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = partial(production.Production, users=64, counts=2048, products=2048)
    monkeypatch.setattr(production, "Production", small)
    call = ["audit", "mechanism", "--dp", "local", "--epsilon", "8", "--seed", "1"]
    assert run([*call, "--out", str(tmp_path / "audit")]) == 0
    [part] = json.loads((tmp_path / "audit" / "audit.json").read_text())["sections"]
    assert "--dp local" in part["subject"]
    with find("local noise of the sum's scale").injected():
        assert run([*call, "--out", str(tmp_path / "broken")]) == 4


def test_contributions_of_another_target_are_refused() -> None:
    with pytest.raises(InputError, match="must be of 40 users"):
        FEW.run(Contributions.empty(41, FEW.dimension))
    two = Contributions.of(np.eye(1, FEW.dimension)[[0, 0]])
    shared = Contributions(
        np.concatenate([[0, 1, 2], np.full(38, 2)]), two.indices, two.values, FEW.dimension
    )  # fmt: skip
    with pytest.raises(InputError, match="must be one device's"):
        FEW.run(shared)
    wide = np.zeros((1, FEW.dimension))
    wide[0, [0, 8]] = 1
    spread = Contributions(np.concatenate([[0], np.full(40, 2)]), np.array([0, 8]), np.ones(2), FEW.dimension)
    with pytest.raises(InputError, match="one run of coordinates"):
        FEW.run(spread)
