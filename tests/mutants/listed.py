"""Listed: known bugs of private learning, grouped by kind; the checks that each names must find it."""

from importlib import import_module

from mutants.mutant import LISTED, Mutant

GROUPS = {
    name: LISTED[import_module(f"mutants.{name}").__name__]
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
