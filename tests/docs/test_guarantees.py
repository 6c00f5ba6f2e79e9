"""Guarantees have one spelling in all packages, and each that has a name has a test of that name.

    **Guarantees:** charge rounded up: never below the exact quotient.     test_charge_rounded_up...

The name stands before the colon. In `common` every line has one.
"""

from __future__ import annotations

import re
from pathlib import Path

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


def test_there_is_one_spelling() -> None:
    other = re.compile(r"^ *(?:Guarantees?|Assumes|Assumptions):.*$", re.MULTILINE)
    assert {module: found for module, text in MODULES.items() if (found := other.findall(text))} == {}


def test_every_named_claim_has_a_test_of_its_name() -> None:
    claimed = {module: named(MODULES[module]) for module in CLAIMING}
    there = names_of_tests()
    assert [(module, name) for module in claimed for name in claimed[module] if f"_{as_test(name)}_" not in there] == []


def test_every_claim_in_common_has_a_name() -> None:
    claims = {module: LINE.findall(MODULES[module]) for module in CLAIMING if module.startswith("common/")}
    assert [module for module, lines in claims.items() if len(named(MODULES[module])) != len(lines)] == []


def test_there_are_guarantees() -> None:
    assert sum(len(named(text)) for text in MODULES.values()) >= 100
