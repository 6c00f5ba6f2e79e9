"""CostMeter: the cost of a run, in seconds of all processes and bytes of memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from palate_common.system import children_seconds, peak_memory
from palate_sim.engines import Outcome


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    return time.process_time() + children_seconds()


@dataclass(frozen=True)
class CostMeter:
    """Measures from its creation on."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=cpu_seconds)

    def facts(self, outcome: Outcome) -> dict[str, Any]:
        """Seconds, client updates per CPU-second from first plan to last release, and memory, for result.json."""
        seconds = {
            "wall": round(time.perf_counter() - self.wall, 3),
            "cpu": round(cpu_seconds() - self.cpu, 3),
            "train_cpu": round(outcome.cpu_seconds, 4),
            "train_wall": round(outcome.wall_seconds, 4),
        }
        rate = outcome.updates / outcome.cpu_seconds if outcome.cpu_seconds else None
        return {"seconds": seconds, "updates_per_cpu_second": rate, "peak_memory_bytes": peak_memory(children=True)}
