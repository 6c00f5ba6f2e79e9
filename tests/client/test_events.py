"""Events: what is one, and its line of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import palate
from palate_client.events import MAX_DEPTH, SOURCES, Event, Tracked, event_from, event_line
from palate_common.kinds import KINDS, MOST, OWN, OwnKind, Says
from palate_common.weighting import weighting_names, weighting_of
from palate_core.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda inner: st.lists(inner, max_size=3))


def test_only_stored_is_true() -> None:
    assert [outcome for outcome in Tracked if outcome] == [Tracked.STORED]


def test_an_outcome_is_json() -> None:
    assert json.loads(json.dumps({"outcome": Tracked.NO_CONSENT})) == {"outcome": "no consent"}


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"p": value}


def test_properties_are_an_object_that_any_stack_can_read() -> None:
    assert Event("view", "a", props=nested(MAX_DEPTH)).props == nested(MAX_DEPTH)
    endless: list[Any] = []
    endless.append(endless)
    for props in ([1], "text", nested(MAX_DEPTH + 1), nested(950), {"p": endless}, {"p": [[0] * 5000] * 2}):
        with pytest.raises(InputError, match=r"\A`props` must be [^\n]*\Z"):
            Event("view", "a", props=props)  # type: ignore[arg-type] # the mistake


@st.composite
def made_events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from([*KINDS, OwnKind("unboxed it")]))
    means = KINDS.get(kind, OWN)
    values = st.integers(0, 10**9) if means.whole else st.floats(max(means.least, -MOST), min(means.most, 1e9))
    value = draw(values) if means.value else None
    time = draw(st.none() | st.floats(0, 4e9))
    props = draw(st.none() | st.dictionaries(TEXT, JSON, max_size=3))
    return Event(kind, draw(TEXT), time, value, draw(st.sampled_from(SOURCES)), draw(TEXT), props)


@given(made_events())
def test_an_event_is_its_line(event: Event) -> None:
    line = event_line(event)
    assert "\n" not in line
    assert event_from(json.loads(line)) == event


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "Stare"},
        {"kind": "x" * 41},
        {"kind": None},
        {"item": ""},
        {"item": 7},
        {"item": "x" * 513},
        {"item": "\ud800"},
        {"source": "radio"},
        {"id": "x" * 129},
        {"id": 7},
        {"kind": "like", "value": 3},
        {"kind": "rate", "value": 10**400},
        {"kind": "rate"},
        {"kind": "rate", "value": math.nan},
        {"kind": "rate", "value": True},
        {"kind": "rate", "value": 0},
        {"kind": "rate", "value": 0.5},
        {"kind": "rate", "value": 100},
        {"kind": "view", "value": 10**400},
        {"kind": "play", "value": -1},
        {"kind": "purchase", "value": 19.99},
        {"kind": "cart", "value": -1},
        {"kind": "return", "value": 0.5},
        {"kind": "comment", "value": 5},
        {"kind": "search", "value": 1},
        {"kind": "unboxed", "value": math.inf},
        {"kind": "play", "value": "long"},
        {"time": "yesterday"},
        {"time": "2026-01-01T12:00:00"},
        {"time": True},
        {"time": math.inf},
        {"time": 1e12},
        {"props": [1]},
        {"props": {"text": "x" * 4096}},
        {"props": {"number": math.inf}},
        {"shade": "red"},
    ],
)
def test_what_is_no_event_is_refused_in_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"\A[^\n]+ must [^\n]+\Z"):
        event_from({"kind": "view", "item": "a", **fields})


def test_kind_and_item_must_be_there() -> None:
    with pytest.raises(InputError, match=r"must have `item`, got kind\Z"):
        event_from({"kind": "view"})
    with pytest.raises(InputError, match=r"must have `kind`, got nothing\Z"):
        event_from({})


def test_a_time_is_kept_as_seconds() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert Event("view", "a", noon).time == noon.timestamp()
    assert event_from({"kind": "view", "item": "a", "time": "2026-01-01T14:00:00+02:00"}).time == noon.timestamp()
    assert event_from({"kind": "view", "item": "a", "time": "2026-01-01"}).time == noon.timestamp() - 12 * 3600
    assert Event("view", "a", noon.astimezone(timezone(timedelta(hours=5)))).time == noon.timestamp()
    with pytest.raises(InputError, match="must have a time zone"):
        Event("view", "a", noon.replace(tzinfo=None))


def test_an_event_without_an_id_gets_one_made_of_its_content() -> None:
    first, again, other = (event_from({"kind": "view", "item": "a", "time": time}) for time in (1, 1.0, 2))
    assert first.id == again.id != other.id
    assert first.id.startswith("content-")


@pytest.mark.parametrize("name", weighting_names())
def test_every_preset_weighs_every_kind_and_every_value(name: str) -> None:
    weighting = weighting_of(name)
    assert weighting.kinds is not None
    assert {*KINDS} - {*weighting.kinds} == set() or "*" in weighting.kinds
    weights = dict(zip(KINDS, weighting.of_kinds(list(KINDS)), strict=True))
    nothing = {*KINDS} - {"rate"} if name == "ratings" else {kind for kind in KINDS if KINDS[kind].says < Says.FOR}
    assert {kind for kind, weight in weights.items() if weight == 0} == nothing
    if weighting.values is not None:  # steps for verdicts and numbers of plays, which no other value may take
        apart = {kind for kind, means in KINDS.items() if means.value and weights[kind]} - {"rate", "comment"}
        assert apart <= {*weighting.kind_values}


@pytest.mark.parametrize("name", weighting_names())
def test_whatever_a_preset_weighs_can_be_recorded(name: str, open_device: Callable[..., palate.Device]) -> None:
    device = open_device(preset=name)
    device.consent.grant("store")
    kinds = [kind for kind in {*KINDS, *(weighting_of(name).kinds or {})} if kind != "*"]
    for kind in kinds:
        assert device.track(OwnKind(kind), "a", value=4 if kind == "rate" else None), kind


def test_a_kind_that_nobody_declared_is_a_mistake(open_device: Callable[..., palate.Device], tmp_path: Path) -> None:
    device = open_device()
    device.consent.grant("store")
    with pytest.raises(InputError, match=r"one of impression, .*, or one that `preset` declares, got 'vew'"):
        device.track_many([Event("view", "a"), Event(OwnKind("vew"), "a")])
    lines = tmp_path / "lines"
    lines.write_text('{"kind": "vew", "item": "a"}\n')
    assert "got 'vew'" in device.import_jsonl(lines).problems[0].reason
    assert list(device.store.events()) == []
