"""E surveys: silent on the SDK as it is, and an alarm on a device that tells more than it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from palate_audit.checks import surveys as battery
from palate_audit.evidence.evidence import Verdict
from palate_client.rounds import contribution, participation
from palate_client.rounds import survey_answers as answers
from palate_core.errors import PalateError

Patch = Callable[[pytest.MonkeyPatch], None]


def reasons_leave(patch: pytest.MonkeyPatch) -> None:
    """How much was held back is in an answer."""
    kept = answers._delivery

    def telling(survey: Any, deliveries: Any, calendar: Any) -> dict[str, float]:
        held = sum(each.sent is None for each in deliveries)
        return kept(survey, deliveries, calendar) | {"answered:email": min(held / 20, 1.0)}

    patch.setattr(answers, "_delivery", telling)


def hours_leave(patch: pytest.MonkeyPatch) -> None:
    """When in the day somebody came is in an answer."""
    kept = answers.answers

    def telling(survey: Any, behaviour: Any, calendar: Any) -> dict[str, float]:
        hours = [calendar.moment(event.time).hour / 24 for event in behaviour.events]
        return {**kept(survey, behaviour, calendar), "verdict": max(hours, default=0.0)}

    patch.setattr(answers, "answers", telling)


def silence_tells(patch: pytest.MonkeyPatch) -> None:
    """Who did nothing doesn't answer."""
    kept = answers.OwnAnswers.users

    def telling(self: Any, rows: Any) -> Any:
        found = kept(self, rows)
        if not found.nnz:
            raise PalateError("nothing to say")
        return found

    patch.setattr(answers.OwnAnswers, "users", telling)


def sizes_tell(patch: pytest.MonkeyPatch) -> None:
    """The answer's header counts events: a server refuses who speaks for two, and that it does tells."""
    kept = contribution.ContributionHeader

    def telling(**fields: Any) -> Any:
        return kept(**{**fields, "rejected": fields["rejected"] + int(telling.events > 10)})

    telling.events = 0  # type: ignore[attr-defined]  # how many the latest user has
    users = answers.OwnAnswers.users

    def counting(self: Any, rows: Any) -> Any:
        telling.events = len(list(self.store.events()))  # type: ignore[attr-defined]  # see above
        return users(self, rows)

    patch.setattr(answers.OwnAnswers, "users", counting)
    patch.setattr(contribution, "ContributionHeader", telling)


def nobody_asked(patch: pytest.MonkeyPatch) -> None:
    """Consent to surveys is not looked at."""
    patch.setattr(participation.Rounds, "_check_consent", lambda self, plan: None)


def texts_leave(patch: pytest.MonkeyPatch) -> None:
    """The marks of the texts are what every answer holds."""
    patch.setattr(battery, "MARK", "plan_hash")


def test_a_device_says_what_it_is_asked_and_no_more() -> None:
    found = battery.surveys()
    assert [(each.test, each.said) for each in found if each.verdict is not Verdict.PASS] == []
    assert len(found) == 5


@pytest.mark.parametrize(
    ("leak", "where"),
    [
        (reasons_leave, "what is not asked"),
        (hours_leave, "what is not asked"),
        (silence_tells, "E surveys"),
        (sizes_tell, "E surveys"),
        (nobody_asked, "without consent"),
        (texts_leave, "texts"),
    ],
)
def test_a_device_that_says_more_is_found(leak: Patch, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leak(monkeypatch)
    alarms = [each.test for each in battery.surveys() if each.verdict is Verdict.ALARM]
    assert any(where in test for test in alarms), alarms
