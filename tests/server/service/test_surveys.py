"""Surveys on a schedule: a week once, out of the same budget, between trainings; results signed; no model of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.worlds.surveys import World
from palate_audit.run.ledger import audit_ledger
from palate_cli.cli import app
from palate_common.rounds.exchange import TRAINING, Availability
from palate_common.rounds.wire import REFUSED
from palate_common.survey import Survey
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_server.folder.events import EventLog, told_reason
from palate_server.operation.outlook import read_outlook
from palate_server.operation.releases import publish
from palate_server.operation.survey_results import latest_results, read_result
from palate_server.operation.surveys import Surveys, due_at, surveys_of, week_before
from palate_server.service.status import read_status, unpublished

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]
START = 1_795_950_000.0  # Sunday 2026-11-29
SURVEYS = """
[surveys]
weekly = true
epsilon = 1.0
channels = ["email", "notification"]
[surveys.experiments]
new-model = ["2026-11-23", "2026-12-07"]
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server's clock, which goes on between any two looks at it."""

    class Clock:
        now = START

        @classmethod
        def read(cls) -> float:
            cls.now += 1e-6
            return cls.now

    monkeypatch.setattr("palate_server.operation.operation.time.time", Clock.read)
    return Clock


def answering(service: Any) -> Any:
    """The service, whose devices answer what they are asked."""
    histories = service.devices.histories

    def before(coordinator: Any) -> None:
        asked = coordinator.terms.algorithm == "analytics"
        survey = Survey.model_validate(coordinator.terms.settings) if asked else None
        service.devices.histories = histories if survey is None else World(devices=8, seed=2).answers(survey)

    service.devices.before = before
    return service


@pytest.fixture
def service(make_service: Maker, clock: Any) -> Any:
    """A site that has asked a survey and trained once."""
    made = answering(make_service(extra=SURVEYS, every_hours=1e6))
    made.operate(2)
    return made


def weeks(service: Any) -> list[str]:
    """What was asked, in order."""
    with service.site.ledger(read_only=True) as ledger:
        return [settings["first_day"] for settings in surveys_of(ledger.entries()).values()]


def palate(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(words), standalone_mode=False, catch_exceptions=False)
    return done.stdout


def test_a_week_is_over_when_it_is_over_everywhere() -> None:
    monday = due_at("2026-11-23")
    assert monday == 1_796_040_000.0  # Monday 2026-11-30 12:00 UTC
    assert (week_before(monday - 1), week_before(monday)) == ("2026-11-16", "2026-11-23")


def test_a_survey_a_week_and_trainings_in_between(service: Any, clock: Any) -> None:
    assert weeks(service) == ["2026-11-16"]
    assert len(service.events("opened")) == 2, "the survey, and the training that was due, too"
    clock.now += 60.0
    service.operate(2)
    assert len(service.events("opened")) == 2, "nothing is asked twice"
    assert set(service.devices.home.values()) == {86400}, "devices come again within a day"
    clock.now = due_at("2026-11-23")
    service.operate(2)
    assert weeks(service) == ["2026-11-16", "2026-11-23"]
    assert read_status(service.site).releases == sum(event["releases"] for event in service.events("closed"))


def test_its_result_is_kept_signed_and_can_be_made_again(service: Any, clock: Any) -> None:
    clock.now = due_at("2026-11-23")
    service.operate()
    path = service.site.surveys / "2026-11-23.json"
    assert path.stat().st_mode & 0o777 == 0o600
    data, key = path.read_bytes(), service.site.key().public
    kept = read_result(data, public_key=key)
    path.unlink()
    printed = json.loads(palate("survey", "result", str(service.site.folder), "--json"))
    assert printed == kept == read_result(path.read_bytes(), public_key=key)
    cost = kept["cost"]
    assert cost["epsilon"] == pytest.approx(1.0, abs=1e-6)
    assert cost["epsilon"] < cost["surveys_epsilon"] < cost["yearly_epsilon"] < 10
    assert (cost["unit"], cost["adjacency"], cost["delta"]) == ("user (one installation)", "zero-out", 1e-6)
    assert kept["tests"] == {"new-model": {"looks": ["2026-11-23", "2026-12-07"], "outcome": "days", "found": None}}
    assert all(each["definition"] for each in kept["figures"])
    # Eight devices are nobody's business; noise alone is above four deviations once in 30,000 figures.
    assert sum(each["value"] is not None for each in kept["figures"]) <= 1
    with pytest.raises(IntegrityError):
        read_result(data.replace(b'"week":"2026-11-23"', b'"week":"2026-11-16"'), public_key=key)
    assert "suppressed" in palate("survey", "result", str(service.site.folder), "--week", "2026-11-16")
    with pytest.raises(InputError, match="`--week` must be one of 2026-11-16, 2026-11-23"):
        palate("survey", "result", str(service.site.folder), "--week", "2026-11-09")


def test_an_audit_of_the_server_misses_figures_that_were_changed_or_taken_away(service: Any) -> None:
    folder, path = service.site.folder, service.site.surveys / "2026-11-16.json"
    assert audit_ledger(folder).alarms == ()
    data = path.read_bytes()
    for changed in (data.replace(b'"yearly_epsilon":', b'"yearly_epsilon" :'), data[:90], b"", None):
        path.unlink() if changed is None else path.write_bytes(changed)
        assert [found.test for found in audit_ledger(folder).alarms] == ["surveys"]
    (service.site.surveys / "2026-11-09.json").write_bytes(data)
    path.write_bytes(data)
    assert [found.test for found in audit_ledger(folder).alarms] == ["surveys"]


def test_a_survey_makes_no_model(service: Any) -> None:
    with service.site.ledger(read_only=True) as ledger:
        (survey,) = surveys_of(ledger.entries())
        run = unpublished(ledger)
    assert run != survey
    with pytest.raises(InputError, match="must be one that trained"):
        publish(service.site, survey, lambda extract: b"card")


def test_what_the_budget_cannot_pay_is_not_asked_and_training_goes_on(make_service: Maker, clock: Any) -> None:
    costly = SURVEYS.replace("epsilon = 1.0", "epsilon = 90.0")
    service = answering(make_service(extra=costly, every_hours=1e6, lifetime=20.0, period=20.0))
    service.operate(3)
    assert weeks(service) == []
    (refused,) = service.events("survey refused")
    assert refused["reason"].startswith("the lifetime budget must cover a whole run")
    assert len(service.events("opened")) == 1, "the training"


def test_a_survey_is_for_who_says_to_take_part_and_training_does_not_wait_for_it(
    make_service: Maker, clock: Any
) -> None:
    """Where few users agree to surveys nothing is charged for them, and all that they agree to goes on."""
    service = answering(make_service(extra=SURVEYS, every_hours=1e6, wait=1e-9, pause=1000.0))
    service.devices.declared = dict.fromkeys((2, 5), Availability(600.0, TRAINING))
    service.operate(2)
    told = "a cohort needs at least 8 devices, and 6 came; others that take no part in surveys: 2"
    assert [(event["kind"], event["reason"]) for event in service.events("no cohort")] == [("survey", told)]
    assert [event["kind"] for event in service.events("opened")] == ["training"]
    assert latest_results(service.site) == []
    assert read_outlook(service.site, now=clock.now).next_run["why"] != "too few devices came"
    assert [event["kind"] for event in service.events("gathered")] == ["training"] * len(service.events("round"))
    assert (weeks(service), service.events("aborted")) == ([], [])
    service.devices.declared = {}
    service.operate()
    assert weeks(service) == ["2026-11-16"]


def test_a_survey_without_a_cohort_is_tried_again_later_and_later(service: Any, clock: Any) -> None:
    surveys, now = Surveys(service.site.config, EventLog(service.site.events)), due_at("2026-11-23")
    with service.site.ledger() as ledger:
        assert surveys.due(ledger, now=now) is not None
        first = max(60.0, service.site.config.cohort.pause_seconds)
        for pause in (first, 2 * first, 4 * first, first):
            surveys.put_off(now=now)
            assert (surveys.due(ledger, now=now + pause - 1), surveys.next(ledger, now=now)) == (None, now + pause)
            now += pause
            assert surveys.due(ledger, now=now) is not None
            now += 2 * 86_400.0 * (pause == 4 * first)  # nobody was there for days


def test_a_void_survey_is_asked_once_more_and_charged_each_time(make_service: Maker, clock: Any) -> None:
    """What was released for nobody must not cost an A/B test its week, and must not be asked for ever."""
    service = answering(make_service(extra=SURVEYS, every_hours=1e6, attempts=9))
    asking = service.devices.before

    def before(coordinator: Any) -> None:
        asking(coordinator)
        refuses = coordinator.terms.algorithm == "analytics" and len(weeks(service)) < 2
        service.devices.spoil = lambda device, answer: REFUSED if refuses and device < 3 else answer

    service.devices.before = before
    service.operate(3)
    assert weeks(service) == ["2026-11-16"] * 2
    (aborted,) = service.events("aborted")
    said = aborted["kind"], aborted["reason"], aborted["refused"], aborted["charged"]
    assert said == ("survey", "refused", 3, True)
    assert told_reason(aborted).startswith("survey: 3 refused; at least 7 devices must be left")
    assert [each["week"] for each in latest_results(service.site)] == ["2026-11-16"], "released the second time"
    assert next(event["kind"] for event in service.events("round")) == "survey"
    clock.now = due_at("2026-11-23")
    service.devices.before = lambda coordinator: setattr(service.devices, "spoil", lambda device, answer: REFUSED)
    service.operate(4)
    assert weeks(service)[2:] == ["2026-11-23"] * 2, "each is charged, so that there is no third"
    assert [each["week"] for each in latest_results(service.site)] == ["2026-11-16"]
    last = told_reason(service.events("aborted")[-1])
    assert last.startswith("survey: 8 refused; at least 7 devices must be left")


def test_a_test_is_looked_at_in_its_weeks_and_no_other(service: Any, clock: Any, tmp_path: Path) -> None:
    clock.now = due_at("2026-11-23")
    service.operate()
    text = service.site.config_file.read_text().replace('"2026-12-07"', '"2026-11-30", "2026-12-07"')
    service.site.config_file.write_text(text)
    service.site = service.site.at(service.site.folder)
    clock.now = due_at("2026-11-30")
    service.operate()
    assert weeks(service) == ["2026-11-16", "2026-11-23"]
    (refused,) = service.events("survey refused")
    assert (
        "`new-model` must be looked at in the weeks it was registered with, 2026-11-23, 2026-12-07" in refused["reason"]
    )
    with pytest.raises(BudgetError, match="registered with"):
        palate("survey", "plan", str(service.site.folder))


def test_a_survey_that_was_cut_off_goes_on(make_service: Maker, clock: Any) -> None:
    service = answering(make_service(extra=SURVEYS, every_hours=1e6))
    asked = service.devices.before

    def die(coordinator: Any) -> None:
        raise KeyboardInterrupt

    service.devices.before = die
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    service.devices.before = asked
    service.operate()
    assert weeks(service) == ["2026-11-16"]
    assert service.events("closed")[0]["releases"] == 1


def test_a_plan_says_what_it_asks_and_costs(service: Any) -> None:
    said = palate("survey", "plan", str(service.site.folder))
    assert said.startswith("survey of the week of 2026-11-23, due 2026-11-30T12:00:00+00:00 (scheduled)")
    assert "ε 1.000 a week" in said
    found = json.loads(palate("survey", "plan", str(service.site.folder), "--json"))
    survey = service.site.config.surveys.survey(found["week"])
    assert [each["block"] for each in found["blocks"]] == [block.name for block in survey.blocks()]
    assert found["scheduled"]
    assert sum(each["share"] for each in found["blocks"]) == pytest.approx(1)
    assert found["weeks_left"] > 50
