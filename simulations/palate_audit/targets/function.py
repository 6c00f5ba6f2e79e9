"""Function: a plain function of an array and a generator, behind the audit's protocol.

    >>> def noisy(data, rng):
    ...     rows = data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1.0)
    ...     return rows.sum(axis=0) + rng.normal(0.0, 2.0, data.shape[1])
    >>> target = Function(noisy, Claim.pair(epsilon=3.0, delta=1e-6), dimension=16, users=16, seed=1)
    >>> [len(vector) for vector in target.run(Contributions.empty(16, 16)).vectors]
    [16]

The claim is epsilon and delta alone, or, for a function that sums clipped rows and adds Gaussian noise, that noise,
which the whole battery then tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate_audit.harness.claim import Claim
from palate_audit.harness.target import Contributions, Released, numbers
from palate_core.errors import InputError

Mechanism = Callable[..., npt.ArrayLike]
"""(data float64 [users, dimension], rng) -> the array it would publish. The second argument may be left out."""


@dataclass(frozen=True)
class Function:
    """A function as a target.

    Attributes:
        mechanism: called with the rows of all users, and a generator for its noise.
        claim: its claim.
        dimension: numbers in a row.
        users: rows of each call; a user who doesn't take part has a row of zeros.
        clip_norm: the norm that rows are clipped to; contributions come in this unit.
        seed: of the generator that the function receives.
        seedable: `run` takes a seed; what it repeats is the function's noise only if that comes from the generator.
    """

    mechanism: Mechanism
    claim: Claim
    dimension: int
    users: int
    clip_norm: float = 1.0
    seed: int = 0
    repeatable: bool = field(default=False, init=False)
    seedable: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.mechanism, "__name__", type(self.mechanism).__name__)

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block."""
        return (self.dimension,)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Call the function once.

        Args:
            contributions: the users' rows, in clip norms.
            seed: of the generator for this call; None: the one that goes on from call to call.

        Raises:
            InputError: it returns no array of numbers, or one of another size than a row.
        """
        data = contributions.dense() * self.clip_norm
        rng = self._rng if seed is None else np.random.default_rng([seed, 0x46554E])
        returned = self.mechanism(data, rng) if self._takes_rng else self.mechanism(data)
        vector = np.atleast_1d(numbers(returned, f"`{self.name}` must return an array of numbers"))
        if vector.size != self.dimension:
            raise InputError(f"`{self.name}` must return {self.dimension} numbers as a row has, got {vector.size}")
        return Released((vector.ravel(),))

    @cached_property
    def _rng(self) -> np.random.Generator:
        """One generator for all calls, so that noise isn't repeated unless the function repeats it."""
        return np.random.default_rng([self.seed, 0x46554E])

    @cached_property
    def _takes_rng(self) -> bool:
        """Whether it has a second argument, for a generator: one with a default is its own unless it is called `rng`.

        Raises:
            InputError: it takes neither one nor two arguments.
        """
        try:
            signature = inspect.signature(self.mechanism)
        except (TypeError, ValueError):
            return False
        for given in (2, 1):
            try:
                signature.bind(*range(given))
            except TypeError:
                continue
            return given == 2 and self._second_is_free(signature)
        raise InputError(f"`{self.name}` must take (data, rng) or (data), got {signature}")

    @staticmethod
    def _second_is_free(signature: inspect.Signature) -> bool:
        """Whether the second argument is a generator's, and not a setting with a default."""
        second = [*signature.parameters.values()][:2][-1]
        return second.default is inspect.Parameter.empty or second.name == "rng"
