"""Two finished runs on one population, and a forger's tools."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_audit.counted import seeds
from palate_audit.evidence.evidence import Finding, Section, Verdict
from palate_audit.run import accounts
from palate_audit.run.ledger import audit_ledger
from palate_common.records.key_file import load_key
from palate_core.log.merkle import Checkpoint
from palate_server.ledger.history import entry_from
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import Log, indexed
from palate_sim.config import build_config
from palate_sim.run.experiment import start

KEYS: dict[str, Any] = {
    "evaluation": {"baselines": "none", "projection": "none"},
    "algorithm": {"settings": {"popularity_only_below": 0}},
    "privacy": {"population": "readers"},
}


@pytest.fixture(scope="session", autouse=True)
def each_count_once() -> Iterator[None]:
    """The other accountants count the same charges once a session, and few seeds are searched for public noise."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(accounts, "_pld", _remembering(accounts._pld))
        patched.setattr(seeds, "SEEDS", 2**11)
        yield


def _remembering(count: Callable[..., Finding]) -> Callable[..., Finding]:
    known: dict[str, Finding] = {}

    def call(sums: Any, claimed: float, delta: float) -> Finding:
        key = f"{sorted(sums.items())} {claimed} {delta}"
        if key not in known:
            known[key] = count(sums, claimed, delta)
        return known[key]

    return call


@dataclass(frozen=True)
class Bench:
    """Copies of a population's files, to be tampered with.

    `folder` is the run `first`; the ledger also has the run `second`, begun after it.
    """

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "first"

    @property
    def ledger(self) -> Path:
        return self.root / "readers.ledger.db"

    def head(self, size: int | None = None) -> Checkpoint:
        """A state of the ledger as it is now."""
        with Ledger(self.ledger, population="readers", read_only=True) as ledger:
            return ledger.checkpoint(size)

    def bodies(self) -> list[dict[str, Any]]:
        with Ledger(self.ledger, population="readers", read_only=True) as ledger:
            return [entry.body for entry in ledger.entries()]

    def seqs(self, run: str, kind: str) -> list[int]:
        """Where a run's entries of a kind stand."""
        return [b["seq"] for b in self.bodies() if b["kind"] == kind and b.get("run", "").startswith(run)]

    def audit(self, **options: Any) -> Section:
        return audit_ledger(self.folder, **{"ledger": self.ledger, **options})

    def sql(self, script: str) -> None:
        """Change rows and nothing else, as somebody with an editor would."""
        connection = sqlite3.connect(self.ledger)
        connection.executescript(
            f"DROP TRIGGER no_update; DROP TRIGGER no_delete; DROP TRIGGER at_end;"
            f"DROP INDEX one_run; DROP INDEX one_charge; DROP INDEX one_seal; {script}"
        )
        connection.close()

    def leaf(self, seq: int, data: bytes) -> None:
        """One row's entry, and nothing else."""
        connection = sqlite3.connect(self.ledger)
        connection.execute("DROP TRIGGER IF EXISTS no_update")
        connection.execute("UPDATE entries SET leaf = ? WHERE seq = ?", (data, seq))
        connection.commit()
        connection.close()

    def rewrite(self, bodies: Sequence[dict[str, Any]]) -> None:
        """A whole log with right numbers, chain and root, as somebody without the key, but with this code, would."""
        forged = Log()
        forged.history.admit = lambda entry: None  # type: ignore[method-assign]  # the forger has no rules
        connection = sqlite3.connect(self.ledger)
        connection.executescript("DROP TRIGGER no_delete; DELETE FROM entries")
        for seq, body in enumerate(bodies):
            entry = entry_from({**body, "seq": seq})
            forged.take(entry, entry.leaf())
            row = (entry.seq, *indexed(entry), entry.leaf(), forged.chain)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE head SET size = ?, root = ?", (forged.size, forged.tree.root()))
        connection.commit()
        connection.close()

    def resign(self, name: str = "first") -> None:
        """A new extract of the ledger as it is now, as the operator, who has the key, would."""
        key = load_key(self.root / name / "key")
        with Ledger(self.ledger, population="readers") as ledger:
            run = next(run for run in ledger.runs() if run.startswith(name))
            (self.root / name / "ledger.json").write_bytes(ledger.extract(run, key))


def verdict(section: Section, test: str) -> Finding:
    """The finding of a test, the worst if there are several."""
    found = [each for each in section.findings if each.test.startswith(test)]
    assert found, f"no test {test} among {[each.test for each in section.findings]}"
    order = (Verdict.ALARM, Verdict.UNCHECKABLE, Verdict.PASS)
    return min(found, key=lambda each: order.index(each.verdict))


def frame(seed: int = 1, *, users: int = 260, items: int = 60) -> pd.DataFrame:
    """Users of two tastes."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(3, items + 3)
    rows = []
    for user in range(users):
        taste = np.where(np.arange(items) % 2 == user % 2, 5.0, 1.0) * odds
        rows += [(f"u{user}", f"i{item}") for item in rng.choice(items, 8, replace=False, p=taste / taste.sum())]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population with the runs `first` and `second`; nobody writes here."""
    root = tmp_path_factory.mktemp("population")
    for name, epsilon in (("first", 4.0), ("second", 2.0)):
        config = build_config({**KEYS, "privacy": {**KEYS["privacy"], "epsilon": epsilon}})
        start(config, source=frame(), out=root / name, ledger=root / "readers.ledger.db").run()
    return root


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    """A copy of the population, to be tampered with."""
    shutil.copytree(made, tmp_path / "population")
    return Bench(tmp_path / "population")


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """`run_of(name=..., **config)`: the folder of a finished run of its own, on few users."""

    def run(*, name: str = "run", users: int = 60, **config: Any) -> Path:
        parts = {key: {**KEYS.get(key, {}), **value} for key, value in config.items() if isinstance(value, dict)}
        made = build_config({**KEYS, **config, **parts})
        start(made, source=frame(users=users, items=24), out=tmp_path / name, ledger=tmp_path / "ledger.db").run()
        return tmp_path / name

    return run


@pytest.fixture(scope="session")
def finding() -> Callable[[Section, str], Finding]:
    """`finding(section, test)`: the worst finding whose test's name begins like that."""
    return verdict
