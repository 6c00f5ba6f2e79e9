"""Figures: what the released sums of a survey or a verdict say, with their noise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts, analytics, verdict
from palate_common.algorithms.popularity import COUNTS
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.survey import Survey
from palate_server.operation.releases import signal_of
from palate_server.surveys import accusation
from palate_server.surveys import verdict as judged
from palate_server.surveys.accusation import proven, seen
from palate_server.surveys.analytics import comparisons, cost, figures
from palate_server.surveys.intervals import Arm, Noised, compare, quantile, ratio_interval
from palate_server.surveys.verdict import hidden, judgement, least_loss


def _noised(dice: Dice, high: float) -> Noised:
    """A noised number."""
    return Noised(dice.one_of((dice.real(-5.0, high), 0.0, high)), dice.one_of((dice.real(0.0, 9.0), 0.0, high / 6)))


def _intervals(dice: Dice, answer: CaseAnswer) -> None:
    """Sums, ratios and tests with noise."""
    high, confidence = dice.one_of((10.0, 400.0, 5000.0)), dice.one_of((0.95, 0.5, 0.99, 0.0, 1.0, 1e-9))
    one, other = _noised(dice, high), _noised(dice, high)
    answer.tell(one + other, one * dice.real(-3.0, 3.0))
    answer.of(quantile, confidence)
    answer.of(one.interval, confidence=confidence)
    answer.of(ratio_interval, one, other, confidence=confidence)
    answer.tell(ratio_interval(one, other), one.interval())
    arms = [Arm(_noised(dice, high), _noised(dice, high / 2), _noised(dice, high / 3)) for _ in range(2)]
    quiet = replace(arms[0], users=Noised(0.0, 0.0), outcome=Noised(1.0, 0.0), square=Noised(0.0, 0.0))
    for a, b in (arms, (quiet, arms[0]), (replace(quiet, outcome=Noised(0.0, 0.0)), quiet), (quiet, quiet)):
        found = answer.of(compare, a, b, confidence=dice.real(0.5, 0.999))
        answer.tell(a.mean(), found and found.different)


def _surveyed(dice: Dice) -> GlobalModel:
    """A released survey, or something like it."""
    tests = dice.some_of(("new", "old", "more"), 0.6)
    looks = {name: ("2025-10-06", "2025-10-13", "2025-10-20")[: dice.whole(1, 3)] for name in dice.some_of(tests)}
    survey = Survey(
        first_day="2025-10-06",
        channels=tuple(dice.some_of(("email", "push"))),
        items=tuple(dice.some_of(("x", "y", "z"))),
        experiments=tuple(tests),
        looks=looks,
    )
    size, scale = len(survey.questions()), dice.one_of((4.0, 30.0, 300.0, 3000.0))
    noise = dice.floats(size, low=0.0, high=dice.one_of((1.0, 6.0, scale / 3)))
    totals = dice.floats(size, low=-0.2, high=1.0) * scale
    edge = dice.wholes(0, size - 1, 5)
    totals[edge], noise[edge] = np.maximum(20.0, 4 * noise[edge]), noise[edge]  # just large enough
    name, releases = dice.mostly((analytics.NAME, 1), (analytics.NAME, 0), (analytics.NAME, 2), ("popularity", 1))
    header = ModelHeader(
        algorithm=name,
        settings=survey.model_dump(mode="json") if name == analytics.NAME else {},
        facts=PublicFacts(n_users=9, n_items=size, mu=1.0),
        releases=releases,
        catalogue="ab" * 32,
    )
    return GlobalModel(header, {analytics.TOTALS: totals, analytics.NOISE: noise})


def _figures(dice: Dice, answer: CaseAnswer) -> None:
    """The figures of a survey."""
    model, confidence = _surveyed(dice), dice.one_of((0.95, 0.8))
    answer.of(figures, model, confidence=confidence)
    answer.of(comparisons, model, confidence=confidence)
    noise = dice.mostly({"noise": dice.floats(2, low=0.1, high=9.0)}, {"noise": np.zeros(1)}, {})
    counts = dice.mostly({COUNTS: dice.floats(5, low=-3.0, high=30.0).astype(np.float32)}, {})
    answer.tell(signal_of({**noise, **counts}))
    answer.tell(cost(mu=dice.real(0.1, 3.0), delta=10.0 ** -dice.whole(5, 8)))


def _verdict(dice: Dice) -> tuple[GlobalModel, int]:
    """A released verdict, and how many have judged: some items are pushed, some borne, some hardly shown."""
    n, devices = dice.whole(1, 24), dice.one_of((20, 400, 400, 3000))
    length = min(20, n)
    mu = dice.one_of((0.5, 3.0, 12.0))
    shares = np.minimum(1.0, dice.floats(n, low=0.0, high=2.0) * length / n)
    found = shares * devices * dice.one_of((0.3, 0.1, 0.1, 0.0)) * dice.floats(n, low=0.6, high=1.3)
    for row in dice.some_of(range(n), 0.15):
        shares[row], found[row] = dice.real(0.04, 1.0), dice.real(-0.02, 0.06) * devices
    noise = np.array([1 / (mu * math.sqrt(part)) for part in verdict.BLOCKS.values()])
    noise[-1] *= math.sqrt(length)
    votes = dice.floats(2, low=0.0, high=0.5) * devices
    if dice.chance(0.3):
        votes[1] = votes[0] + devices * 0.09 + dice.real(0.0, 9.0) * math.sqrt(votes.sum())
    of = {
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=9, n_items=n, mu=1.0),
        "model": "ab" * 32,
    }
    pair = verdict.JudgedPair(
        run=f"run-{dice.whole(0, 3)}",
        candidate=verdict.JudgedModel.model_validate(of),
        in_use=verdict.JudgedModel.model_validate(of),
    )
    name, releases = dice.mostly((verdict.NAME, 1), (verdict.NAME, 0), (verdict.NAME, 2), ("popularity", 1))
    facts = PublicFacts(n_users=devices, n_items=n, mu=mu)
    settings = pair.model_dump(mode="json") if name == verdict.NAME else {}
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=releases, catalogue="cd" * 32)
    state = {verdict.VOTES: votes, verdict.FOUND: found, verdict.SHOWN: shares * devices, verdict.NOISE: noise}
    return GlobalModel(header, state), devices


def _judged(dice: Dice, answer: CaseAnswer) -> None:
    """What a verdict says, which of the items are proven pushed, and which are seen."""
    model, devices = _verdict(dice)
    with mock.patch.object(judged, "DRAWS", dice.one_of((20, 20, 100))), mock.patch.object(accusation, "SPLITS", 4):
        said = answer.of(judgement, model, devices=devices)
        if said is None:
            return
        items = tuple(f"item-{row}" for row in range(len(model.state[verdict.FOUND])))
        answer.tell(said.held, said.worse, [json.dumps(each) for each in said.reasons(dice.mostly(items, ()))])
        for accusers in (dice.one_of((0.0, 0.001, 0.01, 0.01)), dice.one_of((0.003, 0.02, 0.05, 0.3))):
            answer.tell([each.row for each in proven(model, said, accusers=accusers)])
        answer.tell(seen(model, devices=devices), seen(model, devices=dice.one_of((devices // 2, devices * 2))))
        edge = np.where(dice.floats(len(items)) > 0, judged.EXPOSED * devices, 0.0)
        quiet = {verdict.SHOWN: edge, verdict.NOISE: np.zeros(3)}
        answer.tell(seen(replace(model, state={**model.state, **quiet}), devices=devices))
    for many in dice.some_of((2, 10, 25, 60, 150, 700)):
        mu = 10 ** dice.real(-0.6, 0.8) / math.sqrt(many / 60)
        answer.tell(least_loss(mu=mu, devices=many), hidden(mu=mu, devices=many, n_items=dice.one_of((1, 8, 30, 5000))))
    mu, many = dice.one_of((0.05, 0.5, 2.0, 9.0)), dice.one_of((2, 20, 100, 1000, 30_000))
    answer.tell(least_loss(mu=mu, devices=many), hidden(mu=mu, devices=many, n_items=dice.one_of((1, 8, 30, 5000))))


SEAMS = (
    Seam("surveys: intervals and tests", _intervals, 48),
    Seam("surveys: figures", _figures, 18),
    Seam("verdicts: what they say, what they prove, and what is seen", _judged, 48),
)
