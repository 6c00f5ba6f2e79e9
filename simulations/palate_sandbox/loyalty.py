"""Loyalty: the truth of a population's figures, from who came on which day; the sandbox alone can know it.

The definitions are those of a survey (`palate_server.surveys.analytics.DEFINITIONS`), computed here in another way:
from a table of visits, not from devices' answers. So what a server is told can be compared with what was so.

>>> visits = np.array([[1, 0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0]], bool)
>>> found = truth(visits, np.array([0, 1]), first=0)
>>> found["dau", 2], found["mau", ""], found["retention", "1"]
(2.0, 2.0, 0.5)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.survey import RETENTION_DAYS
from palate_sandbox.population import Population
from palate_server.surveys.intervals import quantile

Flags = npt.NDArray[np.bool_]
Key = tuple[str, str | int]
"""A figure's name, and what it is of: a day's number, a number of days, or nothing."""
MONTH = 30


def truth(visits: Flags, arrival: npt.NDArray[np.int64], *, first: int) -> dict[Key, float]:
    """All figures of visits that a survey about a week asks for.

    Args:
        visits: who came on which day, bool [people, days]; of the people whom the figures are about.
        arrival: the day of each one's first visit, int64 [people].
        first: the week's first day.
    """
    week = slice(first, first + 7)
    daily = visits[:, week].sum(axis=0).astype(float)
    month = visits[:, max(0, first + 7 - MONTH) : first + 7].any(axis=1).sum()
    found: dict[Key, float] = {("dau", first + day): count for day, count in enumerate(daily.tolist())}
    found["wau", ""] = float(visits[:, week].any(axis=1).sum())
    found["mau", ""] = float(month)
    if month:
        found["churn", ""] = 1 - found["wau", ""] / float(month)
        found["stickiness", ""] = float(daily.mean() / month)
    for n in RETENTION_DAYS:
        back = arrival + n
        rows = np.flatnonzero((first <= back) & (back < first + 7))
        if len(rows):
            found["retention", str(n)] = float(visits[rows, back[rows]].mean())
            later = np.arange(visits.shape[1]) >= back[rows, None]
            later[:, first + 7 :] = False
            found["retention_after", str(n)] = float((visits[rows] & later).any(axis=1).mean())
    return found


def arms_apart(visits: Flags, arm_b: Flags, *, first: int) -> float:
    """An A/B test's true difference: active days of a week as a share of seven, mean of arm B less that of arm A.

    Args:
        visits: bool [people, days]; of the people who are in the test.
        arm_b: who is in arm B, bool [people].
        first: the week's first day.
    """
    active = visits[:, first : first + 7].sum(axis=1) / 7
    return float(active[arm_b].mean() - active[~arm_b].mean())


def returned(visits: Flags, arrival: npt.NDArray[np.int64], n: int, *, until: int) -> tuple[float, float, int]:
    """Of those who could: the share that came on exactly the n-th day after the first, its 95 % half-width, how many.

    Args:
        visits: bool [people, days].
        arrival: the day of each one's first visit.
        n: days after it.
        until: days lived so far.
    """
    rows = np.flatnonzero(arrival + n < until)
    if not len(rows):
        return float("nan"), float("nan"), 0
    share = float(visits[rows, arrival[rows] + n].mean())
    return share, float(quantile(0.95) * np.sqrt(share * (1 - share) / len(rows))), len(rows)


def lead_of(people: Population, others: Population, n: int, *, until: int) -> tuple[float, float] | None:
    """How many more of the same people came on the n-th day than in another life of theirs, and the 95 % half-width.

    Each is compared with themselves, so that who they are doesn't blur the difference.

    Args:
        people: as they lived.
        others: the same ones, who met the same chance under another policy.
        n: days after the first.
        until: days lived so far.
    """
    rows = np.flatnonzero(people.arrival + n < until)
    if len(rows) < 2:
        return None
    back = people.arrival[rows] + n
    gains = people.visits[rows, back].astype(float) - others.visits[rows, back]
    return float(gains.mean()), float(quantile(0.95) * gains.std(ddof=1) / np.sqrt(len(rows)))


def weekly_leads(people: Population, others: Population, *, until: int) -> list[tuple[float, float]]:
    """Of each day: how many more visits the same people made in the 7 days before than in another life of theirs.

    Per person who had come by then, with the 95 % half-width of the pairs; 0 and 0 before anybody had.
    """
    gains = people.visits[:, :until].astype(np.float32) - others.visits[:, :until]
    gains = np.cumsum(gains, axis=1)
    gains[:, 7:] = gains[:, 7:] - gains[:, :-7].copy()
    found = []
    for day in range(until):
        week = gains[people.arrival <= day, day]
        off = quantile(0.95) * week.std(ddof=1) / np.sqrt(len(week)) if len(week) > 1 else 0.0
        found.append((float(week.mean()) if len(week) else 0.0, float(off)))
    return found


def kept(arrival: npt.NDArray[np.int64], left_on: npt.NDArray[np.int64], n: int, *, until: int) -> float:
    """Of those who came first at least n days ago: the share that had not left for good by the n-th day."""
    rows = np.flatnonzero(arrival + n < until)
    return float((left_on[rows] > arrival[rows] + n).mean()) if len(rows) else float("nan")
