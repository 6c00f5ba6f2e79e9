"""Frontier: quality against eps on one's own data, and against a projected number of users.

Rehearsals, not runs: nothing is charged and nothing may be released. Each seed has its own split and noise. A
projection has two values: these users repeated, which counts no new user's signal, and that with what new users add,
extrapolated from halves of these users (see `palate_sim.evaluation.projection`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions
from palate_core.accounting import ACCOUNTANT, check_epsilon, default_delta
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig
from palate_sim.data import Source
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.model_evaluation import headline, judged
from palate_sim.evaluation.projection import halves, with_new_users
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import Prepared, prepare
from palate_sim.steps import Notify, step

REFERENCES = ("popularity", "ease")
ASSUMPTION = (
    "projected users: every sum grows, the noise stays, and new users behave like these; what they add to these users "
    "is extrapolated from halves of these"
)
CHECKED = (
    "beside real numbers of users, 500 to 800,000 on three logs, such projections were off by 1 % to 5 % (root of the "
    "mean square), 13 % at most: docs/population.md"
)
REPEATED = "repeated"


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds with its 95 % interval by Student's t; no interval from one seed."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> SeedMean:
        """From one value a seed."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean, None, None)
        margin = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
        return cls(mean, mean - margin, mean + margin)


@dataclass(frozen=True)
class Frontier:
    """Measured quality.

    Attributes:
        name: of the data.
        metric: what was measured, on test users.
        users: training users.
        delta: of every epsilon.
        epsilons: ascending.
        seeds: which splits and noises.
        curves: multiple of the users -> one estimate an epsilon; of more users, with what new users add.
        repeated: multiple above 1 -> one estimate an epsilon of these users repeated, which is less.
        noised_popularity: one estimate an epsilon, all of the budget on popularity.
        references: popularity, EASE, and "off": the same algorithm without noise.
    """

    name: str
    metric: str
    users: int
    delta: float
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]
    curves: Mapping[int, tuple[SeedMean, ...]]
    repeated: Mapping[int, tuple[SeedMean, ...]]
    noised_popularity: tuple[SeedMean, ...]
    references: Mapping[str, SeedMean]

    def facts(self) -> dict[str, Any]:
        """Everything as JSON, in the words of the plots."""
        means = {factor: [e.mean for e in curve] for factor, curve in self.curves.items()}
        return {
            "name": self.name,
            "metric": self.metric,
            "users": self.users,
            "delta": self.delta,
            "privacy": f"δ = {self.delta:g}, unit: user, adjacency: zero-out, accountant: {ACCOUNTANT}",
            "assumption": ASSUMPTION,
            "checked": CHECKED,
            "seeds": list(self.seeds),
            "epsilons": list(self.epsilons),
            "quality": means[1],
            "projected": {str(factor): values for factor, values in means.items() if factor != 1},
            "repeated": {str(factor): [e.mean for e in curve] for factor, curve in self.repeated.items()},
            "noised popularity": [e.mean for e in self.noised_popularity],
            **{name: e.mean for name, e in self.references.items()},
            "intervals": {
                **{f"{factor} x users": [[e.low, e.high] for e in curve] for factor, curve in self.curves.items()},
                **{
                    f"{REPEATED} {factor} x users": [[e.low, e.high] for e in curve]
                    for factor, curve in self.repeated.items()
                },
                "noised popularity": [[e.low, e.high] for e in self.noised_popularity],
                **{name: [e.low, e.high] for name, e in self.references.items()},
            },
        }


def measure(
    config: SimulationConfig,
    *,
    epsilons: Iterable[float],
    seeds: int,
    factors: Iterable[int],
    source: Source | None = None,
    notify: Notify,
) -> Frontier:
    """Rehearse every epsilon, multiple of the users and seed, and measure the references.

    Args:
        config: data, split and algorithm; its epsilon is not used.
        epsilons: user-level, zero-out, of a whole run.
        seeds: how many splits and noises, from the configuration's seed upwards.
        factors: multiples of the users; 1 is always measured.
        source: a log in the place of the configured one.
        notify: called with progress events.

    Raises:
        InputError: bad data, or a number out of range.
    """
    wanted = tuple(sorted({check_epsilon(epsilon) for epsilon in epsilons}))
    multiples = tuple(sorted({1, *factors}))
    if not wanted or seeds < 1 or multiples[0] < 1:
        raise InputError(
            f"a frontier needs an epsilon, a seed and multiples from 1, got {wanted}, {seeds}, {multiples}"
        )
    chosen = tuple(range(config.seed, config.seed + seeds))
    found: dict[tuple[str, float], list[float]] = {}
    for seed in chosen:
        prepared = prepare(config.model_copy(update={"seed": seed}), source, notify)
        for key, value in _measured(config, prepared, wanted, multiples, seed, notify):
            found.setdefault(key, []).append(value)
            notify({"event": "measured", "seed": seed, "what": key[0], "epsilon": key[1], "value": value})
    estimates = {key: SeedMean.of(values) for key, values in found.items()}
    return Frontier(
        name=prepared.name,
        metric=headline(prepared.split, config.evaluation.ks),
        users=prepared.split.train.n_users,
        delta=_delta(config, prepared),
        epsilons=wanted,
        seeds=chosen,
        curves={factor: tuple(estimates[str(factor), epsilon] for epsilon in wanted) for factor in multiples},
        repeated={
            factor: tuple(estimates[f"{REPEATED} {factor}", epsilon] for epsilon in wanted) for factor in multiples[1:]
        },
        noised_popularity=tuple(estimates["noised popularity", epsilon] for epsilon in wanted),
        references={name: estimates[name, 0.0] for name in (*REFERENCES, "off") if (name, 0.0) in estimates},
    )


def _measured(
    config: SimulationConfig,
    prepared: Prepared,
    epsilons: Sequence[float],
    factors: Sequence[int],
    seed: int,
    notify: Notify,
) -> Iterable[tuple[tuple[str, float], float]]:
    """What is measured (a multiple of the users, or a reference's name), at which epsilon, and its quality."""
    split, delta = prepared.split, _delta(config, prepared)
    metric = headline(split, config.evaluation.ks)

    seeded = config.model_copy(update={"seed": seed})

    def quality(scorer: CatalogueScorer, label: str) -> float:
        return judged(scorer, prepared, seeded, notify, label).mean(metric)

    def rehearsed(
        algorithm: str, settings: Mapping[str, Any], epsilon: float | None, train: Interactions, users: int
    ) -> float:
        return quality(
            rehearse(
                train,
                algorithm=algorithm,
                settings=settings,
                epsilon=epsilon,
                delta=delta,
                users=users,
                local=config.privacy.mode.alone,
                seed=seed,
                inputs=prepared.inputs,
                notify=notify,
                name=f"training {algorithm} {'without noise' if epsilon is None else f'at ε {epsilon:g}'}",
            ),
            algorithm,
        )

    own = config.algorithm
    for name in REFERENCES:
        try:
            with step(notify, f"fitting {name}"):
                fitted = fit_baselines([name], split, seed=seed)[name]
            yield (name, 0.0), quality(fitted, name)
        except InputError:  # EASE has a limit on items
            continue
    train, n_users = split.train, split.train.n_users
    parts = halves(train, seed=seed)
    yield ("off", 0.0), rehearsed(own.name, own.settings, None, train, n_users)
    for epsilon in epsilons:
        yield ("noised popularity", epsilon), rehearsed("popularity", {}, epsilon, train, n_users)
        for factor in factors:
            users = n_users * factor
            found = rehearsed(own.name, own.settings, epsilon, train, users)
            if factor > 1:
                yield (f"{REPEATED} {factor}", epsilon), found
                halved = [rehearsed(own.name, own.settings, epsilon, part, users) for part in parts]
                found = with_new_users(found, halved, trained=n_users, users=users)
            yield (str(factor), epsilon), found


def _delta(config: SimulationConfig, prepared: Prepared) -> float:
    """The configured delta, or the default for these users."""
    given = config.privacy.delta
    return default_delta(n_users=prepared.split.train.n_users) if given is None else given
