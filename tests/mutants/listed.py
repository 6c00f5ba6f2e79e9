"""Listed: known bugs of private learning, grouped by kind; the checks that each names must find it.

A group is the functions of `GROUP.py`, if there are some, and then the rows of `rows/GROUP.txt`.
"""

from importlib import import_module
from pathlib import Path

from mutants.mutant import LISTED, Mutant, rows

HERE = Path(__file__).parent


def _group(name: str) -> list[Mutant]:
    """The mutants of a group."""
    if (HERE / f"{name}.py").exists():
        import_module(f"mutants.{name}")
    rows(f"mutants.{name}", (HERE / "rows" / f"{name}.txt").read_text(encoding="utf-8"))
    return LISTED[f"mutants.{name}"]


GROUPS = {
    name: _group(name)
    for name in (
        "clipping", "blocks", "units", "noise", "draws", "randomness", "accounting", "ledger", "aggregation", "secagg",
        "release", "local", "device", "witnesses", "leaving", "remembered", "rare", "planted",
    )
}  # fmt: skip
"""Every mutant, by group."""

MUTANTS: tuple[Mutant, ...] = tuple(each for group in GROUPS.values() for each in group)


def find(name: str) -> Mutant:
    """A mutant by its name, in whatever case."""
    return next(each for each in MUTANTS if each.name.casefold() == name.casefold())
