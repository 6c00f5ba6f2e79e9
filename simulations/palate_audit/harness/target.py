"""Target: the protocol of an audited mechanism, Palate's own or a foreign one.

A mechanism that clips, sums and adds noise needs one method to be a target: take one vector a user and return the
vectors that it would publish. A complete foreign one:

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

`palate.audit(Plain())` audits it.

Optional members: `fresh(count)`, an iterator of so many short releases of zero contributions, each with noise of its
own, among which a small seed would repeat; `seedable`, True where `run` takes a seed for tests though it
isn't `repeatable`; `stated`, what the library's own accountant says the releases cost, epsilon by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from palate_audit.harness.claim import Claim
from palate_core.errors import InputError

Vector = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Each user's contribution before clipping, as compressed sparse rows; memory is O(number of non-zero values).

    Attributes:
        indptr: int64 [n_users + 1].
        indices: int64 [nnz], coordinates, ascending within a user.
        values: float64 [nnz], in clip norms; any float, also one that is not finite.
        dimension: number of coordinates.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    dimension: int

    @classmethod
    def empty(cls, n_users: int, dimension: int) -> Contributions:
        """Users that contribute zero."""
        return cls(np.zeros(n_users + 1, np.int64), np.zeros(0, np.int64), np.zeros(0), dimension)

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> Contributions:
        """Contributions from a dense array [n_users, dimension]; zeros are not stored."""
        dense = np.atleast_2d(np.asarray(rows, np.float64))
        owners, indices = np.nonzero(dense)
        indptr = np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=len(dense)))))
        return cls(indptr.astype(np.int64), indices.astype(np.int64), dense[owners, indices], dense.shape[1])

    @property
    def n_users(self) -> int:
        """Number of users, including those that contribute zero."""
        return len(self.indptr) - 1

    def owners(self) -> npt.NDArray[np.int64]:
        """The user of each entry, int64 [nnz]."""
        return np.repeat(np.arange(self.n_users), np.diff(self.indptr))

    def only(self, kept: npt.NDArray[np.bool_]) -> Contributions:
        """The same users, but those not `kept`, bool [n_users], contribute zero (zero-out)."""
        entries = np.repeat(kept, np.diff(self.indptr))
        indptr = np.concatenate(([0], np.cumsum(np.where(kept, np.diff(self.indptr), 0)))).astype(np.int64)
        return Contributions(indptr, self.indices[entries], self.values[entries], self.dimension)

    def dense(self) -> npt.NDArray[np.float64]:
        """The dense array, float64 [n_users, dimension]; for targets that need it, and few users."""
        rows = np.zeros((self.n_users, self.dimension))
        rows[self.owners(), self.indices] = self.values
        return rows


@dataclass(frozen=True)
class Released:
    """What one run of a mechanism published.

    Attributes:
        vectors: one array a release, [dimension + dummies], in the units of the claim.
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
    """A mechanism under audit. Plain attributes may take the place of the properties."""

    @property
    def name(self) -> str:
        """Its name, version and options, for the report."""

    @property
    def dimension(self) -> int:
        """Number of coordinates that a user can touch."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the blocks of a contribution, in order; they sum to `dimension`."""

    @property
    def users(self) -> int:
        """Number of contributions that one run takes: the audit's canaries."""

    @property
    def claim(self) -> Claim:
        """What the mechanism claims."""

    @property
    def repeatable(self) -> bool:
        """Whether `run` can repeat its noise from a seed. A mechanism with only secret noise says False."""

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Run the mechanism once, through all its releases.

        Args:
            contributions: one a user, `users` of them, in the coordinates of a release; a norm above 1 must be clipped
                to `sensitivity`.
            seed: repeat the noise of this seed, if `repeatable`; None: secret noise, as for a release.
        """


MEMBERS = ("name", "dimension", "blocks", "users", "claim", "repeatable", "run")


def check_target(target: object, named: str) -> Target:
    """Check that a target has the members of the protocol, and sizes that fit each other.

    Raises:
        InputError: it names what is wrong.
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
