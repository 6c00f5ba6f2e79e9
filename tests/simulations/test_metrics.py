"""Every metric against ir-measures, through the saved recommendations, with ties; then edge cases by hand."""

import doctest
import importlib
import pkgutil

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate_sim.metrics
from palate_common.interactions import Interactions
from palate_sim.evaluation.evaluation import evaluate
from palate_sim.metrics import LIST_METRICS, RATING_METRICS, USER_METRICS
from palate_sim.preparation.splits import Heldout

ORACLE = {
    "recall": lambda k: ir_measures.R @ k,
    "ndcg": lambda k: ir_measures.nDCG @ k,
    "hr": lambda k: ir_measures.Success @ k,
    "mrr": lambda k: ir_measures.RR @ k,
    "average_precision": lambda k: ir_measures.AP @ k,
    "recall_capped": lambda k: ir_measures.P @ k,  # times k / min(k, held out)
}


class Table:
    """A scorer that knows its scores by user."""

    def __init__(self, foldin: Interactions, scores: np.ndarray) -> None:
        self.scores_of = {user.indices.tobytes(): row for user, row in zip(each(foldin), scores, strict=True)}

    def scores(self, foldin: Interactions) -> np.ndarray:
        return np.stack([self.scores_of[user.indices.tobytes()] for user in each(foldin)])


def each(batch: Interactions) -> list[Interactions]:
    return [batch.user(row) for row in range(batch.n_users)]


def heldout_from(kind: np.ndarray) -> Heldout:
    """1 marks a fold-in item, 2 a held-out item."""
    n_users, n_items = kind.shape
    parts = [Interactions.from_pairs(*np.nonzero(kind == one), n_users=n_users, n_items=n_items) for one in (1, 2)]
    return Heldout(parts[0], parts[1], tuple(f"u{row}" for row in range(n_users)), {})


def ir_measures_of(path, heldout: Heldout, ks: tuple[int, ...]) -> dict[tuple[str, str], float]:
    """Each user's metrics as ir-measures computes them from the file, by (metric, user)."""
    saved = pd.read_csv(path, dtype={"user_id": str, "item_id": str})
    run = [ir_measures.ScoredDoc(*row) for row in saved[["user_id", "item_id", "score"]].itertuples(index=False)]
    target = heldout.target
    pairs = zip(target.owners(), target.indices, strict=True)
    qrels = [ir_measures.Qrel(heldout.users[user], f"i{item}", 1) for user, item in pairs]
    wanted = {str(ORACLE[name](k)): (name, k) for name in ORACLE for k in ks}
    found = {}
    for metric in ir_measures.iter_calc([ORACLE[name](k) for name in ORACLE for k in ks], qrels, run):
        name, k = wanted[str(metric.measure)]
        held = int(target.counts()[heldout.users.index(metric.query_id)])
        scale = k / min(k, held) if name == "recall_capped" else 1.0
        found[f"{name}@{k}", metric.query_id] = metric.value * scale
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(1, 6),
    n_items=st.integers(2, 30),
    levels=st.integers(1, 40),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=40, deadline=None)
def test_user_metrics_equal_ir_measures_with_ties(tmp_path_factory, seed, n_users, n_items, levels, dtype):
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=(n_users, n_items), p=[0.5, 0.3, 0.2])
    kind[:, 0] = 2
    kind[:, 1:] *= rng.random((n_users, 1)) < 0.9
    heldout = heldout_from(kind)
    distinct = dict.fromkeys(user.indices.tobytes() for user in each(heldout.foldin))
    by_history = {key: (rng.integers(levels, size=n_items) / 7 - 1).astype(dtype) for key in distinct}
    scores = np.stack([by_history[user.indices.tobytes()] for user in each(heldout.foldin)])
    ks = (1, 3, 20)
    result = evaluate(Table(heldout.foldin, scores), heldout, train=heldout.foldin, ks=ks, rng=rng, batch=4)
    path = tmp_path_factory.mktemp("run") / "recommendations.csv.gz"
    result.save_recommendations(path, [f"i{item}" for item in range(n_items)], heldout.users)
    oracle = ir_measures_of(path, heldout, ks)
    listed = result.top[:, 0] >= 0  # ir-measures doesn't know a user whose list is empty
    for name, values in result.values.items():
        expected = [oracle.get((name, user), 0.0) for user in result.users]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12, err_msg=name)
        assert (values[~listed] == 0).all()


@given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(1, 8), k=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_user_metrics_lie_in_the_unit_interval_and_agree_with_each_other(seed, n_users, k):
    rng = np.random.default_rng(seed)
    hits = rng.random((n_users, k)) < 0.3
    n_relevant = hits.sum(axis=1) + rng.integers(0, 5, n_users)
    found = {name: metric(hits, n_relevant) for name, metric in USER_METRICS.items()}
    for values in found.values():
        assert values.dtype == np.float64
        assert values.shape == (n_users,)
        assert ((values >= 0) & (values <= 1 + 1e-15)).all()
    assert (found["recall"] <= found["recall_capped"]).all()
    assert (found["mrr"] <= found["hr"]).all()
    assert (found["average_precision"] <= found["recall"] + 1e-15).all()
    assert ((found["recall"] > 0) == (found["hr"] > 0)).all()


@pytest.mark.parametrize("name", sorted(USER_METRICS))
def test_no_relevant_item_scores_zero(name):
    assert USER_METRICS[name](np.zeros((2, 5), np.bool_), np.array([0, 0])).tolist() == [0, 0]


@pytest.mark.parametrize("name", sorted(USER_METRICS))
def test_a_perfect_list_scores_one(name):
    assert USER_METRICS[name](np.array([[True, True, False]]), np.array([2])).tolist() == [1]


@pytest.mark.parametrize(("name", "expected"), [("recall", 0.5), ("recall_capped", 1), ("ndcg", 1), ("hr", 1)])
def test_more_held_out_items_than_the_list_has_places(name, expected):
    assert USER_METRICS[name](np.ones((1, 2), np.bool_), np.array([4])).tolist() == [expected]


@pytest.mark.parametrize("name", sorted(LIST_METRICS))
def test_list_metrics_of_empty_lists_are_zero(name):
    assert LIST_METRICS[name](np.full((2, 3), -1), Interactions.from_pairs([0], [0], n_users=1, n_items=4)) == 0


def test_list_metrics_of_known_lists():
    train = Interactions.from_pairs([0, 1, 2, 3, 0, 1, 0], [0, 0, 0, 0, 1, 1, 2], n_users=4, n_items=4)
    top = np.array([[0, 1], [0, 2], [0, -1]])
    assert LIST_METRICS["coverage"](top, train) == 0.75
    times = np.array([3, 1, 1, 0])
    by_pairs = np.abs(times[:, None] - times).sum() / (2 * len(times) * times.sum())
    assert LIST_METRICS["gini"](top, train) == pytest.approx(by_pairs, abs=1e-15)
    assert LIST_METRICS["novelty"](top, train) == pytest.approx((0 + 1 + 0 + 2 + 0) / 5, abs=1e-15)


def test_an_item_nobody_trained_on_has_the_novelty_of_one_user():
    train = Interactions.from_pairs([0, 1], [0, 0], n_users=2, n_items=2)
    assert LIST_METRICS["novelty"](np.array([[1]]), train) == 1


def test_every_metric_file_is_registered_and_its_example_runs():
    names = [module.name for module in pkgutil.iter_modules(palate_sim.metrics.__path__)]
    metrics = {**USER_METRICS, **LIST_METRICS, **RATING_METRICS}
    assert sorted(names) == sorted([*metrics, "rating_metric"])  # what an error of ratings is
    for name in names:
        module = importlib.import_module(f"palate_sim.metrics.{name}")
        assert doctest.testmod(module).attempted > 0
        assert doctest.testmod(module).failed == 0
    assert set(palate_sim.metrics.__all__) >= {*metrics, "USER_METRICS", "LIST_METRICS", "UserMetric", "ListMetric"}
