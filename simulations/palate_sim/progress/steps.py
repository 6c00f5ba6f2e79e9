"""The steps of long work in words: what is done, how far it is, and about how long it will take.

>>> said({"step": "reading", "done": 1_240, "of": 9_945, "unit": "rows", "seconds": 5.0})
'reading 1,240 of 9,945 rows, 12 %, about 35 s left'
>>> said({"step": "fitting item_knn", "done": 0, "of": None, "unit": "", "seconds": 5.0})
'fitting item-kNN, 5 s'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate_sim.progress.wording import clean, display_name


def title(event: Mapping[str, Any]) -> str:
    """What a step does, with models named as for people."""
    return " ".join(map(display_name, clean(event.get("step")).split(" ")))


def said(event: Mapping[str, Any]) -> str:
    """A step in one line, as of its event."""
    name, seconds = title(event), float(event.get("seconds") or 0.0)
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
