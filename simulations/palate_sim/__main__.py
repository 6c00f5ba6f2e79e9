"""Entry point of the command `palate`, also `python -m palate_sim`."""

from __future__ import annotations

import os
import sys

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run the command line and exit."""
    # Before numpy is loaded: two BLAS threads collapse under contention, and a product's bits must not depend on them.
    for variable in BLAS_THREADS:
        os.environ.setdefault(variable, "1")
    from palate_sim.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
