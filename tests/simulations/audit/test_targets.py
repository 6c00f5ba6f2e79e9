"""Other people's mechanisms behind the protocol: they run as they come, and the battery tells right from wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate_audit.evidence.evidence import Rung, Verdict
from palate_audit.harness.target import Contributions, load_target
from palate_audit.run.mechanism import audit_mechanism
from palate_audit.targets import flower, opacus
from palate_common.errors import InputError

TARGETS = [
    "palate_audit.targets.flower:fixed_clipping",
    "palate_audit.targets.opacus:full_batch",
]


@pytest.mark.parametrize("spec", TARGETS)
def test_a_stock_mechanism_raises_no_alarm_and_its_bound_is_near_its_claim(spec: str) -> None:
    section = audit_mechanism(load_target(spec), seed=11)
    assert section.alarms == ()
    (known_null,) = [bound for bound in section.bounds if bound.name.startswith("known null")]
    assert 0.7 < known_null.ratio < 1.2
    assert "H output lattice" in [f.test for f in section.findings if f.verdict is Verdict.UNCHECKABLE]


def test_weights_that_clients_choose_move_the_mean_by_more_than_is_claimed() -> None:
    section = audit_mechanism(flower.fixed_clipping_weighted(), seed=11)
    assert any(found.test.startswith("A L2") for found in section.alarms)
    assert max(bound.ratio for bound in section.bounds if bound.rung is Rung.L2) > 5


def test_noise_for_the_next_rounds_norm_is_too_little_where_everybody_is_clipped() -> None:
    """Flower 1.42.0 moves the norm before it adds the noise of the round that was clipped with the old one."""
    section = audit_mechanism(flower.adaptive_clipping(), seed=11)
    (found,) = [each for each in section.alarms if each.test == "B noise in every part"]
    assert found.figures["ratio"] == pytest.approx(np.exp(-0.2 * 0.5), abs=0.08)  # of one part
    assert "run 1" in found.said  # all canaries are in, and clipped


def test_a_client_without_a_change_needs_a_crumb_in_flower() -> None:
    released = flower.fixed_clipping().run(Contributions.empty(flower.CLIENTS, flower.SIZE))
    (moved,) = released.vectors
    assert moved.std() == pytest.approx(flower.NOISE_MULTIPLIER * flower.CLIPPING_NORM / flower.CLIENTS, rel=0.1)


def test_opacus_clips_each_sample_and_adds_its_noise() -> None:
    target = replace(opacus.full_batch(), users=3, dimension=4000, noise_multiplier=1e-3)
    rows = np.zeros((3, 4000))
    rows[0, 0], rows[1, 1], rows[2, 2] = 100.0, -0.5, 1.0
    for vector in target.run(Contributions.of(rows)).vectors:
        assert vector[:3] / opacus.MAX_GRAD_NORM == pytest.approx([1.0, -0.5, 1.0], abs=0.02)


def test_poisson_sampling_takes_other_samples_in_each_step() -> None:
    assert opacus.poisson().claim.mu is None
    target = replace(opacus.poisson(), users=200, dimension=400, noise_multiplier=1e-3)
    rows = np.eye(200, 400)
    one, other, *_ = target.run(Contributions.of(rows)).vectors
    taken = [np.abs(vector[:200]) > 0.5 * opacus.MAX_GRAD_NORM for vector in (one, other)]
    assert all(60 < each.sum() < 140 for each in taken)
    assert not np.array_equal(*taken)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("palate_audit.targets.opacus.importlib.import_module", missing)
    with pytest.raises(InputError, match=r"install palate\[torch\]"):
        opacus.full_batch().run(Contributions.empty(opacus.USERS, opacus.SIZE))
