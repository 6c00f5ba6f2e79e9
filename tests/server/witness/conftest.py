"""A log, folders of witnesses, and their processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from witnessed import Log, Running, end, free_port, start

from palate_server.witness.folder import WitnessConfig, WitnessFolder


@pytest.fixture
def log() -> Log:
    made = Log()
    made.grow(300)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., WitnessFolder]:
    """Makes a witness's folder that watches logs."""

    def made(*logs: Log, name: str = "witness", copy: str = "", per_second: float = 1000.0) -> WitnessFolder:
        config = WitnessConfig(name=f"{name}.example/palate", port=free_port(), copy=copy, per_second=per_second)
        folder = WitnessFolder.make(tmp_path / name, config)
        for each in logs:
            folder.add(each.verifier_key)
        return folder

    return made


@pytest.fixture
def run_witness() -> Iterator[Callable[[WitnessFolder], Running]]:
    """Starts processes, and ends them."""
    started: list[Running] = []

    def run(folder: WitnessFolder) -> Running:
        started.append(start(folder))
        return started[-1]

    yield run
    for each in started:
        end(each)
