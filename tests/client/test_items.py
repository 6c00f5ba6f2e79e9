"""Titles that come with a model are in lists, in reasons and on the page, and change without the model."""

from pathlib import Path

import palate
from palate import Service
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
ITEMS = ("a", "b", "c")


def released(folder: Path, table: ItemTable | None, version: int) -> Path:
    """A published model of the same numbers, with a table."""
    facts = PublicFacts(n_users=9, n_items=3, mu=None)
    catalogue = ItemCatalogue(ITEMS)
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=0, catalogue=catalogue.hash)
    model = GlobalModel(header, make_algorithm("popularity", {}, facts).start())
    shown = Shown(checkpoint=Checkpoint(version, f"{version:02x}" * 32))
    files = published.pack(model, catalogue, {}, KEY, population="readers", shown=shown, table=table)
    published.write(folder, files)
    return folder


def test_a_device_shows_the_titles_that_came_with_its_model(tmp_path: Path) -> None:
    service = Service(public_key=KEY.public, population="readers")
    device = palate.open(tmp_path / "store", app="shop", key=bytes(32), service=service)
    device.consent.grant("store")
    assert device.items() is None
    table = ItemTable.of([ItemFacts("a", "Alpha", 1999, kinds=("Drama",)), ItemFacts("b", "<b>Beta")])
    device.update_model(released(tmp_path / "first", table, 1))
    device.track("like", "a")
    found = device.items()
    assert found is not None
    assert [each.label for each in found] == ["Alpha (1999)", "<b>Beta", "c"]
    assert [(each.item, each.title) for each in device.recommend(explore=0)] == [("b", "<b>Beta"), ("c", "")]
    page = device.page(language="en")
    assert "Alpha (1999)" in page
    assert "&lt;b&gt;Beta" in page
    assert "Drama" in page
    assert "My own" in device.page(language="en", titles={"a": "My own"})
    device.close()


def test_a_reason_names_titles_unless_the_app_has_its_own() -> None:
    from palate_client.recommend.explanation import Contribution
    from palate_client.recommend.recommender import Recommendation

    because = (Contribution("a", "like", 1.0, title="Alpha (1999)"),)
    shown = Recommendation("b", 1.0, "collaborative", "", 0, because)
    assert shown.told("en") == "because you liked Alpha (1999)"
    assert shown.told("en", titles={"a": "Alfa"}) == "because you liked Alfa"
