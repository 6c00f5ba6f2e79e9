"""Publication: which models are published, judged, held, and which items are left out."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.servers import (
    DAY,
    HandingOn,
    MadeServer,
    iso,
    made_settings,
    made_site,
    rare,
    shown_items,
    steady_mu,
)
from palate_audit.answers.still import NOW
from palate_audit.harness.watched_run import memory
from palate_common.algorithms import PublicFacts, analytics, lent, verdict
from palate_common.algorithms.verdict import NAME as JUDGING
from palate_common.errors import BudgetError, PalateError
from palate_common.mechanism.accounting import mu_of
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.records.merkle import Checkpoint
from palate_common.survey import SURVEYING, Survey
from palate_server.folder import quarantine
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.quarantine import Quarantine, QuarantinedItem
from palate_server.folder.server_folder import Site
from palate_server.folder.watched import WatchedSite
from palate_server.ledger.ledger import Ledger
from palate_server.operation import terms
from palate_server.operation.absences import Absences
from palate_server.operation.dismissals import Dismissals
from palate_server.operation.gathering import CohortGathering, draw_cohort
from palate_server.operation.judging import Verdicts, awaited
from palate_server.operation.outlook import TROUBLES, read_outlook, since
from palate_server.operation.releases import verdicts_on
from palate_server.operation.restraint import Restraint, voids
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
from palate_server.rounds import terms as rounds
from palate_server.rounds.progress import ActivityFile, Exchanged
from palate_server.rounds.terms import noise_delta
from palate_server.surveys import accusation
from palate_server.surveys import verdict as judged
from palate_server.surveys.accusation import proven, seen
from palate_server.surveys.analytics import comparisons, cost, figures
from palate_server.surveys.intervals import Arm, Noised, compare, quantile, ratio_interval
from palate_server.surveys.verdict import hidden, judgement, least_loss


@contextmanager
def _folder(answer: Answer) -> Iterator[Path]:
    """A folder in memory, whose name is no answer."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as place:
        answer.apart = place
        yield Path(place)


def _ticks(dice: Dice, start: float, *steps: float) -> Callable[[], float]:
    """A clock that goes on by one of these steps, or back a little, each time it is looked at."""
    now = [start]

    def read() -> float:
        now[0] += dice.one_of(steps)
        return now[0]

    return read


def _quarantined(dice: Dice, answer: Answer) -> None:
    """Items come, stay for the longer of two times, are lifted, and come again; a file that is read by two."""
    with _folder(answer) as folder, mock.patch.object(quarantine, "KEPT", dice.one_of((2, 100))):
        file, spoilt = folder / "quarantine.json", False
        for number in range(12):
            place, items = Quarantine(file), dice.some_of("abcd", 0.4)
            if spoilt:
                file.unlink()
                spoilt = False
            match dice.one_of(("read", "read", "read", "add", "add", "lift", "lift", rare(dice, "read", "spoilt"))):
                case "read":
                    named = [
                        QuarantinedItem(item=each, by=f"run-{number}", until=dice.whole(0, 5), proved=dice.chance(0.5))
                        for each in dice.shuffled(items)
                    ]
                    answer.tried(place.read, f"verdict-{dice.whole(0, 5)}", iter(named) if dice.chance(0.5) else named)
                case "add":
                    answer.tried(place.add, items, until=dice.whole(0, 5))
                case "lift":
                    there = [each.item for each in place.items(trainings=number // 4)]
                    chosen = rare(dice, dice.some_of(there), items)
                    answer.tried(place.lift, iter(chosen) if dice.chance(0.3) else chosen, trainings=number // 4)
                case "spoilt":
                    spoilt = True
                    file.write_bytes(dice.one_of((b"", b"{}", b'{"items": [{}]}', b"[1]", b'{"lifted":["a"]}')))
            answer.of(lambda place=place: shown_items(place.items(trainings=dice.whole(0, 4))))
            answer.of(lambda place=place: place.lifted)
            answer.of(place.was_read, f"verdict-{dice.whole(0, 5)}")
        answer.tell(file.read_bytes() if file.exists() else None)


def _waiting(dice: Dice, answer: Answer) -> None:
    """Devices that are away, sent home, gathered, and drawn."""
    clock = _ticks(dice, 0.0, 0.0, 1.0, 900.0, 1800.0, 1799.0, 86400.0)
    away, devices = Absences(clock=clock), list(range(6))
    for _ in range(10):
        invited = dice.shuffled(dice.some_of(devices, 0.7))
        heard = dice.some_of(rare(dice, invited, devices), dice.one_of((0.0, 0.5, 0.5, 0.9)))
        answer.tell(away.note(invited, heard=heard))
        answer.tell(away.present({10 + device: device for device in dice.shuffled(devices)}))
    later, sent = _ticks(dice, 0.0, 0.0, 5.0, 15.0, 60.0, 59.0), list[Any]()
    home = Dismissals(lambda nodes: sent.append(list(nodes.items())), lambda: sent.append("purge"))
    with mock.patch("time.monotonic", later):
        for _ in range(10):
            if dice.chance(0.7):
                home.send(
                    dice.some_of(devices), seconds=dice.one_of((0.0, 59.9, 60.0, 61.7, 86400.0, 90000.0, math.inf))
                )
            else:
                home.tidy()
            answer.tell(sent[-2:], len(sent))
    size, least = dice.whole(1, 5), dice.whole(1, 4)
    soon = _ticks(dice, 3.0, 0.0, 4.0, 10.0)
    gathering = CohortGathering(size=size, least=least, seconds=dice.one_of((8.0, 20.0, 0.0)), clock=soon)
    for _ in range(5):
        present = {10 + device: device for device in dice.some_of(devices, dice.one_of((0.1, 0.5, 0.9)))}
        cohort = answer.tried(gathering.look, present, enough=dice.one_of((None, None, 1, 3)))
        if not isinstance(cohort, PalateError):
            answer.tell(None if cohort is None else list(cohort.items()), gathering.begun)
    answer.tell(list(draw_cohort({10 + device: device for device in devices}, most=dice.whole(0, 7)).items()))


def _told(dice: Dice, answer: Answer) -> None:
    """How far a server says it is, also after a restart; and in which quarter devices were there."""
    with _folder(answer) as folder, Enrolments(":memory:") as register:
        file, clock = folder / "progress.json", _ticks(dice, NOW, 0.0, 1.5, 60.0)
        told = ActivityFile(file, clock=clock)
        for step in range(10):
            match dice.one_of(
                ("gathering", "gathering", "gathered", "begin", "exchange", "exchange", "end", "restart")
            ):
                case "gathering":
                    told.gathering(here=dice.whole(0, 2), least=2, enough=dice.whole(2, 3), seconds=30.0)
                case "gathered":
                    told.gathered()
                case "begin":
                    told.begin(
                        run=f"{step}", round_=step, survey=dice.chance(0.5), invited=dice.whole(1, 9), seconds=7.0
                    )
                case "exchange":
                    for first in (True, *dice.some_of((False, True) * 35, dice.one_of((0.02, 0.02, 1.0)))):
                        made = Exchanged(
                            step=step, since=1.0, asked=4, answered=dice.whole(0, 4), over=dice.chance(0.5)
                        )
                        told.exchange(made, first=first)
                case "end":
                    told.end(
                        dice.one_of(("released", "void")), users=dice.one_of((None, 4)), reason=dice.one_of(("", "x"))
                    )
                case "restart":
                    if dice.chance(0.3):
                        file.write_bytes(dice.one_of((b"", b"{}", b'{"gathering":7}')))
                    told = ActivityFile(file, clock=clock)
                    told.take_over()
            answer.tell(file.read_bytes() if file.exists() else None, told.read().model_dump_json())
        for number in range(4):
            register.enrol(
                register.invite(now=0.0, hours=1e6), node_key=f"{number}", identity=f"{number:064x}", now=1.0
            )
            register.registered(number, 10 + number)
        when = _ticks(dice, NOW, 0.0, 0.0, 20 * DAY, 91 * DAY)
        for _ in range(6):
            presence = SeenByQuarter(register, clock=when)
            for _ in range(2):
                presence.note(iter(dice.some_of((9, 10, 11, 12, 13), 0.4)))
            answer.tell(register.noted_since(), [each.seen for each in register.listed(now=NOW)])


def _noised(dice: Dice, high: float) -> Noised:
    """A noised number."""
    return Noised(dice.one_of((dice.real(-5.0, high), 0.0, high)), dice.one_of((dice.real(0.0, 9.0), 0.0, high / 6)))


def _intervals(dice: Dice, answer: Answer) -> None:
    """Sums, ratios and tests with noise."""
    high, confidence = dice.one_of((10.0, 400.0, 5000.0)), dice.one_of((0.95, 0.5, 0.99, 0.0, 1.0, 1e-9))
    one, other = _noised(dice, high), _noised(dice, high)
    answer.tell(one + other, one * dice.real(-3.0, 3.0))
    answer.of(quantile, confidence)
    answer.of(one.interval, confidence=confidence)
    answer.of(ratio_interval, one, other, confidence=confidence)
    answer.tell(ratio_interval(one, other), one.interval())
    arms = [Arm(_noised(dice, high), _noised(dice, high / 2), _noised(dice, high / 3)) for _ in range(2)]
    quiet = replace(arms[0], users=Noised(0.0, 0.0), outcome=Noised(1.0, 0.0), square=Noised(0.0, 0.0))
    for a, b in (arms, (quiet, arms[0]), (replace(quiet, outcome=Noised(0.0, 0.0)), quiet)):
        found = answer.of(compare, a, b, confidence=dice.real(0.5, 0.999))
        answer.tell(a.mean(), found and found.different)


def _surveyed(dice: Dice) -> GlobalModel:
    """A released survey, or something like it."""
    tests = dice.some_of(("new", "old", "more"), 0.6)
    looks = {name: ("2025-10-06", "2025-10-13", "2025-10-20")[: dice.whole(1, 3)] for name in dice.some_of(tests)}
    survey = Survey(
        first_day="2025-10-06",
        channels=tuple(dice.some_of(("email", "push"))),
        items=tuple(dice.some_of(("x", "y", "z"))),
        experiments=tuple(tests),
        looks=looks,
    )
    size, scale = len(survey.questions()), dice.one_of((4.0, 30.0, 300.0, 3000.0))
    noise = dice.floats(size, low=0.0, high=dice.one_of((1.0, 6.0, scale / 3)))
    totals = dice.floats(size, low=-0.2, high=1.0) * scale
    edge = dice.wholes(0, size - 1, 5)
    totals[edge], noise[edge] = np.maximum(20.0, 4 * noise[edge]), noise[edge]  # just large enough
    name, releases = rare(dice, (analytics.NAME, 1), (analytics.NAME, 0), (analytics.NAME, 2), ("popularity", 1))
    header = ModelHeader(
        algorithm=name,
        settings=survey.model_dump(mode="json") if name == analytics.NAME else {},
        facts=PublicFacts(n_users=9, n_items=size, mu=1.0),
        releases=releases,
        catalogue="ab" * 32,
    )
    return GlobalModel(header, {analytics.TOTALS: totals, analytics.NOISE: noise})


def _figures(dice: Dice, answer: Answer) -> None:
    """The figures of a survey."""
    model, confidence = _surveyed(dice), dice.one_of((0.95, 0.8))
    answer.of(figures, model, confidence=confidence)
    answer.of(comparisons, model, confidence=confidence)
    answer.tell(cost(mu=dice.real(0.1, 3.0), delta=10.0 ** -dice.whole(5, 8)))


def _verdict(dice: Dice) -> tuple[GlobalModel, int]:
    """A released verdict, and how many have judged: some items are pushed, some borne, some hardly shown."""
    n, devices = dice.whole(1, 24), dice.one_of((20, 400, 400, 3000))
    length = min(20, n)
    mu = dice.one_of((0.5, 3.0, 12.0))
    shares = np.minimum(1.0, dice.floats(n, low=0.0, high=2.0) * length / n)
    found = shares * devices * dice.one_of((0.3, 0.1, 0.1, 0.0)) * dice.floats(n, low=0.6, high=1.3)
    for row in dice.some_of(range(n), 0.15):
        shares[row], found[row] = dice.real(0.04, 1.0), dice.real(-0.02, 0.06) * devices
    noise = np.array([1 / (mu * math.sqrt(part)) for part in verdict.BLOCKS.values()])
    noise[-1] *= math.sqrt(length)
    votes = dice.floats(2, low=0.0, high=0.5) * devices
    if dice.chance(0.3):
        votes[1] = votes[0] + devices * 0.09 + dice.real(0.0, 9.0) * math.sqrt(votes.sum())
    of = {
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=9, n_items=n, mu=1.0),
        "model": "ab" * 32,
    }
    pair = verdict.JudgedPair(
        run=f"run-{dice.whole(0, 3)}",
        candidate=verdict.JudgedModel.model_validate(of),
        in_use=verdict.JudgedModel.model_validate(of),
    )
    name, releases = rare(dice, (verdict.NAME, 1), (verdict.NAME, 0), (verdict.NAME, 2), ("popularity", 1))
    facts = PublicFacts(n_users=devices, n_items=n, mu=mu)
    settings = pair.model_dump(mode="json") if name == verdict.NAME else {}
    header = ModelHeader(algorithm=name, settings=settings, facts=facts, releases=releases, catalogue="cd" * 32)
    state = {verdict.VOTES: votes, verdict.FOUND: found, verdict.SHOWN: shares * devices, verdict.NOISE: noise}
    return GlobalModel(header, state), devices


def _judged(dice: Dice, answer: Answer) -> None:
    """What a verdict says, which of the items are proven pushed, and which are seen."""
    model, devices = _verdict(dice)
    with mock.patch.object(judged, "DRAWS", dice.one_of((20, 20, 100))), mock.patch.object(accusation, "SPLITS", 4):
        said = answer.of(judgement, model, devices=devices)
        if said is None:
            return
        items = tuple(f"item-{row}" for row in range(len(model.state[verdict.FOUND])))
        answer.tell(said.held, said.worse, [json.dumps(each) for each in said.reasons(rare(dice, items, ()))])
        for accusers in (dice.one_of((0.0, 0.001, 0.01, 0.01)), dice.one_of((0.003, 0.02, 0.05, 0.3))):
            answer.tell([each.row for each in proven(model, said, accusers=accusers)])
        answer.tell(seen(model, devices=devices), seen(model, devices=dice.one_of((devices // 2, devices * 2))))
    mu, many = dice.one_of((0.05, 0.5, 2.0, 9.0)), dice.one_of((2, 20, 100, 1000, 30_000))
    answer.tell(least_loss(mu=mu, devices=many), hidden(mu=mu, devices=many, n_items=dice.one_of((1, 8, 30, 5000))))


def _past(dice: Dice, site: Site, ledger: Ledger) -> list[float]:
    """Years or hours of runs that trained, judged, asked, failed, or were lost; the times at which something ends."""
    config, now, times, runs = site.config, NOW - dice.one_of((0.0, 3600.0, 9 * DAY, 300 * DAY)), [NOW], list[str]()
    most = mu_of(epsilon=config.privacy.period_epsilon, delta=noise_delta(config.privacy.dp, config.privacy.delta)) ** 2
    rest = max(0.01, most - cost_of(config)) * (1 + dice.one_of((0.0, 5e-10, 3e-9, -3e-9)))
    for number in range(dice.whole(1, 6)):
        algorithm = dice.one_of(("popularity", "popularity", JUDGING, SURVEYING, "dp-als"))
        if runs and dice.chance(0.15):
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
        for attempt in range(dice.whole(0, 3)):
            mu2 = dice.one_of((0.0625, 0.125, rest, rest))
            facts = {"dp": config.privacy.dp.value, "inclusion": dice.one_of((1, 0.5))}
            with suppress(BudgetError):  # the lifetime may not have it
                ledger.charge(
                    run=run, round_=0, attempt=attempt, plan_hash="ab" * 32, mu2=mu2, facts=facts, run_limit=99.0
                )
                if dice.chance(0.6):
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
    said = ({"words": "w"}, {"reason": "r", "words": "v"}, {"error": "e"}, {"reasons": ["a", "b"]}, {})
    return [
        {"at": iso(now - dice.one_of((0, 60, 5000))), "event": kind, "part": "gateway", **dice.one_of(said)}
        for kind in dice.shuffled(kinds)[: dice.whole(0, 6)]
    ]


def _asked(dice: Dice, answer: Answer) -> None:
    """What is due next, and what the budgets allow, after any past."""
    with _folder(answer) as folder, mock.patch.object(terms, "MAX_ATTEMPTS", dice.one_of((2, 3, 2**10))):
        site = made_site(folder, made_settings(dice))
        config, log = site.config, EventLog(site.events)
        later = dice.one_of((0.0, 60.0, 3600.0, config.judging.hours * 3600, 9 * DAY, dice.whole(0, 9) * DAY))
        with site.ledger() as ledger:
            ledger.set_budget(mu2=dice.one_of((2.0, 9.0, 40.0)), epsilon=1.0, delta=1e-5)
            now = dice.one_of(_past(dice, site, ledger)[-2:]) + later + dice.one_of((0.0, 0.0, -1.0, 1.0))
        with WatchedSite(folder).reading() as read, Verdicts(site, log) as verdicts:
            _due(dice, answer, site, read, now)
            surveys = Surveys(config, log)
            for due in (verdicts, surveys, verdicts, surveys):
                answer.tell(_known(due.due(read, now=now)), due.next(read, now=now) - now)
            _wait(dice, answer, site, read, now)
            if dice.chance(0.5):
                _outlook(dice, answer, site, now)
            read.close()
        answer.tell([{**each, "at": ""} for each in log.all()])


def _known(due: Any) -> Any:
    """What is due."""
    return due.model_dump(mode="json") if isinstance(due, Survey) else due


def _due(dice: Dice, answer: Answer, site: Site, ledger: Ledger, now: float) -> None:
    """Questions that are asked of a ledger alone."""
    config, entries = site.config, ledger.entries()
    every, within = config.training.every_hours, dice.one_of((60.0, 3600.0))
    answer.tell(unfinished_run(ledger), next_run(ledger, every_hours=every, pause=config.cohort.pause_seconds))
    answer.tell(just_closed(ledger, now=now, within=within), trainings(ledger), training_goes_on(ledger))
    answer.tell(untrained(entries), _known(latest_training(ledger) and latest_training(ledger).seq), released(ledger))
    for budget in budgets_of(config, ledger, now=now):
        answer.tell(budget, budget.left, budget.covers(cost_of(config)), budget.covers(budget.left))
    answer.of(check_budgets, config, ledger, now=now)
    for run in ledger.runs()[-3:]:
        found = verdicts_on(ledger, run)
        answer.tell(found.closed and found.closed.seq, found.published, found.tried, found.said, found.open)
        answer.tell(found.may_begin(config, now=now), found.may_begin(config, now=now + 3600.0))
    answer.tell(awaited(config, ledger, now=now), period_of(config, now), week_before(now), due_at(week_before(now)))
    answer.tell(surveys_of(entries), [each.seq for each in voids(entries)])
    answer.of(looks_of(entries).admitted, {"first_day": week_before(now), "experiments": ["new"], "looks": {}})


def _wait(dice: Dice, answer: Answer, site: Site, ledger: Ledger, now: float) -> None:
    """How long a server waits after charges that released nothing."""
    config, entries = site.config, ledger.entries()
    wait = Restraint(site.state / "attempt.json", pause=config.cohort.pause_seconds, most=config.cohort.attempts)
    with mock.patch("time.time", partial(float, now - dice.one_of((0.0, 30.0, 90_000.0)))):
        match dice.one_of(("none", "ended", "failed", "open")):
            case "ended":
                with wait.attempt(ledger.checkpoint().size):
                    pass
            case "failed":
                with suppress(PalateError), wait.attempt(ledger.checkpoint().size):
                    raise BudgetError("none")
            case "open":
                with suppress(KeyboardInterrupt), wait.attempt(dice.one_of((0, len(entries), 3))):
                    raise KeyboardInterrupt
    with mock.patch("time.time", partial(float, now + dice.one_of((0.0, 0.0, -500_000.0)))):
        answer.tell(wait.under_way, wait.until(entries), wait.exhausted(entries))
        if dice.chance(0.3):
            found = wait.lost(entries)
            answer.tell(found and found.seq, wait.lost(entries) is None)
        answer.tell((site.state / "attempt.json").read_bytes() if (site.state / "attempt.json").exists() else None)


def _outlook(dice: Dice, answer: Answer, site: Site, now: float) -> None:
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


def _served(dice: Dice, answer: Answer) -> None:
    """Models of trainings, before and after their verdicts, and again; keys, settings and items that change."""
    with (
        _folder(answer) as folder,
        ExitStack() as stack,
        lent(HandingOn),
        mock.patch.object(rounds, "mu_of", steady_mu),
        mock.patch.object(judged, "DRAWS", 20),
        mock.patch.object(accusation, "SPLITS", 3),
    ):
        stack.enter_context(server := MadeServer(dice, answer, folder))
        server.start()
        moves = [getattr(server, name) for name, weight in MOVES.items() for _ in range(weight)]
        first = [server.train, *dice.some_of((server.judge, server.publish), 0.8), *dice.some_of([server.train], 0.4)]
        for move in [*first, *(dice.one_of(moves) for _ in range(4))]:
            answer.tried(move)
            server.tell()
        server.end()


def _at(local: str) -> int:
    """A local time, in seconds since 1970."""
    return int(datetime.fromisoformat(local).timestamp())


MOVES = {"train": 3, "judge": 4, "publish": 5, "change": 3, "operator": 2, "survey": 2, "again": 2, "ended": 1,
         "rotate": 1, "spoil": 1}  # fmt: skip

SEAMS = (
    Seam("models that are trained, judged, published, held and published again", _served, 24),
    Seam("what is due next, and what the budgets allow, after any past", _asked, 36),
    Seam("quarantine: items that come, stay, are lifted and come again", _quarantined, 36),
    Seam("devices that are away, sent home, gathered and drawn", _waiting, 36),
    Seam("how far a server says it is, and who was there in which quarter", _told, 24),
    Seam("surveys: intervals and tests", _intervals, 48),
    Seam("surveys: figures", _figures, 24),
    Seam("verdicts: what they say, what they prove, and what is seen", _judged, 60),
)
