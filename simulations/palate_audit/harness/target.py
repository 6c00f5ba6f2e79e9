"""Target: the protocol behind which a mechanism is audited, Palate's own or somebody else's.

A mechanism that clips, sums and adds noise is a target if it can do one thing: take one vector a user and give back
the vectors it would publish. A whole foreign one:

    >>> import numpy as np
    >>> from palate_audit.harness.claim import Claim
    >>> class Plain:
    ...     name = "clip, sum, add a Gaussian"
    ...     dimension, blocks, users, repeatable = 64, (64,), 16, False
    ...     claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0,), delta=1e-6)
    ...     def run(self, contributions, *, seed=None):
    ...         rows = contributions.dense()
    ...         rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    ...         return Released((rows.sum(axis=0) + np.random.default_rng().normal(0.0, 2.0, 64),))
    >>> len(Plain().run(Contributions.empty(16, 64)).vectors)
    1

`palate audit mechanism --target your.module:factory` calls `factory()` and audits what it returns.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from palate_audit.harness.claim import Claim
from palate_common.errors import InputError

Vector = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """What each user brings, before any clipping, as compressed sparse rows; memory is O(what is not zero).

    Attributes:
        indptr: int64 [n_users + 1].
        indices: int64 [nnz], coordinates, rising within a user.
        values: float64 [nnz], in clip norms; anything a float can be.
        dimension: number of coordinates.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    dimension: int

    @classmethod
    def empty(cls, n_users: int, dimension: int) -> Contributions:
        """Users that bring nothing."""
        return cls(np.zeros(n_users + 1, np.int64), np.zeros(0, np.int64), np.zeros(0), dimension)

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> Contributions:
        """From a dense array [n_users, dimension]; what is exactly zero is left out."""
        dense = np.atleast_2d(np.asarray(rows, np.float64))
        owners, indices = np.nonzero(dense)
        indptr = np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=len(dense)))))
        return cls(indptr.astype(np.int64), indices.astype(np.int64), dense[owners, indices], dense.shape[1])

    @property
    def n_users(self) -> int:
        """How many bring something, or nothing."""
        return len(self.indptr) - 1

    def owners(self) -> npt.NDArray[np.int64]:
        """The user of each entry, int64 [nnz]."""
        return np.repeat(np.arange(self.n_users), np.diff(self.indptr))

    def only(self, kept: npt.NDArray[np.bool_]) -> Contributions:
        """The same users; those that are not `kept`, bool [n_users], bring nothing: zero-out."""
        entries = np.repeat(kept, np.diff(self.indptr))
        indptr = np.concatenate(([0], np.cumsum(np.where(kept, np.diff(self.indptr), 0)))).astype(np.int64)
        return Contributions(indptr, self.indices[entries], self.values[entries], self.dimension)

    def dense(self) -> npt.NDArray[np.float64]:
        """float64 [n_users, dimension]; for targets that need it so, and few users."""
        rows = np.zeros((self.n_users, self.dimension))
        rows[self.owners(), self.indices] = self.values
        return rows


@dataclass(frozen=True)
class Released:
    """What one run of a mechanism made public.

    Attributes:
        vectors: one array a release, [dimension + dummies], in the units of the claim; as they were published.
        dummies: coordinates at the end of each that no user can touch.
    """

    vectors: tuple[Vector, ...]
    dummies: int = 0


def numbers(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    """An array of real numbers of its own: whoever gave it may use theirs again.

    Args:
        given: what somebody else's function returned.
        what: the beginning of an error: what it must be.

    Raises:
        InputError: no array, or one of complex numbers, text or objects.
    """
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of torch that requires grad
        raise InputError(f"{what}, got {type(given).__name__}: {error}") from None
    if found.dtype.kind not in "biuf":
        of = f" of {found.dtype}" if isinstance(given, np.ndarray | np.generic) else ""
        raise InputError(f"{what}, got {type(given).__name__}{of}")
    return np.array(found, np.float64)


@runtime_checkable
class Target(Protocol):
    """A mechanism under audit. Plain attributes will do where properties stand here."""

    @property
    def name(self) -> str:
        """What it is, with its version and options, for the report."""

    @property
    def dimension(self) -> int:
        """Coordinates that a user can touch."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the parts that a contribution is made of, in order; they sum to `dimension`."""

    @property
    def users(self) -> int:
        """How many contributions one run takes: the audit's canaries."""

    @property
    def claim(self) -> Claim:
        """What it says about itself."""

    @property
    def repeatable(self) -> bool:
        """Whether `run` can repeat its noise from a seed. A mechanism whose noise is only ever secret says False."""

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Run the mechanism once, through all its releases.

        Args:
            contributions: one a user, `users` of them, in the coordinates of what is released; a norm above 1 is to
                be clipped to `sensitivity`.
            seed: repeat the noise that this seed stands for, if `repeatable`; None: the noise that is released.
        """


class FreshReleases(Protocol):
    """A target that can also show its noise many times over, cheaply: what a small seed can't bear."""

    def fresh(self, count: int) -> Iterator[Vector]:
        """`count` short releases of nothing, each with noise of its own, as the mechanism always makes it."""


MEMBERS = ("name", "dimension", "blocks", "users", "claim", "repeatable", "run")


def load_target(spec: str) -> Target:
    """Make the target that `package.module:factory` names.

    Raises:
        InputError: there is no such factory, or what it makes is no target.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise InputError(f"`--target` must be package.module:factory, got {spec!r}")
    try:
        factory: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"`--target` must name a factory that can be imported, got {spec!r}: {error}") from None
    if not callable(factory):
        raise InputError(f"`--target` must name a function or class without required arguments, got {spec!r}")
    return check_target(factory(), spec)


def check_target(target: object, named: str) -> Target:
    """The target, if it has the members of the protocol and sizes that fit each other.

    Raises:
        InputError: naming what is wrong.
    """
    if not isinstance(target, Target):
        missing = [member for member in MEMBERS if not hasattr(target, member)]
        raise InputError(f"a target must have {', '.join(MEMBERS)}; {named} has no `{missing[0]}`")
    if not isinstance(target.claim, Claim):
        raise InputError(
            f"`claim` of {named} must be a palate_audit.harness.claim.Claim, got {type(target.claim).__name__}"
        )
    if sum(target.blocks) != target.dimension or min(target.blocks) < 1 or target.users < 2:
        raise InputError(
            f"`blocks` of {named} must be positive and sum to its `dimension` of {target.dimension}, and `users` be 2 "
            f"at least, got {target.blocks} and {target.users}"
        )
    return target
