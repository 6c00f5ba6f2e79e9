"""InterimLooks: an A/B test is looked at as often as was registered, by the rules that every ledger goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from palate_common.survey import Survey
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_server.ledger.interim_looks import InterimLooks
from palate_server.ledger.ledger import Ledger
from palate_server.operation.surveys import looks_of

LATER = "2126-11-25"
"""A Monday that no restoration of today is after."""
WEEKS = ("2026-11-23", "2026-11-30", "2026-12-07")


def asked(week: str, *names: str, **looks: tuple[str, ...]) -> dict[str, Any]:
    survey = Survey(first_day=week, experiments=names, looks=looks)
    return {"algorithm": "analytics", "settings": survey.model_dump(mode="json")}


def sealed(ledger: Ledger, run: str) -> None:
    """Of a run that is open: a charge, a release, its end."""
    facts = {"mechanism": "discrete Gaussian", "sensitivity": 1, "sigma": 1, "dimension": 1}
    ledger.charge(run=run, round_=0, attempt=0, plan_hash="ab" * 32, mu2=0.1, run_limit=1.0, facts=facts)
    ledger.seal(run=run, round_=0, attempt=0, release_hash="cd" * 32)
    ledger.close_run(run, {})


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.db", population="readers") as ledger:
        yield ledger


def test_a_second_look_is_refused_before_anything_is_charged(ledger: Ledger) -> None:
    ledger.open_run("a", asked(WEEKS[0], "x"))
    sealed(ledger, "a")
    size = ledger.checkpoint().size
    for week in WEEKS[:2]:
        with pytest.raises(BudgetError, match="`x` must be looked at"):
            ledger.open_run("b", asked(week, "x"))
    with pytest.raises(BudgetError, match="registered with, 2026-11-23"):
        ledger.open_run("b", asked(WEEKS[1], "x", x=WEEKS[:2]))
    assert ledger.checkpoint().size == size
    ledger.open_run("b", asked(WEEKS[1], "another"))


def test_looks_that_were_registered_are_had_once_each(ledger: Ledger) -> None:
    ledger.open_run("a", asked(WEEKS[0], "x", x=WEEKS[::2]))
    sealed(ledger, "a")
    with pytest.raises(BudgetError, match="once a week"):
        ledger.open_run("b", asked(WEEKS[0], "x", x=WEEKS[::2]))
    ledger.open_run("b", asked(WEEKS[2], "x", x=WEEKS[::2]))
    sealed(ledger, "b")
    with pytest.raises(BudgetError):
        ledger.open_run("c", asked(WEEKS[2], "x", x=WEEKS[::2]))


def test_a_test_can_be_registered_before_it_is_asked_about(ledger: Ledger) -> None:
    ledger.open_run("a", asked(WEEKS[0], x=WEEKS[2:]))
    with pytest.raises(BudgetError, match="registered with, 2026-12-07"):
        ledger.open_run("b", asked(WEEKS[1], "x"))
    ledger.open_run("b", asked(WEEKS[2], "x", x=WEEKS[2:]))


def test_a_survey_that_released_nothing_was_no_look(ledger: Ledger) -> None:
    ledger.open_run("a", asked(WEEKS[0], "x"))
    with pytest.raises(BudgetError, match="once a week"):
        ledger.open_run("b", asked(WEEKS[0], "x"))  # the first may still release
    ledger.close_run("a", {})
    ledger.open_run("b", asked(WEEKS[0], "x"))


def test_after_entries_were_lost_a_test_from_before_is_over(ledger: Ledger) -> None:
    ledger.open_run("a", asked(WEEKS[0], x=WEEKS[1:2]))
    ledger.close_run("a", {})
    checkpoint = ledger.checkpoint()
    ledger.restore(witness=checkpoint.__class__(size=checkpoint.size + 3, root="ef" * 32), spent=0.5)
    with pytest.raises(BudgetError, match="before the ledger was restored"):
        ledger.open_run("b", asked(WEEKS[1], "x", x=WEEKS[1:2]))
    ledger.open_run("b", asked(LATER, "y"))


@pytest.mark.parametrize("looks", [("2026-01-05",), ("2026-01-05", "2126-11-25")])
def test_a_look_that_is_among_the_lost_entries_is_not_had_again(ledger: Ledger, looks: tuple[str, ...]) -> None:
    """The backup doesn't know of the test: what tells is that it had begun when the ledger was restored."""
    checkpoint = ledger.checkpoint()
    ledger.restore(witness=checkpoint.__class__(size=checkpoint.size + 3, root="ef" * 32), spent=0.5)
    for week in looks:
        with pytest.raises(BudgetError, match="before the ledger was restored"):
            ledger.open_run("b", asked(week, "x", x=looks))
    with pytest.raises(BudgetError, match="before the ledger was restored"):
        looks_of(ledger.entries()).admitted(asked(looks[0], "x", x=looks)["settings"])
    ledger.open_run("b", asked(looks[0]))  # a survey without the test is none of it
    ledger.open_run("c", asked(LATER, "x"))


def test_a_restoration_without_a_date_fails_closed() -> None:
    looks = InterimLooks()
    looks.restored(None)
    with pytest.raises(BudgetError, match="before the ledger was restored"):
        looks.admitted(asked(LATER, "x")["settings"])


def test_a_ledger_in_which_somebody_looked_twice_is_no_ledger(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.open_run("a", asked(WEEKS[0], "x"))
    with monkeypatch.context() as patched:
        patched.setattr("palate_server.ledger.interim_looks.InterimLooks.admitted", lambda self, settings: {})
        ledger.open_run("b", asked(WEEKS[0], "x"))
    with pytest.raises(IntegrityError, match="once a week"):
        Ledger(tmp_path / "ledger.db", population="readers", read_only=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"first_day": 5},
        {"first_day": "x", "experiments": 5},
        {"first_day": "x", "experiments": [{}]},
        {"first_day": "x", "looks": {"a": 5}},
        {"first_day": "x", "experiments": ["a"], "looks": {"a": [{}]}},
        {"first_day": "x", "experiments": ["a"], "looks": {"a": ["x", ["y"]]}},
    ],
)
def test_what_is_no_survey_is_refused(ledger: Ledger, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a survey must have a week"):
        ledger.open_run("a", {"algorithm": "analytics", "settings": settings})


@pytest.mark.parametrize("looks", [(), ("2026-11-24",), ("2026-11-30", "2026-11-23"), ("2026-11-23",) * 2, ("x",)])
def test_weeks_of_looks_are_mondays_in_order(looks: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="looks"):
        Survey(first_day=WEEKS[0], looks={"x": looks})


def test_a_survey_asks_only_in_a_tests_own_weeks() -> None:
    with pytest.raises(ValidationError, match="looks of x must have 2026-11-23"):
        Survey(first_day=WEEKS[0], experiments=("x",), looks={"x": WEEKS[1:]})
