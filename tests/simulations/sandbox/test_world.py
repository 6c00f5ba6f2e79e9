"""A small sandbox, lived once with real devices, rounds and surveys; each test looks at it from another side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate_cli.cli import run
from palate_client.events import HISTORY
from palate_core.errors import InputError
from palate_sandbox.catalogue import TOPICS, _kinds, _upright, catalogue
from palate_sandbox.config import Habits, SandboxConfig, load
from palate_sandbox.loyalty import truth, weekly_leads
from palate_sandbox.population import BEFORE, Population, by_chance, by_popularity, exploring, halved
from palate_sandbox.report import facts, lived_under
from palate_sandbox.world import SandboxWorld, monday_before
from palate_sim.data import read_log
from palate_sim.data.features import item_table

TODAY = date(2026, 11, 28)
SMALL = {
    "scenario": "news",
    "people": 6,
    "crowd": 500,
    "items": 60,
    "days": 16,
    "habits": {"arrival_days": 2.0, "erases": 1.0, "train": 1.0, "analytics": 1.0, "messages": 1.0},
    "operation": {"test_week": 0, "first_training": 3, "every_days": 7},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxWorld]:
    with SandboxWorld(load(None, SMALL), tmp_path_factory.mktemp("sandbox"), today=TODAY) as made:
        for _ in made.live():
            pass
        yield made


def test_devices_hold_what_their_people_did_and_nothing_else(world: SandboxWorld) -> None:
    assert world.persons
    for row, person in world.persons.items():
        days = np.flatnonzero(world.people.visits[row])
        every, had = list(person.device.store.events()), world.people.taken_on[row] == BEFORE
        events = [each for each in every if not each.id.startswith(HISTORY)]
        brought = {each.item for each in every if each.id.startswith(HISTORY)}
        assert brought == {world.catalogue.items[item] for item in np.flatnonzero(had)} != set()
        assert {int((float(each.time) - world.clock.began) // 86_400) for each in events} == set(days.tolist())
        took = {each.item for each in events if each.kind == "click"}
        assert took == {world.catalogue.items[item] for item in np.flatnonzero(world.people.taken_on[row] >= 0)}
        assert person.device.loyalty().active_days == len(days)


def test_rounds_and_surveys_are_charged_to_both_ledgers(world: SandboxWorld) -> None:
    with world.operator.site.ledger(read_only=True) as ledger:
        entries = ledger.entries()
    charges = [entry for entry in entries if entry.kind == "charge"]
    assert {entry.kind for entry in entries} >= {"budget", "open", "charge", "seal", "close", "publish"}
    assert len(charges) >= 4
    oldest = min(world.persons, key=lambda row: world.people.arrival[row])
    report = world.persons[oldest].device.privacy_report()
    assert report.spending is not None
    assert report.spending.participations == len(charges)
    assert 0 < (report.spending.epsilon or 0) <= 8
    assert all(receipt.time < world.clock.now + 1 for receipt in report.spending.receipts), "by the sandbox's clock"
    assert {each.reason.value for person in world.persons.values() for each in person.messenger.deliveries()}


def test_figures_stand_beside_the_truth_with_error_bars(world: SandboxWorld) -> None:
    found = facts(world)
    json.dumps(found, allow_nan=False)
    figures = found["surveys"]["figures"]
    assert {each["name"] for each in figures} >= {"dau", "wau", "mau", "stickiness", "churn", "retention"}
    assert found["surveys"]["told"] >= 10
    assert found["surveys"]["hold"] >= found["surveys"]["told"] - 5  # 95 % each
    assert set(found["tests"]) == {"0"}
    assert found["tests"]["0"] is None or abs(found["tests"]["0"]["true"]) < 1
    assert found["people"]["ever"] > found["people"]["left"] == found["people"]["erased"] > 0
    assert set(found["policies"]) == {"palate", "none (shadow)", "popularity (shadow)"}
    assert found["privacy"]["unit"].startswith("user")


def test_who_leaves_and_erases_leaves_no_store(world: SandboxWorld) -> None:
    gone = [row for row in range(6) if world.people.erased_on[row] <= world.today]
    for row in gone:
        assert row not in world.persons
        assert [path.name for path in (world.folder / "people" / f"{row:04d}").iterdir()] == ["lock"]
    assert world.people.there(world.today).sum() < (world.people.arrival <= world.today).sum()


def test_the_same_people_meet_the_same_chance_under_another_policy(world: SandboxWorld) -> None:
    shadow = world.shadows["none"]
    assert np.array_equal(shadow.arrival, world.people.arrival)
    first = world.people.arrival == 0
    assert np.array_equal(shadow.visits[first, 0], world.people.visits[first, 0])
    assert not np.array_equal(shadow.visits, world.people.visits)


def test_a_switch_is_noted_and_holds_from_the_next_day(world: SandboxWorld) -> None:
    world.switch("popularity")
    world.switch("popularity")
    assert world.chronicle.policies == {0: "palate", world.today: "popularity"}
    assert lived_under(world) == "palate", "nobody has lived under the other one yet"
    world.chronicle.policies[world.today - 1] = world.chronicle.policies.pop(world.today)
    assert next(iter(facts(world)["policies"])) == "switched", "not the latest policy's name on what others brought"


def test_truth_is_what_definitions_say() -> None:
    visits = np.zeros((3, 40), bool)
    visits[0, [0, 7, 30]] = visits[1, [1, 2, 9]] = visits[2, [33, 34]] = True
    arrival = np.array([0, 1, 33])
    week = truth(visits, arrival, first=7)
    assert week["dau", 7] == week["dau", 9] == 1
    assert (week["wau", ""], week["mau", ""]) == (2, 2)
    assert week["churn", ""] == 0
    assert week["stickiness", ""] == pytest.approx(2 / 7 / 2)
    assert (week["retention", "7"], week["retention_after", "7"]) == (0.5, 1.0)
    later = truth(visits, arrival, first=28)
    assert later["churn", ""] == pytest.approx(1 / 3)
    assert (later["retention", "1"], later["retention", "30"], later["mau", ""]) == (1.0, 0.5, 3)


def test_what_people_had_before_follows_their_taste_and_no_list_shows_it(world: SandboxWorld) -> None:
    people = Population(world.catalogue, Habits(had_before=5), n=2000, days=5, seed=3)
    had = people.taken_on == BEFORE
    assert 4 < had.sum(axis=1).mean() < 6
    assert had.any(axis=1).all()
    assert people.odds[had].mean() > people.odds.mean() + 0.5 * people.odds.std()
    lists = by_popularity(people, had.sum(axis=0))(np.arange(2000))
    assert not had[np.arange(2000)[:, None], lists].any()


def test_a_week_has_the_visits_that_the_same_people_make_more_with_their_interval(world: SandboxWorld) -> None:
    leads = weekly_leads(world.people, world.shadows["none"], until=16)
    there = world.people.arrival <= 15
    more = (world.people.visits[there, 9:16].astype(float) - world.shadows["none"].visits[there, 9:16]).sum(axis=1)
    assert leads[15] == pytest.approx((more.mean(), 1.96 * more.std(ddof=1) / np.sqrt(there.sum())), rel=1e-3)
    assert leads[0] == (0.0, 0.0), "before there is a model, both lives are the same"


def test_a_catalogue_is_in_words_that_people_use() -> None:
    frame = pd.DataFrame({"user": np.arange(300) % 150, "item": np.repeat(["1", "2", "3"], 100)})
    rows = ["GROCERY|FRZN VEGETABLE/VEG DSH", "DRUG GM|COUPON/MISC ITEMS", "GROCERY|FRZN VEGETABLE/VEG DSH"]
    log = replace(read_log(frame), items=item_table(pd.Series(["1", "2", "3"]), None, pd.Series(rows)))
    bought, kinds = _kinds(log)
    assert kinds[["title", "genres"]].to_numpy().tolist() == [["Frozen vegetable, vegetables dishes", "Grocery"]]
    assert bought["item_id"].nunique() == 1
    assert len(bought) == 200
    assert _upright("Godfather, The (1972)") == "The Godfather (1972)"
    assert _upright("Boat (Boot, The) (1981)") == "Boat (Boot, The) (1981)"
    news = catalogue("news", items=60, seed=0)
    assert all(title.startswith(tuple(TOPICS["news"][genres[0]].split("|"))) or len(genres) > 1
               for title, genres in zip(news.titles, news.genres, strict=True))  # fmt: skip


def test_lists_leave_out_what_is_known_and_halve_their_pages_in_arm_b(world: SandboxWorld) -> None:
    people = Population(world.catalogue, Habits(had_before=0), n=50, days=5, seed=3)
    rows = np.arange(50)
    people.taken_on[:, :20] = 0
    counts = np.arange(60)[::-1]
    for shelf in (by_popularity(people, counts), by_chance(people, 0)):
        lists = shelf(rows)
        assert lists.shape == (50, 30)
        assert all(len(set(row)) == len(row) for row in lists.tolist())
    assert by_popularity(people, counts)(rows)[:, 0].tolist() == [20] * 50
    explored = exploring(people, 0, by_popularity(people, counts), 0.5)(rows)
    assert 0.2 < (explored != by_popularity(people, counts)(rows)).mean() < 0.6
    short = halved(lists, 10, np.arange(50) < 25)
    assert (short[:25] >= 0).sum(axis=1).tolist() == [15] * 25
    assert short[0, :5].tolist() == lists[0, :5].tolist()
    assert np.array_equal(short[25:], lists[25:])


def test_where_nobody_agrees_they_live_without_rounds_and_surveys(tmp_path: Path) -> None:
    given = {**SMALL, "crowd": 60, "people": 1, "days": 9, "habits": {"train": 0.0, "analytics": 0.0}}
    with SandboxWorld(load(None, given), tmp_path, today=TODAY) as made:
        for _ in made.live():
            pass
        found = facts(made)
    assert found["days"] == 9
    assert found["privacy"]["epsilon"] == 0
    assert found["refused"] == [(2, "training", "too few agree to it"), (7, "survey", "too few agree to it")]


def test_nobody_lives_in_the_future() -> None:
    begun = monday_before(TODAY, 60)
    assert begun.weekday() == 0
    assert (TODAY - begun).days >= 60


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scenario": "books"}, "`scenario`"),
        ({"days": 0}, "`days`"),
        ({"habits": {"taste": -1}}, "`habits.taste`"),
        ({"people": 1, "crowd": 1}, "40 together"),
        ({"habits": {"arrival_days": 1e308}}, "`habits.arrival_days`"),
        ({"operation": {"test_week": 10**9}}, "`operation.test_week`"),
    ],
)
def test_what_makes_no_sandbox_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(None, given)


def test_assumptions_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("days = 9\n[habits]\nleaving = 0.5\n")
    assert (load(file).days, load(file, {"days": 3}).days, load(file).habits.leaving) == (9, 3, 0.5)
    assert load().model_dump() == SandboxConfig().model_dump()
    for broken in ("days = ", "nights = 3"):
        file.write_text(broken)
        with pytest.raises(InputError):
            load(file)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (
        ["--headless-report", "/proc/x"],
        ["--days", "0"],
        ["--scenario", "x"],
        ["--assumptions", "none.toml"],
        ["--headless-report", "/no/x"],
    ):
        assert run(["sandbox", *given]) == 2
        said = capsys.readouterr().err
        assert said.startswith("palate: ")
        assert said.count("\n") == 1
