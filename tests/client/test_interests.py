"""Interests: the device's numbers are the simulator's, and odd data counts less."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import palate
from palate import Device, Event, Limits, Weighting
from palate_client.recommend.evidence import CODES, EVENT, NOTHING, Weighed
from palate_client.recommend.interests import Interests
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.interactions import Interactions
from palate_common.kinds import KINDS
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.weighting import weighting_names, weighting_of
from palate_core.errors import InputError
from palate_sim.data import positives, read_log

DAY = 86_400.0
CATALOGUE = tuple(f"i{n:02d}" for n in range(30))
IN_LOGS = [kind for kind in KINDS if kind != "return"]  # which only a device takes back
Open = Callable[..., Device]


@dataclass
class Clock:
    """Unix time that stands still."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def made(now: float, n: int = 400) -> list[Event]:
    """Events of every kind over a year, with and without values."""
    rng = np.random.default_rng(3)
    events = []
    for place in range(n):
        kind = str(rng.choice(IN_LOGS))
        value = float(rng.integers(1, 6)) if kind == "rate" or (KINDS[kind].value and rng.random() < 0.7) else None
        value = value / 4 - 0.75 if kind == "comment" and value is not None else value
        value = value * 40 if kind in ("play", "view") and value is not None else value
        events.append(Event(kind, str(rng.choice(CATALOGUE)), now - rng.random() * 365 * DAY, value, id=str(place)))
    return events


def simulated(events: list[Event], weighting: Weighting) -> Interactions:
    """The same events as the simulator reads them in a log."""
    columns = [("u", event.item, event.kind, event.value, event.time) for event in events]
    frame = pd.DataFrame(columns, columns=["user", "item", "event", "rating", "timestamp"])
    pairs = positives(
        read_log(frame),
        weights=weighting.kinds,
        value_weights=weighting.values,
        kind_values=weighting.kind_values,
        combine=weighting.combine,
        cap=weighting.cap,
        half_life_days=weighting.half_life_days,
    )
    rows = [CATALOGUE.index(pairs.items[row]) for row in pairs.item_rows]
    return Interactions.from_pairs(pairs.user_rows, rows, pairs.weights, n_users=1, n_items=len(CATALOGUE))


def same(one: Interactions, other: Interactions) -> bool:
    """Equal to the last bit."""
    arrays = ("indptr", "indices", "weights")
    equal = [np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays]
    types = [getattr(one, name).dtype == getattr(other, name).dtype for name in arrays]
    return all(equal) and all(types) and one.n_items == other.n_items


@pytest.mark.parametrize("name", weighting_names())
def test_a_device_has_the_numbers_of_a_simulated_user(open_device: Open, clock: Any, name: str) -> None:
    device, events = open_device(preset=name), made(clock.now)
    for place in range(0, len(events), 40):  # on different minutes: no burst
        clock.now += 60
        device.track_many(events[place : place + 40])
    interactions = device.interests(CATALOGUE).interactions()
    assert interactions.nnz > 10
    assert same(interactions, simulated(events, weighting_of(name)))


@given(seed=st.integers(0, 10_000), preset=st.sampled_from(weighting_names()))
@settings(max_examples=5, deadline=None)
def test_what_grew_event_by_event_is_what_is_made_anew(seed: int, preset: str) -> None:
    """Whoever stored the events, whatever was dropped or reset, and wherever the clock went."""
    rng, clock = random.Random(seed), Clock()  # noqa: S311 # made events
    limits = Limits(max_events=rng.choice([60, 10_000]))
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        mine, yours = (
            stack.enter_context(palate.open(home, app="a", key=bytes(32), preset=preset, clock=clock, limits=limits))
            for _ in range(2)
        )
        mine.consent.grant("store")
        interests = mine.interests(CATALOGUE[:8])
        for step in range(12):
            count = rng.choice([1, 1, 3, 90])
            kinds = rng.choices((*KINDS, *["impression"] * 6), k=count)
            events = [
                Event(
                    kind,
                    rng.choice([*CATALOGUE[:8], "elsewhere"]),
                    rng.choice([None, clock.now - rng.random() * 1e7, clock.now + 100]),
                    float(rng.randint(1, 5)) if kind == "rate" else None,
                    id=f"{step}-{place}",
                )
                for place, kind in enumerate(kinds)
            ]
            rng.choice([mine, yours]).store.add(events, imported=rng.random() < 0.2)
            if rng.random() < 0.1:
                yours.reset_taste()
            clock.now += rng.choice([0, 1, 60, 3 * DAY, -50])
            grown, anew = interests.look(), mine.interests(CATALOGUE[:8]).look()
            assert same(grown.interactions, anew.interactions)
            for name in ("unwanted", "dismissed", "resting"):
                assert np.array_equal(getattr(grown, name), getattr(anew, name)), name
            for each in fields(Weighed):
                one, other = (getattr(look.weighed, each.name) for look in (grown, anew))
                assert np.array_equal(one, other), each.name


@given(seed=st.integers(0, 10_000), preset=st.sampled_from(weighting_names()))
@settings(max_examples=20, deadline=None)
def test_few_items_kinds_are_those_of_all(seed: int, preset: str) -> None:
    """Of each item the first of the events that count most; whichever items are kept, and whichever are asked for."""
    rng, weighting = np.random.default_rng(seed), weighting_of(preset)
    events = np.zeros(60, EVENT)
    events["row"], events["code"] = rng.integers(9, size=60), rng.integers(len(KINDS), size=60)
    events["time"] = rng.choice([0.0, 86_400.0, np.nan], 60)
    events["value"] = np.where(
        np.isin(events["code"], [CODES[kind] for kind in KINDS if KINDS[kind].value]), rng.integers(1, 99, 60), np.nan
    )
    positives = NOTHING.with_events(events, weighting, reset=-1).positives
    weighed = positives.weigh(weighting, None)
    factors = positives.weights * positives.bursts
    if weighting.half_life_days is not None:
        factors = factors * weighting.decay(positives.times, np.nanmax(positives.times, initial=0.0))
    whole = []
    for row in np.unique(positives.rows):
        own = np.flatnonzero(positives.rows == row)
        whole.append(positives.codes[own[np.argmax(factors[own])]])
    assert weighed.kinds(np.arange(len(weighed.rows))).tolist() == whole
    kept = rng.random(len(weighed.rows)) < 0.6
    some = weighed.only(kept)
    asked = rng.integers(max(len(some.rows), 1), size=7)[: 7 * bool(kept.any())]
    assert some.kinds(asked).tolist() == np.array(whole)[kept][asked].tolist()


def test_one_more_event_is_one_more_row_that_is_read(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.track_many([Event("like", CATALOGUE[n % 30], id=str(n)) for n in range(1000)])
    interests, read = device.interests(CATALOGUE), list[int]()
    real = interests._read
    monkeypatch.setattr(interests, "_read", lambda page: (read.append(len(page)), real(page))[1])
    interests.look()
    assert sum(read) == 1000
    read.clear()
    device.track("like", "i00", id="one more")
    interests.look()
    assert read == [1]
    look = interests.look()
    assert interests.look() is look
    assert read == [1]


def test_training_takes_it_as_it_is(device: Device) -> None:
    device.track_many([Event("like", "i03"), Event("like", "i07")])
    facts = PublicFacts(n_users=1, n_items=30, mu=1.0)
    state = make_algorithm("popularity", {}, facts).start()
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=0, catalogue="c" * 64)
    model = GlobalModel(header, state)
    update = model.algorithm.contribute(model.state, 0, device.interests(CATALOGUE).interactions())
    assert update.n_users == 1


def test_every_event_is_taken_in_whoever_stored_it(open_device: Open, clock: Any) -> None:
    mine, yours = open_device(preset="shop"), open_device()
    interests = mine.interests(CATALOGUE)
    assert interests.interactions().nnz == 0
    assert interests.interactions() is interests.interactions()
    mine.track("purchase", "i05")
    assert interests.interactions().indices.tolist() == [5]
    yours.track("view", "i02")
    mine.track("view", "not in the catalogue")
    assert interests.interactions().weights.tolist() == pytest.approx([0.2, 1.0])
    clock.now += 60
    mine.track("purchase", "i05")
    mine.track("impression", "i09")
    assert interests.interactions().weights.tolist() == pytest.approx([0.2, 2.0])


def test_what_was_dropped_no_longer_counts(open_device: Open) -> None:
    device = open_device(limits=Limits(max_events=5))
    interests = device.interests(CATALOGUE)
    for item in CATALOGUE[:5]:
        device.track("like", item)
        interests.interactions()
    device.track("like", CATALOGUE[5])
    assert interests.interactions().indices.tolist() == [1, 2, 3, 4, 5]
    assert same(interests.interactions(), device.interests(CATALOGUE).interactions())


def test_a_burst_counts_less(open_device: Open, clock: Any) -> None:
    device = open_device(preset=Weighting(combine="sum"))
    device.track("like", "i00")
    clock.now += 60
    device.track_many([Event("click", "i01", id=f"bot-{n}") for n in range(600)])
    clock.now += 60
    device.track_many([Event("click", f"i{n:02d}") for n in range(2, 22)])
    weights = device.interests(CATALOGUE).interactions().weights
    assert weights[0] == 1.0
    assert weights[1] == pytest.approx(60.0)
    assert weights[2:].tolist() == [1.0] * 20


def test_a_receipt_of_any_length_is_no_burst(device: Device, tmp_path: Any) -> None:
    file = tmp_path / "receipt.jsonl"
    wide = [f"w{n}" for n in range(200)]
    file.write_text("".join(f'{{"kind": "purchase", "item": "{item}", "time": 1789000000}}\n' for item in wide))
    device.import_jsonl(file)
    assert set(device.interests(wide).interactions().weights.tolist()) == {1.0}


def test_a_clock_that_was_wrong_does_not_make_the_rest_old(open_device: Open, clock: Any) -> None:
    device = open_device(preset=Weighting(half_life_days=0.5))
    device.track("like", "i00")
    now = clock.now
    clock.now += 10_000 * DAY
    device.track("like", "i01")
    clock.now = now
    interests = device.interests(CATALOGUE)
    assert interests.interactions().weights.tolist() == [1.0, 1.0]
    device.track("like", "i04")
    clock.now = 3600.0  # 1970: unknown, and never the newest
    device.track("like", "i02")
    clock.now = now + 0.5 * DAY
    device.track("like", "i03")
    assert interests.interactions().weights.tolist() == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.5])


def test_what_the_user_turned_down_is_known_until_they_come_back(device: Device) -> None:
    interests = device.interests(CATALOGUE)
    device.track_many([Event("hide", "i04"), Event("dismiss", "i02"), Event("hide", "elsewhere"), Event("skip", "i05")])
    assert interests.unwanted().tolist() == [2, 4]
    device.track("like", "i02")
    assert interests.unwanted().tolist() == [4]
    assert interests.unwanted().dtype == np.int32


def test_a_catalogue_names_an_item_once(device: Device) -> None:
    with pytest.raises(InputError, match=r"\A`catalogue` must name each item once, got 2 ids, 1 different\Z"):
        device.interests(["a", "a"])
    assert isinstance(device.interests([]), Interests)
    assert device.interests([]).interactions().n_items == 0


def test_what_is_shown_again_and_again_and_left_alone_rests(open_device: Open, clock: Any) -> None:
    device = open_device(preset="shop")
    interests = device.interests(CATALOGUE)

    def show(item: str, times: int) -> None:
        for _ in range(times):
            clock.now += 60
            assert device.track("impression", item)

    show("i03", 4)
    show("i04", 6)
    device.track("skip", "i04")  # says nothing
    assert interests.look().resting.tolist() == [4]
    show("i03", 2)
    assert interests.look().resting.tolist() == [3, 4]
    device.track("click", "i03")
    show("i03", 4)
    assert interests.look().resting.tolist() == [4]
    clock.now += 7 * DAY
    show("i05", 1)  # old impressions count half by now
    assert interests.look().resting.tolist() == []
    show("i04", 6)
    assert device.interests(CATALOGUE).look().resting.tolist() == [4]
    device.reset_taste()
    assert interests.look().resting.tolist() == []
