"""Mutant: one known bug that is patched into the production path until its context ends.

A mutant replaces a function or an attribute of a production module and puts it back. Checks know nothing of mutants: a
mutant names the checks that must find it, a group of `mechanism.battery`, `releases` or a file of ordinary tests.

    >>> from mutants.clipping import no_clip
    >>> with no_clip.injected():
    ...     pass  # every update of this process goes out unclipped
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mutant:
    """One known bug.

    Attributes:
        name: its name, as in the list of bug classes.
        bug: what is wrong, in one line.
        seen: where such a bug was seen, or how it comes about.
        test: the checks that must find it.
        inject: context manager that patches the bug in and removes it.
    """

    name: str
    bug: str
    seen: str
    test: str
    inject: Callable[[], AbstractContextManager[None]]

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Run the production path with this bug, without numpy's warnings, which are no findings."""
        with np.errstate(all="ignore"), self.inject():
            yield


LISTED: dict[str, list[Mutant]] = defaultdict(list)
"""The mutants of each module, in the order in which they are made."""


def mutant(name: str, *, bug: str, seen: str, test: str) -> Callable[[Callable[[], Iterator[None]]], Mutant]:
    """Make a mutant of a generator that patches, yields once, and restores; it is listed with its module's."""

    def made(inject: Callable[[], Iterator[None]]) -> Mutant:
        found = Mutant(name, bug, seen, test, contextmanager(inject))
        LISTED[inject.__module__].append(found)
        return found

    return made
