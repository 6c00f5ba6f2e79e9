"""LearningCurve: quality on the validation users after each release. Oracle metrics: simulation only."""

from __future__ import annotations

import math
import time
from typing import Any

from palate_common.accounting import epsilon_of
from palate_common.ledger import Ledger
from palate_common.plan import DpMode
from palate_server.registry import Registry
from palate_server.replay import Replay
from palate_server.terms import RunTerms
from palate_sim.config import SimulationConfig
from palate_sim.judging import Notify, headline, percentile_rank, validation_quality
from palate_sim.splits import Split


class LearningCurve:
    """Follows a run's releases from its folder, whichever process makes them.

    Attributes:
        points: one dict a release, for result.json.
        cpu_seconds: what measuring has cost so far.
    """

    def __init__(
        self,
        terms: RunTerms,
        registry: Registry,
        ledger: Ledger,
        split: Split,
        config: SimulationConfig,
        notify: Notify,
    ) -> None:
        self._terms, self._registry, self._ledger, self._split, self._config = terms, registry, ledger, split, config
        self._notify = notify
        self._replay = Replay(terms)
        self._started = time.perf_counter()
        self.points: list[dict[str, Any]] = []
        self.cpu_seconds = 0.0

    def catch_up(self) -> None:
        """Judge every release that is sealed and was not judged yet."""
        before = time.process_time()
        for attempt, sealed_hash, mu2 in self._sealed()[self._replay.round :]:
            self._replay.read(self._registry, attempt, sealed_hash)
            self.points.append(self._judged(mu2))
            self._notify({"event": "round", "rounds": len(self._replay.algorithm.shares), **self.points[-1]})
        self.cpu_seconds += time.process_time() - before

    def _judged(self, mu2: float) -> dict[str, Any]:
        """The point of the latest release."""
        metric = headline(self._split, self._config.evaluation.ks)
        model, validation = self._replay.model, self._split.validation
        private = self._terms.dp is not DpMode.OFF
        return {
            "round": self._replay.round - 1,
            "epsilon": epsilon_of(mu=math.sqrt(mu2), delta=self._terms.delta) if private else None,
            metric: validation_quality(model, self._split, self._config, metric),
            "loss": None if validation is None else percentile_rank(model, validation),
            "seconds": round(time.perf_counter() - self._started, 3),
        }

    def _sealed(self) -> list[tuple[int, str | None, float]]:
        """Attempt, hash and mu^2 spent so far of each release, in order; without privacy, whatever was persisted."""
        if self._terms.dp is DpMode.OFF:
            rounds = range(len(self._replay.algorithm.shares))
            return [(0, None, 0.0) for round_ in rounds if self._registry.holds(round_, 0)]
        spent = 0.0
        sealed: list[tuple[int, str | None, float]] = []
        for entry in self._ledger.entries(self._terms.run):
            if entry.kind == "charge":
                spent += entry.mu2
            elif entry.kind == "seal":
                sealed.append((entry.attempt, entry.release_hash, spent))
        return sealed
