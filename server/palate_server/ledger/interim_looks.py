"""InterimLooks: interim looks at the A/B tests of a population, by its ledger. Part of `History`.

A test's weeks are registered with the first survey that names it, and never change; in each of them there is one look.
So nobody can look until a difference appears by chance: a further look is refused before anything is charged.

    >>> looks = InterimLooks()
    >>> asked = {"first_day": "2026-11-23", "experiments": ["new-model"]}
    >>> looks.opened("week-48", asked)
    >>> looks.opened("week-49", {**asked, "first_day": "2026-11-30"})
    Traceback (most recent call last):
    palate_core.errors.BudgetError: `new-model` must be looked at in the weeks it was registered with, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate_core.errors import BudgetError, InputError


class InterimLooks:
    """The A/B tests of surveys, and the looks at them.

    **Guarantees:** a test is looked at only in the weeks that were registered before its first look, once in each;
    after entries were lost, there is no further look at an earlier test.
    """

    def __init__(self) -> None:
        self._weeks: dict[str, tuple[str, ...]] = {}
        self._taken: dict[tuple[str, str], str] = {}
        self._lost: frozenset[str] = frozenset()
        self._restored = ""

    def opened(self, run: str, settings: Mapping[str, Any]) -> None:
        """Record that a survey begins."""
        named, week = self.admitted(settings), str(settings.get("first_day"))
        self._weeks |= named
        self._taken |= {(name, week): run for name in settings.get("experiments", ())}

    def closed(self, run: str) -> None:
        """Record that a survey has ended without a release, that is, without a look."""
        self._taken = {look: by for look, by in self._taken.items() if by != run}

    def restored(self, created: str | None) -> None:
        """Record that entries were lost, with possible looks at any test.

        Args:
            created: when the ledger was restored, ISO 8601; None: unknown, so that every test may be an earlier one.
        """
        self._lost |= frozenset(self._weeks)
        self._restored = max(self._restored, "9999-12-31" if created is None else created[:10])

    def admitted(self, settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """Check that a survey may begin; returns the tests that it names, with their weeks.

        Args:
            settings: the survey's settings in the ledger.

        Raises:
            BudgetError: a look at a test is repeated or wasn't registered.
            InputError: the settings are not a survey's.
        """
        week, asked, looks = (settings.get(name, {}) for name in ("first_day", "experiments", "looks"))
        known = isinstance(week, str) and _texts(asked) and isinstance(looks, dict)
        if not known or not all(_texts(weeks) for weeks in looks.values()):
            raise InputError("a survey must have a week, experiments and looks, got something else")
        named = {str(name): tuple(weeks) for name, weeks in {**{name: (week,) for name in asked}, **looks}.items()}
        for name, weeks in named.items():
            before = self._weeks.get(name, weeks)
            if weeks != before or (name in asked and week not in weeks):
                raise BudgetError(
                    f"`{name}` must be looked at in the weeks it was registered with, {', '.join(before)}, got a "
                    f"survey of {week} with {', '.join(weeks)}: a further look is another test, with another name"
                )
            if name in asked and (name, week) in self._taken:
                raise BudgetError(f"`{name}` must be looked at once a week, got {week} again: see the first result")
            if name in asked and (name in self._lost or min(weeks) <= self._restored):
                raise BudgetError(
                    f"`{name}` must be a test whose looks are known, got one from before the ledger was restored: "
                    "begin another, with another name"
                )
        return named


def _texts(values: object) -> bool:
    return isinstance(values, list | tuple | dict) and all(isinstance(value, str) for value in values)
