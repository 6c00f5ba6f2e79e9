"""Runs that can be killed, for the tests of crashes and of `--resume`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from palate_common.models import published
from palate_common.records.key_file import load_key
from palate_core.accounting import mu_of
from palate_core.log.canonical import digest
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

SCRIPT = Path(__file__).with_name("killed_run.py")
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
BUDGET = Fraction(mu_of(epsilon=5.0, delta=1e-5)) ** 2


@pytest.fixture(scope="session")
def processes() -> Iterator[subprocess.Popen[str]]:
    """Forks a process for each job; see killed_run.py."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(timeout=30) == 0


@dataclass
class Killable:
    """A run in a folder that may be started, killed and resumed, each time in a process of its own."""

    server: subprocess.Popen[str]
    folder: Path
    job: dict[str, Any]
    ledger: Path
    spent: Fraction = Fraction(0)
    log: str = field(default="", init=False)

    def go(self, point: str | None = None, nth: int = 1) -> int:
        """Run until the end, or until the n-th time it comes to a point; the exit status."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps({**self.job, "folder": str(self.folder), "point": point, "nth": nth}) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        self.log = Path(f"{self.folder}.log").read_text()
        self.check()
        return status

    def entries(self, kind: str) -> list[Any]:
        with Ledger(self.ledger, population=None, read_only=True) as ledger:
            return [entry for entry in ledger.entries() if entry.kind == kind]

    def charged(self) -> list[tuple[int, int]]:
        return [(entry.round, entry.attempt) for entry in self.entries("charge")]

    def sealed(self) -> list[tuple[int, int]]:
        return [(entry.round, entry.attempt) for entry in self.entries("seal")]

    def check(self) -> None:
        """What must hold whenever the process dies."""
        if not self.ledger.exists() or self.job["dp"] == "off":
            return
        charges, seals = self.entries("charge"), self.entries("seal")  # opening replays and verifies the whole log
        costs = {(entry.round, entry.attempt): Fraction(entry.mu2) for entry in charges}
        assert len(costs) == len(charges)
        # Never a refund: what was spent stays spent, void attempts included, and all of it is in the budget.
        spent = sum(costs.values(), Fraction(0))
        assert self.spent <= spent <= BUDGET
        self.spent = spent
        # Never a release without its charge, sealed or not, nor an attempt that a device answered.
        files = {path.stem for path in (self.folder / "releases").glob("*.safetensors")}
        assert files <= {f"round-{round_}-attempt-{attempt}" for round_, attempt in costs}
        with SimulatedLedger(self.folder / "devices.db") as devices:
            receipts = devices.receipts(0)
        assert {(receipt.round, receipt.attempt) for receipt in receipts} <= set(costs)
        assert sum((Fraction(receipt.mu2) for receipt in receipts), Fraction(0)) <= spent
        # Every sealed release is there, as it was sealed, one a round and in order.
        assert [entry.round for entry in seals] == list(range(len(seals)))
        for entry in seals:
            path = self.folder / "releases" / f"round-{entry.round}-attempt-{entry.attempt}.safetensors"
            assert digest(path.read_bytes()) == entry.release_hash
            assert (entry.round, entry.attempt) in costs

    def check_finished(self) -> None:
        """The final model is signed, loads, and is what the sealed releases make."""
        public_key = load_key(self.folder / "key").public
        found = published.read(self.folder / "model", public_key=public_key)
        model, items = found.model, found.items
        seals = self.entries("seal")
        terms = RunTerms.model_validate(self.entries("open")[0].facts)
        again = Replay(terms)
        for entry in seals:
            again.read(Registry(self.folder), entry.attempt, entry.release_hash)
        assert (model.hash, model.header.releases) == (again.model.hash, len(seals))
        assert len(items) == terms.facts.n_items
        (closed,) = self.entries("close")
        assert closed.facts["model_hash"] == model.hash


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where the system offers it: a killed process doesn't ask the disk for much, and syncs take long."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as parent:
        made = Path(parent) / "run"
        made.mkdir()
        yield made


@pytest.fixture
def als(processes: subprocess.Popen[str], folder: Path) -> Killable:
    """Three releases, so that a void attempt leaves something to go on with."""
    settings = {"rounds": 3, "popularity_only_below": 0}
    job = {"algorithm": "als", "settings": settings, "dp": "central"}
    return Killable(processes, folder, job, folder / "ledger.db")


@pytest.fixture
def popularity(processes: subprocess.Popen[str], folder: Path) -> Killable:
    """One release, which takes all of the budget."""
    job = {"algorithm": "popularity", "settings": {}, "dp": "central"}
    return Killable(processes, folder, job, folder / "ledger.db")


@pytest.fixture
def killable() -> type[Killable]:
    return Killable
