"""Progress: what the server is about now, a cohort that gathers or an attempt, for who looks on.

    Operation -> state/progress.json -> `palate serve status`

The file is made anew each time and says nothing that lasts: no device, no node, nothing of a former attempt. It isn't
needed for anything: a disk that is full, or a file that is lost, changes no attempt.

>>> ActivityFile(Path("/nowhere")).read() == ServerActivity()
True
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from palate_common.rounds.wire import REFUSED
from palate_server.rounds.run import Request, Transport


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


class Attempted(_Told):
    """An attempt that goes on.

    Attributes:
        run: the run.
        round: its round.
        survey: whether the run is a survey.
        since: when it began, seconds since 1970.
        invited: devices that were invited.
    """

    run: str
    round: int
    survey: bool
    since: float
    invited: int


class ServerActivity(_Told):
    """What is told: a cohort that gathers, or an attempt, if there is one."""

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

    def gathering(self, *, here: int, least: int, enough: int, seconds: float) -> None:
        """Tell of a cohort that gathers."""
        former, now = self._seen.gathering, self._clock()
        since = now if former is None else former.since
        told = Gathered(since=since, until=since + seconds, here=here, least=least, enough=enough)
        if told != former:
            self._tell(gathering=told)

    def begin(self, *, run: str, round_: int, survey: bool, invited: int) -> None:
        """Tell of an attempt that begins."""
        self._tell(attempt=Attempted(run=run, round=round_, survey=survey, since=self._clock(), invited=invited))

    def end(self) -> None:
        """Tell that nothing gathers and no attempt goes on any more, of this process or a former one."""
        self._tell()

    def _tell(self, **told: Any) -> None:
        self._seen = ServerActivity(**told)
        new = self._file.with_suffix(".new")
        with suppress(OSError):
            new.write_text(self._seen.model_dump_json())
            new.replace(self._file)


class WatchedTransport:
    """A transport that counts who refuses; it carries the same bytes in the same order.

    Args:
        carrier: the transport that carries the messages.

    Attributes:
        refused: the devices that have refused in any exchange.
    """

    def __init__(self, carrier: Transport) -> None:
        self.carrier, self.refused = carrier, set[int]()

    def invite(self, *, masked: bool) -> Collection[int]:
        """As the carrier."""
        return self.carrier.invite(masked=masked)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """As the carrier."""
        for party, answer in self.carrier.exchange(request):
            if answer == REFUSED:
                self.refused.add(party)
            yield party, answer
