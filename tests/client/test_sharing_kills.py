"""Killed at many moments: the model is the old or the new one, and nothing left that wasn't charged and noted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_core.log.consistency import Shown
from palate_core.log.merkle import MerkleTree
from palate_core.plan import SignedPlan

pytestmark = pytest.mark.slow

VICTIM = Path(__file__).with_name("shared_victims.py")
KEY = bytes(range(32))
KILLS, MODELS, PLANS = 10, 80, 120


def service_of(run: Any) -> palate.Service:
    floors = palate.Floors(allow_seeded=True, allow_central=True)
    return palate.Service(
        public_key=run.key.public, population="readers", epsilon=1000, participations=10**6, floors=floors
    )


@pytest.fixture(scope="module")
def victims() -> Iterator[subprocess.Popen[str]]:
    """Forks a process for each task; see shared_victims.py."""
    with subprocess.Popen(
        [sys.executable, str(VICTIM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(timeout=30) == 0


def killed(victims: subprocess.Popen[str], task: str, folder: Path, job: Path, rng: np.random.Generator) -> list[str]:
    """What a victim acknowledged before it was killed, at a random moment after a random number of acknowledgements."""
    assert victims.stdin is not None
    assert victims.stdout is not None
    victims.stdin.write(f"{task} {folder} {job}\n")
    victims.stdin.flush()
    pid, said, left = 0, list[str](), int(rng.integers(0, 8))
    for line in victims.stdout:
        word, _, number = line.strip().partition(" ")
        if word == "dead":
            break
        if word == "open":
            pid = int(number)
        else:
            said.append(line.strip())
        if len(said) == left:
            time.sleep(float(rng.uniform(0, 0.03)))
            os.kill(pid, signal.SIGKILL)
    victims.stdin.write("\n")
    victims.stdin.flush()
    return said


@pytest.fixture
def folder(memory: Path) -> Path:
    """Where the store is."""
    return memory / "palate"


@pytest.fixture
def start(make_run: Callable[..., Any], folder: Path) -> Any:
    """A run, and a store whose user agreed to everything."""
    run = make_run()
    with palate.open(folder, app="shelf", key=KEY) as device:
        device.consent.grant("store")
        device.consent.grant("train")
        device.track("like", "item-3")
    return run


@pytest.mark.slow
def test_an_update_that_is_killed_leaves_the_old_model_or_the_new_one(
    victims: subprocess.Popen[str], start: Any, folder: Path, tmp_path: Path
) -> None:
    run, rng = start, np.random.default_rng(0)
    header = run.coordinator().model.header
    names, log = [], MerkleTree(bytes(2) for _ in range(MODELS))
    for version in range(1, MODELS + 1):
        state = {"counts": np.full(30, version, np.float32)}
        place = {"population": "readers", "shown": Shown.of(log, version, since=range(1, version))}
        files = published.pack(GlobalModel(header, state), ItemCatalogue(run.items), {}, run.key, **place)
        published.write(tmp_path / f"{version:04}", files)
        names.append(str(tmp_path / f"{version:04}"))
    last, midway = 0, 0
    for _ in range(KILLS):
        job = tmp_path / "job.json"
        job.write_text(json.dumps({"public_key": run.key.public, "models": names[last:]}))
        said = killed(victims, "update", folder, job, rng)
        acknowledged = int(said[-1]) if said else last
        midway += acknowledged < MODELS
        with palate.open(folder, app="shelf", key=KEY, service=service_of(run)) as device:
            found, report = device.model(), device.privacy_report()
        version = 0 if found is None else found.version
        assert acknowledged <= version <= acknowledged + 1
        if found is not None:
            assert np.allclose(found.model.state["counts"], version)
            assert report.models[-1].version == version
        assert [model.version for model in report.models] == list(range(1, version + 1))
        last = version
        if last == MODELS:
            break
    assert midway >= 3


@pytest.mark.slow
def test_nothing_leaves_that_was_not_charged_and_noted(
    victims: subprocess.Popen[str], start: Any, folder: Path, tmp_path: Path
) -> None:
    run, rng = start, np.random.default_rng(1)
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    (tmp_path / "start.safetensors").write_bytes(model)
    published_at = {"population": "readers", "shown": run.ledger.shown()}
    files = published.pack(coordinator.model, ItemCatalogue(run.items), {}, run.key, **published_at)
    published.write(tmp_path / "model", files)
    with palate.open(folder, app="shelf", key=KEY, service=service_of(run)) as device:
        device.update_model(tmp_path / "model")
    plans, hashes = [], {}
    for number in range(PLANS):
        path = tmp_path / f"plan-{number:03}"
        path.write_bytes(plan)
        plans.append(str(path))
        hashes[path.name] = SignedPlan.model_validate_json(plan).plan.hash
        plan = run.altered(plan)
    done, left = 0, dict[str, int]()
    for _ in range(KILLS):
        job = tmp_path / "job.json"
        parts = {"public_key": run.key.public, "model": str(tmp_path / "start.safetensors"), "plans": plans[done:]}
        job.write_text(json.dumps(parts))
        for line in killed(victims, "contribute", folder, job, rng):
            answer = json.loads(line)
            assert answer["refusal"] == "" or "above every earlier one" in answer["refusal"], answer
            if not answer["refusal"]:
                left[answer["plan"]] = answer["bytes"]
        with palate.open(folder, app="shelf", key=KEY, service=service_of(run)) as device:
            report = device.privacy_report()
        assert report.spending is not None
        charged = [receipt.plan_hash for receipt in report.spending.receipts]
        assert len(set(charged)) == len(charged)
        assert {hashes[name] for name in left} <= set(charged)
        noted = {(each.round, each.attempt): each.bytes for each in report.sent}
        assert len(noted) == len(report.sent)
        attempts = {receipt.plan_hash: (receipt.round, receipt.attempt) for receipt in report.spending.receipts}
        for name, size in left.items():
            assert noted[attempts[hashes[name]]] == size
        assert set(noted) <= set(attempts.values())
        done = len(charged)
        if done == PLANS:
            break
    assert len(left) >= KILLS // 3
