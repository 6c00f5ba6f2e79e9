"""The local engine: the same numbers as the plain loop, whatever a node hosts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.records.key_file import save_key
from palate_common.rounds.shares import squares
from palate_core.device.floors import Floors
from palate_core.errors import BudgetError, InputError, IntegrityError, LockedError
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.run import run_rounds
from palate_sim.engines import Job
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.job import node_size
from palate_sim.engines.local import run_local

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}
TERMS = [
    {},
    ALS,
    {"dp": "off"},
    ALS | {"dp": "off"},
]


def job_for(run: Any, folder: Path, **changes: Any) -> Job:
    """The same run as a job, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    if not (key := folder / "release.key").exists():
        save_key(SigningKey.generate(), key)
    parts = {"folder": folder, "terms": run.terms, "ledger": folder / "ledger.db", "key": key, "floors": run.floors}
    return Job(**{**parts, **changes})


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("users_per_node", [1, 7, 2048])
def test_the_model_is_the_plain_loops(make_run: Any, tmp_path: Path, terms: Any, users_per_node: int) -> None:
    run = make_run(**terms)
    run_rounds(coordinator := run.coordinator(), InProcess(run.nodes()))
    outcome = run_local(job_for(run, tmp_path / "engine", users_per_node=users_per_node), run.histories)
    assert outcome.model.data == coordinator.model.data
    assert outcome.updates == run.histories.n_users * coordinator.rounds
    assert outcome.cpu_seconds > 0
    assert outcome.wall_seconds > 0


def test_a_job_is_json(make_run: Any, tmp_path: Path) -> None:
    job = job_for(make_run(**ALS), tmp_path / "engine")
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert json.loads(job.model_dump_json())["users_per_node"] == 16_384


def test_several_runs_in_one_process(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ALS)
    hashes = []
    for seed in (1, 2, 1):
        facts = run.terms.facts.model_copy(update={"seed": seed})
        job = job_for(run, tmp_path / f"engine-{len(hashes)}", terms=run.terms.model_copy(update={"facts": facts}))
        hashes.append(run_local(job, run.histories).model.hash)
    assert hashes[0] == hashes[2] != hashes[1]


def test_releases_come_in_order_each_with_its_model(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ALS)
    releases: list[Release] = []
    outcome = run_local(job_for(run, tmp_path / "engine"), run.histories, releases.append)
    assert [release.plan.round for release in releases] == list(range(len(releases)))
    assert releases[-1].model.data == outcome.model.data
    assert all(release.participation.users == 40 for release in releases)


def test_an_interrupted_run_is_resumed_and_ends_with_the_same_model(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ALS)
    expected = run_local(job_for(run, tmp_path / "whole"), run.histories).model

    def interrupt(release: Release) -> None:
        raise KeyboardInterrupt

    job = job_for(run, tmp_path / "engine")
    with pytest.raises(KeyboardInterrupt):
        run_local(job, run.histories, interrupt)
    outcome = run_local(job, run.histories)
    assert outcome.model.data == expected.data
    assert outcome.updates == run.histories.n_users * (expected.header.releases - 1)
    again = run_local(job, run.histories)
    assert (again.model.data, again.updates, again.cpu_seconds) == (expected.data, 0, 0.0)


def test_the_engine_owns_the_run_folder(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    job = job_for(run, tmp_path / "engine")
    with RunLock(job.folder), pytest.raises(LockedError):
        run_local(job, run.histories)

    def second(release: Release) -> None:
        with pytest.raises(LockedError):
            run_local(job, run.histories)

    run_local(job, run.histories, second)


def test_devices_that_refuse_everything_release_nothing(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    job = job_for(run, tmp_path / "engine", floors=Floors())  # an app's floors: no seeded noise
    with pytest.raises(IntegrityError, match="got 0"):
        run_local(job, run.histories)
    with pytest.raises(BudgetError):
        run_local(job, run.histories)


def test_a_bad_user_costs_only_itself(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    broken = replace(run.histories, weights=run.histories.weights.copy())
    broken.weights[run.histories.indptr[5]] = np.nan
    outcome = run_local(job_for(run, tmp_path / "engine", users_per_node=1), broken)
    assert outcome.model.header.releases == 1


def test_a_population_has_one_ledger_for_all_its_runs(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    shared = tmp_path / "ledger.db"
    for name in ("run-1", "run-2"):
        terms = run.terms.model_copy(update={"run": name})
        run_local(job_for(run, tmp_path / name, terms=terms, ledger=shared), run.histories)
    with Ledger(shared, population="readers") as ledger:
        assert ledger.runs() == ("run-1", "run-2")
        assert ledger.spent() == pytest.approx(ledger.spent("run-1") + ledger.spent("run-2"))


@pytest.mark.parametrize("change", [{"users_per_node": 0}, {"unknown": 1}, {"terms": None}])
def test_a_job_that_makes_no_sense_is_refused(make_run: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        job_for(make_run(), tmp_path / "engine", **change)


def test_a_missing_key_is_named(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(InputError, match="`key`"):
        run_local(job_for(run, tmp_path / "engine", key=tmp_path / "nowhere"), run.histories)


@pytest.mark.parametrize("users", [1, 16_384, 131_073, 524_288, 524_289, 10**6, 8 * 10**6, 10**8])
def test_nodes_are_few_and_large_in_a_large_population(users: int) -> None:
    size = node_size(users)
    assert users / size <= 32
    assert users / size > 8 or size == 16_384
    assert squares(size) == (math.isqrt(size),)
    assert node_size(users, unit="event") == 2048
