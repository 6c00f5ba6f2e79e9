"""Crowd: hosted people: what their devices would hold, computed from what they did, and answered in the same rounds.

    Population -> histories, answers to surveys -> Contributor (verify, floors, charge, train, clip, noise)

The code behind it is the device's own: `Contributor` for plans, `survey_answers.answers` for surveys. Only the stores
are missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason
from palate_client.rounds.contribution import Contributor
from palate_client.rounds.loyalty_answers import SurveyEvent
from palate_client.rounds.survey_answers import Behaviour, answers, as_interactions
from palate_common.interactions import Interactions
from palate_common.records.closing import Closing
from palate_common.survey import Survey
from palate_core.device.floors import Floors
from palate_sandbox.config import Scenario
from palate_sandbox.operator import CHANNEL, DAY, TEST
from palate_sandbox.person import SKIP, TAKES
from palate_sandbox.population import BEFORE, NOT, Day, Population, Rows
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

KEPT = 15
"""Days of which impressions are kept: more than a survey asks about."""
HALF_LIFE = {"news": 30.0}
"""Days by which an event loses half its weight, as in Palate's presets."""


@dataclass(frozen=True)
class Called:
    """A message that reached somebody: the row, when, and whether it was answered."""

    row: int
    time: float
    answered: bool


@dataclass
class Crowd(Closing):
    """The hosted people of a population.

    Attributes:
        people: everybody.
        first: the first row that is hosted; those before have devices of their own.
        scenario: what is offered.
        began: when day 0 began, seconds since 1970.
    """

    people: Population
    first: int
    scenario: Scenario
    began: float
    _ledger: SimulatedLedger = field(default_factory=lambda: SimulatedLedger(":memory:", durable=False), init=False)
    _days: deque[Day] = field(default_factory=lambda: deque(maxlen=KEPT), init=False)
    _called: deque[Called] = field(default_factory=deque, init=False)

    def close(self) -> None:
        """Let go of the devices' ledger."""
        self._ledger.close()

    def lived(self, day: Day, called: Sequence[Called] = ()) -> None:
        """Remember a day, and the messages of it."""
        self._days.append(day)
        self._called += called
        while self._called and self._called[0].time < self.began + (day.number - KEPT) * DAY:
            self._called.popleft()

    def rows(self, purpose: str, day: int) -> Rows:
        """The hosted rows whose devices are there on a day and agree to a purpose."""
        rows = np.flatnonzero(self.people.there(day) & self.people.agrees[purpose])
        return rows[rows >= self.first]

    def histories(self, rows: Rows) -> Interactions:
        """What people have, as weights over the catalogue; a row each."""
        on = self.people.taken_on[rows]
        who, what = np.nonzero(on != NOT)
        weights = np.ones(len(who))
        if (half := HALF_LIFE.get(self.scenario)) is not None:
            on = np.where(on == BEFORE, self.people.arrival[rows, None], on)
            days = on[who, what]
            weights = 0.5 ** ((on.max(axis=1, initial=0)[who] - days) / half)
        return Interactions.from_pairs(who, what, weights, n_users=len(rows), n_items=on.shape[1])

    def answers(self, survey: Survey, rows: Rows, first: int) -> Interactions:
        """What people's devices answer to a survey about the week that begins on day `first`; a row each."""
        calendar = Calendar("UTC")
        items, place = self.people.catalogue.items, {int(row): number for number, row in enumerate(rows)}
        events: list[list[SurveyEvent]] = [[] for _ in rows]
        for number, row in enumerate(rows.tolist()):
            noons = self.began + (np.flatnonzero(self.people.visits[row]) + 0.5) * DAY
            events[number] += [SurveyEvent(noon, SKIP, items[0]) for noon in noons.tolist()]
        for day in self._days:
            if first <= day.number < first + 7:
                for number, row in enumerate(day.rows.tolist()):
                    if (found := place.get(row)) is not None:
                        events[found] += self._events(day, number)
        messages: list[list[Delivery]] = [[] for _ in rows]
        for each in self._called:
            if (found := place.get(each.row)) is not None:
                reaction, message = "clicked" if each.answered else "", Message(f"m-{each.time}", title="t")
                messages[found].append(Delivery(message, Reason.SENT, CHANNEL, each.time, None, each.time, reaction))
        given = [
            answers(
                survey,
                Behaviour(
                    sorted(events[number], key=lambda event: event.time),
                    messages[number],
                    bool(self.people.control[row]),
                    {TEST: "ab"[int(self.people.arm_b[row])]},
                ),
                calendar,
            )
            for number, row in enumerate(rows.tolist())
        ]
        return as_interactions(given, survey)

    def node(
        self, given: Interactions, accounts: Sequence[int], public_key: str, clock: float, floors: Floors
    ) -> Contributor:
        """Who answers a plan for people: one node for all of them, whose numbers in the devices' ledger are given."""
        return Contributor(given, accounts, self._ledger, public_key, floors, lambda: clock, pinned=None)

    def _events(self, day: Day, number: int) -> list[SurveyEvent]:
        """What one visit leaves in a store."""
        kind, items = TAKES[self.scenario][0], self.people.catalogue.items
        time = self.began + day.number * DAY + float(day.hours[number]) * 3600
        shown = day.shown[number]
        there = shown >= 0
        seen = [
            SurveyEvent(time, "impression", items[item], None, place)
            for place, item in enumerate(shown[there].tolist())
        ]
        took = shown[day.taken[number]].tolist()
        if not took:
            return [*seen, SurveyEvent(time + 1, SKIP, items[int(shown[0])])]
        seen += [SurveyEvent(time + 1, kind, items[item]) for item in took]
        if day.verdicts[number]:
            seen.append(SurveyEvent(time + 2, "rate", items[took[0]], float(day.verdicts[number])))
        return seen
