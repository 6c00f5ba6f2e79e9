"""Order: what comes next, and what goes with a basket.

PYTHONPATH=simulations python simulations/benchmarks/order/run.py --data PATH [--parts next,baskets] [--seeds 3]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.measure import DELTA, DESKDROP, RETAIL, TWEETINGS, DataSet, prepared_of, rehearsed
from benchmarks.sheet import Part, Table, cell, main
from palate_client.recommend.baskets import basket_taste
from palate_client.recommend.scoring import scorer_of
from palate_common.interactions import Interactions, segment_sum
from palate_sim.baselines.item_knn import ItemKnn
from palate_sim.baselines.markov import Markov
from palate_sim.baselines.popularity import PopularityBaseline
from palate_sim.baselines.sequence_knn import SequenceKnn
from palate_sim.config import load_config
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.recency import Dated, dated
from palate_sim.preparation.splits import Heldout

EPSILON = 5.0
METRIC, K = "recall_capped@20", 20
HALF_LIVES = (7.0, 14.0, 30.0, 60.0, 120.0)
LASTS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""What is tried of the last item: so many times a history's mean weight."""
PROJECTED = 30
"""So many times the users, in one column: where the signal suffices for links."""
N, LEAST = 10, 3
EPSILONS = (1.0, 5.0)
NEXT_SETS, BASKET_SETS = (RETAIL, TWEETINGS, DESKDROP), (RETAIL, TWEETINGS)
DAY = 86_400.0
PROTOCOL = f"delta {DELTA:g}, unit user, adjacency zero-out; rehearsals; test users once"
SURE = 2.0


def in_order(cut: Dated, names: tuple[str, ...], end: float, histories: Interactions) -> Interactions:
    """The same histories, where weights tell the order in which the items last came before a time."""
    rows = {name: row for row, name in enumerate(names)}
    places = {item: row for row, item in enumerate(cut.split.items)}
    frame = cut.log.frame
    frame = frame[(frame["timestamp"] < end) & frame["user_id"].isin(list(rows))]
    owners, items = frame["user_id"].map(rows).to_numpy(np.int64), frame["item_id"].map(places).to_numpy(np.int64)
    latest = frame["timestamp"].groupby(owners * histories.n_items + items).max()
    at = latest.loc[histories.owners().astype(np.int64) * histories.n_items + histories.indices].to_numpy(float)
    weights = np.zeros(histories.nnz, np.float32)
    weights[np.lexsort((at, histories.owners()))] = (
        1 + np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], histories.counts())
    )
    return Interactions(histories.indptr, histories.indices, weights, histories.n_items)


def sessions(plain: Interactions, ordered: Interactions, last: float) -> Interactions:
    """Each history with its last item in the session, as a device weighs it that is told so."""
    lasts = ordered.weights == np.repeat(ordered.counts(), ordered.counts())
    means = segment_sum(plain.weights.astype(np.float64), plain.indptr) / np.maximum(plain.counts(), 1)
    weights = plain.weights + np.where(lasts, last * np.repeat(means, plain.counts()), 0.0)
    return Interactions(plain.indptr, plain.indices, weights.astype(np.float32), plain.n_items)


def come_next(data: Path, seeds: int) -> Any:
    """What each method finds of what users do next, under a cut in time; settings by validation users."""
    figures = []
    for set_ in NEXT_SETS:
        prepared = prepared_of(set_, data, 0, **{"evaluation.recency": list(HALF_LIVES)})
        if prepared.log is None:
            raise ValueError(f"{set_.label} must have times")
        cut = dated(prepared.log, load_config(None, set_.overrides()))
        for seed in range(seeds):
            figures.append({"set": set_.label, "seed": seed, **_next(cut, seed)})
    return figures


def _next(cut: Dated, seed: int) -> dict[str, Any]:
    """One seed: names of methods -> a value a test user, in short, with the settings that were chosen."""
    split, train = cut.split, cut.split.train
    validation, test = split.validation, split.test
    if validation is None:
        raise ValueError("a cut in time has validation users")
    train_order = in_order(cut, split.train_users, cut.cuts[0], train)
    orders = {
        id(each): in_order(cut, each.users, end, each.foldin)
        for each, end in ((validation, cut.cuts[0]), (test, cut.cuts[1]))
    }

    def found(scorer: CatalogueScorer, heldout: Heldout, foldin: Interactions | None = None) -> Any:
        given = heldout if foldin is None else replace(heldout, foldin=foldin)
        return np.asarray(judge(scorer, given, split, ks=(K,), seed=seed).values[METRIC], np.float64)

    out: dict[str, Any] = {}

    def keep(name: str, values: Any, chosen: Any = None) -> None:
        out[name] = {"mean": float(values.mean()), "chosen": chosen}

    for name, fitted in (("popularity", PopularityBaseline.fit(train)), ("item_knn", ItemKnn.fit(train))):
        keep(name, found(fitted, test))
    tried: dict[str, list[tuple[Any, Any]]] = {
        "markov": [(steps, Markov.fit(train_order, steps=steps)) for steps in (1, 3, 10)],
        "sequence_knn": [(near, SequenceKnn.fit(train_order, neighbours=near)) for near in (50, 100, 500)],
    }
    for name, cases in tried.items():
        best = max(cases, key=lambda case: found(case[1], validation, orders[id(validation)]).mean())
        keep(name, found(best[1], test, orders[id(test)]), best[0])
    for name, epsilon, population in (("palate", EPSILON, 1), ("many", EPSILON, PROJECTED), ("off", None, 1)):
        model = rehearsed(train, epsilon=epsilon, seed=seed, population=population)
        links = sorted(model.algorithm.factors(model.state).links)  # type: ignore[union-attr]  # als has factors
        before = found(model, validation)
        keep(name, found(model, test), links)
        for kind, settings in (("recent", HALF_LIVES), ("last", LASTS)):

            def of(heldout: Heldout, end: float, setting: float, kind: str = kind) -> Heldout:
                if kind == "recent":
                    return cut.aged(heldout, end, setting)
                return replace(heldout, foldin=sessions(heldout.foldin, orders[id(heldout)], setting))

            gains = {setting: found(model, of(validation, cut.cuts[0], setting)) - before for setting in settings}
            best_setting = max(gains, key=lambda setting: float(gains[setting].mean()))
            gain = gains[best_setting]
            sure = bool(gain.mean() > SURE * gain.std(ddof=1) / np.sqrt(len(gain)))
            keep(f"{name}_{kind}", found(model, of(test, cut.cuts[1], best_setting)), best_setting)
            out[f"{name}_{kind}"] |= {
                "sure": sure,
                "tried": {str(key): float(each.mean()) for key, each in gains.items()},
            }
    return out | {"test_users": len(test.users), "train_users": train.n_users}


LABELS = {
    "popularity": "popularity, exact",
    "item_knn": "item-kNN",
    "markov": "Markov",
    "sequence_knn": "sequential kNN",
    **{
        f"{name}{kind}": f"{model}{more}"
        for name, model in (
            ("palate", f"Palate, eps {EPSILON:g}"),
            ("many", f"Palate, eps {EPSILON:g}, {PROJECTED} x the users"),
            ("off", "Palate without privacy"),
        )
        for kind, more in (("", ""), ("_recent", ", recent events count more"), ("_last", ", last item in `context`"))
    },
}


def next_tables(figures: Any) -> list[Table]:
    """A row a method, a column a log."""
    logs = list(dict.fromkeys(each["set"] for each in figures))
    rows = []
    for name, label in LABELS.items():
        cells = []
        for log in logs:
            own = [each[name] for each in figures if each["set"] == log]
            chosen = ", ".join(dict.fromkeys(_setting(each) for each in own))
            cells.append(cell([each["mean"] for each in own]) + (f" ({chosen})" if chosen else ""))
        rows.append((label, *cells))
    counts = "; ".join(
        f"{log}: {next(each['test_users'] for each in figures if each['set'] == log):,} test users" for log in logs
    )
    note = (
        f"{METRIC} of what users did in the last 10 % of the log that was new to them, by models of its first 80 %; "
        "settings, in brackets, chosen on what users did in the 10 % between, test users once; * is a gain of more "
        f"than {SURE:g} standard errors there. Epsilon with delta {DELTA:g}, unit user, adjacency zero-out; rehearsals "
        f"without public features. {counts}."
    )
    return [Table("What comes next", ("method", *logs), rows, note)]


def _setting(found: Mapping[str, Any]) -> str:
    """What was chosen, as tables write it."""
    if "sure" in found:
        return f"{found['chosen']:g}{'*' if found['sure'] else ''}"
    return (
        ""
        if found["chosen"] in (None, [])
        else ("links" if isinstance(found["chosen"], list) else f"{found['chosen']:g}")
    )


def baskets(set_: DataSet, data: Path, users: Heldout, catalogue: tuple[str, ...], seed: int) -> list[tuple[Any, int]]:
    """For each held-out user with one, a basket without one of its items, and that item: rows, and a row."""
    if set_.folder is None:
        raise ValueError("a set of baskets is a folder")
    frame = pd.read_csv(data / set_.folder / "interactions.csv.gz", dtype={"user": str, "item": str})
    places = {item: row for row, item in enumerate(catalogue)}
    frame["row"] = frame["item"].map(places)
    frame = frame.dropna(subset=["row", "timestamp"])
    frame["basket"] = frame["timestamp"] if set_ is RETAIL else frame["timestamp"] // DAY
    rng, found = np.random.default_rng([seed, 5]), []
    of = dict(iter(frame.groupby("user")))
    for user, name in enumerate(users.users):
        if name not in of:
            continue
        own = np.union1d(users.foldin.items_of(user), users.target.items_of(user))
        each = [np.intersect1d(rows.to_numpy(np.int64), own) for _, rows in of[name].groupby("basket")["row"]]
        each = [rows for rows in each if len(rows) >= LEAST]
        if each:
            basket = each[int(rng.integers(len(each)))]
            out = int(rng.integers(len(basket)))
            found.append((np.delete(basket, out), int(basket[out])))
    return found


def go_together(data: Path, seeds: int) -> Any:
    """How often the item that was left out of a basket is among the ten that go with the others."""
    figures = []
    for set_ in BASKET_SETS:
        for seed in range(seeds):
            prepared = prepared_of(set_, data, seed)
            split, train = prepared.split, prepared.split.train
            cases = baskets(set_, data, split.test, split.items, seed)
            ends = np.append(0, np.cumsum([len(rest) for rest, _ in cases]))
            rows = np.concatenate([rest for rest, _ in cases]).astype(np.int32)
            batch = Interactions(ends, rows, np.ones(len(rows), np.float32), train.n_items)
            found = {
                name: _hits(np.asarray(fitted.scores(batch), np.float64), cases)
                for name, fitted in (("popularity", PopularityBaseline.fit(train)), ("item_knn", ItemKnn.fit(train)))
            }
            for epsilon in EPSILONS:
                for population in (1, PROJECTED):
                    model = rehearsed(train, epsilon=epsilon, seed=seed, population=population, inputs=prepared.inputs)
                    scorer, every = scorer_of(model), np.arange(train.n_items)
                    scores = [scorer.scores(basket_taste(scorer, rest, train.n_items), every) for rest, _ in cases]
                    found[f"{epsilon:g} x {population}"] = _hits(np.array(scores), cases)
            figures.append({"set": set_.label, "seed": seed, "baskets": len(cases), **found})
    return figures


def _hits(scores: npt.NDArray[np.float64], cases: list[tuple[Any, int]]) -> float:
    """The hit rate; of items with one score, a half counts as better."""
    hits = []
    for own, (rest, out) in zip(scores.copy(), cases, strict=True):
        own[rest] = -np.inf
        above = np.count_nonzero(own > own[out])
        hits.append(above + (np.count_nonzero(own == own[out]) - 1) / 2 < N)
    return float(np.mean(hits))


def together_tables(figures: Any) -> list[Table]:
    """A row a log."""
    names = ("popularity", "item_knn", *(f"{epsilon:g} x {n}" for epsilon in EPSILONS for n in (1, PROJECTED)))
    privately = [f"`goes_with`, eps {eps:g}{more}" for eps in EPSILONS for more in ("", f", {PROJECTED} x the users")]
    heads = ("popularity", "item-kNN", *privately)
    rows = [
        (log, *(cell([each[name] for each in figures if each["set"] == log]) for name in names))
        for log in dict.fromkeys(each["set"] for each in figures)
    ]
    count = ", ".join(f"{each['set']} {each['baskets']}" for each in figures if each["seed"] == 0)
    note = (
        f"Hit rate@{N} of one item left out of a basket of {LEAST} or more of a test user: an invoice, or what was "
        f"rated on a day. Popularity and item-kNN without privacy; epsilon with delta {DELTA:g}, unit user, adjacency "
        f"zero-out; rehearsals. Baskets with seed 0: {count}."
    )
    return [Table("What goes with a basket", ("log", *heads), rows, note)]


PARTS = {"next": Part(come_next, next_tables), "baskets": Part(go_together, together_tables)}

if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
