"""What is said of extras: that they exist, and how large they are."""

from __future__ import annotations

import importlib.metadata as metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from palate_common.extras import SIZES, to_install

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def brought(name: str, extras: tuple[str, ...], seen: set[tuple[str, tuple[str, ...]]]) -> None:
    """All distributions that one brings, itself included, as far as they are installed."""
    if (name, extras) in seen:
        return
    try:
        requires = metadata.distribution(name).requires or []
    except metadata.PackageNotFoundError:
        return
    seen.add((name, extras))
    for each in map(Requirement, requires):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            brought(each.name.lower().replace("_", "-"), tuple(sorted(each.extras)), seen)


@pytest.mark.parametrize("extra", SIZES)
def test_a_size_is_about_what_the_extra_takes_here(extra: str) -> None:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    brought("palate", (extra,), seen)
    files = {file.locate() for name in {name for name, _ in seen} - {"palate"} for file in metadata.files(name) or ()}
    size = sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).is_file()) / 1e6
    assert size == pytest.approx(SIZES[extra], rel=0.35)


def test_all_that_a_user_may_need_has_a_size() -> None:
    assert set(SIZES) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    assert to_install("torch") == "pip install 'palate[torch]' (850 MB on disk)"
    assert to_install("docs") == "pip install 'palate[docs]'"
