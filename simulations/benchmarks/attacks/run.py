"""Attacks: what somebody gets out of updates and releases at eps 1, 5 and without privacy, beside the ceiling.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/attacks/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, ML_1M, ML_SMALL, DataSet, epsilon_label, privacy
from benchmarks.sheet import Part, Table, main
from palate_audit.attacks import audit_attacks
from palate_audit.attacks.measured import HEADER
from palate_audit.attacks.rates import Estimate
from palate_audit.evidence.evidence import Section
from palate_sim.config import load_config
from palate_sim.run.experiment import start

EPSILONS = (1.0, 5.0, None)
NOTE = (
    "In brackets 95 %: Clopper-Pearson for rates, DeLong for AUC. `at most`: the trade-off "
    "curve of the card's mu; for interactions of 2 mu."
)


@dataclass(frozen=True)
class Scale:
    """How large an audit is: target users, and games a target."""

    users: int
    repeats: int


SMALL, LARGE = Scale(200, 20), Scale(60, 20)


def attacked(set_: DataSet, data: Path, *, epsilon: float | None, seed: int, scale: Scale) -> Section:
    """A whole run with secure noise, attacked in its folder."""
    keys = set_.overrides(**privacy(epsilon), **{"evaluation.baselines": [], "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start(load_config(None, keys), source=set_.source(data), out=out).run()
        return audit_attacks(out, users=scale.users, repeats=scale.repeats, seed=seed)


def measure(set_: DataSet, scale: Scale, data: Path, seeds: int) -> Any:
    """Every eps and seed of one set."""
    return [
        figures_of(attacked(set_, data, epsilon=epsilon, seed=seed, scale=scale), epsilon, seed)
        for epsilon in EPSILONS
        for seed in range(seeds)
    ]


def figures_of(section: Section, epsilon: float | None, seed: int) -> dict[str, Any]:
    """One audit, as its record has it."""
    return {
        "epsilon": epsilon,
        "seed": seed,
        "measured": section.series["measured"],
        "bounds": [[b.rung.value, b.name, b.epsilon, b.claimed] for b in section.bounds],
        "findings": [[f.test, f.verdict.value, f.p_value, f.said] for f in section.findings],
    }


def shown(value: Sequence[float]) -> str:
    """A figure with its interval as a cell."""
    return str(Estimate(*value)) if len(value) == 3 else f"{value[0]:.3f}"


def tables_of(set_: DataSet, figures: Any) -> list[Table]:
    """The first seed's tables; the figures have all."""
    first = [figure for figure in figures if figure["seed"] == 0]
    alarms = [
        f"{epsilon_label(f['epsilon'])}: {test}" for f in first for test, said, *_ in f["findings"] if said == "alarm"
    ]
    rows: dict[str, tuple[Sequence[str], list[Any]]] = {}
    for figure in first:
        for title, header, cells in _rows(figure):
            rows.setdefault(title, (header, []))[1].append((epsilon_label(figure["epsilon"]), *cells))
    made = [Table(f"{set_.label}: {title}", ("eps", *header), of) for title, (header, of) in rows.items()]
    note = f"Alarms: {', '.join(alarms) or 'none'}. {NOTE}"
    return [*made[:-1], replace(made[-1], note=note)]


def _rows(figure: Any) -> Iterator[tuple[str, Sequence[str], list[str]]]:
    """Every row of an audit, with its table's title and columns."""
    for name in dict.fromkeys(each["attack"] for each in figure["measured"]):
        own = [each for each in figure["measured"] if each["attack"] == name]
        for each in own:
            most = [f"{value:.3f}" for value in (each["ceiling"] or {}).values()] or ["none claimed"] * 3
            values = [shown(each[key]) for key in ("auc", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01")]
            pairs = [cell for pair in zip(values, most, strict=True) for cell in pair]
            cells = [each["sees"], each["sample"], f"{each['in']:,} / {each['out']:,}", *pairs]
            yield f"{name}; knows {own[-1]['knows']}", HEADER, cells


PARTS = {
    name: Part(partial(measure, set_, scale), partial(tables_of, set_))
    for name, set_, scale in (("small", ML_SMALL, SMALL), ("ml-1m", ML_1M, LARGE))
}

if __name__ == "__main__":
    protocol = f"split strong, delta {DELTA:g}, unit user, adjacency zero-out; real runs, secure noise"
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, protocol=protocol)
