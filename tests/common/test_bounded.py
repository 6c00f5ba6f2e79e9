"""The final norm check: against whole numbers of any size, and whatever came before it is broken."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from palate_core.layout import MAX_GRID
from palate_core.noise.bounded import bounded

WORDS = st.one_of(st.integers(-3, 3), st.integers(-(2**27), 2**27), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(WORDS, max_size=6), st.integers(1, MAX_GRID))
@example([MAX_GRID], MAX_GRID)
@example([MAX_GRID, 1], MAX_GRID)
@example([-(2**63)], MAX_GRID)
@example([2**32, 0], 1)  # its square is 0 in 64 bits
@example([3, 4], 5)
@example([], 1)
def test_the_final_norm_check_is_that_of_whole_numbers(numbers: list[int], grid: int) -> None:
    found = bounded(np.array(numbers, np.int64), grid=grid).tolist()
    assert found == (numbers if sum(each * each for each in numbers) <= grid**2 else [0] * len(numbers))


def test_sums_at_the_edge_are_exact_in_any_order() -> None:
    """A quarter of a million squares whose sum is the largest that passes, and one more step."""
    edge = np.full(2**18, 2**17, np.int64)
    assert bounded(edge, grid=MAX_GRID).tolist() == edge.tolist()
    for place in (0, 2**17, 2**18 - 1):
        over = edge.copy()
        over[place] += 1
        assert not bounded(over, grid=MAX_GRID).any()


def test_each_row_is_checked_by_itself() -> None:
    rows = np.array([[3, 4], [3, 5], [0, 0], [5, 0]])
    assert bounded(rows, grid=5).tolist() == [[3, 4], [0, 0], [0, 0], [5, 0]]


class Twice:
    """A number that is another one when it is asked again."""

    def __init__(self) -> None:
        self.asked = 0

    def __int__(self) -> int:
        return self.__index__()

    def __index__(self) -> int:
        self.asked += 1
        return 1 if self.asked == 1 else 1000

    def __float__(self) -> float:
        return 1.0


class Shorter(np.ndarray):
    """An array that says it is shorter than it is."""

    def astype(self, *_: Any, **__: Any) -> Any:
        return np.zeros(self.shape)


def test_what_is_checked_is_what_is_returned() -> None:
    """Whatever kind of array a sum has become: whole numbers come out, and they are those that were measured."""
    numbers = np.empty(2, object)
    numbers[:] = [Twice(), 1]
    found: Any
    for found in (numbers, np.array([1000, 1]).view(Shorter), np.array([2.5, 3.5]), np.array([np.nan, 1.0])):
        kept = bounded(found, grid=5)
        assert type(kept) is np.ndarray
        assert kept.dtype == np.int64
        assert (kept.astype(object) ** 2).sum() <= 25
