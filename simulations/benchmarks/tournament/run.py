"""Tournament: variants of the settings of `als`, and other algorithms, against the defaults, on VALIDATION users.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/tournament/run.py

Test users are not looked at. Named is what beats the defaults by more than two standard errors of the paired
differences, and by half a percent. A better default would have to do so on the sets together: the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DELTA, METRIC, ML_1M, TWEETINGS, DataSet, prepared_of, quality, rehearsed
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_core.errors import InputError
from palate_sim.preparation.preparation import Prepared

Figures = dict[str, list[list[float]]]
"""Entrant -> seed -> epsilon -> quality."""

EPSILONS = (1.0, 5.0)
ERRORS, MARGIN = 2.0, 0.005
PROTOCOL = f"split strong, validation users, delta {DELTA:g}, unit user, adjacency zero-out, seeded noise"


@dataclass(frozen=True)
class Entrant:
    """One way to spend the budget.

    Attributes:
        name: how the table calls it.
        settings: what differs from the algorithm's defaults.
        algorithm: an installed algorithm.
        features: whether it sees public item features.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "als"
    features: bool = True


DEFAULT = Entrant("als, defaults")
ENTRANTS = (
    DEFAULT,
    Entrant("no features", features=False),
    Entrant("no vote, content 1", {"vote_share": 0.0, "content_weight": 1.0}),
    Entrant("no vote, content 0.5", {"vote_share": 0.0, "content_weight": 0.5}),
    Entrant("no vote, content 1.5", {"vote_share": 0.0, "content_weight": 1.5}),
    Entrant("vote_share 0.005", {"vote_share": 0.005}),
    Entrant("vote_share 0.1", {"vote_share": 0.1}),
    Entrant("2 releases", {"rounds": 2}),
    Entrant("3 releases", {"rounds": 3}),
    Entrant("5 releases", {"rounds": 5}),
    Entrant("popularity_share 0.04", {"popularity_share": 0.04}),
    Entrant("popularity_share 0.2", {"popularity_share": 0.2}),
    Entrant("d = 8", {"embedding_size": 8}),
    Entrant("d = 16", {"embedding_size": 16}),
    Entrant("d = 32", {"embedding_size": 32}),
    Entrant("head 200", {"head_items": 200}),
    Entrant("head 500", {"head_items": 500}),
    Entrant("head 1,000", {"head_items": 1000}),
    Entrant("contribution_exponent 0", {"contribution_exponent": 0.0}),
    Entrant("contribution_exponent -0.3", {"contribution_exponent": -0.3}),
    Entrant("fold_exponent -0.15", {"fold_exponent": -0.15}),
    Entrant("fold_exponent -0.45", {"fold_exponent": -0.45}),
    Entrant("score_exponent 0", {"score_exponent": 0.0}),
    Entrant("score_exponent 0.25", {"score_exponent": 0.25}),
    Entrant("whitening 0", {"whitening": 0.0}),
    Entrant("whitening -0.6", {"whitening": -0.6}),
    Entrant("content only", {"rounds": 1, "content_weight": 1.0}),
    Entrant("pairs of 200 items", {"pair_items": 200}),
    Entrant("pairs of 600 items", {"pair_items": 600}),
    Entrant("dp-als", algorithm="dp-als", features=False),
    Entrant("dp-ease", algorithm="dp-ease", features=False),
    Entrant("dp-fedavg", algorithm="dp-fedavg", features=False),
    Entrant("noised popularity", algorithm="popularity", features=False),
)


def judged(entrant: Entrant, prepared: Prepared, *, epsilon: float, seed: int) -> float:
    """Quality on the validation users of a rehearsal."""
    split = prepared.split
    if split.validation is None:
        raise InputError("a tournament needs a split with validation users, got none")
    model = rehearsed(
        split.train,
        epsilon=epsilon,
        seed=seed,
        algorithm=entrant.algorithm,
        inputs=prepared.inputs if entrant.features else {},
        settings=entrant.settings,
    )
    return quality(model, split.validation, split, seed)


def tournament(set_: DataSet, data: Path, seeds: int) -> Any:
    """Everybody on one set, at the same splits and noise keys."""
    found: Figures = {entrant.name: [] for entrant in ENTRANTS}
    for seed in range(seeds):
        prepared = prepared_of(set_, data, seed)
        for entrant in ENTRANTS:
            found[entrant.name].append([judged(entrant, prepared, epsilon=epsilon, seed=seed) for epsilon in EPSILONS])
    return {"epsilons": EPSILONS, METRIC: found}


def tournament_tables(set_: DataSet, figures: Any) -> list[Table]:
    """Everybody, best first."""
    found: Figures = figures[METRIC]
    relative = {name: differences(found, name) for name in found}
    rows = [
        (name, *(cell([own[case] for own in found[name]]) for case in range(len(EPSILONS))), f"{np.mean(each):+.2%}")
        for name, each in sorted(relative.items(), key=lambda item: -float(np.mean(item[1])))
    ]
    said = verdict(relative)
    table = Table(
        f"{set_.label}: {METRIC} of validation users",
        ("entrant", *(f"eps {epsilon:g}" for epsilon in EPSILONS), "to the defaults, mean"),
        rows,
        f"{said} Rehearsals, paired seeds, best first. What isn't named has its default.",
    )
    return [table]


def differences(found: Figures, name: str) -> list[float]:
    """Relative to the defaults, one number a seed: the mean over epsilons."""
    ratio = np.array(found[name]) / np.array(found[DEFAULT.name])
    return [float(each) for each in (ratio - 1).mean(axis=1)]


def verdict(relative: Mapping[str, Sequence[float]]) -> str:
    """Whether an entrant is better than the defaults by more than chance."""
    better = []
    for name, differences_ in relative.items():
        mean, error = mean_error(differences_)
        if mean > max(ERRORS * error, MARGIN):
            better.append(f"{name} ({mean:+.2%})")
    return f"Better than the defaults: {', '.join(better)}." if better else "Nothing is better than the defaults."


PARTS = {
    name: Part(partial(tournament, set_), partial(tournament_tables, set_))
    for name, set_ in (("ml-1m", ML_1M), ("movietweetings", TWEETINGS))
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
