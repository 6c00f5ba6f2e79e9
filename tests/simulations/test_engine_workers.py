"""Worker processes of the local engine: the model of one process, and nobody and nothing left, however it ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.interactions import Interactions
from palate_common.records.key_file import save_key
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError
from palate_core.log.signing import SigningKey
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.coordinator import Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.terms import make_terms
from palate_sim.cores import usable_cores
from palate_sim.engines import Job, local
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.local import run_local, workers_of
from palate_sim.engines.processes import PROC, descendants, running
from palate_sim.engines.shared_histories import SharedHistories
from palate_sim.engines.workers import Workers

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}
NODE = 7
COMMAND = """
import sys
import numpy as np
from palate_common.interactions import Interactions
from palate_sim.engines import Job, local
arrays = np.load(sys.argv[2])
histories = Interactions(arrays["indptr"], arrays["indices"], arrays["weights"], int(arrays["n_items"]))
local.FEW = 0
def wait(release):
    print("released", flush=True)
    sys.stdin.read()
local.run_local(Job.model_validate_json(open(sys.argv[1]).read()), histories, wait)
"""


def job_for(run: Any, folder: Path, **changes: Any) -> Job:
    folder.mkdir()
    save_key(SigningKey.generate(), folder / "release.key")
    parts = {"folder": folder, "terms": run.terms, "ledger": folder / "ledger.db", "key": folder / "release.key"}
    return Job(**{**parts, "floors": run.floors, "users_per_node": NODE, "workers": 2, **changes})


def until(true: Callable[[], object], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def name_of(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def workers_below(pid: int) -> list[int]:
    return [each.pid for each in descendants(pid) if b"engines.worker" in name_of(each.pid)]


@pytest.fixture(autouse=True)
def workers_for_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Workers for populations as small as a test's; after each test none is left, and no file of theirs."""
    monkeypatch.setattr(local, "FEW", 0)
    yield
    assert workers_below(os.getpid()) == []
    kept = {"release.key", "ledger.db", "devices.db", "lock", "releases", "inputs.safetensors"}
    assert {file.name for folder in tmp_path.glob("engine*") for file in folder.iterdir()} <= kept


@pytest.fixture
def shared(tmp_path: Path, histories: Interactions) -> Path:
    """A folder of the histories."""
    folder = tmp_path / "histories"
    folder.mkdir()
    for name in ("indptr", "indices", "weights"):
        np.save(folder / f"{name}.npy", getattr(histories, name))
    np.save(folder / "n_items.npy", np.int64(histories.n_items))
    return folder


def distributed(histories: Interactions, inputs: State | None = None, **settings: Any) -> Any:
    """Terms under which each node draws noise, repeatable by the seed."""
    n = histories.n_users
    return make_terms(
        population="readers", run="run-1", algorithm="als", n_users=n,
        settings={"popularity_only_below": 0.0, **settings}, n_items=histories.n_items, catalogue="0" * 64,
        inputs=inputs or {}, seed=3, dp="distributed", noise="seeded",
        epsilon=5.0, delta=1e-5, cohort=choose_cohort(n_users=n, corrupt=0.0, dropout=0.0, directory=None),
        cohort_floor=1, per_node=64, about={},
    )  # fmt: skip


def test_the_model_does_not_depend_on_how_many_workers_there_are(
    make_run: Any, tmp_path: Path, histories: Interactions, shared: Path
) -> None:
    floors = Floors(allow_seeded=True, allow_unmasked=True).for_few()
    run = make_run()
    run.terms, run.floors = distributed(histories), floors
    models, counted = [], []
    for name, changes in {"1": {"workers": 1}, "2": {"workers": 2}, "4": {"workers": 4, "histories": shared}}.items():
        events = list[Any]()
        job = job_for(run, tmp_path / f"engine-{name}", **changes)
        outcome = run_local(job, histories, None, events.append)
        models.append(outcome.model.data)
        ends = [event for event in events if event["over"]]
        counted.append([(event["step"], event["done"], event["unit"]) for event in ends])
        assert outcome.updates == histories.n_users * outcome.model.header.releases
        assert outcome.cpu_seconds > 0
        with SimulatedLedger(job.devices) as ledger:  # every device was charged once a round, whoever asked it
            receipts = {len(ledger.receipts(device)) for device in range(histories.n_users)}
        assert receipts == {outcome.model.header.releases}
    assert models[0] == models[1] == models[2]
    rounds = range(outcome.model.header.releases)
    assert counted == [[(f"round {n + 1}: learning", histories.n_users, "users") for n in rounds]] * 3


def test_nor_do_its_links_and_their_votes(make_run: Any, tmp_path: Path, histories: Interactions) -> None:
    rng, n = np.random.default_rng(1), histories.n_items
    opened = Links.strongest(np.arange(n), rng.normal(size=(n, n)), most=5)
    inputs = panel_inputs(opened, users=9) | {"features": rng.normal(size=(n, 4)).astype(np.float32)}
    run = make_run()
    run.terms = distributed(histories, inputs, rounds=3, pair_items=4096, vote_share=0.2)
    run.floors = Floors(allow_seeded=True, allow_unmasked=True).for_few()
    models = []
    for workers in (1, 2):
        job = job_for(run, tmp_path / f"engine-{workers}", workers=workers)
        Registry(job.folder).write_inputs(pack_inputs(inputs))
        models.append(run_local(job, histories).model)
    assert models[0].data == models[1].data
    assert {"pairs_weight", "open_weight", "content_weight"} <= models[0].state.keys()


def test_a_worker_that_is_killed_is_said_and_the_run_goes_on_later(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ALS)
    expected = run_local(job_for(run, tmp_path / "engine-whole", workers=1), run.histories)

    def kill(release: Release) -> None:
        os.kill(workers_below(os.getpid())[0], signal.SIGKILL)

    job = job_for(run, tmp_path / "engine")
    with pytest.raises(PalateError, match=r"SIGKILL, as the system does where memory is short.*--resume"):
        run_local(job, run.histories, kill)
    again = run_local(job.model_copy(update={"workers": 1}), run.histories)
    # The attempt that was open stays charged, so the rounds that are left have less: a model of its own.
    assert again.model.header.releases in (expected.model.header.releases, expected.model.header.releases - 1)
    assert again.updates > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_no_worker_outlives_the_command(make_run: Any, tmp_path: Path, hears_control_c: Any, number: int) -> None:
    run = make_run(**ALS)
    job = job_for(run, tmp_path / "engine")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    h = run.histories
    np.savez(tmp_path / "histories.npz", indptr=h.indptr, indices=h.indices, weights=h.weights, n_items=h.n_items)
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "job.json"), str(tmp_path / "histories.npz")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, **pipes, start_new_session=True, preexec_fn=hears_control_c) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"released\n"
        pids = workers_below(command.pid)
        assert len(pids) == 2
        os.killpg(command.pid, number)  # what a terminal does
        command.wait(60)
    assert until(lambda: not set(pids) & set(running()))
    assert run_local(job.model_copy(update={"workers": 1}), run.histories).updates > 0
    for left in job.folder.glob("devices.db-*"):
        pytest.fail(f"{left} must be gone with the last process that has the ledger open")


def test_errors_of_a_worker_are_the_engines(make_run: Any, tmp_path: Path, shared: Path) -> None:
    run = make_run()
    refused = job_for(run, tmp_path / "engine-1", floors=Floors())  # an app's floors: no seeded noise
    with pytest.raises(IntegrityError, match="got 0"):
        run_local(refused, run.histories)
    np.save(shared / "indptr.npy", run.histories.indptr[[0, *range(2, 41)]])  # two users in one
    with pytest.raises(InputError, match="the run's own histories"):
        run_local(job_for(run, tmp_path / "engine-2", histories=shared), run.histories)
    job = job_for(run, tmp_path / "engine-3")
    with RunLock(job.folder), pytest.raises(LockedError):
        run_local(job, run.histories)


def test_small_populations_masks_and_a_scripts_own_algorithm_stay_in_one_process(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(make_run(), tmp_path / "engine", workers=None)
    assert workers_of(job, 40) == min(usable_cores(), 6)
    assert workers_of(job.model_copy(update={"workers": 4}), 40) == 4
    assert workers_of(job.model_copy(update={"workers": 400}), 40) == 6  # as many as nodes
    assert workers_of(job.model_copy(update={"identities": tmp_path}), 40) == 1
    monkeypatch.setattr(local, "FEW", 40)
    assert workers_of(job, 40) == 1
    assert workers_of(job, 41) >= 1
    monkeypatch.setattr(local, "FEW", 0)
    monkeypatch.setattr(local.algorithm_class("popularity"), "__module__", "__main__")
    assert workers_of(job, 40) == 1


@pytest.mark.parametrize("one_weight", [True, False])
def test_shared_histories_are_the_same_and_have_no_name(
    histories: Interactions, tmp_path: Path, one_weight: bool
) -> None:
    if one_weight:
        weights = np.broadcast_to(np.float32(1), histories.nnz)
        histories = Interactions(histories.indptr, histories.indices, weights, histories.n_items)
    with SharedHistories(histories, folder=None, scratch=tmp_path) as given:
        assert list(tmp_path.iterdir()) == []
        (descriptor,) = given.descriptors
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
        opened = given.place.__class__(**{**vars(given.place), "descriptor": os.dup(descriptor)}).open()
    for name in ("indptr", "indices", "weights"):
        assert np.array_equal(getattr(opened, name), getattr(histories, name))
    assert (opened.weights.strides == (0,)) == one_weight
    empty = Interactions(np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 5)
    with SharedHistories(empty, folder=None, scratch=tmp_path) as given:
        opened = given.place.__class__(**{**vars(given.place), "descriptor": os.dup(given.descriptors[0])}).open()
    assert (opened.n_users, opened.nnz, opened.n_items) == (2, 0, 5)


def test_histories_that_find_no_room_are_said_in_one_line(histories: Interactions, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (histories.indptr.nbytes, hard))
    try:
        with pytest.raises(PalateError, match=r"the histories need room for [\d,]+ bytes in .*: .*--resume"):
            SharedHistories(histories, folder=None, scratch=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_round_with_masks_is_refused(histories: Interactions) -> None:
    with pytest.raises(InputError, match="masks must be in one process"):
        Workers.invite(object.__new__(Workers), masked=True)
