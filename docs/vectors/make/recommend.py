"""recommend.json: models, what users did, and the lists, reasons and likenesses that follow."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from palate_client.device import open_device
from palate_client.recommend.recommender import Recommendation
from palate_common.algorithms import PublicFacts
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.weighting import Weighting

from .digits import digits
from .key import SECRET


class _Drawn:
    """Random numbers of an exploring list, drawn once and written down in the order of their use."""

    def __init__(self, seed: int) -> None:
        self._rng, self.log = np.random.default_rng(seed), list[float]()

    def random(self, size: int | None = None) -> Any:
        return self._noted(self._rng.integers(0, 2**20, size) / 2**20)

    def exponential(self, size: int) -> Any:
        return self._noted(np.round(self._rng.exponential(size=size) * 2**10) / 2**10 + 2**-10)

    def choice(self, among: Any, count: int, *, replace: bool) -> Any:
        return self._noted(self._rng.choice(among, count, replace=replace))

    def _noted(self, drawn: Any) -> Any:
        self.log += np.atleast_1d(drawn).astype(float).tolist()
        return drawn


def recommend() -> dict[str, Any]:
    """Models, what users did, and the lists, reasons and likenesses that follow; scores to eight digits."""
    items = [f"item-{number:02d}" for number in range(48)]
    domains = ["books" if number % 3 else "films" for number in range(48)]
    start = 1_790_000_000.0
    at = [{"kind": kind, "item": items[row], "at": start + 3600 * n} for n, (kind, row) in enumerate(_DONE)]
    at[3]["value"], at[7]["value"], at[8]["value"] = 5, 2, 40
    said = [
        {"kind": kind, "item": items[row], "at": start + 3600 * n} | ({} if value is None else {"value": value})
        for n, (kind, row, value) in enumerate(_SAID)
    ]
    burst = [{"kind": "view", "item": items[n % 40], "at": start + n / 2} for n in range(70)]
    often = [{"kind": "impression", "item": items[0], "at": start + 60 * n} for n in range(7)]
    lists: list[dict[str, Any]] = [
        {"n": 10, "discovery": 0},
        {"n": 10, "explore": 0},
        {"n": 20, "discovery": 0, "filter_already_liked_items": False},
        {"n": 6, "explore": 0, "discovery": 0.9, "domain": "films"},
        {"n": 5, "explore": 0, "debias": 1, "items": items[5:30], "filter_items": [items[6], "unknown"]},
    ]
    cases = []
    for what, model, did, half_life, preset in (
        ("popularity alone", _popularity_model(), at[:3], None, "plain"),
        ("no events", _als_model(items, sources=2, links=True), [], None, "plain"),
        ("directions alone", _als_model(items, sources=0, links=False), at, None, "plain"),
        ("directions and features", _als_model(items, sources=1, links=False), at, 30.0, "shop"),
        ("two sources of features, fused, and links", _als_model(items, sources=2, links=True), at, None, "movies"),
        ("links alone beside directions", _als_model(items, sources=0, links=True), at[:4], 7.0, "news"),
        ("more than 60 events in a minute", _als_model(items, sources=1, links=True), burst, None, "plain"),
        ("comments, returns and kinds of an app's own", _als_model(items, sources=1, links=True), said, None, _OWN),
        ("shown often", _als_model(items, sources=0, links=False), often, None, "plain"),
    ):
        packed = compact(model)
        cases.append(
            {
                "what": what,
                "preset": preset if isinstance(preset, str) else asdict(preset),
                "recent_half_life_days": half_life,
            }
            | {"model": base64.b64encode(packed).decode(), "events": did}
            | _told(expand(packed, most=2**20), items, domains, did, lists, half_life, preset)
        )
    return {"items": items, "domains": domains, "cases": cases}


_DONE = (
    *(("view", 1), ("like", 7), ("purchase", 13), ("rate", 20), ("dismiss", 9), ("hide", 2), ("view", 1)),
    *(("rate", 30), ("play", 22), ("like", 41), ("skip", 5), ("impression", 3), ("share", 17), ("comment", 44)),
)
_SAID = (
    *(("purchase", 13, 2), ("comment", 7, -1.0), ("comment", 20, 0.5), ("comment", 30, None), ("cart", 22, 1)),
    *(("return", 13, 1), ("unboxed", 41, 3.0), ("sold on", 5, None), ("search", 17, None), ("playlist", 44, None)),
    *(("purchase", 9, 1), ("return", 9, None), ("purchase", 9, 1), ("comment", 22, -0.5), ("wishlist", 22, None)),
)
_OWN = Weighting({"unboxed": 0.5, "sold on": -1.0, "*": 1.0}, combine="sum", cap=3.0)


def _popularity_model() -> GlobalModel:
    counts = np.array([(7 * n) % 48 + n / 64 for n in range(48)], np.float32)
    return _model_of("popularity", {}, {"counts": counts}, [f"item-{number:02d}" for number in range(48)])


def _als_model(items: Sequence[str], *, sources: int, links: bool) -> GlobalModel:
    """A state of `als` out of whole numbers: nothing in it depends on how a machine does linear algebra."""
    n, d, rng = len(items), 4, np.random.default_rng(len(items) + 2 * sources + links)
    counts = np.array([400 // (1 + (11 * row) % n) + row / 64 for row in range(n)], np.float32)
    head = np.sort(np.argsort(-counts, kind="stable")[:30]).astype(np.int32)
    floored = np.maximum(counts.astype(np.float64), 5.0)
    state = {
        "counts": counts,
        "floor": np.array([5.0], np.float32),
        "head": head,
        "weight": (floored[head] / np.sort(floored)[-30:].mean()).astype(np.float32),
        "basis": (rng.integers(-40, 41, (30, d)) / 128).astype(np.float32),
        "strength": np.array([0.5, 0.25, 0.125, 0.03125], np.float32),
        "accuracy": np.array([1.0, 0.9375, 0.75, 0.5], np.float32),
        "values": np.array([8, 4, 2, 1], np.float32),
        "noise": np.array([0.5, 0.25], np.float32),
    }
    settings: dict[str, Any] = {}
    if sources:
        state["content"] = (rng.integers(-40, 41, (n, 3 * sources)) / 128).astype(np.float32)
        state["content_weight"] = np.array([0.5], np.float32)
        state["new_items"] = np.zeros((3 * sources + 1, 1 + 3 * sources + d), np.float32)
    if sources > 1:
        settings["feature_sources"] = {"genres": 3, "titles": 3}
        state["content_widths"] = np.array([3, 3], np.int32)
    for name, rows in (("pairs", head[::2]), ("open", np.arange(0, n, 5, dtype=np.int32))) if links else ():
        to = np.sort([rng.choice(np.delete(np.arange(n), row), 6, replace=False) for row in rows]).astype(np.int32)
        state[f"{name}_items"], state[f"{name}_to"] = rows, to
        state[f"{name}_links"] = (rng.integers(-64, 65, to.shape) / 64).astype(np.float32)
        state[f"{name}_scale"] = (rng.integers(1, 33, len(rows)) / 64).astype(np.float32)
        state[f"{name}_weight"] = np.array([0.5 if name == "pairs" else 1.0], np.float32)
        state[f"{name}_balance"] = np.array([0.375], np.float32)
    return _model_of("als", settings, state, items, features=3 * sources, panel=9 if links else 0)


def _model_of(
    name: str,
    settings: dict[str, Any],
    state: dict[str, Any],
    items: Sequence[str],
    *,
    features: int = 0,
    panel: int = 0,
) -> GlobalModel:
    facts = PublicFacts(n_users=1000, n_items=len(items), n_features=features, panel_users=panel)
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=2, catalogue=catalogue_hash(items))
    return GlobalModel(header, state)


def _told(
    model: GlobalModel,
    items: Sequence[str],
    domains: Sequence[str],
    did: Sequence[dict[str, Any]],
    lists: Sequence[dict[str, Any]],
    half_life: float | None,
    preset: str | Weighting,
) -> dict[str, Any]:
    """What a device says with this model after these events."""
    now, drawn = [0.0], _Drawn(7)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_device(folder, app="vectors", key=SECRET, preset=preset, clock=lambda: now[0]) as device,
    ):
        device.consent.grant("store")
        for event in did:
            now[0] = event["at"]
            if not device.track(event["kind"], event["item"], value=event.get("value")):
                raise ValueError(f"an event of the vectors must be stored: {event}")
        now[0] = 1_790_100_000.0
        rng: Any = drawn
        device.use_model(model, items, domains=domains, recent_half_life_days=half_life, rng=rng)
        look = device.recommendations.recommender()._interests.look()
        found: dict[str, Any] = {
            "now": now[0],
            "history": {"rows": look.recent.indices.tolist(), "weights": digits(look.recent.weights)},
            "unwanted": look.unwanted.tolist(),
            "resting": look.resting.tolist(),
            "lists": [{"options": options, "items": _list(device.recommend(**options))} for options in lists],
        }
        drawn.log.clear()
        found["exploring"] = {
            "options": {"n": 10, "explore": 0.4, "domain": "books"},
            "items": _list(device.recommend(10, explore=0.4, domain="books")),
            "drawn": list(drawn.log),
        }
        found["explained"] = [
            {
                "item": why.item,
                "score": digits(why.score),
                "rest": digits(why.rest),
                "text": why.text,
                "contributions": [
                    [each.item, each.kind, digits(each.score), digits(each.linked)] for each in why.contributions
                ],
            }
            for why in (device.explain(items[row]) for row in (0, 25))
        ]
        found["similar"] = [
            {
                "item": items[row],
                "like": [[each.item, digits(each.score)] for each in device.similar_items(items[row], 6)],
            }
            for row in (4, 7)
        ]
        found["questions"] = device.questions(4)
    return found


def _list(shown: Sequence[Recommendation]) -> list[list[Any]]:
    return [[each.item, digits(each.score), each.source, each.reason] for each in shown]
