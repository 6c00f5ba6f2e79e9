"""Mutant: one known bug, put into the production path for as long as a context lasts.

A mutant replaces a function or an attribute of a production module and puts it back. It knows no test, as no test
knows it: it names the letter of the one that has to find it, and a kill table says which did.

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
    """A bug.

    Attributes:
        name: what it is called, in the words of the list of bug classes.
        bug: what is wrong, in a line.
        seen: where it was seen, or how it comes about.
        test: letter of the test that must find it.
        inject: puts it in; takes it out at the end.
    """

    name: str
    bug: str
    seen: str
    test: str
    inject: Callable[[], AbstractContextManager[None]]

    @contextmanager
    def injected(self) -> Iterator[None]:
        """The production path with this bug, quietly: what numpy has to say about it is no finding."""
        with np.errstate(all="ignore"), self.inject():
            yield


def mutant(name: str, *, bug: str, seen: str, test: str) -> Callable[[Callable[[], Iterator[None]]], Mutant]:
    """Make a mutant of a generator that patches, yields once, and restores."""
    return lambda inject: Mutant(name, bug, seen, test, contextmanager(inject))
