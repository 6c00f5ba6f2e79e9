"""`palate starter build`: a public log becomes a signed model with titles, the same one each time but for its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_cli.cli import run
from palate_client.starter import Starter
from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.panel_only import PanelOnly
from palate_sim.data import load, positives
from palate_sim.data.features import published_facts
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.panel.panel import MatchedItems, panel_of, people_of
from palate_sim.run.starter import Recipe, build


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two groups of twelve people with five films each, one film that three people have, and another person's event."""
    folder = tmp_path / "films"
    folder.mkdir()
    lines = [f"u{u},{1000 + 5 * (u % 2) + i},5" for u in range(24) for i in range(5) if (u + i) % 4]
    lines += [f"u{u},2000,5" for u in range(3)] + ["u99,1003,4"]
    (folder / "interactions.csv").write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    films = [f"{1000 + i},Film {i} ({1990 + i}),Drama|War" for i in range(10)] + ["2000,Rare (1999),Drama"]
    (folder / "items.csv").write_text("item_id,title,genres\n" + "\n".join(films) + "\n")
    return folder


def recipe(log: Path, **given: object) -> Recipe:
    return Recipe(str(log), "films", **{"licence": "CC0", "scheme": "imdb", **given})  # type: ignore[arg-type]  # of a test


def test_the_same_log_gives_the_same_model_and_another_key(log: Path, tmp_path: Path) -> None:
    said = build(recipe(log), tmp_path / "one")
    assert build(recipe(log), tmp_path / "two") == said
    one, two = (palate.starter(tmp_path / name) for name in ("one", "two"))
    assert one.published.model.data == two.published.model.data
    assert one.service != two.service
    assert said == one.provenance
    assert {name: said[name] for name in ("people", "items", "interactions", "source", "licence", "epsilon")} == {
        "people": 25, "items": 10, "interactions": 91, "source": "films", "licence": "CC0", "epsilon": None,
    }  # fmt: skip
    facts = one.published.table.get("1003")  # type: ignore[union-attr]  # it has titles
    assert facts is not None
    assert (facts.label, facts.kinds, facts.ids) == ("Film 3 (1993)", ("Drama", "War"), {"imdb": "tt1003"})


def test_what_few_people_have_is_left_out_and_an_item_has_so_many_links(log: Path, tmp_path: Path) -> None:
    build(recipe(log, least_people=3, links=4), tmp_path / "one")
    found = palate.starter(tmp_path / "one").published
    assert len(found.items) == 11
    assert found.model.state["open_to"].shape == (11, 4)
    with pytest.raises(InputError, match="items of 30 people each, got 0"):
        build(recipe(log, least_people=30), tmp_path / "two")


def test_whoever_has_a_history_gets_the_taste_alone(log: Path, tmp_path: Path) -> None:
    build(recipe(log), tmp_path / "one")
    found: Starter = palate.starter(tmp_path / "one")
    with palate.open(tmp_path / "store", app="films", key=palate.new_key(), service=found.service) as device:
        device.consent.grant("store")
        device.update_model(found.folder)
        device.track("like", found.item("Film 7 (1997)"))
        shown = {each.item for each in device.recommend(4, explore=0) if each.source == "panel"}
    assert len(shown) >= 3
    assert shown <= {"1005", "1006", "1008", "1009"}, "of the group that has it, whatever more people have"


def test_the_command_says_what_it_made_and_asks_for_a_licence(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["starter", "build", str(log), "--kind", "films", "--out", str(tmp_path / "one")]
    assert run(given) == 2
    assert "`licence` must say under which terms the log is public" in capsys.readouterr().err
    assert run([*given, "--ids", "imdb", "--licence", "CC0"]) == 0
    assert "films: 10 items of 25 people" in capsys.readouterr().out
    assert (
        palate.starter(tmp_path / "one").provenance["command"] == "palate starter build films --kind films --ids imdb"
    )
    assert run([*given, "--licence", "CC0"]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err, "another model isn't written over"
    assert run([*given, "--ids", "ean", "--licence", "CC0"]) == 2
    assert run(["starter", "list"]) == 0
    assert "licence  MIT (Simon Dooms)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 5.0])
def test_30_people_have_personal_lists_before_the_first_round_and_no_worse_ones_after(
    epsilon: float, small: tuple[Interactions, dict[str, Any]]
) -> None:
    """Eight draws of 30 people of MovieLens small, of whom a fifth of what each has is held out; recall at 20."""
    everybody, inputs = small
    before, after, alike = list[float](), list[float](), list[float]()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        people = everybody.users(np.sort(rng.choice(everybody.n_users, 30, replace=False)))
        hidden = rng.random(people.nnz) < 0.2
        shown, held = people.entries(~hidden), people.entries(hidden)
        first = PanelOnly.of(inputs).scores(shown)
        model = rehearse(shown, algorithm="als", settings={}, epsilon=epsilon, delta=1e-4, inputs=inputs, seed=seed)
        before.append(found(first, shown, held))
        after.append(found(model.scores(shown), shown, held))
        popular = set(np.argsort(-shown.item_counts)[:20].tolist())
        alike.append(float(np.mean([len(popular & set(row)) / 20 for row in best(first, shown).tolist()])))
    gained = np.subtract(after, before)
    assert np.mean(before) >= 0.1
    assert np.mean(alike) <= 0.25, "lists are personal"
    assert gained.mean() >= -2 * gained.std() / np.sqrt(len(gained)), (np.mean(before), np.mean(after))


@pytest.fixture(scope="module")
def small() -> tuple[Interactions, dict[str, Any]]:
    """People of MovieLens small over its films, and the starter of films as their panel."""
    log = load("movielens-small")
    pairs = positives(log, timed=False)
    facts = published_facts(log.items, pairs.items)
    opened = panel_of(str(palate.starter("films").folder), pairs.items, "LOG", facts)
    everybody = people_of(pairs, pairs.items, MatchedItems(np.arange(len(pairs.items)), {}), setting="LOG")[0]
    return everybody, dict(opened.inputs)


def best(scores: Any, shown: Interactions) -> Any:
    """The twenty films of the highest score that each hasn't got."""
    left = np.array(scores, np.float64)
    left[shown.owners(), shown.indices] = -np.inf
    return np.argsort(-left, axis=1)[:, :20]


def found(scores: Any, shown: Interactions, held: Interactions) -> float:
    """Of what was held out, the part among the twenty, of 20 at most."""
    lists = best(scores, shown)
    rows = [(lists[user], held.user(user).indices) for user in range(held.n_users)]
    return float(np.mean([len(np.intersect1d(row, own)) / min(20, len(own)) for row, own in rows if len(own)]))
