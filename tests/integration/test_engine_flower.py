"""Flower's Ray engine for real: the local engine's model, its errors, and nothing left running.

Each start of Ray takes some ten seconds on two cores: one does for what is quick, and three more are for `make soak`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.records.key_file import save_key
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError, LockedError
from palate_core.log.signing import SigningKey
from palate_server.rounds.coordinator import Release
from palate_server.rounds.lock import RunLock
from palate_sim.engines import Job
from palate_sim.engines.flower import launch
from palate_sim.engines.flower.engine import run_flower
from palate_sim.engines.local import run_local
from palate_sim.engines.processes import PROC, descendants, running
from palate_sim.provenance import run_sources

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}
COMMAND = """
import sys
import numpy as np
from palate_common.interactions import Interactions
from palate_sim.engines import Job
from palate_sim.engines.flower.engine import run_flower
arrays = np.load(sys.argv[2])
histories = Interactions(arrays["indptr"], arrays["indices"], arrays["weights"], int(arrays["n_items"]))
run_flower(Job.model_validate_json(open(sys.argv[1]).read()), histories)
"""
HOOK = """
import os, sys
def seen(event, args):
    if event == "import" and args[0].partition(".")[0].partition("_")[0] == "palate":
        with open(f"{os.environ['PALATE_IMPORTS']}/{os.getpid()}", "a") as file:
            file.write(args[0] + "\\n")
sys.addaudithook(seen)
"""


def job_for(run: Any, folder: Path, **changes: Any) -> Job:
    folder.mkdir()
    save_key(SigningKey.generate(), folder / "release.key")
    parts = {"folder": folder, "terms": run.terms, "ledger": folder / "ledger.db", "key": folder / "release.key"}
    return Job(**{**parts, "floors": run.floors, **changes})


def engine_processes(folder: Path) -> set[int]:
    """Processes whose working folder is an engine's below `folder`: all of them inherit it, Ray's workers too."""
    found = set()
    for pid in running():
        with suppress(OSError):
            if str((PROC / str(pid) / "cwd").readlink()).startswith(f"{folder}/flower/.engine-"):
                found.add(pid)
    return found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Any:
    """After each test no process of an engine runs, and no scratch folder is left."""
    yield
    assert engine_processes(tmp_path) == set()
    assert list(tmp_path.glob("*/.engine-*")) == []


def name_of(pid: int) -> bytes:
    """A process's command line; nothing if it has ended since it was listed."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def until(true: Callable[[], object], seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_it_gives_the_local_engines_model_with_one_user_a_node(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a SuperLink, SuperNodes, ServerApp and ClientApps load of Palate is in the audit's same path."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "imports").mkdir()
    monkeypatch.setenv("PALATE_IMPORTS", str(tmp_path / "imports"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    run = make_run(**ALS)
    expected = run_local(job_for(run, tmp_path / "local"), run.histories)
    releases: list[Release] = []
    job = job_for(run, tmp_path / "flower", users_per_node=1)
    outcome = run_flower(job, run.histories, releases.append)
    assert outcome.model.data == expected.model.data
    assert outcome.updates == expected.updates
    assert [release.plan.round for release in releases] == list(range(expected.model.header.releases))
    assert releases[-1].model.data == expected.model.data
    assert releases[-1].participation.users == run.histories.n_users
    assert outcome.cpu_seconds > 0
    assert run_local(job, run.histories).model.data == expected.model.data  # the folder is a run folder like any other
    processes = [set(file.read_text().split()) for file in (tmp_path / "imports").iterdir()]
    loaded = set.union(*processes)
    assert len(processes) >= 3
    assert any("palate_client.rounds.contribution" in names and "palate_sim.config" not in names for names in processes)
    assert len(loaded) > 100
    assert loaded <= set(run_sources())


@pytest.mark.soak
def test_a_serverapp_that_fails_fails_the_engine_with_its_own_error(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    job = job_for(run, tmp_path / "flower", floors=Floors())  # an app's floors: no seeded noise
    with pytest.raises(IntegrityError, match="got 0"):
        run_flower(job, run.histories)
    assert "Traceback" in (job.folder / "flower.log").read_text()


@pytest.mark.slow
def test_an_interrupt_leaves_no_superlink_and_no_scratch_folder(make_run: Any, tmp_path: Path) -> None:
    """As Ctrl-C does it; who hears what of a signal is in test_engine_guard.py, and with Ray running below."""
    run = make_run(**ALS)
    job = job_for(run, tmp_path / "flower")

    def interrupted() -> None:
        with launch.launched(job, run.histories) as engine:
            assert engine.link.ready()
            assert len(engine_processes(tmp_path)) >= 2  # the guard and the SuperLink
            assert list(tmp_path.glob("*/.engine-*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running_when_the_command_is_ended(
    make_run: Any, tmp_path: Path, hears_control_c: Any, number: int
) -> None:
    run = make_run(**ALS)
    job = job_for(run, tmp_path / "flower")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    h = run.histories
    np.savez(tmp_path / "histories.npz", indptr=h.indptr, indices=h.indices, weights=h.weights, n_items=h.n_items)
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "job.json"), str(tmp_path / "histories.npz")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=hears_control_c) as command:

        def ray_runs() -> bool:
            return any(b"raylet" in name_of(each.pid) for each in descendants(command.pid))

        assert until(ray_runs)
        assert len(engine_processes(tmp_path)) >= 6
        assert until(lambda: locked(job))  # by the ServerApp: a second owner is refused
        os.killpg(command.pid, number)  # what a terminal does
        _, errors = command.communicate(timeout=60)
        assert command.returncode in (-number, 1)
        if number == signal.SIGINT:
            assert b"KeyboardInterrupt" in errors
    assert until(lambda: not engine_processes(tmp_path), 20)
    assert until(lambda: not list(tmp_path.glob("*/.engine-*")), 5)
    expected = run_local(job_for(run, tmp_path / "local"), run.histories)
    assert run_local(job, run.histories).model.header.releases == expected.model.header.releases


def locked(job: Job) -> bool:
    try:
        with RunLock(job.folder):
            return False
    except LockedError:
        return True


def test_an_owned_run_folder_is_refused_before_anything_starts(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    job = job_for(run, tmp_path / "flower")
    with RunLock(job.folder), pytest.raises(LockedError):
        run_flower(job, run.histories)


def test_without_ray_the_extra_is_named(make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"palate\[ray\]"):
        run_flower(job_for(run, tmp_path / "flower"), run.histories)


def test_without_proc_the_local_engine_is_named(make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setattr(launch, "PROC", tmp_path / "nowhere")
    with pytest.raises(InputError, match="`engine` must be local"):
        run_flower(job_for(run, tmp_path / "flower"), run.histories)
