"""Surveys: one for each week that is over; it is a run, charged to the same ledger as training.

    [surveys] of the configuration, ledger -> the week that is due -> Survey -> terms of a run -> `Operation`

There is one survey per week. It is asked once more if it was charged and void, and later if too few devices came that
take part in surveys. A survey that the budgets can't pay for, or that looks at an A/B test too often, is left out.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from palate_common.survey import SURVEYING, Survey
from palate_core.errors import BudgetError
from palate_core.log.entries import Entry
from palate_server.folder.config import ServerConfig
from palate_server.folder.events import EventLog
from palate_server.ledger.interim_looks import InterimLooks
from palate_server.ledger.ledger import Ledger
from palate_server.operation.terms import check_budgets

WEEK = 7 * 86_400.0
OVER = 12 * 3600.0
"""Seconds after a week's end in UTC until it is over in all time zones."""


ASKED = 2
"""How often a week is asked, at most: once more if the first time was charged and void. Each time is charged."""
PUT_OFF = 60.0, 86_400.0
"""The least and the most seconds until a survey for which too few devices came is tried again."""


class Surveys:
    """Decides which survey is due, and when.

    Args:
        config: the operator's configuration.
        events: the log of surveys that are left out.
    """

    def __init__(self, config: ServerConfig, events: EventLog) -> None:
        self._config, self._events = config, events
        self._refused: str | None = None
        self._later = self._pause = 0.0

    def put_off(self, *, now: float) -> None:
        """Ask later, because too few devices came that take part in surveys: other work doesn't wait for them.

        At first after `cohort.pause_seconds`, as after any cohort that did not gather; then each time twice as late.
        """
        least, most = PUT_OFF
        first = min(max(self._config.cohort.pause_seconds, least), most)
        self._pause = min(2 * self._pause, most) if self._pause and now < self._later + most else first
        self._later = now + self._pause

    def due(self, ledger: Ledger, *, now: float) -> Survey | None:
        """The survey that is due now; None: there is none, it is put off, or it is refused."""
        if not self._config.surveys.weekly:
            return None
        week = week_before(now)
        if week == self._refused or now < self._later or is_asked(ledger, week):
            return None
        try:
            survey = self._config.surveys.survey(week)
            check(self._config, survey, ledger, now=now)
        except BudgetError as error:
            self._refused = week
            self._events.tell("survey refused", week=week, reason=str(error))
            return None
        return survey

    def next(self, ledger: Ledger, *, now: float) -> float:
        """When the next survey is due, seconds since 1970; infinity: never."""
        if not self._config.surveys.weekly:
            return float("inf")
        if self.due(ledger, now=now) is not None:
            return now
        following = due_at(week_before(now)) + WEEK
        return min(self._later, following) if now < self._later else following


def week_before(now: float) -> str:
    """The Monday of the latest week that is over in all time zones."""
    day = datetime.fromtimestamp(now - OVER, UTC).date()
    return (day - timedelta(days=day.weekday() + 7)).isoformat()


def due_at(week: str) -> float:
    """When a week is over in all time zones, seconds since 1970."""
    end = date.fromisoformat(week) + timedelta(days=7)
    return datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp() + OVER


def as_run(config: ServerConfig, survey: Survey) -> ServerConfig:
    """The configuration of a survey's run: its algorithm and epsilon; the rest is unchanged."""
    settings = survey.model_dump(mode="json")
    training = config.training.model_copy(update={"algorithm": SURVEYING, "settings": settings, "warm_start": False})
    privacy = config.privacy.model_copy(update={"epsilon": config.surveys.epsilon})
    return config.model_copy(update={"training": training, "privacy": privacy})


def check(config: ServerConfig, survey: Survey, ledger: Ledger, *, now: float) -> None:
    """Refuse a survey that the budgets can't pay for, or that looks at an A/B test more often than was registered.

    Raises:
        BudgetError: it is refused; the message has the reason.
    """
    looks_of(ledger.entries()).admitted(survey.model_dump(mode="json"))
    check_budgets(as_run(config, survey), ledger, now=now)


def is_asked(ledger: Ledger, week: str) -> bool:
    """Whether a week is asked no more: a survey about it has a release, or there were `ASKED`."""
    entries = ledger.entries()
    runs = {run for run, settings in surveys_of(entries).items() if settings.get("first_day") == week}
    return len(runs) >= ASKED or any(entry.run in runs for entry in entries if entry.kind == "seal")


def surveys_of(entries: list[Entry]) -> dict[str, dict[str, object]]:
    """Run -> settings of each survey, in the order in which they were opened."""
    return {
        entry.run: entry.facts["settings"]
        for entry in entries
        if entry.kind == "open" and entry.facts.get("algorithm") == SURVEYING
    }


def looks_of(entries: list[Entry]) -> InterimLooks:
    """The looks at A/B tests in a ledger."""
    looks, asked = InterimLooks(), surveys_of(entries)
    sealed = {entry.run for entry in entries if entry.kind == "seal"}
    for entry in entries:
        if entry.kind == "open" and entry.run in asked:
            looks.opened(entry.run, asked[entry.run])
        elif entry.kind == "close" and entry.run not in sealed:
            looks.closed(entry.run)
        elif entry.kind == "restored":
            looks.restored(entry.created)
    return looks
