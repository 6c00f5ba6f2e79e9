"""Items in quarantine: a verdict puts them there, the next run learns nothing about them, and no list shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from palate_cli.cli import run
from palate_client.floors import Floors
from palate_common.algorithms import Algorithm, lent, verdict
from palate_common.algorithms.popularity import Popularity
from palate_common.errors import InputError, IntegrityError, RefusedError
from palate_common.interactions import Interactions
from palate_server.folder.quarantine import OPERATOR, Quarantine, QuarantineFullError
from palate_server.folder.server_folder import Site
from palate_server.ledger.extract import verify_extract
from palate_server.operation import judging
from palate_server.operation.releases import candidate, latest, publish
from palate_server.operation.schedule import trainings
from palate_server.operation.terms import check_config
from palate_server.service.problems import problems
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]
DEVICES, ITEMS, EPSILON, TASTE = 60, 12, 60.0, range(6, 12)


def card(extract: object) -> bytes:
    return b"card"


def histories(*, without: int, extra: tuple[int, ...] = ()) -> Interactions:
    """Everybody has all items of a taste but some, each others, and `extra`."""
    pairs = [(user, row) for user in range(DEVICES) for row in TASTE if (row + user) % len(TASTE) >= without]
    pairs += [(user, row) for user in range(DEVICES) for row in extra]
    users, rows = zip(*pairs, strict=True)
    return Interactions.from_pairs(users, rows, n_users=DEVICES, n_items=ITEMS)


HONEST = histories(without=2)
PUSHED = histories(without=3, extra=(0,))
"""Everybody sends the first item, which nobody has."""


def train(service: Any, given: Interactions = HONEST, steps: int = 1) -> str:
    """Train with some histories, and judge with honest ones; returns the run that was trained."""

    def before(coordinator: Any) -> None:
        service.devices.histories = HONEST if coordinator.terms.algorithm == "verdict" else given

    service.devices.before = before
    service.operate(steps)
    with service.site.ledger(read_only=True) as ledger:
        return str(unpublished(ledger))


@pytest.fixture
def service(make_service: Maker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A site whose models are judged, with lists of four."""
    monkeypatch.setattr(verdict, "LIST", 4)
    made = make_service(
        count=DEVICES, size=DEVICES, algorithm="popularity", every_hours=0.0, period=1e4, lifetime=1e4,
        epsilon=f'{EPSILON}\ndp = "central"', extra=f"[judging]\nepsilon = {EPSILON}\nquarantine_runs = 2\n",
    )  # fmt: skip
    made.devices.histories, made.devices.floors = HONEST, Floors(allow_central=True).for_few()
    return made


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
    service.site.quarantine.read("verdict", run="run-1", named=["item-3"], until=2)
    assert run(["serve", "quarantine", folder, "--lift", "item-1", "--json"]) == 0
    told = [(each["item"], each["by"], each["runs_left"]) for each in json.loads(capsys.readouterr().out)]
    assert told == [("item-2", "operator", 4), ("item-3", "run-1", 2)]
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
            assert judging.put_in_quarantine(site, ledger, held) == ("item-0",)
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
    noted.read("verdict-1", run="run-1", named=["a", "b"], until=3)
    noted.read("verdict-1", run="run-1", named=["c"], until=9)
    noted.add(["b"], until=2)
    found = [(each.item, each.by, each.until) for each in noted.items(trainings=2)]
    assert found == [("a", "run-1", 3), ("b", "run-1", 3)], "a verdict is read once, and the longer time counts"
    noted.add(["b"], until=4)
    assert [each.by for each in noted.items(trainings=3)] == [OPERATOR]
    assert [noted.was_read(each) for each in ("verdict-1", "verdict-2")] == [True, False]
    with pytest.raises(InputError, match="must name items in quarantine, got 'a'"):
        noted.lift(["a"], trainings=3)
    noted.file.write_bytes(b"{}[")
    with pytest.raises(IntegrityError, match=r"quarantine\.json must be what Palate wrote"):
        noted.items(trainings=0)
