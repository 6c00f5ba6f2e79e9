"""Frontier: quality against eps, and against a projected number of users. The picture of the project's README.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/frontier/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import ML_1M
from benchmarks.sheet import Part, Table, main
from palate_sim.config import load_config
from palate_sim.studies.frontier import measure

EPSILONS, FACTORS = (0.5, 1.0, 2.0, 5.0, 10.0), (1, 10, 100)


def frontier(data: Path, seeds: int) -> Any:
    """What `palate frontier` measures."""
    return measure(
        load_config(None, ML_1M.overrides()),
        epsilons=EPSILONS,
        seeds=seeds,
        factors=FACTORS,
        source=ML_1M.source(data),
        notify=lambda event: sys.stderr.write(f"{event}\n"),
    ).facts()


def frontier_tables(figures: Any) -> list[Table]:
    """One row an eps."""
    halves = {name: _halves(of) for name, of in figures["intervals"].items() if isinstance(of[0], list)}
    curves = {"1": figures["quality"], **figures["projected"]}
    columns = [(f"{factor} x users", curve) for factor, curve in curves.items()]
    columns.append(("noised popularity", figures["noised popularity"]))
    rows = [
        (f"{epsilon:g}", *(f"{curve[row]:.3f} ± {halves[name][row]:.3f}" for name, curve in columns))
        for row, epsilon in enumerate(figures["epsilons"])
    ]
    users = [f"{int(factor) * figures['users']:,}" for factor in curves]
    header = ("eps", f"{users[0]} users", *users[1:], "noised popularity")
    note = (
        f"{figures['metric']}, ± half the 95 % interval over {len(figures['seeds'])} seeds, each its own split and "
        f"noise. Without privacy {figures['off']:.3f}, EASE {figures['ease']:.3f}, popularity "
        f"{figures['popularity']:.3f}. "
        f"Rehearsals, features on; {figures['privacy']}; {figures['assumption']}."
    )
    return [Table(f"MovieLens 1M: {figures['metric']} against eps and users", header, rows, note)]


def _halves(intervals: Any) -> list[float]:
    """Half the width of each."""
    return [(high - low) / 2 for low, high in intervals]


PARTS = {"frontier": Part(frontier, frontier_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
