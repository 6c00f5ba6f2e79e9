"""Each charge is on record elsewhere before its plan leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from palate_common.errors import PalateError
from palate_common.plan import SignedPlan
from palate_server.service.operation import WITNESS
from palate_server.service.status import read_status

Maker = Callable[..., Any]


def test_the_witness_shows_the_latest_charge_and_what_all_have_spent(make_service: Maker) -> None:
    service = make_service()
    service.operate()
    signed = SignedPlan.model_validate_json((service.site.witness / WITNESS).read_bytes())
    with service.site.ledger(read_only=True) as ledger:
        latest = [entry for entry in ledger.entries() if entry.kind == "charge"][-1]
        assert signed.charge is not None
        assert signed.charge.entry == latest.body
        assert latest.facts["spent"] == ledger.spent()


def test_without_a_place_for_the_witness_no_plan_leaves(make_service: Maker) -> None:
    """Fail closed: the attempt is charged and void, and no device was asked."""
    service = make_service()
    shutil.rmtree(service.site.witness)
    seen: list[Any] = []
    service.devices.spoil = lambda device, answer: seen.append(device) or answer
    with pytest.raises(PalateError, match=r"`backup\.witness` must be writable"):
        service.operate()
    status = read_status(service.site)
    assert (status.attempts, status.releases) == (1, 0)
    assert seen == []
    assert service.purged == 1
