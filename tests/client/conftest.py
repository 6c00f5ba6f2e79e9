"""A device's store in a temporary folder, with a clock that tests can set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import palate

NOW = 1_790_000_000.0
KEY = bytes(range(32))


@dataclass
class Clock:
    """Unix time that stands still."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "palate"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where the system offers it: a killed process doesn't ask the disk for much."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture
def open_device(folder: Path, clock: Clock) -> Iterator[Callable[..., palate.Device]]:
    """Open the store, as often as wanted; `consent` grants `store`."""
    with ExitStack() as stack:

        def open_(*, consent: bool = True, **changes: Any) -> palate.Device:
            device = palate.open(**{"path": folder, "app": "shelf", "key": KEY, "clock": clock, **changes})
            stack.enter_context(device)
            if consent and not device.consent.get("store"):
                device.consent.grant("store")
            return device

        yield open_


@pytest.fixture
def device(open_device: Callable[..., palate.Device]) -> palate.Device:
    """A device whose user agreed to `store`."""
    return open_device()
