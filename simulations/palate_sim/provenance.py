"""Provenance: which source the mechanism of a run was loaded from, so that an audit can tell whether it has the same.

    >>> sorted(mechanism_sources())[:2]
    ['palate_client.contribution', 'palate_client.training']

A run's terms name the hashes, and the ledger keeps the terms. They tell of the files on disk when they were taken, on
the machine that opened the run: of what runs on somebody else's device they say nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

MECHANISM = (
    "palate_client.contribution",
    "palate_client.training",
    "palate_common.accounting",
    "palate_common.clipping",
    "palate_common.cohort",
    "palate_common.discrete_gaussian",
    "palate_common.plan",
    "palate_common.randomness",
    "palate_common.secagg.masking",
    "palate_common.shares",
    "palate_common.update",
    "palate_common.wire",
    "palate_server.aggregation",
    "palate_server.allowance",
    "palate_server.coordinator",
    "palate_server.noise",
    "palate_server.registry",
)
"""Modules that clip, encode, share, mask, sum, price, noise and seal."""


@cache
def _sources() -> tuple[tuple[str, str], ...]:
    """Each module's name and the hash of its file, read once a process."""
    found = []
    for name in MECHANISM:
        spec = importlib.util.find_spec(name)
        source = Path(spec.origin).read_bytes() if spec is not None and spec.origin is not None else b""
        found.append((name, hashlib.sha256(source).hexdigest()))
    return tuple(found)


def mechanism_sources() -> dict[str, str]:
    """SHA-256 of the source of each module of the mechanism, by name."""
    return dict(_sources())
