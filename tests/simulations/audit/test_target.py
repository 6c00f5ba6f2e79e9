"""What a target must be, and contributions as sparse rows."""

from __future__ import annotations

import numpy as np
import pytest

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, check_target
from palate_core.errors import InputError

ROWS = [[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, -2.0]]


class Plain:
    """The smallest target."""

    name, dimension, blocks, users, repeatable = "plain", 3, (1, 2), 3, False
    claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0,), delta=1e-6)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        return Released((contributions.dense().sum(axis=0),))


def test_sparse_rows_are_the_dense_ones() -> None:
    found = Contributions.of(ROWS)
    assert found.dense().tolist() == ROWS
    assert found.n_users == 3
    assert found.indices.tolist() == [1, 0, 2]
    assert Contributions.empty(2, 3).dense().tolist() == [[0.0] * 3] * 2


def test_who_is_left_out_stays_and_brings_nothing() -> None:
    kept = Contributions.of(ROWS).only(np.array([True, True, False]))
    assert kept.dense().tolist() == [ROWS[0], ROWS[1], [0.0] * 3]


def test_a_claim_of_gaussian_releases_adds_up_squares() -> None:
    claim = Claim.gaussian(sensitivity=3.0, sigmas=(6.0, 6.0), delta=1e-5)
    assert claim.mu == pytest.approx(np.sqrt(0.5))
    assert claim.strength == claim.mu
    assert claim.releases[0].mu == 0.5


@pytest.mark.parametrize(
    "changes", [{"epsilon": 0.0}, {"delta": 1.0}, {"releases": ()}, {"sampling": 0.0}, {"mu": None}, {"sampling": 0.5}]
)
def test_a_claim_that_is_none_is_refused(changes: dict[str, float]) -> None:
    fields = {"epsilon": 1.0, "delta": 1e-6, "mu": 0.5, "releases": (ReleaseClaim(sensitivity=1.0, sigma=2.0),)}
    with pytest.raises(InputError):
        Claim(**{**fields, **changes})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(("sensitivity", "sigma"), [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_a_release_without_noise_or_bound_claims_nothing(sensitivity: float, sigma: float) -> None:
    with pytest.raises(InputError, match="must be positive and finite"):
        ReleaseClaim(sensitivity=sensitivity, sigma=sigma)


@pytest.mark.parametrize("changes", [{"blocks": (1, 1)}, {"blocks": (0, 3)}, {"users": 1}, {"claim": 5.0}])
def test_a_target_whose_sizes_contradict_each_other_is_refused(changes: dict[str, object]) -> None:
    target = type("Odd", (Plain,), changes)()
    with pytest.raises(InputError, match="odd"):
        check_target(target, "odd")


def test_a_target_without_a_member_is_told_which() -> None:
    with pytest.raises(InputError, match="`claim`"):
        check_target(type("Bare", (), {"name": "bare", "dimension": 1, "blocks": (1,), "users": 2})(), "bare")  # type: ignore[arg-type]
