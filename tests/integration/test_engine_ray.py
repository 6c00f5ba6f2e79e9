"""The engine `ray` on a real cluster of two Ray nodes: the local engine's model, lost machines, and a lost head.

Each cluster takes some ten CPU-seconds to start: one test does for what is quick, and the others are for `make soak`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
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

from palate_common.records.signing import SigningKey
from palate_server.rounds.coordinator import Release
from palate_sim.engines import Job
from palate_sim.engines.cluster import LOG, run_ray
from palate_sim.engines.local import run_local
from palate_sim.engines.processes import MARK, PROC, end, marked
from palate_sim.engines.superlink import free_port

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}
RAY = Path(sysconfig.get_path("scripts")) / "ray"


@dataclass
class Cluster:
    """Two Ray nodes of one core each on this machine, with their own ports and folder."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid4().hex)
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        head = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        for words in (head, [f"--address={self.address}"]):
            self.ray("start", *words, "--num-cpus=1", "--disable-usage-stats", f"--object-store-memory={80 * 2**20}")

    def ray(self, *words: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {MARK: self.mark, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        done = subprocess.run([str(RAY), *words], env=environment, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    def processes(self, word: bytes) -> list[int]:
        found = []
        for pid in marked(self.mark):
            with suppress(OSError):
                if word in (PROC / str(pid) / "cmdline").read_bytes():
                    found.append(pid)
        return sorted(found)

    def kill_second(self) -> None:
        """As the machine would be lost: its raylet, and what it runs."""
        os.kill(self.processes(b"raylet/raylet")[-1], signal.SIGKILL)

    def stop(self) -> None:
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
    SigningKey.generate().save(folder / "release.key")
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
