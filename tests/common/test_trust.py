"""Trust: what a cost relies on, in words and in the device's ledger."""

from __future__ import annotations

import pytest

from palate_client.ledger.reliance import conditions, worst_case_costs
from palate_core.device.trust import Trust
from palate_core.errors import IntegrityError

SHARED, MORE = Trust(2, 20, 1.0), Trust(30, 200, 3.0)
LOCAL, CENTRAL = Trust(None, None, 0.5), Trust(None, None, None)


@pytest.mark.parametrize(
    ("trusts", "said", "worst"),
    [
        ([], (), []),
        ([SHARED, SHARED], ("at most 2 of the 20 devices of a cohort are the operator's",), [1.0, 1.0]),
        (
            [MORE, SHARED],
            ("in each round no more than it allows for, at most 2 of the 20 devices of a cohort are the operator's",),
            [3.0, 1.0],
        ),
        ([LOCAL], (), [0.5]),
        (
            [LOCAL, CENTRAL, SHARED],
            (
                "at most 2 of the 20 devices of a cohort are the operator's",
                "the server, which saw what was sent, added its noise",
            ),
            None,
        ),
    ],
)
def test_a_total_relies_on_all_that_its_rounds_do(
    trusts: list[Trust], said: tuple[str, ...], worst: list[float] | None
) -> None:
    """The weakest round speaks for all, and what isn't known or isn't bounded makes the worst case so."""
    assert conditions(trusts) == said
    assert worst_case_costs(trusts) == worst


@pytest.mark.parametrize("trust", [SHARED, LOCAL, CENTRAL])
def test_it_is_read_as_it_was_written(trust: Trust) -> None:
    assert Trust.read(trust.text) == trust


@pytest.mark.parametrize("text", ["", "{}", "[]", "1", '{"corrupt":1}'])
def test_anything_else_is_damage(text: str) -> None:
    with pytest.raises(IntegrityError, match="relies on"):
        Trust.read(text)
