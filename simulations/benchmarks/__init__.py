"""Benchmarks, run from a checkout. Opacus installs a package of the same name: without this file it would hide ours."""

import sys
from pathlib import Path

TESTS = str(Path(__file__).parents[2] / "tests")
if TESTS not in sys.path:  # for its cohorts that lie, and the listed mutants
    sys.path.append(TESTS)
