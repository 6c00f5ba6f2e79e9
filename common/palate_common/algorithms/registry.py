"""Registry: finds algorithms by name in the entry point group `palate.algorithms`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from palate_common.algorithms.base import Algorithm, EventAlgorithm, PublicFacts, State
from palate_common.extras import to_install
from palate_core.errors import InputError

GROUP = "palate.algorithms"
COUNTING = "palate.counting"
"""Entry point group of algorithms that rank nothing: surveys."""
_lent: dict[str, type[Algorithm]] = {}
_admitted: set[str] = set()
_adapters: dict[type, Callable[[Any, str], type[Algorithm]]] = {}


@contextmanager
def lent(algorithm: type[Algorithm]) -> Iterator[None]:
    """Let this process find `algorithm` by its name, without installing it, for as long as the context lasts.

    Raises:
        InputError: an algorithm of that name is installed, or lent already; or it is none.
    """
    name = algorithm.name
    if wrong := _wrong(algorithm):
        raise InputError(f"`algorithm` {name!r} is no algorithm: it {wrong}")
    if name in algorithm_names() or name in _lent:
        raise InputError(f"`algorithm` must have a name of its own, got {name!r}")
    _lent[name] = algorithm
    try:
        yield
    finally:
        del _lent[name]


def add_adapter(kind: type, make: Callable[[Any, str], type[Algorithm]]) -> None:
    """Accept registered classes that derive from `kind`: `make(cls, name)` wraps such a class as an algorithm."""
    _adapters[kind] = make


def admit(target: str) -> None:
    """Allow this process to load `package.module:Class`.

    Call it only for names from the user who runs a command, never for names from a plan: importing a module runs its
    code. A device loads only what is registered on it.
    """
    _admitted.add(target)


def is_lent(name: str) -> bool:
    """Whether `name` is lent, so that no other process finds it."""
    return name in _lent


def is_admitted(name: str) -> bool:
    """Whether the user who runs this process named `name` by its place."""
    return name in _admitted


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return (*entry_points(group=GROUP), *entry_points(group=COUNTING))


def algorithm_names() -> tuple[str, ...]:
    """Names of every installed algorithm that recommends, sorted."""
    return tuple(sorted({point.name for point in _entry_points() if point.group == GROUP}))


def algorithm_class(name: str) -> type[Algorithm]:
    """The algorithm registered as `name`, or whose class is registered and has that `package.module:Class`.

    Raises:
        InputError: no installed package registers it, several do, or what is registered can't be used.
    """
    if name in _lent:
        return _lent[name]
    targets = {point.value: point for point in _entry_points() if name in (point.name, point.value)}
    where = "is registered but"
    if not targets and name in _admitted:
        targets, where = {name: EntryPoint(name, name, GROUP)}, "names a place but"
        if not all(part.isidentifier() for part in name.replace(":", ".").split(".")):
            raise InputError(f"`algorithm` must be a name or package.module:Class, got {name!r}")
    if not targets and ":" in name:
        raise InputError(f"`algorithm` must be registered under `{GROUP}` by an installed package, got {name!r}")
    if not targets:
        raise InputError(f"`algorithm` must be one of {', '.join(algorithm_names())}, got {name!r}")
    if len(targets) > 1:
        raise InputError(f"`algorithm` {name!r} must be registered once, got {' and '.join(sorted(targets))}")
    (point,) = targets.values()
    try:
        loaded: type[Algorithm] = point.load()
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise InputError(f"`algorithm` {name!r} needs torch: {to_install('torch')}") from None
        raise InputError(f"`algorithm` {name!r} {where} can't be loaded: {error}") from None
    except Exception as error:  # a module's own code runs as it is imported, and may fail in any way
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        raise InputError(f"`algorithm` {name!r} {where} can't be loaded: {reason}") from None
    for base, make in _adapters.items():
        if isinstance(loaded, type) and issubclass(loaded, base):
            loaded = make(loaded, name)
    if hasattr(loaded, "named_parameters"):
        raise InputError(f"`algorithm` {name!r} is a torch module: it must derive from palate_torch.Recommender")
    wrong = _wrong(loaded)
    if wrong:
        raise InputError(f"`algorithm` {name!r} {where} is no algorithm: {point.value} {wrong}")
    return loaded


def _wrong(loaded: Any) -> str:
    """Why `loaded` is no algorithm; empty if it is one."""
    if not (isinstance(loaded, type) and issubclass(loaded, Algorithm)):
        return "must derive from palate_common.algorithms.Algorithm"
    missing = [name for name in ("name", "Settings") if not hasattr(loaded, name)]
    missing += sorted(loaded.__abstractmethods__)
    if missing:
        return f"has no {missing[0]}"
    if loaded.unit != ("event" if issubclass(loaded, EventAlgorithm) else "user"):
        return f"must derive from EventAlgorithm for the unit event, and only then, got the unit {loaded.unit!r:.40}"
    return ""


def make_algorithm(name: str, settings: Mapping[str, Any], facts: PublicFacts) -> Algorithm:
    """Validate `settings` and bind them to the public facts.

    Raises:
        InputError: unknown algorithm, unknown key or a value out of range.
    """
    cls = algorithm_class(name)
    try:
        validated = cls.Settings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(("algorithm", *(str(part) for part in first["loc"])))
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"`{key}`: {reason[:1].lower()}{reason[1:]}, got {first['input']!r}") from None
    return cls(validated, facts)


def grown_state(algorithm: Algorithm, state: State, n_items: int, inputs: State) -> State:
    """A state over a catalogue to whose end items were added: see `Algorithm.grown`.

    **Guarantees:** a new item costs nothing: what was released stays as it is, and the rest is made of public inputs.

    Args:
        algorithm: of the grown catalogue.
        state: a model's.
        n_items: size of the grown catalogue.
        inputs: public inputs over it.
    """
    seen = {name: inputs[name] for name in algorithm.public_inputs if name in inputs}
    found = algorithm.grown(state | seen, n_items)
    return {name: array for name, array in found.items() if name not in seen}


def next_state(
    algorithm: Algorithm,
    state: State,
    round_: int,
    sums: Mapping[str, npt.NDArray[np.float64]],
    noise: Mapping[str, float],
    inputs: State,
) -> State:
    """The public state after a release. `release` sees the `inputs` that the algorithm names; the state drops them."""
    seen = {name: inputs[name] for name in algorithm.public_inputs if name in inputs}
    released = algorithm.release(state | seen, round_, sums, noise)
    return {name: array for name, array in released.items() if name not in seen}
