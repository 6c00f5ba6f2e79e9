"""Facts, rules and an app steer a list; the user's say stands above them, and what they brought in is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import palate
from palate import Device, Service
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.models.rules import Rule
from palate_core.errors import InputError, IntegrityError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

KEY, NOW = SigningKey.generate(), 1_790_000_000.0
ITEMS = tuple(f"i{row}" for row in range(20))
"""The more popular the lower."""
PLAIN: Any = {"discovery": 0.0}


def facts(**columns: dict[int, Any]) -> ItemTable:
    return ItemTable.of(
        ItemFacts(
            item,
            kinds=("Odd",) if row % 2 else (),
            more={"price": row} | {name: has[row] for name, has in columns.items() if row in has},
        )
        for row, item in enumerate(ITEMS)
    )


def released(table: ItemTable | None, rules: Sequence[Rule] = (), version: int = 1) -> dict[str, bytes]:
    catalogue = ItemCatalogue(ITEMS)
    public = PublicFacts(n_users=9, n_items=len(ITEMS), mu=None)
    header = ModelHeader(algorithm="popularity", settings={}, facts=public, releases=0, catalogue=catalogue.hash)
    state = make_algorithm("popularity", {}, public).start()
    state["counts"][:] = [20 - row for row in range(20)]
    shown = Shown(checkpoint=Checkpoint(version, f"{version:02x}" * 32))
    model = GlobalModel(header, state)
    return published.pack(model, catalogue, {}, KEY, population="p", shown=shown, table=table, rules=rules)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., tuple[Device, list[float]]]:
    """A function that opens a device with a model that has a table and rules; its clock can be set."""

    def made(table: ItemTable | None, rules: Sequence[Rule] = (), *, folder: str = "one") -> tuple[Device, list[float]]:
        now, service = [NOW], Service(public_key=KEY.public, population="p")
        device = palate.open(tmp_path / folder, app="shop", key=bytes(32), service=service, clock=lambda: now[0])
        device.consent.grant("store")
        published.write(tmp_path / "model", released(table, rules))
        device.update_model(tmp_path / "model")
        return device, now

    return made


def listed(device: Device, n: int = 20, **options: Any) -> list[int]:
    return [int(each.item[1:]) for each in device.recommend(n, **PLAIN, **options)]


def test_lists_hold_what_a_filter_or_a_function_lets_through(opened: Any) -> None:
    device, _ = opened(facts())
    assert listed(device, where='"Odd" in genres and price >= 13') == [13, 15, 17, 19]
    assert listed(device, where=lambda each: each.more["price"] > 17) == [18, 19]
    assert listed(device, where="price < 3", items=["i1", "i2", "i9"], filter_items=["i1"]) == [2]
    assert listed(device, where="link is known") == []
    device.hide("i13")
    assert listed(device, where='"Odd" in genres and price >= 13') == [15, 17, 19]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"where": "prize < 3"}, "`where` must have one of .*price.* at character 1, got 'prize'"),
    ({"where": 7}, "`where` must be a filter such as 'price < 20', or a function, got 7"),
    ({"pin": "i1"}, "`pin`"),
    ({"boost": {"price <": 1}}, "`boost` must have a number at character 8"),
    ({"boost": {"price < 3": 1.01}}, "`boost` must have numbers from -1 to 1"),
    ({"boost": {"price < 3": True}}, "`boost` must have numbers from -1 to 1"),
    ({"boost": ["price < 3"]}, "`boost` must say of at most 20 filters"),
    ({"diversity_by": "prize"}, "`diversity_by` must be one of"),
]


def test_a_mistake_of_the_app_is_said(opened: Any) -> None:
    device, _ = opened(facts())
    for options, error in MISTAKES:
        with pytest.raises(InputError, match=error):
            device.recommend(**options)
    bare, _ = opened(None, folder="two")
    for options in ({"where": "price < 3"}, {"boost": {"price < 3": 1}}, {"diversity_by": "price"}):
        with pytest.raises(InputError, match="must be left out where no item table came with the model"):
            bare.recommend(**options)


def test_what_is_sold_out_or_out_of_its_time_is_nowhere(opened: Any) -> None:
    device, now = opened(facts(stock={0: 0, 1: False, 2: 3}, until={3: NOW + 10}, **{"from": {4: NOW + 20}}))
    shown = [listed(device, 5), device.questions(30), listed(device, 3, pin=["i0", "i4"])]
    assert (shown[0], {"i0", "i1", "i4"} & {*shown[1]}, shown[2]) == ([2, 3, 5, 6, 7], set(), [2, 3, 5])
    now[0] += 10
    assert listed(device, 3) == [2, 5, 6]
    now[0] += 10
    assert listed(device, 3) == [2, 4, 5]
    now[0] -= 20
    assert listed(device, 3) == [2, 3, 5], "a clock may be put back"


def test_pins_and_boosts_are_said_to_be_promoted_and_hidden_items_stay_hidden(opened: Any) -> None:
    device, _ = opened(facts())
    device.hide("i19")
    shown = device.recommend(4, **PLAIN, pin=["i9", "i19", "unknown", "i9", "i8"])
    assert [(each.item, each.source, each.reason) for each in shown[:2]] == [
        ("i9", "promoted", "promoted"),
        ("i8", "promoted", "promoted"),
    ]
    assert [(each.item, each.source) for each in shown[2:]] == [("i0", "popularity"), ("i1", "popularity")]
    assert [each.told("de") for each in shown[:1]] == ["vom Anbieter hervorgehoben"]
    assert listed(device, 2, pin=["i9", "i8", "i7"]) == [9, 8]
    lifted = device.recommend(4, **PLAIN, boost={"price == 12": 1.0, "price == 2": 0.01, "price < 2": -0.5})
    assert [(each.item, each.source) for each in lifted] == [
        ("i12", "promoted"),
        *((f"i{row}", "popularity") for row in (2, 3, 4)),
    ]
    device.feedback(shown, {"i9": "like"})
    counts = device.recommendations.recommender()._blend.counts()  # type: ignore[union-attr]
    assert set(counts) == {"popularity"}, "a promoted item says nothing of what the device's sources are worth"


RULES = (
    Rule("price == 0", exclude=True),
    Rule("price > 17", boost=1.0, until=NOW + 5),
    Rule(pin=("i7", "i1", "i5", "i6"), since=NOW + 5),
    Rule("gone == 1", exclude=True),
)


def test_an_operators_rules_hold_in_every_list_for_their_time(opened: Any) -> None:
    device, now = opened(facts(), RULES)
    shown = device.recommend(5, **PLAIN)
    assert [each.item for each in shown] == ["i18", "i1", "i19", "i2", "i3"], "the last item of all equals the best"
    assert [each.source == "promoted" for each in shown] == [True, False, True, False, False]
    assert "i0" not in {*device.questions(30), *(each.item for each in device.recommend(20, pin=["i0"]))}
    now[0] += 5
    assert listed(device, 5) == [7, 1, 2, 3, 4], "rules pin a quarter of a list at most, rounded up"
    assert listed(device, 5, pin=["i9"]) == [9, 7, 1, 2, 3]
    assert "promoted" in device.page(language="en")


def test_rules_that_are_none_are_refused_before_the_model_is_used(opened: Any, tmp_path: Path) -> None:
    device, _ = opened(facts())
    bad = Rule("price <", boost=0.5)
    published.write(tmp_path / "bad", released(facts(), [bad], version=2))
    with pytest.raises(IntegrityError, match="rule 1: `where` must have a number at character 8"):
        device.update_model(tmp_path / "bad")
    assert listed(device, 2) == [0, 1]


def test_a_list_is_diverse_by_a_column(opened: Any) -> None:
    device, _ = opened(facts(author={row: f"a{row // 5}" for row in range(20)}))
    shown = device.recommend(4, explore=0.0, debias=0.0, diversity=0.9, diversity_by="author")
    assert [int(each.item[1:]) // 5 for each in shown] == [0, 1, 2, 3]


def test_what_is_bought_again_and_what_is_unfinished(opened: Any) -> None:
    device, now = opened(facts(seconds={5: 100, 6: 100}, stock={4: 0}))
    for ago, item in ((60, "i1"), (30, "i1"), (40, "i2"), (1, "i3"), (50, "i4"), (50, "gone"), (50, "i7")):
        device.track("purchase", item, time=NOW - 86_400 * ago)
    device.hide("i7")
    shown = device.buy_again()
    assert [(each.item, each.source, each.reason) for each in shown] == [
        (item, "again", f"because you bought {item}") for item in ("i1", "i2", "i3")
    ], "what is sold out, hidden or unknown isn't"
    for item, seconds in (("i5", 50), ("i6", 50), ("i6", 41), ("i8", 50)):
        now[0] += 9
        device.track("play", item, value=seconds)
    assert [(each.item, each.told("en")) for each in device.unfinished()] == [("i5", "because you played i5")]
    device.feedback(shown)
    assert not device.recommendations.recommender()._blend.counts()  # type: ignore[union-attr]


def test_a_new_item_is_listed_by_its_kinds_on_its_first_day(
    tmp_path: Path, trained: Callable[..., GlobalModel]
) -> None:
    items = tuple(f"i{row:02d}" for row in range(60))
    learned = trained(settings={"pair_items": 0})
    header = learned.header.model_copy(update={"catalogue": catalogue_hash(items)})
    model = GlobalModel(header, learned.state).over((*items, "even", "odd", "none"), {})
    catalogue = ItemCatalogue((*items, "even", "odd", "none"))
    table = ItemTable.of(
        ItemFacts(item, kinds=((("Even", "Odd")[row % 2],) if row < 62 else ()))
        for row, item in enumerate(catalogue.items)
    )
    shown = Shown(checkpoint=Checkpoint(1, "01" * 32))
    extends = {"extends": {"model_hash": "0" * 64, "items": 60}}
    for name, said in (("new", extends), ("old", {})):
        files = published.pack(model, catalogue, said, KEY, population="p", shown=shown, table=table)
        published.write(tmp_path / name, files)
        device = palate.open(
            tmp_path / f"{name}-store",
            app="shop",
            key=bytes(32),
            service=Service(public_key=KEY.public, population="p"),
        )
        device.consent.grant("store")
        device.update_model(tmp_path / name)
        device.like_to_start(["i11", "i21", "i31"])
        listed = device.recommend(63, discovery=0.0)
        places = {each.item: each.position for each in listed}
        sources = {each.item: each.source for each in listed}
        assert (places["odd"] < 20 < places["even"], sources["odd"] == "content:new") == ((name == "new"),) * 2
        assert sources["none"] == "popularity", "nothing is known of it"
        device.close()
