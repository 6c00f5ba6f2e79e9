"""Entry point of the command `palate`, also `python -m palate_cli`."""

from __future__ import annotations

import gc
import os
import sys

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

COLLECT_AFTER = 50_000
"""New objects after which Python looks for circles of them, in the place of 700: imports make a million that stay."""


def main() -> None:
    """Run the command line and exit. On a device's install, which has no command line, one line says how to get it."""
    # Before numpy is loaded: two BLAS threads collapse under contention, and a product's bits must not depend on them.
    for variable in BLAS_THREADS:
        os.environ.setdefault(variable, "1")
    gc.set_threshold(COLLECT_AFTER)
    try:
        from palate_cli.cli import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("palate"):
            raise
        from palate_common.extras import to_install

        sys.stderr.write(f"palate: the command line needs {error.name}: {to_install('simulations')}\n")
        sys.exit(2)

    sys.exit(run())


if __name__ == "__main__":
    main()
