"""An app's device in a whole masked run beside simulated ones: the same bits as if it were simulated, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.online.hosting import OwnHost
from palate_client.rounds.participation import Masked
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step
from palate_core.plan import SignedPlan
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import run_rounds
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

DEVICES, OURS = 40, 5
FLOORS = palate.Floors(allow_seeded=True).for_few()


class WithDevice(Host):
    """A host one of whose nodes is an app."""

    app: palate.Device
    machine: Masked | None = None
    plan: bytes = b""

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """What the app does with a plan."""
        if node != OURS:
            return super().join(node, plan, model, directory, request)
        machine = self.app.join(plan, model, directory, number=OURS)
        object.__setattr__(self, "machine", machine)
        object.__setattr__(self, "plan", plan)
        return REFUSED if machine is None else machine.answer(request)

    def go_on(self, node: int, request: bytes) -> bytes:
        """What the app does with what follows."""
        if node != OURS:
            return super().go_on(node, request)
        return REFUSED if self.machine is None else self.machine.answer(request)


def terms(*, masks: bool) -> dict[str, Any]:
    cohort = CohortTerms(n_max=DEVICES, n_min=DEVICES, c_max=1, masks=masks, max_tosses=4)
    algorithm = {"algorithm": "als", "settings": {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}}
    return {**algorithm, "dp": "distributed", "cohort": cohort, "epsilon": 5.01}


@pytest.fixture
def device_of(tmp_path: Path) -> Callable[[Any], palate.Device]:
    def make(run: Any) -> palate.Device:
        service = palate.Service(public_key=run.key.public, population="readers", epsilon=20.0, floors=FLOORS)
        device = palate.open(tmp_path / "store", app="shelf", key=bytes(range(32)), service=service)
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        items = [f"item-{row}" for row in run.histories.user(OURS).indices]
        device.track_many([palate.Event("like", item) for item in items])
        return device

    return make


def make_run_again(run: Any, ledger: Any) -> Any:
    """The next run of the same population and cohort."""
    run.again("run-2")
    return run.coordinator(ledger=ledger)


def test_a_device_masks_as_a_simulated_one_does(
    make_run: Callable[..., Any], device_of: Callable[[Any], palate.Device], tmp_path: Path
) -> None:
    key, first = SigningKey.generate(), make_run()
    first.key = key
    with device_of(first) as device:
        keys = [SigningKey.generate() for _ in range(DEVICES)]
        publics = [each.public for each in keys]
        publics[OURS] = device.identity
        assert device.identity == publics[OURS]
        directory = Directory(dict(enumerate(publics)))
        run = make_run(floors=FLOORS, **terms(masks=True))
        run.key = key
        coordinator = run.coordinator()
        device.update_model(run.publish(coordinator))
        histories = Shards(run.histories, 1)
        host = WithDevice(histories, run.devices, key.public, FLOORS, key_of=lambda number: keys[number])
        object.__setattr__(host, "app", device)
        releases: list[Release] = []
        transport = GridTransport(LocalGrid(node_app(lambda _: host), nodes=DEVICES), ttl=run.terms.plan_seconds)
        run_rounds(coordinator, transport, directory_of=lambda _: directory, on_release=releases.append)
        report = device.privacy_report()
        assert (report.spending.participations, len(run.devices.receipts(OURS))) == (3, 0)  # type: ignore[union-attr]
        assert [sent.what for sent in report.sent[:5]] == [
            step.name.lower() for step in Step if step not in (Step.COMMIT, Step.OPEN)
        ][:5]
        assert {sent.dp for sent in report.sent} == {"distributed"}

        # All of it is in the statement, with what its cost relies on, and so is the ledger's state.
        made = device.statement()
        assert [(each.round, each.attempt, each.purpose, each.dp) for each in made.rounds] == [
            (round_, 0, "train", "distributed") for round_ in range(3)
        ]
        assert all(each.contributed for each in made.rounds)
        assert made.conditions == ("at most 1 of the 40 devices of a cohort are the operator's",)
        assert made.bounds[0].true_positives is not None
        assert made.bounds[0].alone is not None
        assert made.bounds[0].true_positives < made.bounds[0].alone
        last = SignedPlan.model_validate_json(host.plan)
        assert last.charge is not None
        assert made.state is not None
        assert (made.state.size, made.state.root) == (last.charge.checkpoint.size, last.charge.checkpoint.root)

        # Revoking stops what has begun, and what follows; a directory without this device is none of its business.
        device.consent.revoke("train")
        assert host.machine is not None
        assert host.machine.answer(b"anything") == REFUSED
        assert "no longer agrees" in host.machine.refusal
        host.machine.close()
        assert device.join(b"", b"", directory.to_bytes(), number=OURS) is None
        device.consent.grant("train")

        # An attempt that it joined, and in which nothing left, can't have it. A sync counts it as paid for.
        coordinator = make_run_again(run, coordinator.ledger)
        without = replace(directory, identities=dict(enumerate(each.public for each in keys)))
        lied, model = coordinator.open_attempt(without), coordinator.model.data
        for listed, why in ((without, "must be the key of device"), (directory, "must name the directory that comes")):
            assert device.join(lied, model, listed.to_bytes(), number=OURS) is None
            assert why in device.refusal
        begun = coordinator.open_attempt(directory)
        with OwnHost(device.store, device.rounds, OURS, lambda _: model) as own:
            assert own.join(begun, directory.to_bytes(), b"anything") == REFUSED
            assert (own.begun, own.rounds, own.refused, own.under_way) == (1, 0, 1, False), device.refusal
        assert [each.contributed for each in device.statement().rounds] == [True, True, True, False]

    clear = make_run(floors=palate.Floors(allow_seeded=True, allow_unmasked=True).for_few(), **terms(masks=False))
    clear.folder = tmp_path / "clear"
    clear.folder.mkdir()
    again: list[Release] = []
    with SimulatedLedger(":memory:", durable=False) as ledger:
        nodes = clear.nodes(users_per_node=1, ledger=ledger)
        run_rounds(clear.coordinator(), InProcess(nodes), on_release=again.append)
    assert [r.model.data for r in releases] == [r.model.data for r in again]
