"""A browser takes the plans, models and states of the ledger that Python's device takes, and refuses what it refuses.

The tests of these verdicts run once more, with the browser package asked the same: fields out of range and of other
types, floors, costs, charges, forks, restored ledgers, handovers, cosignatures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
FILES = (
    *("common/test_plan.py", "common/test_plan_fields.py", "common/test_consistency.py"),
    *("client/test_handovers.py", "client/test_cosigned_restorations.py", "client/test_contribution_refusals.py"),
    "client/test_one_ledger.py",
)


def test_every_verdict_is_the_same() -> None:
    files = [str(HERE.parent / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "web_judge", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "judges")}
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, timeout=500)
    said = re.search(r"judged (\d+) refused (\d+) differ (\d+)", done.stdout)
    assert said, done.stdout[-3000:] + done.stderr[-3000:]
    assert (done.returncode, int(said[3])) == (0, 0), done.stdout[-3000:]
    assert int(said[1]) > 1000
    assert int(said[2]) > 1000
    assert int(said[1]) - int(said[2]) >= 50, "and some are taken"
