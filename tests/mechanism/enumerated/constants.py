"""Constants: every whole number by which the mechanism's rooms might cut their work, found by introspection.

Code that cuts its work into parts has bugs at the cuts, which small cases never reach. So all whole numbers are found
that a module of the mechanism holds, and those that functions have as defaults; what is none of the few that are law is
taken for a size, and can be lowered in this process. A new one needs no line here, unless results do follow from it.

    >>> with lowered({each: 2 for each in sizes() if each.name == "DENSE_SHARE"}):
    ...     from palate_common.mechanism import update
    ...     update.DENSE_SHARE
    2
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any
from unittest import mock

from mechanism.enumerated.settings import names
from palate_common.algorithms import algorithm_class
from reference import noise

ROOMS = (
    "palate_core.noise",
    "palate_core.noise_share",
    "palate_core.layout",
    "palate_core.accounting",
    "palate_core.cohort_terms",
    "palate_core.plan",
    "palate_core.masks",
    "palate_core.device",
    "palate_common.accounting",
    "palate_common.interactions",
    "palate_common.mechanism",
    "palate_common.algorithms",
    "palate_common.rounds",
    "palate_common.secagg",
    "palate_client.rounds",
    "palate_server.rounds",
    "palate_server.secagg",
)
"""Beside them, the modules of the algorithms that are registered."""
LAW: Mapping[str, str] = {
    "BOX_BYTES": "wire format", "DIGEST": "wire format", "ENTRY": "wire format", "HASH": "wire format",
    "HEADER": "wire format", "KEY": "wire format", "SEALED": "wire format", "SHARE": "wire format",
    "SIGNATURE": "wire format", "VERSION": "wire format", "KEY_BYTES": "wire format", "AGREED_BYTES": "wire format",
    "TAG_BYTES": "wire format", "_ANSWER": "wire format", "MOST_HEADER": "wire format",
    "MOST_PLAN": "wire format", "DUMMIES": "coordinates of a release", "WORD": "bits of a word",
    "_KEY_BYTES": "length of a key", "_SEED_BYTES": "length of a key", "_BLOCK": "bytes of a cipher's block",
    "_FIELD": "the field of the keys", "_forks": "counts forks",
    "MAX_GRID": "bound of the proof", "MAX_SIGMA": "bound of the proof", "MAX_STEPS": "bound of the proof",
    "MAX_COHORT": "bound of the proof", "MAX_ATTEMPTS": "bound of the proof", "MAX_TOSSES": "bound of the proof",
    "MAX_USERS": "bound of the proof", "MAX_DEVICES": "bound of the proof", "MAX_SHARES": "bound of the proof",
    "MOST_ROWS": "bound of the proof", "MOST_STEPS": "bound of the proof", "LEAST_SHARE": "bound of the proof",
    "CENTRAL_SIGMA_FLOOR": "bound of the proof", "TAIL": "bound of the proof", "LARGEST_COMPLETE": "graph of a cohort",
    "FINE": "grid of a run", "COARSE": "grid of a run", "_CELLS": "grid of the accountant",
    "_MOST_CELLS": "grid of the accountant", "_TOP": "format of seeded noise", "_SHARED": "format of seeded noise",
    "_FACTORIAL_LIMIT": "format of seeded noise", "_PATIENCE": "when a source is stuck",
    "LANES": "numpy's sum, whose order of adding is repeated", "LEAF": "numpy's sum, whose order of adding is repeated",
    "LIST": "what a model is", "PROBES": "what a model is", "MOST_LINKS": "what a model is",
    "LEAST_HEAD": "what a model is", "DIRECTION_GRID": "what a model is", "TRUSTED_AFTER": "what a model is",
    "MOST_NUMBERS": "what a model is", "LEFT_FOR_PAIRS": "what a model is",
    "MOST_ITEMS": "what a survey asks", "MOST_SENT": "what a survey asks", "CUTOFF": "what a survey asks",
    "MONTH": "what a survey asks", "ONE": "the number of a device alone",
    "max_tosses": "bound of the proof", "plan_seconds": "how long a plan holds",
}  # fmt: skip
"""Whole numbers from which results follow, by name, and what they are. A test holds that each exists."""
LEAST = {"_CHUNK": 64, "masking._STEP": 16, "packing._STEP": 64, "MORE_RANKED": 2, "FIRST_RANKED": 20}
"""Sizes of which lower ones make no sense: candidates of which one is kept, a block of a cipher, a word's pattern, a
factor by which something grows, a list's length."""
UNITS = {"masking._STEP": 16}
"""Sizes that are whole multiples."""
PARTNERS: Mapping[str, tuple[ModuleType, str]] = {"_CHUNK": (noise, "BATCH")}
"""Sizes that the reference knows by another name, as the format of seeded noise has them."""
TINY_DEFAULT = 8
"""Defaults of functions and numbers of classes below that are no sizes."""


@dataclass(frozen=True)
class Constant:
    """A whole number.

    Attributes:
        owner: the module or class that holds it, or the function that has it as a default.
        name: its name there.
        value: as it is.
        place: the owner's name.
    """

    owner: Any = field(hash=False)
    name: str
    value: int
    place: str

    def __str__(self) -> str:
        """Its name, and the room's last part."""
        return f"{self.place.rsplit('.', 1)[-1]}.{self.name}"

    def low(self, more: int) -> int:
        """The lowest value with which there is something to do, or the next ones, but none above its own."""
        least = LEAST.get(str(self), LEAST.get(self.name, 1))
        return min(self.value, least + more * UNITS.get(str(self), 1))


@lru_cache(maxsize=1)
def modules() -> tuple[ModuleType, ...]:
    """All modules of the mechanism's rooms, and of the registered algorithms."""
    found = dict[str, ModuleType]()
    for room in ROOMS:
        module = import_module(room)
        found[room] = module
        for each in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{room}."):
            found[each.name] = import_module(each.name)
    for name in names():
        home = algorithm_class(name).__module__
        found[home] = import_module(home)
    return tuple(found.values())


def constants() -> Iterator[Constant]:
    """Every whole number of a module or of its classes, and every default of a function of it."""
    for module in modules():
        owners: tuple[ModuleType | type, ...] = (module, *_classes(module))
        for owner in owners:
            place = module.__name__ if owner is module else f"{module.__name__}.{owner.__name__}"
            for name, value in vars(owner).items():
                if _whole(value) and not name.startswith("__") and (owner is module or value >= TINY_DEFAULT):
                    yield Constant(owner, name, value, place)
        for function in functions(module):
            for parameter in inspect.signature(function).parameters.values():
                if _whole(parameter.default) and parameter.default >= TINY_DEFAULT:
                    place = f"{module.__name__}.{function.__qualname__}"
                    yield Constant(function, parameter.name, parameter.default, place)


def sizes() -> list[Constant]:
    """Those that are no law."""
    return [each for each in constants() if each.name not in LAW]


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that a module defines."""
    for owner in (module, *_classes(module)):
        for each in vars(owner).values():
            function = inspect.unwrap(getattr(each, "__func__", getattr(each, "fget", None) or each))
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function


@contextmanager
def lowered(values: Mapping[Constant, int]) -> Iterator[None]:
    """Let constants have other values in this process."""
    with ExitStack() as stack:
        for constant, value in values.items():
            if isinstance(constant.owner, FunctionType):
                stack.enter_context(_default(constant.owner, constant.name, value))
            else:
                stack.enter_context(mock.patch.object(constant.owner, constant.name, value))
            if constant.name in PARTNERS:
                stack.enter_context(mock.patch.object(*PARTNERS[constant.name], value))
        yield


@contextmanager
def _default(function: FunctionType, name: str, value: int) -> Iterator[None]:
    """Let a function's argument have another default."""
    before, keywords = function.__defaults__, function.__kwdefaults__
    if keywords and name in keywords:
        function.__kwdefaults__ = {**keywords, name: value}
    else:
        named = list(inspect.signature(function).parameters)[: function.__code__.co_argcount][-len(before or ()) :]
        function.__defaults__ = tuple(
            value if each == name else old for each, old in zip(named, before or (), strict=True)
        )
    try:
        yield
    finally:
        function.__defaults__, function.__kwdefaults__ = before, keywords


def _whole(value: object) -> bool:
    return isinstance(value, int) and type(value) is int


def _classes(module: ModuleType) -> list[type]:
    """The classes that a module defines; not those of choices."""
    return [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and each.__module__ == module.__name__ and not issubclass(each, Enum)
    ]
