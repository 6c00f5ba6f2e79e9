"""Items that are added: devices have them before a run over them is opened, and nothing is charged for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate_audit.run.ledger import audit_ledger
from palate_cli.cli import run
from palate_common.models import published
from palate_common.models.item_table import ItemFacts
from palate_core.errors import InputError
from palate_core.log.canonical import digest
from palate_server.folder.server_folder import Site
from palate_server.operation.outlook import read_outlook
from palate_server.operation.releases import EXTENDS, catalogue_out, latest, publish, publish_items
from palate_server.operation.runs import begin
from palate_server.rounds.terms import RunTerms
from palate_server.service.problems import problems
from palate_sim.card.card import card_payload, sign_card

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]
MORE = ("item-12", "item-13")


def add(service: Any, folder: Path, *options: str) -> int:
    """Give the command the list with two more items, in another order."""
    file = folder / "more"
    items = service.site.catalogue.items[:12]
    file.write_text("".join(f"{item}\n" for item in (MORE[0], *reversed(items), MORE[1])))
    return run(["serve", "items", str(service.site.folder), str(file), *options])


def codes(service: Any, clock: Any) -> dict[str, str]:
    return {each.code: each.said for each in problems(service.site, now=clock.now, parts=None)}


def terms(service: Any) -> list[RunTerms]:
    with service.site.ledger(read_only=True) as ledger:
        return [RunTerms.model_validate(each.facts) for each in ledger.entries() if each.kind == "open"]


def spent(service: Any) -> float:
    with service.site.ledger(read_only=True) as ledger:
        return ledger.spent()


def test_a_run_is_opened_over_a_catalogue_that_devices_have_got_without_a_round(
    make_service: Maker, clock: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(every_hours=0.0, algorithm="als", epsilon=6.0)
    service.operate()
    (trained,) = [event["run"] for event in service.events("closed")]
    key = service.site.key()
    before = publish(service.site, trained, lambda extract: sign_card(card_payload(extract), key))
    paid, files = spent(service), (service.site.folder / "items").read_bytes()
    assert add(service, tmp_path, "--dry-run") == 0
    assert "would add: 2 items · kept: 12 · refused: none" in capsys.readouterr().out
    assert (service.site.folder / "items").read_bytes() == files
    assert add(service, tmp_path) == 0
    assert codes(service, clock)["items_waiting"] == "2 item(s) were added, and devices don't have them yet"
    service.operate()
    found = latest(service.site)
    assert (found.items, found.version > before.version) == ((*before.items, *MORE), True)
    assert (found.manifest.run, found.manifest.card) == (trained, before.manifest.card)
    assert getattr(found.manifest, EXTENDS) == {"model_hash": before.model.hash, "items": 12}
    assert (found.model.state["counts"][:12] == before.model.state["counts"]).all()
    assert (found.manifest.releases, spent(service)) == (before.manifest.releases, paid)
    assert len(service.events("opened")) == 1, "who is online has the former model, and comes back for this one first"
    assert set(service.devices.home.values()) == {20}
    assert "items_waiting" not in codes(service, clock)
    clock.now += 61.0
    service.devices.histories = replace(service.devices.histories, n_items=14)
    service.operate()
    assert [each.facts.n_items for each in terms(service)] == [12, 14]
    assert service.events("aborted") == []
    assert terms(service)[1].about["builds_on"]["model_hash"] == before.model.hash, (
        "what the ledger closed that run with"
    )
    assert audit_ledger(service.site.folder).alarms == ()
    assert publish(service.site, service.events("closed")[-1]["run"], lambda extract: b"card").items == found.items


def test_devices_get_titles_and_what_an_app_adds_without_a_round(
    make_service: Maker, clock: Any, tmp_path: Path
) -> None:
    service = make_service(every_hours=0.0, algorithm="als", epsilon=6.0)
    service.operate()
    (trained,) = [event["run"] for event in service.events("closed")]
    key = service.site.key()
    before = publish(service.site, trained, lambda extract: sign_card(card_payload(extract), key))
    assert before.table is None
    paid, file = spent(service), tmp_path / "items.csv"
    rows = "".join(f"{item},Title of {item} (1999),Drama|War,{row}\n" for row, item in enumerate(before.items))
    file.write_text(f"item_id,title,genres,stock\n{rows}")
    assert run(["serve", "items", str(service.site.folder), str(file)]) == 0
    service.operate()
    found = latest(service.site)
    facts = ItemFacts("item-3", "Title of item-3", 1999, kinds=("Drama", "War"), more={"stock": 3})
    assert found.table.get("item-3") == facts
    assert (found.version > before.version, spent(service), found.model.hash) == (True, paid, before.model.hash)
    signed = {name: found.files[name] for name in (published.MANIFEST, published.SIGNATURE)}
    had = service.site.models / digest(before.files[published.MANIFEST])
    small = published.read(had, public_key=key.public, small=True)
    assert published.wanted_files(signed, public_key=key.public, have=small.files) == (published.TABLE,)
    assert run(["serve", "items", str(service.site.folder), str(file)]) == 0
    service.operate()
    assert latest(service.site).version == found.version, "what devices have isn't published again"
    assert audit_ledger(service.site.folder).alarms == ()
    file.write_text("item_id,title\n" + "".join(f"{item},Other\n" for item in before.items))
    assert run(["serve", "items", str(service.site.folder), str(file)]) == 0
    again = publish(service.site, trained, lambda extract: b"card")
    assert again.table.titles["item-3"] == "Other", "whatever is published has what the folder has now"


def test_prices_and_rules_come_as_some_hundred_bytes_without_a_round(
    make_service: Maker, clock: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(every_hours=0.0, algorithm="als", epsilon=6.0)
    file, items = tmp_path / "items.json", [*service.site.catalogue.items]
    rows = [{"id": item, "title": digest(item.encode()), "price": row} for row, item in enumerate(items)]

    def given(rules: str = "") -> published.Published:
        file.write_text(json.dumps(rows))
        (tmp_path / "rules.toml").write_text(rules or "rule = []")
        assert run(["serve", "items", str(service.site.folder), str(file)]) == 0
        assert run(["serve", "rules", str(service.site.folder), str(tmp_path / "rules.toml")]) == 0
        assert publish_items(service.site.afresh()) is not None
        assert publish_items(service.site.afresh()) is None, "what devices have isn't published again"
        name = json.loads((service.site.models / "latest").read_text())["manifest"]
        return published.read(service.site.models / name, public_key=service.site.key().public, small=True)

    def wanted(now: published.Published, had: published.Published) -> dict[str, int]:
        names = published.wanted_files(now.files, public_key=service.site.key().public, have=had.files)
        return {name: len(now.files[name]) for name in names}

    first = given()
    rows[3] |= {"price": 99, "stock": 0}
    second = given('[[rule]]\nwhere = "price > 50"\nexclude = true\n')
    assert {*wanted(second, first)} == {published.CHANGES, published.RULES}
    assert max(wanted(second, first).values()) < 250
    assert second.table.get(items[3]).more == {"price": 99, "stock": 0}
    assert [each.where for each in second.rules] == ["price > 50"]
    del rows[3]["stock"]
    rows[3]["price"] = 3
    rows.append({"id": "more", "title": "One more"})
    third = given()
    assert (third.items[-1], third.table.titles["more"], third.rules) == ("more", "One more", ())
    assert published.TABLE not in wanted(third, second)
    rows[:12] = [row | {"title": "Other " + row["title"]} for row in rows[:12]]
    assert published.CHANGES not in given().files, "the whole is written anew once it is shorter"
    assert (spent(service), service.events("opened")) == (0.0, [])
    capsys.readouterr()
    bad = {"price <": "rule 1: `where` must have a number at", "prize < 3": "must have one of .*price"}
    for text, error in bad.items():
        (tmp_path / "rules.toml").write_text(f'[[rule]]\nwhere = "{text}"\nexclude = true\n')
        assert run(["serve", "rules", str(service.site.folder), str(tmp_path / "rules.toml")]) == 2
        assert re.search(error, capsys.readouterr().err.replace("\n", " "))
    (tmp_path / "rules.toml").write_text('[[rule]]\npin = ["nothing"]\n')
    assert run(["serve", "rules", str(service.site.folder), str(tmp_path / "rules.toml")]) == 2
    assert run(["serve", "rules", str(service.site.folder)]) == 0
    assert capsys.readouterr().out == "rules: 0\n"
    assert audit_ledger(service.site.folder).alarms == ()


def test_an_open_run_is_finished_over_its_own_items(make_service: Maker, clock: Any, tmp_path: Path) -> None:
    service = make_service(every_hours=0.0, wait=1e-9, attempts=9)
    service.devices.before = lambda coordinator: service.devices.away.update({0, 1} if coordinator.round else set())
    service.operate()
    assert (len(service.events("opened")), service.events("closed")) == (1, [])
    assert add(service, tmp_path) == 0
    service.site = Site.at(service.site.folder)  # another process, which reads the new list
    service.operate()
    assert catalogue_out(service.site).items == service.site.catalogue.items[:12]
    service.devices.before, service.devices.away = lambda coordinator: None, set()
    service.operate()
    (closed,) = service.events("closed")
    assert closed["releases"] == closed["rounds"] > 1
    found = publish(service.site, closed["run"], lambda extract: b"card")
    assert len(found.items) == 12, "the model of a run that ended before is of the items that devices have"
    service.operate()
    assert latest(service.site).items == service.site.catalogue.items
    again = publish(service.site, closed["run"], lambda extract: b"card")
    assert again.items == service.site.catalogue.items, "no later publication takes an item back"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda items: items[1:], "must keep each item that devices have, and lacks 'item-0'"),
        (lambda items: [*items[1:], items[0], "new"], "must begin with the items that devices have, in their order"),
        (lambda items: [*items, items[0]], "must name each item once"),
        (lambda items: [], "must name at least one item"),
    ],
)
def test_no_attempt_is_opened_that_devices_are_known_to_refuse_by_a_list_that_they_could_not_follow(
    make_service: Maker, clock: Any, made: Callable[[Any], Any], told: str
) -> None:
    service = make_service(every_hours=0.0)
    file, items = service.site.folder / "items", service.site.catalogue.items
    file.write_text("".join(f"{item}\n" for item in made(list(items))))
    service.operate(3)
    assert service.events("opened") == service.events("aborted") == []
    (event,) = service.events("items refused")
    assert told in event["reason"]
    assert told in codes(service, clock)["items_refused"]
    assert read_outlook(service.site, now=clock.now).next_run["at"] is None
    file.write_text("".join(f"{item}\n" for item in (*items, "new")))  # by hand, too
    with (
        service.site.ledger() as ledger,
        pytest.raises(InputError, match="must be over the items of the latest model"),
    ):
        begin(service.site.afresh(), ledger, None)
    service.operate()
    assert latest(service.site).items == (*items, "new")
    assert "items_refused" not in codes(service, clock)


def test_an_item_that_devices_have_is_not_removed(
    make_service: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service()
    (tmp_path / "fewer").write_text("item-3\nnew\n")
    assert run(["serve", "items", str(service.site.folder), str(tmp_path / "fewer")]) == 2
    said = capsys.readouterr().err
    assert "must keep each item that devices have, and lacks 'item-0' and 10 more" in said
