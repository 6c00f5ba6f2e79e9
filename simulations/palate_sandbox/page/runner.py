"""Runner: lives a sandbox in a thread, at a pace that the page sets, and keeps what the page shows.

    SandboxWorld --a day--> facts, which don't change any more --> page

A page is made of the facts of the latest whole day, so that nobody waits for a round that goes on. What a visitor asks
of a device, such as to erase it, waits for the end of the day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palate_common.records.closing import Closing
from palate_sandbox.config import Policy
from palate_sandbox.report import facts
from palate_sandbox.world import SandboxWorld

PACES = {"slow": 4.0, "steady": 1.0, "fast": 0.0}
"""Seconds that a day lasts at least."""


@dataclass(frozen=True)
class SandboxStanding:
    """How far a sandbox is.

    Attributes:
        facts: what was so at the end of the latest day; see `palate_sandbox.report.facts`.
        persons: rows of the people whose devices are there.
        policy: what is shown from the next day on.
        pace: a name of `PACES`.
        paused: whether the clock stands still.
        doing: what is worked at now, in words; empty: nothing.
        broken: why it doesn't go on; empty: it does.
        left: about how many seconds are left; None: unknown.
    """

    facts: Mapping[str, Any]
    persons: tuple[int, ...]
    policy: Policy
    pace: str
    paused: bool
    doing: str
    broken: str
    left: float | None

    @property
    def over(self) -> bool:
        """Whether all days are lived."""
        return bool(self.facts["days"] >= self.facts["config"]["days"])


class Runner(Closing):
    """Lives a sandbox.

    Attributes:
        world: the sandbox.
        lock: held while a day is lived.
        broken: why it doesn't go on; empty: it does.

    Args:
        world: the sandbox.
        pace: a name of `PACES`.
    """

    def __init__(self, world: SandboxWorld, *, pace: str = "steady") -> None:
        self.world, self.lock = world, threading.Lock()
        self._facts, self._persons = facts(world), tuple[int, ...]()
        self._pace, self._paused, self._doing, self.broken = pace, False, "", ""
        self._policy = world.policy
        self._stop, self._turn, self._over = (threading.Event() for _ in range(3))
        self._over.set()
        self._lasted: list[float] = []
        self._thread = threading.Thread(target=self._live, name="sandbox", daemon=True)

    def start(self) -> None:
        """Begin to live."""
        self._over.clear()
        self._thread.start()

    def close(self) -> None:
        """End after the day that is lived; closing twice is fine."""
        self._stop.set()
        self.world.operator.ending.set()
        self._turn.set()
        # Not `Thread.join`: where a signal cuts it short, Python before 3.13 takes a thread that runs for an ended one.
        self._over.wait()

    def wait(self, seconds: float) -> bool:
        """Wait; whether all days are lived, or it broke."""
        return self._over.wait(seconds)

    def notify(self, event: Mapping[str, Any]) -> None:
        """Take in what is worked at, as `palate_sim.steps` tells it."""
        self._doing = "" if event.get("over") else str(event.get("step", ""))

    def set(self, *, policy: Policy | None = None, pace: str | None = None, paused: bool | None = None) -> None:
        """Turn the switch, or change the pace."""
        if policy is not None:
            self._policy = policy
            if self.world.over:  # else the next day begins with it
                self.world.switch(policy)
        if pace in PACES:
            self._pace = pace
        if paused is not None:
            self._paused = paused
        self._turn.set()

    def standing(self) -> SandboxStanding:
        """How far it is."""
        lasted = self._lasted[-7:]
        day = max(PACES[self._pace], sum(lasted) / len(lasted)) if lasted else None
        todo = self._facts["config"]["days"] - self._facts["days"]
        return SandboxStanding(
            facts=self._facts,
            persons=self._persons,
            policy=self._policy,
            pace=self._pace,
            paused=self._paused,
            doing=self._doing,
            broken=self.broken,
            left=None if day is None else day * todo,
        )

    def refresh(self) -> None:
        """Read the facts anew; the caller holds the lock."""
        self._facts, self._persons = facts(self.world), tuple(sorted(self.world.persons))

    def _live(self) -> None:
        try:
            while not self._stop.is_set() and not self.world.over:
                self._turn.clear()
                if self._paused:
                    self._turn.wait(1.0)
                    continue
                begun = time.monotonic()
                with self.lock:
                    self.world.switch(self._policy)
                    self.world.live_day()
                    self.refresh()
                self._lasted.append(time.monotonic() - begun)
                self._rest(begun)
        except Exception as error:  # whatever it is that ends it, the page says so, and the command
            self.broken = " ".join(str(error).split()) or type(error).__name__
        finally:
            self._over.set()

    def _rest(self, begun: float) -> None:
        """Wait until the day has lasted as long as the pace says; a changed pace holds at once."""
        while not self._stop.is_set() and not self._paused:
            if not self.world.chronicle.trained:
                return  # nobody waits for the first model longer than it takes
            left = begun + PACES[self._pace] - time.monotonic()
            if left <= 0:
                return
            self._turn.clear()
            self._turn.wait(left)
