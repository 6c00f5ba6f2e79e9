import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_ledgers import open_ledger
from plans import kept_plan

from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger


def charge(
    ledger: SimulatedLedger,
    round_: int = 0,
    attempt: int = 0,
    *,
    run: str = "a",
    mu2: float = 0.25,
    devices: Sequence[int] | range | npt.NDArray[np.int64] = range(4),
) -> list[bool]:
    mask = ledger.charge(kept_plan(round_, attempt, run=run, mu2=mu2), n_bytes=100, purpose="train", devices=devices)
    assert mask.dtype == np.bool_
    return [bool(allowed) for allowed in mask]


def test_a_participation_leaves_a_receipt(tmp_path: Path) -> None:
    before = time.time()
    with SimulatedLedger(tmp_path / "device.db") as ledger:
        assert charge(ledger, devices=[7]) == [True]
        assert charge(ledger, 1, mu2=0.5, devices=[7, 3]) == [True, True]
    with SimulatedLedger(tmp_path / "device.db") as ledger:
        first, second = ledger.receipts(7)
        assert (first.run, first.round, first.attempt, first.plan_hash, first.mu2, first.n_bytes) == (
            "a",
            0,
            0,
            kept_plan(run="a", mu2=0.25).plan.hash,
            0.25,
            100,
        )
        assert second.round == 1
        assert before <= first.time <= second.time <= time.time()
        assert [receipt.round for receipt in ledger.receipts(3)] == [1]
        assert ledger.receipts(4) == []
        assert (ledger.spent(7), ledger.spent(3), ledger.spent(4)) == (0.75, 0.5, 0.0)


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_durable_is_full(tmp_path: Path, durable: bool, level: int) -> None:
    with (
        SimulatedLedger(tmp_path / "device.db", durable=durable) as ledger,
        ledger._database.transaction() as connection,
    ):
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "devices",
    [
        [],
        range(5),
        range(9, 1, -2),
        [5, -3, 2**62, -(2**63), 2**63 - 1],
        np.array([4, 2, 9], dtype=np.uint16),
        (3, 1),
        np.random.default_rng(1).permutation(10_000)[:3000],
    ],
)
def test_any_ids_in_any_order(tmp_path: Path, devices: Sequence[int]) -> None:
    with SimulatedLedger(tmp_path / "device.db", max_participations=1) as ledger:
        some = [int(device) for device in devices][::2]
        assert charge(ledger, devices=some) == [True] * len(some)
        expected = [at % 2 == 1 for at in range(len(devices))]
        assert charge(ledger, 1, devices=devices) == expected
    with SimulatedLedger(tmp_path / "device.db") as ledger:
        for at, device in enumerate(devices[:20]):
            assert [receipt.round for receipt in ledger.receipts(int(device))] == [at % 2]


@pytest.mark.parametrize(
    "devices", [[1, 1], [1.0], ["1"], [[1]], [True], [2**63], [None], np.array([1], dtype=np.uint64), [[1], [1, 2]]]
)
def test_ids_that_are_none(devices: Sequence[int]) -> None:
    with SimulatedLedger(":memory:") as ledger:
        with pytest.raises(InputError, match=r"\A`devices` must[^\n]*\Z"):
            charge(ledger, devices=devices)
        assert ledger.receipts(1) == []


def test_limits_that_are_none() -> None:
    for limit in (-1.0, float("nan")):
        with pytest.raises(InputError, match="`limit_mu2`"):
            SimulatedLedger(":memory:", limit_mu2=limit)
    with pytest.raises(InputError, match="`max_participations`"):
        SimulatedLedger(":memory:", max_participations=-1)


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_is_as_many_ledgers_of_one_device(seed: int) -> None:
    """Random charges of random devices: who may take part, what is refused, and what is spent."""
    rng = np.random.default_rng(seed)
    limits: dict[str, Any] = {"limit_mu2": 1.0, "max_participations": 7, "clock": lambda: 5.0}
    with SimulatedLedger(":memory:", **limits) as batch, ExitStack() as stack:
        single = [stack.enter_context(open_ledger(":memory:", **limits)) for _ in range(12)]
        for _ in range(40):
            devices = rng.choice(12, size=int(rng.integers(1, 12)), replace=False).tolist()
            place: dict[str, Any] = {
                "run": f"run {rng.integers(3)}",
                "round_": int(rng.integers(12)),
                "attempt": int(rng.integers(2)),
            }
            mu2, dp = float(rng.choice([0.1, 0.2, 0.05, 0.15])), str(rng.choice(["local", "central"]))
            kept = kept_plan(**place, mu2=mu2, dp=dp)
            alone: list[bool] | None
            try:
                alone = [single[device].affords(kept.plan) for device in devices]
            except RefusedError:  # where one was in a later attempt, nobody is charged
                alone = None
            said: dict[str, Any] = {"n_bytes": 9, "purpose": "train"}
            if alone is None:
                with pytest.raises(RefusedError, match="must be above every earlier one"):
                    batch.charge(kept, **said, devices=devices)
                continue
            assert batch.charge(kept, **said, devices=devices).tolist() == alone
            charged = [single[device].charge(kept, **said) is not None for device in devices]
            assert charged == alone
        for device, ledger in enumerate(single):
            assert batch.receipts(device) == ledger.receipts()
            assert batch.spent(device) == ledger.spent() <= 1.0


def test_sets_that_overlap_differently_over_attempts_are_their_devices_one_by_one() -> None:
    """A set that was cut into parts still has been in the attempts that all of it was in."""
    rng, refused = np.random.default_rng(4), 0
    with ExitStack() as opened:
        batch, *single = (
            opened.enter_context(SimulatedLedger(":memory:", limit_mu2=3.0, max_participations=20)) for _ in range(9)
        )
        for step in range(120):
            place: dict[str, Any] = {
                "run": "ab"[step % 2],
                "round_": int(rng.integers(3)),
                "attempt": int(rng.integers(6)),
            }
            devices = np.sort(rng.permutation(8)[: rng.integers(1, 9)]).tolist()
            alone = []
            for device in devices:
                try:
                    alone += single[device].affords(kept_plan(**place, mu2=0.25).plan, devices=[device]).tolist()
                except RefusedError:
                    alone.append(None)
            if None in alone:
                refused += 1
                with pytest.raises(RefusedError):
                    charge(batch, place["round_"], place["attempt"], run=place["run"], devices=devices)
                continue
            assert charge(batch, place["round_"], place["attempt"], run=place["run"], devices=devices) == alone
            for device in devices:
                charge(single[device], place["round_"], place["attempt"], run=place["run"], devices=[device])
        assert [batch.spent(device) for device in range(8)] == [each.spent(at) for at, each in enumerate(single)]
    assert 20 < refused < 118


def test_files_that_are_no_device_ledger(tmp_path: Path) -> None:
    from palate_server.ledger.ledger import Ledger

    Ledger(tmp_path / "ledger.db", population="readers").close()
    for path in (tmp_path / "ledger.db", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match=r"\Athe ledger must be[^\n]*\Z"):
            SimulatedLedger(path)


def test_damaged_devices_are_an_integrity_error(tmp_path: Path) -> None:
    for damage in ("zeroblob(9)", "'text'", "substr(devices, 1, 9)"):
        path = tmp_path / f"{len(damage)}.db"
        with SimulatedLedger(path) as ledger:
            charge(ledger)
        connection = sqlite3.connect(path)
        connection.execute(f"UPDATE charges SET devices = {damage}")  # noqa: S608  # three fixed texts
        connection.commit()
        connection.close()
        with SimulatedLedger(path) as ledger, pytest.raises(IntegrityError, match=r"\A[^\n]*damaged bytes\Z"):
            ledger.receipts(1)


PARTICIPANT = """
import sys
from plans import kept_plan
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

with SimulatedLedger(sys.argv[1], max_participations=50) as ledger:
    for round_ in range(30):
        kept = kept_plan(round_, run=sys.argv[2], mu2=0.25)
        mask = ledger.charge(kept, n_bytes=1, purpose="train", devices=range(round_ % 3, 200))
        print(int(mask.sum()), flush=True)
"""


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PARTICIPANT, str(tmp_path / "device.db")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # plans for tests
    workers = [
        subprocess.Popen([*command, f"run-{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        for i in range(3)
    ]
    total = 0
    for worker in workers:
        output, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        total += sum(map(int, output.split()))
    with SimulatedLedger(tmp_path / "device.db") as ledger:
        counts = [len(ledger.receipts(device)) for device in range(200)]
        assert max(counts) == 50
        assert sum(counts) == total
        for device in (0, 1, 199):
            places = [(receipt.run, receipt.round) for receipt in ledger.receipts(device)]
            assert len(set(places)) == len(places)


def test_a_participation_costs_less_than_two_microseconds(tmp_path: Path) -> None:
    seconds = []
    for repeat in range(3):
        with SimulatedLedger(tmp_path / f"{repeat}.db", limit_mu2=10.0) as ledger:
            start = time.process_time()
            for round_ in range(3):
                charge(ledger, round_, devices=range(4832))
            seconds.append(time.process_time() - start)
    assert min(seconds) / (3 * 4832) < 2e-6
