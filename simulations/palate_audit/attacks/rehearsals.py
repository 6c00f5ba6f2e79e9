"""Rehearsals: the run is trained again with fresh noise; some targets' events are in, the others' are emptied.

Terms, rounds, noise and cohort are the run's. The production functions clip, add noise and post-process, with secure
randomness, in memory. Nothing is charged, and nothing may be released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_audit.attacks.contributions import clipped_of
from palate_audit.attacks.noise import released
from palate_audit.attacks.subject import Subject
from palate_common.models.model import GlobalModel
from palate_core.plan import RoundPlan
from palate_core.privacy_mode import OFF
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms

Bits = npt.NDArray[np.bool_]
MOST_TARGETS = 0.25
"""The largest share of targets. Half of them are emptied in each rehearsal; more would change the population."""


@dataclass(frozen=True)
class Rehearsed:
    """Rehearsed models, and which targets were in them.

    Attributes:
        targets: rows of the training users whose membership varies.
        bits: bool [runs, targets], whether the target was in; a fair coin for each run and target.
        models: one for each run.
        protected: whether they have the run's noise, or were trained with dp off.
    """

    targets: npt.NDArray[np.int64]
    bits: Bits
    models: tuple[GlobalModel, ...]
    protected: bool


def choose_targets(subject: Subject, wanted: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of the targets, ascending."""
    count = max(1, min(wanted, int(MOST_TARGETS * subject.users)))
    return np.sort(rng.permutation(subject.users)[:count])


def rehearse_runs(
    subject: Subject,
    targets: npt.NDArray[np.int64],
    *,
    runs: int,
    protected: bool,
    rng: np.random.Generator,
    notify: Callable[[], None] = lambda: None,
) -> Rehearsed:
    """Train `runs` models.

    Args:
        subject: whose terms and data.
        targets: rows of the training users whose events are in, or emptied, by a fair coin.
        runs: how many.
        protected: train with the run's noise; otherwise as with `--dp off`.
        rng: of the coins alone; noise is from the secure source.
        notify: called after each run.
    """
    bits = rng.random((runs, len(targets))) < 0.5
    models = list[GlobalModel]()
    for run in range(runs):
        there = np.ones(subject.users, np.bool_)
        there[targets] = bits[run]
        models.append(learn(subject, there, protected=protected))
        notify()
    return Rehearsed(targets, bits, tuple(models), protected)


def learn(subject: Subject, there: Bits, *, protected: bool) -> GlobalModel:
    """Train the run once more; users who are not in `there`, bool [n_users], take part and send zero."""
    terms = subject.terms if protected else unprotected(subject.terms)
    train = subject.data.train.only(there)
    replay = Replay(terms, subject.inputs)
    rounds = len(subject.releases) if protected else len(replay.algorithm.shares)
    for round_ in range(rounds):
        plan = plan_of(subject, terms, round_)
        plan = plan.model_copy(update={"layout": replay.algorithm.layout(replay.model.state, round_)})
        replay.apply(released(clipped_of(replay.algorithm, replay.model.state, plan, train), plan))
    return replay.model


def plan_of(subject: Subject, terms: RunTerms, round_: int) -> RoundPlan:
    """The plan of a round: the sealed one, or the same without noise."""
    plan = subject.releases[min(round_, len(subject.releases) - 1)].plan
    if terms.mode.private:
        return plan
    return plan.model_copy(
        update={"round": round_, "dp": OFF.name, "sigma": 0, "mu2": 0.0, "cohort": None, "facts": terms.facts}
    )


def unprotected(terms: RunTerms) -> RunTerms:
    """The terms of the same run with dp off, whose sizes are those without noise."""
    facts = terms.facts.model_copy(update={"mu": None})
    return terms.model_copy(update={"dp": OFF.name, "epsilon": None, "cohort": None, "facts": facts})
