"""What ranking on a device costs, whether its explanations hold, and what its knobs do.

PYTHONPATH=simulations python simulations/benchmarks/ranking/run.py --data PATH \\
    [--parts speed,memory,explain,knobs,filters,facts] [--seeds 3]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import palate
from benchmarks.measure import ML_SMALL, prepared_of, rehearsed
from benchmarks.ranking.filters import ITEMS, facts_of_items, facts_tables, filtered, filters_tables
from benchmarks.ranking.knobs import EPSILON, OFF, N, knobs, knobs_tables, met
from benchmarks.sheet import Part, Table, main
from palate_client.recommend.ranking import Ranking
from palate_client.recommend.recommender import ModelRecommender
from palate_client.recommend.scoring import ByFactors
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel, ModelHeader
from palate_sim.evaluation.on_device import GivenInterests
from palate_sim.evaluation.rehearsal import rehearse

QUERIES, SIZE = 200, 64
RECOMMEND_BAR, TRAINED_BAR, GAUSSIAN_BAR, RECALL_BAR = 1.6, 0.5, 1.2, 0.99
MEMORY_BAR, LOWER_BAR, CASES = 120.0, 0.95, 1000
KEY = bytes(range(32))
LIMITS = palate.Limits(max_per_day=10**6)


def synthetic(n_users: int, n_items: int, seed: int = 0) -> Interactions:
    """A log with 32 tastes and a popularity like 1 / rank^0.8: 10 to 120 items a user."""
    rng = np.random.default_rng(seed)
    likes, traits = rng.normal(size=(n_users, 32)), rng.normal(size=(n_items, 32)) / np.sqrt(32)
    popularity = -0.8 * np.log(np.arange(1, n_items + 1))
    users, items = [], []
    for user in range(n_users):
        count = int(rng.integers(10, 121))
        keys = popularity + 1.5 * (traits @ likes[user]) + rng.gumbel(size=n_items)
        users.append(np.full(count, user))
        items.append(np.argpartition(-keys, count)[:count])
    return Interactions.from_pairs(np.concatenate(users), np.concatenate(items), n_users=n_users, n_items=n_items)


def tiled(model: GlobalModel, n_items: int, seed: int = 0) -> GlobalModel:
    """The model with its items repeated, each number of a copy changed by a tenth of itself (normal)."""
    rng, state = np.random.default_rng(seed), model.state
    source = np.arange(n_items) % model.header.facts.n_items
    place = np.full(model.header.facts.n_items, -1)
    place[state["head"]] = np.arange(len(state["head"]))
    head = np.flatnonzero(place[source] >= 0)
    origin = place[source[head]]

    def near(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        jitter = 1 + 0.1 * rng.standard_normal(values.shape, np.float32)
        return (values * jitter).astype(np.float32)

    made = dict(state)
    made |= {"counts": near(state["counts"][source]), "head": head.astype(np.int32)}
    made |= {"weight": near(np.abs(state["weight"][origin])), "basis": near(state["basis"][origin])}
    return _with_state(model, made, n_items)


def gaussian(model: GlobalModel, n_items: int, seed: int = 0) -> GlobalModel:
    """The model with normal numbers in the place of its items, all equally popular: the worst case."""
    rng, made = np.random.default_rng(seed), dict(model.state)
    made |= {"counts": np.ones(n_items, np.float32), "head": np.arange(n_items, dtype=np.int32)}
    made |= {"weight": np.ones(n_items, np.float32)}
    made["basis"] = rng.standard_normal((n_items, made["basis"].shape[1]), np.float32)
    made["strength"], made["accuracy"] = np.ones_like(made["strength"]), np.ones_like(made["accuracy"])
    return _with_state(model, made, n_items)


def _with_state(model: GlobalModel, state: dict[str, Any], n_items: int) -> GlobalModel:
    """A model of the same settings with another state."""
    facts = PublicFacts(**{**model.header.facts.model_dump(), "n_items": n_items})
    settings = {**model.header.settings, "head_items": len(state["head"])}
    header = ModelHeader(algorithm="als", settings=settings, facts=facts, releases=model.header.releases, catalogue="")
    return GlobalModel(header, {name: array for name, array in state.items() if name != "table"})


def _trained() -> tuple[Interactions, GlobalModel]:
    """A log, and a model of it."""
    log = synthetic(10_000, 5000)
    settings = {"embedding_size": SIZE - 1, "rounds": 4}
    return log, rehearse(log, algorithm="als", settings=settings, epsilon=EPSILON, delta=1e-5, seed=0)


def filters(_: Path, __: int) -> Any:
    """A list with filters, rules and so on beside one without."""
    return filtered(tiled(_trained()[1], ITEMS), QUERIES)


def speed(_: Path, __: int) -> Any:
    """The search and the whole call against numpy's product, CPU time, in one process."""
    log, base = _trained()
    figures = []
    for label, make in (("trained, tiled", tiled), ("Gaussian", gaussian)):
        for n_items in (100_000, 1_000_000):
            model = make(base, n_items)
            figures.append({"table": label, "items": n_items, **_search(model, log), **_call(model)})
    return figures


def speed_tables(figures: Any) -> list[Table]:
    """Seven rows a table of items."""
    rows = [row for figure in figures for row in _speed_rows(figure)]
    note = (
        f"CPU milliseconds of one thread, {QUERIES} queries; {SIZE} numbers an item, float32; the {N} best of all "
        f"items, beside a product and argpartition. Trained: `als`, eps {EPSILON:g} (delta 1e-5, unit user, adjacency "
        "zero-out), synthetic log. Gaussian: all items alike in length. Bars compare 95 % points."
    )
    return [Table("Speed", ("items", "what", "median", "95 %", "of numpy's", "bar"), rows, note)]


def _search(model: GlobalModel, log: Interactions) -> dict[str, Any]:
    """Times of a bare product, of one with argpartition, and of the search, and the search's recall."""
    factors = model.algorithm.factors(model.state)
    if factors is None:
        raise TypeError("als has factors")
    table, parts = factors.items(), factors.parts
    ranking = Ranking(table, parts)
    rng = np.random.default_rng(1)
    taken: dict[str, list[float]] = {"product": [], "sorted": [], "search": []}
    hits = 0
    for user in rng.permutation(log.n_users)[:QUERIES].tolist():
        own = log.user(user)
        history = Interactions(own.indptr, own.indices, own.weights, len(table))
        vector = factors.users(history)[0]
        single = vector.astype(np.float32)
        scores = _timed(taken["product"], lambda vector=single: table @ vector)
        _timed(taken["sorted"], lambda vector=single: np.argpartition(-(table @ vector), N)[:N])
        found = _timed(taken["search"], lambda vector=vector: ranking.top(vector, n=N))
        hits += int((scores[found] >= np.partition(scores, -N)[-N] * (1 - 1e-5)).sum())
    return {"recall": hits / (QUERIES * N), **_quantiles(taken)}


def _call(model: GlobalModel) -> dict[str, Any]:
    """Times of a device's `recommend`, exact alone and by default."""
    items = [f"item-{n}" for n in range(model.header.facts.n_items)]
    rng, taken = np.random.default_rng(2), dict[str, list[float]](bare=[], exact=[], next=[], default=[])
    with tempfile.TemporaryDirectory() as home, palate.open(home, app="bench", key=KEY, limits=LIMITS) as device:
        device.consent.grant("store")
        device.use_model(model, items, rng=rng)
        device.like_to_start([items[row] for row in rng.choice(5000, 40, replace=False)])
        device.recommend(N)
        scorer = device.recommendations.recommender()._scorer
        if not isinstance(scorer, ByFactors):
            raise TypeError("als has factors")
        table = scorer._ranking._table
        for query in range(QUERIES):
            single = rng.standard_normal(table.shape[1], np.float32)
            device.track("view", items[int(rng.integers(5000))], id=f"view-{query}")
            _timed(taken["next"], lambda: device.recommend(N, discovery=0.0))
            _timed(taken["bare"], lambda vector=single: np.argpartition(-(table @ vector), N)[:N])
            _timed(taken["exact"], lambda: device.recommend(N, discovery=0.0))
            _timed(taken["default"], lambda: device.recommend(N))
    return _quantiles(taken)


def _timed(times: list[float], step: Callable[[], Any]) -> Any:
    """What a step gives; its CPU milliseconds are noted."""
    begun = time.thread_time()
    result = step()
    times.append(1000 * (time.thread_time() - begun))
    return result


def _quantiles(taken: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and 95 % point of each."""
    return {name: {"50": float(np.median(t)), "95": float(np.quantile(t, 0.95))} for name, t in taken.items()}


def _speed_rows(figure: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of one table of items."""
    size, trained = f"{figure['items']:,}, {figure['table']}", figure["table"] != "Gaussian"
    search = (TRAINED_BAR if trained else GAUSSIAN_BAR) if figure["items"] == 1_000_000 else None
    whole = RECOMMEND_BAR if figure["items"] == 100_000 else None
    lines = (
        ("product", "numpy's product", "product", None),
        ("sorted", "product and argpartition", "product", None),
        ("search", f"search, recall@{N} {figure['recall']:.3f}", "product", search),
        ("bare", "product and argpartition, in turn with `recommend`", "product", None),
        ("exact", "`recommend`, exact", "bare", whole),
        ("next", "the same after one more event", "bare", None),
        ("default", "`recommend`, by default", "bare", None),
    )
    rows = []
    for key, label, against, bar in lines:
        ratio, said = figure[key]["95"] / figure[against]["95"], ""
        if bar is not None:
            met = ratio <= bar and (key != "search" or figure["recall"] >= RECALL_BAR)
            said = f"<= {bar}: {'met' if met else 'MISSED'}"
        cells = (f"{figure[key]['50']:.2f}", f"{figure[key]['95']:.2f}")
        of = "" if key == "product" else f"{ratio:.2f} x {'product' if against == 'product' else 'with argpartition'}"
        rows.append((size, label, *cells, of, said))
    return rows


MEMORY = """
import sys
import palate
from palate_common.models.model import GlobalModel
from pathlib import Path
with palate.open(sys.argv[1], app="bench", key=bytes(range(32))) as device:
    device.consent.grant("store")
    items = [f"item-{n}" for n in range(10_000)]
    device.use_model(GlobalModel.from_bytes(Path(sys.argv[2]).read_bytes()), items)
    device.like_to_start(items[:50])
    device.recommend(10)
    device.explain("item-77")
    device.similar_items("item-77")
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)
"""


def memory(_: Path, __: int) -> Any:
    """The largest memory of a process that recommends from 10,000 items."""
    log = synthetic(2000, 5000)
    settings = {"embedding_size": SIZE - 1, "rounds": 4}
    base = rehearse(log, algorithm="als", settings=settings, epsilon=EPSILON, delta=1e-5, seed=0)
    figures = []
    for label, make in (("trained, tiled", tiled), ("Gaussian", gaussian)):
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "model").write_bytes(make(base, 10_000).data)
            call = [sys.executable, "-c", MEMORY, f"{home}/store", f"{home}/model"]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            figures.append({"table": label, "mebibytes": float(done.stdout)})
    return figures


def memory_tables(figures: Any) -> list[Table]:
    """One row a table of items."""
    rows = [
        (each["table"], f"{each['mebibytes']:.0f}", f"< {MEMORY_BAR:g}: {met(each['mebibytes'] < MEMORY_BAR)}")
        for each in figures
    ]
    note = f"Peak resident memory; 10,000 items x {SIZE}, import to `similar_items`."
    return [Table("Memory", ("table", "MiB", "bar"), rows, note)]


def explain(_: Path, __: int) -> Any:
    """1,000 recommendations on MovieLens small: do contributions add up, and does the top one matter?"""
    prepared = prepared_of(ML_SMALL, Path(), 0)
    split, figures = prepared.split, []
    for label, epsilon in (("eps 5", EPSILON), ("no noise", None)):
        model = rehearsed(split.train, epsilon=epsilon, seed=0, inputs=prepared.inputs)
        held = GivenInterests(split.items)
        ranker = ModelRecommender(model, split.items, held, rng=np.random.default_rng(0))
        off, lower, cases = 0.0, 0, 0
        for place in range(CASES):
            held.history = split.test.foldin.user(place % split.test.foldin.n_users)
            shown = ranker.recommend(20, **OFF)[place // split.test.foldin.n_users]
            told = ranker.explain(shown.item, **OFF)
            off = max(off, abs(sum(each.score for each in told.contributions) + told.rest - told.score))
            off = max(off, abs(model.scores(held.history)[0, held.rows[shown.item]] - told.score) / abs(told.score))
            top = held.rows[told.contributions[0].item]
            held.history = held.history.entries(held.history.indices != top)
            lower += ranker.explain(shown.item, **OFF).score < told.score
            cases += 1
        figures.append({"model": label, "cases": cases, "largest_error": off, "lower": lower / cases})
    return figures


def explain_tables(figures: Any) -> list[Table]:
    """One row a model."""
    rows = [
        (
            each["model"],
            f"{each['cases']}",
            f"{each['largest_error']:.1e}; bar 1e-6: {met(each['largest_error'] <= 1e-6)}",
            f"{each['lower']:.1%}; bar {LOWER_BAR:.0%}: {met(each['lower'] >= LOWER_BAR)}",
        )
        for each in figures
    ]
    note = (
        "MovieLens small, `als`, a rehearsal, delta 1e-5, unit user, adjacency zero-out. Errors: of the sum of "
        "contributions and rest, and of the score (relative)."
    )
    return [Table("Explanations", ("model", "cases", "largest error", "lower without the top event"), rows, note)]


PARTS = {
    "speed": Part(speed, speed_tables),
    "memory": Part(memory, memory_tables),
    "explain": Part(explain, explain_tables),
    "knobs": Part(knobs, knobs_tables),
    "filters": Part(filters, filters_tables),
    "facts": Part(facts_of_items, facts_tables),
}

if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
