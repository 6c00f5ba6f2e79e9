"""Measure: the sets of the benchmarks, real runs and rehearsals on them, and one number out of each.

A real run is the whole command's path: secure noise, both ledgers, signed plans. A rehearsal is the same learning in
memory with seeded noise; it stands in where hundreds of runs are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate_common.algorithms import State
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_sim.config import load_config
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import Prepared, prepare
from palate_sim.preparation.splits import Heldout, Split
from palate_sim.run.experiment import start
from palate_sim.run.result import Result

METRIC, SECOND = "recall_capped@20", "ndcg@20"
DELTA = 1e-5


@dataclass(frozen=True)
class DataSet:
    """A set of the benchmarks.

    Attributes:
        label: how tables call it.
        folder: its folder below the data path, or None for a set that comes with pip.
        core: least items a user and users an item; 0 is off.
        name: the registered name of a set that comes with pip.
    """

    label: str
    folder: str | None
    core: int = 0
    name: str = ""

    def source(self, data: Path) -> Path | str:
        """What `prepare` and `start` take."""
        return self.name if self.folder is None else data / self.folder

    def overrides(self, **more: Any) -> dict[str, Any]:
        """Configuration keys for this set: delta, filters, the headline's list length."""
        keys: dict[str, Any] = {"privacy.delta": DELTA, "evaluation.ks": [20]}
        keys |= {"evaluation.projection": [], "evaluation.recency": []}
        return keys | {"filters.user_core": self.core, "filters.item_core": self.core} | more


ML_1M = DataSet("MovieLens 1M", "ml-1m")
RETAIL = DataSet("Online Retail", "online-retail", core=5)
TWEETINGS = DataSet("MovieTweetings 100k", "movietweetings-100k", core=5)
DESKDROP = DataSet("DeskDrop", "deskdrop", core=5)
ML_SMALL = DataSet("MovieLens small", None, name="movielens-small")
JOURNEY = DataSet("Complete Journey", None, core=5, name="complete-journey")


def privacy(epsilon: float | None) -> dict[str, Any]:
    """Configuration keys for an eps, or for no privacy."""
    return {"privacy.dp": "off"} if epsilon is None else {"privacy.epsilon": epsilon}


def epsilon_label(epsilon: float | None) -> str:
    """An eps as tables write it."""
    return "off" if epsilon is None else f"{epsilon:g}"


def whole_run(set_: DataSet, data: Path, **asked: Any) -> Result:
    """As `real_run`, with the card beside the summary."""
    keys = set_.overrides(**privacy(asked["epsilon"]), **{"evaluation.baselines": list(asked.get("baselines", ()))})
    keys |= {"seed": asked["seed"], "features.source": asked.get("features", "auto"), **(asked.get("more") or {})}
    with tempfile.TemporaryDirectory() as folder:
        return start(load_config(None, keys), source=set_.source(data), out=Path(folder) / "run").run()


def real_run(
    set_: DataSet,
    data: Path,
    *,
    epsilon: float | None,
    seed: int,
    baselines: Sequence[str] = (),
    features: str = "auto",
    more: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """The summary (result.json) of a whole run: engine `local`, secure noise, ledgers; its folder is thrown away."""
    asked = {"epsilon": epsilon, "seed": seed, "baselines": baselines, "features": features, "more": more}
    return whole_run(set_, data, **asked).summary


def prepared_of(set_: DataSet, data: Path, seed: int, **overrides: Any) -> Prepared:
    """The set's strong split of this seed, with its item features where it has any."""
    return prepare(load_config(None, set_.overrides(seed=seed, **overrides)), set_.source(data))


def split_of(set_: DataSet, data: Path, seed: int) -> Split:
    """The set's strong split of this seed."""
    return prepared_of(set_, data, seed).split


def rehearsed(
    train: Interactions,
    *,
    epsilon: float | None,
    seed: int,
    algorithm: str = "als",
    population: int = 1,
    inputs: State | None = None,
    settings: Mapping[str, Any] | None = None,
) -> GlobalModel:
    """A model of a rehearsal: seeded noise, no ledger; without item features unless `inputs` has them."""
    return rehearse(
        train,
        algorithm=algorithm,
        settings=settings or {},
        epsilon=epsilon,
        delta=DELTA,
        population=population,
        seed=seed,
        inputs=inputs,
    )


def quality(scorer: CatalogueScorer, heldout: Heldout, split: Split, seed: int, metric: str = METRIC) -> float:
    """One metric on held-out users."""
    return judge(scorer, heldout, split, ks=(20,), seed=seed).mean(metric)


def some_users(train: Interactions, n_users: int, seed: int) -> Interactions:
    """`n_users` training users drawn at random, in their old order."""
    rows = np.random.default_rng([seed, n_users]).permutation(train.n_users)[:n_users]
    return train.users(np.sort(rows))
