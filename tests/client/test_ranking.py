"""Ranking: the top is that of a whole product, whatever is left out on the way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_client.recommend import ranking
from palate_client.recommend.diversity import diverse
from palate_client.recommend.ranking import Ranking

PARTS = {"popularity": slice(0, 1), "collaborative": slice(1, 6), "content": slice(6, 8)}


def table(n: int, rng: np.random.Generator, *, decay: float) -> npt.NDArray[np.float32]:
    """Items of falling length, in random order."""
    return (rng.normal(size=(n, 8)) * rng.permutation(np.arange(1, n + 1) ** -decay)[:, None]).astype(np.float32)


@given(
    n=st.integers(1, 30_000),
    k=st.integers(1, 30),
    decay=st.sampled_from([0.0, 0.5, 1.5]),
    hidden=st.floats(0, 1),
    among=st.sampled_from([None, 0.01, 0.5]),
    seed=st.integers(0, 99),
)
def test_the_top_is_that_of_the_whole_product(
    n: int, k: int, decay: float, hidden: float, among: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    items, vector = table(n, rng, decay=decay), rng.normal(size=8)
    without = np.flatnonzero(rng.random(n) < hidden)
    only = None if among is None else np.flatnonzero(rng.random(n) < among)
    found = Ranking(items, PARTS).top(vector, n=k, without=without, among=only)
    scores = items.astype(np.float64) @ vector
    allowed = np.setdiff1d(np.arange(n) if only is None else only, without)
    assert len(found) == min(k, len(allowed))
    assert not np.isin(found, without).any()
    best = np.sort(scores[allowed])[::-1][: len(found)]
    np.testing.assert_allclose(scores[found], best, rtol=1e-5, atol=1e-6)


def test_equal_items_come_by_row_and_zero_vectors_are_found() -> None:
    items = np.ones((3000, 8), np.float32)
    assert Ranking(items, PARTS).top(np.ones(8), n=4).tolist() == [0, 1, 2, 3]
    assert Ranking(items * 0, PARTS).top(np.ones(8), n=2).tolist() == [0, 1]
    assert Ranking(items, PARTS).top(-np.ones(8), n=2, without=np.array([0])).tolist() == [1, 2]
    assert Ranking(items, PARTS).top(np.ones(8), n=2, among=np.array([2999, 7])).tolist() == [7, 2999]


def test_where_nothing_can_be_left_out_it_is_a_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    search = Ranking(table(100_000, rng, decay=0.0), PARTS)
    stretches: list[tuple[int, int]] = []
    real = ranking._stretches
    monkeypatch.setattr(
        ranking, "_stretches", lambda *args: (stretches.extend(found := list(real(*args))), iter(found))[1]
    )
    search.top(rng.normal(size=8), n=10)
    assert len(stretches) < 15  # of 49 blocks
    assert sum(end - first for first, end in stretches) > 80_000


def test_what_can_not_reach_the_top_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    items = table(200_000, rng, decay=1.0)
    search = Ranking(items, PARTS)
    looked: list[int] = []
    real = ranking._stretches
    monkeypatch.setattr(
        ranking, "_stretches", lambda *args: (looked.extend(e - f for f, e in real(*args)), real(*args))[1]
    )
    search.top(rng.normal(size=8), n=10)
    assert sum(looked) <= 20_480


def test_scores_and_vectors_are_those_of_the_table() -> None:
    rng = np.random.default_rng(0)
    items, vector = table(2000, rng, decay=1.0), rng.normal(size=8)
    search, rows = Ranking(items, PARTS), np.array([7, 1999, 0])
    assert np.array_equal(search.vectors(rows), items[rows])
    np.testing.assert_allclose(search.scores(vector, rows), items[rows].astype(float) @ vector, rtol=1e-12)


@given(n=st.integers(1, 3000), k=st.integers(1, 40), kinds=st.integers(1, 3000), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_most_alike_are_those_of_all_cosines(n: int, k: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = table(kinds, rng, decay=1.0)[rng.integers(0, kinds, n)]  # some of them equal
    items[rng.random(n) < 0.1] = 0
    columns = np.array([0.0, *rng.random(7)])
    row, among = int(rng.integers(n)), None if seed % 2 else np.flatnonzero(rng.random(n) < 0.5)
    found, likeness = Ranking(items, PARTS).alike(row, columns, n=k, among=among)
    vectors = items.astype(np.float64) * columns
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    cosines = vectors @ vectors[row] / lengths / lengths[row]
    allowed = np.setdiff1d(np.arange(n) if among is None else among, [row])
    less, _ = Ranking(items, PARTS).alike(row, columns, n=k, among=among, without=found[::2])
    rest = np.setdiff1d(allowed, found[::2])
    np.testing.assert_allclose(cosines[less], np.sort(cosines[rest])[::-1][:k], atol=1e-12)
    assert np.isin(less, rest).all()
    assert np.isin(found, allowed).all()
    assert len(np.unique(found)) == len(found) == min(k, len(allowed))
    np.testing.assert_allclose(cosines[found], likeness, atol=1e-12)
    np.testing.assert_allclose(likeness, np.sort(cosines[allowed])[::-1][:k], atol=1e-12)


def test_who_is_alike_is_one_product_with_lengths_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    search, looked = Ranking(table(50_000, np.random.default_rng(0), decay=1.0), PARTS), list[int]()
    real, columns = search.vectors, np.ones(8)
    monkeypatch.setattr(search, "vectors", lambda rows: (looked.append(len(rows)), real(rows))[1])
    search.alike(7, columns, n=10)
    lengths = search._compared
    search.alike(8, columns, n=10)
    assert search._compared is lengths
    assert sum(looked) < 500


def test_diversity_prefers_what_is_unlike() -> None:
    scores, vectors = np.array([1.0, 0.9, 0.8, 0.0]), np.array([[1.0, 0], [1, 0.01], [0, 1], [0, 0]])
    assert diverse(scores, vectors, n=3, diversity=0.0).tolist() == [0, 1, 2]
    assert diverse(scores, vectors, n=3, diversity=0.4).tolist() == [0, 2, 1]
    assert diverse(scores, vectors, n=9, diversity=1.0).tolist()[:3] == [0, 2, 3]
    assert diverse(np.zeros(2), np.zeros((2, 2)), n=2, diversity=0.3).tolist() == [0, 1]
    beside = np.array([[0, 2.0]])
    assert diverse(scores, vectors, n=2, diversity=0.6, beside=beside).tolist() == [0, 3]
    assert diverse(scores, vectors, n=2, diversity=0.4, beside=beside[:0]).tolist() == [0, 2]
    assert diverse(np.zeros(0), np.zeros((0, 2)), n=2, diversity=0.3).tolist() == []
