"""Caches: what is kept from a former call is what the call would give now.

A cache is wrong where its key is too small: where what it keeps also follows from something that isn't in the key, or
changes later; and where what it keeps was drawn. All caches of the packages are found by introspection, `lru_cache` of
modules and classes, and `cached_property` of every class. While rounds of real algorithms are played, in the clear and
under masks, with a server that restarts, each of them is made anew at each use, and compared with what it has kept; a
function without arguments, whose value is to stay as long as the process runs, at each sixteenth.

    use -> kept, and made anew -> the same?

Rounds are the same in every audit. Another random secret at each call is what is looked for, not chance.

**Assumes:** a cache is one of these two kinds; what is kept otherwise, the other tests see by its results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import _lru_cache_wrapper, cached_property, update_wrapper
from itertools import count
from typing import Any
from unittest import mock

import numpy as np

from mechanism.harness.probe_run import Setting, crowd, probe_run
from palate_audit.evidence.evidence import Finding
from palate_common.algorithms import registry
from palate_core.errors import PalateError
from palate_core.plan import Noise
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

TEST = "caches"
PACKAGES = ("palate_core", "palate_common", "palate_client", "palate_server")
DEVICES, ITEMS = 6, 12
SPARED = 16
"""Of so many uses of a function without arguments, one is compared."""
_ALS = {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}
RUNS: dict[str, Setting] = {
    "als": Setting(algorithm="als", settings={**_ALS, "pair_items": 6, "vote_share": 0.2}, users_per_node=3),
    "als under masks": Setting(
        algorithm="als",
        settings={**_ALS, "rounds": 2},
        users_per_node=1,
        mode=DISTRIBUTED,
        masks=True,
        noise=Noise.SECURE,
        epsilon=20.0,
    ),
    "event-mf": Setting(
        algorithm="event-mf", settings={"rounds": 2, "embedding_size": 2}, users_per_node=1, mode=LOCAL, events=1.0
    ),
}


def caches() -> list[Finding]:
    """Every cache that these rounds use."""
    found, wrong, name = _Uses(), "", ""
    registry._entry_points.cache_clear()  # of what other tests have had on the path
    try:
        with _watched(found):
            for name, setting in RUNS.items():  # noqa: B007 - it is said which one didn't end
                rng = np.random.default_rng(31)
                acts = [rng.choice(ITEMS, 1 + user, replace=False).tolist() for user in range(DEVICES)]
                with probe_run(setting, crowd(acts, n_items=ITEMS)) as stage:
                    while not stage.coordinator.finished:
                        stage.play(rounds=1)
                        stage.restart()
    except PalateError as error:
        wrong = f"a run of {name} must end, got: {error}"
    wrong = next(iter(found.wrong), "") or wrong
    said = f"{len(found.names)} caches give what would be made anew, at {found.uses:,} uses"
    return [Finding.checked(TEST, not wrong, wrong or said)]


class _Uses:
    """What was used, and what was wrong."""

    def __init__(self) -> None:
        self.names, self.uses, self.wrong = set[str](), 0, list[str]()

    def compare(self, name: str, kept: object, anew: object) -> None:
        """One use."""
        self.names.add(name)
        self.uses += 1
        if not same(kept, anew):
            self.wrong.append(f"{name} has kept something else than what it would give now")


@contextmanager
def _watched(found: _Uses) -> Iterator[None]:
    """Make every cache say what it has kept, and what it would give."""
    with ExitStack() as stack:
        made = dict[int, Callable[..., Any]]()
        for owner in _owners():
            for name, value in list(vars(owner).items()):
                if isinstance(value, _lru_cache_wrapper) and _ours(value):
                    looked = made.setdefault(id(value), _looking(value, found))
                    stack.enter_context(mock.patch.object(owner, name, looked))
                elif isinstance(value, cached_property) and isinstance(owner, type):
                    looking = _Looking(value, f"{owner.__name__}.{name}", found)
                    stack.enter_context(mock.patch.object(owner, name, looking))
        yield


def _owners() -> Iterator[Any]:
    """The packages' modules that are loaded, and their classes."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            yield module
            yield from (
                each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__
            )


def _ours(cached: Any) -> bool:
    return str(cached.__module__).partition(".")[0] in PACKAGES


def _looking(cached: Any, found: _Uses) -> Callable[..., Any]:
    """A cached function that is called anew each time, too."""
    uses = count()

    def looked(*given: Any, **named: Any) -> Any:
        kept = cached(*given, **named)
        if given or named or next(uses) % SPARED == 0:
            found.compare(cached.__qualname__, kept, cached.__wrapped__(*given, **named))
        return kept

    update_wrapper(looked, cached)
    looked.cache_clear, looked.cache_info = cached.cache_clear, cached.cache_info  # type: ignore[attr-defined]  # some are emptied
    return looked


class _Looking:
    """A cached property that is made anew each time, too."""

    def __init__(self, cached: cached_property[Any], name: str, found: _Uses) -> None:
        self._cached, self._name, self._found = cached, name, found

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """What is kept."""
        if owner is None:
            return self._cached
        kept = self._cached.__get__(owner, kind)
        self._found.compare(self._name, kept, self._cached.func(owner))
        return kept

    def __set__(self, owner: Any, value: Any) -> None:
        """Keep something else; with this, what is kept doesn't hide the property."""
        vars(owner)[str(self._cached.attrname)] = value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, number by number."""
    if one is other:
        return True
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[each], other[each]) for each in one)
    if is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    compares: object = type(one).__eq__
    if compares is object.__eq__:
        return same(vars(one), vars(other)) if hasattr(one, "__dict__") else True
    return bool(one == other)
