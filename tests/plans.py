"""Plans for tests: whole, and of any mode."""

from __future__ import annotations

from typing import Any

from palate_common.accounting.sampled import event_mu2
from palate_common.algorithms import PublicFacts
from palate_core.accounting import charged_mu2
from palate_core.device.participation import KeptPlan
from palate_core.layout import BlockSpec
from palate_core.plan import RoundPlan, SignedPlan, open_plan

GRID, SIGMA = 2**14, 2**16


def make_plan(size: int = 3, **changes: Any) -> RoundPlan:
    """A plan with dp central, over `size` counts, whose cost is what its noise costs."""
    fields: dict[str, Any] = {
        "population": "readers",
        "run": "run-1",
        "round": 0,
        "attempt": 0,
        "model_hash": "cd" * 32,
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=100, n_items=size, mu=1.0),
        "layout": (BlockSpec(name="counts", shape=(size,), weight=1.0),),
        "clip_norm": 1.0,
        "grid": GRID,
        "sigma": SIGMA,
        "dp": "central",
        "noise": "secure",
        "cohort_floor": 1,
        "expires": 2_000_000_000,
        **changes,
    }
    if "mu2" not in fields:
        fields["mu2"] = charged_mu2(sensitivity=fields["grid"], sigma=fields["sigma"] or SIGMA)
    return RoundPlan.model_validate(fields)


def kept_plan(round_: int = 0, attempt: int = 0, *, run: str = "run-1", **changes: Any) -> KeptPlan:
    """A plan of this place whose state of the ledger was kept, so that a device's ledger may charge it."""
    plan = make_plan(run=run, round=round_, attempt=attempt, **changes)
    return KeptPlan(plan)


def open_as_device(data: bytes, **given: Any) -> SignedPlan:
    """`open_plan` of a device without floors, which has seen no ledger and pins no witness, but as `given`."""
    asked: dict[str, Any] = {
        "pinned": None,
        "last_seen": lambda _: None,
        "evidence": lambda _: None,
        "accept": lambda _: None,
        "event_price": event_mu2,
    }
    return open_plan(data, **asked | given)
