"""Times: timestamps of any notation, as seconds since 1970 in UTC; NaN where unknown.

Part of `repair`. Numbers are seconds, or milli-, micro- or nanoseconds by their magnitude; text is ISO 8601 or a
common date. A time of day without a zone is UTC. `3/12/2011` is read month first, unless a day above 12 in the same
column shows that days come first.

    >>> import pandas as pd
    >>> column = pd.Series(["1970-01-01T00:01:00", "60", "", "soon"])
    >>> reader = TimeReader()
    >>> reader.read(column).tolist(), reader.repairs
    ([60.0, 60.0, nan, nan], {'times_missing': 2})
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

GRACE = 86_400.0  # seconds a time may lie ahead: local times without a zone are read as UTC
_SCALES = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # median magnitude above -> units in a second
_SLASHED = re.compile(r"(\d{1,2})[/.\-](\d{1,2})[/.\-]\d{2,4}\b")


@dataclass(frozen=True)
class Notation:
    """How the times of a column are written.

    Attributes:
        units: units of its numbers in a second.
        day_first: whether a day stands before its month.
    """

    units: float = 1.0
    day_first: bool = False


class TimeReader:
    """Reads the times of a column that comes in batches.

    The first batch shows how times are written, unless that is given. What a later one shows may differ: `notation`
    then is another one at the end, and the column has to be read again with it.

    Args:
        given: the notation, once it is known.
    """

    def __init__(self, given: Notation | None = None) -> None:
        self._given = self.used = given
        self._known = self._missing = self._future = 0
        self._spread = [_Spread(above) for above, _ in _SCALES]
        self._day_first = False
        self._latest = time.time() + GRACE

    @property
    def notation(self) -> Notation:
        """The notation, by everything that was read."""
        if self._given is not None:
            return self._given
        units = next((units for (_, units), spread in zip(_SCALES, self._spread, strict=True) if spread.median), 1.0)
        return Notation(units, self._day_first)

    @property
    def repairs(self) -> dict[str, int]:
        """Counts of what is missing, lies in the future, or was scaled."""
        scaled = self._known if self.used is not None and self.used.units != 1.0 else 0
        counts = {"times_missing": self._missing, "times_in_the_future": self._future, "times_rescaled": scaled}
        return {name: count for name, count in counts.items() if count}

    def read(self, column: pd.Series) -> npt.NDArray[np.float64]:
        """The times of a batch, float64 [n], seconds since 1970; unreadable and future ones are NaN and counted."""
        seconds = self._seconds(column)
        seconds[~np.isfinite(seconds)] = np.nan
        self._missing += int(np.isnan(seconds).sum())
        future = seconds > self._latest
        if future.any():
            self._future += int(future.sum())
            seconds[future] = np.nan
        return seconds

    def _seconds(self, column: pd.Series) -> npt.NDArray[np.float64]:
        """The seconds of a batch, before future times are removed."""
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            return _stamps(column)
        if pd.api.types.is_bool_dtype(column.dtype):
            return np.full(len(column), np.nan)
        numeric = numbers_of(column)
        known = np.isfinite(numeric)
        texts, codes, rest = pd.Series([], dtype="str"), np.zeros(0, np.intp), ~known
        if rest.any():
            rest &= column.notna().to_numpy()
            if rest.any() and not pd.api.types.is_numeric_dtype(column.dtype):
                codes, uniques = pd.factorize(column[rest].astype(str).str.strip())
                texts = pd.Series(uniques, dtype="str")
        self._note(numeric if known.all() else numeric[known], texts)
        if self.used is None:
            self.used = self.notation
        if self.used.units != 1.0:
            numeric[known] /= self.used.units
        if len(texts):
            numeric[rest] = _dates(texts, day_first=self.used.day_first)[codes]
        return numeric

    def _note(self, numbers: npt.NDArray[np.float64], texts: pd.Series) -> None:
        """Remember what a batch shows about the notation."""
        self._known += len(numbers)
        if self._given is not None:
            return
        magnitudes = np.abs(numbers)
        for spread in self._spread:
            spread.add(magnitudes)
        if not self._day_first:
            slashed = (match for text in texts if (match := _SLASHED.match(text)))
            self._day_first = any(int(match.group(1)) > 12 for match in slashed)


def numbers_of(column: pd.Series) -> npt.NDArray[np.float64]:
    """The numbers of a column, float64 [n], NaN where a value is none; a new array."""
    if isinstance(column.dtype, pd.StringDtype):
        try:  # a tenth of the time, where every value is a number
            return np.array(pa.array(column, pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid:
            pass
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan).copy()


class _Spread:
    """Whether the median of all numbers lies above a bound: counted, since the numbers themselves aren't kept."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._above = self._others = 0
        self._least, self._most = np.inf, -np.inf  # the least number above, and the largest of the others

    def add(self, magnitudes: npt.NDArray[np.float64]) -> None:
        """Count more numbers."""
        if not len(magnitudes):
            return
        if (top := float(magnitudes.max())) <= self._bound:
            self._others, self._most = self._others + len(magnitudes), max(self._most, top)
            return
        above = magnitudes > self._bound
        self._above += int(above.sum())
        self._others += len(magnitudes) - int(above.sum())
        self._least = min(self._least, float(magnitudes[above].min()))
        self._most = max(self._most, float(magnitudes[~above].max(initial=-np.inf)))

    @property
    def median(self) -> bool:
        """Whether the median lies above the bound."""
        if self._above == self._others:
            return self._above > 0 and (self._least + self._most) / 2 > self._bound
        return self._above > self._others


def _dates(texts: pd.Series, *, day_first: bool) -> npt.NDArray[np.float64]:
    """Seconds of distinct date texts, NaN where one can't be read."""
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
