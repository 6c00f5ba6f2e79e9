"""Attacks: what somebody gets out of updates, releases and models at eps 1, 5 and without privacy, beside the ceiling.

PALATE_BENCH_DATA=PATH python simulations/benchmarks/attacks/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, ML_1M, ML_SMALL, DataSet, epsilon_label, privacy
from benchmarks.sheet import Part, Table, main
from palate_sim.audit.attacks import ATTACKS, audit_attacks
from palate_sim.audit.attacks.measured import HEADER
from palate_sim.audit.evidence import Section
from palate_sim.config import load_config
from palate_sim.experiment import start

EPSILONS = (1.0, 5.0, None)


@dataclass(frozen=True)
class Scale:
    """How large an audit is: target users, games a target and rehearsals, and which attacks at which eps."""

    users: int
    repeats: int
    attacks: dict[float | None, Sequence[str]]


WHITE = ("interaction", "membership", "substitution")
SMALL = Scale(200, 20, dict.fromkeys(EPSILONS, ATTACKS))
LARGE = Scale(100, 20, {1.0: WHITE, 5.0: ATTACKS, None: WHITE})


def attacked(set_: DataSet, data: Path, *, epsilon: float | None, seed: int, scale: Scale) -> Section:
    """A whole run with secure noise, attacked in its folder."""
    keys = set_.overrides(**privacy(epsilon), **{"evaluation.baselines": [], "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start(load_config(None, keys), source=set_.source(data), out=out).run()
        return audit_attacks(out, attacks=scale.attacks[epsilon], users=scale.users, repeats=scale.repeats, seed=seed)


def measure(set_: DataSet, scale: Scale, data: Path, seeds: int) -> Part:
    """Every eps and seed of one set; the tables show the first seed, the figures have all."""
    found = {
        (epsilon, seed): attacked(set_, data, epsilon=epsilon, seed=seed, scale=scale)
        for epsilon in EPSILONS
        for seed in range(seeds)
    }
    figures = [_figures(section, epsilon, seed) for (epsilon, seed), section in found.items()]
    first = {epsilon_label(epsilon): section for (epsilon, seed), section in found.items() if seed == 0}
    where = f"{set_.label}: "
    tables = [Table(f"{where}attacks", ("eps", *HEADER), _rows(first, "Attacks"), _note(first))]
    for title, kind in (("user membership, likelihood ratio, by", "by"), ("attribute inference", "attribute")):
        for wanted in sorted({t["title"] for section in first.values() for t in section.series["tables"]}):
            if wanted.startswith(title):
                header = next(t["header"] for s in first.values() for t in s.series["tables"] if t["title"] == wanted)
                note = "Clopper-Pearson at 95 %." if kind == "by" else ""
                tables.append(Table(f"{where}{wanted}", ("eps", *header), _rows(first, wanted), note))
    return figures, tables


def _rows(sections: dict[str, Section], title: str) -> list[list[str]]:
    """A table's rows at every eps."""
    return [
        [epsilon, *row]
        for epsilon, section in sections.items()
        for table in section.series["tables"]
        if table["title"] == title
        for row in table["rows"]
    ]


def _note(sections: dict[str, Section]) -> str:
    """What was alarming, and what an interval is."""
    alarms = [f"{epsilon}: {alarm.test}" for epsilon, section in sections.items() for alarm in section.alarms]
    return (
        f"Alarms: {', '.join(alarms) or 'none'}. In brackets 95 %: Clopper-Pearson for rates and DeLong for AUC where "
        "trials are independent, Student's over rehearsals, none for one sample. `at most`: the trade-off curve of the "
        "card's mu; for interactions, where neither history is empty, of 2 mu."
    )


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
