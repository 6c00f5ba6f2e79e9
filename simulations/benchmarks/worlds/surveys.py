"""Survey trials: many weeks of a simulated population, asked by the production round, judged against the truth.

    lives -> answers (palate_client.rounds.survey_answers) -> plan, clip, noise, seal (the production round) -> figures
    -> coverage

The truth is the capped statistic over the devices that answered; that is what a figure's interval is about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason
from palate_client.rounds.contribution import Contributor
from palate_client.rounds.survey_answers import Behaviour, SurveyEvent, answers, as_interactions
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.analytics import NAME, NOISE, TOTALS
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel, catalogue_hash
from palate_common.survey import Survey
from palate_core.accounting import mu_of
from palate_core.cohort_terms import RESERVED_DELTA, CohortTerms
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.privacy_mode import DpMode
from palate_server.rounds.run import open_run, run_round
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MONDAY = "2026-11-23"
ITEMS = tuple(f"item-{n}" for n in range(8))
SURVEY = Survey(first_day=MONDAY, channels=("email", "notification"), items=ITEMS, experiments=("new-model",))
DELTA = 1e-6
DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class World:
    """Simulated devices.

    Attributes:
        devices: how many.
        seed: of their lives.
        lift: by how much arm B of the experiment visits more often, as a share of days.
        buys: whether they buy and watch, too.
    """

    devices: int = 5000
    seed: int = 0
    lift: float = 0.0
    buys: bool = False

    def answers(self, survey: Survey = SURVEY) -> Interactions:
        """What each says to the survey: its life, through the code of the SDK."""
        rng, calendar = np.random.default_rng(self.seed), Calendar("UTC")
        return as_interactions([answers(survey, self._life(rng), calendar) for _ in range(self.devices)], survey)

    def _life(self, rng: np.random.Generator) -> Behaviour:
        """One user's last sixty days: how often they come differs, and so does when they first came."""
        start = _midnight(MONDAY)
        arm = "ab"[int(rng.random() < 0.5)]
        rate = min(float(rng.beta(1.0, 2.0)) + (self.lift if arm == "b" else 0.0), 1.0)
        first = int(rng.integers(-60, 7))
        days = [first, *(day for day in range(first + 1, 7) if rng.random() < rate)]
        events = []
        for day in days:
            time = start + day * DAY + rng.random() * 0.9 * DAY
            events.append(SurveyEvent(time, "view", str(rng.choice(ITEMS))))
            if rng.random() < 0.5:
                events += [SurveyEvent(time + 1, "impression", f"item-{n}", None, n) for n in range(5)]
                if rng.random() < 0.4:
                    events.append(SurveyEvent(time + 60, "click", f"item-{rng.integers(5)}"))
            if rng.random() < 0.1:
                events.append(SurveyEvent(time + 90, "rate", "item-1", float(rng.integers(1, 6))))
            if self.buys:
                events += _bought(rng, time)
        control = bool(rng.random() < 0.1)
        messages = [] if control else list(_messages(rng, start))
        return Behaviour(sorted(events, key=lambda each: each.time), messages, control, {"new-model": arm})


def _bought(rng: np.random.Generator, time: float) -> Sequence[SurveyEvent]:
    """What a visit leaves of buying and watching."""
    made = []
    if rng.random() < 0.3:
        made.append(SurveyEvent(time + 200, "purchase", str(rng.choice(ITEMS)), 1, None, float(rng.lognormal(3, 1))))
    if rng.random() < 0.05:
        made.append(SurveyEvent(time + 300, "return", str(rng.choice(ITEMS)), 1, None, float(rng.lognormal(2, 1))))
    if rng.random() < 0.5:
        length, share = float(rng.uniform(1200, 7200)), min(float(rng.exponential(0.9)), 1.0)
        made.append(SurveyEvent(time + 400, "play", str(rng.choice(ITEMS)), length * share, None, None, length))
    return made


def _messages(rng: np.random.Generator, start: float) -> Sequence[Delivery]:
    """A week's messages to one user."""
    made = []
    for channel, answered in (("email", 0.1), ("notification", 0.3)):
        for number in range(int(rng.poisson(2))):
            time = start + rng.random() * 7 * DAY
            reaction = "clicked" if rng.random() < answered else ""
            message = Message(f"{channel}-{number}", title="t")
            made.append(Delivery(message, Reason.SENT, channel, time, None, time, reaction))
    return made


def _midnight(day: str) -> float:
    """The start of a day in UTC."""
    return (date.fromisoformat(day) - date(1970, 1, 1)) / timedelta(days=1) * DAY


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a survey is asked. Unit: one installation; adjacency: zero-out; accountant: Palate's closed form.

    Attributes:
        epsilon: of one week's survey.
        delta: of it.
        dp: `central` or `distributed`.
        survey: the questions.
    """

    epsilon: float = 1.0
    delta: float = DELTA
    dp: str = "distributed"
    survey: Survey = SURVEY

    def release(self, given: Interactions) -> GlobalModel:
        """One week's survey, through the production round with secure noise: a charge, a plan, a seal."""
        return self.releases(given, 1)[0]

    def releases(self, given: Interactions, n: int) -> list[GlobalModel]:
        """The same survey asked n times of the same answers, each time in a ledger of its own: a week is asked once."""
        key, made = SigningKey.generate(), []
        with tempfile.TemporaryDirectory(prefix="palate-survey-") as name:
            for number in range(n):
                folder = Path(name) / str(number)
                folder.mkdir()
                terms = self.terms(given.n_users, run=f"week-{number}")
                with (
                    open_run(terms, folder, ledger=":memory:", key=key) as server,
                    SimulatedLedger(":memory:", durable=False) as devices,
                ):
                    floors = Floors(allow_central=True, allow_unmasked=True).for_few()
                    node = Contributor(given, range(given.n_users), devices, key.public, floors, pinned=None)
                    made.append(run_round(server, InProcess([node])).model)
        return made

    def terms(self, n_users: int, *, run: str) -> RunTerms:
        """What the run promises."""
        reserved = RESERVED_DELTA if self.dp == "distributed" else 0.0
        questions = self.survey.questions()
        mu = mu_of(epsilon=self.epsilon, delta=self.delta - reserved)
        cohort = None
        if self.dp == "distributed":
            cohort = CohortTerms(n_max=n_users, n_min=n_users, c_max=1, masks=False)
        return RunTerms(
            population="survey",
            run=run,
            algorithm=NAME,
            settings=self.survey.model_dump(mode="json"),
            facts=PublicFacts(n_users=n_users, n_items=len(questions), mu=mu),
            catalogue=catalogue_hash(questions),
            dp=DpMode(self.dp),
            epsilon=self.epsilon,
            delta=self.delta,
            cohort=cohort,
            per_node=n_users,
            grid=2**16,
        )


def truth(given: Interactions, asked: Asked) -> GlobalModel:
    """The same figures without noise: the capped statistic over the devices that answered."""
    return truth_of(asked.release(given), given)


def truth_of(released: GlobalModel, given: Interactions) -> GlobalModel:
    """The same of a release that was made of these answers."""
    totals = np.bincount(given.indices, given.weights.astype(np.float64), given.n_items)
    return replace(released, state={TOTALS: totals, NOISE: np.zeros(given.n_items)})


def experiment_answers(rng: np.random.Generator, survey: Survey, *, devices: int, lift: float) -> Interactions:
    """Answers to the first experiment alone: days with a visit by a rate of each user's own, higher in arm B.

    Args:
        rng: of the users and their coins.
        survey: with an experiment.
        devices: how many.
        lift: by how much the mean outcome of arm B is higher.
    """
    (name, *_), arms = survey.experiments, rng.random(devices) < 0.5
    rates = np.clip(rng.beta(1.0, 2.0, devices) + lift * arms, 0, 1)
    shares = rng.binomial(7, rates) / 7
    given = [
        {f"users:{name}:{arm}": 1.0, f"outcome:{name}:{arm}": share, f"square:{name}:{arm}": share**2}
        for arm, share in zip(np.where(arms, "b", "a").tolist(), shares.tolist(), strict=True)
    ]
    return as_interactions(given, survey)
