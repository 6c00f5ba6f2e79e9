"""Rounds of pair counts, under masks and in the clear: as many numbers as a neighbourhood model of a thousand items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from palate_client.flower import Host, Shards, node_app
from palate_common.algorithms import Algorithm, BlockSpec, Layout, PairBlock, PublicFacts, State, Update, lent
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_server.flower.transport import GridTransport
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import run_rounds
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.identities import Identities
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

DEVICES = 6
A_MILLION = 1415
"""Items with 1,000,405 pairs."""


class PairSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pairs(Algorithm):
    """One release: how often each pair of items comes together."""

    name = "test-pairs"
    Settings = PairSettings
    shares = (1.0,)

    def __init__(self, settings: PairSettings, facts: PublicFacts) -> None:
        self.n_items = facts.n_items

    @property
    def size(self) -> int:
        return self.n_items * (self.n_items - 1) // 2

    def start(self) -> State:
        return {"pairs": np.zeros(self.size, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        return (BlockSpec(name="pairs", shape=(self.size,), weight=1.0),)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        rows = np.ones(histories.nnz)
        return Update((PairBlock(histories.indptr, histories.indices, rows, histories.n_items),), histories.n_users)

    def release(self, state: State, round_: int, sums: Mapping[str, Float64], noise: Mapping[str, float]) -> State:
        return {"pairs": sums["pairs"].astype(np.float32)}

    def scores(self, state: State, histories: Interactions) -> Float64:
        return np.zeros((histories.n_users, histories.n_items))


@pytest.fixture(autouse=True)
def pairs() -> Iterator[None]:
    with lent(Pairs):
        yield


def terms(identities: Identities | None, *, n_items: int) -> dict[str, Any]:
    """With masks, or, without identities, in the clear."""
    rng = np.random.default_rng(5)
    items = [rng.choice(n_items, n_items // 10, replace=False) for _ in range(DEVICES)]
    owners = np.repeat(np.arange(DEVICES), n_items // 10)
    histories = Interactions.from_pairs(owners, np.concatenate(items), n_users=DEVICES, n_items=n_items)
    directory = None if identities is None else identities.directory.hash
    cohort = CohortTerms(n_max=DEVICES, n_min=DEVICES, c_max=1, masks=identities is not None, directory=directory)
    return {"algorithm": "test-pairs", "dp": "distributed", "cohort": cohort, "epsilon": 5.01, "histories": histories}


@pytest.mark.parametrize("n_items", [30, pytest.param(A_MILLION, marks=pytest.mark.soak)])
def test_pairs_are_summed_under_masks_as_in_the_clear(
    make_run: Callable[..., Any], tmp_path: Path, n_items: int
) -> None:
    identities = Identities.generate(DEVICES)
    run = make_run(**terms(identities, n_items=n_items))
    host = Host(Shards(run.histories, 1), run.devices, run.key.public, run.floors, identity_of=identities.of)
    grid = LocalGrid(node_app(lambda _: host), nodes=DEVICES)
    masked: list[Release] = []
    run_rounds(run.coordinator(), GridTransport(grid, ttl=60), directory=identities.directory, on_release=masked.append)
    again = make_run(floors=Floors(allow_seeded=True, allow_unmasked=True).for_few(), **terms(None, n_items=n_items))
    again.folder = tmp_path / "clear"
    again.folder.mkdir()
    clear: list[Release] = []
    with SimulatedLedger(":memory:", durable=False) as ledger:
        nodes = again.nodes(users_per_node=1, ledger=ledger)
        run_rounds(again.coordinator(), InProcess(nodes), on_release=clear.append)
    assert [each.participation.users for each in masked] == [DEVICES]
    assert masked[0].plan.layout[0].size == n_items * (n_items - 1) // 2
    assert masked[0].model.data == clear[0].model.data
    assert masked[0].model.state["pairs"].any()
