"""Worlds: data sets that differ in one user, for a mechanism that somebody else wrote.

A mechanism is run in both worlds of a pair. In one of them a user's row is what it is, in the other it is zero. What a
run ends with is kept, also where it ends with an error: that tells worlds apart as well as any number.

    rows of the canaries -> pairs(...) -> Pair(without, within) -> run -> Ending

>>> rows = Contributions.of(np.eye(4, 8) * 2)
>>> made = pairs(rows)
>>> made[0].name, made[0].without.n_users, int(np.diff(made[0].within.indptr).sum())
('a canary, beside nobody', 4, 1)

**With the same noise**, the difference of both worlds is what the user did, to the last digit. A mechanism that draws
its noise from the generator that it is given, from numpy's `default_rng()`, or from the global ones of numpy, Python
and torch, repeats it while `same_noise` has seeded them.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from palate_audit.harness.target import Contributions, Released, Target
from palate_core.errors import PalateError

Floats = npt.NDArray[np.float64]
Row = tuple[npt.NDArray[np.int64], Floats]
"""The coordinates of a user's contribution, ascending, and its values in clip norms."""

LONG = 1e6
"""Length of a long row, in clip norms."""
SHORT, CROWD = 0.02, 16
"""Length of a short row, as a part of a canary's, and the size of a crowd of short and long ones."""
HUGE = 1e30
"""A number whose square single precision can't hold."""


@dataclass(frozen=True)
class Pair:
    """Two data sets that differ in one user.

    Attributes:
        name: of the user's row, and of the others, for people.
        without: the user's row is zero.
        within: it isn't.
        user: which it is.
        kind: `usual`, rows of canaries, which every mechanism has to take; `made`, rows that the auditor made up; or
            `odd`, with NaN or infinity.
    """

    name: str
    without: Contributions
    within: Contributions
    user: int
    kind: str = "usual"

    @cached_property
    def direction(self) -> Row:
        """The user's row at length 1; of a row with infinite numbers, these alone; NaN counts as zero."""
        mine = slice(self.within.indptr[self.user], self.within.indptr[self.user + 1])
        values = np.nan_to_num(self.within.values[mine], posinf=np.inf, neginf=-np.inf)
        if np.isinf(values).any():
            values = np.where(np.isinf(values), np.sign(values), 0.0)
        values = values / max(float(np.abs(values).max(initial=0.0)), 1e-300)
        return self.within.indices[mine], values / max(float(np.linalg.norm(values)), 1e-300)


@dataclass(frozen=True)
class Ending:
    """What a run ended with.

    Attributes:
        vectors: what it released; empty where it failed.
        fault: one line if it released no finite numbers, else empty.
        partly: what it released, where some of it is NaN or infinite.
        draws: a digest of where its generators were left; two runs that differ here drew differently.
    """

    vectors: tuple[Floats, ...]
    fault: str = ""
    draws: str = ""
    partly: tuple[Floats, ...] = ()


def pairs(rows: Contributions, *, quantiles: bool = False) -> list[Pair]:
    """Neighbouring worlds, those first that tell most.

    Args:
        rows: of all canaries.
        quantiles: also crowds of short and of long rows in which one user more moves some quantile of the lengths.
    """
    users, size = rows.n_users, rows.dimension
    own = {user: _row(rows, user) for user in range(users)}
    last, middle, some = users - 1, users // 2, list(range(1, min(4, users)))
    every = np.arange(users)
    crowds: dict[str, list[int]] = {
        "nobody": [],
        "one other": [1],
        f"{len(some)} others": some,
        "half of the others": every[1::2].tolist(),
        "all others": every.tolist(),
    }
    made: list[Pair] = []

    def add(name: str, user: int, row: Row, others: Mapping[int, Row], kind: str = "made") -> None:
        without = {other: found for other, found in others.items() if other != user}
        before, after = _rows(without, users, size), _rows({**without, user: row}, users, size)
        made.append(Pair(name, before, after, user, kind))

    def among(crowd: str) -> dict[int, Row]:
        return {user: own[user] for user in crowds[crowd] if user < users}

    add("a canary, beside nobody", 0, own[0], {}, "usual")
    if users < 2:
        return made
    add("a canary, beside one other", 0, own[0], among("one other"), "usual")
    add("a canary, beside all others", 0, own[0], among("all others"), "usual")
    add(f"a canary, beside {len(some)} others", 0, own[0], among(f"{len(some)} others"), "usual")
    add("the last canary, beside nobody", last, own[last], {}, "usual")
    add("the last canary, beside all others", last, own[last], among("all others"), "usual")
    add("a canary, beside half of the others", 0, own[0], among("half of the others"), "usual")
    rng = np.random.default_rng(0x574F524C)
    signs = rng.choice(np.array([-1.0, 1.0]), size)
    everywhere = np.arange(size)
    spike: Row = (own[0][0][:1], np.array([LONG]))
    dense: Row = (everywhere, signs * (LONG / np.sqrt(size)))
    faint: Row = (everywhere, signs * (0.5 / np.sqrt(size)))
    mixed = {
        user: (row[0], row[1] * length)
        for (user, row), length in zip(own.items(), rng.permutation(np.geomspace(0.01, 100, users)), strict=True)
    }
    lengths = [float(np.linalg.norm(mixed[user][1])) for user in range(users)]
    order = np.argsort(lengths)
    short = {user: (row[0], row[1] / 4) for user, row in own.items()}
    add("the longest of rows of all lengths", int(order[-1]), mixed[int(order[-1])], mixed)
    add("the shortest of rows of all lengths", int(order[0]), mixed[int(order[0])], mixed)
    add("the middle one of rows of all lengths", int(order[middle]), mixed[int(order[middle])], mixed)
    add("a long dense row, beside nobody", 0, dense, {})
    add("a long dense row, beside half of the others", 0, dense, among("half of the others"))
    add("a single large number, beside nobody", 0, spike, {})
    add("a single large number, beside half of the others", middle, spike, among("half of the others"))
    add("a long row, beside short ones", 0, (own[0][0], own[0][1] * 100), short)
    add("a short dense row, beside nobody", 0, faint, {})
    add("a copy of another's row, beside it", 0, own[1], among("one other"))
    add("a copy of another's row, beside half of the others", 0, own[1], among("half of the others"))
    add("huge numbers, beside half of the others", 0, (everywhere, signs * HUGE), among("half of the others"))
    for name, value in (("NaN", np.nan), ("infinity", np.inf)):
        row: Row = (everywhere[[0, -1]], np.array([value, LONG]))
        add(f"a row with {name}, beside half of the others", 0, row, among("half of the others"), "odd")
    crowd = min(CROWD, users - 1) if quantiles else 0
    for few in range(1, crowd):
        others = {user: (own[user][0], own[user][1] * (SHORT if user <= few else 1.0)) for user in range(1, crowd + 1)}
        add(f"a short row, beside {few} short and {crowd - few} long ones", 0, (own[0][0], own[0][1] * SHORT), others)
    return made


def end(target: Target, rows: Contributions, *, seed: int | None = None) -> Ending:
    """Run a mechanism once; whatever it does, that is how it ends.

    Args:
        target: the mechanism.
        rows: of all users.
        seed: of the noise, for a mechanism that repeats it; None: its own.
    """
    if seed is None:
        return _end(target, rows, None)
    with same_noise(seed) as made:
        found = _end(target, rows, seed if takes_seed(target) else None)
        return replace(found, draws=_left(made))


def takes_seed(target: Target) -> bool:
    """Whether `run` does something with a seed."""
    return bool(target.repeatable or getattr(target, "seedable", False))


def same(one: Ending, other: Ending) -> bool:
    """Whether two runs released the same numbers, and none failed."""
    if one.fault or other.fault or len(one.vectors) != len(other.vectors):
        return False
    return all(np.array_equal(a, b) for a, b in zip(one.vectors, other.vectors, strict=True))


def fault_of(released: object, target: Target) -> str:
    """What is wrong with what a run returned: empty if it is finite real numbers, of the number and sizes claimed."""
    if not isinstance(released, Released):
        return f"returned {type(released).__name__}, not Released"
    try:
        vectors = tuple(np.asarray(vector) for vector in released.vectors)
    except (TypeError, ValueError) as error:
        return f"released no arrays: {one_line(error)}"
    if odd := [vector.dtype for vector in vectors if vector.dtype.kind not in "biuf"]:
        return f"must release real numbers, got {odd[0]}"
    sizes, expected = [len(np.atleast_1d(vector)) for vector in vectors], target.dimension + released.dummies
    if target.claim.releases and sizes != [expected] * len(target.claim.releases):
        return f"must release {len(target.claim.releases)} of {expected}, got {sizes}"
    if wrong := sum(int((~np.isfinite(vector)).sum()) for vector in vectors):
        return f"must release finite numbers, got {wrong} of NaN or infinity"
    return ""


def one_line(error: BaseException) -> str:
    """An exception as one line."""
    said = " ".join(str(error).split())[:200]
    if isinstance(error, PalateError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _end(target: Target, rows: Contributions, seed: int | None) -> Ending:
    try:
        with np.errstate(all="ignore"):
            released = target.run(rows, seed=seed)
        fault = fault_of(released, target)
    except Exception as error:  # whatever somebody else's code raises is how the run ended
        return Ending((), f"raised {one_line(error)}" if not isinstance(error, PalateError) else one_line(error))
    if fault:
        return Ending((), fault, partly=_numbers(released, target))
    return Ending(tuple(np.array(vector, np.float64) for vector in released.vectors))


def _numbers(released: object, target: Target) -> tuple[Floats, ...]:
    """What was released where it is real numbers of the sizes claimed, finite or not; else nothing."""
    if not isinstance(released, Released):
        return ()
    vectors = tuple(np.asarray(vector) for vector in released.vectors)
    if any(vector.dtype.kind not in "biuf" or vector.shape != (target.dimension,) for vector in vectors):
        return ()
    return tuple(np.array(vector, np.float64) for vector in vectors)


@dataclass
class Generators:
    """The generators that a run made for itself."""

    made: list[np.random.Generator] = field(default_factory=list)


@contextmanager
def same_noise(seed: int) -> Iterator[Generators]:
    """Seed everything that a mechanism could draw its noise from, and put it back afterwards."""
    torch: Any = sys.modules.get("torch")
    kept, plain = np.random.get_state(), random.getstate()
    tensor = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None
    real, found = np.random.default_rng, Generators()

    def make(given: Any = None) -> np.random.Generator:
        generator = real([seed, len(found.made), 0x4D414445] if given is None else given)
        found.made.append(generator)
        return generator

    np.random.seed(seed)
    random.seed(seed)
    if tensor is not None:
        torch.manual_seed(seed)
    try:
        with mock.patch.object(np.random, "default_rng", make):
            yield found
    finally:
        np.random.set_state(kept)
        random.setstate(plain)
        if tensor is not None:
            torch.set_rng_state(tensor)


def _left(found: Generators) -> str:
    """A digest of the states of all generators; to be called while they are seeded."""
    torch: Any = sys.modules.get("torch")
    states: list[Any] = [np.random.get_state(), random.getstate()]
    states += [generator.bit_generator.state for generator in found.made]
    if torch is not None and hasattr(torch, "get_rng_state"):
        states.append(torch.get_rng_state().numpy().tobytes())
    return hashlib.sha256(b"".join(pickle.dumps(state) for state in states)).hexdigest()


def _row(rows: Contributions, user: int) -> Row:
    mine = slice(rows.indptr[user], rows.indptr[user + 1])
    return rows.indices[mine], rows.values[mine]


def _rows(given: Mapping[int, Row], users: int, dimension: int) -> Contributions:
    """Contributions of some users; the others' are zero."""
    counts = np.zeros(users, np.int64)
    for user, (indices, _) in given.items():
        counts[user] = len(indices)
    ordered = [given[user] for user in sorted(given)]
    return Contributions(
        np.concatenate(([0], np.cumsum(counts))),
        np.concatenate([row[0] for row in ordered]) if ordered else np.zeros(0, np.int64),
        np.concatenate([row[1] for row in ordered]) if ordered else np.zeros(0),
        dimension,
    )


@dataclass(frozen=True)
class TimeBudget:
    """When an audit of a slow mechanism has to end.

    Attributes:
        at: by `time.monotonic`; None: never.
    """

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> TimeBudget:
        """So many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then, 0 afterwards."""
        return np.inf if self.at is None else max(0.0, self.at - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it is past."""
        return self.left <= 0
