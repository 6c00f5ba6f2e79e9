"""Pasts: made-up years of a server's ledger, and all that is asked of it: what is due, what the budgets allow."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.publication.sites import DAY, iso, made_settings, made_site
from palate_audit.answers.still import NOW
from palate_common.algorithms.verdict import NAME as JUDGING
from palate_common.survey import SURVEYING, Survey
from palate_core.accounting import mu_of
from palate_core.errors import BudgetError, PalateError
from palate_core.log.entries import entry_from
from palate_core.log.merkle import Checkpoint
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.history import reserves
from palate_server.ledger.ledger import Ledger
from palate_server.operation import terms
from palate_server.operation.judging import Verdicts, awaited
from palate_server.operation.outlook import TROUBLES, read_outlook, since
from palate_server.operation.releases import verdicts_on
from palate_server.operation.restraint import Restraint, restraint_of, voids
from palate_server.operation.schedule import (
    just_closed,
    latest_training,
    next_run,
    training_goes_on,
    trainings,
    unfinished_run,
    untrained,
)
from palate_server.operation.survey_results import released
from palate_server.operation.surveys import Surveys, due_at, looks_of, surveys_of, week_before
from palate_server.operation.terms import budgets_of, check_budgets, cost_of, period_of
from palate_server.rounds.terms import noise_delta


def _past(dice: Dice, site: Site, ledger: Ledger) -> list[float]:
    """Years or hours of runs that trained, judged, asked, failed, or were lost; the times at which something ends."""
    config, now, times, runs = site.config, NOW - dice.one_of((0.0, 3600.0, 9 * DAY, 300 * DAY)), [NOW], list[str]()
    most = mu_of(epsilon=config.privacy.period_epsilon, delta=noise_delta(config.privacy.dp, config.privacy.delta)) ** 2
    rest = max(0.01, most - cost_of(config)) * (1 + dice.one_of((0.0, 5e-10, 3e-9, -3e-9)))
    for number in range(dice.whole(1, 6)):
        algorithm = dice.one_of(("popularity", "popularity", JUDGING, SURVEYING, "dp-als"))
        if number and dice.chance(0.25):
            runs.clear()
            size = ledger.checkpoint().size + dice.whole(1, 2)
            with mock.patch("time.time", partial(float, now)):
                ledger.restore(
                    witness=Checkpoint(size, "ab" * 32), spent=ledger.spent() + dice.one_of((0.0, 0.125, rest))
                )
        settings: dict[str, Any] = {"run": dice.one_of(runs or ["z"])} if algorithm == JUDGING else {}
        if algorithm == SURVEYING:
            week = week_before(now)
            settings = {"first_day": week, "experiments": dice.some_of(("new", "old")), "looks": {}}
        run, period = f"{number}", period_of(config, now) if dice.chance(0.8) else 0
        opened = {
            "algorithm": algorithm,
            "settings": settings,
            **({"about": {"period": period}} if dice.chance(0.9) else {}),
        }
        try:
            ledger.open_run(run, opened)
        except BudgetError:
            continue
        sealed = 0
        for attempt in range(dice.whole(0, 4)):
            mu2 = dice.one_of((0.0625, 0.125, rest, rest))
            facts = {"dp": config.privacy.dp.value, "inclusion": dice.one_of((1, 0.5))}
            with suppress(BudgetError):  # the lifetime may not have it
                ledger.charge(
                    run=run, round_=0, attempt=attempt, plan_hash="ab" * 32, mu2=mu2, facts=facts, run_limit=99.0
                )
                if dice.chance(0.45):
                    sealed += 1
                    ledger.seal(run=run, round_=0, attempt=attempt, release_hash="cd" * 32)
        now += dice.one_of((1.0, 60.0, 3600.0, 7 * DAY))
        if dice.chance(0.85) or number < 2:
            facts = {
                "created": iso(now),
                "releases": sealed if dice.chance(0.9) else 0,
                "model_hash": f"{number % 3:064x}",
            }
            ledger.close_run(run, facts)
            times.append(now)
            runs.append(run)
            if dice.chance(0.2):
                ledger.publish(run, f"{number:064x}", "12" * 32)
    return times


def _events(dice: Dice, now: float) -> list[dict[str, Any]]:
    """The latest events of a server."""
    kinds = (
        *TROUBLES,
        *TROUBLES,
        "round",
        "started",
        "restarted",
        "serving",
        "witnessed",
        "cosigned",
        "closed",
        "published",
    )
    said: tuple[dict[str, Any], ...] = (
        {"words": "w"},
        {"reason": "r", "words": "v"},
        {"error": "e"},
        {"reasons": ["a", "b"]},
        {},
    )
    return [
        {"at": iso(now - dice.one_of((0, 60, 5000))), "event": kind, "part": "gateway", **dice.one_of(said)}
        for kind in dice.shuffled(kinds)[: dice.whole(0, 12)]
    ]


def _any_past(dice: Dice, answer: CaseAnswer) -> None:
    """What is due next, and what the budgets allow, after any past."""
    with made_folder(answer) as folder, ExitStack() as stack:
        site = made_site(folder, made_settings(dice))
        config, log = site.config, EventLog(site.events)
        later = dice.one_of((0.0, 0.0, 60.0, 3600.0, config.judging.hours * 3600, 9 * DAY, dice.whole(0, 9) * DAY))
        with site.ledger() as ledger:
            for mu2 in dice.mostly((dice.one_of((2.0, 9.0, 40.0)),), (), (9.0, 5.0)):
                ledger.set_budget(mu2=mu2, epsilon=1.0, delta=1e-5)
            now = dice.one_of(_past(dice, site, ledger)[-2:]) + later + dice.one_of((0.0, 0.0, -1.0, 1.0))
            most = sum(map(reserves, ledger.entries())) + dice.one_of((0, 1, 1000))
        stack.enter_context(mock.patch.object(terms, "MAX_ATTEMPTS", most))
        with WatchedSite(folder).reading() as read, Verdicts(site, log) as verdicts:
            _due(dice, answer, site, read, now)
            surveys = Surveys(config, log)
            for due in (verdicts, surveys, verdicts, surveys):
                answer.tell(_known(due.due(read, now=now)), due.next(read, now=now) - now)
            _wait(dice, answer, site, read, now)
            if dice.chance(0.4):
                _outlook(dice, answer, site, now)
            read.close()
        answer.tell([{**each, "at": ""} for each in log.all()])


def _known(due: Any) -> Any:
    """What is due."""
    return due.model_dump(mode="json") if isinstance(due, Survey) else due


def _due(dice: Dice, answer: CaseAnswer, site: Site, ledger: Ledger, now: float) -> None:
    """Questions that are asked of a ledger alone."""
    config, entries = site.config, ledger.entries()
    every, within = config.training.every_hours, dice.one_of((60.0, 3600.0))
    answer.tell(unfinished_run(ledger), next_run(ledger, every_hours=every, pause=config.cohort.pause_seconds))
    answer.tell(just_closed(ledger, now=now, within=within), trainings(ledger), training_goes_on(ledger))
    last = latest_training(ledger)
    answer.tell(untrained(entries), last and last.seq, released(ledger))
    for budget in budgets_of(config, ledger, now=now):
        answer.tell(budget, budget.left, budget.covers(cost_of(config)), budget.covers(budget.left))
        answer.tell([budget.covers(budget.left + budget.most * more) for more in (5e-10, 3e-9)])
    answer.of(check_budgets, config, ledger, now=now)
    for run in ledger.runs():
        found = verdicts_on(ledger, run)
        answer.tell(found.closed and found.closed.seq, found.published, found.tried, found.said, found.open)
        answer.tell(found.may_begin(config, now=now), found.may_begin(config, now=now + 3600.0))
    answer.tell(awaited(config, ledger, now=now), period_of(config, now), week_before(now), due_at(week_before(now)))
    answer.tell(surveys_of(entries), [each.seq for each in voids(entries)])
    for settings in surveys_of(entries).values():
        answer.of(looks_of(entries).admitted, settings)
    answer.of(looks_of(entries).admitted, {"first_day": week_before(now), "experiments": ["new"], "looks": {}})


def _wait(dice: Dice, answer: CaseAnswer, site: Site, ledger: Ledger, now: float) -> None:
    """How long a server waits after charges that released nothing."""
    entries = ledger.entries()
    wait = restraint_of(site)
    made = Restraint(site.state / "made", pause=dice.one_of((0.0, 7.0, 3600.0, 80_000.0)), most=dice.whole(2, 6))
    place = {"run": "a", "round": 0}
    charge = {"kind": "charge", **place, "plan_hash": "ab" * 32, "mu2": 1.0, "run_limit": None, "facts": {}}
    seal = {"kind": "seal", **place, "release_hash": "ab" * 32}
    row = [entry_from({**dice.mostly(charge, seal), "seq": n, "attempt": n}) for n in range(7)]
    with mock.patch("time.time", partial(float, now)):
        answer.tell([[made.until(row[:n]) - now, made.exhausted(row[:n]), len(voids(row[:n]))] for n in range(8)])
        answer.of(made.resume, row[: dice.whole(3, 7)])
        answer.tell([[made.until(row[:n]) - now, made.in_vain(row[:n])] for n in range(8)])
        (site.state / "go-on.json").unlink(missing_ok=True)
    with mock.patch("time.time", partial(float, now - dice.one_of((0.0, 30.0, 90_000.0)))):
        match dice.one_of(("none", "ended", "failed", "open", "open", "spoilt")):
            case "ended":
                with wait.attempt(ledger.checkpoint().size):
                    pass
            case "failed":
                with suppress(PalateError, OSError), wait.attempt(ledger.checkpoint().size):
                    raise dice.one_of((BudgetError("none"), OSError(28, "none")))
            case "spoilt":
                (site.state / "attempt.json").write_bytes(dice.one_of((b"", b"{}", b'{"at": 1, "size": 2}')))
            case "open":
                with suppress(KeyboardInterrupt), wait.attempt(dice.one_of((0, len(entries), len(entries) - 2, 3))):
                    raise KeyboardInterrupt
    with mock.patch("time.time", partial(float, now + dice.one_of((0.0, 0.0, -500_000.0)))):
        answer.tell(wait.under_way, wait.until(entries), wait.exhausted(entries))
        if dice.chance(0.5):
            found = wait.lost(entries)
            answer.tell(found and found.seq, wait.lost(entries) is None)
        answer.tell((site.state / "attempt.json").read_bytes() if (site.state / "attempt.json").exists() else None)


def _outlook(dice: Dice, answer: CaseAnswer, site: Site, now: float) -> None:
    """What a server says of itself."""
    if dice.chance(0.1):
        (site.folder / "key").unlink(missing_ok=True)
    events = _events(dice, now)
    with mock.patch("time.time", partial(float, now)):
        seen = read_outlook(site, now=now, events=events).as_dict()
    for part, name in (("period", "until"), ("next_run", "at"), ("trouble", "at")):
        if seen[part] is not None and seen[part][name] is not None:
            seen[part][name] = _at(seen[part][name])
    answer.tell({**seen, "now": _at(seen["now"])}, {part: _at(at) for part, at in since(events).items()})


def _at(local: str) -> int:
    """A local time, in seconds since 1970."""
    return int(datetime.fromisoformat(local).timestamp())


SEAMS = (Seam("what is due next, and what the budgets allow, after any past", _any_past, 18),)
