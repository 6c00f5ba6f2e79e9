"""Cores: how many processors this process may use, by what it is bound to and by its container's quota; BLAS on one.

>>> usable_cores() >= 1
True
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import threadpoolctl  # type: ignore[import-untyped]  # ships no types

from palate_common.system import own_cores

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Processors of this process, 1 at least. A container with a quota of two of 64 processors has two.

    Args:
        cgroups: where the system shows the quota, as cgroup v2 or v1 write it.
    """
    bound = own_cores()
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # there is no quota, which v2 writes as `max` and v1 as -1
            quota, period = map(int, " ".join((cgroups / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                return min(bound, math.ceil(quota / period))
    return bound


def machine() -> str:
    """The processor, how many of its cores this process may use, and how busy they were in the last minute."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    cores = usable_cores()
    return f"{model}, {cores} core{'s' if cores > 1 else ''}{load}"


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Meanwhile a product of matrices takes one thread, from whichever thread it is asked for."""
    with _blas(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _blas(modules: int) -> threadpoolctl.ThreadpoolController:
    """The libraries of so many loaded modules: to look for them takes milliseconds, and only an import brings more."""
    return threadpoolctl.ThreadpoolController()
