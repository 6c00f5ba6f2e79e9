"""Each preset's weights against no weights, on validation users of real logs.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/presets/run.py

Both sides have the preset's filters, the same pairs, split, first table and noise; only the weights differ. Test users
are never looked at. Rehearsals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    DESKDROP,
    JOURNEY,
    METRIC,
    ML_1M,
    ML_SMALL,
    RETAIL,
    DataSet,
    epsilon_label,
    quality,
    rehearsed,
)
from benchmarks.sheet import Part, Table, main, mean_error
from palate_core.errors import PalateError
from palate_sim.config import build_config, preset_settings
from palate_sim.preparation.preparation import Prepared, prepare

EPSILONS = (5.0, None)
TRIED_ON: dict[str, tuple[DataSet, ...]] = {
    "movies": (ML_1M, ML_SMALL),
    "shop": (RETAIL, JOURNEY),
    "news": (DESKDROP,),
    "music": (),
}
WEIGHT_KEYS = (("data", "weights"), ("data", "value_weights"), ("data", "kind_values"), ("positives", "half_life_days"))
WEIGHT_KEYS += (("positives", "combine"), ("positives", "cap"))


@dataclass(frozen=True)
class Candidate:
    """Other weights in the place of a preset's, and the split they are tried on, where it isn't the preset's."""

    label: str
    set_: DataSet
    weights: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    split: str | None = None


KINDS = {"view": 1.0, "like": 1.5, "bookmark": 2.0, "follow": 2.0, "comment created": 2.5, "*": 1.0}
WIDER = {"0": 0.4, "3": 1.0, "4": 1.4}
QUANTITIES = {"0.001": 1.0, "3": 1.2, "12": 1.4}
CANDIDATES = (
    *(Candidate("ratings 0.4 / 1 / 1.4", set_, {"data": {"value_weights": WIDER}}) for set_ in (ML_1M, ML_SMALL)),
    *(
        Candidate(label, set_, weights)
        for label, weights in (
            ("purchases summed up to 4", {"positives": {"combine": "sum", "cap": 4.0}}),
            ("quantities 1 / 1.2 / 1.4", {"data": {"value_weights": QUANTITIES}}),
            ("half-life 120 days", {"positives": {"half_life_days": 120}}),
        )
        for set_ in (RETAIL, JOURNEY)
    ),
    Candidate("kinds, no half-life", DESKDROP, {"data": {"weights": KINDS}}),
    *(Candidate(f"half-life {n} days", DESKDROP, {"positives": {"half_life_days": n}}) for n in (7, 30, 60, 180)),
    *(
        Candidate(f"kinds, half-life 30 days, split {split}", DESKDROP, weights, split)
        for split in ("temporal", "strong")
        for weights in [{"data": {"weights": KINDS}, "positives": {"half_life_days": 30}}]
    ),
    Candidate("kinds, no half-life, split strong", DESKDROP, {"data": {"weights": KINDS}}, "strong"),
)


def without_weights(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with every key that only weighs taken out."""
    plain = {section: dict(keys) for section, keys in tree.items()}
    for section, key in WEIGHT_KEYS:
        plain.get(section, {}).pop(key, None)
    return plain


def prepared_for(tree: Mapping[str, Any], set_: DataSet, data: Path, seed: int) -> Prepared:
    """A log under a preset's tree."""
    return prepare(build_config({**tree, "seed": seed}), set_.source(data))


def compare(plain: Mapping[str, Any], weighted: Mapping[str, Any], set_: DataSet, data: Path, seeds: int) -> list[Any]:
    """Quality on validation users of both, one dict an eps."""
    found: dict[float | None, dict[str, list[float]]] = {e: {"plain": [], "weighted": []} for e in EPSILONS}
    for seed in range(seeds):
        for name, tree in (("plain", plain), ("weighted", weighted)):
            prepared = prepared_for(tree, set_, data, seed)
            split = prepared.split
            if split.validation is None:
                raise PalateError(f"{set_.label} has no validation users")
            for epsilon, into in found.items():
                model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=prepared.inputs)
                into[name].append(quality(model, split.validation, split, seed))
    return [{"epsilon": epsilon, **values} for epsilon, values in found.items()]


def row_of(label: str, figure: Mapping[str, Any]) -> tuple[str, ...]:
    """One line: both means, and the mean paired difference."""
    gain = np.subtract(figure["weighted"], figure["plain"])
    mean, error = mean_error(gain)
    verdict = "better" if mean > 2 * error else "worse" if mean < -2 * error else "no difference seen"
    means = (f"{np.mean(figure[name]):.4f}" for name in ("plain", "weighted"))
    if not gain.any():
        verdict = "the same: no weights"
    return (label, figure["set"], epsilon_label(figure["epsilon"]), *means, f"{mean:+.4f} ± {error:.4f}", verdict)


HEADER = ("weights", "log", "eps", "unweighted", "weighted", "paired difference", "verdict")


def shipped(data: Path, seeds: int) -> Any:
    """The presets as they are."""
    figures = []
    for preset, sets in TRIED_ON.items():
        tree = preset_settings(preset)
        for set_ in sets:
            for figure in compare(without_weights(tree), tree, set_, data, seeds):
                figures.append({"preset": preset, "set": set_.label, **figure})
    return figures


def shipped_tables(figures: Any) -> list[Table]:
    """One row a preset, set and eps."""
    rows = []
    for preset in TRIED_ON:
        own = [each for each in figures if each["preset"] == preset]
        rows += [row_of(preset, each) for each in own]
        if not own:
            rows.append((preset, "no real log at hand", "", "", "", "", "untested"))
    note = (
        f"{METRIC} on validation users, {len(figures[0]['plain'])} paired seeds, each with its own split and noise; "
        "± is the standard error of the paired difference; better or worse means beyond two of them."
    )
    return [Table("The presets as they are", HEADER, rows, note)]


def candidates(data: Path, seeds: int) -> Any:
    """Other weights that were tried."""
    figures = []
    for candidate in CANDIDATES:
        set_, label = candidate.set_, candidate.label
        preset = next(name for name, sets in TRIED_ON.items() if set_ in sets)
        plain = without_weights(preset_settings(preset))
        if candidate.split is not None:
            plain["split"] = {"name": candidate.split}
        weights = candidate.weights
        tree = {section: {**plain.get(section, {}), **weights.get(section, {})} for section in {*plain, *weights}}
        for figure in compare(plain, tree, set_, data, seeds):
            figures.append({"candidate": label, "set": set_.label, **figure})
    return figures


def candidates_tables(figures: Any) -> list[Table]:
    """One row a candidate, set and eps."""
    rows = [row_of(each["candidate"], each) for each in figures]
    return [Table("Other weights that were tried", HEADER, rows, "As above.")]


PARTS = {"presets": Part(shipped, shipped_tables), "tried": Part(candidates, candidates_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=10)
