"""Recency: lists under a temporal split, with and without recent events counting more on the device.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/recency/run.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, METRIC, RETAIL, TWEETINGS, DataSet, epsilon_label
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_sim.config import load_config
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.recency import choose_recency, dated, trained
from palate_sim.preparation.filters import k_core
from palate_sim.preparation.preparation import read

EPSILONS = (5.0, None)
TIMED = DataSet("MovieLens 1M, users 1 to 2999", "ml-1m/interactions_timestamped_users1-2999.csv.gz")
SETS = (TIMED, RETAIL, TWEETINGS)
"""MovieLens 1M: the part of the set of which all times are known."""
LOSS_BAR, GAIN_BAR = 0.99, 1.08
PROTOCOL = f"eps 5 where private, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals"


def of_set(set_: DataSet, data: Path, epsilon: float | None, seed: int) -> dict[str, Any]:
    """Test users' quality without recency, and with the half-life that validation users of this seed choose."""
    config = load_config(None, set_.overrides(seed=seed))
    log = read(config, set_.source(data))
    if set_.core:
        log, _ = k_core(log, set_.core, set_.core)
    cut = dated(log, config)
    model = trained(cut, config, epsilon=epsilon, delta=DELTA)
    options: dict[str, Any] = {"ks": (20,), "seed": seed}
    chosen, tried = choose_recency(model, cut, load_config().evaluation.recency, metric=METRIC, **options)
    plain = judge(model, cut.split.test, cut.split, **options).mean(METRIC)
    aged = cut.split.test if chosen is None else cut.aged(cut.split.test, cut.cuts[1], chosen)
    return {
        "set": set_.label,
        "epsilon": epsilon,
        "seed": seed,
        "train_users": cut.split.train.n_users,
        "test_users": len(cut.split.test.users),
        "chosen": chosen,
        "tried": tried,
        "without": plain,
        "with": judge(model, aged, cut.split, **options).mean(METRIC),
    }


def temporal(data: Path, seeds: int) -> Any:
    """Each set, with and without privacy."""
    return [of_set(set_, data, epsilon, seed) for set_ in SETS for epsilon in EPSILONS for seed in range(seeds)]


def temporal_tables(figures: Any) -> list[Table]:
    """A row a set and budget."""
    rows, ratios = [], {}
    for set_ in dict.fromkeys(each["set"] for each in figures):
        for epsilon in EPSILONS:
            own = [each for each in figures if each["set"] == set_ and each["epsilon"] == epsilon]
            without, aged = ([each[name] for each in own] for name in ("without", "with"))
            ratio = mean_error(aged)[0] / mean_error(without)[0]
            ratios[set_, epsilon] = ratio
            gains = [new - old for new, old in zip(aged, without, strict=True)]
            rows.append(
                (
                    set_,
                    epsilon_label(epsilon),
                    f"{own[0]['train_users']} / {own[0]['test_users']}",
                    _half_lives([each["chosen"] for each in own]),
                    cell(without),
                    cell(aged),
                    cell(gains),
                    f"{ratio:.3f}",
                )
            )
    lowest, gained = min(ratios.values()), min(ratios[TWEETINGS.label, epsilon] for epsilon in EPSILONS)
    verdicts = (
        f"never below {LOSS_BAR:g} x: {'met' if lowest >= LOSS_BAR else 'MISSED'} ({lowest:.3f})",
        f"{TWEETINGS.label} at least {GAIN_BAR:g} x: {'met' if gained >= GAIN_BAR else 'MISSED'} ({gained:.3f})",
    )
    table = Table(
        f"Recent events count more: {METRIC} under a temporal split",
        (
            "log",
            "eps",
            "users: training / test",
            "half-life chosen",
            "without",
            "with",
            "gain, paired",
            "with ÷ without",
        ),
        rows,
        "Trained on the first 80 % of pairs by time; half-life chosen on validation users in the next 10 %; judged on "
        f"the last 10 %. Bars: {'; '.join(verdicts)}.",
    )
    return [table]


def _half_lives(chosen: Sequence[float | None]) -> str:
    """The half-lives of all seeds, most frequent first."""
    counts = Counter("none" if days is None else f"{days:g} days" for days in chosen)
    return ", ".join(text if len(counts) == 1 else f"{text} ({n} of {len(chosen)})" for text, n in counts.most_common())


PARTS = {"temporal": Part(temporal, temporal_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
