"""Broken records: refused by name on both sides, and the attempt goes on to the exact sum."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.fuzz import fuzz
from palate_core.errors import IntegrityError, RefusedError
from palate_core.masks.messages import Header, Step, write


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_broken_records_are_refused(seed: int) -> None:
    report = fuzz(2000, seed=seed)
    assert (report.tried, report.refused) == (2000, 2000)
    assert len(report.by_step) == 14  # both sides, every step but the answers to complaints


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(Step)), st.binary(max_size=400), st.integers(0, 65535))
def test_any_body_at_any_step_is_refused_by_name(step: Step, body: bytes, toss: int) -> None:
    for awaited, (world, device) in MACHINES.items():
        record = write(Header(step, toss, 0, world.terms.context), body, answer=False)
        if step is Step.COMMIT or awaited is step is Step.ADVERTISE:
            continue  # any toss and any root may be the first
        with pytest.raises((IntegrityError, RefusedError)):
            copy.copy(device).answer(step, record)


def machines() -> dict[Step, tuple[MaskedCohort, object]]:
    """A device that awaits each step."""
    found = {}
    for step in Step:
        world = MaskedCohort(6, n_min=5, n_max=251)
        server = world.begin()
        while server.step < step:
            world.exchange(server, {})
        found[step] = (world, world.devices[0])
    return found


MACHINES = machines()
