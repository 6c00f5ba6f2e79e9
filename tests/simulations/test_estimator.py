"""`palate.Recommender`: the facade for notebooks, and what results are to other tools."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

import palate
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.data.readers import as_source
from palate_sim.run.result import PrivacyCard, Result

QUICK: dict[str, Any] = {
    "evaluation.baselines": ["popularity"], "evaluation.projection": [], "evaluation.recency": [],
    "algorithm.settings.rounds": 3,
}  # fmt: skip
EVIL = "<script>alert('x')</script>"


class Tags(HTMLParser):
    """The names of all tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """150 users with 5 to 12 of 40 items; one item has markup for an id."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 41)
    odds /= odds.sum()
    names = [f"book-{place}" for place in range(39)] + [EVIL]
    chosen = [(user, names[i]) for user in range(150) for i in rng.choice(40, rng.integers(5, 13), False, odds)]
    return pd.DataFrame(chosen, columns=["reader", "item"])


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> palate.Recommender:
    out = tmp_path_factory.mktemp("runs") / "<b>one</b>"
    made = palate.Recommender(epsilon=8, out=out, settings=QUICK | {"data.columns": {"user_id": "reader"}})
    assert made.fit(frame) is made
    return made


def test_parameters_are_those_of_scikit_learn(fitted: palate.Recommender) -> None:
    check_is_fitted(fitted)
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "result_")
    assert again.set_params(epsilon=2.0, seed=3).epsilon == 2.0
    assert repr(palate.Recommender(epsilon=2.0)) == "Recommender(epsilon=2.0)"
    with pytest.raises(InputError, match="`eps` is not a parameter of Recommender; did you mean `epsilon`"):
        again.set_params(eps=1)


def test_a_list_is_what_the_model_ranks_first(fitted: palate.Recommender) -> None:
    history = ["book-1", "book-3"]
    found = fitted.recommend(history, n=5)
    assert len(found) == len(found.ids) == 5
    assert not set(found.ids) & set(history)
    rows = [fitted.items_.index(item) for item in history]
    scores = fitted.result_.model.scores(Interactions.from_pairs([0, 0], rows, n_users=1, n_items=40))[0].astype(float)
    scores[rows] = -np.inf
    assert [each.score for each in found] == pytest.approx(sorted(scores.tolist(), reverse=True)[:5])
    assert len(fitted.recommend(history, n=100)) == 38
    assert len(fitted.recommend(history, n=100, keep_seen=True)) == 40
    assert found.ids[0] not in fitted.recommend(history, exclude=found.ids[:1]).ids
    assert len(fitted.recommend([])) == 10
    heavy = fitted.recommend({"book-1": 5.0, "book-3": 1.0})
    assert [each.score for each in heavy] != [each.score for each in fitted.recommend(history)]


def test_similar_items_leave_the_item_itself_out(fitted: palate.Recommender) -> None:
    found = fitted.similar_items("book-0", n=3)
    assert len(found) == 3
    assert "book-0" not in found.ids
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_it_is_evaluated_on_its_own_users(fitted: palate.Recommender) -> None:
    table = fitted.evaluate()
    assert set(table.index) == {"palate", "popularity"}
    assert fitted.score() == table.loc["palate", "recall_capped@20"] == fitted.result_.metrics["recall_capped@20"]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda made: palate.Recommender().recommend([]), "isn't fitted yet: call fit"),
        (lambda made: palate.Recommender().evaluate(), "isn't fitted yet: call fit"),
        (lambda made: made.recommend("book-1"), "`history` must be several items, such as a list, got 'book-1'"),
        (lambda made: made.recommend(["no-such"]), "`history` must have items that the model knows, got 'no-such'"),
        (lambda made: made.recommend(["book-1"], n=0), "`n` must be a whole number from 1, got 0"),
        (lambda made: made.recommend(["book-1"], n=True), "`n` must be a whole number from 1"),
        (lambda made: made.recommend({"book-1": -1.0}), "positive and finite"),
        (lambda made: made.recommend({"book-1": "much"}), "`history` must have numbers for weights, got 'much'"),
        (lambda made: made.recommend({"book-1": None}), "`history` must have numbers for weights, got None"),
        (lambda made: clone(made).set_params(settings=3).fit("x.csv"), "`settings` must be dotted keys"),
        (lambda made: made.similar_items("no-such"), "`item` must have items that the model knows"),
        (lambda made: clone(made).fit([("ann", "a", 1, 2)]), "`data` must be pairs of a user and an item, or triples"),
        (lambda made: clone(made).fit(["ann"]), "`data` must be pairs of a user and an item"),
        (
            lambda made: clone(made).set_params(out=None).fit(5),
            "`data` must be a name, a path or a data frame, got int",
        ),
        (
            lambda made: clone(made).set_params(settings={"privacy.epsilon": None}).fit("x.csv"),
            "`privacy.epsilon` must be a valid number, got None",
        ),
        (lambda made: clone(made).set_params(settings={"privacy.dp": None}).fit("x.csv"), "`privacy.dp` must be"),
        (lambda made: clone(made).set_params(out=3).fit(), "`out` must be a path, got 3"),
        (lambda made: clone(made).set_params(ledger=3, out=None).fit(), "`ledger` must be a path, got 3"),
        (lambda made: clone(made).set_params(epsilon=-1).fit("x.csv"), "`privacy.epsilon` must be greater than 0"),
        (lambda made: made.fit(pl.DataFrame({"a": [1]}).lazy()), "call .collect() on the query first"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(fitted: palate.Recommender, do: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        do(fitted)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_of_others_and_pairs_are_read(frame: pd.DataFrame) -> None:
    pairs = [tuple(row) for row in frame.itertuples(index=False)]
    same = as_source(pl.from_pandas(frame))
    assert same.columns.tolist() == ["reader", "item"]
    assert [tuple(row) for row in same.itertuples(index=False)] == pairs
    for given in (pairs, np.array(pairs, dtype=object)):
        assert list(as_source(given).itertuples(index=False, name=None)) == pairs
    triples = as_source(np.array([[1, 10, 4.5], [2, 11, 3.0]]))
    assert triples.columns.tolist() == ["user_id", "item_id", "value"]
    assert as_source("log.csv") == "log.csv"


def test_cells_show_what_must_stand_beside_epsilon_and_escape_the_rest(fitted: palate.Recommender) -> None:
    page = Tags(fitted._repr_html_())
    for words in ("recall_capped@20", "popularity", "ε = 8", "δ = 1e-5", "unit: user", "adjacency: zero-out"):
        assert words in page.text
    assert "<b>one</b>" in page.text  # the folder's name, as text
    card = fitted.card_
    assert isinstance(card, PrivacyCard)
    assert json.loads((fitted.result_.folder / "privacy_card.json").read_text()) == card
    shown = Tags(card._repr_html_())
    assert "For every training installation" in shown.text
    assert "Not charged, and why" in shown.text
    names = fitted.recommend([], n=40)
    assert EVIL in Tags(names._repr_html_()).text

    summary = {**fitted.result_.summary, "name": EVIL, "warnings": [EVIL], "dp": "off"}
    summary["baselines"] = {EVIL: summary["metrics"]}
    evil = Result(Path(EVIL), summary, PrivacyCard({**card, "guarantee": EVIL, "stamp": EVIL, EVIL: EVIL}))
    pages = [evil._repr_html_(), evil.card._repr_html_(), names._repr_html_()]
    pages.append(palate.Recommender(algorithm=EVIL)._repr_html_())
    for each in map(Tags, pages):
        assert "script" not in each.tags
        assert EVIL in each.text
    assert "NO PRIVACY: dp off" in Tags(pages[0]).text


def test_a_bar_in_a_notebook_is_one_output_that_ends_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display
    from rich.console import Console

    from palate_sim.progress import Progress

    drawn: list[str] = []

    class Output:
        def update(self, shown: Any) -> None:
            drawn.append(shown.data)

    def display(shown: Any, **options: Any) -> Output:
        drawn.append(shown.data)
        return Output()

    monkeypatch.setattr(IPython.display, "display", display)
    console = Console(file=io.StringIO(), force_jupyter=True)
    monkeypatch.setattr(console, "print", lambda *words, **options: None)
    with Progress(console=console) as notify:
        notify({"event": "prepared", "name": "x", "algorithm": "als"})
        notify({"event": "step", "step": f"reading {EVIL}", "done": 5, "of": 10, "unit": "rows", "over": False})
        notify({"event": "done", "seconds": 1.0})
    assert drawn[0].startswith("<progress></progress> <small>round 1 (popularity)")
    assert '<progress value="5" max="10">' in drawn[1]
    assert "<script>" not in drawn[1]
    assert drawn[-1] == ""
