"""Clock: the cost of a run, in seconds of all processes and bytes of memory."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from typing import Any

from palate_sim.engines import Outcome


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Largest resident memory of this process or one of its finished children."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(part).ru_maxrss for part in who) * 1024


@dataclass(frozen=True)
class Clock:
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
        return {"seconds": seconds, "updates_per_cpu_second": rate, "peak_memory_bytes": peak_bytes()}
