"""The steps of long work in words: what is done, how far it is, and about how long it will take.

>>> said({"step": "reading", "done": 1_240, "of": 9_945, "unit": "rows"}, seconds=5.0)
'reading 1,240 of 9,945 rows, 12 %, about 35 s left'
>>> said({"step": "fitting item_knn", "done": 0, "of": None, "unit": ""}, seconds=5.0)
'fitting item-kNN, 5 s'
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from palate_sim.progress.wording import clean, display_name


class OpenSteps:
    """The steps that have begun and aren't over, each with the time of its beginning.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, tuple[Mapping[str, Any], float]] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take in a step's event."""
        name = str(event.get("step"))
        if event.get("over"):
            self._open.pop(name, None)
            return
        begun = self._open[name][1] if name in self._open else self._clock()
        self._open[name] = (dict(event), begun)

    def clear(self) -> None:
        """Forget all of them."""
        self._open.clear()

    def latest(self) -> tuple[Mapping[str, Any], float] | None:
        """The event of the step that began last, and the seconds since it began; None without any."""
        for event, begun in reversed(tuple(self._open.values())):
            return event, self._clock() - begun
        return None


def said(event: Mapping[str, Any], seconds: float) -> str:
    """A step in one line, `seconds` after its beginning, with models named as for people."""
    name = " ".join(map(display_name, clean(event.get("step")).split(" ")))
    done, of, unit = event.get("done"), event.get("of"), clean(event.get("unit", ""))
    counted = f" {unit}" if unit else ""
    if not isinstance(done, int) or not done:
        return f"{name}, {duration(seconds)}"
    if not isinstance(of, int) or of <= done:
        return f"{name} {done:,}{counted}, {duration(seconds)}"
    left = duration(seconds * (of - done) / done)
    return f"{name} {done:,} of {of:,}{counted}, {100 * done // of} %, about {left} left"


def duration(seconds: float) -> str:
    """Seconds as a person reads them while waiting: 40 s, 3 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
