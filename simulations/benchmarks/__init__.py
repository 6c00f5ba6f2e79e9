"""Benchmarks, run from a checkout. Opacus installs a package of the same name: without this file it would hide ours."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in (ROOT / "tests", ROOT / "docs" / "examples"):  # cohorts that lie, listed mutants; foreign mechanisms
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
