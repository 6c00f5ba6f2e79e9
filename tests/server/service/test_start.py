"""A server that starts from a model made elsewhere: lists are personal on the first day, and few don't spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate.starter import FOLDERS
from palate_cli.cli import run
from palate_cli.commands.serve.questions import read_catalogue
from palate_cli.commands.serve.running import _card_maker
from palate_client.starter import KEY_FILE
from palate_common.interactions import Interactions
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.models.published import Published, pack, write
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import latest, publish, warm_inputs
from palate_server.rounds.terms import RunTerms
from palate_server.service.setup import from_start
from palate_server.service.status import unpublished

Maker = Callable[..., Any]
SETTINGS = "[training.settings]\n{}\n"
LIKED = {
    "sample": [["book-1", "book-9", "book-17"], ["book-4", "book-12", "book-20"]],
    "films": [["0114709", "0266543", "1049413"], ["0078748", "0083658", "0088247"]],
}
"""What two kinds of people like: of one shelf; films with toys and fishes, and with aliens and robots."""


def listed(found: Published, liked: list[str], n: int = 8) -> list[str]:
    """The best items for somebody who likes these."""
    rows = [found.items.index(item) for item in liked]
    scores = np.array(
        found.model.scores(Interactions.from_pairs([0] * 3, rows, n_users=1, n_items=len(found.items)))[0]
    )
    scores[rows] = -np.inf
    return [found.items[row] for row in np.argsort(-scores)[:n]]


@pytest.mark.parametrize("name", ["sample", "films"])
def test_five_people_in_a_masked_round_leave_lists_personal(make_service: Maker, name: str) -> None:
    """As good as before: six of eight titles are those of before, and the other kind's list is another one."""
    start = from_start(FOLDERS[name], None)
    settings = SETTINGS.format("\n".join(f"{key} = {value}" for key, value in start.settings.items()))
    service = make_service(count=5, size=5, epsilon=1.19, algorithm="als", start=start, extra=settings)
    site, own = service.site, LIKED[name]
    before = latest(site)
    places = [[start.items.index(item) for item in own[user % 2]] for user in range(5)]
    rows = [row for each in places for row in each]
    users = [user for user in range(5) for _ in range(3)]
    service.devices.histories = Interactions.from_pairs(users, rows, n_users=5, n_items=len(start.items))
    service.operate(steps=3)
    with site.ledger(read_only=True) as ledger:
        run_ = unpublished(ledger)
    after = publish(site, run_, _card_maker(site.key))
    for liked in own:
        assert len({*listed(before, liked)} & {*listed(after, liked)}) >= 6
    assert not {*listed(after, own[0], 5)} & {*listed(after, own[1], 5)}
    users_ = start.model.model.header.facts.n_users
    assert before.elsewhere == after.elsewhere == users_ > 1000
    card = json.loads(next(site.models.glob("*/privacy_card.json")).read_bytes())
    assert f"one that was made elsewhere of {users_:,} people" in card["guarantee"]
    assert "which was charged to the same ledger" not in card["guarantee"]


def test_many_people_make_a_start_that_is_no_longer_named(make_service: Maker) -> None:
    start = from_start(FOLDERS["sample"], None)
    service = make_service(count=5, size=5, epsilon=1.19, algorithm="als", start=start)
    terms = {"builds_on": warm_inputs(service.site)[1]["builds_on"]}
    service.operate(steps=3)
    with service.site.ledger(read_only=True) as ledger:
        made = next(each for each in ledger.entries() if each.kind == "open").body["facts"]
    assert made["about"]["builds_on"] == terms["builds_on"]
    few = RunTerms.model_validate(made)
    many = few.model_copy(update={"facts": few.facts.model_copy(update={"n_users": 2000})})
    assert few.still_from["starts_from"]["users"] == 2000
    assert many.still_from == {}


def test_a_device_says_that_too_few_have_taken_part(make_service: Maker, tmp_path: Path) -> None:
    said = {
        "sample": {"en": "was learned elsewhere, from 2,000 others", "de": "von 2.000 anderen", "zh": "2,000 人"},
        "": {"en": "knows nothing of what people like", "de": "weiß nichts davon", "zh": "不知道人们喜欢什么"},
    }
    for name, words in said.items():
        start = from_start(FOLDERS[name], None) if name else None
        site = make_service(name or "none", algorithm="als", start=start).site
        assert latest(site).elsewhere == (2000 if name else 0)
        service = palate.Service(public_key=site.key().public, population="readers")
        device = palate.open(tmp_path / f"device-{name}", app="shop", key=palate.new_key(), service=service)
        device.consent.grant("store")
        assert device.update_model(next(path for path in site.models.iterdir() if path.is_dir()))
        for language, part in words.items():
            assert part in device.page(language=language)
        device.close()


def test_the_catalogue_is_the_models_or_a_longer_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", "init", "--profile", "pilot", "--population", "p", "--devices", "5", "--start", "sample", "--yes"]
    assert run([*words, str(tmp_path / "own")]) == 0
    own = Site.at(tmp_path / "own")
    said = capsys.readouterr().out
    assert "it starts from a model of 2,000 others" in said
    assert f"vouches for: {(FOLDERS['sample'] / KEY_FILE).read_text().strip()}\n" in said
    assert own.catalogue.items == from_start(FOLDERS["sample"], None).items
    assert own.config.training.settings == {"former_discount": 1.0}
    assert (own.config.cohort.size, own.config.training.every_hours) == (5, 24.0)
    items = tmp_path / "items"
    items.write_text("new\n" + "".join(f"{item}\n" for item in reversed(own.catalogue.items)))
    assert run([*words, "--items", str(items), str(tmp_path / "longer")]) == 0
    longer = Site.at(tmp_path / "longer")
    assert longer.catalogue.items == (*own.catalogue.items, "new")
    assert listed(latest(longer), LIKED["sample"][0]) == listed(latest(own), LIKED["sample"][0])
    assert read_catalogue("films") == FOLDERS["films"]
    assert run([*words[:-3], "--items", str(FOLDERS["sample"]), "--yes", str(tmp_path / "answered")]) == 0
    assert latest(Site.at(tmp_path / "answered")).elsewhere == 2000
    items.write_text("book-1\n")
    assert run([*words, "--items", str(items), str(tmp_path / "shorter")]) == 2
    assert "`--items` must keep each item that devices have" in capsys.readouterr().err
    assert not (tmp_path / "shorter").exists()


def test_what_no_run_can_go_on_from_is_refused(tmp_path: Path, make_service: Maker) -> None:
    with pytest.raises(InputError, match="`--start` must be the folder of a run or of its model"):
        from_start(tmp_path, None)
    known = from_start(FOLDERS["sample"], None).model.model
    header = ModelHeader(algorithm="popularity", settings={}, facts=known.header.facts, releases=1, catalogue="")
    catalogue = ItemCatalogue(("a", "b"))
    facts = header.facts.model_copy(update={"n_items": 2})
    header = header.model_copy(update={"facts": facts, "catalogue": catalogue.hash})
    model = GlobalModel(header, {"counts": np.ones(2, np.float32)})
    with Ledger(":memory:", population="p") as ledger:
        write(tmp_path / "m", pack(model, catalogue, {}, SigningKey.generate(), population="p", shown=ledger.shown()))
    start = from_start(tmp_path / "m", None)
    with pytest.raises(
        InputError, match="must be a trained model that runs of als can go on from, got one of popularity"
    ):
        make_service(algorithm="als", start=start)
    (tmp_path / "m/items").write_text("a\nc\n")
    with pytest.raises(InputError, match="must be a release as it was signed"):
        from_start(tmp_path / "m", None)
    for large in (b"[" * 100_000, b" " * 2**19):
        (tmp_path / "m/manifest.json").write_bytes(large)
        with pytest.raises(InputError, match="`--start` must be"):
            from_start(tmp_path / "m", None)


@pytest.mark.parametrize("name", ["noise", "values", "weight"])
def test_a_model_whose_arrays_do_not_fit_is_refused_before_a_population_depends_on_it(
    make_service: Maker, tmp_path: Path, name: str
) -> None:
    """It scores its items, and the first run would have ended with an error, again and again."""
    known = from_start(FOLDERS["sample"], None).model
    state = known.model.state
    model = GlobalModel(known.model.header, state | {name: np.ones(len(state[name]) + 1, np.float32)})
    with Ledger(":memory:", population="p") as ledger:
        files = pack(model, ItemCatalogue(known.items), {}, SigningKey.generate(), population="p", shown=ledger.shown())
    write(tmp_path / "m", files)
    with pytest.raises(InputError, match="whose arrays fit together"):
        make_service(algorithm="als", start=from_start(tmp_path / "m", None))


def test_of_a_strangers_manifest_an_operator_signs_what_it_knows(make_service: Maker, tmp_path: Path) -> None:
    known = from_start(FOLDERS["sample"], None).model
    said = {"for_release": {"anything": "x" * 1000}, "card": "y", "provenance": {"source": ["z"] * 5000}}
    with Ledger(":memory:", population="p") as ledger:
        files = pack(
            known.model, ItemCatalogue(known.items), said, SigningKey.generate(), population="p", shown=ledger.shown()
        )
    write(tmp_path / "m", files)
    site = make_service(algorithm="als", start=from_start(tmp_path / "m", None)).site
    found = latest(site).manifest.model_extra or {}
    assert (found["for_release"], "card" in found, len(found["starts_from"]["source"])) == (False, False, 1000)
