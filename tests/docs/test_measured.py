"""The README's figures are those of the benchmarks."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest


@pytest.fixture(scope="module")
def measured() -> Any:
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("measured", Path(__file__).parents[2] / "docs" / "measured.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_shows_what_was_measured(measured: Any, pages: dict[str, Any]) -> None:
    """If this fails, run docs/measured.py."""
    text = pages["README.md"].text
    shown = text.partition(measured.BEGIN)[2].partition(measured.END)[0]
    assert shown == f"\n\n{measured.section()}\n\n"


def test_every_benchmark_is_listed(root: Any, pages: dict[str, Any]) -> None:
    folders = {file.parent.name for file in (root / "simulations" / "benchmarks").glob("*/results.md")}
    text = pages["docs/benchmarks.md"].text
    assert not [name for name in folders if text.count(f"| [`simulations/benchmarks/{name}`]") != 1], "once each"


def test_every_command_of_a_benchmark_finds_palates_own(root: Any) -> None:
    """Opacus installs a package of the same name, `benchmarks`: without the path, a script would find that one."""
    files = [root / "README.md", *root.glob("docs/**/*.md"), root / "docs" / "measured.py"]
    files += [*root.glob("simulations/benchmarks/*/README.md"), *root.glob("simulations/benchmarks/*/*.py")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    calls = [line for line in lines if "python simulations/benchmarks/" in line and not line.startswith("*Measured:")]
    assert len(calls) > 50
    assert not [line for line in calls if "PYTHONPATH=simulations " not in line]
