"""A cohort is the same on every device, and tells who holds which share."""

from __future__ import annotations

import numpy as np
import pytest

from palate_core.errors import InputError
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import AttemptTerms


def cohort(n: int, n_min: int, *, root: bytes = b"r" * 32, toss: int = 0) -> Cohort:
    terms = AttemptTerms(
        context=bytes(32), size=1, bits=8, n_max=max(n, 251), n_min=n_min, c_max=max(1, n // 20), directory="ab" * 32
    )
    nonces = [i.to_bytes(32, "little") for i in range(n)]
    return Cohort(terms, toss=toss, ids=range(100, 100 + 3 * n, 3), root=root, nonces=nonces)


@pytest.mark.parametrize(("n", "n_min"), [(12, 9), (300, 285)])
def test_slots_find_a_member_in_the_order_of_each_of_its_neighbours(n: int, n_min: int) -> None:
    here = cohort(n, n_min)
    table = here.table()
    assert table.shape == (n, here.degree)
    for member in range(n):
        around = here.neighbours(member)
        assert table[member].tolist() == around.tolist()
        assert table[around, here.slots(member)].tolist() == [member] * here.degree
        assert here.slot_table()[member].tolist() == here.slots(member).tolist()


def test_members_are_found_by_their_device() -> None:
    here = cohort(12, 9)
    assert [here.member(device) for device in (100, 103, 133, 99, 101, 136, 2**32)] == [0, 1, 11, *[None] * 4]
    assert len(here) == 12


def test_root_and_toss_change_what_signatures_are_tied_to_and_the_root_the_ring() -> None:
    first, other, later = cohort(300, 285), cohort(300, 285, root=b"s" * 32), cohort(300, 285, toss=1)
    assert len({first.binding, other.binding, later.binding}) == 3
    assert first.binding == cohort(300, 285).binding
    assert (first.table() == cohort(300, 285).table()).all()
    assert (first.table() != other.table()).any()


def test_a_gap_cuts_a_ring_and_nothing_cuts_a_complete_graph() -> None:
    here = cohort(300, 285)
    alive = np.ones(300, np.bool_)
    assert not here.cut(alive)
    alive[here.neighbours(7)[: here.degree // 2]] = False  # all on one side of a member
    assert here.cut(alive)
    order, limit = vars(here)["_ring"].order, here.degree // 2 - vars(here)["_window_corrupt"]
    for missing in (limit - 1, limit):
        alive = np.ones(300, np.bool_)
        alive[order[:missing]] = False
        assert here.cut(alive) is (missing == limit)
    assert not cohort(12, 9).cut(np.zeros(12, np.bool_))


def test_too_few_for_a_safe_graph_are_refused() -> None:
    with pytest.raises(InputError, match="raise n_min"):
        cohort(12, 4)
