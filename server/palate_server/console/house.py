"""House board: all that the page of a house shows: its populations, how each is, and what has happened to them.

    folders of the populations -> Board, one each -> HouseBoard -> templates/house

It is read as the page of each population is, and so has as little of devices in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from palate_common.records.closing import Closing
from palate_core.errors import PalateError
from palate_server.console.board import LOG, Board, BoardReader, EventMemory, stamp_of_file
from palate_server.console.words import BAD, GOOD, NOTE, LogLine, Says, line_of_error, part_words, told
from palate_server.folder.house import House
from palate_server.folder.watched import WatchedSite
from palate_server.service.metrics import read_answer
from palate_server.service.problems import BROKEN

ASKED = 2.0
"""Seconds after which a population is asked again whether its parts run."""
ANSWERED = 1.0
"""Seconds that it may take to say so."""
ANYWAY = 10.0
"""Seconds after which its board is read though no file has changed."""
ORDER = ("act", "watch", "off", "good")
"""Verdicts, the gravest first."""
SAID: Mapping[str, tuple[str, Says]] = {
    "started": (NOTE, lambda event: "The house was started"),
    "stopped": (NOTE, lambda event: "The house was stopped"),
    "opened": (NOTE, lambda event: f"{event['population']} was opened"),
    "serving": (GOOD, lambda event: f"{event['population']} serves devices"),
    "shut": (NOTE, lambda event: f"{event['population']} was shut"),
    "not opened": (BAD, lambda event: f"{event['population']} can't be opened: {event['reason']}"),
    "restarted": (BAD, lambda event: f"{part_words(event['part'])[0]} had ended, and was started again"),
    "ended": (BAD, lambda event: f"{part_words(event['part'])[0]} has ended: {event['how']}"),
    "left over ended": (NOTE, lambda event: f"{part_words(event['part'])[0]} of a former house was ended"),
    "not written": (BAD, lambda event: f"The gateway's configuration can't be written: {event['reason']}"),
}
"""Event of a house -> how it is marked, and its sentence."""


@dataclass(frozen=True)
class PopulationShown:
    """A population on the page of its house.

    Attributes:
        name: the name of its folder.
        opened: whether it is to be served.
        verdict: "good", "watch", "act" or "off", and the words for it.
        board: what its own page shows; None: its folder can't be read, and `broken` says why.
        address: where devices connect to; empty if its configuration can't be read.
        behind: whether the gateway shows its own page.
    """

    name: str
    opened: bool
    verdict: tuple[str, str]
    board: Board | None
    broken: str = ""
    address: str = ""
    behind: bool = False


@dataclass(frozen=True)
class HouseBoard:
    """Everything on the page of a house.

    Attributes:
        verdict: as a population's: the gravest of them, and of the gateway.
        gateway: whether it runs; None: the house doesn't.
        populations: the gravest first.
        log: the latest events of the house, newest first.
        home: where the gateway is, `NAME:PORT`.
    """

    verdict: tuple[str, str]
    gateway: bool | None
    populations: tuple[PopulationShown, ...]
    log: tuple[LogLine, ...]
    home: str


class HouseReader(Closing):
    """Reads the boards of a house's populations, each when something of it has changed.

    Args:
        house: the house.
        gateway: returns whether the gateway runs; None: the house doesn't.
        clock: returns seconds since 1970.
    """

    def __init__(
        self, house: House, gateway: Callable[[], bool | None], clock: Callable[[], float] = time.time
    ) -> None:
        self._house, self._gateway, self._clock = house, gateway, clock
        self._memory, self._looked = EventMemory(house.events), dict[str, _Looked]()

    def stamp(self) -> tuple[object, ...]:
        """What changes whenever the page may."""
        house, looked = self._house, self._all()
        own = (self._gateway(), stamp_of_file(house.events), stamp_of_file(house.open_folder), tuple(house.opened()))
        return (*own, *((name, each.stamp()) for name, each in sorted(looked.items())))

    def read(self) -> HouseBoard:
        """Read the board; a population whose folder can't be read is shown as such."""
        opened, runs = self._house.opened(), self._gateway()
        shown = [
            each.shown(opened=name in opened, house_runs=runs is not None) for name, each in sorted(self._all().items())
        ]
        shown.sort(key=lambda each: (not each.opened, ORDER.index(each.verdict[0])))
        config = self._house.config
        return HouseBoard(
            verdict=_verdict(runs, shown),
            gateway=runs,
            populations=tuple(shown),
            log=tuple(told(self._memory.read(), most=LOG, said=SAID)),
            home=f"{config.name}:{config.port}",
        )

    def close(self) -> None:
        """Close the populations' ledgers; closing twice is fine."""
        for each in self._looked.values():
            each.close()

    def _all(self) -> dict[str, _Looked]:
        """Each population, asked lately whether its parts run; all at one time, so that one that hangs costs little."""
        names = {*self._house.names(), *self._house.opened()}
        for name in set(self._looked) - names:
            self._looked.pop(name).close()
        for name in names - set(self._looked):
            self._looked[name] = _Looked(self._house, name, self._clock)
        late = [each for each in self._looked.values() if each.is_late()]
        if late:
            with ThreadPoolExecutor(len(late)) as pool:
                list(pool.map(_Looked.ask, late))
        return dict(self._looked)


class _Looked(Closing):
    """One population, as it was when it was looked at last."""

    def __init__(self, house: House, name: str, clock: Callable[[], float]) -> None:
        self._house, self._name, self._clock = house, name, clock
        self._site: WatchedSite | None = None
        self._reader: BoardReader | None = None
        self._configured: object = None
        self._broken = ""
        self._parts: dict[str, bool] | None = None
        self._asked = self._read_at = -ANYWAY
        self._read: tuple[object, Board | None, str] = ("", None, "")

    def is_late(self) -> bool:
        """Whether it is time to ask."""
        return time.monotonic() - self._asked > ASKED

    def ask(self) -> None:
        """Ask whether its parts run, and open its folder anew if its configuration is another."""
        self._asked = time.monotonic()
        configured = stamp_of_file(self._house.populations / self._name / "server.toml")
        if configured != self._configured:
            self.close()
            self._configured, self._broken = configured, ""
            try:
                self._site = WatchedSite(self._house.site(self._name).folder)
                self._reader = BoardReader(self._site, lambda: self._parts, self._clock)
            except PalateError as error:
                self._broken = line_of_error(error)
        if self._site is not None:
            port, folder = self._site.config.gateway.metrics_port, self._site.folder
            self._parts = read_answer(port, "ready", folder=folder, seconds=ANSWERED) or None

    def stamp(self) -> object:
        """What changes whenever it may be shown in another way."""
        return self._broken if self._reader is None else self._reader.stamp()

    def shown(self, *, opened: bool, house_runs: bool) -> PopulationShown:
        """The population on the page."""
        board, broken = self._board()
        found: dict[str, Any] = {"name": self._name, "opened": opened, "board": board, "broken": broken}
        if self._site is not None:
            found |= {"address": self._site.address, "behind": bool(self._site.config.console.password)}
        if board is None:
            return PopulationShown(verdict=("act" if opened else "off", "Its folder can't be read"), **found)
        verdict = board.verdict
        if not opened:
            verdict = "off", "Shut"
        elif verdict[0] == "off" and house_runs:
            verdict = "act", "Open, and not running"
        return PopulationShown(verdict=verdict, **found)

    def close(self) -> None:
        """Close its ledger; closing twice is fine."""
        if self._site is not None:
            self._site.close()
        self._site = self._reader = None

    def _board(self) -> tuple[Board | None, str]:
        """Its board, or why there is none."""
        if self._reader is None:
            return None, self._broken
        stamp, now = self._reader.stamp(), time.monotonic()
        if stamp != self._read[0] or now - self._read_at > ANYWAY:
            self._read_at = now
            try:
                self._read = stamp, self._reader.read(), ""
            except BROKEN as error:
                self._read = stamp, None, line_of_error(error)
        return self._read[1], self._read[2]


def _verdict(gateway: bool | None, shown: list[PopulationShown]) -> tuple[str, str]:
    opened = [each for each in shown if each.opened]
    if gateway is None:
        return "off", "The house isn't running"
    if not gateway:
        return "act", "The gateway isn't running"
    if not opened:
        return "watch", "No population is open"
    counts = {verdict: sum(each.verdict[0] == verdict for each in opened) for verdict in ORDER}
    for verdict, words in (("act", "need you"), ("watch", "run with a warning, or start"), ("off", "don't run")):
        if counts[verdict]:
            one = {"act": "needs you", "watch": "runs with a warning, or starts", "off": "doesn't run"}[verdict]
            return verdict, f"{counts[verdict]} of {len(opened)} {one if counts[verdict] == 1 else words}"
    return "good", "All is well"
