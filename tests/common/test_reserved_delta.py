"""The part of delta besides the noise: ledger, terms and device count the same attempts."""

from __future__ import annotations

import pytest

import palate
from palate_core.cohort_terms import GRAPH_FAILURE, MAX_ATTEMPTS, RESERVED_DELTA
from palate_core.log.entries import ChargeEntry
from palate_core.privacy_mode import MODES
from palate_core.reserved_delta import reserved_delta
from palate_server.ledger.history import reserves


@pytest.mark.parametrize("dp", MODES)
@pytest.mark.parametrize("inclusion", [None, 1.0, 1, 0.5])
def test_an_attempt_counts_where_its_run_has_kept_a_part_of_delta(dp: str, inclusion: float | None) -> None:
    facts = {"dp": str(dp)} if inclusion is None else {"dp": str(dp), "inclusion": inclusion}
    entry = ChargeEntry(seq=1, run="a", round=0, attempt=0, plan_hash="ab" * 32, mu2=0.1, run_limit=None, facts=facts)
    assert reserves(entry) == bool(MODES[dp].reserved_delta(inclusion))


@pytest.mark.parametrize("participations", [0, MAX_ATTEMPTS, MAX_ATTEMPTS + 1, 2**17])
def test_a_device_keeps_the_part_of_all_attempts_that_it_may_take_part_in(participations: int) -> None:
    service = palate.Service(public_key="ab" * 32, population="readers", participations=participations)
    kept = service.delta - service.noise_delta
    assert kept == pytest.approx(max(RESERVED_DELTA, participations * GRAPH_FAILURE), abs=1e-18)
    assert reserved_delta(participations) >= participations * GRAPH_FAILURE
