"""World: the fast clock of a sandbox: a day after the other, with its people, its messages, its rounds and its surveys.

    morning: a campaign is offered -> the day: people come, see, take -> 23:30: who trains, who is asked, what is
        published

Two shadows of the same people meet the same chance without recommendations, and with what is taken most: what would
have been. They have no devices and no server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import palate
from palate_common.interactions import Interactions
from palate_common.records.closing import Closing
from palate_common.survey import Survey
from palate_sandbox.catalogue import Assortment, catalogue
from palate_sandbox.cohort import SandboxCohort
from palate_sandbox.config import POLICIES, Policy, SandboxConfig
from palate_sandbox.crowd import Called, Crowd
from palate_sandbox.loyalty import Key, arms_apart, truth
from palate_sandbox.operator import DAY, REACH, TEST, Operator, counts_of
from palate_sandbox.person import Person
from palate_sandbox.population import (
    BEFORE,
    NOT,
    Day,
    Lists,
    Population,
    Rows,
    Shelf,
    by_chance,
    by_popularity,
    by_scores,
    exploring,
    halved,
)
from palate_sim.engines.in_process import InProcess
from palate_sim.steps import Notify, silent, step

MORNING, EVENING = 8.25, 23.5
"""Hours of the day at which a campaign is offered, and at which the operator works."""
FEWEST = 3
"""Devices that a round needs: an honest one beside one that is corrupt and one that drops out."""
TOO_FEW = "too few agree to it"
NOT_RELEASED = "the budget is used up, or the attempt was void"


class SandboxClock:
    """The sandbox's time, which moves when it is told to."""

    def __init__(self, began: float) -> None:
        self.began = self.now = began

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now

    def set(self, day: int, hour: float) -> None:
        """Move to an hour of a day."""
        self.now = self.began + day * DAY + hour * 3600


@dataclass(frozen=True)
class ToldFigure:
    """A figure of a survey, and what was so.

    Attributes:
        name: as in `palate_server.surveys.analytics.DEFINITIONS`.
        of: the day's number, the number of days, or nothing.
        week: the week's first day.
        value: as released; None: suppressed.
        low: lower end of its 95 % interval.
        high: upper end.
        true: of all whose devices answered.
        everybody: of all who ever came, whether they answer or not.
    """

    name: str
    of: str | int
    week: int
    value: float | None
    low: float | None
    high: float | None
    true: float
    everybody: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the interval holds the truth; None where nothing was told."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.low <= self.true <= self.high


@dataclass
class Chronicle:
    """What has happened so far, for the page and the report.

    Attributes:
        told: figures of surveys with the truth.
        tests: week's first day -> the A/B test's result, with the true difference; None: too few to tell.
        policies: day -> the policy from then on.
        trained: days on which a model was published, with its number of releases.
        refused: day, what was due on it and left out, and why.
        messages: numbers of messages that were sent, and answered.
        seconds: processor seconds of each day.
        answering: how many of those who agree to surveys came on each day.
    """

    told: list[ToldFigure] = field(default_factory=list)
    tests: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)
    policies: dict[int, Policy] = field(default_factory=dict)
    trained: dict[int, int] = field(default_factory=dict)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    messages: list[int] = field(default_factory=lambda: [0, 0])
    seconds: list[float] = field(default_factory=list)
    answering: list[int] = field(default_factory=list)


class SandboxWorld(Closing):
    """A sandbox.

    Args:
        config: what it is like.
        folder: a new folder for the server and the people's stores.
        shadows: whether the other two policies are lived, too.
        today: the day on which the last week ends at the latest, so that nobody lives in the future; None: now.
        offered: the catalogue; None: the scenario's.
        notify: told what is worked at, as `palate_sim.steps` has it.
    """

    def __init__(
        self,
        config: SandboxConfig,
        folder: Path,
        *,
        shadows: bool = True,
        today: date | None = None,
        offered: Assortment | None = None,
        notify: Notify = silent,
    ) -> None:
        self.config, self.folder, self._notify = config, folder, notify
        self.monday = monday_before(today or datetime.fromtimestamp(time.time(), UTC).date(), config.days)
        self.clock = SandboxClock(datetime.combine(self.monday, datetime.min.time(), UTC).timestamp())
        with step(notify, "reading the catalogue"):
            self.catalogue = offered or catalogue(config.scenario, items=config.items, seed=config.seed)
        self.place = {item: row for row, item in enumerate(self.catalogue.items)}
        self.people = self._population()
        self.shadows: dict[Policy, Population] = {each: self._population() for each in POLICIES[:2] if shadows}
        week = (self.monday + timedelta(days=7 * config.operation.test_week)).isoformat()
        with step(notify, "making the server folder"):
            self.operator = Operator(folder / "server", config, self.catalogue, clock=self.clock, test_week=week)
        self.floors = palate.Floors(allow_unmasked=True)  # what devices insist on: as apps do, but for masks
        self.crowd = Crowd(self.people, config.people, config.scenario, self.clock.began)
        self.persons: dict[int, Person] = {}
        self.you: Person | None = None
        self.policy: Policy = config.policy
        self.today, self.chronicle = 0, Chronicle(policies={0: config.policy})
        self.model = self.operator.model
        self._service = palate.Service(
            public_key=self.operator.public_key,
            population=self.operator.population,
            epsilon=config.operation.lifetime_epsilon,
            delta=config.operation.delta,
            floors=self.floors,
        )
        self._campaigned: set[str] = set()
        self._called: list[Called] = []
        self._lists: dict[int, list[palate.Recommendation]] = {}

    def close(self) -> None:
        """Close all devices and the ledger."""
        for person in self._devices(self.persons):
            person.close()
        self.crowd.close()
        self.operator.close()

    @property
    def over(self) -> bool:
        """Whether all days are lived."""
        return self.today >= self.config.days

    @property
    def date(self) -> str:
        """The day that comes next, ISO 8601."""
        return self.date_of(self.today)

    def date_of(self, day: int) -> str:
        """A day, ISO 8601."""
        return (self.monday + timedelta(days=day)).isoformat()

    def switch(self, policy: Policy) -> None:
        """Show people something else from the next day on."""
        if policy != self.policy:
            self.policy = policy
            self.chronicle.policies[self.today] = policy

    def withdraw(self, row: int, purpose: palate.Purpose) -> None:
        """A person turns a purpose off, on their device."""
        if (person := self.persons.get(row)) is not None:
            person.device.consent.revoke(purpose)
            if purpose in self.people.agrees:
                self.people.agrees[purpose][row] = False

    def erase(self, row: int) -> None:
        """A person erases the app's data, and leaves."""
        if (person := self.persons.pop(row, None)) is not None:
            person.device.erase()
            self.people.left_on[row] = self.people.erased_on[row] = self.today

    def join(self) -> Person:
        """A person more, with a device that no law moves, and who takes part in training: whoever looks at the page."""
        agrees: dict[palate.Purpose, bool] = {"train": True, "analytics": False, "messaging": False}
        self.you = self._person("you", agrees)
        return self.you

    def live(self) -> Iterator[Day]:
        """Live day after day, until all are lived."""
        while not self.over:
            yield self.live_day()

    def live_day(self) -> Day:
        """Live the next day."""
        begun, day = time.process_time(), self.today
        self._arrive(day)
        campaign = self._campaign(day)
        self._called = []
        called = self._offer(day, campaign)
        lived = self.people.day(day, self._shelf(day), called=called)
        self._tell_devices(lived)
        self.crowd.lived(lived, self._called)
        for policy, people in self.shadows.items():
            others = self._shadow_called(people, day, campaign)
            people.day(day, self._with_arms(self._shadow_shelf(policy, people, day)), called=others)
        self._leave(lived)
        self.clock.set(day, EVENING)
        self._evening(day)
        self.chronicle.answering.append(int(self.people.agrees["analytics"][lived.rows].sum()))
        self.today = day + 1
        self.chronicle.seconds.append(time.process_time() - begun)
        return lived

    def _population(self) -> Population:
        config = self.config
        n = config.people + config.crowd
        return Population(self.catalogue, config.habits, n=n, days=config.days, seed=config.seed)

    def _arrive(self, day: int) -> None:
        """People with devices who come for the first time install the app and are asked what they agree to."""
        rows = np.flatnonzero(self.people.arrival[: self.config.people] == day).tolist()
        for row in rows:
            self.clock.set(day, 0.1)
            agrees: dict[palate.Purpose, bool] = {
                "train": bool(self.people.agrees["train"][row]),
                "analytics": bool(self.people.agrees["analytics"][row]),
                "messaging": bool(self.people.agrees["messaging"][row]),
            }
            person = self._person(f"{row:04d}", agrees)
            names = self.catalogue.items
            person.brought([names[item] for item in np.flatnonzero(self.people.taken_on[row] == BEFORE).tolist()])
            self.people.arm_b[row], self.people.control[row] = person.arm == "b", person.messenger.in_control()
            self.persons[row] = person

    def _person(self, name: str, agrees: dict[palate.Purpose, bool]) -> Person:
        """A person with a new device, which has the latest model."""
        folder, scenario = self.folder / "people" / name, self.config.scenario
        person = Person(folder, scenario, service=self._service, clock=self.clock, agrees=agrees)
        person.device.update_model(self.operator.model_folder)
        return person

    def _devices(self, rows: Iterable[int]) -> list[Person]:
        """The devices of some people, and that of who looks at the page."""
        return [self.persons[row] for row in rows] + ([] if self.you is None else [self.you])

    def _leave(self, lived: Day) -> None:
        """Who leaves and erases the app takes all of it along."""
        for row in lived.rows[lived.erased].tolist():
            if (person := self.persons.pop(row, None)) is not None:
                person.device.erase()

    def _shelf(self, day: int) -> Shelf:
        """What the policy shows: to hosted people by the model's scores, to the others by their own devices."""
        hosted = self._hosted_shelf(day)
        self._lists = {}

        def shelf(rows: Rows) -> Lists:
            lists = hosted(rows)
            if self.policy == "palate":
                hours = self._hours(day)
                for place, row in sorted(enumerate(rows.tolist()), key=lambda each: hours[each[1]]):
                    if (person := self.persons.get(row)) is not None:
                        self.clock.set(day, float(hours[row]))
                        lists[place] = self._own_list(row, person, lists.shape[1])
            return lists

        return self._with_arms(shelf)

    def _with_arms(self, shelf: Shelf) -> Shelf:
        """A shelf for the A/B test's arms; shadows are in it, too, so that it makes no difference between lives."""
        return lambda rows: halved(shelf(rows), self.config.habits.page, self.people.arm_b[rows])

    def _own_list(self, row: int, person: Person, length: int) -> npt.NDArray[np.int64]:
        """What a person's own device recommends."""
        self._lists[row] = found = person.lists(length)
        items = [self.place[each.item] for each in found]
        return np.array(items + [-1] * (length - len(items)), np.int64)

    def _hours(self, day: int) -> npt.NDArray[np.float64]:
        """When on a day each would come."""
        return self.people.hours(day)

    def _hosted_shelf(self, day: int) -> Shelf:
        people, model, explore = self.people, self.model.model, self.config.operation.explore
        if self.policy == "none" or model.header.releases == 0:
            return by_chance(people, day)
        if self.policy == "popularity":
            return exploring(people, day, by_popularity(people, counts_of(self.model)), explore)
        return exploring(people, day, by_scores(people, lambda rows: model.scores(self.crowd.histories(rows))), explore)

    def _shadow_shelf(self, policy: Policy, people: Population, day: int) -> Shelf:
        """What a shadow is shown: chance, or what its own people took most, which no noise hides from it."""
        if policy == "none":
            return by_chance(people, day)
        counts = (people.taken_on != NOT).sum(axis=0)
        return exploring(people, day, by_popularity(people, counts), self.config.operation.explore)

    def _campaign(self, day: int) -> tuple[int, bytes] | None:
        """On one day of the week: the item of a campaign, and the campaign, signed."""
        if (self.monday + timedelta(days=day)).weekday() != self.config.operation.campaign_weekday or day < 7:
            return None
        self.clock.set(day, MORNING)
        order = np.argsort(-counts_of(self.model))
        item = next(row for row in order[20:].tolist() if self.catalogue.items[row] not in self._campaigned)
        name = self.catalogue.items[item]
        self._campaigned.add(name)
        return item, self.operator.campaign(name, self.catalogue.titles[item], number=day // 7)

    def _offer(self, day: int, campaign: tuple[int, bytes] | None) -> Rows:
        """Offer a campaign to everybody; who answers it comes today."""
        self.clock.set(day, MORNING)
        answered: list[int] = []
        for row, person in self.persons.items():
            for message in person.offered(None if campaign is None else campaign[1]):
                self.chronicle.messages[0] += 1
                item = self.place[message.item]
                chance = self.config.habits.answers_message * self.people.wants(np.array([row]), item)[0] * 2
                if self.people.left_on[row] > day and self.people.message_chance(day)[row] < chance:
                    person.messenger.reacted(message.id, "clicked")
                    answered.append(row)
                    self.chronicle.messages[1] += 1
        if campaign is None:
            return np.array(answered, np.int64)
        item = campaign[0]
        rows = self.crowd.rows("messaging", day)
        rows = rows[~self.people.control[rows]]
        rows = rows[self._fits(rows, item)]
        came = self._answers(self.people, day, rows, item)
        now = self.clock.now
        self._called += [Called(row, now, answer) for row, answer in zip(rows.tolist(), came.tolist(), strict=True)]
        self.chronicle.messages[0] += len(rows)
        self.chronicle.messages[1] += int(came.sum())
        return np.concatenate([np.array(answered, np.int64), rows[came]])

    def _answers(self, people: Population, day: int, rows: Rows, item: int) -> npt.NDArray[np.bool_]:
        """Who of those that a message reached answers it."""
        chance = np.minimum(1.0, 2 * self.config.habits.answers_message * people.wants(rows, item))
        return (people.message_chance(day)[rows] < chance) & (people.left_on[rows] > day)

    def _fits(self, rows: Rows, item: int) -> npt.NDArray[np.bool_]:
        """For which hosted people an item is in the top share of the catalogue, as devices decide it."""
        if self.model.model.header.releases == 0 or not len(rows):
            return np.zeros(len(rows), np.bool_)
        scores = self.model.model.scores(self.crowd.histories(rows))
        return np.asarray((scores > scores[:, item, None]).mean(axis=1) < REACH)

    def _shadow_called(self, people: Population, day: int, campaign: tuple[int, bytes] | None) -> Rows:
        """In a shadow everybody who allows messages gets the campaign: nothing there knows whom it fits."""
        if campaign is None:
            return np.zeros(0, np.int64)
        rows = np.flatnonzero(people.there(day) & people.agrees["messaging"] & ~people.control)
        return rows[self._answers(people, day, rows, campaign[0])]

    def _tell_devices(self, lived: Day) -> None:
        """What happened goes into people's own stores."""
        names = self.catalogue.items
        for number in np.argsort(lived.hours).tolist():
            row = int(lived.rows[number])
            person = self.persons.get(row)
            if person is None:
                continue
            self.clock.set(lived.number, float(lived.hours[number]))
            shown = lived.shown[number][lived.shown[number] >= 0]
            taken = [names[item] for item in lived.shown[number][lived.taken[number]].tolist()]
            own = self._lists.get(row)
            if own is None:
                person.browsed([names[item] for item in shown.tolist()], taken)
            else:
                person.saw(own[: len(shown)], taken)
            if lived.verdicts[number]:
                self.clock.now += 1
                person.rated(taken[0], int(lived.verdicts[number]))

    def _evening(self, day: int) -> None:
        """The operator's work: a survey that is due, and training."""
        if (survey := self.operator.due()) is not None:
            with step(self._notify, f"asking a survey about the week of {survey.first_day}"):
                self._survey(day, survey)
        plan = self.config.operation
        if day + 1 >= plan.first_training and (day + 1 - plan.first_training) % plan.every_days == 0:
            with step(self._notify, "training"):
                self._train(day)

    def _train(self, day: int) -> None:
        rows = self.crowd.rows("train", day)
        own = [row for row in self.persons if self.people.agrees["train"][row]]
        if len(rows) + len(own) < FEWEST:
            self.chronicle.refused.append((day, "training", TOO_FEW))
            return
        published = self.operator.train(self._cohort(self._devices(own), self.crowd.histories(rows), rows))
        if published is None:
            self.chronicle.refused.append((day, "training", NOT_RELEASED))
            return
        self.model = published
        self.chronicle.trained[day] = published.model.header.releases
        for person in self._devices(self.persons):
            person.device.update_model(self.operator.model_folder)

    def _survey(self, day: int, survey: Survey) -> None:
        first = (date.fromisoformat(survey.first_day) - self.monday).days
        if first < 0:
            return
        rows = self.crowd.rows("analytics", day)
        own = [row for row in self.persons if self.people.agrees["analytics"][row]]
        if len(rows) + len(own) < FEWEST:
            if ("survey", TOO_FEW) not in [each[1:] for each in self.chronicle.refused[-1:]]:  # it stays due
                self.chronicle.refused.append((day, "survey", TOO_FEW))
            return
        devices = [self.persons[row] for row in own]
        result = self.operator.ask(survey, self._cohort(devices, self.crowd.answers(survey, rows, first), rows))
        if result is None:
            self.chronicle.refused.append((day, "survey", NOT_RELEASED))
            return
        asked = np.concatenate([np.array(own, np.int64), rows])
        self.chronicle.told += self._compared(result, first, asked, day)
        if TEST in result["tests"]:
            found: Mapping[str, Any] | None = result["tests"][TEST]["found"]
            true = arms_apart(self.people.visits[asked], self.people.arm_b[asked], first=first)
            self.chronicle.tests[first] = None if found is None else {**found, "true": true}

    def _cohort(self, own: Sequence[Person], given: Interactions, rows: Rows) -> SandboxCohort:
        """Who is asked: people with a device, and hosted ones with what these devices would hold or answer."""
        key, now = self.operator.public_key, self.clock.now
        # One node answers for all who are hosted.
        hosted = [self.crowd.node(given, rows.tolist(), key, now, self.floors)] if len(rows) else []
        return SandboxCohort(len(own) + len(rows), InProcess([*own, *hosted]))

    def _compared(self, result: Mapping[str, Any], first: int, asked: Rows, day: int) -> Iterator[ToldFigure]:
        """A survey's figures beside the truth."""
        visits = self.people.visits[:, : day + 1]
        ever = np.flatnonzero(self.people.arrival <= day)
        own, all_ = (truth(visits[rows], self.people.arrival[rows], first=first) for rows in (asked, ever))
        for each in result["figures"]:
            of: str | int = each["of"]
            if each["name"] == "dau":
                of = (date.fromisoformat(each["of"]) - self.monday).days
            key: Key = (each["name"], of)
            if key in own:
                yield ToldFigure(
                    each["name"], of, first, each["value"], each["low"], each["high"], own[key], all_.get(key)
                )


def monday_before(today: date, days: int) -> date:
    """The last Monday from which so many days are over."""
    begun = today - timedelta(days=days)
    return begun - timedelta(days=begun.weekday())
