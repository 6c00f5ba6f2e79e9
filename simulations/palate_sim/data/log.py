"""Log: an interaction log after reading, the input of every experiment; and what to say about it.

First step of the data path: a reader makes an `InteractionLog`, filters may narrow it, `positives` weighs it, `split`
cuts it.

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> log = read_log(pd.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"]}))
    >>> describe(log)["users"], describe(log)["density"]
    (2, 0.75)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class InteractionLog:
    """One interaction log in canonical form.

    Attributes:
        frame: one row an event, ordered by user and time: `user_id` (str), `item_id` (str), `kind` (str or None),
            `value` (float, NaN where there is none), `timestamp` (float, seconds since 1970 in UTC, NaN where unknown).
        items: public features of items, `item_id`, `title`, `genres` (separated by "|"), `domain`, or None.
        users: groups of users for evaluation, `user_id` and one column a group, or None. Never used for training.
        repairs: what reading changed or noticed, name -> number of rows or users; see `repair.REPAIRS`.
        name: what to call this log in a report.
        terms: the terms under which its publisher gives it away; empty for a log of one's own.
    """

    frame: pd.DataFrame
    items: pd.DataFrame | None
    users: pd.DataFrame | None
    repairs: dict[str, int] = field(default_factory=dict)
    name: str = "log"
    terms: str = ""


def describe(log: InteractionLog) -> dict[str, Any]:
    """Figures about a log, ready for JSON: size, density, kinds, time span, activity of users, repairs, terms."""
    frame = log.frame
    per_user = frame["user_id"].value_counts()
    users, items = len(per_user), frame["item_id"].nunique()
    pairs = len(frame[["user_id", "item_id"]].drop_duplicates())
    times = frame["timestamp"].to_numpy(float)
    known = times[np.isfinite(times)]
    values = frame["value"].to_numpy(float)
    rated = values[np.isfinite(values)]
    kinds = frame["kind"].dropna().value_counts()
    return {
        "name": log.name,
        "users": users,
        "items": int(items),
        "rows": len(frame),
        "pairs": pairs,
        "density": pairs / (users * items) if users and items else 0.0,
        "kinds": {str(kind): int(count) for kind, count in kinds.items()},
        "values": _quantiles(rated),
        "first_time": _day(known.min()) if len(known) else None,
        "last_time": _day(known.max()) if len(known) else None,
        "times_unknown": int(len(times) - len(known)),
        "events_per_user": _quantiles(per_user.to_numpy().astype(np.float64)),
        "item_features": [] if log.items is None else [c for c in log.items.columns if c != "item_id"],
        "user_groups": [] if log.users is None else [c for c in log.users.columns if c != "user_id"],
        "repairs": dict(log.repairs),
        "terms": log.terms,
    }


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Quantiles and mean, empty for no value."""
    if not len(values):
        return {}
    return {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()} | {"mean": float(values.mean())}


def _day(seconds: float) -> str:
    """Seconds since 1970 as an ISO time in UTC, or as a plain number where the calendar does not reach."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return repr(float(seconds))
