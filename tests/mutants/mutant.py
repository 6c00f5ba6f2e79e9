"""Mutant: one known bug that is patched into the production path until its context ends.

A mutant replaces a function or an attribute of a production module and puts it back. Mutants and tests don't refer to
each other: a mutant names only the letter of the test that must find it, and the kill table shows which test did.

    >>> from palate_audit.mutants.clipping import no_clip
    >>> with no_clip.injected():
    ...     pass  # every update of this process goes out unclipped
"""

from __future__ import annotations

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
        test: letter of the test that must find it.
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


def mutant(name: str, *, bug: str, seen: str, test: str) -> Callable[[Callable[[], Iterator[None]]], Mutant]:
    """Make a mutant of a generator that patches, yields once, and restores."""
    return lambda inject: Mutant(name, bug, seen, test, contextmanager(inject))
