"""A torch module of one's own: the same code for a simulation's nodes, Flower's ClientApp and the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from palate_cli.cli import run
from palate_common.algorithms import PublicFacts, algorithm_class, registry
from palate_common.models import published
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_server.rounds.run import run_round
from palate_sim.config import load_config
from palate_sim.engines import local
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import identify
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]
NAME = "torch-two-tower"
SETTINGS = {"embedding_size": 4, "rounds": 3, "user_steps": 1}
MODULE = """
import torch
from palate_torch import ModuleSettings, Recommender


class Mine(Recommender):
    item_rows = ("table",)

    def __init__(self, settings: ModuleSettings, catalogue) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(0.1 * torch.randn(catalogue.n_items, 3))
        self.layer = torch.nn.Linear(3, 3)

    def private(self, events):
        return {"taste": events.weights @ self.table}

    def forward(self, user, events):
        return self.layer(self.table) @ user["taste"]


class Plain(torch.nn.Module):
    pass
"""


def test_flowers_client_app_answers_as_the_simulation_does(make_run: MakeRun, tmp_path: Path) -> None:
    made = make_run(algorithm=NAME, settings=SETTINGS)
    coordinator = made.coordinator()
    with SimulatedLedger(":memory:", durable=False) as devices:
        run_round(coordinator, InProcess(made.nodes(16, ledger=devices)))
    plan, model = coordinator.open_attempt(), coordinator.model.data
    with SimulatedLedger(":memory:", durable=False) as devices:
        expected = [contributor.answer(plan, model) for contributor in made.nodes(16, ledger=devices)]
    identify()
    with SimulatedLedger(":memory:", durable=False) as devices:
        host = Host(Shards(made.histories, 16), devices, made.key.public, made.floors)
        client = node_app(lambda context: host)
        for number in range(3):
            context = Context(1, 1, {"partition-id": number, "num-partitions": 3}, RecordDict(), {})
            record = ConfigRecord({"plan": plan, "model": model})
            reply = client(Message(RecordDict({"palate": record}), 1, "train"), context)
            assert reply.content["palate"]["contribution"] == expected[number]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module and a small log."""
    folder, rng = tmp_path_factory.mktemp("desk"), np.random.default_rng(0)
    (folder / "mine.py").write_text(MODULE)
    lines = ["user_id,item_id"]
    for user in range(60):
        lines += [f"u{user},i{item}" for item in rng.choice(30, 8, replace=False)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_line_takes_a_class_by_its_place(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_admitted", set())
    words = ["simulate", "log.csv", "--algorithm", "mine:Mine", "--epsilon", "3", "--out", "run", "--rounds", "3"]
    assert run([*words, "--set", "evaluation.baselines=none", "--set", "evaluation.projection=none"]) == 0
    card = json.loads((desk / "run" / "privacy_card.json").read_bytes())
    assert 2.9 < card["epsilon"] <= 3
    public_key = load_key(desk / "run" / "key").public
    header = published.read(desk / "run" / "model", public_key=public_key).model.header
    monkeypatch.setattr(registry, "_admitted", set())
    with pytest.raises(InputError, match=r"must be registered under `palate.algorithms`.*, got 'mine:Mine'"):
        GlobalModel(header, {}).algorithm  # noqa: B018 # it loads the class


def test_workers_and_a_resumed_run_find_it_too(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_admitted", set())
    monkeypatch.setattr(local, "FEW", 0)
    (desk / "counting.py").write_text(
        "from palate_common.algorithms.popularity import Popularity\n\n\nclass Counts(Popularity):\n    pass\n"
    )
    words = ["simulate", "log.csv", "--algorithm", "counting:Counts", "--out", "counted", "--workers", "2"]
    words += ["--set", "engine.users_per_node=20", "--set", "evaluation.projection=none"]
    assert run([*words, "--set", "evaluation.baselines=none"]) == 0
    (desk / "counted" / "result.json").unlink()
    monkeypatch.setattr(registry, "_admitted", set())
    assert run(["simulate", "--resume", "--out", "counted"]) == 0
    (desk / "counted" / "result.json").unlink()
    (desk / "counting.py").unlink()
    monkeypatch.delitem(sys.modules, "counting")
    assert run(["simulate", "--resume", "--out", "counted"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--algorithm", "mine:Gone"), "can't be loaded: .*Gone"),
        (("--algorithm", "nowhere:Mine"), "can't be loaded: No module named 'nowhere'"),
        (("--algorithm", "mine:Plain"), "is a torch module: it must derive from palate_torch.Recommender"),
        (("--algorithm", "mine:Mine", "--engine", "flower"), "flower needs an algorithm that is installed"),
        (("--algorithm", "mine:Mine", "--engine", "ray"), "ray needs an algorithm that is installed"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    desk: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "path", [*sys.path, str(desk)])
    monkeypatch.setattr(registry, "_admitted", set())
    chosen = {"algorithm.name": options[1]} | ({"engine.name": options[3]} if len(options) > 2 else {})
    with pytest.raises(InputError, match=message) as refused:
        load_config(None, chosen)
    assert "\n" not in str(refused.value)


def test_a_plan_cannot_make_a_device_import_anything() -> None:
    header = ModelHeader(
        algorithm="antigravity:fly", settings={}, facts=PublicFacts(n_users=1, n_items=1), releases=0, catalogue=""
    )
    with pytest.raises(InputError, match="must be registered under"):
        GlobalModel(header, {}).algorithm  # noqa: B018 # it loads the class
    assert "antigravity" not in sys.modules
    assert algorithm_class("palate_torch:TwoTower").name == "palate_torch:TwoTower"  # registered, by its place
