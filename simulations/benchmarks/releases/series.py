"""Releases: one budget for a series of releases, each evaluated on what users do after it.

Rehearsals, not runs: nothing is charged and nothing may be released. The charges of a real series are computed: the
unit is one installation, and one that is in every release has the mu^2 of all of them. The time between releases
gives no privacy, because each is trained on everything so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.releases.periods import Period, is_validation, periods
from palate_common.algorithms import State, algorithm_class
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.models.model import GlobalModel
from palate_core.accounting import ACCOUNTANT, check_epsilon, default_delta, epsilon_of, mu_of, split_budget
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig
from palate_sim.data import Source, Workspace
from palate_sim.data.log import InteractionLog
from palate_sim.evaluation.evaluation import evaluate
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.features.features import item_features
from palate_sim.preparation.preparation import read
from palate_sim.run.warm_start import handed_over
from palate_sim.steps import Notify

LATE = 3
"""Number of the release in which "once, release 3" spends the whole budget."""
OWN, COLD, ONCE, ONCE_LATE, POPULARITY, OFF = MODELS = (
    "warm start",
    "from nothing",
    "once, release 1",
    f"once, release {LATE}",
    "noised popularity",
    "without privacy",
)
PARTS = ("test", "test_with_history", "validation")

Trained = tuple[GlobalModel, tuple[str, ...]]
"""A model and its catalogue."""


@dataclass(frozen=True)
class Series:
    """Measured releases.

    Attributes:
        name: of the data.
        metric: what was measured.
        epsilon: of all releases together.
        delta: its delta.
        spent: epsilon after each release.
        sizes: training users, items and judged test users of each release.
        seeds: seeds of the noises and first tables.
        values: (model, part) -> one list a seed of one value a release; NaN before a release exists.
    """

    name: str
    metric: str
    epsilon: float
    delta: float
    spent: tuple[float, ...]
    sizes: tuple[Mapping[str, int], ...]
    seeds: tuple[int, ...]
    values: Mapping[tuple[str, str], Sequence[Sequence[float]]] = field(repr=False)

    def facts(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "name": self.name,
            "metric": self.metric,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "privacy": f"δ = {self.delta:g}, unit: user, adjacency: zero-out, accountant: {ACCOUNTANT}",
            "division": "equal",
            "spent": list(self.spent),
            "sizes": [dict(size) for size in self.sizes],
            "seeds": list(self.seeds),
            "values": {
                name: [_known(row) for row in self.values[name, "test"]]
                for name in MODELS
                if (name, "test") in self.values
            },
        }


def measure(
    config: SimulationConfig,
    *,
    releases: int,
    seeds: int,
    source: Source | None = None,
    notify: Notify,
    validation: bool = True,
    models: Sequence[str] = MODELS,
) -> Series:
    """Rehearse a series of releases, and what it is compared with, on each seed.

    Args:
        config: data, algorithm, and `privacy.epsilon` of ALL releases together.
        releases: how many, in equal spans of time; mu^2 is divided equally.
        seeds: how many noises and first tables, from the configuration's seed upwards. The cuts are the same.
        source: a log in the place of the configured one.
        notify: called with progress events.
        validation: judge on the validation users too.
        models: which of `MODELS` are measured.

    Raises:
        InputError: bad data, an algorithm that can't go on from a release, or a number out of range.
    """
    _check(config, seeds)
    log = read(config, source, Workspace(notify))
    cuts = [cut if validation else cut.for_test() for cut in periods(log, config, releases)]
    delta = default_delta(n_users=cuts[-1].train.n_users) if config.privacy.delta is None else config.privacy.delta
    whole = mu_of(epsilon=check_epsilon(config.privacy.epsilon), delta=delta)
    mus = split_budget(mu=whole, shares=[1.0] * len(cuts))
    inputs = [_inputs(log, cut, config) for cut in cuts]
    chosen = tuple(range(config.seed, config.seed + seeds))
    values: dict[tuple[str, str], list[list[float]]] = {}
    metric = f"recall_capped@{max(config.evaluation.ks)}"

    def judge(seed: int, name: str, models: Sequence[Trained | None]) -> None:
        rows = [_quality(trained, cut, config) for trained, cut in zip(models, cuts, strict=True)]
        for part, row in zip(PARTS, zip(*rows, strict=True), strict=True):
            values.setdefault((name, part), []).append(list(row))
        late = np.array(values[name, "test"][-1][LATE:] or math.nan)
        mean = {"value": float(late.mean()), "words": "mean of releases"}
        notify({"event": "measured", "seed": seed, "what": name, **mean})

    if OFF in models:
        judge(config.seed, OFF, _off(config, cuts, inputs, notify))
        for part in PARTS:  # without noise the seed has no effect: the same row for each
            values[OFF, part] *= seeds
    for seed in chosen:
        made = _Releases(config, cuts, inputs, delta, whole, mus, seed, notify)
        for name in models:
            if name != OFF:
                judge(seed, name, made.of(name))
    return Series(
        name=log.name,
        metric=metric,
        epsilon=config.privacy.epsilon,
        delta=delta,
        spent=tuple(epsilon_of(mu=math.sqrt(total), delta=delta) for total in np.cumsum(np.square(mus))),
        sizes=tuple(_sizes(cut) for cut in cuts),
        seeds=chosen,
        values=values,
    )


@dataclass(frozen=True)
class _Releases:
    """The private models of one seed."""

    config: SimulationConfig
    cuts: Sequence[Period]
    inputs: Sequence[State]
    delta: float
    whole: float
    mus: Sequence[float]
    seed: int
    notify: Notify

    def of(self, name: str) -> Sequence[Trained | None]:
        """One model a release; None before there is one."""
        numbers = range(len(self.cuts))
        if name == OWN:
            return self._warm()
        if name in (ONCE, ONCE_LATE):
            begun = 0 if name == ONCE else LATE - 1
            once = self._trained(begun, self.whole) if begun < len(numbers) else None
            return [once if number >= begun else None for number in numbers]
        algorithm = "popularity" if name == POPULARITY else ""
        return [self._trained(number, self.mus[number], algorithm=algorithm) for number in numbers]

    def _warm(self) -> list[Trained | None]:
        """Train each release from the one before it."""
        found: list[Trained | None] = []
        former: Trained | None = None
        for number, cut in enumerate(self.cuts):
            given = None if former is None else handed_over(*former, cut.items)
            former = self._trained(number, self.mus[number], given)
            found.append(former)
        return found

    def _trained(self, number: int, mu: float, former: State | None = None, *, algorithm: str = "") -> Trained:
        """Train one release. At one seed, each release has noise of its own."""
        cut, own = self.cuts[number], self.config.algorithm
        model = rehearse(
            cut.train,
            algorithm=algorithm or own.name,
            settings={} if algorithm else own.settings,
            epsilon=epsilon_of(mu=mu, delta=self.delta),
            delta=self.delta,
            seed=1000 * self.seed + cut.number,
            notify=self.notify,
            name=f"training {algorithm or own.name}, release {cut.number}",
            inputs={} if algorithm else self.inputs[number] | (former or {}),
        )
        return model, cut.items


def _off(
    config: SimulationConfig, cuts: Sequence[Period], inputs: Sequence[State], notify: Notify
) -> list[Trained | None]:
    """The same algorithm without noise, trained anew for each release."""
    own, found = config.algorithm, list[Trained | None]()
    for cut, given in zip(cuts, inputs, strict=True):
        model = rehearse(
            cut.train,
            algorithm=own.name,
            settings=own.settings,
            epsilon=None,
            delta=1e-5,
            seed=config.seed,
            inputs=given,
            notify=notify,
            name=f"training {own.name} without noise, release {cut.number}",
        )
        found.append((model, cut.items))
    return found


def _inputs(log: InteractionLog, cut: Period, config: SimulationConfig) -> State:
    features = item_features(log.items, cut.items, config.features.source)
    return {} if features is None else {FEATURES: features}


def _quality(trained: Trained | None, cut: Period, config: SimulationConfig) -> tuple[float, ...]:
    """The headline metric on test users, on those of them with a history, and on validation users."""
    if trained is None:
        return (math.nan,) * len(PARTS)
    model, items = trained
    ks, rng = config.evaluation.ks, np.random.default_rng([config.seed, 1])
    judged = evaluate(cut.widened(model, items), cut.heldout, train=cut.heldout.foldin, ks=ks, rng=rng)
    values = judged.values[f"recall_capped@{max(ks)}"]
    test = np.array([not is_validation(user) for user in judged.users])
    return tuple(_mean(values[chosen]) for chosen in (test, test & (judged.activity > 0), ~test))


def _sizes(cut: Period) -> dict[str, int]:
    """The numbers of users, items and interactions for training, and of test users."""
    test = np.array([not is_validation(user) for user in cut.heldout.users])
    had = cut.heldout.foldin.counts() > 0
    counts = {"users": cut.train.n_users, "items": cut.train.n_items, "interactions": cut.train.nnz}
    return counts | {"test_users": int(test.sum()), "test_users_with_history": int((test & had).sum())}


def _mean(values: npt.NDArray[np.float64]) -> float:
    """The mean; NaN for no values."""
    return float(values.mean()) if len(values) else math.nan


def _known(values: Iterable[float]) -> list[float | None]:
    """Values with None for NaN, for JSON."""
    return [None if math.isnan(value) else value for value in values]


def _check(config: SimulationConfig, seeds: int) -> None:
    """Refuse an invalid study before the log is read."""
    if seeds < 1:
        raise InputError(f"`seeds` must be at least 1, got {seeds}")
    if not algorithm_class(config.algorithm.name).hands_over():
        raise InputError(
            f"`algorithm` must be one that can go on from a release, such as als, got {config.algorithm.name!r}"
        )
    if config.filters.user_core > 1 or config.filters.item_core > 1:
        raise InputError("`filters` must be off for releases: a core is made of the whole log, its future included")
    if config.warm_start is not None:
        raise InputError("`warm_start` must be left out for releases, which start from each other")
    if config.data.panel is not None:
        raise InputError("`data.panel` must be left out for releases: whose log is open would change with each of them")
