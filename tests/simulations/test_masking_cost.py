"""What the benchmark of secure aggregation measures: the work that the protocol prescribes, counted right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.secagg import cost as masking_cost
from benchmarks.secagg.cost import Scale, measure
from benchmarks.secagg.floor import Floor, Operations
from palate_core.errors import InputError
from palate_core.masks.messages import Step


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Operations]:
    """What the floor is asked for."""
    asked: list[Operations] = []

    class Counting(Floor):
        def seconds(self, needed: Operations) -> float:
            asked.append(needed)
            return super().seconds(needed)

    monkeypatch.setattr(masking_cost, "Floor", Counting)
    return asked


def test_the_floor_is_what_the_protocol_prescribes(counted: list[Operations]) -> None:
    n, lost, k, survivors = 12, 2, 11, 10
    cost = measure(Scale(devices=n, coordinates=50, corrupt=1, dropped=lost), seed=3)
    assert cost.exact
    assert (cost.survivors, cost.timed, cost.graph.neighbours) == (survivors, survivors, k)
    # The server's masks: one a survivor, and one a pair of survivor and lost; a device's: its own, one a neighbour.
    assert sum(each.streams for each in counted) == survivors + lost * survivors + survivors * (k + 1)
    assert sum(each.agreements for each in counted) == lost * survivors + survivors * 4 * k
    # The server checks adverts, receipts, inputs, lists and shares; a device its neighbours' adverts and boxes, U1, and
    # the survivors' signatures.
    assert sum(each.checks for each in counted) == 2 * n + 3 * survivors + survivors * (2 * k + 1 + survivors - 1)
    assert sum(each.signatures for each in counted) == 1 + survivors * (5 + k)
    assert set(cost.server.taken) == {step.name for step in Step} - {"COMMIT", "OPEN"}
    assert cost.server.ratio > 1
    assert cost.device.ratio > 1


def test_the_upload_is_all_that_a_device_sends() -> None:
    cost = measure(Scale(devices=12, coordinates=50, corrupt=1, dropped=2))
    headers, advert, boxes, signature, shares = 6 * 40, 3 * 32 + 64, 11 * 208, 64, 11 * 49
    receipt = 32 + 2 + signature
    assert cost.upload == headers + advert + boxes + receipt + cost.packed + 3 * signature + shares
    assert cost.packed == -(-(50 + 64) * cost.bits // 8)


def test_a_floor_takes_time_for_each_operation() -> None:
    floor = Floor(300_000, 26)
    for needed in (Operations(streams=3), Operations(agreements=3), Operations(signatures=9), Operations(checks=3)):
        assert floor.seconds(needed) > 1e-5
        assert sum(np.array([[*vars(half).values()] for half in needed.halves()])).tolist() == [*vars(needed).values()]


@pytest.mark.parametrize(
    "broken",
    [
        {"devices": 2}, {"coordinates": 0}, {"corrupt": 0}, {"dropped": -1}, {"dropped": 18},
        {"noise_multiplier": 0.0}, {"noise_multiplier": float("nan")},
    ],
)  # fmt: skip
def test_sizes_out_of_range(broken: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(broken))):
        Scale(**{"devices": 20, "coordinates": 10, "corrupt": 2, "dropped": 2} | broken)  # type: ignore[arg-type]


def test_a_cohort_that_no_graph_protects() -> None:
    with pytest.raises(InputError, match="corrupt"):
        measure(Scale(devices=20, coordinates=10, corrupt=9, dropped=9))
