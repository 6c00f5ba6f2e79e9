"""A fleet's devices are used again, whatever has become of their server meanwhile."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import device_fleet
import pytest
from device_fleet import FleetPlan, run_fleet

from palate_client.online.sync import SyncResult
from palate_core.errors import IntegrityError


def test_a_device_with_a_newer_model_than_its_servers_syncs_with_the_one_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(device: Any) -> bool:
        raise IntegrityError("a model must have the version 38 or later, got 33")

    used = SimpleNamespace(
        consent=mock.Mock(),
        enrolment=object(),
        model=object,
        store=SimpleNamespace(events=lambda: [object()]),
        sync=lambda **_: SyncResult(ended="come back"),
    )
    monkeypatch.setattr(device_fleet, "open_device", lambda *_, **__: nullcontext(used))
    monkeypatch.setattr(device_fleet, "fetch_model", older)
    monkeypatch.setattr(device_fleet, "Service", mock.Mock())
    (member,) = run_fleet(FleetPlan(folder=tmp_path / "stores"), [mock.Mock()])
    assert member.error == ""
    assert member.result == SyncResult(ended="come back")
