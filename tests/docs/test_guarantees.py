"""Guarantees have one spelling in all packages, and each that has a name has a test of that name.

    **Guarantees:** charge rounded up: never below the exact quotient.     test_charge_rounded_up...

The name stands before the colon. In `common` every line has one.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "client", "server", "simulations")
LINE = re.compile(r"\*\*(?:Guarantees|Assumes):\*\* (.*)")
NAME = re.compile(r"([^:.;]+):( |$)")
MODULES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
CLAIMING = sorted(module for module, text in MODULES.items() if LINE.search(text))


@cache
def names_of_tests() -> str:
    """The names of all tests, a line each."""
    found = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*def test_(\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return "\n".join(f"_{name}_" for name in sorted(found))


def named(text: str) -> list[str]:
    """The names of a module's claims."""
    return [name.group(1) for line in LINE.findall(text) if (name := NAME.match(line))]


def as_test(name: str) -> str:
    """A claim's name as tests spell it."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"['`]", "", name.lower())).strip("_")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_there_is_one_spelling(module: str) -> None:
    assert not re.findall(r"^ *(?:Guarantees?|Assumes|Assumptions):.*$", MODULES[module], re.MULTILINE)


@pytest.mark.parametrize("module", CLAIMING)
def test_every_named_claim_has_a_test_of_its_name(module: str) -> None:
    missing = [name for name in named(MODULES[module]) if f"_{as_test(name)}_" not in names_of_tests()]
    assert not missing


@pytest.mark.parametrize("module", [module for module in CLAIMING if module.startswith("common/")])
def test_every_claim_in_common_has_a_name(module: str) -> None:
    assert len(named(MODULES[module])) == len(LINE.findall(MODULES[module]))


def test_there_are_guarantees() -> None:
    assert sum(len(named(text)) for text in MODULES.values()) >= 100
