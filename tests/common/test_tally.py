from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_client.ledger.totals import DeviceTotals


def ids(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_new_ids_keep_what_the_old_ones_have() -> None:
    tally = DeviceTotals(limit_mu2=1.0, max_participations=2)
    tally.add(tally.rows(ids(10, 20)), "a", 3, 1, 0.5)
    tally.add(tally.rows(ids(5, 20, 30)), "b", 0, 0, 0.5)
    rows = tally.rows(ids(1, 5, 10, 20, 30, 2**62))
    assert tally.affords(rows, 0.5).tolist() == [True, True, True, False, True, True]
    assert tally.affords(rows, 0.75).tolist() == [True, False, False, False, False, True]
    for device, run, expected in [(10, "a", True), (20, "a", True), (5, "a", False), (5, "b", True), (10, "b", False)]:
        assert tally.reached(tally.rows(ids(device)), run, 0, 0) is expected


def test_participations_are_counted_whatever_they_cost() -> None:
    tally = DeviceTotals(limit_mu2=1.0, max_participations=2)
    for round_, devices in enumerate([ids(1), ids(1, 2)]):
        tally.add(tally.rows(devices), f"run-{round_}", 0, 0, 0.0)
    assert tally.affords(tally.rows(ids(1, 2, 3)), 0.0).tolist() == [False, True, True]


def test_round_and_attempt_are_ordered() -> None:
    tally = DeviceTotals(limit_mu2=1.0, max_participations=9)
    rows = tally.rows(ids(1))
    tally.add(rows, "a", 2, 2**31 - 1, 0.0)
    assert tally.reached(rows, "a", 2, 5)
    assert tally.reached(rows, "a", 1, 2**31 - 1)
    assert not tally.reached(rows, "a", 3, 0)
    tally.add(rows, "a", 1, 0, 0.0)  # replaying an older charge doesn't lower the mark
    assert not tally.reached(rows, "a", 3, 0)
    assert tally.reached(rows, "a", 2, 5)


@given(
    st.lists(st.sampled_from([0.1, 0.25, 1 / 3, 1e-9, 0.7, 1e-17]), min_size=1, max_size=60),
    st.sampled_from([0.5, 1.0, 1 / 3, 2 / 3, 0.1, 3.0]),
)
def test_limits_are_kept_exactly(costs: list[float], limit: float) -> None:
    tally = DeviceTotals(limit_mu2=limit, max_participations=10**6)
    exact = Fraction(0)
    for attempt, cost in enumerate(costs):
        rows = tally.rows(ids(7))
        fits = exact + Fraction(cost) <= limit
        assert tally.affords(rows, cost).tolist() == [fits]
        if fits:
            tally.add(rows, "a", 0, attempt, cost)
            exact += Fraction(cost)


@pytest.mark.parametrize("parts", [3, 4, 10, 49, 64])
def test_a_limit_can_be_spent_to_the_last_bit(parts: int) -> None:
    cost = 1.0 / parts
    tally = DeviceTotals(limit_mu2=1.0, max_participations=10**6)
    for attempt in range(parts):
        rows = tally.rows(ids(0))
        assert tally.affords(rows, cost).tolist() == [(attempt + 1) * Fraction(cost) <= 1]
        tally.add(rows, "a", 0, attempt, cost)
    assert tally.affords(tally.rows(ids(0)), 1e-9).tolist() == [False]
