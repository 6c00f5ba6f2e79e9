"""What is said of a server, from its folder alone: whether it is well, what goes on, what surveys have found."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.worlds.surveys import World
from palate_common.rounds.wire import REFUSED
from palate_common.survey import Survey
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.folder.events import EventLog
from palate_server.operation.survey_results import latest_results, write_result
from palate_server.rounds.progress import ActivityFile
from palate_server.service.report import ServerReport, operator_page, read_report

Maker = Callable[..., Any]
WELL = {"superlink": True, "serverapp": True, "gateway": True, "edge": True}


def report_of(service: Any, parts: Any = WELL, later: float = 0.0) -> ServerReport:
    return read_report(service.site, now=time.time() + later, parts=parts)


def codes(report: ServerReport) -> set[str]:
    return {problem.code for problem in report.problems}


def bad(report: ServerReport) -> list[str]:
    return [part for part, each in report.parts.items() if not each["good"]]


@pytest.mark.slow
def test_a_server_that_was_never_started_one_that_is_stopped_and_one_that_waits(make_service: Maker) -> None:
    service = make_service()
    report = report_of(service, None)
    assert (report.verdict, report.parts) == (("off", "Not running"), {})
    assert "never started" in next(each.said for each in report.problems if each.code == "not_running")
    EventLog(service.site.events).tell("started", dev=False, pid=os.getpid())
    report = report_of(service)
    assert report.verdict == ("good", "All is well")
    assert set(report.parts) == {*WELL, "witness"}
    assert bad(report) == []
    assert report_of(service, {**WELL, "gateway": False}).verdict == ("watch", "Starting"), "for a minute"
    report = report_of(service, {**WELL, "gateway": False}, later=61)
    assert (report.verdict[0], bad(report)) == ("act", ["gateway"])
    assert "part_down" in codes(report)
    EventLog(service.site.events).tell("stopped")
    assert report_of(service, None).verdict[0] == "off"


@pytest.mark.slow
def test_a_cohort_and_an_attempt_are_told_while_they_last_and_none_after(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, told = make_service(algorithm="als"), list[str]()
    tell = ActivityFile._tell

    def told_and_read(self: ActivityFile, **changed: Any) -> None:
        tell(self, **changed)
        told.extend(report_of(service).sections()["Now"])

    monkeypatch.setattr(ActivityFile, "_tell", told_and_read)
    service.operate()
    assert any(line.startswith("a cohort gathers: 8 of 8 devices are here") for line in told)
    assert "an attempt at round 1 goes on, with 8 invited devices" in told
    assert report_of(service).activity.attempt is None, "it has ended"
    ActivityFile(service.site.progress_file).begin(run="r", round_=0, survey=False, invited=8)
    assert report_of(service).activity.attempt is not None
    assert report_of(service, {**WELL, "serverapp": False}).activity.attempt is None, "who was about it is gone"


@pytest.mark.slow
def test_a_void_attempt_a_budget_that_is_spent_and_a_witness_folder_that_is_lost(make_service: Maker) -> None:
    service = make_service(algorithm="als", epsilon=4.0, period=4.5, lifetime=8.0, every_hours=0.0, pause=3600.0)
    service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
    service.operate()
    report = report_of(service)
    assert {"charge_void", "budget_period"} <= codes(report), codes(report)
    assert report.outlook.next_run["epsilon"] == 0.0
    (void,) = (each for each in report.problems if each.code == "charge_void")
    assert "training: 2 refused" in void.said
    service.site.witness.rename(service.site.folder / "elsewhere")
    report = report_of(service)
    assert (report.verdict[0], bad(report)) == ("act", ["witness"])
    assert "witness_unwritable" in codes(report)


@pytest.mark.slow
def test_witnesses_that_nobody_answers_for_are_told(make_service: Maker) -> None:
    key = VerifierKey.of("w.example/palate", SigningKey.generate(), COSIGNATURE)
    service = make_service(extra=f'[witnesses]\nkeys = ["{key}"]\nurls = ["http://127.0.0.1:9"]\nseconds = 1\n')
    service.operate()
    report = report_of(service)
    assert "witnesses_missing" in codes(report)
    assert bad(report) == ["witnesses"]
    assert report.outlook.next_run["at"] is None


SURVEYS = """
[surveys]
weekly = true
epsilon = 60.0
channels = ["email"]
[surveys.experiments]
new-order = ["2026-11-16"]
"""


@pytest.mark.slow
def test_surveys_have_their_intervals_and_a_changed_file_is_not_believed(make_service: Maker, clock: Any) -> None:
    service = make_service(extra=SURVEYS, every_hours=1e6, lifetime=500.0, period=400.0, count=26, size=26)
    histories = service.devices.histories

    def before(coordinator: Any) -> None:
        asked = coordinator.terms.algorithm == "analytics"
        survey = Survey.model_validate(coordinator.terms.settings) if asked else None
        service.devices.histories = histories if survey is None else World(devices=26, seed=2).answers(survey)

    service.devices.before = before
    service.operate()
    (survey,) = report_of(service).surveys
    assert (survey["week"], list(survey["tests"])) == ("2026-11-16", ["new-order"])
    told = [each for each in survey["figures"] if each["value"] is not None]
    assert {each["name"] for each in told} >= {"mau"}
    assert all(each["low"] <= each["value"] <= each["high"] for each in told)
    path = service.site.surveys / "2026-11-16.json"
    compared = {"difference": 0.2, "low": 0.1, "high": 0.3, "p_value": 0.001, "confidence": 0.975}
    looks = {"new-order": {"looks": ["2026-11-16"], "found": compared}}
    for tests, words in ((survey["tests"], "new-order"), (looks, "+0.100 to +0.300, p = 0.001, at 97.5 %")):
        write_result(service.site, {**survey, "tests": tests})
        page = html.unescape(operator_page(service.site, now=clock.now, parts=WELL))
        (mau,) = [each for each in told if each["name"] == "mau"]
        assert f"{mau['low']:.4g} to {mau['high']:.4g}" in page
        assert words in page
    path.write_bytes(path.read_bytes().replace(b"readers", b"writers"))
    assert "what was signed" in html.unescape(operator_page(service.site, now=clock.now, parts=WELL))
    assert latest_results(service.site) == [{"week": "2026-11-16", "broken": "the file isn't what was signed"}]
