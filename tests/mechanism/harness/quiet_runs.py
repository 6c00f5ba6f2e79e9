"""Quiet runs: every road by which noise gets into a message or a release, with nobody doing anything.

What comes out is noise and nothing else, with secure words, which are recorded: of the server, in training and in a
survey, of nodes of one device and of seven, of devices with dp local, and of devices under masks, in rounds of equal
noise, with an attempt that fails after everybody has made a vector.

    >>> [len(run.noises) for run in quiet_runs({"central": QuietRoad(Setting(noise=Noise.SECURE, rounds=2))}, times=3)]
    [2, 2, 2]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.recording import RecordedSource, recorded
from mechanism.harness.sharing import once
from mechanism.harness.watched_run import WatchedRun
from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import decode_share
from palate_common.survey import CHOSEN, SURVEYING, Survey
from palate_core.errors import IntegrityError
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

DEVICES = 7
SURVEY = Survey(
    first_day="2026-11-23", channels=("email",), items=("asked",), experiments=("asked",), asks=tuple(CHOSEN)
)


@dataclass(frozen=True)
class QuietRoad:
    """A setting, and whose vectors are lost in the first attempt, so that it has to be made again."""

    setting: Setting
    late: tuple[int, ...] = ()


ROADS: Mapping[str, QuietRoad] = {
    "central": QuietRoad(Setting(noise=Noise.SECURE, rounds=3)),
    "a survey": QuietRoad(
        Setting(noise=Noise.SECURE, algorithm=SURVEYING, settings=SURVEY.model_dump(mode="json"), users_per_node=1)
    ),
    "distributed, a node of seven": QuietRoad(Setting(noise=Noise.SECURE, mode=DISTRIBUTED, users_per_node=DEVICES)),
    "distributed, a device a node": QuietRoad(
        Setting(noise=Noise.SECURE, mode=DISTRIBUTED, users_per_node=1, rounds=2)
    ),
    "local": QuietRoad(Setting(noise=Noise.SECURE, mode=LOCAL, users_per_node=1, rounds=2)),
    "masks": QuietRoad(
        Setting(noise=Noise.SECURE, mode=DISTRIBUTED, users_per_node=1, rounds=3, lost=1, masks=True), late=(1, 4, 6)
    ),
}


@dataclass(frozen=True)
class Drawn:
    """One noise, and what it should be.

    Attributes:
        steps: as it left, or as it went under the masks.
        sigma: of one device's draw, in steps.
        devices: how many devices' noise it is.
    """

    steps: Int64
    sigma: int
    devices: int


@dataclass(frozen=True)
class QuietRun:
    """What a run left.

    Attributes:
        name: the road, and which of its runs.
        noises: by what they are, in the order in which they were made.
        sums: releases that are sums of those, by what they are.
        sources: that words were drawn from, in that order, too.
    """

    name: str
    noises: Mapping[str, Drawn]
    sums: Mapping[str, Int64]
    sources: tuple[RecordedSource, ...]


def quiet_runs(roads: Mapping[str, QuietRoad] = ROADS, *, times: int) -> list[QuietRun]:
    """Each road so many times; tests of one audit share them."""
    found = []
    for name, quiet in roads.items():
        for number in range(times):
            run = f"{name}, run {number}"
            found.append(once(("quiet", run, repr(quiet)), partial(_run, run, quiet)))
    return found


def _run(name: str, quiet: QuietRoad) -> QuietRun:
    """One run from its first attempt to its last release."""
    items = len(SURVEY.questions()) if quiet.setting.algorithm == SURVEYING else 1
    histories = crowd([[]] * DEVICES, n_items=items)
    with recorded() as seen, probe_run(quiet.setting, histories, [Gesture()]) as stage:
        if quiet.late:
            with suppress(IntegrityError):
                stage.play(rounds=1, late=quiet.late)
        stage.play()
        releases = {
            f"{name}, release {each.plan.round}": (each.plan, stage.sealed(each.plan.round, each.plan.attempt))
            for each in stage.releases
        }
        if quiet.setting.masks:
            of = {attempt_terms(signed).context: signed.plan for signed in stage.seen.plans}
            noises = {
                f"{name}, round {of[context].round}, attempt {of[context].attempt}, device {device}": Drawn(
                    steps, of[context].share_sigma, 1
                )
                for context, device, steps in seen.vectors
            }
        elif stage.terms.mode.noised_by_devices:
            noises = dict(_messages(name, stage))
        else:
            noises = {what: Drawn(steps, plan.sigma, 1) for what, (plan, steps) in releases.items()}
        sums = {what: steps for what, (_, steps) in releases.items() if what not in noises}
    return QuietRun(name, noises, sums if stage.users_per_node < DEVICES else {}, tuple(seen.sources))


def _messages(name: str, stage: WatchedRun) -> Iterator[tuple[str, Drawn]]:
    """Each node's message."""
    plans: dict[tuple[int, int], RoundPlan] = {}
    for signed in stage.seen.plans:
        plans[signed.plan.round, signed.plan.attempt] = signed.plan
    for (round_, attempt, node), answers in stage.seen.replies.items():
        plan, answer = plans[round_, attempt], answers[0]
        if answer is not None:
            share = decode_share(answer, bits=plan.bits(stage.users_per_node))
            drawn = Drawn(share.total, plan.share_sigma, share.header.users)
            yield f"{name}, round {round_}, node {node}", drawn
