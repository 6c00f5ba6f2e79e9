"""contributed.json: what algorithms send for some histories: from the model file and the history to clipped numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import whole_direction
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.survey import Survey


def contributed() -> dict[str, Any]:
    """What algorithms send for some histories: from the model file and the history to clipped numbers.

    The states are made up, of numbers that every machine writes alike; no server would have released them.
    """
    n, rng = 150, np.random.default_rng(5)
    items = [f"item-{row}" for row in range(n)]
    sizes = (0, 1, 2, 9, 40, 145)
    rows = [np.sort(rng.permutation(n)[:size]) for size in sizes]
    weights = [np.ones(size) if size % 2 else rng.integers(1, 9, size) / 4 for size in sizes]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    histories = Interactions.from_pairs(
        owners, np.concatenate(rows), np.concatenate(weights), n_users=len(sizes), n_items=n
    )
    features = PublicFacts(
        n_users=20_000, n_items=n, mu=0.1, n_features=5, panel_users=40, seed=2**40 + 3, subcohorts=4
    )
    plain = PublicFacts(n_users=2000, n_items=n, mu=1.0, seed=7)
    survey = {"first_day": "2026-11-23", "channels": ["email"], "items": ["apple", "pear"]}
    questions = Survey.model_validate(survey).questions()
    asked = PublicFacts(n_users=2000, n_items=len(questions), mu=1.0, seed=7)
    answers = Interactions.from_pairs(
        [0, 0, 0, 0, 1], [0, 3, 8, 18, 4], [1, 1, 1, 0.6, 0.3], n_users=2, n_items=len(questions)
    )
    vote = {"pair_items": 12, "vote_share": 0.01}
    cases: list[tuple[str, str, dict[str, Any], PublicFacts, dict[str, Any], list[str], Interactions, list[int]]] = [
        ("popularity", "popularity", {}, plain, {}, items, histories, [0]),
        ("als, left centring", "als", {}, plain, als_state(rng, n, 40, 4, along=True), items, histories, [0, 1]),
        ("als, most items in the head", "als", {}, plain, als_state(rng, n, 140, 2), items, histories, [2]),
        ("als, pairs and votes", "als", vote, features, als_linked(rng, n), items, histories, [1, 3]),
        ("a survey", "analytics", survey, asked, {}, list(questions), answers, [0]),
    ]
    return {"cases": [_contributed(*case) for case in cases]}


def als_state(rng: np.random.Generator, n: int, head: int, width: int, *, along: bool = False) -> dict[str, Any]:
    """A state of `als` before a later round."""
    counts = (np.sort(rng.integers(1, 400, n))[::-1] / 2).astype(np.float32)
    weight = (counts[:head] / 64).astype(np.float32)
    state = {
        "counts": counts,
        "floor": np.array([2.0], np.float32),
        "head": np.arange(head, dtype=np.int32),
        "weight": weight,
        "table": (rng.integers(-512, 512, (head, width)) / 256).astype(np.float32),
    }
    if along:
        state["along"] = whole_direction(weight.astype(np.float64) ** 0.85, grid=2**20).astype(np.int32)
    return state


def als_linked(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """The same with directions, content, and links of pairs and of an open panel."""
    state = als_state(rng, n, 60, 3, along=True)
    state |= {
        "basis": (rng.integers(-512, 512, (60, 3)) / 2048).astype(np.float32),
        "strength": np.array([0.5, 0.25, 0.125], np.float32),
        "accuracy": np.array([0.75, 0.5, 0.25], np.float32),
        "values": np.array([8, 4, 2], np.float32),
        "noise": np.array([1, 1], np.float32),
        "content": (rng.integers(-512, 512, (n, 4)) / 2048).astype(np.float32),
        "content_weight": np.ones(1, np.float32),
        "pair_head": np.arange(3, 15, dtype=np.int32),
    }
    for name, linked in (("pairs", 12), ("open", 30)):
        to = np.sort(np.stack([rng.permutation(n)[:4] for _ in range(linked)]), axis=1)
        state |= {
            f"{name}_items": np.sort(rng.permutation(n)[:linked]).astype(np.int32),
            f"{name}_to": to.astype(np.int32),
            f"{name}_links": (rng.integers(-256, 257, (linked, 4)) / 256).astype(np.float32),
            f"{name}_scale": (rng.integers(1, 64, linked) / 64).astype(np.float32),
            f"{name}_weight": np.array([0.5], np.float32),
            f"{name}_balance": np.array([0.5], np.float32),
        }
    return state


def _contributed(
    what: str,
    name: str,
    settings: dict[str, Any],
    facts: PublicFacts,
    state: dict[str, Any],
    items: list[str],
    histories: Interactions,
    rounds: list[int],
) -> dict[str, Any]:
    """One model, and what is sent for each history in each round."""
    algorithm = make_algorithm(name, settings, facts)
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=1, catalogue=catalogue_hash(items))
    model = GlobalModel(header, state or algorithm.start())
    made = []
    for round_ in rounds:
        layout = algorithm.layout(model.state, round_)
        clipped = clip(algorithm.contribute(model.state, round_, histories), layout, clip_norm=1.0, grid=2**20)
        integers = [clipped.vector(user).astype("<i4") for user in range(histories.n_users)]
        made.append(
            {
                "round": round_,
                "layout": [spec.model_dump(mode="json") for spec in layout],
                "integers_hex": [each.tobytes().hex() for each in integers],
            }
        )
    users = [histories.user(row) for row in range(histories.n_users)]
    return {
        "what": what,
        "model_file_hex": model.data.hex(),
        "histories": [
            {"items": each.indices.tolist(), "weights": each.weights.astype(float).tolist()} for each in users
        ],
        "clip_norm": 1.0,
        "grid": 2**20,
        "rounds": made,
    }
