"""A profile makes the first lists of who has done nothing yet, fades, and is in nothing that leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palate
from palate import Device, Service
from palate_client.recommend.facts.profile import FADED
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
ITEMS = tuple(f"i{n:02d}" for n in range(60))
ODD = {"kinds": ["Odd"]}


@pytest.fixture
def opened(tmp_path: Path, trained: Callable[..., GlobalModel]) -> Device:
    """A device with a model of tastes and a table of kinds and ages."""
    facts = (
        ItemFacts(item, f"T{n}", kinds=("Odd",) if n % 2 else ("Even",), more={"age": ("18-24",) if n > 40 else ()})
        for n, item in enumerate(ITEMS)
    )
    service, catalogue = Service(public_key=KEY.public, population="p"), ItemCatalogue(ITEMS)
    plain, shown = trained(), Shown(checkpoint=Checkpoint(1, "01" * 32))
    model = GlobalModel(plain.header.model_copy(update={"catalogue": catalogue.hash}), plain.state)
    files = published.pack(model, catalogue, {}, KEY, population="p", shown=shown, table=ItemTable.of(facts))
    published.write(tmp_path / "model", files)
    device = palate.open(tmp_path / "one", app="shop", key=bytes(32), service=service, clock=lambda: 1_790_000_000.0)
    device.update_model(tmp_path / "model")
    device.consent.grant("store")
    return device


def listed(device: Device) -> list[str]:
    return [each.item for each in device.recommend(10, discovery=0.0)]


def test_the_first_list_follows_a_profile_until_ten_items_tell_more(opened: Device) -> None:
    popular = listed(opened)
    assert opened.profile(ODD) == opened.profile() == ODD
    first = opened.recommend(10, discovery=0.0)
    odd = [sum(int(item[1:]) % 2 for item in items) for items in ([each.item for each in first], popular)]
    assert odd[0] > odd[1]
    told = [each for each in first if each.reason == "because of your profile"]
    assert told
    assert {one.kind for each in told for one in each.because} == {"profile"}
    assert (told[0].told("en"), told[0].told("de")) == ("because of your profile", "wegen deines Profils")
    explained = opened.explain(told[0].item)
    assert explained.text == "because of your profile"
    assert explained.score == pytest.approx(sum(each.score for each in explained.contributions) + explained.rest)
    for n in range(FADED):
        opened.track("like", f"i{2 * n:02d}")
        if n == 0:
            assert {each.kind for each in opened.explain("i33").contributions} == {"like", "profile"}
    faded = listed(opened)
    opened.profile({})
    assert faded == listed(opened)


def test_a_profile_is_in_nothing_that_leaves_and_goes_with_the_taste(opened: Device, tmp_path: Path) -> None:
    def leaves() -> tuple[Any, ...]:
        found = opened.interests(ITEMS).interactions()
        return (found.indices.tolist(), found.weights.tolist(), opened.loyalty(), list(opened.store.events()))

    opened.track("like", "i02")
    before, report = leaves(), list(opened.privacy_report().export_lines())
    opened.profile({"kinds": "Odd", "age": ["18-24"]})
    opened.recommend(5)
    assert leaves() == before
    assert list(opened.privacy_report().export_lines()) == report
    opened.export(tmp_path / "export")
    lines = [json.loads(line) for line in (tmp_path / "export").read_text().splitlines()]
    kept = {"kinds": ["Odd"], "age": ["18-24"]}
    assert [each["answers"] for each in lines if each.get("type") == "profile"] == [kept]
    assert not opened.import_jsonl(tmp_path / "export").problems
    opened.reset_taste()
    assert opened.profile() == {}


def test_answers_are_bounded_and_kept_with_consent_alone(opened: Device) -> None:
    for wrong in (
        ["Odd"],
        {"Kinds": "Odd"},
        {"kinds": []},
        {"kinds": [7]},
        {"kinds": "x" * 101},
        {"kinds": ["a"] * 17},
    ):
        with pytest.raises(InputError, match="`answers`"):
            opened.profile(wrong)  # type: ignore[arg-type]  # what an app may pass
    popular = listed(opened)
    assert opened.profile({"kinds": ["None such"], "author": "Nobody"})
    assert listed(opened) == popular
    opened.hide("i01")
    opened.profile(ODD)
    assert "i01" not in listed(opened)
    opened.consent.revoke("store")
    assert opened.profile(ODD) == {}
