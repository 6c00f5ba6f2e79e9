"""Presence: notes in which quarter of a year a device was online last, so that an operator can end what nobody uses.

    devices online -> once a quarter for each -> the register's `seen`

Nothing finer is kept, and nothing of what a device did: whoever is online may or may not take part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from palate_server.folder.enrolments import Enrolments, quarter_of


class SeenByQuarter:
    """Who was online in this quarter.

    Args:
        register: where it is noted.
        clock: returns seconds since 1970.
    """

    def __init__(self, register: Enrolments, *, clock: Callable[[], float] = time.time) -> None:
        self._register, self._clock = register, clock
        self._quarter, self._noted = 0, set[int]()

    def note(self, online: Iterable[int]) -> None:
        """Note the devices that are online; each is written once a quarter, and once more after a restart."""
        begun = False
        if (quarter := quarter_of(self._clock())) != self._quarter:
            self._quarter, self._noted, begun = quarter, set(), True
        if (new := set(online) - self._noted) or begun:
            self._register.seen(new, quarter=quarter)
            self._noted |= new
