"""People who share their log openly: how they are chosen, what is made of their log, and what a run says about them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import palate
from benchmarks.releases.series import measure
from palate_cli.cli import run
from palate_common.algorithms import Interactions
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import PANEL_INPUTS, check_panel
from palate_common.score_sources import PANEL
from palate_core.errors import InputError
from palate_sim.baselines import ease
from palate_sim.baselines.sparse import matrix
from palate_sim.config import SimulationConfig, load_config
from palate_sim.panel import panel as panels
from palate_sim.panel.panel import choose, fit_panel, panel_of
from palate_sim.preparation.preparation import Prepared, prepare
from palate_sim.progress import print_result
from palate_sim.report.sentences import first_screen
from palate_sim.run import experiment
from palate_sim.run.starter import Recipe, build

QUICK = {"evaluation.baselines": "popularity,panel_only,content_only", "evaluation.projection": "none"}


def made(n_users: int, n_items: int, seed: int = 1) -> Interactions:
    """Users of two tastes: one likes even items, the other odd ones."""
    rng = np.random.default_rng(seed)
    odds = np.where((np.arange(n_users)[:, None] + np.arange(n_items)) % 2, 0.05, 0.4)
    users, items = np.nonzero(rng.random((n_users, n_items)) < odds)
    return Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "log.csv"
    frame(made(200, 40)).to_csv(path, index=False)
    return path


def frame(histories: Interactions, who: str = "u") -> pd.DataFrame:
    users = [f"{who}{user}" for user in histories.owners().tolist()]
    return pd.DataFrame({"user_id": users, "item_id": [f"i{item}" for item in histories.indices.tolist()]})


def config(log: Path, **settings: Any) -> SimulationConfig:
    chosen = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(None, {"data.path": str(log), "algorithm.name": "als"} | QUICK | chosen)


@pytest.mark.parametrize(("n_users", "n_items"), [(6, 60), (80, 60), (1, 5), (30, 140)])
def test_its_model_is_ease_of_its_people_cut_to_the_strongest_links_without_their_popularity(
    n_users: int, n_items: int
) -> None:
    people = made(n_users, n_items)
    inputs = fit_panel(people, seed=0)
    check_panel(inputs, n_items=n_items)
    links, items = Links.of_state(inputs, PANEL), np.flatnonzero(people.item_counts)
    has = matrix(people).toarray()[:, items].astype(np.float64)
    popularity = people.item_counts[items] / people.item_counts[items].mean()
    ridge = ease.default_ridge(people.nnz, n_items) * np.sqrt(popularity)
    inverse = np.linalg.inv(has.T @ has + np.diag(ridge))
    whole = np.zeros((n_items, n_items))
    whole[np.ix_(items, items)] = -inverse / inverse.diagonal()
    lift = np.ones(n_items)
    lift[items] = popularity**-0.2
    assert inputs["panel_users"].tolist() == [n_users]
    assert np.array_equal(links.items, items)
    np.testing.assert_allclose(links.values, (whole * lift)[items[:, None], links.to], atol=2e-5)
    for item, to in zip(links.items, links.to, strict=True):
        others = np.setdiff1d(np.arange(n_items), [item, *to])
        assert np.abs(whole[item, others]).max(initial=0) <= np.abs(whole[item, to]).min(initial=np.inf) + 2e-5


def test_links_that_are_kept_are_fitted_anew_without_those_that_were_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    people = made(80, 30)
    for name, value in (("MOST_LINKS", 6), ("REFITTING", 30), ("BLOCK_ENTRIES", 30 * 7)):
        monkeypatch.setattr(panels, name, value)
    links = Links.of_state(fit_panel(people, seed=0), PANEL)
    has, popularity = matrix(people).toarray().astype(np.float64), people.item_counts / people.item_counts.mean()
    gram = has.T @ has + np.diag(ease.default_ridge(people.nnz, 30) * np.sqrt(popularity))
    for target in range(30):
        rows, link = np.nonzero(links.to == target)
        fitted = np.linalg.solve(gram[np.ix_(rows, rows)], gram[rows, target])
        np.testing.assert_allclose(links.values[rows, link], fitted * popularity[target] ** -0.2, atol=1e-4)


def test_few_people_and_many_items_never_need_all_pairs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    people = made(20, 300)
    whole = fit_panel(people, seed=0)
    monkeypatch.setattr(ease, "BLOCK_ENTRIES", 300 * 7)
    sizes = [len(rows) for _, rows in ease.blocks_by_users(people, np.float32(10))]
    assert set(sizes) == {7, 300 % 7}
    parts = fit_panel(people, seed=0)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-5)


def test_of_a_large_catalogue_and_many_people_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "ITEM_LIMIT", 30)
    monkeypatch.setattr(panels, "MOST_PEOPLE", 15)
    people = made(50, 40)
    assert fit_panel(people, seed=0)["panel_users"].tolist() == [15]
    assert fit_panel(people.users(slice(0, 15)), seed=0)["panel_users"].tolist() == [15]
    monkeypatch.setattr(ease, "ITEM_LIMIT", 40)
    assert fit_panel(people, seed=0)["panel_users"].tolist() == [50]


def test_a_share_of_the_users_is_drawn_by_the_seed() -> None:
    train = made(300, 60)
    rows = choose(train, 0.1, seed=0)
    assert len(rows) == 30
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, choose(train, 0.1, seed=0))
    assert not np.array_equal(rows, choose(train, 0.1, seed=1))
    assert len(choose(train, 1e-6, seed=0)) == 1
    with pytest.raises(InputError, match=r"must leave a training user .* got 300 of 300"):
        choose(train, 0.999, seed=0)


def prepared(log: Path, **settings: Any) -> Prepared:
    return prepare(config(log, **settings))


def test_its_people_are_training_users_and_take_part_unless_they_stay_apart(log: Path) -> None:
    none, some = prepared(log), prepared(log, data__panel=0.1)
    assert none.panel is None
    assert not set(PANEL_INPUTS) & set(none.inputs)
    assert some.split.train_users == none.split.train_users
    assert some.fingerprint == none.fingerprint
    assert some.panel is not None
    assert some.panel.users == 16
    rows = choose(none.split.train, 0.1, seed=0)
    assert some.panel.interactions == none.split.train.users(rows).nnz
    assert some.panel.about()["origin"] == "10 % of the training users, drawn at random"
    apart = prepared(log, data__panel=0.1, data__panel_apart=True)
    others = [user for row, user in enumerate(none.split.train_users) if row not in rows]
    assert list(apart.split.train_users) == others
    assert apart.split.train.n_users == len(others)
    assert apart.fingerprint != none.fingerprint
    assert apart.panel is not None
    assert apart.panel.about() == {**some.panel.about(), "apart": True}


def test_a_large_log_is_the_same_whatever_its_panel(log: Path, tmp_path: Path) -> None:
    chosen = {"data__rows_in_memory": 100, "data__cache": str(tmp_path / "cache")}
    none, some = (prepared(log, **chosen, data__panel=panel) for panel in (None, 0.1))
    apart = prepared(log, **chosen, data__panel=0.1, data__panel_apart=True)
    assert None not in (none.histories, some.histories)
    assert some.fingerprint == none.fingerprint != apart.fingerprint
    assert apart.histories is None, "engines get the users who are left, not the file of all"
    whole = prepared(log, data__panel=0.1, data__panel_apart=True)
    assert apart.fingerprint == whole.fingerprint


def test_an_open_log_of_the_same_catalogue(log: Path, tmp_path: Path) -> None:
    opened = tmp_path / "open.csv"
    frame(made(25, 40, seed=5), who="v").to_csv(opened, index=False)
    found = prepared(log, data__panel=str(opened))
    assert found.panel is not None
    assert (found.panel.users, found.panel.held_out, found.panel.origin) == (25, 0, "the log open.csv")
    assert found.split.items != tuple(f"i{n}" for n in range(40)), "rows follow the catalogue's order"
    same = panel_of(str(opened), found.split.items, "--panel").inputs
    for name in PANEL_INPUTS:
        np.testing.assert_allclose(same[name], found.inputs[name])


FILMS = {f"i{n}": f"Film {n}, The ({1950 + n})" for n in range(40)}


def films(folder: Path, people: pd.DataFrame, titles: dict[str, str], **columns: list[str]) -> Path:
    """A folder with a log and its items."""
    folder.mkdir()
    people.to_csv(folder / "interactions.csv", index=False)
    about = pd.DataFrame({"item_id": list(titles), "title": list(titles.values()), **columns})
    about.to_csv(folder / "items.csv", index=False)
    return folder


@pytest.mark.parametrize("numbered", ["alike", "otherwise"])
def test_a_public_log_of_strangers_is_matched_by_id_or_else_by_title(log: Path, tmp_path: Path, numbered: str) -> None:
    """Equal ids of people mean nothing; equal ids of items do where they have the same titles."""
    own = films(tmp_path / "own", pd.read_csv(log), FILMS)
    whole = frame(made(25, 50, seed=5))
    titles = FILMS | {f"i{n}": f"Unknown {n} (2020)" for n in range(40, 50)}
    if numbered == "otherwise":  # the same ids, of other films
        other = {f"i{n}": f"i{(n * 7 + 3) % 50}" for n in range(50)}
        whole["item_id"] = whole["item_id"].map(other)
        titles = {other[item]: title.replace("Film", "FILM") for item, title in titles.items()}
    found = prepared(own, data__panel=str(films(tmp_path / "theirs", whole, titles)))
    plain = made(25, 50, seed=5)
    known = prepared(own, data__panel=str(_saved(frame(plain)[lambda f: f["item_id"].isin(FILMS)], tmp_path)))
    assert found.panel is not None
    assert known.panel is not None
    by = {"alike": "id", "otherwise": "title and year"}[numbered]
    seen = len(set(frame(plain)["item_id"]))
    assert found.panel.matched == {by: 40, "unknown": seen - 40}
    assert (found.panel.users, found.panel.apart) == (25, True)
    assert found.split.train_users == prepared(own).split.train_users, "nobody has left the rounds"
    for name in PANEL_INPUTS:
        np.testing.assert_allclose(known.inputs[name], found.inputs[name])


def _saved(people: pd.DataFrame, folder: Path) -> Path:
    people.to_csv(folder / "known.csv", index=False)
    return folder / "known.csv"


def test_public_ids_come_before_titles(log: Path, tmp_path: Path) -> None:
    numbers = [f"{7000 + n}" for n in range(40)]
    own = films(tmp_path / "own", pd.read_csv(log), FILMS, imdb=[f"tt000{each}" for each in numbers])
    theirs = frame(made(25, 40, seed=5), who="v")
    theirs["item_id"] = theirs["item_id"].map(dict(zip(FILMS, numbers, strict=True)))
    foreign = {number: "ein anderer Titel" for number in numbers}
    found = prepared(own, data__panel=str(films(tmp_path / "theirs", theirs, foreign, imdbId=numbers))).panel
    assert found is not None
    assert found.matched == {"public id": 40}


def test_who_looks_like_the_logs_own_users_must_be_said(log: Path, tmp_path: Path) -> None:
    opened = tmp_path / "open.csv"
    whole = pd.read_csv(log)
    whole[whole["user_id"].isin(list(prepared(log).split.train_users)[:12])].to_csv(opened, index=False)
    with pytest.raises(
        InputError, match=r"`data.panel` must say who its people are, got 1\d with ids and items of"
    ) as no:
        prepared(log, data__panel=str(opened))
    assert "\n" not in str(no.value)
    assert prepared(log, data__panel=str(opened), data__panel_people="strangers").panel is not None
    users = prepared(log, data__panel=str(opened), data__panel_people="users").panel
    assert users is not None
    assert (users.users, users.apart) == (12, False)


def test_who_is_held_out_is_never_in_a_panel(log: Path, tmp_path: Path) -> None:
    opened, none = tmp_path / "open.csv", prepared(log)
    assert none.split.validation is not None
    held_out = [*none.split.validation.users, *none.split.test.users]
    whole = pd.read_csv(log)
    some = [*held_out, *list(none.split.train_users)[:12]]
    whole[whole["user_id"].isin(some)].to_csv(opened, index=False)
    users = {"data__panel": str(opened), "data__panel_people": "users"}
    found = prepared(log, **users)
    assert found.panel is not None
    assert (found.panel.users, found.panel.held_out) == (12, len(held_out))
    apart = prepared(log, **users, data__panel_apart=True)
    assert list(apart.split.train_users) == list(none.split.train_users)[12:]


def odd_logs(log: Path, folder: Path) -> dict[str, str]:
    whole = pd.read_csv(log)
    whole.to_csv(folder / "all.csv", index=False)
    pd.DataFrame({"user_id": ["v", "v"], "item_id": ["x", "y"]}).to_csv(folder / "other.csv", index=False)
    whole[:0].to_csv(folder / "empty.csv", index=False)
    held_out = list(prepared(log).split.test.users)
    whole[whole["user_id"].isin(held_out)].to_csv(folder / "held.csv", index=False)
    return {path.stem: str(path) for path in folder.glob("*.csv")}


def test_an_odd_panel_is_refused_in_one_line(log: Path, tmp_path: Path) -> None:
    odd = odd_logs(log, tmp_path)
    for panel, message in (
        (odd["other"], r"`data.panel` must have items of the catalogue, got 'x' and others"),
        (odd["all"], r"`data.panel` must leave a training user whose log isn't open, got all 160"),
        (odd["held"], r"`data.panel` must have people whose log may be used, got 20, none of them such"),
        (odd["empty"], r"`data.panel` must be a log that can be read: "),
        (str(tmp_path / "none.csv"), r"`data.panel` must be a log that can be read: .* must be an existing file"),
        (0.999, r"`data.panel` must leave a training user whose log isn't open, got 160 of 160"),
        (0, "`data.panel` must be a share above 0 and below 1, or a log, got 0"),
        (1, "must be a share above 0"),
        ("1.5", "must be a share above 0"),
        ("nan", "must be a share above 0"),
        ("", "must be a share above 0"),
        (True, "must be a share above 0"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            prepared(log, data__panel=panel, data__panel_people="users")
        assert "\n" not in str(refused.value)


def test_too_long_an_open_log_is_refused(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "MOST_INTERACTIONS", 10)
    with pytest.raises(InputError, match="at most 10 interactions"):
        panel_of(str(log), [f"i{n}" for n in range(40)], "LOG")


def test_an_algorithm_without_use_for_a_panel_refuses_it(log: Path) -> None:
    with pytest.raises(InputError, match=r"`data.panel` must be left out: popularity has no use for it"):
        prepared(log, data__panel=0.1, algorithm__name="popularity")


def test_a_series_of_releases_refuses_it(log: Path) -> None:
    with pytest.raises(InputError, match=r"`data.panel` must be left out for releases"):
        measure(load_config(None, {"data.path": str(log), "data.panel": 0.1, "algorithm.name": "als"}),
                releases=4, seeds=1, notify=lambda _: None)  # fmt: skip


def test_terms_card_and_report_say_whose_log_is_open(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment.start(config(log, data__panel=0.1), out=out).run()
    result, card = (json.loads((out / name).read_bytes()) for name in ("result.json", "privacy_card.json"))
    about = prepared(log, data__panel=0.1).panel
    assert about is not None
    assert result["panel"] == card["panel"] == about.about()
    terms = json.loads((out / "run.json").read_bytes())["terms"]
    assert terms["about"]["panel"] == card["panel"]
    assert terms["inputs"] is not None, "the ledger says which panel"
    assert (
        "The 16 people of the panel (10 % of the training users, drawn at random) have none for the log"
        in (card["guarantee"])
    )
    excluded = {entry["what"]: entry["reason"] for entry in card["exclusions"]}
    said = excluded["the log that the 16 people of the panel have opened"]
    assert "they take part in the rounds like everybody" in said
    assert "public inputs, such as item features" not in excluded, "a panel isn't made of public facts"
    beside = {"popularity", "panel_only", "palate_without_panel"}
    assert result["baselines"].keys() == beside, "content only has no features here"
    page = (out / "report.html").read_text()
    assert "16 people have opened their log" in page
    assert "The log that the 16 people of the panel have opened: it is public." in page, "among what isn't protected"
    assert "what they opened alone" in page
    again = experiment.reopen(out)
    assert again.terms.about["panel"] == card["panel"]


def test_terminal_and_report_say_where_the_rounds_add_nothing_to_a_public_log() -> None:
    def point(mean: float) -> dict[str, dict[str, float]]:
        return {"recall_capped@20": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}

    matched = {"id": 3150, "title and year": 15, "unknown": 541}
    panel = {"users": 6040, "interactions": 900_000, "origin": "the log ml-1m", "apart": True, "hash": "ab"}
    result = {"metric": "recall_capped@20", "metrics": point(0.25), "baselines": {"panel_only": point(0.26)}}
    result |= {"panel": {**panel, "matched": matched, "licence": "For research."}, "epsilon": 1.0, "delta": 1e-5}
    console = Console(file=StringIO(), width=200)
    print_result(console, result)
    terminal, page = console.file.getvalue(), str(first_screen(result, {}))
    words = "3,150 by id, 15 by title and year, 541 not in the catalogue, left out"
    assert words in terminal
    assert words in page
    assert "Its terms: For research." in page
    said = "here the rounds add nothing to it"
    assert said in terminal
    assert said in page
    result["projection"] = [{"users": n, result["metric"]: value} for n, value in ((9000, 0.3), (2000, 0.2))]
    assert "9,000 users would change that" in str(first_screen(result, {}))
    result["projection"] = result["projection"][1:]
    assert "Neither would 2,000 users" in str(first_screen(result, {}))
    result["metrics"] = point(0.27)
    assert said not in str(first_screen(result, {}))


def test_a_public_logs_terms_are_on_the_card(log: Path, tmp_path: Path) -> None:
    opened = tmp_path / "open.csv"
    frame(made(25, 41, seed=5)).to_csv(opened, index=False)
    out = tmp_path / "run"
    experiment.start(config(log, data__panel=str(opened), data__panel_licence="MIT"), out=out).run()
    result, card = (json.loads((out / name).read_bytes()) for name in ("result.json", "privacy_card.json"))
    assert (card["panel"]["licence"], card["panel"]["matched"]["unknown"]) == ("MIT", 1)
    assert result["users"] == 160, "strangers have no part in the rounds, and nobody leaves them"
    assert "they take no part in the rounds of this run" in str(card["exclusions"])
    assert "1 not in the catalogue" in (out / "report.html").read_text()


def test_a_run_goes_on_with_the_panel_that_it_began_with(log: Path, tmp_path: Path) -> None:
    opened = tmp_path / "open.csv"
    frame(made(25, 40, seed=5), who="v").to_csv(opened, index=False)
    begun = experiment.start(config(log, data__panel=str(opened)), out=tmp_path / "run")
    frame(made(24, 40, seed=6), who="v").to_csv(opened, index=False)
    with pytest.raises(InputError, match="needs the item features and the panel that the run was started with"):
        experiment.reopen(tmp_path / "run")
    frame(made(25, 40, seed=5), who="v").to_csv(opened, index=False)
    assert experiment.reopen(tmp_path / "run").inputs.keys() == begun.inputs.keys()
    begun.run()
    frame(made(24, 40, seed=6), who="v").to_csv(opened, index=False)
    again = experiment.reopen(tmp_path / "run")
    for name in PANEL_INPUTS:
        assert np.array_equal(again.inputs[name], begun.inputs[name]), "its folder has kept it"
        assert np.array_equal(again.prepared.inputs[name], begun.inputs[name])


def test_a_panel_that_stays_apart_says_so(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment.start(config(log, data__panel=0.1, data__panel_apart=True), out=out).run()
    result, card = (json.loads((out / name).read_bytes()) for name in ("result.json", "privacy_card.json"))
    assert result["users"] == 144
    assert "no part in the rounds" in str(card["exclusions"])
    assert "took no part in the rounds" in (out / "report.html").read_text()


def test_the_controls_never_see_the_panel(log: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "features.csv"
    pd.DataFrame({"item_id": [f"i{n}" for n in range(40)], "odd": np.arange(40) % 2, "n": np.arange(40)}).to_csv(
        numbers, index=False
    )
    figures = []
    for panel in (None, 0.1):
        chosen = config(log, data__panel=panel, features__source=str(numbers), privacy__noise="seeded")
        assert FEATURES in prepare(chosen).inputs
        out = tmp_path / str(panel)
        figures.append(experiment.start(chosen, out=out).run().summary["baselines"]["content_only"])
    assert figures[0] == figures[1]


def test_the_command_takes_a_share_or_a_log(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["simulate", str(log), "--set", "evaluation.baselines=none", "--set", "evaluation.projection=none",
              "--algorithm", "als"]  # fmt: skip
    assert run([*common, "--panel", "0.1", "--out", str(tmp_path / "share")]) == 0
    assert json.loads((tmp_path / "share" / "result.json").read_bytes())["panel"]["users"] == 16
    assert run([*common, "--panel", "2", "--out", str(tmp_path / "more")]) == 2
    assert "`data.panel` must be a share above 0 and below 1" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "more").exists()


def test_a_starter_is_a_panel_as_its_log_is(log: Path, tmp_path: Path) -> None:
    """Links between the catalogue's items, the same as those of the log, whatever items else the starter has."""
    own = films(tmp_path / "own", pd.read_csv(log), FILMS)
    theirs = frame(made(25, 50, seed=5))
    titles = FILMS | {f"i{n}": f"Unknown {n} (2020)" for n in range(40, 50)}
    opened = films(tmp_path / "theirs", theirs, titles)
    build(Recipe(str(opened), "films", licence="CC0", least_people=1, links=128), tmp_path / "starter")
    found = prepared(own, data__panel=str(tmp_path / "starter")).panel
    assert found is not None
    assert found.about() | {"hash": ""} == {
        "users": 25, "interactions": len(theirs), "apart": True, "licence": "CC0", "hash": "",
        "origin": "the starter model of theirs", "matched": {"id": 40, "unknown": 10},
    }  # fmt: skip
    whole = dense(panel_of(str(opened), sorted(titles), "LOG").inputs, 50)
    kept = [row for row, item in enumerate(sorted(titles)) if item in FILMS]
    np.testing.assert_allclose(dense(found.inputs, 40), whole[np.ix_(kept, kept)], atol=0.01 * np.abs(whole).max())


def dense(inputs: Any, n_items: int) -> Any:
    """A panel's links as a whole map."""
    links, found = Links.of_state(inputs, "panel"), np.zeros((n_items, n_items))
    found[links.items[:, None], links.to] = links.values
    return found


def test_a_model_that_is_no_starter_is_no_panel(log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`data.panel` must be a starter of `palate starter build`"):
        prepared(log, data__panel=str(palate.starter("sample").folder))
    with pytest.raises(InputError, match=r"`data.panel` must have items of the catalogue, got '0"):
        prepared(log, data__panel=str(palate.starter("films").folder))


def test_the_command_takes_a_starter_by_its_name(tmp_path: Path) -> None:
    titles = list(palate.starter("films").published.table.titles.items())[:40]  # type: ignore[union-attr]  # it has titles
    people = frame(made(200, 40))
    own = films(tmp_path / "own", people, {f"i{n}": title for n, (_, title) in enumerate(titles)})
    common = ["simulate", str(own), "--set", "evaluation.baselines=none", "--set", "evaluation.projection=none"]
    assert run([*common, "--panel", "films", "--out", str(tmp_path / "run")]) == 0
    panel = json.loads((tmp_path / "run" / "privacy_card.json").read_bytes())["panel"]
    assert panel["licence"] == "MIT (Simon Dooms)"
    assert panel["matched"]["title and year"] == 40
