"""Events: what is one, and its line of JSON."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_client.events import KINDS, MAX_DEPTH, SOURCES, VALUES, Event, Tracked, event_from, event_line
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
    kind = draw(st.sampled_from(KINDS))
    values = {"rate": st.floats(1, 5), "purchase": st.integers(0, 10**9)}
    value = draw(values.get(kind, st.floats(0, 1e9))) if kind in VALUES else None
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
        {"kind": "stare"},
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
    weights = dict(zip(KINDS, weighting.of_kinds(KINDS), strict=True))
    nothing = {*KINDS} - {"rate"} if name == "ratings" else {"impression", "skip", "dismiss", "hide"}
    assert {kind for kind, weight in weights.items() if weight == 0} == nothing
    assert {kind for kind in VALUES if weights[kind]} <= {*weighting.kind_values} | (
        {"rate"} if weighting.values else set()
    )
