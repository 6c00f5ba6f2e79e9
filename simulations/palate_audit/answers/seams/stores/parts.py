"""Parts: pace, forks, limits, the latest events, and tables of older versions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.stores import NOW
from palate_audit.answers.made.telling import as_text, tell_text
from palate_audit.answers.seam import Seam
from palate_client.store import forking, pace, retention, schema
from palate_client.store.recent_events import RecentEvents
from palate_client.store.retention import DAY, Limits
from palate_common.records.database import Database


def _pace(dice: Dice, answer: CaseAnswer) -> None:
    """Long work beside a thread that tracks; locks that a fork waits for."""
    clock, slept, hooks = MadeClock(100.0), list[float](), dict[str, Any]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds + dice.one_of((0.0, 0.0005, 0.03))

    entered = list[str]()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(pace, "perf_counter", clock))
        stack.enter_context(mock.patch.object(pace, "sleep", sleep))
        stack.enter_context(mock.patch.object(forking, "at_fork", lambda **given: hooks.update(given)))
        piece = pace.Pace()
        for _ in range(14):
            clock.now += dice.one_of((0.0, 0.0003, 0.001, 0.002, 0.003))
            with pace.ahead() if dice.chance(0.5) else ExitStack():
                piece()
            answer.tell(len(slept), len(pace._ahead))
        with pace.ahead():
            pace.give_way(dice.one_of((0.0, 0.001, 0.05)))
        pace.give_way()
        enter, leave = (lambda each, sign=sign: entered.append(f"{sign}{each.now}") for sign in "+-")
        guard: forking.ForkGuard[MadeClock] = forking.ForkGuard(enter, leave)
        things = [MadeClock(float(k)) for k in range(dice.whole(0, 3))]
        for each in things:
            guard.add(each)
        for _ in range(2):
            hooks["before"]()
            answer.tell(sorted(entered))
            hooks["in_parent"]()
            answer.tell(
                entered == entered[: len(things)] + ["-" + each[1:] for each in reversed(entered[: len(things)])]
            )
            entered.clear()
        answer.tell(hooks["in_child"] == hooks["in_parent"], guard._held)
    answer.tell(slept, clock.now)


def _bounds(dice: Dice, answer: CaseAnswer) -> None:
    """Limits, retention, the latest events, and older versions of a store's tables."""
    for name, least in (
        ("keep_days", 1),
        ("max_events", 1),
        ("max_bytes", 2**17),
        ("max_per_day", 1),
        ("window_seconds", 0),
    ):
        for value in dice.some_of(
            (least, least - 1, least + 1, True, float("inf"), float("nan"), -5, least - 0.25), 0.6
        ):
            tell_text(answer, lambda name=name, value=value: Limits(**{name: value}))
    answer.tell(
        as_text(
            [
                retention.retention_time(now, before, leapt)
                for now in (5.0, 4e6, 7e6, -1.0)
                for before in (None, 4.0, 1e6)
                for leapt in (None, 3e6, 5e6)
            ]
        )
    )
    limits = Limits(max_per_day=dice.whole(1, 4), window_seconds=dice.one_of((0.0, 1.0, 60.0)))
    near = range(dice.one_of((0, 0, 4094, 4096)))
    recent, now = RecentEvents(limits), NOW
    for k in near:
        recent.remember("view", f"x{k}", None, NOW - k * 0.25)
    for _ in range(12):
        now += dice.one_of((0.0, 0.5, 1.0, -1.0, 60.0, DAY, -DAY))
        kind, item = dice.one_of(("rate", "view")), dice.one_of(("a", "x1", "x9"))
        rated: float | None = dice.one_of((None, 1.0, 2.0))
        answer.tell(recent.repeats(kind, item, rated, now), recent.is_full(now))
        recent.add(kind, item, rated, now, tracked=dice.chance(0.7))
        answer.tell(as_text((recent.count, sorted(recent.days.items()), len(recent._recent), recent.last)))
    steps = (("CREATE TABLE a(x)",), ("CREATE TABLE b(x)", "INSERT INTO b VALUES (1)"), ("INSERT INTO b VALUES (2)",))
    with Database(":memory:", kind=1, schema=()) as database:
        for _ in range(3):
            tell_text(answer, schema.migrate, database, steps[: dice.whole(0, 3)])
        with database.transaction() as connection:
            answer.tell(connection.execute("SELECT name FROM sqlite_master ORDER BY 1").fetchall())
            answer.tell(connection.execute("PRAGMA user_version").fetchall())


SEAMS: tuple[Seam, ...] = (
    Seam("pace: long work beside short, and forks", _pace, 12),
    Seam("store: limits, latest events, older tables", _bounds, 18),
)
