"""Entry point of the command `palate`, also `python -m palate_cli`."""

from __future__ import annotations

import os
import sys

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run the command line and exit. On a device's install, which has no command line, one line says how to get it."""
    # Before numpy is loaded: two BLAS threads collapse under contention, and a product's bits must not depend on them.
    for variable in BLAS_THREADS:
        os.environ.setdefault(variable, "1")
    try:
        from palate_cli.cli import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("palate"):
            raise
        sys.stderr.write(f"palate: the command line needs {error.name}: pip install 'palate[simulations]'\n")
        sys.exit(2)

    sys.exit(run())


if __name__ == "__main__":
    main()
