"""Trials: runs of a target with known canaries; every counted test reads them.

    >>> from palate_audit.harness.production import Production
    >>> trials = conduct(Production(users=16, counts=64, products=64), runs=(Presence.HALF, Presence.NONE), seed=3)
    >>> [(trial.presence.value, int(trial.inside.sum()) in range(17)) for trial in trials.runs]
    [('half', True), ('none', True)]

The audit's seed, which the report prints, decides who takes part. The mechanism's noise is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from palate_audit.harness.canaries import Bools, Floats, OrthogonalCanaries, orthogonal
from palate_audit.harness.claim import Claim
from palate_audit.harness.target import Released, Target
from palate_audit.harness.worlds import TimeBudget, fault_of, one_line
from palate_core.errors import InputError, PalateError


class Presence(StrEnum):
    """Which canaries take part in a run."""

    HALF = "half"
    """Each canary by a fair coin: a bound from one run needs that."""
    ALL = "all"
    """All canaries: the known-null bound then has twice as many."""
    NONE = "none"
    """No canary: every user sends zero, and the release is noise."""


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        presence: which canaries were planned to take part.
        inside: bool [users], who did.
        released: the releases; not kept where the claim says nothing of releases.
        scores: float64 [users], by `Canaries.scores`.
        residuals: one array a release, by `Canaries.residuals`.
    """

    presence: Presence
    inside: Bools
    released: Released
    scores: Floats
    residuals: tuple[Floats, ...]


@dataclass(frozen=True)
class Trials:
    """Runs of one target with the same canaries.

    Attributes:
        target: the target.
        canaries: its canaries.
        runs: the runs.
        seed: of the audit's own choices.
        faults: how runs ended that released nothing which can be tested, after one that did.
    """

    target: Target
    canaries: OrthogonalCanaries
    runs: tuple[Trial, ...]
    seed: int
    faults: tuple[tuple[Presence, str], ...] = ()

    @property
    def claim(self) -> Claim:
        """The target's claim."""
        return self.target.claim

    def of(self, *presences: Presence) -> tuple[Trial, ...]:
        """The runs with these presences."""
        return tuple(run for run in self.runs if run.presence in presences)

    @property
    def quiet(self) -> tuple[Trial, ...]:
        """The runs whose residuals are noise: all, or with hidden sampling those without canaries."""
        return self.runs if self.claim.sampling == 1 else self.of(Presence.NONE)

    def noises(self) -> Iterator[tuple[str, int, Floats]]:
        """Every release's residual, with its name and its number in its run."""
        for number, run in enumerate(self.quiet):
            for round_, residual in enumerate(run.residuals):
                yield f"run {number}, release {round_}", round_, residual

    def pooled(self) -> tuple[Floats, Floats]:
        """Scores of present and of absent canaries, over all runs."""
        inside = [run.scores[run.inside] for run in self.runs]
        outside = [run.scores[~run.inside] for run in self.runs]
        return np.concatenate(inside), np.concatenate(outside)


def conduct(
    target: Target,
    *,
    runs: Sequence[Presence],
    seed: int,
    deadline: TimeBudget | None = None,
    tell: Callable[[int], None] = lambda _: None,
    lenient: bool = False,
) -> Trials:
    """Run a target with secret noise, once for each presence.

    Args:
        target: what is run.
        runs: which canaries take part in each run.
        seed: of the coins, and of the canaries.
        deadline: when to stop, with what was made by then; the first run is always made.
        tell: called with 1 after each run.
        lenient: whether a run that fails after one that didn't is one of `faults`, and no error.

    Raises:
        InputError: the releases don't fit the target's description, or, `lenient`, the first run fails at all.
    """
    canaries = orthogonal(target.blocks, users=target.users, seed=seed)
    rng = np.random.default_rng([seed, 0x494E])
    done: list[Trial] = []
    faults: list[tuple[Presence, str]] = []
    for presence in runs:
        if done and deadline is not None and deadline.over:
            break
        coins = rng.random(canaries.users) < 0.5
        inside = coins if presence is Presence.HALF else np.full(canaries.users, presence is Presence.ALL)
        try:
            released = target.run(canaries.rows.only(inside))
            if fault := fault_of(released, target):
                raise InputError(f"{target.name} {fault}")
        except Exception as error:  # whatever somebody else's code raises
            if not lenient:
                raise
            fault = one_line(error) if isinstance(error, PalateError) else f"raised {one_line(error)}"
            if not done:
                raise InputError(fault if target.name in fault else f"{target.name} {fault}") from error
            faults.append((presence, fault))
            continue
        scores = canaries.scores(released, target.claim)
        if target.claim.releases:
            residuals = canaries.residuals(inside, released, target.claim)
            done.append(Trial(presence, inside, released, scores, residuals))
        else:  # there are thousands of runs, and tests read the scores only
            done.append(Trial(presence, inside, Released(()), scores, ()))
        tell(1)
    return Trials(target, canaries, tuple(done), seed, tuple(faults))
