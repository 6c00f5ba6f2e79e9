"""Attacks: what somebody gets out of updates, releases and models at eps 1, 5 and without privacy, beside the ceiling.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/attacks/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, ML_1M, ML_SMALL, DataSet, epsilon_label, privacy
from benchmarks.sheet import Part, Table, main
from palate_audit.attacks import ATTACKS, audit_attacks
from palate_audit.evidence.evidence import Section
from palate_sim.config import load_config
from palate_sim.run.experiment import start

EPSILONS = (1.0, 5.0, None)
NOTE = (
    "In brackets 95 %: Clopper-Pearson for rates and DeLong for AUC where trials are independent, Student's over "
    "rehearsals, none for one sample. `at most`: the trade-off curve of the card's mu; for interactions, where neither "
    "history is empty, of 2 mu."
)


@dataclass(frozen=True)
class Scale:
    """How large an audit is: target users, games a target and rehearsals, and which attacks at which eps."""

    users: int
    repeats: int
    attacks: dict[float | None, Sequence[str]]


WHITE = ("interaction", "membership", "substitution")
SMALL = Scale(200, 20, dict.fromkeys(EPSILONS, ATTACKS))
LARGE = Scale(60, 20, {1.0: WHITE, 5.0: (*WHITE, "model"), None: WHITE})


def attacked(set_: DataSet, data: Path, *, epsilon: float | None, seed: int, scale: Scale) -> Section:
    """A whole run with secure noise, attacked in its folder."""
    keys = set_.overrides(**privacy(epsilon), **{"evaluation.baselines": [], "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start(load_config(None, keys), source=set_.source(data), out=out).run()
        return audit_attacks(out, attacks=scale.attacks[epsilon], users=scale.users, repeats=scale.repeats, seed=seed)


def measure(set_: DataSet, scale: Scale, data: Path, seeds: int) -> Part:
    """Every eps and seed of one set."""
    figures = [
        _figures(attacked(set_, data, epsilon=epsilon, seed=seed, scale=scale), epsilon, seed)
        for epsilon in EPSILONS
        for seed in range(seeds)
    ]
    return figures, tables_of(set_, figures)


def tables_of(set_: DataSet, figures: Sequence[dict[str, Any]]) -> list[Table]:
    """The first seed's tables; the figures have all."""
    first = [figure for figure in figures if figure["seed"] == 0]
    alarms = [
        f"{epsilon_label(f['epsilon'])}: {test}" for f in first for test, said, *_ in f["findings"] if said == "alarm"
    ]
    titles = dict.fromkeys(table["title"] for figure in first for table in figure["tables"])
    made = []
    for title in titles:
        same = [(figure, table) for figure in first for table in figure["tables"] if table["title"] == title]
        rows = [[epsilon_label(figure["epsilon"]), *row] for figure, table in same for row in table["rows"]]
        made.append(Table(f"{set_.label}: {title}", ("eps", *same[0][1]["header"]), rows))
    note = f"Alarms: {', '.join(alarms) or 'none'}. {NOTE}"
    return [*made[:-1], replace(made[-1], note=note)]


def _figures(section: Section, epsilon: float | None, seed: int) -> dict[str, Any]:
    """One audit, as results.json has it."""
    return {
        "epsilon": epsilon,
        "seed": seed,
        "measured": section.series["measured"],
        "tables": section.series["tables"],
        "bounds": [[b.rung.value, b.name, b.epsilon, b.claimed] for b in section.bounds],
        "findings": [[f.test, f.verdict.value, f.p_value, f.said] for f in section.findings],
    }


PARTS = {
    "small": lambda data, seeds: measure(ML_SMALL, SMALL, data, seeds),
    "ml-1m": lambda data, seeds: measure(ML_1M, LARGE, data, seeds),
}

if __name__ == "__main__":
    protocol = f"split strong, delta {DELTA:g}, unit user, adjacency zero-out; real runs, secure noise"
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, protocol=protocol)
