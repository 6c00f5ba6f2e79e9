"""What every baseline must do (one contract suite, inherited), and what each does beyond it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines import ease as ease_module
from palate_sim.baselines.device_only import DeviceOnly, catalogue_features
from palate_sim.baselines.ease import Ease
from palate_sim.baselines.ease_sparse import SparseEase, _solve
from palate_sim.baselines.ials import Ials
from palate_sim.baselines.item_knn import ItemKnn
from palate_sim.baselines.sparse import cooccurrence, matrix
from palate_sim.evaluation.evaluation import evaluate
from palate_sim.evaluation.fitting import BASELINES, fit_baselines
from palate_sim.preparation.splits import Heldout, Split

N_ITEMS, TASTES = 60, 3


def tasteful(n_users: int, rng: np.random.Generator) -> Interactions:
    """Users of one taste each: most of their items come from one third of the catalogue."""
    taste = rng.integers(TASTES, size=n_users)
    chance = np.where(np.arange(N_ITEMS) % TASTES == taste[:, None], 0.5, 0.05) * np.linspace(1.6, 0.2, N_ITEMS)
    users, items = np.nonzero(rng.random((n_users, N_ITEMS)) < chance)
    weights = rng.integers(1, 4, len(users)).astype(np.float32)
    return Interactions.from_pairs(users, items, weights, n_users=n_users, n_items=N_ITEMS)


def held_out(batch: Interactions, rng: np.random.Generator) -> Heldout:
    aside = rng.random(batch.nnz) < 0.3
    parts = [
        Interactions.from_pairs(
            batch.owners()[of], batch.indices[of], batch.weights[of], n_users=batch.n_users, n_items=N_ITEMS
        )
        for of in (~aside, aside)
    ]
    return Heldout(parts[0], parts[1], tuple(f"u{row}" for row in range(batch.n_users)), {})


@pytest.fixture(scope="module")
def split() -> Split:
    rng = np.random.default_rng(5)
    train = tasteful(300, rng)
    return Split(
        name="strong",
        train=train,
        train_users=tuple(f"t{row}" for row in range(300)),
        validation=held_out(tasteful(60, rng), rng),
        test=held_out(tasteful(60, rng), rng),
        items=tuple(f"i{item}" for item in range(N_ITEMS)),
        skipped={},
    )


@pytest.fixture(scope="module")
def catalogue() -> pd.DataFrame:
    ids = [f"i{item}" for item in range(N_ITEMS)]
    genres = [["Noir|Drama", "Comedy", "War|Drama"][item % TASTES] for item in range(N_ITEMS)]
    return pd.DataFrame(
        {"item_id": ids, "title": [f"Film {item} (19{item + 30})" for item in range(N_ITEMS)], "genres": genres}
    )


class Contract:
    """Every baseline inherits these."""

    name: str

    @pytest.fixture
    def model(self, split, catalogue):
        return self.fit(split, catalogue)

    def fit(self, split, catalogue):
        return fit_baselines([self.name], split, seed=1, items=catalogue)[self.name]

    def test_scores_are_finite_one_row_a_user(self, model, split):
        scores = model.scores(split.test.foldin)
        assert scores.shape == (60, N_ITEMS)
        assert scores.dtype in (np.float32, np.float64)
        assert np.isfinite(scores).all()

    def test_a_user_without_history_is_scored(self, model):
        nobody = Interactions.from_pairs([], [], n_users=2, n_items=N_ITEMS)
        scores = model.scores(nobody)
        assert scores.shape == (2, N_ITEMS)
        assert np.isfinite(scores).all()
        assert np.array_equal(scores[0], scores[1])

    def test_no_users_are_scored(self, model, split):
        assert model.scores(split.test.foldin.users(slice(0, 0))).shape == (0, N_ITEMS)

    def test_a_batch_of_one_is_a_row_of_the_batch(self, model, split):
        whole = model.scores(split.test.foldin)
        for row in range(0, 60, 7):
            np.testing.assert_allclose(model.scores(split.test.foldin.user(row))[0], whole[row], rtol=1e-5, atol=1e-5)

    def test_the_same_seed_fits_the_same_model(self, model, split, catalogue):
        again = self.fit(split, catalogue)
        assert np.array_equal(again.scores(split.test.foldin), model.scores(split.test.foldin))
        assert again.settings == model.settings

    def test_fitting_leaves_global_randomness_alone(self, split, catalogue):
        before = np.random.get_state()[1].copy()
        self.fit(split, catalogue)
        assert np.array_equal(np.random.get_state()[1], before)

    def test_unseen_users_are_served_better_than_by_chance(self, model, split):
        result = evaluate(model, split.test, train=split.train, ks=(10,), rng=np.random.default_rng(0))
        assert result.mean("recall_capped@10") > 1.4 * 10 / N_ITEMS

    def test_an_item_nobody_has_is_no_obstacle(self, split, catalogue):
        kept = split.train.indices != 7
        users, items = split.train.owners()[kept], split.train.indices[kept]
        train = Interactions.from_pairs(users, items, n_users=300, n_items=N_ITEMS)
        cut = Split("strong", train, split.train_users, None, split.test, split.items, {})
        assert np.isfinite(self.fit(cut, catalogue).scores(split.test.foldin)).all()

    def test_one_item_is_a_catalogue(self):
        train = Interactions.from_pairs([0], [0], n_users=2, n_items=1)
        heldout = Heldout(train, train, ("a", "b"), {})
        model = self.fit(Split("strong", train, ("a", "b"), None, heldout, ("i0",), {}), None)
        assert np.isfinite(model.scores(train)).all()


class TestPopularity(Contract):
    name = "popularity"

    def test_scores_are_the_true_counts(self, model, split):
        counts = split.train.dense().sum(axis=0)
        assert np.array_equal(model.scores(split.test.foldin), np.tile(counts, (60, 1)))


class TestItemKnn(Contract):
    name = "item_knn"

    def test_scores_equal_the_definition(self, split):
        dense = split.train.dense().astype(float)
        common = dense.T @ dense
        size = np.sqrt(np.diag(common))
        expected = common / (np.outer(size, size) + 3)
        np.fill_diagonal(expected, 0)
        found = ItemKnn.fit(split.train, neighbours=N_ITEMS, shrinkage=3)
        np.testing.assert_allclose(found.likeness.toarray(), expected, rtol=1e-5)
        scores = found.scores(split.test.foldin)
        np.testing.assert_allclose(scores, split.test.foldin.dense() @ expected, rtol=1e-5)

    def test_each_item_keeps_its_nearest_neighbours(self, split):
        whole = ItemKnn.fit(split.train, neighbours=N_ITEMS).likeness.toarray()
        few = ItemKnn.fit(split.train, neighbours=8).likeness.toarray()
        assert ((few == whole) | (few == 0)).all()
        assert np.array_equal(np.sort(few, axis=0)[-8:], np.sort(whole, axis=0)[-8:])
        assert (np.count_nonzero(few, axis=0) <= 8).all()

    @pytest.mark.parametrize("bad", [{"neighbours": 0}, {"shrinkage": -1.0}, {"shrinkage": np.nan}])
    def test_settings_out_of_range_are_refused(self, split, bad):
        with pytest.raises(InputError, match="`neighbours`"):
            ItemKnn.fit(split.train, **bad)


class TestEase(Contract):
    name = "ease"

    @given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(1, 30), regularization=st.floats(0.5, 500))
    @settings(max_examples=40, deadline=None)
    @example(seed=0, n_users=1, regularization=0.5)
    @example(seed=0, n_users=30, regularization=0.5)
    def test_the_map_equals_the_closed_form_with_few_users_and_with_many(self, seed, n_users, regularization):
        rng = np.random.default_rng(seed)
        n_items = int(rng.integers(1, 40))
        users, items = np.nonzero(rng.random((n_users, n_items)) < 0.3)
        train = Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)
        dense = train.dense().astype(float)
        precision = np.linalg.inv(dense.T @ dense + regularization * np.eye(n_items))
        expected = np.eye(n_items) - precision / np.diag(precision)
        found = Ease.fit(train, regularization=regularization).item_map
        np.testing.assert_allclose(found, expected, atol=2e-5)
        assert (np.diag(found) == 0).all()

    def test_too_large_a_catalogue_is_refused_before_any_work(self):
        with pytest.raises(InputError, match="at most 20000"):
            Ease.fit(Interactions.from_pairs([0], [0], n_users=1, n_items=ease_module.ITEM_LIMIT + 1))

    @pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
    def test_settings_out_of_range_are_refused(self, split, bad):
        with pytest.raises(InputError, match="`regularization`"):
            Ease.fit(split.train, regularization=bad)

    def test_what_cannot_be_inverted_in_single_precision_is_refused(self):
        for n_users in (2, 40):
            users, items = np.repeat(np.arange(n_users), 50), np.tile(np.arange(50), n_users)
            train = Interactions.from_pairs(users, items, n_users=n_users, n_items=50)
            with pytest.raises(InputError, match="`regularization`"):
                Ease.fit(train, regularization=1e-12)


class TestSparseEase(Contract):
    name = "ease_sparse"

    @given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(2, 60))
    @settings(max_examples=30, deadline=None)
    def test_with_all_items_as_neighbours_it_is_ease(self, seed, n_users):
        rng = np.random.default_rng(seed)
        n_items = int(rng.integers(2, 40))
        dense = rng.random((n_users, n_items)) < 0.4
        dense[0] = True  # every pair occurs, so that none is left out
        train = Interactions.from_pairs(*np.nonzero(dense), n_users=n_users, n_items=n_items)
        whole = Ease.fit(train, regularization=20.0).item_map
        found = SparseEase.fit(train, regularization=20.0, neighbours=n_items).item_map.toarray()
        np.testing.assert_allclose(found, whole, atol=1e-4)
        assert (np.diag(found) == 0).all()

    def test_no_item_has_more_neighbours_than_asked_for(self, split):
        found = SparseEase.fit(split.train, neighbours=5).item_map
        assert found.getnnz(axis=0).max() == 5

    def test_counts_that_were_not_kept_are_replaced_so_that_it_stays_near_ease(self, split):
        few = SparseEase.fit(split.train, neighbours=10)
        judged = [
            evaluate(model, split.test, train=split.train, ks=(10,), rng=np.random.default_rng(0)).mean("ndcg@10")
            for model in (few, Ease.fit(split.train))
        ]
        assert judged[0] > 0.9 * judged[1]

    def test_a_matrix_that_is_not_positive_gets_a_larger_ridge(self):
        gram = np.array([[0, 9, 9], [9, 0, 1], [9, 1, 0]], np.float32)
        found = _solve(gram, np.ones(3, np.float32), np.ones(3, np.float32), np.float32(0.5))
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 1

    @pytest.mark.parametrize("bad", [{"regularization": 0.0}, {"regularization": np.inf}, {"neighbours": 0}])
    def test_settings_out_of_range_are_refused(self, split, bad):
        with pytest.raises(InputError, match=f"`{next(iter(bad))}`"):
            SparseEase.fit(split.train, **bad)


class TestIals(Contract):
    name = "ials"

    def test_scores_solve_the_least_squares_problem_of_the_paper(self, split):
        model = Ials.fit(split.train, embedding_size=4, confidence=6, regularization=2, seed=3)
        V, foldin = model.model.item_factors.astype(float), split.test.foldin
        mean = split.train.weights.astype(float).mean()
        for row in range(5):
            user = foldin.user(row)
            confidence = np.ones(N_ITEMS)
            confidence[user.indices] = 6 * user.weights / mean
            has = user.dense()[0]
            p = np.linalg.solve(V.T @ (confidence[:, None] * V) + 2 * np.eye(4), V.T @ (confidence * has))
            np.testing.assert_allclose(model.scores(user)[0], V @ p, rtol=1e-3, atol=1e-4)

    def test_the_scale_of_weights_does_not_matter(self, split):
        train, user = split.train, split.test.foldin.user(0)
        tenfold = Interactions(train.indptr, train.indices, train.weights * 8, N_ITEMS)
        user_tenfold = Interactions(user.indptr, user.indices, user.weights * 8, N_ITEMS)
        plain, scaled = Ials.fit(train).scores(user), Ials.fit(tenfold).scores(user_tenfold)
        np.testing.assert_allclose(plain, scaled, rtol=1e-4, atol=1e-5)

    def test_any_number_of_threads_gives_the_same_factors(self, split):
        one, four = (Ials.fit(split.train, threads=threads, seed=1).model for threads in (1, 4))
        assert np.array_equal(one.item_factors, four.item_factors)
        assert np.array_equal(one.user_factors, four.user_factors)

    @pytest.mark.parametrize(
        "bad", [{"embedding_size": 0}, {"sweeps": 0}, {"confidence": 0.0}, {"regularization": np.nan}]
    )
    def test_settings_out_of_range_are_refused(self, split, bad):
        with pytest.raises(InputError, match=f"`{next(iter(bad))}`"):
            Ials.fit(split.train, **bad)

    def test_it_never_warns_about_threads(self):
        program = (
            "import numpy as np\n"
            "from palate_common.interactions import Interactions\n"
            "from palate_sim.baselines.ials import Ials\n"
            "train = Interactions.from_pairs([0, 1], [0, 1], n_users=2, n_items=2)\n"
            "Ials.fit(train, embedding_size=2).scores(train)\n"
        )
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, env={"OPENBLAS_NUM_THREADS": "2"}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class TestDeviceOnly(Contract):
    name = "device_only"

    def test_other_users_do_not_matter(self, split, catalogue):
        features = catalogue_features(catalogue, split.items)
        alone = DeviceOnly.fit(Interactions.from_pairs([], [], n_users=0, n_items=N_ITEMS), features=features)
        user = split.test.foldin.user(3)
        both = DeviceOnly.fit(split.train, features=features).scores(user), alone.scores(user)
        assert np.array_equal(*both)

    def test_without_features_every_item_is_alike(self, split):
        model = fit_baselines(["device_only"], split, seed=0)["device_only"]
        assert model.settings["features"] == 0
        assert (model.scores(split.test.foldin) == 0).all()

    @pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.zeros(N_ITEMS), np.full((N_ITEMS, 1), np.nan)])
    def test_features_that_do_not_fit_are_refused(self, split, bad):
        with pytest.raises(InputError, match="`features`"):
            DeviceOnly.fit(split.train, features=bad)

    def test_features_are_genres_and_decades_in_catalogue_order(self):
        items = pd.DataFrame(
            {
                "item_id": ["b", "a", "a", "c"],
                "title": ["Second (1994)", "First (1988)", "Twice (2011)", None],
                "genres": ["War|Noir", "Noir", "War", None],
            }
        )
        found = catalogue_features(items, ["a", "b", "c", "unknown"])
        assert found.tolist() == [[1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]

    @pytest.mark.parametrize("columns", [["item_id"], ["item_id", "title"], ["item_id", "genres"]])
    def test_a_catalogue_without_facts_has_no_features(self, columns):
        items = pd.DataFrame({"item_id": ["a"], "title": ["Untitled"], "genres": [""]})[columns]
        assert catalogue_features(items, ["a"]) is None


def test_every_baseline_has_its_contract():
    assert {suite.name for suite in Contract.__subclasses__()} == set(BASELINES)


def test_baselines_come_in_the_order_asked_for(split):
    names = ["ease", "popularity"]
    assert list(fit_baselines(names, split, seed=0)) == names


def test_an_unknown_baseline_is_refused_before_any_fit(split, monkeypatch):
    monkeypatch.setattr(Ease, "fit", pytest.fail)
    with pytest.raises(InputError, match="got 'svd'"):
        fit_baselines(["ease", "svd"], split, seed=0)


@pytest.mark.parametrize("n_users", [4, 400])
def test_cooccurrence_is_the_same_dense_and_sparse(n_users):
    rng = np.random.default_rng(n_users)
    for density in (0.002, 0.5):
        users, items = np.nonzero(rng.random((n_users, 300)) < density)
        batch = Interactions.from_pairs(users, items, n_users=n_users, n_items=300)
        dense = batch.dense().astype(np.float32)
        assert np.array_equal(cooccurrence(batch, slice(0, 300)), dense.T @ dense)
        assert np.array_equal(cooccurrence(batch, slice(100, 170)), dense.T @ dense[:, 100:170])


def test_the_matrix_is_of_ones_unless_weighted():
    batch = Interactions.from_pairs([0, 1], [1, 0], [2.0, 3.0], n_users=2, n_items=2)
    assert matrix(batch).toarray().tolist() == [[0, 1], [1, 0]]
    assert matrix(batch, weighted=True).toarray().tolist() == [[0, 2], [3, 0]]


def test_naming_the_baselines_imports_no_heavy_package():
    program = "import sys, palate_sim.baselines; print(sorted({'scipy', 'implicit', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
