"""The engine `ray` on a real cluster of two Ray nodes: the local engine's model, lost machines, and a lost head.

Each cluster takes some ten CPU-seconds to start: one test does for what is quick, and the others are for `make soak`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from plans import kept_plan

from palate_common.records.key_file import save_key
from palate_core.errors import InputError, PalateError, RefusedError
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Release
from palate_sim.engines import Job
from palate_sim.engines.cluster.actors import LedgerKeeper
from palate_sim.engines.cluster.engine import LOG, address_of, run_ray
from palate_sim.engines.flower.superlink import free_port
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.local import run_local
from palate_sim.engines.processes import MARK, PROC, descendants, end, marked

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}
RAY = Path(sysconfig.get_path("scripts")) / "ray"
COMMAND = """
import sys
import numpy as np
from palate_common.interactions import Interactions
from palate_sim.engines import Job
from palate_sim.engines.cluster.engine import run_ray
arrays = np.load(sys.argv[2])
histories = Interactions(arrays["indptr"], arrays["indices"], arrays["weights"], int(arrays["n_items"]))
def wait(release):
    print("released", flush=True)
    sys.stdin.read()
run_ray(Job.model_validate_json(open(sys.argv[1]).read()), histories, wait)
"""


@dataclass
class Cluster:
    """Two Ray nodes of one core each on this machine, with their own ports and folder."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid4().hex)
    port: int = field(default_factory=free_port)
    lost: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        head = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        for words in (head, [f"--address={self.address}"]):
            self.ray("start", *words, "--num-cpus=1", "--disable-usage-stats", f"--object-store-memory={80 * 2**20}")

    def ray(self, *words: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {MARK: self.mark}
        done = subprocess.run([str(RAY), *words], env=environment, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    def processes(self, word: bytes) -> list[int]:
        found = []
        for pid in marked(self.mark):
            with suppress(OSError):
                if word in (PROC / str(pid) / "cmdline").read_bytes():
                    found.append(pid)
        return sorted(found)

    def lose_second(self) -> None:
        """The second machine is lost while its workers compute: they never answer, and its raylet is killed."""
        second = self.processes(b"raylet/raylet")[-1]
        self.lost = [each.pid for each in descendants(second)]
        for pid in self.lost:
            os.kill(pid, signal.SIGSTOP)
        os.kill(second, signal.SIGKILL)

    def lose_head(self) -> None:
        """The machine of the head is lost."""
        for pid in (*self.processes(b"gcs_server"), self.processes(b"raylet/raylet")[0]):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for pid in self.lost:  # they name themselves anew, over the mark
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert end(lambda: marked(self.mark), grace=1.0)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # the paths of Ray's sockets must be short
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def until(true: Callable[[], object], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def job_for(run: Any, folder: Path, **changes: Any) -> Job:
    folder.mkdir()
    save_key(SigningKey.generate(), folder / "release.key")
    parts = {"folder": folder, "terms": run.terms, "ledger": folder / "ledger.db", "key": folder / "release.key"}
    return Job(**{**parts, "floors": run.floors, "users_per_node": 7, **changes})


def written(folder: Path, histories: Any) -> Path:
    folder.mkdir()
    for name in ("indptr", "indices", "weights"):
        np.save(folder / f"{name}.npy", getattr(histories, name))
    np.save(folder / "n_items.npy", np.int64(histories.n_items))
    return folder


@pytest.mark.slow
def test_two_machines_give_the_local_engines_model(make_run: Any, tmp_path: Path, cluster: Cluster) -> None:
    """Without a common disk, then with a folder that both see; nothing is left on the cluster afterwards."""
    run = make_run(**ALS)
    expected = run_local(job_for(run, tmp_path / "local"), run.histories)
    events, releases = list[Any](), list[Release]()
    job = job_for(run, tmp_path / "store", ray_address=cluster.address)
    outcome = run_ray(job, run.histories, releases.append, events.append)
    assert outcome.model.data == expected.model.data
    assert outcome.updates == expected.updates
    assert outcome.cpu_seconds > 0
    assert len(releases) == expected.model.header.releases
    assert "2 workers on 2 machines" in (job.folder / LOG).read_text()
    assert {event["step"] for event in events} >= {"joining the Ray cluster", "round 1: learning"}
    folder = written(tmp_path / "histories", run.histories)
    shared = job_for(run, tmp_path / "shared", ray_address=cluster.address, histories=folder)
    assert run_ray(shared, run.histories).model.data == expected.model.data
    assert until(lambda: not cluster.processes(b"ray::RayWorker") + cluster.processes(b"ray::LedgerKeeper"))
    assert run_local(job, run.histories).model.data == expected.model.data  # a run folder like any other


def learning(event: Any, round_: int) -> bool:
    """Whether a round has just been begun."""
    return event.get("step") == f"round {round_}: learning" and event["seconds"] == 0


def test_a_second_charge_of_the_same_plan_is_none(tmp_path: Path) -> None:
    keeper = LedgerKeeper(str(tmp_path / "devices.db"))
    kept, facts = kept_plan(mu2=0.5), {"n_bytes": 8, "purpose": "train"}
    first = keeper.charge(kept, devices=range(0, 7), **facts)
    other = keeper.charge(kept, devices=range(7, 9), **facts)
    again = keeper.charge(kept, devices=range(0, 7), **facts)
    assert (first.tolist(), other.tolist(), again.tolist()) == ([True] * 7, [True] * 2, [True] * 7)
    with SimulatedLedger(tmp_path / "devices.db") as ledger:
        assert ledger.size() == 2
        assert [ledger.spent(device) for device in (0, 8)] == [pytest.approx(0.5)] * 2


def test_another_plan_is_charged_anew(tmp_path: Path) -> None:
    keeper = LedgerKeeper(str(tmp_path / "devices.db"))
    facts = {"n_bytes": 8, "purpose": "train", "devices": range(7)}
    keeper.charge(kept_plan(mu2=0.5), **facts)
    keeper.charge(kept_plan(attempt=1, mu2=0.5), **facts)
    with SimulatedLedger(tmp_path / "devices.db") as ledger:
        assert ledger.spent(3) == pytest.approx(1.0)
    for kept in (kept_plan(attempt=1, mu2=0.25), kept_plan(mu2=0.5)):
        with pytest.raises(RefusedError):
            keeper.charge(kept, **facts)


@pytest.mark.soak
def test_an_attempt_has_one_sum_though_a_machine_is_lost_and_costs_nothing_more(
    make_run: Any, tmp_path: Path, cluster: Cluster
) -> None:
    run, told = make_run(**ALS), list[Any]()
    expected = run_local(job_for(run, tmp_path / "local"), run.histories)
    job = job_for(run, tmp_path / "run", ray_address=cluster.address)
    lost = list[int]()

    def lose(event: Any) -> None:
        told.append(event)
        if learning(event, 2) and not lost:
            lost.append(1)
            cluster.lose_second()

    outcome = run_ray(job, run.histories, notify=lose)
    with Ledger(job.ledger, population="readers") as ledger:
        entries = [entry for entry in ledger.entries("run-1") if entry.kind in ("charge", "seal")]
    kinds = [(entry.kind, entry.round, entry.attempt) for entry in entries]
    rounds = range(outcome.model.header.releases)
    assert kinds == [(kind, each, 0) for each in rounds for kind in ("charge", "seal")]
    assert outcome.model.data == expected.model.data
    assert outcome.updates == run.histories.n_users * len(rounds)
    with SimulatedLedger(job.devices) as devices:
        assert len(devices.receipts(0)) == len(devices.receipts(run.histories.n_users - 1)) == len(rounds)
    assert "lost; 1 go on" in next(event["words"] for event in told if event["event"] == "note")
    assert until(lambda: not cluster.processes(b"cluster.gateway"))


@pytest.mark.soak
def test_a_lost_head_is_said_and_the_run_goes_on_later(make_run: Any, tmp_path: Path, cluster: Cluster) -> None:
    run = make_run(**ALS)
    job = job_for(run, tmp_path / "run", ray_address=cluster.address)

    def lose(event: Any) -> None:
        if learning(event, 2):
            cluster.lose_head()

    with pytest.raises(PalateError, match=r"the Ray cluster.*--resume") as raised:
        run_ray(job, run.histories, notify=lose)
    assert "\n" not in str(raised.value)
    assert run_local(job, run.histories).updates > 0


@pytest.mark.soak
def test_nothing_is_left_when_the_command_is_killed(make_run: Any, tmp_path: Path, cluster: Cluster) -> None:
    run = make_run(**ALS)
    job = job_for(run, tmp_path / "run", ray_address=cluster.address)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    h = run.histories
    np.savez(tmp_path / "histories.npz", indptr=h.indptr, indices=h.indices, weights=h.weights, n_items=h.n_items)
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "job.json"), str(tmp_path / "histories.npz")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"released\n"
        assert len(cluster.processes(b"ray::RayWorker")) == 2
        command.kill()
    assert until(lambda: not cluster.processes(b"ray::RayWorker") + cluster.processes(b"ray::LedgerKeeper"))
    assert run_local(job, run.histories).updates > 0


def test_no_cluster_is_said_before_anything_is_read(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="ray start --head"):
        address_of(None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert address_of(None) == "10.0.0.1:6379"
    assert address_of("10.0.0.2:6379") == "10.0.0.2:6379"
