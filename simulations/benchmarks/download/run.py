"""What a device downloads: int8 models on real sets, what they lose, and deltas between releases.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/download/run.py [--parts int8,deltas]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    DELTA,
    DESKDROP,
    METRIC,
    ML_1M,
    ML_SMALL,
    RETAIL,
    SECOND,
    TWEETINGS,
    DataSet,
    epsilon_label,
    prepared_of,
    rehearsed,
)
from benchmarks.releases.periods import periods
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.models.catalogue import lines
from palate_common.models.compact import compact, expand, inflate
from palate_common.models.delta import apply_delta
from palate_common.models.delta_search import make_delta
from palate_common.models.model import GlobalModel
from palate_core.accounting import epsilon_of, mu_of, split_budget
from palate_core.errors import PalateError
from palate_sim.config import load_config
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.features.features import item_features
from palate_sim.preparation.preparation import read
from palate_sim.run.warm_start import handed_over

SETS = (ML_1M, RETAIL, TWEETINGS, DESKDROP, ML_SMALL)
EPSILONS = (5.0, None)
SMALLER_BAR, LOSS_BAR = 3.9, 0.005
LIFETIME, COUNTS = 8.0, (4, 12, 52)
POPULATIONS = (1, 10, 100)
MOST = 2**30
Trained = tuple[GlobalModel, tuple[str, ...]]


def int8(data: Path, seeds: int) -> Any:
    """Each model, and what a device makes of its int8 copy, on the same test users."""
    return [_int8(set_, data, epsilon, seed) for set_ in SETS for epsilon in EPSILONS for seed in range(seeds)]


def int8_tables(figures: Any) -> list[Table]:
    """One row a set and eps."""
    rows = []
    for set_ in dict.fromkeys(each["set"] for each in figures):
        for epsilon in EPSILONS:
            found = [each for each in figures if (each["set"], each["epsilon"]) == (set_, epsilon)]
            ratio = min(each["whole"] / each["compact"] for each in found)
            losses = {
                metric: mean_error([1 - each["int8"][metric] / each["float"][metric] for each in found])
                for metric in (METRIC, SECOND)
            }
            met = ratio >= SMALLER_BAR and all(mean <= LOSS_BAR for mean, _ in losses.values())
            rows.append(
                (
                    set_,
                    epsilon_label(epsilon),
                    f"{found[0]['whole']:,}",
                    f"{found[0]['compact']:,}",
                    f"{ratio:.2f}",
                    cell([each["float"][METRIC] for each in found]),
                    *(f"{100 * mean:+.2f} ± {100 * error:.2f}" for mean, error in losses.values()),
                    "met" if met else "MISSED",
                )
            )
    header = (
        "log", "eps", "model, bytes", "int8, bytes", "times smaller, least", METRIC,
        f"loss of {METRIC}, %", f"loss of {SECOND}, %", f">= {SMALLER_BAR} x, <= {100 * LOSS_BAR} %",
    )  # fmt: skip
    note = f"`als`, rehearsals, delta {DELTA:g}, unit: user, adjacency: zero-out, paired seeds. Below 0 is a gain."
    return [Table("int8 in the place of float32", header, rows, note)]


def _int8(set_: DataSet, data: Path, epsilon: float | None, seed: int) -> dict[str, Any]:
    """One model and its copy."""
    prepared = prepared_of(set_, data, seed)
    split = prepared.split
    model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=prepared.inputs)
    packed = compact(model)
    judged = {
        name: judge(scorer, split.test, split, ks=(20,), seed=seed)
        for name, scorer in (("float", model), ("int8", expand(packed, most=MOST)))
    }
    values = {name: {metric: each.mean(metric) for metric in (METRIC, SECOND)} for name, each in judged.items()}
    facts = {"set": set_.label, "epsilon": epsilon, "seed": seed, "whole": len(model.data), "compact": len(packed)}
    return facts | values


def deltas(data: Path, seeds: int) -> Any:
    """Releases of a population that grows, and of one that stays: the delta beside the whole."""
    figures: list[dict[str, Any]] = []
    for count in COUNTS:
        for seed in range(seeds):
            what = f"{RETAIL.label}, {count} releases, eps {LIFETIME:g} for all"
            figures += _between(what, seed, [*_series(data, count, seed)])
    for population in POPULATIONS:
        for seed in range(seeds):
            label = f"{ML_1M.label}, {population} x its users" if population > 1 else ML_1M.label
            figures += _between(f"{label}, twice, eps 5 each", seed, [*_twice(data, population, seed)])
    for seed in range(seeds):
        figures += _between(f"{ML_1M.label}, twice, no privacy", seed, [*_twice(data, 1, seed, epsilon=None)])
    return figures


def deltas_tables(figures: Any) -> list[Table]:
    """One row a series."""
    rows = []
    for what in dict.fromkeys(each["what"] for each in figures):
        own = [each for each in figures if each["what"] == what]
        shares = [each["delta"] / each["compact"] for each in own]
        total = [(each["delta"] + each["items_changed"]) / (each["compact"] + each["items"]) for each in own]
        rows.append(
            (
                what,
                str(len(own)),
                f"{sum(each['compact'] for each in own) / len(own):,.0f}",
                f"{sum(each['delta'] for each in own) / len(own):,.0f}",
                f"{sum(shares) / len(shares):.3f}",
                f"{min(shares):.3f} to {max(shares):.3f}",
                f"{sum(total) / len(total):.3f}",
            )
        )
    header = (
        "from one release to the next", "pairs", "int8, bytes", "delta, bytes", "delta / int8, mean", "least to most",
        "with the item ids, where they changed",
    )  # fmt: skip
    note = (
        "`als`, each from the one before it; delta of the noise "
        f"{DELTA:g}, unit: user, adjacency: zero-out. Every delta made the int8 model bit for bit."
    )
    return [Table("Deltas", header, rows, note)]


def _between(what: str, seed: int, models: Sequence[Trained]) -> list[dict[str, Any]]:
    """Sizes from each release to the next."""
    found = []
    for (old, old_items), (new, items) in pairwise(models):
        base, packed = (compact(model) for model in (old, new))
        plain, result = (inflate(each, most=MOST, noun="a model") for each in (base, packed))
        delta = make_delta(plain, result, base_items=old_items, items=items)
        if apply_delta(plain, delta, most=MOST) != result:
            raise PalateError(f"a delta must make its result, got another for {what}")
        ids = len(lines(items))
        sizes = {"compact": len(packed), "delta": len(delta), "items": ids, "items_changed": ids * (items != old_items)}
        found.append({"what": what, "seed": seed, **sizes})
    sys.stderr.write(f"{what}, seed {seed}: {found[-1]['delta'] / found[-1]['compact']:.3f}\n")
    return found


def _series(data: Path, count: int, seed: int) -> Iterator[Trained]:
    """Releases in equal spans of time, each from the one before it, under one budget."""
    keys = {"privacy.delta": DELTA, "privacy.epsilon": LIFETIME}
    config = load_config(None, keys | {"positives.half_life_days": 90.0})
    log = read(config, RETAIL.source(data))
    cuts = [cut.for_test() for cut in periods(log, config, count)]
    shares = split_budget(mu=mu_of(epsilon=LIFETIME, delta=DELTA), shares=[1.0] * len(cuts))
    former: Trained | None = None
    for cut, mu in zip(cuts, shares, strict=True):
        features = item_features(log.items, cut.items, config.features.source)
        inputs = {} if features is None else {"features": features}
        inputs |= {} if former is None else handed_over(*former, cut.items)
        model = rehearse(
            cut.train,
            algorithm="als",
            settings={},
            epsilon=epsilon_of(mu=mu, delta=DELTA),
            delta=DELTA,
            seed=1000 * seed + cut.number,
            inputs=inputs,
        )
        former = model, cut.items
        yield former


def _twice(data: Path, population: int, seed: int, epsilon: float | None = 5.0) -> Iterator[Trained]:
    """The same users twice, the second time from the first release, with fresh noise."""
    prepared = prepared_of(ML_1M, data, seed)
    train, items, inputs = prepared.split.train, prepared.split.items, dict(prepared.inputs)
    first = rehearsed(train, epsilon=epsilon, seed=seed, population=population, inputs=inputs)
    yield first, items
    # Without noise nothing is left of a release to weigh against another one: the second starts from nothing.
    given = inputs if epsilon is None else inputs | handed_over(first, items, items)
    yield rehearsed(train, epsilon=epsilon, seed=seed + 1000, population=population, inputs=given), items


PARTS = {"int8": Part(int8, int8_tables), "deltas": Part(deltas, deltas_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
