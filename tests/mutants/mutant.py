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
from functools import partial
from inspect import signature
from typing import Any
from unittest import mock

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


def mutant(
    name: str, *, bug: str, seen: str, test: str, at: tuple[object, str] | None = None
) -> Callable[[Callable[..., Any]], Mutant]:
    """Make a mutant; it is listed with its module's.

    Args:
        name: as of `Mutant`.
        bug: as of `Mutant`.
        seen: as of `Mutant`.
        test: as of `Mutant`.
        at: the object and the name of its member that the decorated function takes the place of; it receives the
            member itself first, if its first parameter is called `real`. None: the function is a generator that
            patches, yields once, and restores.
    """

    def made(function: Callable[..., Any]) -> Mutant:
        inject = function if at is None else partial(_in_its_place, function, *at)
        found = Mutant(name, bug, seen, test, contextmanager(inject))
        LISTED[function.__module__].append(found)
        return found

    return made


def _in_its_place(function: Callable[..., Any], owner: object, member: str) -> Iterator[None]:
    """Patch a function in, until the context ends."""
    put, real = function, getattr(owner, member)
    if next(iter(signature(function).parameters), "") == "real":

        def put(*args: Any, **named: Any) -> Any:
            return function(real, *args, **named)

    with mock.patch.object(owner, member, put):
        yield
