"""A server that releases nothing, for whatever reason, charges less and less often."""

from __future__ import annotations

import math
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError
from palate_server.ledger.ledger import Ledger
from palate_server.operation.outlook import local, read_outlook
from palate_server.operation.restraint import DAY, Restraint, voids
from palate_server.service.problems import problems

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]
HOUR = 3600.0


def charge(ledger: Ledger, attempt: int) -> None:
    ledger.charge(
        run="run", round_=0, attempt=attempt, plan_hash="ab" * 32, mu2=0.01, run_limit=None, facts={"sigma": 1}
    )


def cut_off(restraint: Restraint, ledger: Ledger, *, attempt: int | None = None) -> None:
    """An attempt in which the process ends, after its charge if there is one."""
    with pytest.raises(KeyboardInterrupt), restraint.attempt(ledger.checkpoint().size):
        end_of_process(ledger, attempt)


def end_of_process(ledger: Ledger, attempt: int | None) -> None:
    if attempt is not None:
        charge(ledger, attempt)
    raise KeyboardInterrupt


def test_no_charge_after_most_in_a_row_without_a_release_before_the_operator_says_so_whatever_ends_the_process(
    tmp_path: Path, clock: Any
) -> None:
    began, at = clock.now, list[float]()
    with Ledger(":memory:", population="readers") as ledger:
        ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        ledger.open_run("run", {})
        while clock.now < began + 4 * DAY:
            restraint = Restraint(tmp_path / "attempt", pause=HOUR, most=3)  # a new process at each look
            if restraint.until(ledger.entries()) <= clock.now:
                cut_off(restraint, ledger, attempt=len(at))
                at.append((clock.now - began) / HOUR)
            clock.now += HOUR / 2
        assert at == [0.0, 1.0, 3.0], "days go by, and it asks"
        (tmp_path / "attempt").unlink()
        assert restraint.until(ledger.entries()) == math.inf, "the number is the ledger's"
        assert (restraint.resume(ledger.entries()), restraint.until(ledger.entries())) == (3, 0.0)
        with pytest.raises(InputError, match=r"after 3 charges in a row without a release, `cohort\.attempts`, got 0"):
            restraint.resume(ledger.entries())
        cut_off(restraint, ledger, attempt=len(at))
        at.append(0.0)
        (tmp_path / "attempt").unlink()
        assert restraint.until(ledger.entries()) == clock.now + HOUR, "where it isn't known, the pause begins anew"
        ledger.seal(run="run", round_=0, attempt=len(at) - 1, release_hash="cd" * 32)
        assert restraint.until(ledger.entries()) == 0.0, "a release ends it"
        assert voids(ledger.entries()) == []


def test_an_attempt_whose_end_nobody_saw_is_told_once_and_one_that_ended_never(tmp_path: Path, clock: Any) -> None:
    with Ledger(":memory:", population="readers") as ledger:
        ledger.open_run("run", {})
        ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        restraint = Restraint(tmp_path / "attempt", pause=HOUR, most=3)
        with restraint.attempt(ledger.checkpoint().size):
            charge(ledger, 0)
        assert restraint.lost(ledger.entries()) is None
        cut_off(restraint, ledger)
        assert restraint.lost(ledger.entries()) is None, "before its charge nothing is lost"
        cut_off(restraint, ledger, attempt=1)
        found = restraint.lost(ledger.entries())
        assert found is not None
        assert (found.round, found.attempt) == (0, 1)
        assert restraint.lost(ledger.entries()) is None


def test_an_attempt_that_a_disk_has_ended_was_seen_to_end(make_service: Maker, clock: Any) -> None:
    service = make_service(pause=HOUR, algorithm="als")

    def fill_up(coordinator: Any) -> None:
        service.devices.open_attempt(coordinator)
        raise OSError(ENOSPC, "No space left on device")

    service.devices.before = fill_up
    service.operate()
    assert read_outlook(service.site, now=clock.now).next_run["at"] == local(clock.now + HOUR)
    service.operate(0)
    assert ([event["reason"] for event in service.events("aborted")], service.events("lost")) == (["disk"], [])


def test_a_server_that_ends_after_each_of_its_charges_makes_three_and_then_asks(
    make_service: Maker, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service, began, at = make_service(pause=HOUR), clock.now, list[float]()

    def die(coordinator: Any) -> None:
        service.devices.open_attempt(coordinator)
        at.append((clock.now - began) / HOUR)
        raise KeyboardInterrupt

    service.devices.before = die
    while clock.now < began + 4 * DAY:
        try:
            service.operate()
            clock.now += HOUR if len(at) < 3 else 6 * HOUR
        except KeyboardInterrupt:
            pass  # started again at once
    assert at == [0.0, 1.0, 3.0]
    assert len(service.events("lost")) == 3, "each is told by the process that comes after"
    found = read_outlook(service.site, now=clock.now).next_run
    assert (found["at"], "waits for `palate serve resume`" in found["why"]) == (None, True)
    asked = {each.code: each for each in problems(service.site, now=clock.now, parts=None)}["runs_void"]
    assert ("training has stopped" in asked.said, "palate serve resume" in asked.act) == (True, True)
    service.devices.before = lambda coordinator: None
    service.operate(2)
    assert len(at) == len(service.events("gathered")) == 3, "a restart clears nothing"
    assert run(["serve", "resume", str(service.site.folder)]) == 0
    assert "3 charges in a row had released nothing, after 3 more it stops again" in capsys.readouterr().out
    service.operate()
    assert len(service.events("opened")) == 1, "the run goes on"
    assert service.events("round")
    assert run(["serve", "resume", str(service.site.folder)]) == 2


def test_a_run_whose_one_charge_was_cut_off_is_over_at_the_next_start_and_the_next_one_waits_once(
    make_service: Maker, clock: Any
) -> None:
    service = make_service(pause=HOUR, algorithm="als")

    def die(coordinator: Any) -> None:
        service.devices.open_attempt(coordinator)
        raise KeyboardInterrupt

    service.devices.before = die
    with pytest.raises(KeyboardInterrupt):
        service.operate()
    service.devices.before = lambda coordinator: None
    service.operate()
    assert [event["releases"] for event in service.events("closed")] == [0], "nobody had to gather for that"
    assert len(service.devices.cohorts) == 0
    clock.now += HOUR
    service.operate()
    assert [event["releases"] for event in service.events("closed")] == [0, 1]


def test_a_run_that_ends_without_a_release_makes_the_next_one_wait(make_service: Maker, clock: Any) -> None:
    service, began = make_service(pause=HOUR, algorithm="als"), clock.now
    service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
    clock.slept = HOUR / 2
    service.operate(14)
    assert clock.now - began == 7 * HOUR
    assert [event["releases"] for event in service.events("closed")] == [0, 0, 0], "at 0, 1 and 3 hours"
    assert len(service.events("aborted")) == 3
