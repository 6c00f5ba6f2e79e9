"""Mutant: one known bug that is patched into the production path until its context ends.

A mutant is a row, a part of the source that reads otherwise, or a function that replaces one of a production module.
Checks know nothing of mutants: a mutant names the checks that must find it, a group of `mechanism.battery`, `releases`
or a file of ordinary tests.

    >>> from mutants.listed import find
    >>> with find("no clip").injected():
    ...     pass  # every update of this process goes out unclipped
"""

from __future__ import annotations
import __future__

import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from dis import get_instructions
from functools import partial
from importlib import import_module
from inspect import getsource, signature, unwrap
from types import CodeType, FunctionType
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


def rows(module: str, text: str) -> None:
    """Make mutants that are each a part of the source that reads otherwise; they are listed with their module's.

    Args:
        module: whose mutants they are.
        text: mutants with an empty line between them, and before them, after `# `, what the group is; each in these
            lines: `name | test`; `bug: ...`; `seen: ...`; then `@ module:member`, the function or method that has the
            bug, and its changes: lines with `- `, which are together in its source exactly once, and after them those
            with `+ ` that are there with the bug. Without `+ ` nothing is. Another `@ ` is another function.
    """
    for row in text.strip().split("\n\n"):
        if row.startswith("# "):
            continue
        head, bug, seen, *lines = row.split("\n")
        name, test = head.split(" | ")
        inject = contextmanager(partial(_rewritten, changes_of(lines)))
        LISTED[module].append(Mutant(name, bug.removeprefix("bug: "), seen.removeprefix("seen: "), test, inject))


Change = tuple[list[str], list[str]]
"""Lines of a source, and those in their place."""


def changes_of(lines: list[str]) -> dict[str, list[Change]]:
    """The changes that a row's lines spell, by where they are."""
    found: dict[str, list[Change]] = {}
    before, changes = "", list[Change]()
    for line in lines:
        match line[:2]:
            case "@ ":
                changes = found.setdefault(line[2:], [])
            case "- " if before != "- ":
                changes.append(([line[2:]], []))
            case ("- " | "+ ") as sign if changes:
                changes[-1][sign == "+ "].append(line[2:])
            case _:
                raise ValueError(f"a mutant's line must begin with `@ `, `- ` or `+ ` in this order, got {line!r}")
        before = line[:2]
    if not found or not all(found.values()):
        raise ValueError(f"a mutant must change something where it says `@ `, got {lines}")
    return found


def function_at(at: str) -> FunctionType:
    """The function that `module:member` or `module:Class.member` names, without what decorates it."""
    module, _, path = at.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = vars(found)[name]
    found = unwrap(getattr(found, "fget", None) or found)
    if not isinstance(found, FunctionType):
        raise TypeError(f"{at} must be a function, got {type(found).__name__}")
    return found


def _rewritten(changes: dict[str, list[Change]]) -> Iterator[None]:
    """Let functions run with other lines, whoever has imported them; what was computed before is forgotten."""
    right, wrong = dict[FunctionType, CodeType](), dict[FunctionType, CodeType]()
    for at, lines in changes.items():
        function = function_at(at)
        source = getsource(function)
        for old, new in lines:
            source = replaced(source, old, new)
        right[function], wrong[function] = function.__code__, _compiled(function, source)
    _run_as(wrong)
    try:
        yield
    finally:
        _run_as(right)


def replaced(source: str, old: list[str], new: list[str]) -> str:
    """The source with other lines in the place of those that are in it exactly once, as deep as these."""
    found = []
    for match in re.finditer(re.escape(old[0]), source):
        start = match.start()
        line = source[source.rfind("\n", 0, start) + 1 :]
        deep = "\n" + " " * (len(line) - len(line.lstrip(" ")))
        if source.startswith(deep.join(old), start):
            found.append(source[:start] + deep.join(new) + source[start + len(deep.join(old)) :])
    if len(found) != 1:
        raise ValueError(f"a mutant's lines must be in the source once, got {len(found)} times: {old}")
    return found[0]


def _compiled(function: FunctionType, source: str) -> CodeType:
    """The code of a function from another source of it, in its place of its file: who watches calls sees no other one.

    A method's is compiled in a class of its name, so that `super()` works.
    """
    *_, owner, _ = ["", *function.__qualname__.split(".")]
    head = f"class {owner}:\n" if owner else ""
    text = "\n" * (function.__code__.co_firstlineno - 1 - bool(owner)) + head + source
    flags = __future__.annotations.compiler_flag
    inner = [compile(text, function.__code__.co_filename, "exec", flags, dont_inherit=True)]
    for each in inner:
        inner += [const for const in each.co_consts if isinstance(const, CodeType)]
    (found,) = [each for each in inner if each.co_qualname == f"{owner}.{function.__name__}".lstrip(".")]
    reads = {each.argval for each in get_instructions(found) if each.opname == "LOAD_GLOBAL"}
    if unknown := sorted(reads - function.__globals__.keys() - vars(builtins).keys()):
        raise NameError(f"a mutant of {function.__qualname__} must use names that are there, got {', '.join(unknown)}")
    return found


def _run_as(codes: dict[FunctionType, CodeType]) -> None:
    """Give functions their code, and empty the caches of the production path."""
    for function, code in codes.items():
        function.__code__ = code
    for name, module in list(sys.modules.items()):
        if name.startswith("palate_"):
            for each in list(vars(module).values()):
                if callable(clear := getattr(each, "cache_clear", None)):
                    clear()
