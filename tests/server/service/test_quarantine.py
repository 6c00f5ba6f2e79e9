"""Items in quarantine: an operator puts them there, the next runs learn nothing about them, and no list shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from palate_cli.cli import run
from palate_common.algorithms import Algorithm, lent
from palate_common.algorithms.popularity import Popularity
from palate_core.device.floors import Floors
from palate_core.errors import InputError, IntegrityError
from palate_server.folder.quarantine import Quarantine, QuarantineFullError
from palate_server.folder.server_folder import Site
from palate_server.ledger.extract import verify_extract
from palate_server.operation import left_out
from palate_server.operation.releases import candidate, latest, publish
from palate_server.operation.schedule import trainings
from palate_server.service.problems import problems
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload

ITEMS = 12


@pytest.fixture
def service(make_service: Callable[..., Any]) -> Any:
    """A site that trains whenever it is asked to."""
    budgets = {"period": 1e4, "lifetime": 1e4}
    made = make_service(algorithm="popularity", every_hours=0.0, epsilon='60.0\ndp = "central"', **budgets)
    made.devices.floors = Floors(allow_central=True).for_few()
    return made


def trained(service: Any) -> str:
    """Train; returns the run."""
    service.operate()
    with service.site.ledger(read_only=True) as ledger:
        return str(unpublished(ledger))


def publishes(service: Any) -> Any:
    return publish(service.site, trained(service), lambda _: b"card")


def wrong(service: Any) -> dict[str, str]:
    return {each.code: each.said for each in problems(service.site, now=0.0, parts={})}


def test_an_item_in_quarantine_is_learned_and_shown_no_more_until_it_is_over(service: Any) -> None:
    before = publishes(service).model.state["counts"][0]
    assert run(["serve", "quarantine", str(service.site.folder), "--add", "item-0", "--runs", "2"]) == 0
    assert "item-0" in wrong(service)["items_quarantined"]
    again = trained(service)
    found = publish(service.site, again, lambda _: b"card").model
    assert found.quarantined.tolist() == [0]
    assert found.state["counts"][0] == before, "its row is as it was published last"
    assert found.scores(service.devices.histories.user(0))[0].argmin() == 0
    with service.site.ledger(read_only=True) as ledger:
        terms = candidate(service.site, ledger, again).terms
        payload = card_payload(verify_extract(ledger.extract(again, service.site.key()), service.site.key().public))
    assert (terms.about["quarantined"], payload["quarantined"]) == (1, 1)
    publishes(service)
    with service.site.ledger(read_only=True) as ledger:
        assert service.site.quarantine.items(trainings=trainings(ledger)) == (), "it ends by itself"
    assert publishes(service).model.quarantined.tolist() == []
    assert "items_quarantined" not in wrong(service)


def test_after_new_items_a_count_stays_with_its_item(service: Any) -> None:
    publishes(service)
    counts = latest(service.site).model.state["counts"]
    file = service.site.folder / "items"
    file.write_text(file.read_text() + "new\n")
    service.operate()
    service.site = site = Site.at(service.site.folder)
    site.quarantine.add(["new", "item-6", "gone"], until=9)
    with site.ledger(read_only=True) as ledger:
        inputs = left_out.quarantined(site, ledger)
    assert inputs["quarantined"].tolist() == [int(row in (6, ITEMS)) for row in range(ITEMS + 1)]
    service.devices.histories = replace(service.devices.histories, n_items=ITEMS + 1)
    with site.ledger(read_only=True) as ledger:
        found = candidate(site, ledger, trained(service)).model.state["counts"]
    assert (found[6], found[ITEMS]) == (counts[6], 0.0)


def test_an_operator_lists_adds_and_lifts(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(service.site.folder)
    assert run(["serve", "quarantine", folder, "--add", "item-1", "--add", "item-2", "--runs", "4"]) == 0
    assert capsys.readouterr().out == "item-1: 4 more runs\nitem-2: 4 more runs\n2 items in quarantine\n"
    assert run(["serve", "quarantine", folder, "--add", "item-3"]) == 0
    capsys.readouterr()
    assert run(["serve", "quarantine", folder, "--lift", "item-1", "--json"]) == 0
    told = [tuple(each.values()) for each in json.loads(capsys.readouterr().out)]
    assert told == [("item-2", 4), ("item-3", 3)]
    for wrong_, said in (
        (["--add", "item-99"], "`--add` must name items of the catalogue, got 'item-99'"),
        (["--lift", "item-1"], "`--lift` must name items in quarantine, got 'item-1'"),
        (["--runs", "2"], "`--runs` must come with `--add`"),
        (["--add", "item-5", "--lift", "item-1"], "`--lift` must name items in quarantine, got 'item-1'"),
        (["--add", "item-2", "--lift", "item-2"], "`--lift` must name other items than `--add`, got 'item-2' in both"),
        (["--add", "item-5", "--runs", str(10**20)], "1000"),
    ):
        assert run(["serve", "quarantine", folder, *wrong_]) == 2
        assert said in capsys.readouterr().err
        left = [each.item for each in service.site.quarantine.items(trainings=0)]
        assert left == ["item-2", "item-3"], "what is wrong changes nothing"
    assert run(["serve", "quarantine", folder, "--lift", "item-2", "--lift", "item-3"]) == 0
    assert capsys.readouterr().out == "no item is in quarantine\n"


def test_all_of_a_small_catalogue_is_never_left_out(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    every = [f"item-{row}" for row in range(ITEMS)]
    assert run(["serve", "quarantine", str(service.site.folder), *(f"--add={each}" for each in every)]) == 2
    assert "`--add` must leave an item that is not in quarantine, got all 12 there" in capsys.readouterr().err
    service.site.quarantine.add(every, until=5)
    service.operate()
    assert service.events("opened") == []
    assert "an item that is not in quarantine" in service.events("refused")[0]["reason"]
    assert "quarantine_full" in wrong(service)


def test_an_algorithm_that_cant_leave_items_out_is_told_of_before_it_trains(
    service: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent(Popularity):
        name, item_rows = "silent", Algorithm.item_rows

    file = service.site.config_file
    file.write_text(file.read_text().replace('"popularity"', '"silent"'))
    with lent(Silent):
        site = Site.at(service.site.folder)
        assert run(["serve", "quarantine", str(site.folder), "--add=item-1"]) == 2
        assert "`--add` must leave no item in quarantine with an algorithm that can't" in capsys.readouterr().err
        site.quarantine.add(["item-1"], until=5)
        with site.ledger(read_only=True) as ledger, pytest.raises(QuarantineFullError, match="'silent', got 1"):
            left_out.check_quarantine(site, ledger)


def test_what_is_added_in_a_training_is_left_out_of_the_next(service: Any) -> None:
    def before(_: Any) -> None:
        assert run(["serve", "quarantine", str(service.site.folder), "--add", "item-7", "--runs", "1"]) == 0
        service.devices.before = lambda _: None

    service.devices.before = before
    assert publishes(service).model.quarantined.tolist() == []
    assert publishes(service).model.quarantined.tolist() == [7]


def test_the_file_keeps_the_longer_time_and_is_refused_where_it_is_damaged(tmp_path: Any) -> None:
    noted = Quarantine(tmp_path / "quarantine.json")
    assert noted.items(trainings=0) == ()
    noted.add(["b", "a"], until=3)
    noted.add(["b"], until=2)
    assert [(each.item, each.until) for each in noted.items(trainings=2)] == [("a", 3), ("b", 3)]
    noted.add(["b"], until=4)
    assert [each.item for each in noted.items(trainings=3)] == ["b"]
    with pytest.raises(InputError, match="must name items in quarantine, got 'a'"):
        noted.lift(["a"], trainings=3)
    noted.file.write_bytes(b"{}[")
    with pytest.raises(IntegrityError, match=r"quarantine\.json must be what Palate wrote"):
        noted.items(trainings=0)
