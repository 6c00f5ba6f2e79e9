"""What a run shows of people: who they are, what they had and get, and what a finished run recommends to somebody."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import palate
from palate_cli.cli import run
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_core.errors import InputError
from palate_sim.data import read_log
from palate_sim.evaluation.people import LEAST, LISTED, some_people
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.splits import split as split_log
from palate_sim.progress.people import people_shown, read_people
from palate_sim.report.cells import people_cell
from palate_sim.run.lists import Asker, newest_run
from palate_sim.run.result import Result

QUICK: dict[str, Any] = {"evaluation.baselines": ["popularity"], "evaluation.projection": []}
FILMS = [f"Film {word} of the {place}" for word in ("Night", "Day", "Moon", "Sun") for place in ("Sea", "Hill", "Town")]


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """150 users of two tastes, with 5 to 8 of 12 films, whose ids are titles."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(150):
        odds = np.where(np.arange(12) // 6 == user % 2, 8.0, 1.0)
        rows += [(user, FILMS[film]) for film in rng.choice(12, rng.integers(5, 9), replace=False, p=odds / odds.sum())]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.fixture(scope="module")
def result(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return palate.simulate(log, epsilon=50, out=tmp_path_factory.mktemp("runs") / "one", settings=QUICK)


def test_people_are_drawn_by_the_seed_alone_and_get_what_was_judged(log: pd.DataFrame) -> None:
    cut = split_log(read_log(log), "strong", seed=1)
    learn: dict[str, Any] = {"algorithm": "als", "settings": {}, "delta": 1e-5, "seed": 0}
    models = [rehearse(cut.train, epsilon=epsilon, **learn) for epsilon in (None, 2.0)]
    found = [some_people(model, cut, most=3, titles={}, seed=4) for model in models]
    who = [[(each["given"], each["held_out"], sorted(each["had"])) for each in people] for people in found]
    assert who[0] == who[1], "whatever they get"
    assert some_people(models[0], cut, most=3, titles={}, seed=5) != found[0]
    assert len(found[0]) == 3
    for person in found[0]:
        [row] = [
            row
            for row in range(len(cut.test.users))
            if {cut.items[item] for item in cut.test.foldin.user(row).indices} >= set(person["had"])
            and cut.test.foldin.counts()[row] == person["given"] >= LEAST
        ][:1]
        scores = np.array(models[0].scores(cut.test.foldin.user(row))[0])
        scores[cut.test.foldin.user(row).indices] = -np.inf
        best = [cut.items[item] for item in np.argsort(-scores, kind="stable")[:LISTED] if scores[item] > -np.inf]
        assert [each["title"] for each in person["gets"]] == best
        theirs = {cut.items[item] for item in cut.test.target.user(row).indices}
        assert {each["title"] for each in (*person["gets"], *person["popular"]) if each["held_out"]} <= theirs


def _printed(result: Result, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(people_shown(result.people))
    return console.file.getvalue()


def test_a_run_ends_with_people_in_every_output(result: Result) -> None:
    assert len(result.people) == 3
    for person in result.people:
        assert all(each["title"] in FILMS for each in (*person["gets"], *person["popular"]))
        reasons = [each["reason"] for each in person["gets"]]
        assert any("because you had Film" in each for each in reasons), "whatever kind it was"
        assert not any(each.count("you liked") or each.count(" had ") > 1 for each in reasons)
    shown, wide = (_printed(result, width) for width in (80, 400))
    assert all(each["reason"] in wide for person in result.people for each in person["gets"][:3]), "whole reasons"
    page, cell = result.report.read_text(encoding="utf-8"), result._repr_html_()
    for text in (shown, page, cell):
        assert "most popular" in text
        assert result.people[0]["gets"][0]["title"] in " ".join(text.split())
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert people_cell(result.people) in cell


def test_rows_of_the_log_are_in_nothing_that_is_published(log: pd.DataFrame, result: Result, tmp_path: Path) -> None:
    assert "people" not in result.summary
    assert "people" not in result.card
    public = [*(result.folder / "model").iterdir(), *(result.folder / name for name in ("ledger.json", "result.json"))]
    assert not any(b'"gets"' in path.read_bytes() for path in public)
    page = result.report.read_text(encoding="utf-8")
    assert "rows of the log" in page
    settings = {**QUICK, "evaluation.people": 0}
    bare = palate.simulate(log, epsilon=50, out=tmp_path / "bare", settings=settings)
    assert (bare.people, (bare.folder / "people.json").exists()) == ([], False)
    assert "rows of the log" not in bare.report.read_text(encoding="utf-8")


def test_a_run_says_that_the_words_of_its_titles_were_not_read(
    log: pd.DataFrame, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn", "sklearn.decomposition", "sklearn.feature_extraction.text"):
        monkeypatch.setitem(sys.modules, name, None)
    made = palate.simulate(log, epsilon=50, out=tmp_path / "run", settings={**QUICK, "evaluation.people": 0})
    assert sum("needs scikit-learn, pip install" in warning for warning in made.summary["warnings"]) == 1
    assert made.model.header.facts.n_features == 0
    assert result.model.header.facts.n_features > 0
    assert not any("scikit-learn" in warning for warning in result.summary["warnings"])


def test_a_file_of_people_that_is_none_shows_nothing(result: Result, tmp_path: Path) -> None:
    assert read_people(tmp_path) == []
    (tmp_path / "people.json").write_text("{")
    assert read_people(tmp_path) == []
    (tmp_path / "people.json").write_text(json.dumps([{"gets": [{"title": "a\x1b[31m", "reason": "b\u202e"}]}]))
    [person] = read_people(tmp_path)
    assert person == {"gets": [{"title": "a�[31m", "reason": "b�"}]}, "a report is opened by others"
    assert json.loads((result.folder / "people.json").read_text(encoding="utf-8")) == result.people


def test_titles_are_found_about_as_they_are_written(result: Result) -> None:
    with Asker(result) as asker:
        for text in ("Film Night of the Sea", "film night of the sea", "Film Nihgt of the Sea", "night sea"):
            assert asker.like(text) == "Film Night of the Sea"
        shown = asker.recommend(3)
        assert all("because you liked Film Night of the Sea" in each.reason for each in shown if each.because)
        assert "Film Night of the Sea" not in [each.item for each in shown] + asker.popular(20)
        assert len(asker.similar("moon town", 2)) == 2
        with pytest.raises(InputError, match=r"did you mean 'Film Night of the .*', 'Film Night of the"):
            asker.like("night")
        with pytest.raises(InputError, match="got 'zzz', like none"):
            asker.like("zzz")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/oen", "moon town"], "got 'runs/oen'; did you mean 'runs/one', before the titles?"),
        (["first-rum", "moon town"], "got 'first-rum'; did you mean 'runs/first-run', before the titles?"),
        (["moon town", "first-run"], "got 'first-run'; did you mean 'runs/first-run', before the titles?"),
        (["runs/other", "moon town"], "got 'runs/other'"),
        (["runs/one/report.html", "moon town"], "got 'runs/one/report.html'"),
        (["Face/Off"], "`title` must be of the run's 12 items, got 'Face/Off', like none of them"),
        (["first-run"], "got 'first-run'; did you mean 'runs/first-run', before the titles?"),
    ],
)
def test_a_mistyped_run_is_no_title(
    result: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("one", "first-run"):
        (tmp_path / "runs" / name).symlink_to(result.folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    assert run(["recommend", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_items_of_one_title_are_told_apart_by_their_ids_and_else_the_most_popular_is_meant(
    result: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    titled = [ItemFacts(item, title=item if at > 1 else "Twins") for at, item in enumerate(result.items)]
    monkeypatch.setattr(Result, "table", ItemTable.of(titled))
    asked: dict[str, str] = {}
    for given in ("Twins", *result.items[:2]):
        assert run(["recommend", str(result.folder), given]) == 0
        asked[given] = capsys.readouterr().out
        assert "close to Twins: " in asked[given]
    one, two = (asked[item] for item in result.items[:2])
    counts = result.model.state["counts"]
    assert asked["Twins"] == (one if counts[0] >= counts[1] else two) != (two if counts[0] >= counts[1] else one)


def test_a_history_is_read_from_a_service_or_as_titles(result: Result, tmp_path: Path) -> None:
    box = tmp_path / "diary.csv"
    rows = "".join(f"2024-01-0{day},{title},,https://x,2024-01-0{day}\n" for day, title in enumerate(FILMS[:3], 1))
    box.write_text(f"Date,Name,Year,Letterboxd URI,Watched Date\n{rows}2024-02-01,Other,,https://x,2024-02-01\n")
    plain = tmp_path / "mine.csv"
    plain.write_text("title,stars\n" + "".join(f"{title},5\n" for title in [*FILMS[:3], "Other"]))
    (tmp_path / "mine.txt").write_text("\n".join([*FILMS[:3], "Other", FILMS[0]]))
    for path, said in (
        (box, "letterboxd: 0 films, 1 not in the catalogue, 3 to confirm, 3 of these taken by their title alone"),
        (plain, "3 titles, 2 lines that are none of the run's"),
        (tmp_path / "mine.txt", "3 titles, 1 lines that are none of the run's"),
    ):
        with Asker(result) as asker:
            assert asker.read(path) == said
            assert not {each.item for each in asker.recommend(12)} & set(FILMS[:3])
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with Asker(result) as asker, pytest.raises(InputError, match="got the columns 'a,b'"):
        asker.read(tmp_path / "odd.csv")


def test_somebody_of_whom_nothing_is_known_gets_no_list(result: Result, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("Other\n")
    with Asker(result) as asker:
        with pytest.raises(InputError, match="must be a file of one of netflix"):
            asker.read(tmp_path / "none.txt")
        with pytest.raises(InputError, match="items that the run knows, got none"):
            asker.recommend(3)


def test_the_newest_run_is_the_one_that_was_finished_last(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="got none in"):
        newest_run(tmp_path)
    (tmp_path / "b" / "result.json").write_text("{}")
    assert newest_run(tmp_path) == tmp_path / "b"
