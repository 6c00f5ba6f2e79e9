"""Items in quarantine: a verdict puts them there, the next run learns nothing about them, and no list shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from judged import HONEST, ITEMS, PUSHED, TASTE, card, histories, train

from palate_cli.cli import run
from palate_common.algorithms import Algorithm, lent
from palate_common.algorithms.popularity import Popularity
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_server.folder.quarantine import KEPT, OPERATOR, Quarantine, QuarantinedItem, QuarantineFullError
from palate_server.folder.server_folder import Site
from palate_server.ledger.extract import verify_extract
from palate_server.operation import judging
from palate_server.operation.releases import candidate, latest, publish, verdicts_on
from palate_server.operation.schedule import trainings
from palate_server.operation.terms import check_config
from palate_server.service.problems import problems
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]


@pytest.fixture
def service(make_judged: Maker) -> Any:
    """A site whose models are judged."""
    return make_judged(judging="quarantine_runs = 2\n")


def wrong(service: Any) -> dict[str, str]:
    return {each.code: each.said for each in problems(service.site, now=0.0, parts={})}


def test_who_pushes_an_item_gets_it_left_out_and_the_rest_is_published(service: Any) -> None:
    publish(service.site, train(service, steps=2), card)
    good = latest(service.site)
    held = train(service, PUSHED, steps=2)
    with pytest.raises(RefusedError, match="devices have 'item-0' in"):
        publish(service.site, held, card)
    (told,) = service.events("quarantined")
    assert (told["run"], told["items"], told["runs"]) == (held, ["item-0"], 2)
    assert "item-0" in wrong(service)["items_quarantined"]
    again = train(service, PUSHED, steps=2)
    found = publish(service.site, again, card)
    assert found.version > good.version, "attackers who go on hold nothing up"
    assert found.model.quarantined.tolist() == [0]
    assert found.model.state["counts"][0] == good.model.state["counts"][0], "its row is as it was published last"
    scores = found.model.scores(HONEST.user(0))[0]
    assert scores.argmin() == 0
    with service.site.ledger(read_only=True) as ledger:
        terms = candidate(service.site, ledger, again).terms
        payload = card_payload(verify_extract(ledger.extract(again, service.site.key()), service.site.key().public))
    assert (terms.about["quarantined"], payload["quarantined"]) == (1, 1)
    assert [event["words"] for event in service.events("judged")][-1] == ""
    publish(service.site, train(service, PUSHED, steps=2), card)
    with service.site.ledger(read_only=True) as ledger:
        assert service.site.quarantine.items(trainings=trainings(ledger)) == (), "it ends by itself"
    free = train(service, steps=2)
    assert publish(service.site, free, card).model.quarantined.tolist() == []
    assert "items_quarantined" not in wrong(service)


def test_an_item_that_nobody_sees_needs_no_proof_and_one_that_people_see_does(make_judged: Maker) -> None:
    """A share of accusers so large that nothing is proved; a noise so small that a verdict says what a model shows."""
    service = make_judged(judging="quarantine_runs = 2\nquarantine_accusers = 0.4\n", verdicts=400.0)
    first = train(service, PUSHED, steps=2)
    (told,) = service.events("quarantined")
    assert (told["run"], told["items"], told["unproved"]) == (first, ["item-0"], ["item-0"])
    found = publish(service.site, train(service, PUSHED, steps=2), card)
    assert found.model.quarantined.tolist() == [0], "a population's first model may be attacked as well"
    with service.site.ledger(read_only=True) as ledger:
        now = trainings(ledger)
    service.site.quarantine.lift(["item-0"], trainings=now)
    held = train(service, PUSHED, steps=2)
    with pytest.raises(RefusedError, match="devices have 'item-0' in"):
        publish(service.site, held, card)
    assert len(service.events("quarantined")) == 1, "what an operator has lifted takes a proof"
    service.site.quarantine.add(["item-0"], until=now + 1)  # over already: from now on as any other
    train(service, PUSHED, steps=2)
    assert [each["items"] for each in service.events("quarantined")] == [["item-0"]] * 2, (
        "the model in use shows it to nobody"
    )
    accused = train(service, steps=2, judges=histories(without=2, items=TASTE[1:]))
    with pytest.raises(RefusedError, match="devices have 'item-6' in"):
        publish(service.site, accused, card)
    assert len(service.events("quarantined")) == 2, "people see it, and false votes alone don't bury it"
    file, config = service.site.quarantine.file, service.site.config_file
    config.write_text(config.read_text() + "quarantine_items = 1\n")
    site, in_use = Site.at(service.site.folder), found.model.hash
    with site.ledger(read_only=True) as ledger:
        for there, put in ((["item-1"], []), ([], ["item-0"])):
            file.unlink()
            site.quarantine.add(there, until=99)
            named = judging.put_in_quarantine(site, ledger, held)
            assert [each.item for each in named] == put, "as many as there is room for: they end no training"
        file.unlink()
        (site.folder / "items").write_bytes(b"item-0\n")
        assert judging.put_in_quarantine(Site.at(site.folder), ledger, held) == (), "it is all that there is left"
        among = judging._seen(site, ledger, in_use, ("new", *site.catalogue.items))
        assert (among & {0, 1}, among >= {row + 1 for row in TASTE}) == (set(), True)
        shutil.rmtree(site.run(verdicts_on(ledger, found.manifest.model_dump()["run"]).said))
        assert len(judging._seen(site, ledger, in_use, site.catalogue.items)) == ITEMS, "nobody knows what it shows"


def test_after_new_items_a_count_stays_with_its_item(service: Any) -> None:
    publish(service.site, train(service, steps=2), card)
    counts = latest(service.site).model.state["counts"]
    file = service.site.folder / "items"
    file.write_text(file.read_text() + "new\n")
    service.operate()
    service.site = site = Site.at(service.site.folder)
    site.quarantine.add(["new", "item-6", "gone"], until=9)
    with site.ledger(read_only=True) as ledger:
        inputs = judging.quarantined(site, ledger)
    assert inputs["quarantined"].tolist() == [int(row in (6, ITEMS)) for row in range(ITEMS + 1)]
    with site.ledger(read_only=True) as ledger:
        found = candidate(site, ledger, train(service, replace(HONEST, n_items=ITEMS + 1))).model.state["counts"]
    assert (found[6], found[ITEMS]) == (counts[6], 0.0)


def test_what_an_operator_lifts_stays_lifted_and_what_they_add_is_left_out(service: Any) -> None:
    train(service, PUSHED, steps=2)
    with service.site.ledger(read_only=True) as ledger:
        now = trainings(ledger)
        service.site.quarantine.lift(["item-0"], trainings=now)
        service.site.quarantine.add(["item-7"], until=now + 1)
    trained = train(service)
    with service.site.ledger(read_only=True) as ledger:
        found = candidate(service.site, ledger, trained)
        assert found.model.quarantined.tolist() == [7], "a verdict is read once"
        assert found.model.state["counts"][7] == 0.0, "it was never published"
        arrays = judging.question(service.site, ledger, trained)[1]
    assert arrays["quarantined"].tolist() == [int(row == 7) for row in range(ITEMS)], "nor do devices judge it"


def test_an_operator_lists_adds_and_lifts(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = str(service.site.folder), service.site.config_file
    file.write_text(file.read_text() + "quarantine_items = 8\n")
    assert run(["serve", "quarantine", folder, "--add", "item-1", "--add", "item-2", "--runs", "4"]) == 0
    assert capsys.readouterr().out == (
        "item-1: 4 more runs, by the operator\nitem-2: 4 more runs, by the operator\n2 items in quarantine\n"
    )
    service.site.quarantine.read("verdict", [QuarantinedItem(item="item-3", by="run-1", until=2, proved=False)])
    assert run(["serve", "quarantine", folder, "--lift", "item-1", "--json"]) == 0
    told = [tuple(each.values()) for each in json.loads(capsys.readouterr().out)]
    assert told == [("item-2", "operator", 4, True), ("item-3", "run-1", 2, False)]
    assert run(["serve", "quarantine", folder]) == 0
    assert "item-3: 2 more runs, by the verdict on run run-1, named and not proved" in capsys.readouterr().out
    for wrong_, said in (
        (["--add", "item-99"], "`--add` must name items of the catalogue, got 'item-99'"),
        (["--lift", "item-1"], "`--lift` must name items in quarantine, got 'item-1'"),
        (["--runs", "2"], "`--runs` must come with `--add`"),
        (["--add", "item-5", "--lift", "item-1"], "`--lift` must name items in quarantine, got 'item-1'"),
        (["--add", "item-2", "--lift", "item-2"], "`--lift` must name other items than `--add`, got 'item-2' in both"),
        (["--add", "item-5", "--runs", str(10**20)], "1000"),
        ([f"--add=item-{row}" for row in range(9)], "`--add` must leave at most `judging.quarantine_items` = 8 items"),
    ):
        assert run(["serve", "quarantine", folder, *wrong_]) == 2
        assert said in capsys.readouterr().err
        left = [each.item for each in service.site.quarantine.items(trainings=0)]
        assert left == ["item-2", "item-3"], "what is wrong changes nothing"
    assert run(["serve", "quarantine", folder, "--lift", "item-2", "--lift", "item-3"]) == 0
    assert capsys.readouterr().out == "no item is in quarantine\n"


def test_a_verdict_names_items_of_the_catalogue_that_was_judged(service: Any) -> None:
    publish(service.site, train(service, steps=2), card)
    held = train(service, PUSHED, steps=2)
    file, items = service.site.quarantine.file, service.site.folder / "items"
    kept, former = json.loads(file.read_bytes()), items.read_text()
    for changed in (f"before\n{former}", "alone\n"):
        file.unlink()  # killed before it was read, and started again with other items
        items.write_text(changed)
        site = Site.at(service.site.folder)
        with site.ledger(read_only=True) as ledger:
            assert [each.item for each in judging.put_in_quarantine(site, ledger, held)] == ["item-0"]
        assert json.loads(file.read_bytes())["items"] == kept["items"]
        with pytest.raises(RefusedError, match="devices have 'item-0' in"):
            publish(site, held, card)
    file.unlink()
    for each in site.models.glob("*/items"):
        each.write_text("alone\n")
    with site.ledger(read_only=True) as ledger:
        assert judging.put_in_quarantine(site, ledger, held) == ()
        assert not site.quarantine.was_read(kept["read"][-1]), "it is read once its items are back"
    with pytest.raises(RefusedError, match="devices have the item of row 0"):
        publish(site, held, card)


def test_a_verdict_that_cant_be_read_holds_up_its_model_alone(service: Any) -> None:
    held = train(service, PUSHED, steps=2)
    (read,) = json.loads(service.site.quarantine.file.read_bytes())["read"]
    service.site.quarantine.file.unlink()
    shutil.rmtree(service.site.run(read))
    after = train(service)
    (told,) = service.events("verdict refused")
    assert (told["run"], after != held) == (held, True)
    with pytest.raises(IntegrityError):
        publish(service.site, held, card)


def test_with_more_than_may_be_nothing_is_trained(service: Any) -> None:
    file = service.site.config_file
    file.write_text(file.read_text() + "quarantine_items = 1\n")
    service.site = Site.at(service.site.folder)
    service.site.quarantine.add(["item-1", "item-2"], until=5)
    with service.site.ledger(read_only=True) as ledger, pytest.raises(QuarantineFullError, match="got 2"):
        judging.check_quarantine(service.site, ledger)
    service.operate()
    assert service.events("opened") == []
    assert "there must be at most `judging.quarantine_items` = 1" in service.events("refused")[0]["reason"]
    assert "2 items" in wrong(service)["quarantine_full"]
    service.site.quarantine.lift(["item-1"], trainings=0)
    with service.site.ledger(read_only=True) as ledger:
        judging.check_quarantine(service.site, ledger)


def test_all_of_a_small_catalogue_is_never_left_out(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = service.site.config_file
    file.write_text(file.read_text() + f"quarantine_items = {ITEMS}\n")
    service.site = Site.at(service.site.folder)
    every = [f"item-{row}" for row in range(ITEMS)]
    assert run(["serve", "quarantine", str(service.site.folder), *(f"--add={each}" for each in every)]) == 2
    assert "`--add` must leave an item that is not in quarantine, got all 12 there" in capsys.readouterr().err
    service.site.quarantine.add(every, until=5)
    service.operate()
    assert service.events("opened") == []
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
        with pytest.raises(InputError, match=r"`judging.quarantine_runs` must be 0 .*, got 2 with 'silent'"):
            check_config(site.config, n_items=ITEMS, inputs={})
        assert run(["serve", "quarantine", str(site.folder), "--add=item-1"]) == 2
        assert "`--add` must leave no item in quarantine with an algorithm that can't" in capsys.readouterr().err
        site.quarantine.add(["item-1"], until=5)
        with site.ledger(read_only=True) as ledger, pytest.raises(QuarantineFullError, match="'silent', got 1"):
            judging.check_quarantine(site, ledger)


def test_what_is_added_in_a_training_is_left_out_of_the_next(service: Any) -> None:
    def before(coordinator: Any) -> None:
        if coordinator.terms.algorithm != "verdict":
            assert run(["serve", "quarantine", str(service.site.folder), "--add", "item-7", "--runs", "1"]) == 0
            service.devices.before = lambda _: None

    service.devices.before = before
    service.operate(2)
    service.operate()
    with service.site.ledger(read_only=True) as ledger:
        found = candidate(service.site, ledger, str(unpublished(ledger))).model
    assert found.quarantined.tolist() == [7]


def test_the_file_keeps_the_longer_time_and_is_refused_where_it_is_damaged(tmp_path: Any) -> None:
    noted = Quarantine(tmp_path / "quarantine.json")
    assert noted.items(trainings=0) == ()
    for items, until in (("ab", 3), ("c", 9)):
        noted.read("verdict-1", [QuarantinedItem(item=each, by="run-1", until=until) for each in items])
    noted.add(["b"], until=2)
    found = [(each.item, each.by, each.until) for each in noted.items(trainings=2)]
    assert found == [("a", "run-1", 3), ("b", "run-1", 3)], "a verdict is read once, and the longer time counts"
    noted.add(["b"], until=4)
    assert [each.by for each in noted.items(trainings=3)] == [OPERATOR]
    assert [noted.was_read(each) for each in ("verdict-1", "verdict-2")] == [True, False]
    with pytest.raises(InputError, match="must name items in quarantine, got 'a'"):
        noted.lift(["a"], trainings=3)
    for number in range(2, KEPT + 2):
        noted.read(f"verdict-{number}", ())
    assert [noted.was_read(each) for each in ("verdict-1", "verdict-2")] == [False, True], "the file is bounded"
    noted.file.write_bytes(b"{}[")
    with pytest.raises(IntegrityError, match=r"quarantine\.json must be what Palate wrote"):
        noted.items(trainings=0)
