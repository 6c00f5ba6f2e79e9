"""LearningCurve: quality on validation users after each release. Oracle metrics: simulation only.

`evaluation.look_users` of them at most, drawn by the seed: the same users in every round.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from palate_common.rounds.wire import packed_bytes
from palate_core.accounting import epsilon_of, total_mu2
from palate_core.layout import layout_size, released_size
from palate_core.plan import RoundPlan
from palate_server.ledger.history import ChargeEntry
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.aggregation import ParticipationCounts
from palate_server.rounds.coordinator import Release
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.model_evaluation import headline, look
from palate_sim.evaluation.sampling import LOOKED, some_heldout
from palate_sim.preparation.preparation import Prepared
from palate_sim.steps import Notify, step


class LearningCurve:
    """A callback that evaluates each release, keeps one point of it, and reports that.

    Attributes:
        points: one dict a release, those of the attempts before a resume included.
    """

    def __init__(
        self,
        ledger: Ledger,
        prepared: Prepared,
        config: SimulationConfig,
        notify: Notify,
        *,
        delta: float,
        last: int,
        events: Path,
    ) -> None:
        self._ledger, self._prepared, self._config, self._notify = ledger, prepared, config, notify
        self._delta, self._last = delta, last
        self._started = time.perf_counter()
        self.points = earlier_points(events)
        validation, most = prepared.split.validation, config.evaluation.look_users
        self._looked = validation and some_heldout(validation, most, seed=config.seed, purpose=LOOKED)

    def __call__(self, release: Release) -> None:
        """Evaluate one release."""
        plan = release.plan
        point = {
            "round": plan.round,
            "attempt": plan.attempt,
            "epsilon": self._spent(plan) if plan.mode.private else None,
            **self._quality(release),
            "users": release.participation.users,
            "rejected": release.participation.rejected,
            "model_bytes": len(release.model.data),
            "upload_bytes": upload_bytes(plan),
            "seconds": round(time.perf_counter() - self._started, 3),
        }
        others = [earlier for earlier in self.points if earlier["round"] != plan.round]
        self.points = sorted([*others, point], key=lambda each: int(each["round"]))
        self._notify({"event": "round", "rounds": self._last, **point})

    def catch_up(self, terms: RunTerms, registry: Registry) -> None:
        """Evaluate the releases that earlier processes of the run sealed, but did not live to evaluate.

        Raises:
            IntegrityError: a sealed release is missing or changed.
        """
        entries, known = self._ledger.entries(terms.run), {point["round"] for point in self.points}
        if terms.mode.private and sum(entry.kind == "seal" for entry in entries) <= len(known):
            return
        replay = Replay(terms, registry.read_inputs(terms.inputs))
        for noisy in replay.go_on(registry, entries):
            if noisy.plan.round not in known:
                # No device of a simulation has limits of its own, by which it would be rejected.
                self(Release(noisy.plan, ParticipationCounts(noisy.users, 0, 0, 0), replay.model))

    def _quality(self, release: Release) -> dict[str, Any]:
        """The headline metric with its 95 % interval and the mean rank, on the same validation users every time."""
        split, ks, heldout = self._prepared.split, self._config.evaluation.ks, self._looked
        metric = headline(split, ks, ratings=release.model.learns_ratings)
        if heldout is None:
            return {metric: None, "mean_rank": None}
        users = heldout.target.n_users
        with step(self._notify, f"evaluating round {release.plan.round + 1}", of=users, unit="users") as advance:
            found = look(release.model, self._prepared, self._config, heldout, advance)
        low, high = found.interval(metric, np.random.default_rng([self._config.seed, 2]))
        return {metric: found.mean(metric), "low": low, "high": high, "mean_rank": found.mean_rank, "looked_at": users}

    def _spent(self, plan: RoundPlan) -> float:
        """Epsilon of the run up to this attempt, void ones included; the next one may be charged already."""
        charges = [entry for entry in self._ledger.entries(plan.run) if isinstance(entry, ChargeEntry)]
        reached = [c.mu2 for c in charges if (c.round, c.attempt) <= (plan.round, plan.attempt)]
        return epsilon_of(mu=math.sqrt(total_mu2(reached)), delta=self._delta)


def upload_bytes(plan: RoundPlan) -> int:
    """Size of one installation's contribution, as packed integers."""
    if plan.mode.noised_by_devices:
        return -(-released_size(plan.layout) * plan.bits(1) // 8)
    return packed_bytes(layout_size(plan.layout), plan.grid)


def earlier_points(events: Path) -> list[dict[str, Any]]:
    """The points that earlier processes of this run logged; a line that a crash cut short is left out."""
    points = []
    for line in events.read_text(encoding="utf-8").splitlines() if events.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("event") == "round":
            points.append({key: value for key, value in event.items() if key not in ("event", "at", "rounds")})
    return points
