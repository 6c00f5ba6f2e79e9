"""Loyalty: figures on how loyal a user is to an app, computed on the user's device from their own events.

    Activity -> Past -> visits -> Loyalty

No figure is sent anywhere. Each has a definition (`DEFINITIONS`), because the same words mean different things in
different dashboards.

    >>> from palate_client.store.activity import past_of
    >>> day = 86_400.0
    >>> past = past_of([(when * day, "view", None, None) for when in (1, 2, 9)])
    >>> found = loyalty(past, now=10 * day, calendar=Calendar("UTC"))
    >>> found.visits, found.active_days, round(found.recency_days)
    (3, 3, 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.store.activity import Numbers, Past

DAY, WEEK = 86_400.0, 7 * 86_400.0
SESSION_GAP = 1800.0
"""Seconds without an event that end a visit."""
WINDOW = 30
"""Calendar days over which stickiness and frequency are computed."""
RETENTION_DAYS = (1, 7, 30)

DEFINITIONS: Mapping[str, str] = {
    "recency_days": "days since the last event that the user made; impressions are none",
    "frequency": "visits that began in the last 30 days",
    "monetary": "sum of the amounts of purchases in the last 365 days, or of their numbers where no amount is known",
    "visits": "visits in all: events no more than 30 minutes apart are one",
    "active_days": "calendar days of the user's with a visit, in all",
    "visit_minutes": "mean minutes from a visit's first event to its last; a visit of one event counts 0",
    "stickiness": "calendar days with a visit in the last 30, divided by 30, or by those since the first visit",
    "retention_exact": "whether there was a visit on the n-th calendar day after the first; unknown before its end",
    "retention_after": "whether there was a visit on the n-th calendar day after the first, or later; unknown before",
    "churn_risk": "1 - P(alive) of the BG/NBD model (Fader, Hardie and Lee 2005), visits as purchases, in weeks",
}
"""Definition of each figure."""

BG_NBD = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}
"""Parameters that Fader, Hardie and Lee (2005) report for CDNOW, in weeks: a prior, not fitted to this app's users."""


@dataclass(frozen=True)
class Loyalty:
    """The figures, as `DEFINITIONS` defines them; None if they are unknown yet.

    Attributes:
        recency_days: days.
        frequency: visits.
        monetary: in the app's currency, or purchases.
        visits: number of all visits.
        active_days: calendar days.
        visit_minutes: minutes.
        stickiness: from 0 to 1.
        retention_exact: day n -> whether there was a visit on it.
        retention_after: day n -> whether there was a visit on it or later.
        churn_risk: from 0 to 1.
        explanation: the reason for the risk, in words.
    """

    recency_days: float | None
    frequency: int
    monetary: float
    visits: int
    active_days: int
    visit_minutes: float | None
    stickiness: float | None
    retention_exact: Mapping[int, bool | None]
    retention_after: Mapping[int, bool | None]
    churn_risk: float | None
    explanation: str


def loyalty(past: Past, *, now: float, calendar: Calendar, first: float | None = None) -> Loyalty:
    """Compute the figures of one user.

    Args:
        past: the user's events; a time in the future counts as `now`.
        now: seconds since 1970.
        calendar: the user's calendar.
        first: time of the user's first event, if it was deleted from `past` since; None if nothing was deleted.
    """
    active = np.minimum(past.active, now)
    begun, ended = visits_of(active)
    _, numbers, amounts = past.bought[past.bought[:, 0] > now - 365 * DAY].T
    paid, counted = amounts[~np.isnan(amounts)], np.where(np.isnan(numbers), 1.0, numbers)
    monetary = sum((paid if len(paid) else counted).tolist())
    if not len(begun):
        nothing: dict[int, bool | None] = dict.fromkeys(RETENTION_DAYS)
        return Loyalty(None, 0, monetary, 0, 0, None, None, nothing, nothing, None, "no visit yet")
    days = np.unique(calendar.days(active)).tolist()  # a visit over midnight is one on both days
    today = int(calendar.days(np.array([now]))[0])
    since = days[0] if first is None else min(days[0], int(calendar.days(np.array([first]))[0]))
    span = min(WINDOW, today - since + 1)
    risk = churn_risk(begun, now=now)
    return Loyalty(
        recency_days=float(now - ended[-1]) / DAY,
        frequency=int((begun > now - WINDOW * DAY).sum()),
        monetary=monetary,
        visits=len(begun),
        active_days=len(days),
        visit_minutes=float((ended - begun).mean()) / 60,
        stickiness=sum(day > today - WINDOW for day in days) / span,
        retention_exact={n: _exact(days, today, since + n) for n in RETENTION_DAYS},
        retention_after={n: True if days[-1] >= since + n else (False if today >= since + n else None)
                         for n in RETENTION_DAYS},
        churn_risk=risk,
        explanation=_explanation(begun, now, risk),
    )  # fmt: skip


def churn_risk(visits: Sequence[float] | Numbers, *, now: float) -> float:
    """1 - P(alive): how likely the user is gone, by BG/NBD (Fader, Hardie and Lee 2005; P(alive) as in their note).

    Args:
        visits: start of each visit, ascending, seconds since 1970, at least one.
        now: seconds since 1970.
    """
    repeats = len(visits) - 1
    if not repeats:
        return 0.0  # in the model nobody leaves before the second visit; the explanation says how long it has been
    last, whole = (visits[-1] - visits[0]) / WEEK, max(now - visits[0], 0.0) / WEEK
    log_odds = (BG_NBD["r"] + repeats) * math.log((BG_NBD["alpha"] + whole) / (BG_NBD["alpha"] + last))
    log_odds += math.log(BG_NBD["a"] / (BG_NBD["b"] + repeats - 1))
    return 1.0 / (1.0 + math.exp(-min(log_odds, 700.0)))


def visits_of(times: Numbers) -> tuple[Numbers, Numbers]:
    """Start and end of each visit, from ascending times of events."""
    apart = np.diff(times) > SESSION_GAP
    begins, ends = np.ones(len(times), bool), np.ones(len(times), bool)
    begins[1:], ends[:-1] = apart, apart
    return times[begins], times[ends]


def _exact(days: Sequence[int], today: int, wanted: int) -> bool | None:
    """Whether a day had a visit; None if it isn't over, or if its events were deleted."""
    if wanted in days:
        return True
    return False if days[0] < wanted < today else None


def _explanation(begun: Numbers, now: float, risk: float) -> str:
    away = max(now - begun[-1], 0.0) / DAY
    if len(begun) == 1:
        return f"one visit so far, {away:.0f} days ago"
    usual = (begun[-1] - begun[0]) / (len(begun) - 1) / DAY
    return f"{len(begun)} visits, {usual:.1f} days apart on average; the last was {away:.1f} days ago: risk {risk:.0%}"
