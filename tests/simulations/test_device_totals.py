import zlib
from fractions import Fraction
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import IntegrityError
from palate_sim.engines.ledger import device_totals as totals
from palate_sim.engines.ledger.device_ids import RUNS, IdRuns, pack, runs_of, unpack
from palate_sim.engines.ledger.device_totals import DeviceTotals


def ids(*values: int) -> IdRuns:
    """Ids that don't touch, so that each is a row."""
    assert all(b - a > 1 for a, b in pairwise(values))
    return IdRuns.of(np.array(values, dtype=np.int64))


def test_new_ids_keep_what_the_old_ones_have() -> None:
    tally = DeviceTotals(limit_mu2=1.0, max_participations=2)
    tally.add(tally.rows(ids(10, 20)), "a", 3, 1, 0.5)
    tally.add(tally.rows(ids(5, 20, 30)), "b", 0, 0, 0.5)
    rows = tally.rows(ids(1, 5, 10, 20, 30, 2**62))
    assert tally.affords(rows, 0.5).tolist() == [True, True, True, False, True, True]
    assert tally.affords(rows, 0.75).tolist() == [True, False, False, False, False, True]
    for device, run, expected in [(10, "a", True), (20, "a", True), (5, "a", False), (5, "b", True), (10, "b", False)]:
        assert tally.reached(tally.rows(ids(device)), run, 0, 0) is expected


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


@pytest.mark.parametrize("parts", [3, 4, 10, 49, 64])
def test_a_limit_can_be_spent_to_the_last_bit(parts: int) -> None:
    cost = 1.0 / parts
    tally = DeviceTotals(limit_mu2=1.0, max_participations=10**6)
    for attempt in range(parts):
        rows = tally.rows(ids(0))
        assert tally.affords(rows, cost).tolist() == [(attempt + 1) * Fraction(cost) <= 1]
        tally.add(rows, "a", 0, attempt, cost)
    assert tally.affords(tally.rows(ids(0)), 1e-9).tolist() == [False]


SPACE = 24
IDS = st.sets(st.integers(-3, SPACE - 4), min_size=1)


@given(
    st.lists(
        st.tuples(IDS, st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([0.1, 0.25, 1 / 3])), max_size=40
    ),
    st.sampled_from([0.5, 1.0, 1 / 3]),
    st.integers(1, 4),
    st.sampled_from([0, 4, 1000]),
)
def test_the_totals_are_those_of_each_device_by_itself(
    charges: list[tuple[set[int], str, int, float]], limit: float, most: int, few: int
) -> None:
    """Against a count, an exact sum and a mark for each device, whenever intervals that are alike are joined."""
    with mock.patch.object(totals, "FEW", few):
        tally = DeviceTotals(limit_mu2=limit, max_participations=most)
        spent: dict[int, list[float]] = {device: [] for device in range(-3, SPACE - 3)}
        last: dict[tuple[int, str], int] = {}
        for devices, run, round_, mu2 in charges:
            rows = tally.rows(IdRuns.of(np.array(sorted(devices))))
            assert tally.runs(rows).spelled().tolist() == sorted(devices)
            reached = any(last.get((device, run), -1) >= round_ for device in devices)
            assert tally.reached(rows, run, round_, 0) == reached
            each = np.repeat(tally.affords(rows, mu2), tally.runs(rows).lengths())
            fits = [
                len(spent[device]) < most and sum(map(Fraction, [*spent[device], mu2])) <= limit
                for device in sorted(devices)
            ]
            assert each.tolist() == fits
            tally.add(rows[tally.affords(rows, mu2)], run, round_, 0, mu2)
            for device, fit in zip(sorted(devices), fits, strict=True):
                if fit:
                    spent[device].append(mu2)
                    last[device, run] = max(round_, last.get((device, run), -1))
        assert len(tally) <= 2 * SPACE + 2


def test_devices_that_are_charged_in_runs_take_a_line_a_run() -> None:
    tally = DeviceTotals(limit_mu2=np.inf, max_participations=2**62)
    for round_ in range(3):
        for first in range(0, 10_000_000, 1_000_000):
            runs, _ = runs_of(range(first, first + 1_000_000))
            tally.add(tally.rows(runs), "a", round_, 0, 0.25)
    assert len(tally) <= 12
    for first in range(2_000):  # one by one, and so all of them are alike
        tally.add(tally.rows(IdRuns.of(np.array([first]))), "b", 0, 0, 0.25)
    assert len(tally) <= 1_100


@given(st.sets(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 40)))
def test_packed_ids_are_read_as_they_were(devices: set[int]) -> None:
    """Runs, or single ids as every version wrote them: both are read, whatever is there."""
    rising = np.array(sorted(devices), dtype=np.int64)
    runs = IdRuns.of(rising)
    assert runs.spelled().tolist() == rising.tolist()
    assert unpack(pack(runs)).spelled().tolist() == rising.tolist()
    old = zlib.compress(np.diff(rising, prepend=0).astype("<i8").tobytes(), 1)
    assert unpack(old).spelled().tolist() == rising.tolist()
    assert old[:1] != RUNS
    assert all(runs.holds(device) for device in devices)
    assert not any(runs.holds(device) for device in range(-6, 42) if device not in devices)


def test_a_range_is_not_spelled_out() -> None:
    runs, place = runs_of(range(5, 10**15))
    assert (runs.first.tolist(), runs.last.tolist(), place) == ([5], [10**15 - 1], None)
    assert len(pack(runs)) < 40
    with pytest.raises(IntegrityError, match="damaged bytes"):
        unpack(RUNS + zlib.compress(bytes(8)))
