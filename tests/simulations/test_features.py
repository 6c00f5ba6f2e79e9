import sys

import numpy as np
import pandas as pd
import pytest

from palate_common.algorithms.als.algorithm import FEATURES
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.features.features import components, distinct, features_width, item_features, joined_features
from palate_sim.run.experiment import start

FILMS = pd.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(12)],
        "title": [
            f"{word} story ({year})" for word, year in zip(["war", "love", "space"] * 4, range(1985, 1997), strict=True)
        ],
        "genres": ["Drama|War", "Romance", "Sci-Fi|Drama"] * 4,
    }
)
ITEMS = tuple(f"i{n}" for n in range(12))


def test_equal_facts_give_equal_rows_and_other_facts_other_rows():
    matrix = item_features(FILMS, ITEMS, "auto")
    np.testing.assert_allclose(matrix[0], matrix[3], atol=1e-6)
    assert np.abs(matrix[0] - matrix[1]).max() > 0.1
    assert np.square(matrix).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)


def test_rows_are_those_of_the_items_in_their_order():
    backwards = item_features(FILMS, ITEMS[::-1], "auto")
    np.testing.assert_allclose(np.abs(backwards[::-1]), np.abs(item_features(FILMS, ITEMS, "auto")), atol=1e-5)


def test_an_item_that_the_catalogue_lacks_is_no_error():
    assert item_features(FILMS, (*ITEMS, "new"), "auto").shape[0] == 13


def test_without_facts_there_are_no_features():
    assert item_features(None, ITEMS, "auto") is None
    assert item_features(FILMS, ITEMS, "none") is None
    assert item_features(FILMS.assign(title="x", genres=""), ITEMS, "auto") is None
    assert features_width({}) == 0


def test_words_of_titles_are_told_apart():
    same = FILMS.assign(genres="Drama", title=["red house", "red house", "blue car", "blue car"] * 3)
    matrix = item_features(same, ITEMS, "text")
    np.testing.assert_allclose(matrix[0], matrix[1], atol=1e-6)
    assert np.abs(matrix[0] - matrix[2]).max() > 0.1


def test_ids_that_read_like_titles_are_features_where_nothing_else_is_known(monkeypatch):
    titles = ("Red house", "Red house II", "Blue car", "Blue car of 1999")
    matrix = item_features(None, titles, "auto")
    named = pd.DataFrame({"item_id": ITEMS[:4], "title": titles})
    np.testing.assert_array_equal(matrix, item_features(named, ITEMS[:4], "text"))
    assert matrix[0] @ matrix[1] > 0 > matrix[0] @ matrix[2]
    assert item_features(None, titles, "none") is None
    assert item_features(None, ("one two", "three four", "five six"), "auto") is None, "no word is shared"
    assert item_features(None, ("SKU-12", "SKU-13", "red house", "x"), "auto") is None, "few read like titles"
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    assert item_features(None, titles, "auto") is None, "without the extra"


def test_a_matrix_of_ones_own(tmp_path):
    path = tmp_path / "embeddings.csv"
    pd.DataFrame({"item_id": ITEMS[:10], "a": range(10), "b": [1, 0] * 5}).to_csv(path, index=False)
    matrix = item_features(None, ITEMS, str(path))
    assert matrix.shape == (12, 2)
    assert features_width({FEATURES: matrix}) == 2


@pytest.mark.parametrize(
    ("text", "got"),
    [("item,a\n1,2\n", "with the columns item, a"), ("item_id,a\ni0,red\n", ": could not convert .*'red'")],
)
def test_a_matrix_that_is_none_says_what_it_has(tmp_path, text, got):
    path = tmp_path / "embeddings.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"\A`--features` must be [^\n]*embeddings.csv ?{got}\Z"):
        item_features(None, ITEMS, str(path), "--features")


@pytest.mark.parametrize("text", ["", "item_id,a\ni0,x\n", "a,b\n1,2\n", "item_id,a\nother,1\n", "item_id,a\ni0,inf\n"])
def test_a_matrix_that_is_none_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "embeddings.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"features\.source") as caught:
        item_features(None, ITEMS, str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["text", "nowhere.csv"])
def test_a_source_that_is_not_there_is_refused(source):
    with pytest.raises(InputError, match=r"features\.source"):
        item_features(None, ITEMS, source)


def test_one_source_and_several_are_not_taken_together():
    with pytest.raises(InputError, match=r"\A`features.sources` must stand alone[^\n]*, got \{'a': 'b.csv'\}\Z"):
        load_config(None, {"features.source": "none", "features.sources.a": "b.csv"})
    assert load_config(None, {"features.source": "auto", "features.sources.a": "b.csv"}).features.sources


def test_at_most_64_components():
    assert components(np.random.default_rng(0).normal(size=(200, 100))).shape == (200, 64)
    assert components(np.ones((5, 3))) is None


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_matrices_of_other_formats_give_the_features_of_csv(tmp_path, kind):
    table = pd.DataFrame({"item_id": ITEMS[:10], "a": np.arange(10.0), "b": [1.0, 0.0] * 5})
    table.to_csv(tmp_path / "m.csv", index=False)
    path = tmp_path / f"m.{kind}"
    if kind == "npz":
        np.savez(path, item_id=np.array(ITEMS[:10]), covers=table[["a", "b"]].to_numpy())
    else:
        table.to_parquet(path)
    np.testing.assert_allclose(
        item_features(None, ITEMS, str(path)), item_features(None, ITEMS, str(tmp_path / "m.csv")), atol=1e-6
    )


def test_an_archive_that_is_none_is_refused_and_not_executed(tmp_path):
    path = tmp_path / "m.npz"
    for content in (b"PK\x03\x04broken", b"plain"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"\A`features.source` must be [^\n]*\Z"):
            item_features(None, ITEMS, str(path))
    np.savez(path, item_id=np.array(ITEMS, dtype=object), covers=np.ones((12, 2)))
    with pytest.raises(InputError, match=r"features\.source"):
        item_features(None, ITEMS, str(path))


def test_copies_and_constants_say_nothing_new():
    once = np.random.default_rng(0).normal(size=(50, 3))
    often = np.concatenate([once, np.ones((50, 2)), -2 * once[:, :1], once[:, 1:2] + 5], axis=1)
    np.testing.assert_array_equal(distinct(often), once)


def test_sources_stand_side_by_side_in_the_order_of_their_names(tmp_path):
    pd.DataFrame({"item_id": ITEMS, "a": range(12)}).to_csv(tmp_path / "m.csv", index=False)
    sources = {"words": "titles", "covers": str(tmp_path / "m.csv"), "kinds": "genres"}
    matrix, widths = joined_features(FILMS, ITEMS, sources)
    assert list(widths) == ["covers", "kinds", "words"]
    assert matrix.shape == (12, sum(widths.values()))
    start = widths["covers"]
    np.testing.assert_array_equal(matrix[:, start : start + widths["kinds"]], item_features(FILMS, ITEMS, "genres"))
    assert joined_features(FILMS.assign(title="x", genres=""), ITEMS, {"kinds": "genres"}) == (None, {})
    with pytest.raises(InputError, match=r"\A`features.sources.covers` must be [^\n]*\Z"):
        joined_features(FILMS, ITEMS, {"covers": "nowhere.npz"})


def test_a_run_with_several_sources_shows_what_devices_make_of_them(tmp_path):
    rng = np.random.default_rng(2)
    rows = [(f"u{u}", f"i{i}") for u in range(60) for i in range(12) if rng.random() < (0.7 if i % 3 == u % 3 else 0.2)]
    folder = tmp_path / "log"
    folder.mkdir()
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(folder / "interactions.csv", index=False)
    FILMS.rename(columns={"item_id": "item"}).to_csv(folder / "items.csv", index=False)
    keys = {"features.sources": {"kinds": "genres", "words": "titles"}, "evaluation.baselines": "none"}
    keys |= {"evaluation.ks": [3], "evaluation.projection": "none", "privacy.dp": "off"}
    result = start(load_config(None, keys), source=folder, out=tmp_path / "run").run()
    assert set(result.baselines) == {"palate_fused"}
    assert result.model.algorithm.feature_sources == ("kinds", "words")
    with pytest.raises(InputError, match=r"`features.sources[^\n]*letters"):
        load_config(None, {"features.sources": {"a:b": "genres"}})
