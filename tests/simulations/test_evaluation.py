"""The evaluator: exact ranking, ties by a seeded order, refusals, segments, intervals, and what it writes."""

import gzip
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.evaluation import saved_lists
from palate_sim.evaluation.evaluation import evaluate, mean_rank, rank
from palate_sim.evaluation.sampling import LOOKED, TESTED, some_heldout
from palate_sim.evaluation.saved_lists import Evaluation, save_split, strictly_decreasing
from palate_sim.preparation.splits import Heldout, Split


class Fixed:
    """The same scores for everybody, or one row a user."""

    def __init__(self, scores: np.ndarray) -> None:
        self.given = np.asarray(scores)
        self.batches: list[int] = []

    def scores(self, foldin: Interactions) -> np.ndarray:
        start = sum(self.batches)
        self.batches.append(foldin.n_users)
        return (
            self.given[start : start + foldin.n_users]
            if self.given.ndim == 2
            else np.tile(self.given, (foldin.n_users, 1))
        )


def heldout_of(foldin: list[list[int]], target: list[list[int]], n_items: int, **groups: tuple[str, ...]) -> Heldout:
    def batch(lists: list[list[int]]) -> Interactions:
        users = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        return Interactions.from_pairs(users, np.concatenate(lists).astype(int), n_users=len(lists), n_items=n_items)

    return Heldout(batch(foldin), batch(target), tuple(f"u{row}" for row in range(len(foldin))), groups)


def judged(scorer: Fixed, heldout: Heldout, seed: int = 0, **options) -> Evaluation:
    return evaluate(scorer, heldout, train=heldout.foldin, rng=np.random.default_rng(seed), **options)


def many_users(n_users: int, n_items: int, seed: int = 0, **groups: tuple[str, ...]) -> Heldout:
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=(n_users, n_items), p=[0.8, 0.15, 0.05])
    kind[:, 0], kind[:, 1] = 2, 1
    parts = [Interactions.from_pairs(*np.nonzero(kind == one), n_users=n_users, n_items=n_items) for one in (1, 2)]
    return Heldout(parts[0], parts[1], tuple(f"u{row}" for row in range(n_users)), groups)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(1, 5),
    n_items=st.integers(1, 40) | st.integers(1, 3000),
    k=st.integers(1, 45),
    levels=st.integers(1, 60),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=200, deadline=None)
def test_ranking_equals_a_full_sort_with_ties_by_the_given_order(seed, n_users, n_items, k, levels, dtype):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(n_users, n_items)).astype(dtype)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    order = rng.permutation(n_items)
    place = np.argsort(order).astype(np.int32)
    top, values = rank(scores, k, place)
    assert top.dtype == np.int32
    assert values.dtype == dtype
    for row in range(n_users):
        listed = [item for item in range(n_items) if scores[row, item] > -np.inf]
        expected = sorted(listed, key=lambda item: (-scores[row, item], place[item]))[:k]
        assert top[row].tolist() == expected + [-1] * (k - len(expected))
        assert values[row, : len(expected)].tolist() == scores[row, expected].tolist()
        assert np.isneginf(values[row, len(expected) :]).all()


@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(80, 400), levels=st.sampled_from([1, 5, 10**6]))
@settings(max_examples=60, deadline=None)
def test_the_mean_rank_is_that_of_a_full_sort(seed, n_items, levels):
    heldout = many_users(6, n_items, seed)
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(6, n_items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    every = np.arange(n_items) % 3 > 0  # one user with many targets, whose scores are sorted
    target = np.concatenate([np.flatnonzero(every), heldout.target.indices[heldout.target.indptr[1] :]])
    owners = np.concatenate([np.zeros(every.sum(), int), heldout.target.owners()[heldout.target.indptr[1] :]])
    heldout = Heldout(
        heldout.foldin.only(np.arange(6) > 0),
        Interactions.from_pairs(owners, target, n_users=6, n_items=n_items), heldout.users, {},
    )  # fmt: skip
    hidden = np.where(heldout.foldin.dense(), -np.inf, scores)
    places = np.argsort(np.argsort(-hidden, axis=1, kind="stable"), axis=1)
    share = places / np.maximum(n_items - heldout.foldin.counts() - 1, 1)[:, None]
    expected = share[heldout.target.dense()].mean()
    assert mean_rank(Fixed(scores), heldout) == pytest.approx(expected, rel=1e-12)
    assert judged(Fixed(scores), heldout, places=True).mean_rank == pytest.approx(expected, rel=1e-12)
    assert judged(Fixed(scores), heldout).mean_rank is None


def test_the_number_of_threads_changes_nothing():
    heldout, rng = many_users(60, 90), np.random.default_rng(2)
    taste, items = rng.normal(size=(90, 8)), rng.normal(size=(8, 90))
    scorer = SimpleNamespace(scores=lambda batch: batch.dense() @ taste @ items)
    one, many = (judged(scorer, heldout, batch=7, threads=threads, places=True) for threads in (1, 5))
    assert np.array_equal(one.top, many.top)
    assert np.array_equal(one.top_scores, many.top_scores)
    assert (one.table(), one.mean_rank) == (many.table(), many.mean_rank)


def test_a_failure_in_one_thread_ends_all():
    def scores(batch):
        raise MemoryError

    with pytest.raises(MemoryError):
        judged(SimpleNamespace(scores=scores), many_users(60, 90), batch=7, threads=3)


def test_a_sample_of_the_users_is_the_same_every_time_and_keeps_their_order():
    heldout = many_users(50, 30, city=tuple(f"c{row % 3}" for row in range(50)))
    one, again, other = (some_heldout(heldout, 20, seed=seed, purpose=TESTED) for seed in (1, 1, 2))
    assert one.users == again.users != other.users
    rows = [int(user[1:]) for user in one.users]
    assert rows == sorted(set(rows))
    assert len(rows) == 20
    assert one.groups["city"] == tuple(f"c{row % 3}" for row in rows)
    for part, whole in ((one.foldin, heldout.foldin), (one.target, heldout.target)):
        assert all(np.array_equal(part.items_of(i), whole.items_of(row)) for i, row in enumerate(rows))
    assert some_heldout(heldout, None, seed=1, purpose=TESTED) is heldout
    assert some_heldout(heldout, 50, seed=1, purpose=TESTED) is heldout
    assert some_heldout(heldout, 20, seed=1, purpose=LOOKED).users != one.users


def test_all_intervals_are_those_of_each_metric_alone():
    result = judged(Fixed(np.random.default_rng(0).random((40, 70))), many_users(40, 70))
    found = result.intervals(np.random.default_rng(4))
    assert found.keys() == result.values.keys()
    for name, bounds in found.items():
        assert bounds == pytest.approx(result.interval(name, np.random.default_rng(4)), rel=1e-12)


def test_fold_in_items_are_never_recommended():
    result = judged(Fixed(np.array([5.0, 4, 3, 2, 1])), heldout_of([[0, 1], [4]], [[2], [0]], 5), ks=(3,))
    assert result.top.tolist() == [[2, 3, 4], [0, 1, 2]]


def test_a_user_whose_fold_in_is_everything_gets_an_empty_list():
    heldout = heldout_of([[0, 1, 2], [0]], [[1], [1]], 3)
    result = judged(Fixed(np.array([3.0, 2, 1])), heldout, ks=(2,))
    assert result.top.tolist() == [[-1, -1], [1, 2]]
    assert result.values["recall@2"].tolist() == [0, 1]


def test_fewer_items_than_k_give_short_lists():
    result = judged(Fixed(np.array([1.0, 2, 3])), heldout_of([[0]], [[1]], 3), ks=(10,))
    assert result.top.tolist() == [[2, 1] + [-1] * 8]
    assert result.mean("mrr@10") == 0.5


def test_items_scored_minus_infinity_are_in_no_list():
    result = judged(Fixed(np.array([1.0, -np.inf, 3, -np.inf])), heldout_of([[]], [[1]], 4), ks=(4,))
    assert result.top.tolist() == [[2, 0, -1, -1]]
    assert result.mean("hr@4") == 0


def test_ties_follow_the_seed_and_not_the_catalogue_order():
    heldout = many_users(40, 60)
    lists = [judged(Fixed(np.zeros(60)), heldout, seed).top for seed in (1, 1, 2)]
    assert np.array_equal(lists[0], lists[1])
    assert not np.array_equal(lists[0], lists[2])
    first = [judged(Fixed(np.zeros(50)), heldout_of([[]], [[0]], 50), seed).top[0, 0] for seed in range(200)]
    assert len(set(first)) > 40


def test_the_scorers_own_array_is_left_alone():
    scores = np.arange(5.0)
    scores.flags.writeable = False
    judged(Fixed(np.broadcast_to(scores, (1, 5))), heldout_of([[4]], [[0]], 5))


def test_users_without_a_held_out_item_are_left_out_and_counted():
    result = judged(Fixed(np.arange(4.0)), heldout_of([[0], [1], [2]], [[3], [], [3]], 4, city=("a", "b", "c")))
    assert (result.users, result.rows.tolist(), result.left_out) == (("u0", "u2"), [0, 2], 1)
    assert result.groups == {"city": ("a", "c")}
    assert result.mean("hr@10") == 1


def test_names_carry_the_cut_off():
    result = judged(Fixed(np.arange(4.0)), heldout_of([[0]], [[3]], 4), ks=(1, 2))
    base = ["recall", "recall_capped", "ndcg", "hr", "mrr", "average_precision", "coverage", "gini", "novelty"]
    assert sorted(result.table()) == sorted(f"{name}@{k}" for name in base for k in (1, 2))
    assert all(type(value) is float for value in result.table().values())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.array([1.0, np.nan, 0, 0]), "got NaN"),
        (np.zeros(3), "shape"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(scores, message):
    with pytest.raises(InputError, match=message):
        judged(Fixed(scores), heldout_of([[0]], [[3]], 4))


def test_nothing_to_judge_is_refused():
    with pytest.raises(InputError, match="held-out item"):
        judged(Fixed(np.zeros(4)), heldout_of([[0]], [[]], 4))


@pytest.mark.parametrize("ks", [(), (0,), (5, -1)])
def test_list_lengths_must_be_positive(ks):
    with pytest.raises(InputError, match="`ks`"):
        judged(Fixed(np.zeros(4)), heldout_of([[0]], [[1]], 4), ks=ks)


def test_another_catalogue_is_refused():
    train = Interactions.from_pairs([0], [0], n_users=1, n_items=5)
    with pytest.raises(InputError, match="`train`"):
        evaluate(Fixed(np.zeros(4)), heldout_of([[0]], [[1]], 4), train=train, rng=np.random.default_rng(0))


def test_unknown_metrics_are_refused():
    result = judged(Fixed(np.zeros(4)), heldout_of([[0]], [[1]], 4))
    for ask in (result.mean, lambda name: result.interval(name, np.random.default_rng(0))):
        with pytest.raises(InputError, match="`name`"):
            ask("recall@7")


def sampled(scorer: Fixed, heldout: Heldout, *, negatives: int = 99, ks=(10,)) -> Evaluation:
    rng = np.random.default_rng(0)
    return evaluate(scorer, heldout, train=heldout.foldin, ks=ks, rng=rng, negatives=negatives)


def test_sampled_metrics_say_so_in_every_name():
    result = sampled(Fixed(np.zeros(120)), heldout_of([[0]], [[1]], 120))
    assert result.table()
    assert all(name.endswith("@10[99 negatives]") for name in result.table())


def test_sampled_lists_hold_targets_and_the_users_own_negatives_only():
    heldout = many_users(30, 200)
    scores = np.random.default_rng(1).random(200)
    result = sampled(Fixed(scores), heldout, negatives=20, ks=(150,))
    for row, user in enumerate(result.top):
        listed = set(user[user >= 0].tolist())
        target, foldin = (set(part.user(row).indices.tolist()) for part in (heldout.target, heldout.foldin))
        assert target <= listed
        assert len(listed - target) == 20
        assert not listed & foldin
    assert len({tuple(sorted(user)) for user in result.top.tolist()}) == 30


def test_sampled_negatives_are_uniform():
    heldout = heldout_of([[0]] * 2000, [[1]] * 2000, 12)
    result = sampled(Fixed(np.zeros(12)), heldout, negatives=3, ks=(4,))
    times = np.bincount(result.top.ravel(), minlength=12)[2:]
    assert times.sum() == 6000
    assert np.abs(times - 600).max() < 5 * np.sqrt(600 * 0.7)


@pytest.mark.parametrize("negatives", [0, 99])
def test_too_few_items_to_sample_from_is_refused(negatives):
    with pytest.raises(InputError, match="`negatives`"):
        sampled(Fixed(np.zeros(50)), heldout_of([[0]], [[1]], 50), negatives=negatives)


def test_groups_are_judged_apart():
    heldout = heldout_of([[0], [0], [0]], [[3], [1], [3]], 4, gender=("F", "M", "F"), age=("1", "1", "2"))
    found = judged(Fixed(np.arange(4.0)), heldout, ks=(1,)).by_group("hr@1")
    assert {group: [(part.label, part.users, part.mean) for part in parts] for group, parts in found.items()} == {
        "gender": [("F", 2, 1.0), ("M", 1, 0.0)],
        "age": [("1", 2, 0.5), ("2", 1, 1.0)],
    }
    assert judged(Fixed(np.arange(4.0)), heldout_of([[0]], [[1]], 4)).by_group("hr@10") == {}


def interval(values, rng):
    """The interval of a metric with these values, one a user."""
    n = len(values)
    users, none = tuple(map(str, range(n))), np.zeros((n, 0), np.int32)
    return Evaluation(users, np.arange(n), {"x": values}, {}, np.zeros(n, int), {}, none, none, 0).interval("x", rng)


def test_intervals_cover_the_mean_and_narrow_with_users():
    rng = np.random.default_rng(0)
    few, many = rng.random(50), rng.random(5000)
    narrow, wide = interval(many, rng), interval(few, rng)
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 5
    expected = 2 * 1.96 * many.std() / np.sqrt(len(many))
    assert narrow[1] - narrow[0] == pytest.approx(expected, rel=0.15)
    assert interval(many, np.random.default_rng(4)) == interval(many, np.random.default_rng(4))
    assert interval(np.full(9, 0.25), rng) == (0.25, 0.25)


@given(
    st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=30), st.sampled_from([np.float32, np.float64])
)
def test_saved_scores_strictly_decrease_in_single_precision(scores, dtype):
    ranked = np.sort(np.array(scores, dtype))[::-1][None, :]
    out = strictly_decreasing(ranked)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert (np.diff(out[0].astype(np.float64)) < 0).all()


def test_saved_recommendations_give_the_ranks_back(tmp_path):
    heldout = many_users(30, 50)
    result = judged(Fixed(np.random.default_rng(1).integers(4, size=(30, 50)).astype(float)), heldout)
    items = [f'item "{item}", ж' for item in range(50)]
    result.save_recommendations(tmp_path / "recommendations.csv.gz", items, heldout.users)
    saved = pd.read_csv(tmp_path / "recommendations.csv.gz")
    assert list(saved.columns) == ["user_id", "item_id", "rank", "score"]
    by_score = saved.sample(frac=1, random_state=1).sort_values(["user_id", "score"], ascending=[True, False])
    for row, user in enumerate(result.users):
        listed = [items[item] for item in result.top[row] if item >= 0]
        assert by_score.loc[by_score["user_id"] == user, "item_id"].tolist() == listed
        assert saved.loc[saved["user_id"] == user, "rank"].tolist() == list(range(1, len(listed) + 1))


def test_the_same_lists_are_the_same_bytes_and_nothing_else_is_left(tmp_path, monkeypatch):
    heldout = many_users(5, 30)
    result = judged(Fixed(np.zeros(30)), heldout)
    items = [str(item) for item in range(30)]
    result.save_recommendations(tmp_path / "a.csv.gz", items, heldout.users)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    result.save_recommendations(tmp_path / "b.csv.gz", items)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv.gz", "b.csv.gz"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    result = judged(Fixed(np.zeros(30)), many_users(5, 30))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError):
        result.save_recommendations(path, ["\ud800"] * 30)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_split_is_written_whole(tmp_path):
    train = Interactions.from_pairs([0, 1, 1], [2, 0, 1], [1, 2.5, 1], n_users=2, n_items=3)
    test = heldout_of([[0]], [[1, 2]], 3)
    cut = Split("strong", train, ("ann", "bob"), None, test, ("x", "y", "z"), {})
    save_split(tmp_path / "split", cut)
    read = {path.name: gzip.decompress(path.read_bytes()).decode() for path in (tmp_path / "split").iterdir()}
    assert read == {
        "train.csv.gz": "user_id,item_id,weight\nann,z,1.0\nbob,x,2.5\nbob,y,1.0\n",
        "foldin.csv.gz": "user_id,item_id\nu0,x\n",
        "test.csv.gz": "user_id,item_id\nu0,y\nu0,z\n",
    }


def test_files_written_some_users_at_a_time_have_the_same_bytes(tmp_path, monkeypatch):
    heldout = many_users(20, 30)
    result = judged(Fixed(np.random.default_rng(0).random((20, 30))), heldout)
    items = tuple(f"i{item}" for item in range(30))
    split = Split("strong", heldout.foldin, heldout.users, None, heldout, items)
    written = []
    for at_once in (saved_lists.WRITTEN_AT_ONCE, 3):
        monkeypatch.setattr(saved_lists, "WRITTEN_AT_ONCE", at_once)
        result.save_recommendations(tmp_path / "lists.csv.gz", items)
        save_split(tmp_path, split)
        written.append([path.read_bytes() for path in sorted(tmp_path.glob("*.csv.gz"))])
    assert len(written[0]) == 4
    assert written[0] == written[1]
