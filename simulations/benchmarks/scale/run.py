"""Scale: what long logs cost.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/scale/run.py [--parts duck]

PATH holds the logs a140k.parquet and a1m.parquet, with the columns user_id, item_id and timestamp.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.scale import duck
from benchmarks.sheet import main

PARTS = {"duck": duck.PART}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1)
