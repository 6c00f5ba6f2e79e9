"""Cold start: items that nobody had in training, and users after their first 1, 3 and 10 events.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/coldstart/run.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.measure import DELTA, METRIC, ML_1M, RETAIL, TWEETINGS, DataSet, prepared_of, quality, rehearsed
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.device_only import catalogue_features
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.model_evaluation import NewItems
from palate_sim.preparation.splits import Heldout

EPSILON = 5.0
EVENTS = (1, 3, 10)
SETS = (ML_1M, RETAIL, TWEETINGS)
CONTROL_BAR, USER_BAR = 2.0, 0.8
PROTOCOL = f"eps {EPSILON:g} where private, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals"


@dataclass(frozen=True)
class Fixed:
    """One score an item, the same for everybody."""

    values: npt.NDArray[np.float64]

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float64]:
        """The same row for each user, [n_users, n_items]."""
        return np.broadcast_to(self.values, (foldin.n_users, len(self.values)))


@dataclass(frozen=True)
class Linear:
    """A history times a matrix, plus a constant."""

    matrix: npt.NDArray[np.float32]
    constant: npt.NDArray[np.float32]

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """[n_users, n_items]."""
        return np.asarray(foldin.matmul(self.matrix) + self.constant, np.float32)


def category_popularity(catalogue: pd.DataFrame, items: Sequence[str], train: Interactions) -> Fixed:
    """Each item has the sum, over its genres and decade, of how many users a training item of that kind has.

    The sum did better on validation users than the mean, than the total of a genre's users, and than a product.
    """
    seen = np.bincount(train.indices, minlength=train.n_items).astype(np.float64)
    kinds = catalogue_features(catalogue, items).astype(np.float64)
    return Fixed(kinds @ ((seen @ kinds) / np.maximum((seen > 0) @ kinds, 1)))


def new_items(data: Path, seeds: int) -> Any:
    """ML-1M, 10 % of the items in nobody's training data, ranked among themselves for test users."""
    figures = []
    for seed in range(seeds):
        prepared = prepared_of(ML_1M, data, seed, **{"split.name": "item-cold"})
        if not prepared.inputs or prepared.catalogue is None:
            raise InputError(f"`items` needs titles and genres of {ML_1M.label}, and its folder has none")
        split, new, features = prepared.split, prepared.split.candidates, prepared.inputs[FEATURES]
        rng = np.random.default_rng([seed, 7])
        shuffled = features[rng.permutation(len(features))]
        models: dict[str, CatalogueScorer] = {"random order": Fixed(rng.random(len(split.items)))}
        models["category popularity"] = category_popularity(prepared.catalogue, split.items, split.train)
        models |= fit_baselines(["device_only"], split, seed=seed, items=prepared.catalogue)
        for name, facts in (("Palate", features), ("Palate, shuffled features", shuffled)):
            model = rehearsed(split.train, epsilon=EPSILON, seed=seed, inputs={FEATURES: facts})
            models[name] = NewItems(model, new, facts)
        found = {name: quality(model, split.test, split, seed) for name, model in models.items()}
        figures.append({"seed": seed, "new_items": int(new.sum()), **found})
    return figures


def new_items_tables(figures: Any) -> list[Table]:
    """Every model, and what Palate is of its rivals."""
    order = ("Palate", "Palate, shuffled features", "category popularity", "device_only", "random order")
    values = {name: [each[name] for each in figures] for name in order}
    means = {name: mean_error(each)[0] for name, each in values.items()}
    rivals = (("Palate, shuffled features", CONTROL_BAR), ("category popularity", 1.0))
    said = {name: f"{means['Palate'] / means[name]:.2f} x; bar {factor:g} x: " for name, factor in rivals}
    for name, factor in rivals:
        said[name] += "met" if means["Palate"] >= factor * means[name] else "MISSED"
    labels = {"device_only": "device only: the user's own genres"}
    table = Table(
        "New items, MovieLens 1M",
        ("model", METRIC, "Palate is"),
        [(labels.get(name, name), cell(values[name]), said.get(name, "")) for name in order],
        f"Split item-cold: {figures[0]['new_items']} items that no training user had, ranked among themselves for test "
        "users, whose other items are given. Features: genres and decades. Shuffled: every item has another item's. "
        "Category popularity, from genres and decades, and device only are without noise.",
    )
    return [table]


def linear_map(train: Interactions, events: int, seed: int, *, ridge: float = 100.0, draws: int = 4) -> Linear:
    """A ridge regression, without privacy, from some of a user's items, drawn at random, to the others.

    It is fitted for histories of this very length: what the length allows a linear model. `ridge` was chosen on the
    validation users of MovieLens 1M, seed 0.
    """
    rng, has = np.random.default_rng([seed, events]), train.dense()
    size = train.n_items
    gram, products = np.zeros((size + 1, size + 1), np.float32), np.zeros((size + 1, size), np.float32)
    for _ in range(draws):
        keys = np.where(has, rng.random(has.shape), 2.0)
        given = has & (keys <= np.partition(keys, events - 1, axis=1)[:, events - 1 : events])
        inputs = np.concatenate([given, np.ones((len(has), 1))], axis=1).astype(np.float32)
        rest = (has & ~given).astype(np.float32)
        rest /= np.sqrt(np.maximum(rest.sum(axis=1, keepdims=True), 1))
        gram += inputs.T @ inputs
        products += inputs.T @ rest
    gram[np.arange(size), np.arange(size)] += ridge
    solved = np.linalg.solve(gram, products)
    return Linear(solved[:-1], solved[-1])


def of_users(heldout: Heldout, rows: npt.NDArray[np.int64]) -> Heldout:
    """The same, for some users."""
    withheld = None if heldout.withheld is None else heldout.withheld.users(rows)
    names = tuple(heldout.users[row] for row in rows)
    return Heldout(heldout.foldin.users(rows), heldout.target.users(rows), names, {}, withheld)


def curve(set_: DataSet, data: Path, seed: int) -> tuple[int, dict[str, dict[str, float]]]:
    """How many test users, and each model's quality after so many events and with the whole history."""
    prepared = {n: prepared_of(set_, data, seed, **{"split.name": f"user-cold-{n}"}).split for n in EVENTS}
    full = prepared_of(set_, data, seed)
    split, longest = full.split, max(EVENTS)
    rows = np.flatnonzero(split.test.foldin.counts() > longest)
    arms = {str(n): of_users(cut.test, rows) for n, cut in prepared.items()}
    arms["all"] = of_users(split.test, rows)
    models: dict[str, CatalogueScorer] = {
        "Palate": rehearsed(split.train, epsilon=EPSILON, seed=seed, inputs=full.inputs),
        "Palate, no privacy": rehearsed(split.train, epsilon=None, seed=seed, inputs=full.inputs),
        "noised popularity": rehearsed(split.train, epsilon=EPSILON, seed=seed, algorithm="popularity"),
        **fit_baselines(["ease", "ials"], split, seed=seed),
    }
    found = {
        name: {events: quality(model, arm, split, seed) for events, arm in arms.items()}
        for name, model in models.items()
    }
    ceiling = linear_map(split.train, longest, seed)
    found["linear"] = {str(longest): quality(ceiling, arms[str(longest)], split, seed)}
    return len(rows), found


def new_users(data: Path, seeds: int) -> Any:
    """Quality after a user's first events against the same user's whole history, everything else equal."""
    figures = []
    for set_ in SETS:
        for seed in range(seeds):
            n_users, found = curve(set_, data, seed)
            figures.append({"set": set_.label, "seed": seed, "test_users": n_users, "found": found})
    return figures


def new_users_tables(figures: Any) -> list[Table]:
    """A table a set."""
    tables, longest = [], str(max(EVENTS))
    labels = {"ease": "EASE, no privacy", "ials": "iALS, no privacy"}
    labels["linear"] = f"linear map fitted for {longest} events, no privacy"
    for set_ in dict.fromkeys(each["set"] for each in figures):
        own = [each for each in figures if each["set"] == set_]
        values, users = defaultdict(list), [each["test_users"] for each in own]
        for each in own:
            for name, by_events in each["found"].items():
                for events, value in by_events.items():
                    values[name, events].append(value)
        rows = []
        for name in dict.fromkeys(name for name, _ in values):
            whole = values.get((name, "all"), [])
            cells = [cell(values[name, str(n)]) if (name, str(n)) in values else "" for n in EVENTS]
            kept = f"{share(values[name, longest], whole):.0%}" if whole else ""
            against = f"{share(values[name, longest], values['Palate', 'all']):.0%}"
            rows.append((labels.get(name, name), *cells, cell(whole) if whole else "", kept, against))
        reached = share(values["Palate", longest], values["Palate", "all"])
        verdict = "met" if reached >= USER_BAR else "MISSED"
        table = Table(
            f"New users, {set_}: {METRIC}",
            (
                "model",
                *(f"after {n} event{'s' * (n > 1)}" for n in EVENTS),
                "whole history",
                f"{longest} events, of its own whole",
                f"{longest} events, of Palate's whole",
            ),
            rows,
            f"Bar: after {longest} events Palate has {USER_BAR:.0%} of what it has with the whole history: {verdict} "
            f"({reached:.0%}). Test users with more than {longest} events beside their targets: {min(users)} to "
            f"{max(users)} a seed. In all columns they are the same users, with the same held-out items, ranked "
            "among the same items: what is not given is not ranked. Only the history differs.",
        )
        tables.append(table)
    return tables


def share(values: Sequence[float], whole: Sequence[float]) -> float:
    """One mean as a part of another."""
    return mean_error(values)[0] / mean_error(whole)[0]


PARTS = {"items": Part(new_items, new_items_tables), "users": Part(new_users, new_users_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
