"""The devices' ledger as workers on a cluster see it: what it refuses is refused there, and nothing goes on before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plans import kept_plan

from palate_core.errors import RefusedError
from palate_sim.engines.cluster.actors import KeptLedger, LedgerKeeper


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeptLedger:
    """A real keeper; a call to it is made when its result is asked for, as late as a cluster may make it."""
    keeper = LedgerKeeper(str(tmp_path / "devices.db"))

    def get(call: Callable[[], Any]) -> Any:
        return call()

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=get))
    remote = {name: SimpleNamespace(remote=partial(partial, getattr(keeper, name))) for name in ("call", "charge")}
    return KeptLedger(SimpleNamespace(**remote))


def test_a_charge_is_made_before_it_returns_and_what_is_refused_is_refused(kept: KeptLedger, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"n_bytes": 1, "purpose": "train", "devices": [0, 1]}
    assert kept.charge(kept_plan(), **facts).tolist() == [True, True]
    reader = LedgerKeeper(str(tmp_path / "devices.db"))
    assert reader.call("size") == 1
    with pytest.raises(RefusedError, match="must be above every earlier one"):
        kept.charge(kept_plan(mu2=0.5), **facts)
    assert reader.call("size") == 1
    reader.close()
