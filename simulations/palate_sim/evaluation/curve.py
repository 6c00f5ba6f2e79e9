"""LearningCurve: quality on the validation users after each release. Oracle metrics: simulation only."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from palate_common.mechanism.accounting import epsilon_of, total_mu2
from palate_common.mechanism.update import layout_size, released_size
from palate_common.rounds.plan import RoundPlan
from palate_common.rounds.wire import packed_bytes
from palate_server.ledger.history import ChargeEntry
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Release
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.model_evaluation import Notify, headline, percentile_rank, validation_quality
from palate_sim.preparation.preparation import Prepared


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

    def __call__(self, release: Release) -> None:
        """Evaluate one release."""
        plan, split = release.plan, self._prepared.split
        metric = headline(split, self._config.evaluation.ks)
        point = {
            "round": plan.round,
            "attempt": plan.attempt,
            "epsilon": self._spent(plan) if plan.mode.private else None,
            metric: validation_quality(release.model, self._prepared, self._config, metric),
            "loss": None if split.validation is None else percentile_rank(release.model, split.validation),
            "users": release.participation.users,
            "rejected": release.participation.rejected,
            "model_bytes": len(release.model.data),
            "upload_bytes": upload_bytes(plan),
            "seconds": round(time.perf_counter() - self._started, 3),
        }
        self.points = [earlier for earlier in self.points if earlier["round"] < plan.round] + [point]
        self._notify({"event": "round", "rounds": self._last, **point})

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
