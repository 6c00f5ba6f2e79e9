"""Provenance: which source the mechanism of a run was loaded from, so that an audit can tell whether it has the same.

    >>> "palate_common.mechanism.clipping" in mechanism_sources()
    True

A run's terms name the hashes, and the ledger keeps the terms. They cover the files on disk of the machine that opened
the run, at that time. They say nothing about the code on other people's devices.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
from functools import cache
from pathlib import Path

ROOMS = (
    "palate_client.rounds",
    "palate_client.secagg",
    "palate_common.mechanism",
    "palate_common.rounds",
    "palate_common.secagg",
    "palate_server.rounds",
    "palate_server.secagg",
)
"""Packages whose modules clip, encode, share, mask, sum, account, add noise and seal. All their modules count."""


PREPARATION = ("palate_sim.data", "palate_sim.preparation")
"""Packages whose modules turn a log into prepared histories."""


@cache
def _sources(rooms: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Each module's name and the hash of its file, read once a process."""
    return tuple(
        (f"{room}.{file.stem}", hashlib.sha256(file.read_bytes()).hexdigest())
        for room in rooms
        for folder in _folders(room)
        for file in sorted(folder / f"{module.name}.py" for module in pkgutil.iter_modules([str(folder)]))
    )


def _folders(room: str) -> list[Path]:
    """The folders of a package."""
    spec = importlib.util.find_spec(room)
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec is not None else []


def mechanism_sources() -> dict[str, str]:
    """SHA-256 of the source of each module of the mechanism, by name."""
    return dict(_sources(ROOMS))


def preparation_sources() -> dict[str, str]:
    """SHA-256 of the source of each module that prepares a log, by name."""
    return dict(_sources(PREPARATION))
