"""Tune: the settings of `sgd` for ratings, chosen anew on validation ratings that no figure is measured on.

One log, MovieLens 1M. All ratings that `ratings` tests on are taken out of it first. Of what is left, one part in eight
is the validation: nobody trains on it. MovieLens 100K takes no part, so that its figures are of a log that chose
nothing. The search starts from common values and goes through the settings one by one, twice; a value is changed for
the best of those listed beside it. One that counts in several cases is judged by their mean.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import rehearsed
from benchmarks.sheet import Table
from palate_common.algorithms import State
from palate_common.interactions import Interactions
from palate_core.errors import PalateError
from palate_sim.config import load_config
from palate_sim.data.log import InteractionLog
from palate_sim.features.features import item_features
from palate_sim.preparation.preparation import weighed

OFF, ON, KNOWN = "no DP", "eps 5", "eps 5, features"
EPSILONS = {OFF: None, ON: 5.0, KNOWN: 5.0}
VALIDATION, SWEEPS, NOISES = 8, 2, 2
LEAST = 2e-5
"""A value is changed for one that is better by this: less is no difference."""


@dataclass(frozen=True)
class Choice:
    """One setting, the cases that share a value of it, where it starts and what is tried.

    Attributes:
        name: of the setting.
        cases: in which it counts.
        values: to be tried; the first is where the search starts.
    """

    name: str
    cases: tuple[str, ...]
    values: tuple[float, ...]


EVERYWHERE, PRIVATE = (OFF, ON, KNOWN), (ON, KNOWN)
CHOICES = (
    Choice("embedding_size", EVERYWHERE, (16, 6, 8, 12, 20)),
    Choice("regularization", EVERYWHERE, (5.0, 3.0, 4.0, 6.0, 7.0, 8.5, 10.0)),
    Choice("bias_regularization", EVERYWHERE, (5.0, 1.5, 3.0, 8.0)),
    Choice("rounds", (OFF,), (11, 7, 9, 13, 16, 20)),
    Choice("rounds", PRIVATE, (6, 3, 4, 5, 8)),
    Choice("user_exponent", (OFF,), (0.0, 0.25, 0.5)),
    Choice("user_exponent", PRIVATE, (0.5, 0.25, 0.4)),
    Choice("clip_norm", EVERYWHERE, (1.0, 0.3, 0.4, 0.5, 0.7, 1.4)),
    Choice("server_rate", EVERYWHERE, (1.0, 0.35, 0.5, 0.7)),
    Choice("momentum", EVERYWHERE, (0.0, 0.3, 0.5, 0.7)),
    Choice("start_scale", EVERYWHERE, (0.1, 0.05, 0.15, 0.2, 0.3)),
    Choice("first_share", PRIVATE, (0.5, 0.3, 0.4, 0.6, 0.7)),
    Choice("moments_share", PRIVATE, (0.1, 0.02, 0.05)),
    Choice("residual_variance", PRIVATE, (0.25, 0.1, 0.15, 0.4)),
    Choice("feature_scale", (KNOWN,), (0.1, 0.05, 0.15, 0.2, 0.3)),
)

Chosen = dict[Choice, float]


@dataclass(frozen=True)
class Cut:
    """Ratings to learn from and to predict, of the same users.

    Attributes:
        train: to learn from.
        target: to predict.
        features: public inputs about the items, or None.
    """

    train: Interactions
    target: Interactions
    features: State | None = None


def cuts(log: InteractionLog, parts: int, seed: int) -> list[Cut]:
    """Ratings in `parts` equal random parts, each of them the target once."""
    fold = _fold(log, parts, seed)
    return [_cut(log, fold != part, fold == part) for part in range(parts)]


def validation_cut(log: InteractionLog, parts: int, seeds: int) -> Cut:
    """What the search sees: nothing of part 0 of `cuts` with any of the seeds."""
    folds = [_fold(log, parts, seed) for seed in range(seeds)]
    free = np.logical_and.reduce([fold != 0 for fold in folds])
    shown = np.random.default_rng([seeds, VALIDATION]).integers(0, VALIDATION, len(free)) > 0
    return _cut(log, free & shown, free & ~shown)


def _fold(log: InteractionLog, parts: int, seed: int) -> npt.NDArray[np.int64]:
    """Which part each rating is in."""
    return np.random.default_rng(seed).permutation(len(weighed(log, load_config("ratings")).weights)) % parts


def _cut(log: InteractionLog, shown: npt.NDArray[np.bool_], hidden: npt.NDArray[np.bool_]) -> Cut:
    """The two parts, and the items' genres and decades if the log has any."""
    pairs = weighed(log, load_config("ratings"))

    def batch(chosen: npt.NDArray[np.bool_]) -> Interactions:
        rows, items, values = (each[chosen] for each in (pairs.user_rows, pairs.item_rows, pairs.weights))
        return Interactions.from_pairs(rows, items, values, n_users=len(pairs.users), n_items=len(pairs.items))

    features = item_features(log.items, pairs.items, "auto")
    return Cut(batch(shown), batch(hidden), None if features is None else {"features": features})


def rmse(
    cut: Cut, *, epsilon: float | None, features: bool, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> float:
    """RMSE of a rehearsal on the ratings to be predicted."""
    inputs = cut.features if features else None
    chosen = {"loss": "ratings"} | dict(settings or {})
    model = rehearsed(cut.train, epsilon=epsilon, seed=seed, algorithm="sgd", settings=chosen, inputs=inputs)
    squares = 0.0
    for first in range(0, cut.train.n_users, 512):
        part = slice(first, first + 512)
        expected, target = model.expected_ratings(cut.train.users(part)), cut.target.users(part)
        if expected is None:
            raise PalateError("`sgd` must expect ratings")
        squares += float(((expected[target.owners(), target.indices] - target.weights) ** 2).sum())
    return float((squares / cut.target.nnz) ** 0.5)


class Search:
    """Validation RMSE by case, remembered; and the settings that were found.

    Args:
        cut: from `validation_cut`.
    """

    def __init__(self, cut: Cut) -> None:
        self.cut, self.trace = cut, list[dict[str, Any]]()
        self.chosen: Chosen = {choice: choice.values[0] for choice in CHOICES}
        self._known = dict[tuple[Any, ...], float]()

    def run(self) -> None:
        """Go through the settings, until a sweep changes none or `SWEEPS` are over."""
        for sweep in range(SWEEPS):
            before = dict(self.chosen)
            for choice in CHOICES:
                self._choose(choice, sweep)
            if self.chosen == before:
                return

    def settings(self, case: str, chosen: Chosen | None = None) -> dict[str, Any]:
        """The settings of one case."""
        values = {each.name: value for each, value in (chosen or self.chosen).items() if case in each.cases}
        return {name: int(value) if name in ("rounds", "embedding_size") else value for name, value in values.items()}

    def error(self, case: str, chosen: Chosen | None = None) -> float:
        """Validation RMSE of one case, the mean over draws of the noise."""
        settings = self.settings(case, chosen)
        key = (case, *settings.items())
        if key not in self._known:
            seeds = range(1 if case == OFF else NOISES)
            found = [
                rmse(self.cut, epsilon=EPSILONS[case], features=case == KNOWN, settings=settings, seed=seed)
                for seed in seeds
            ]
            self._known[key] = float(np.mean(found))
        return self._known[key]

    def _choose(self, choice: Choice, sweep: int) -> None:
        """Try each value of a setting, all others as they are."""
        tried = {}
        for value in choice.values:
            trial = self.chosen | {choice: value}
            tried[value] = float(np.mean([self.error(case, trial) for case in choice.cases]))
        best, now = min(tried, key=lambda value: tried[value]), self.chosen[choice]
        if tried[best] < tried[now] - LEAST:
            self.chosen[choice] = best
        step = {"sweep": sweep, "setting": choice.name, "cases": choice.cases, "rmse": tried}
        self.trace.append(step | {"chosen": self.chosen[choice]})
        shown = ", ".join(f"{value:g} {error:.4f}" for value, error in tried.items())
        sys.stdout.write(f"{choice.name} ({'; '.join(choice.cases)}): {shown} -> {self.chosen[choice]:g}\n")
        sys.stdout.flush()


def tuned(cut: Cut) -> Any:
    """The search, and what it chose."""
    search = Search(cut)
    search.run()
    errors = {case: search.error(case) for case in EPSILONS}
    found = {case: search.settings(case) for case in EPSILONS}
    return {"chosen": found, "rmse": errors, "trace": search.trace}


def tuned_tables(figures: Any) -> list[Table]:
    """One row a choice."""
    rows = [
        (
            f"`{choice.name}`",
            "; ".join(choice.cases),
            ", ".join(f"{value:g}" for value in sorted(choice.values)),
            f"{figures['chosen'][choice.cases[0]][choice.name]:g}",
        )
        for choice in CHOICES
    ]
    note = (
        "Validation RMSE with them: "
        + "; ".join(f"{case} {error:.4f}" for case, error in figures["rmse"].items())
        + ". Chosen on MovieLens 1M without any rating that is tested on."
    )
    header = ("setting", "cases that share it", "tried", "chosen")
    return [Table("Settings for ratings", header, rows, note)]
