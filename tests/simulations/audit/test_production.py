"""The audit drives the real round: what it reads back is what the round's own code sealed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_audit.harness.canary_algorithm import CanaryTable, Part, carried, members
from palate_audit.harness.production import Production
from palate_audit.harness.target import Contributions
from palate_common.algorithms import algorithm_names, make_algorithm
from palate_common.mechanism.update import DenseBlock
from palate_core.errors import InputError, PalateError
from palate_server.rounds import coordinator as server

MODES = pytest.mark.parametrize("dp", ["central", "distributed"])
SMALL: dict[str, Any] = {"users": 16, "counts": 64, "products": 64, "epsilon": 4.0}


def rows(seed: int = 0, *, size: float = 3.0) -> Contributions:
    """Canaries in both blocks, four counts and one row of products each, some absent."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((16, 128))
    for user in range(0, 16, 2):
        dense[user, 4 * user : 4 * user + 4] = rng.choice([-1, 1], 4) * size / np.sqrt(8)
        dense[user, 64 + 4 * user : 68 + 4 * user] = rng.choice([-1, 1], 4) * size / np.sqrt(8)
    return Contributions.of(dense)


@MODES
def test_the_sealed_sum_is_the_clipped_canaries_and_the_noise(dp: str) -> None:
    target = Production(dp=dp, **SMALL)
    with_, without = rows(), Contributions.empty(16, 128)
    one, other = (target.run(each, seed=5) for each in (with_, without))
    clipped = with_.dense() / np.maximum(1, np.linalg.norm(with_.dense(), axis=1, keepdims=True))
    for vector, bare, claim in zip(one.vectors, other.vectors, target.claim.releases, strict=True):
        moved = vector - bare
        # A product is rows times a direction, each on a grid of its own: 2^10 steps.
        assert np.abs(moved[:128] - claim.sensitivity * clipped.sum(axis=0)).max() <= 2**10
        assert not moved[128:].any()
        assert bare.std() == pytest.approx(claim.sigma, rel=0.5)


@MODES
def test_noise_repeats_with_a_seed_and_never_without(dp: str) -> None:
    target, given = Production(dp=dp, **SMALL), rows()
    first, again, other = (target.run(given, seed=seed).vectors for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any((a == b).all() for a, b in zip(first, other, strict=True))
    secure, more = target.run(given).vectors, target.run(given).vectors
    assert not any((a == b).all() for a, b in zip(secure, more, strict=True))


@MODES
def test_what_is_claimed_is_what_the_ledger_was_charged(dp: str) -> None:
    target = Production(dp=dp, **SMALL)
    run = target.evidence(rows(), keep_answers=True)
    assert [plan.sigma for plan in run.plans] == [each.sigma for each in target.claim.releases]
    assert {plan.grid for plan in run.plans} == {target.grid}
    assert target.claim.mu == pytest.approx(np.sqrt(sum(plan.mu2 for plan in run.plans)))
    assert 0.999 < target.claim.epsilon / 4.0 <= 1.0
    assert len(run.answers) == 3
    assert {plan.noise.value for plan in run.plans} == {"secure"}


def test_the_corrupt_devices_leave_exactly_the_charged_noise() -> None:
    target = Production(dp="distributed", users=400, counts=2000, products=2000, epsilon=4.0)
    run = target.evidence(Contributions.empty(400, 4000))
    for vector, plan, claim in zip(run.released.vectors, run.plans, target.claim.releases, strict=True):
        assert plan.cohort is not None
        assert (plan.cohort.noise_shares, plan.cohort.n_min) == (400, 440)
        assert claim.sigma <= 20 * plan.share_sigma <= claim.sigma * 1.0001
        assert vector.std() == pytest.approx(claim.sigma, rel=0.06)  # five standard errors


def test_a_broken_server_is_what_the_audit_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    real = server.noised
    monkeypatch.setattr(server, "noised", lambda summed, plan: real(summed, plan.model_copy(update={"sigma": 1})))
    target = Production(**SMALL)
    assert all(vector.std() < 100 for vector in target.run(Contributions.empty(16, 128)).vectors)


def test_a_device_that_refuses_ends_the_audit_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    target, wrong = Production(users_per_node=4, **SMALL), DenseBlock(np.zeros((4, 1)))
    monkeypatch.setattr("palate_audit.harness.canary_algorithm._block", lambda *_: wrong)
    with pytest.raises(PalateError, match="node 0 refuses: block `counts` must have shape"):
        target.run(rows())


def test_the_carrier_is_nowhere_outside_an_audit() -> None:
    table = CanaryTable(rows(), Production(**SMALL).parts)
    with carried(table) as settings:
        assert "audit-carrier" not in algorithm_names()
        assert make_algorithm("audit-carrier", settings, None).shares == (1.0,)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="must be one that this process audits with"):
            make_algorithm("audit-carrier", {**settings, "table": "0" * 64}, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be one of"):
        make_algorithm("audit-carrier", settings, None)  # type: ignore[arg-type]


def test_a_table_of_rows_and_width_takes_one_row_a_user() -> None:
    parts = (Part(name="x", size=8, width=4),)
    one = CanaryTable(Contributions.of([[0.0, 0.0, 0.0, 0.0, 2.0, 4.0, 0.0, -2.0]]), parts)
    two = CanaryTable(Contributions.of([[1.0, 2.0, 0.0, -1.0, 2.0, 4.0, 0.0, -2.0]]), parts)
    with carried(one) as settings:
        algorithm = make_algorithm("audit-carrier", settings, None)  # type: ignore[arg-type]
        (block,) = algorithm.contribute(algorithm.start(), 0, members(one.rows)).blocks
        assert block.indices.tolist() == [1]  # type: ignore[union-attr]
        assert np.allclose(block.rows[:, None] * block.columns[0], [[2.0, 4.0, 0.0, -2.0]])  # type: ignore[union-attr]
    with carried(two) as settings:
        algorithm = make_algorithm("audit-carrier", settings, None)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="one row a user"):
            algorithm.contribute(algorithm.start(), 0, members(two.rows))


@pytest.mark.parametrize("changes", [{"dp": "off"}, {"dp": "nobody"}])
def test_a_mode_without_an_audit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Production(**{**SMALL, **changes})


def test_contributions_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="must be of 16 users and 128 coordinates"):
        Production(**SMALL).run(Contributions.empty(15, 128))
