"""Recency: recent events count more in lists, by the simulator's numbers, and in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate import Device, Event, Weighting
from palate_client.recommend.interests import Interests
from palate_client.recommend.recency import decaying, recent
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_core.errors import InputError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

DAY = 86_400.0
ITEMS = tuple(f"i{n:02d}" for n in range(60))
OLD, NEW = (1, 3, 5, 7, 9), (2, 4, 6, 8)
Open = Callable[..., Device]
Trained = Callable[..., GlobalModel]


def lived(device: Device, now: float) -> None:
    """Events on odd items long ago, and on even ones lately."""
    device.track_many([Event("like", ITEMS[row], now - 300 * DAY) for row in OLD])
    device.track_many([Event("like", ITEMS[row], now - row * DAY) for row in NEW])


def expected(half_life_days: float) -> Interactions:
    """The same history as whoever knows the ages works it out."""
    ages = {**dict.fromkeys(OLD, 300.0), **{row: float(row) for row in NEW}}
    rows = np.array(sorted(ages))
    factors = 0.5 ** (np.array([ages[row] for row in rows]) / half_life_days)
    factors *= len(rows) / factors.sum()
    return Interactions.from_pairs(np.zeros(len(rows), int), rows, factors, n_users=1, n_items=len(ITEMS))


def test_a_list_is_made_of_weights_that_halve_and_keep_their_sum(device: Device, trained: Trained, clock: Any) -> None:
    lived(device, clock.now)
    device.use_model(trained(), ITEMS, recent_half_life_days=30.0, rng=np.random.default_rng(0))
    history, model = expected(30.0), trained()
    assert history.weights.sum() == pytest.approx(history.nnz)
    scores = np.array(model.scores(history)[0])
    shown = device.recommend(60, discovery=0.0)
    np.testing.assert_allclose([each.score for each in shown], scores[[ITEMS.index(each.item) for each in shown]], 1e-4)
    plain = np.array(model.scores(Interactions(history.indptr, history.indices, np.ones(9, np.float32), 60))[0])
    assert np.abs(scores - plain).max() > 0.01, "recency changes something"


def test_explanations_still_sum_to_the_score(device: Device, trained: Trained, clock: Any) -> None:
    lived(device, clock.now)
    device.less_of("i20")
    device.use_model(trained(), ITEMS, recent_half_life_days=10.0, rng=np.random.default_rng(0))
    told = device.explain("i12", discovery=0.0)
    assert sum(each.score for each in told.contributions) + told.rest == pytest.approx(told.score, rel=1e-6)


def test_nothing_but_lists_sees_it(open_device: Open, clock: Any) -> None:
    device = open_device()
    lived(device, clock.now)
    plain = Interests(device.store, ITEMS, device.weighting).look()
    aged = Interests(device.store, ITEMS, device.weighting, recent_half_life_days=30.0).look()
    assert plain.recent is plain.interactions
    assert np.array_equal(aged.interactions.weights, plain.interactions.weights), "what rounds and surveys read"
    assert not np.array_equal(aged.recent.weights, plain.recent.weights)


def test_time_alone_changes_no_list_and_a_new_event_does(open_device: Open, clock: Any) -> None:
    device = open_device()
    lived(device, clock.now)
    kept = Interests(device.store, ITEMS, device.weighting, recent_half_life_days=30.0)
    before = kept.look()
    clock.now += 100 * DAY
    assert kept.look() is before
    device.track("like", ITEMS[11])
    grown = kept.look().recent
    anew = Interests(device.store, ITEMS, device.weighting, recent_half_life_days=30.0).look().recent
    assert np.array_equal(grown.weights, anew.weights)
    assert grown.weights[list(grown.indices).index(11)] == grown.weights.max()
    assert grown.weights.sum() == pytest.approx(10)


def test_two_decays_have_one_half_life() -> None:
    assert decaying(Weighting(half_life_days=30.0), 60.0).half_life_days == pytest.approx(20.0)
    assert decaying(Weighting(), 60.0).half_life_days == 60.0


def test_old_events_of_many_half_lives_stay_finite() -> None:
    history = Interactions.from_pairs([0, 0, 1], [0, 1, 1], n_users=2, n_items=2)
    found = recent(history, np.array([1e-38, 1.0, 1e-38], np.float32))
    assert np.isfinite(found.weights).all()
    assert (found.weights > 0).all()
    assert found.weights.tolist()[1:] == [2.0, 1.0], "somebody's only event weighs what it did"


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan"), float("inf")])
def test_a_half_life_that_is_none_is_refused(device: Device, trained: Trained, days: float) -> None:
    with pytest.raises(InputError, match="`half_life_days` must be positive and finite"):
        device.use_model(trained(), ITEMS, recent_half_life_days=days)


def test_ratings_do_not_fade(device: Device, trained: Trained) -> None:
    model = trained("sgd", {"loss": "ratings"})
    assert model.learns_ratings
    assert not trained().learns_ratings
    with pytest.raises(InputError, match="must be None for a model that learns ratings"):
        device.use_model(model, ITEMS, recent_half_life_days=30.0)


def test_a_published_model_says_its_half_life(open_device: Open, trained: Trained, clock: Any, tmp_path: Path) -> None:
    key, base = SigningKey.generate(), trained()
    header = ModelHeader(**{**base.header.model_dump(), "catalogue": catalogue_hash(ITEMS)})
    shown = Shown(checkpoint=Checkpoint(size=1, root="0" * 64))
    files = published.pack(
        GlobalModel(header, base.state),
        ItemCatalogue(ITEMS),
        {"recent_half_life_days": 30.0},
        key,
        population="readers",
        shown=shown,
    )
    published.write(tmp_path / "model", files)
    device = open_device(service=palate.Service(public_key=key.public, population="readers"))
    lived(device, clock.now)
    assert device.update_model(tmp_path / "model")
    scores = np.array(base.scores(expected(30.0))[0])
    best = device.recommend(1, discovery=0.0)[0]
    assert best.score == pytest.approx(scores[ITEMS.index(best.item)], rel=1e-2)  # the compact model is in int8
