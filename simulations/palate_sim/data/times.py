"""Times: timestamps of any notation, as seconds since 1970 in UTC; NaN where unknown.

Part of `repair`. Numbers are seconds, or milli-, micro- or nanoseconds by their magnitude; text is ISO 8601 or a
common date. A time of day without a zone is UTC. `3/12/2011` is read month first, unless a day above 12 in the same
column shows that days come first.

    >>> import pandas as pd
    >>> column = pd.Series(["1970-01-01T00:01:00", "60", "", "soon"])
    >>> canonical_times(column, 4, repairs := {}).tolist(), repairs["times_missing"]
    ([60.0, 60.0, nan, nan], 2)
"""

from __future__ import annotations

import re
import time
import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd

GRACE = 86_400.0  # seconds a time may lie ahead: local times without a zone are read as UTC
_SCALES = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # median magnitude above -> units in a second
_SLASHED = re.compile(r"(\d{1,2})[/.\-](\d{1,2})[/.\-]\d{2,4}\b")


def canonical_times(column: pd.Series | None, rows: int, repairs: dict[str, int]) -> npt.NDArray[np.float64]:
    """The times of a column, float64 [rows], in seconds since 1970; unreadable and future ones are NaN and counted.

    Args:
        column: times of any type, or None where the log has none.
        rows: how many rows the log has.
        repairs: counts to add to.
    """
    if column is None:
        return np.full(rows, np.nan)
    seconds = _seconds(column, repairs)
    seconds[~np.isfinite(seconds)] = np.nan
    repairs["times_missing"] = int(np.isnan(seconds).sum())
    future = seconds > time.time() + GRACE
    repairs["times_in_the_future"] = int(future.sum())
    seconds[future] = np.nan
    return seconds


def _seconds(column: pd.Series, repairs: dict[str, int]) -> npt.NDArray[np.float64]:
    """The seconds of a column, before future times are removed."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _stamps(column)
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan)
    numeric = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan).copy()
    known = np.isfinite(numeric)
    if known.any():
        typical = float(np.median(np.abs(numeric[known])))
        for above, units in _SCALES:
            if typical > above:
                numeric[known] /= units
                repairs["times_rescaled"] = int(known.sum())
                break
    rest = ~known & column.notna().to_numpy()
    if rest.any() and not pd.api.types.is_numeric_dtype(column.dtype):
        codes, uniques = pd.factorize(column[rest].astype(str).str.strip())
        numeric[rest] = _dates(pd.Series(uniques, dtype="str"))[codes]
    return numeric


def _dates(texts: pd.Series) -> npt.NDArray[np.float64]:
    """Seconds of distinct date texts, NaN where one can't be read."""
    slashed = [match for text in texts if (match := _SLASHED.match(text))]
    day_first = any(int(match.group(1)) > 12 for match in slashed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pandas warns that a date might be read the other way round
        stamps = pd.to_datetime(texts, format="mixed", dayfirst=day_first, utc=True, errors="coerce")
    return _stamps(stamps)


def _stamps(stamps: pd.Series) -> npt.NDArray[np.float64]:
    """Seconds of a datetime column."""
    if stamps.dt.tz is not None:
        stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    micros = stamps.astype("datetime64[us]").to_numpy()
    return np.where(np.isnat(micros), np.nan, micros.astype(np.int64) / 1e6)
