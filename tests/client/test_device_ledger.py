"""The ledger of one device: a row for each charge, within its limits, on the disk before anything is computed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_ledgers import open_ledger
from plans import kept_plan
from pydantic import ValidationError

from palate_client.rounds.contribution import OneDevice
from palate_core.cohort_terms import CohortTerms
from palate_core.device.ledger import DeviceLedger
from palate_core.device.trust import Trust
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.plan import ChargedPlan

HASH = "ab" * 32
COHORT = CohortTerms(n_max=20, n_min=18, c_max=2, masks=False)


def charge(ledger: DeviceLedger, round_: int = 0, attempt: int = 0, *, run: str = "a", mu2: float = 0.25) -> bool:
    kept = kept_plan(round_, attempt, run=run, mu2=mu2, dp="distributed", cohort=COHORT)
    affords = ledger.affords(kept.plan)
    charged = ledger.charge(kept, n_bytes=100, purpose="train")
    assert charged == (ChargedPlan(kept.plan) if affords else None)
    return affords


def test_a_charge_is_a_row_that_anybody_can_read(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "ledger.db", clock=lambda: 7.0) as ledger:
        assert charge(ledger)
        shutil.copytree(tmp_path, tmp_path / "power cut")
        (receipt,) = ledger.receipts()
    assert (receipt.run, receipt.round, receipt.mu2, receipt.purpose) == ("a", 0, 0.25, "train")
    plan = kept_plan(run="a", mu2=0.25, dp="distributed", cohort=COHORT).plan
    assert receipt.trust == Trust.of(plan) == Trust(2, 20, plan.mu2_alone)
    with sqlite3.connect(tmp_path / "power cut" / "ledger.db") as connection:
        rows = connection.execute("SELECT seq, run, round, attempt, plan_hash, mu2, n_bytes, time FROM charges")
        assert rows.fetchall() == [(1, "a", 0, 0, plan.hash, 0.25, 100, 7.0)]
    connection.close()


def test_a_charge_is_on_the_disk_as_every_change_waits_for_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "ledger.db") as ledger, ledger._database.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_an_attempt_is_charged_once_as_within_a_run_they_only_go_up() -> None:
    with open_ledger(":memory:") as ledger:
        assert charge(ledger, 3, 1)
        for place in ((3, 1), (3, 0), (2, 9), (0, 0)):
            with pytest.raises(RefusedError, match="must be above every earlier one of run 'a'"):
                charge(ledger, *place)
        assert charge(ledger, 3, 2)
        assert charge(ledger, 0, 0, run="b")
        assert len(ledger.receipts()) == ledger.size() == 3


def test_charges_stay_within_the_limits_exactly_and_in_all_runs_together() -> None:
    with open_ledger(":memory:", limit_mu2=0.3) as ledger:
        assert charge(ledger, run="a", mu2=0.1)
        assert charge(ledger, run="b", mu2=0.1)
        assert not charge(ledger, run="c", mu2=0.1), "three times the float 0.1 is above the float 0.3"
        assert charge(ledger, run="c", mu2=0.3 - 0.2)
        assert not charge(ledger, run="d", mu2=1e-300)
        assert ledger.spent() <= 0.3
    with open_ledger(":memory:", max_participations=2) as ledger:
        assert [charge(ledger, round_, mu2=0.0) for round_ in range(3)] == [True, True, False]


def test_a_latch_holds_one_message_a_step(tmp_path: Path) -> None:
    place: dict[str, Any] = {"run": "a", "round_": 0, "attempt": 0}
    for _ in range(2):
        with open_ledger(tmp_path / "ledger.db") as ledger:
            ledger.latch("input", HASH, **place)
            with pytest.raises(RefusedError, match="was answered to another request"):
                ledger.latch("input", "cd" * 32, **place)
            ledger.latch("input", "cd" * 32, **{**place, "attempt": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"mu2": np.nan},
        {"mu2": -1.0},
        {"mu2": np.inf},
        {"round_": -1},
        {"round_": 2**31},
        {"attempt": 2**31},
        {"run": ""},
    ],
)
def test_no_plan_is_what_no_ledger_could_charge(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong)).strip("_")):
        kept_plan(**wrong)


def test_a_file_of_another_kind_or_damaged_is_refused(tmp_path: Path) -> None:
    from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

    SimulatedLedger(tmp_path / "devices.db").close()
    with pytest.raises(InputError, match=r"\Athe ledger must be[^\n]*\Z"):
        open_ledger(tmp_path / "devices.db")
    with open_ledger(tmp_path / "ledger.db") as ledger:
        charge(ledger)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE charges SET trust = '['")
    connection.close()
    with (
        open_ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(IntegrityError, match="must be what was written"),
    ):
        ledger.receipts()


def test_a_node_asks_a_devices_own_ledger_for_one_device() -> None:
    with open_ledger(":memory:", max_participations=1) as ledger:
        one = OneDevice(ledger)
        said: dict[str, Any] = {"n_bytes": 1, "purpose": "train"}
        for devices in ([], [1, 2]):
            with pytest.raises(InputError, match="must be asked for one device"):
                one.join(kept_plan(), **said, devices=devices)
        charged, joined = one.join(kept_plan(), **said, devices=[7])
        assert (charged, joined.tolist()) == (ChargedPlan(kept_plan().plan), [True])
        assert one.affords(kept_plan(1).plan, devices=[8]).tolist() == [False], "whatever number a server gives it"


PARTICIPANT = """
import sys
from plans import kept_plan
from device_ledgers import open_ledger

with open_ledger(sys.argv[1], max_participations=20) as ledger:
    kept = [kept_plan(each, run=sys.argv[2]) for each in range(15)]
    print(sum(ledger.charge(each, n_bytes=1, purpose="train") is not None for each in kept))
"""


def test_two_processes_share_the_limits(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PARTICIPANT, str(tmp_path / "ledger.db")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # plans for tests
    workers = [subprocess.Popen([*command, run], stdout=subprocess.PIPE, text=True, env=env) for run in ("a", "b")]
    assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == 20
