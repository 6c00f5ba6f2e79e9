"""Attempts: the noise of every attempt is its own, whatever became of the attempts before it.

A real coordinator plays runs in which nobody acts, in every mode, while every random word is recorded, attempt by
attempt: rounds that are released at once, after one void attempt and after several, with a restart of the server
between. Attempts are void because devices stay away, or because the noised sum can't be written. A void attempt is
charged like any other, so that the next one has other noise. Then

- the noise of a release is what the reference makes of the words that were drawn in this attempt, at the deviation
  that this attempt was charged for, and takes all of them;
- so is each device's message, also in an attempt that came to nothing;
- a server that has too few answers draws nothing.

**Assumes:** words are uniform, which tests K and R look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from errno import ENOSPC
from itertools import cycle
from unittest import mock

import numpy as np

from mechanism.harness.probe_algorithm import NAME, Gesture, performing
from mechanism.harness.probe_run import Setting, crowd
from mechanism.harness.recording import RecordedSource, Recording, recorded
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import decode_share
from palate_core.errors import IntegrityError, PalateError
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL
from palate_server.rounds.registry import Registry
from reference.noise import shares

TEST = "attempts"
DEVICES, ENOUGH = 5, 4
VOID = (0, 1, 2, 1)
"""How many attempts at each round come to nothing."""
_SETTING = Setting(
    noise=Noise.SECURE, users_per_node=1, rounds=3 * len(VOID), width=9, lost=DEVICES - ENOUGH, epsilon=20.0
)
SETTINGS: Mapping[str, Setting] = {
    "central": _SETTING,
    "distributed": replace(_SETTING, mode=DISTRIBUTED),
    "local": replace(_SETTING, mode=LOCAL),
}


def noise_of_attempts(*, quick: bool = False) -> list[Finding]:
    """Every mode; `quick`: the server's noise."""
    found = []
    for name, setting in list(SETTINGS.items())[: 1 if quick else None]:
        noises = list[str]()
        try:
            wrong = next(_played(setting, noises), "")
        except PalateError as error:
            wrong = f"a run with void attempts must end, got: {error}"
        said = f"{len(noises)} noises in {sum(VOID) + len(VOID)} attempts, of each attempt's own words and deviation"
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or said))
    return found


def _played(setting: Setting, noises: list[str]) -> Iterator[str]:
    """A run, and how an attempt's noise isn't its own; `noises` receives those that were looked at."""
    terms = setting.terms(NAME, n_users=DEVICES, n_items=1)
    terms = terms.model_copy(update={"cohort_floor": ENOUGH})
    run = WatchedRun(terms, crowd([[]] * DEVICES, n_items=1), users_per_node=1, algorithm=performing([Gesture()]))
    full = cycle((False, True))
    with run as stage:
        for round_, void in enumerate(VOID):
            for attempt in range(void + 1):
                unwritten = attempt < void and next(full)
                with recorded() as seen, suppress(IntegrityError, OSError), ExitStack() as stack:
                    if unwritten:
                        error = OSError(ENOSPC, "no space left on the device")
                        stack.enter_context(mock.patch.object(Registry, "persist", side_effect=error))
                    stage.play(rounds=1, absent=range(2) if attempt < void and not unwritten else ())
                plan, released = stage.seen.plans[-1].plan, len(stage.releases) > round_
                where = f"attempt {plan.attempt} of round {plan.round}"
                if released != (attempt == void) or (plan.round, plan.attempt) != (round_, attempt):
                    yield f"{where} is {'' if released else 'not '}released, after {attempt} void ones of {void}"
                    return
                noises.extend([where] * len(seen.sources))
                yield from (
                    _devices(stage, plan, seen, where)
                    if setting.mode.noised_by_devices
                    else _server(stage, plan, seen, where, released=released, drawn=released or unwritten)
                )
                if attempt == 1:
                    stage.restart()


def _server(
    stage: WatchedRun, plan: RoundPlan, seen: Recording, where: str, *, released: bool, drawn: bool
) -> Iterator[str]:
    """The server's noise, which is all that a release has."""
    if len(seen.sources) != drawn:
        yield f"{where} has words of {len(seen.sources)} sources, {int(drawn)} are right"
    elif released:
        yield from _differs(where, stage.sealed(plan.round, plan.attempt), seen.sources[0], plan.sigma)


def _devices(stage: WatchedRun, plan: RoundPlan, seen: Recording, where: str) -> Iterator[str]:
    """The devices' noise, which is all that they send."""
    sent = {
        node: decode_share(answers[0], bits=plan.bits(1)).total
        for (round_, attempt, node), answers in stage.seen.replies.items()
        if (round_, attempt) == (plan.round, plan.attempt) and answers[0]
    }
    if len(seen.sources) != len(sent):
        yield f"{len(sent)} devices have sent noise in {where}, with words of {len(seen.sources)} sources"
    for (node, steps), source in zip(sent.items(), seen.sources, strict=False):
        yield from _differs(f"device {node} in {where}", steps, source, plan.share_sigma)


def _differs(who: str, steps: Int64, source: RecordedSource, sigma: int) -> Iterator[str]:
    """How a noise isn't what the words of its attempt make at its deviation."""
    words = iter(source.words.tolist())
    try:
        expected = np.array(shares(words, len(steps), sigma, 1), np.int64)
    except PalateError:
        yield f"{who}: {len(source.words)} words were drawn, noise of {sigma} steps takes more"
        return
    if wrong := int((steps != expected).sum()) or not source.secure:
        yield f"{who}: {wrong} of {len(steps)} numbers have another noise than this attempt's words and {sigma} steps"
    if left := sum(1 for _ in words):
        yield f"{who}: {left} of {len(source.words)} words were drawn and not used"
