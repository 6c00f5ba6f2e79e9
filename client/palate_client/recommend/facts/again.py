"""Again: what a user buys again and again, and what they have begun and not finished, from the events of the device.

A purchase counts half after 180 days. An item that was bought not long ago counts less: by the time since, as a share
of the usual time between two purchases of it, or, of one that was bought once, between two purchases of one item.
Unfinished is an item whose plays and views, together, are of less than nine tenths of its `seconds` in the item table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

HALF_LIFE, USUAL = 180 * 86_400.0, 30 * 86_400.0
"""Seconds after which a purchase counts half; the time between two purchases where none was bought twice."""
FINISHED = 0.9


def bought_again(purchases: Iterable[tuple[str, float]], now: float) -> dict[str, float]:
    """Item -> how much it is due to be bought again, most first.

    Args:
        purchases: item and time, in seconds since 1970, of each purchase.
        now: the time.
    """
    times: dict[str, list[float]] = {}
    for item, time in purchases:
        times.setdefault(item, []).append(min(time, now))
    between = {item: float(np.median(np.diff(sorted({*own})))) for item, own in times.items() if len({*own}) > 1}
    usual = float(np.median([*between.values()])) if between else USUAL
    due = {
        item: sum(0.5 ** ((now - time) / HALF_LIFE) for time in own)
        * min((now - max(own)) / between.get(item, usual), 1.0)
        for item, own in times.items()
    }
    return dict(sorted(due.items(), key=lambda each: -each[1]))


def unfinished(plays: Iterable[tuple[str, float, float]], lengths: Mapping[str, float]) -> dict[str, float]:
    """Item -> when it was last played, latest first, of those that were begun and not finished.

    Args:
        plays: item, time and seconds of each play or view.
        lengths: item -> its seconds; others can't be told.
    """
    latest, total = dict[str, float](), dict[str, float]()
    for item, time, seconds in plays:
        latest[item] = max(latest.get(item, 0.0), time)
        total[item] = total.get(item, 0.0) + seconds
    begun = {item: time for item, time in latest.items() if 0 < total[item] < FINISHED * lengths.get(item, 0.0)}
    return dict(sorted(begun.items(), key=lambda each: -each[1]))
