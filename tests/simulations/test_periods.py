"""Periods: nothing of the future is in what a release is trained on, nor in what it is given of a user."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.releases.periods import periods
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.data import read_log

DAY = 86_400.0
events = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 40)), min_size=30, max_size=120, unique=True
)


def log_of(rows):
    frame = pd.DataFrame([(f"u{u}", f"i{i}", DAY * t) for u, i, t in rows], columns=["user", "item", "timestamp"])
    return read_log(frame)


def cuts_of(rows, **settings_):
    try:
        return list(periods(log_of(rows), load_config(None, settings_), 3))
    except InputError:  # a span without events, or without new items
        return []


def pairs_of(batch, users, items):
    return {(users[u], items[i]) for u, i in zip(batch.owners(), batch.indices, strict=True)}


@settings(max_examples=30)
@given(events)
@example([(0, 0, day) for day in range(41)])  # no new item in any span: no cut
@example([(day % 7, day % 9, day) for day in range(41)])
def test_training_and_fold_in_are_the_past_and_targets_the_next_span(rows) -> None:
    first = {}
    for u, i, t in rows:
        first[f"u{u}", f"i{i}"] = min(first.get((f"u{u}", f"i{i}"), np.inf), DAY * t)
    cuts = cuts_of(rows)
    ends = [*(cut.until for cut in cuts[1:]), np.inf][: len(cuts)]
    for cut, end in zip(cuts, ends, strict=True):
        users = sorted({u for (u, _), time in first.items() if time < cut.until})
        past = {pair for pair, time in first.items() if time < cut.until}
        assert pairs_of(cut.train, users, cut.items) == past
        held = cut.heldout
        assert pairs_of(held.foldin, held.users, cut.known) == {p for p in past if p[0] in held.users}
        assert pairs_of(held.target, held.users, cut.known) == {
            pair for pair, time in first.items() if cut.until <= time < end
        }
        assert set(cut.items) <= set(cut.known)


@settings(max_examples=20)
@given(events, st.integers(0, 1000))
def test_what_happens_later_changes_nothing_of_an_earlier_release(rows, seed) -> None:
    cuts = cuts_of(rows, **{"positives.half_life_days": 9})
    if not cuts:
        return
    number = seed % len(cuts)
    until, last = cuts[number].until, max(t for *_, t in rows)
    # The last event stays, so that the spans do; all others after the cut become another user's.
    changed = [(u, i, t) if DAY * t < until or t == last else (6 - u, 8 - i, t) for u, i, t in rows]
    again = cuts_of(list(dict.fromkeys(changed)), **{"positives.half_life_days": 9})
    if again:
        one, other = cuts[number], again[number]
        assert one.items == other.items
        for part in ("indptr", "indices", "weights"):
            assert np.array_equal(getattr(one.train, part), getattr(other.train, part))


def test_catalogues_only_grow(shop) -> None:
    cuts = list(periods(read_log(shop), load_config(), 4))
    for one, other in pairwise(cuts):
        assert set(one.items) < set(other.items)
        assert one.known == other.items


@pytest.fixture
def shop():
    """Items that appear over time; later users come with them."""
    rng = np.random.default_rng(2)
    rows = []
    for user in range(120):
        begins = rng.uniform(0, 60)
        for time in np.sort(rng.uniform(begins, 100, 14)):
            rows.append((f"u{user}", f"i{int(rng.integers(0, 12 + time / 2))}", DAY * time))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


@pytest.mark.parametrize("times", [[np.nan] * 4, [5.0] * 4])
def test_a_log_without_times_is_refused_in_one_line(times) -> None:
    frame = pd.DataFrame({"user": list("abab"), "item": list("xyyx"), "timestamp": times})
    with pytest.raises(InputError, match="events have times"):
        list(periods(read_log(frame), load_config(), 12))


def test_a_span_without_events_is_refused() -> None:
    rows = [(user, item, day) for user in range(3) for item, day in ((0, 0), (1, 100))]
    with pytest.raises(InputError, match="use fewer releases"):
        list(periods(log_of(rows), load_config(), 5))
