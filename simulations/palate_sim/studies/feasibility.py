"""Feasibility: the cost and quality of a run with given numbers of users and items, before there is any data.

Rounds, sizes, noise and bytes follow from public numbers alone. The quality is a band: the share of their quality
without privacy that public data sets kept at the same signal (mu x users), measured by
`simulations/benchmarks/feasibility`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.als.algorithm import Als
from palate_common.algorithms.als.plan import AlsSettings
from palate_common.algorithms.als.vote import CHOICES
from palate_common.algorithms.parts.links import MOST_LINKS
from palate_common.rounds.wire import packed_bytes
from palate_common.score_sources import PAIRS
from palate_core.accounting import check_delta, check_epsilon, default_delta, epsilon_of, mu_of, sigma_for
from palate_core.errors import InputError

GRID = 2**20
WINDOW = 2.0
"""Measured points within this factor of the asked signal make the band."""


@dataclass(frozen=True)
class Band:
    """The share of quality without privacy that measured data sets kept at about this signal.

    Attributes:
        low, middle, high: smallest, median and largest share kept.
        points: how many measurements.
        sets: which data sets.
        note: how the band must be read.
    """

    low: float
    middle: float
    high: float
    points: int
    sets: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Feasibility:
    """A planned run. Epsilon is user-level, zero-out, of the whole run, popularity included.

    Attributes:
        users, items: as asked.
        epsilon, delta, mu: the budget.
        rounds: releases, popularity included.
        embedding_size, head_items: the item table of the later rounds.
        pair_items: items whose pairs are counted in the second round, 0 without.
        noise_multipliers: noise over sensitivity, by round.
        epsilon_after: spent after each round.
        bytes_up: what an installation sends, by round, as packed integers.
        bytes_down: what it receives, by round.
        band: the expected quality.
    """

    users: int
    items: int
    epsilon: float
    delta: float
    mu: float
    rounds: int
    embedding_size: int
    head_items: int
    pair_items: int
    noise_multipliers: tuple[float, ...]
    epsilon_after: tuple[float, ...]
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    band: Band

    @property
    def signal(self) -> float:
        """How far a count that all users share stands above the noise: mu x users."""
        return self.mu * self.users


def plan(*, users: int, items: int, epsilon: float, delta: float | None = None) -> Feasibility:
    """Plan a run of the default algorithm from public numbers.

    Args:
        users: installations that would take part.
        items: items in the catalogue.
        epsilon: of the whole run; user-level, zero-out.
        delta: default min(1e-5, 1/(10 users)).

    Raises:
        InputError: a number out of range.
    """
    for name, count in (("users", users), ("items", items)):
        if count < 1:
            raise InputError(f"`{name}` must be at least 1, got {count}")
    delta = check_delta(default_delta(n_users=users) if delta is None else delta)
    mu = mu_of(epsilon=check_epsilon(epsilon), delta=delta)
    learner = Als(AlsSettings(), PublicFacts(n_users=users, n_items=items, mu=mu))
    shares, size, head = learner.shares, learner.plan.embedding_size, learner.plan.head_items
    later, paired = len(shares) - 1, learner.plan.pair_items
    coordinates = [items, *[head * size] * later]
    if paired:  # and their trace, and the vote on their links
        coordinates[1] += paired * (paired - 1) // 2 + 1
        coordinates[-1] += len(CHOICES[PAIRS]) - 1 if PAIRS in learner.plan.votes else 0
    links = paired * (8 * min(MOST_LINKS, paired - 1) + 8) if paired else 0
    spent = [mu * math.sqrt(sum(shares[: last + 1])) for last in range(len(shares))]
    state = 4 * items + 4 * head * (2 + 2 * size)
    return Feasibility(
        users=users,
        items=items,
        epsilon=epsilon,
        delta=delta,
        mu=mu,
        rounds=len(shares),
        embedding_size=size if len(shares) > 1 else 0,
        head_items=head if len(shares) > 1 else 0,
        pair_items=paired,
        noise_multipliers=tuple(sigma_for(mu_r=mu * math.sqrt(s), sensitivity=GRID) / GRID for s in shares),
        epsilon_after=tuple(min(epsilon_of(mu=m, delta=delta), epsilon) for m in spent),
        bytes_up=tuple(packed_bytes(count, GRID) for count in coordinates),
        bytes_down=tuple(4 * items if last == 0 else state + (links if last > 1 else 0) for last in range(len(shares))),
        band=band(mu * users, measurements()),
    )


def measurements() -> list[dict[str, Any]]:
    """The measured points that come with Palate: set, signal, kept."""
    text = (resources.files("palate_sim.studies") / "feasibility.json").read_text(encoding="utf-8")
    points: list[dict[str, Any]] = json.loads(text)["points"]
    return points


def band(signal: float, points: Sequence[dict[str, Any]]) -> Band:
    """The band of the points at about this signal; outside the measured range, that of the nearest end, with a note."""
    signals = [float(point["signal"]) for point in points]
    inside = min(max(signal, min(signals)), max(signals))
    near = [p for p in points if inside / WINDOW <= p["signal"] <= inside * WINDOW]
    kept = sorted(float(point["kept"]) for point in near)
    note = "within the measured range"
    if inside != signal:
        edge = "below" if signal < inside else "above"
        note = f"{edge} the measured range, {min(signals):,.0f} to {max(signals):,.0f}: the band is its end's"
    sets = tuple(sorted({str(point["set"]) for point in near}))
    return Band(kept[0], kept[len(kept) // 2], kept[-1], len(kept), sets, note)
