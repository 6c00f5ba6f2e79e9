"""Progress: how far the server is with its present cohort or attempt, in numbers of devices, for who looks on.

    Operation, and the transport of its attempt -> state/progress.json -> `palate serve status`

The file is made anew at each step and says nothing that lasts: no device, no node, nothing of a former attempt. It
isn't needed for anything: a disk that is full, or a file that is lost, changes no attempt.

>>> ActivityFile(Path("/nowhere")).read() == ServerActivity()
True
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from palate_common.rounds.wire import REFUSED
from palate_server.rounds.run import Request, Transport

OFTEN = 0.4
"""The least seconds between two writes within an exchange."""
MOST = 64
"""The most exchanges of an attempt that are told, tosses that are repeated included."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gathered(_Told):
    """A cohort that gathers.

    Attributes:
        since: when its first device came, seconds since 1970.
        until: when its time is up.
        here: devices that are online and may take part.
        least: the fewest that it takes once its time is up.
        enough: as many are not waited beyond.
    """

    since: float
    until: float
    here: int
    least: int
    enough: int


class Exchanged(_Told):
    """One exchange of an attempt: a request to each device that is left, and their answers.

    Attributes:
        step: number of the masked step, `palate_core.masks.messages.Step`; 0 without masks.
        since: when it was sent, seconds since 1970.
        asked: devices that were asked.
        answered: those that have answered.
        refused: those of them that have refused.
        over: whether no further answer is awaited.
    """

    step: int
    since: float
    asked: int
    answered: int = 0
    refused: int = 0
    over: bool = False


class Attempted(_Told):
    """An attempt.

    Attributes:
        run: the run.
        round: its round.
        survey: whether the run is a survey.
        since: when it began, seconds since 1970.
        invited: devices that were invited.
        seconds: the longest that each exchange waits.
        exchanges: what was sent so far.
        ended: when it ended; None: it goes on.
        outcome: "released", "void" (charged, and nothing released), "uncharged" or "lost" (the process ended in it);
            empty while it goes on.
        users: devices in the released sum.
        reason: why nothing was released, one of a few words.
    """

    run: str
    round: int
    survey: bool
    since: float
    invited: int
    seconds: float
    exchanges: tuple[Exchanged, ...] = ()
    ended: float | None = None
    outcome: str = ""
    users: int | None = None
    reason: str = ""


class ServerActivity(_Told):
    """What is told: a cohort that gathers, and the latest attempt, if there are any."""

    gathering: Gathered | None = None
    attempt: Attempted | None = None


class ActivityFile:
    """What the server is about now, in a file.

    Args:
        file: the file, in an existing folder.
        clock: returns seconds since 1970.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock, self._seen = file, clock, ServerActivity()

    def read(self) -> ServerActivity:
        """What was told last; nothing if the file is missing or isn't one."""
        try:
            return ServerActivity.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return ServerActivity()

    def take_over(self) -> None:
        """Tell that a former process doesn't go on with what it was about."""
        self._seen = self.read()
        if self._seen.attempt is not None and self._seen.attempt.ended is None:
            self.end("lost")
        self.gathered()

    def gathering(self, *, here: int, least: int, enough: int, seconds: float) -> None:
        """Tell of a cohort that gathers."""
        former, now = self._seen.gathering, self._clock()
        since = now if former is None else former.since
        told = Gathered(since=since, until=since + seconds, here=here, least=least, enough=enough)
        if told != former:
            self._tell(gathering=told)

    def gathered(self) -> None:
        """Tell that no cohort gathers any more."""
        if self._seen.gathering is not None:
            self._tell(gathering=None)

    def begin(self, *, run: str, round_: int, survey: bool, invited: int, seconds: float) -> None:
        """Tell of an attempt that begins."""
        now = self._clock()
        begun = Attempted(run=run, round=round_, survey=survey, since=now, invited=invited, seconds=seconds)
        self._tell(gathering=None, attempt=begun)

    def end(self, outcome: str, *, users: int | None = None, reason: str = "") -> None:
        """Tell what became of the attempt."""
        if (attempt := self._seen.attempt) is not None:
            done = {"ended": self._clock(), "outcome": outcome, "users": users, "reason": reason}
            self._tell(attempt=attempt.model_copy(update=done))

    def exchange(self, told: Exchanged, *, first: bool) -> None:
        """Tell of an exchange: a new one, or more answers to the latest."""
        if (attempt := self._seen.attempt) is None:
            return
        former = attempt.exchanges if first else attempt.exchanges[:-1]
        attempt = attempt.model_copy(update={"exchanges": (*former, told)[-MOST:]})
        self._tell(attempt=attempt)

    def _tell(self, **changed: Any) -> None:
        """Write what has changed."""
        self._seen = self._seen.model_copy(update=changed)
        new = self._file.with_suffix(".new")
        with suppress(OSError):
            new.write_text(self._seen.model_dump_json())
            new.replace(self._file)


class WatchedTransport:
    """A transport that tells how many devices have answered; it carries the same bytes in the same order.

    Args:
        carrier: the transport that carries the messages.
        progress: who is told.
        clock: returns seconds since 1970.

    Attributes:
        refused: the devices that have refused in any exchange.
    """

    def __init__(self, carrier: Transport, progress: ActivityFile, clock: Callable[[], float] = time.time) -> None:
        self.carrier, self.progress, self._clock = carrier, progress, clock
        self.refused = set[int]()

    def invite(self, *, masked: bool) -> Collection[int]:
        """As the carrier."""
        return self.carrier.invite(masked=masked)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """As the carrier; each answer is counted on its way."""
        told = Exchanged(step=request.step, since=self._clock(), asked=len(request.to))
        self.progress.exchange(told, first=True)
        heard, refused, due = set[int](), set[int](), time.monotonic() + OFTEN
        try:
            for party, answer in self.carrier.exchange(request):
                heard.add(party)
                if answer == REFUSED:
                    refused.add(party)
                if time.monotonic() >= due:
                    due = time.monotonic() + OFTEN
                    self.progress.exchange(_counted(told, heard, refused), first=False)
                yield party, answer
        finally:
            self.refused |= refused
            over = _counted(told, heard, refused).model_copy(update={"over": True})
            self.progress.exchange(over, first=False)


def _counted(told: Exchanged, heard: Set[int], refused: Set[int]) -> Exchanged:
    return told.model_copy(update={"answered": len(heard), "refused": len(refused)})
