"""CaseAnswer: what a case's calls gave, boiled down to a few bytes, and to the numbers that may differ in last digits.

Whole numbers, texts, bytes and all that is made of them go into a hash. Floating point does not: another processor or
another BLAS may round otherwise. Of each such array two sums are kept, and compared with room.

    >>> one, other = CaseAnswer(), CaseAnswer()
    >>> one.tell("sum", np.arange(3), 0.1 + 0.2); other.tell("sum", np.arange(3), 0.3)
    >>> one.digest == other.digest, one.agrees(other.digest, other.numbers, other.rough)
    (True, True)
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from palate_core.errors import PalateError

DIGITS, ROUGH = 1e-6, 1e-3
"""Relative room for floating point; and for whole numbers that follow from much of it."""
DUST = 1e-9
"""What counts as zero."""
NAMED = re.compile(r"`[^`]*`|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
"""What of an error's text is an answer: the names and the numbers. Its words may change."""


class CaseAnswer:
    """What one case gave."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.numbers: list[float] = []
        """Two a floating-point array, one a number."""
        self.rough: list[float] = []
        """The same of what was told by `near`."""
        self._short: list[np.ndarray[Any, Any]] | None = None
        self.apart = ""
        """What the texts of errors are taken without: the name of a temporary folder."""

    def tell(self, *values: Any) -> None:
        """Take values in: numbers, texts, bytes, arrays, enums, errors; dataclasses, mappings and sequences of them.

        Raises:
            TypeError: a value of another kind; say of it what counts.
        """
        for value in values:
            self._take(value)

    def exact(self, *values: Any) -> None:
        """Take in what exact arithmetic alone has made, with every bit of its floating point."""
        for value in values:
            if isinstance(value, float | np.floating):
                self.tell(float(value).hex())
            elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
                same = np.where(np.isnan(value), np.nan, value)  # which NaN it is depends on the processor
                self.tell(value.dtype.str, value.shape, same.astype("<f8").tobytes())
            elif isinstance(value, list | tuple):
                self.tell(len(value))
                self.exact(*value)
            else:
                self.tell(value)

    def near(self, *arrays: Any) -> None:
        """Take in arrays of whole numbers that floating point was rounded to, with more room."""
        for array in arrays:
            given = np.asarray(array)
            self.tell("near", given.shape)
            self.rough += _sums(given.astype(np.float64))

    def brief(self, *values: Any, rough: bool = False) -> None:
        """Take values in as `tell` does, but keep four numbers of all their floating point together.

        Each array counts with its shape, whose largest number is 1, and with its size.

        Args:
            values: see `tell`.
            rough: whether the numbers need more room, such as those of another library's networks.
        """
        self._short = []
        self.tell(*values)
        parts, self._short = self._short, None
        sizes = np.array([np.abs(part).max(initial=0.0) for part in parts])
        sizes[sizes < DUST] = 0.0
        shapes = [part / size for part, size in zip(parts, sizes, strict=True) if size]
        kept = _sums(np.concatenate([np.zeros(0), *shapes])) + _sums(np.log(sizes[sizes > 0]))
        if rough:
            self.rough += [each / DIGITS for each in kept]  # far above what counts as zero among whole numbers
        else:
            self.numbers += kept
        self.tell(sizes > 0)

    def of(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call, and take in the result, or Palate's own error with its names and numbers.

        Returns:
            The result; None where the call raised.
        """
        found = self.tried(call, *args, **named)
        self.tell(found)
        return None if isinstance(found, PalateError | ValidationError) else found

    def tried(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call, and return the result, or Palate's own error or pydantic's, which is taken in."""
        try:
            return call(*args, **named)
        except (PalateError, ValidationError) as error:
            self.tell(error)
            return error

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of the hash: another answer has them by chance once in four billion."""
        return self._hash.hexdigest()[:8]

    def agrees(self, digest: str, numbers: Sequence[float], rough: Sequence[float]) -> bool:
        """Whether it is what was recorded."""
        exact = self.digest == digest and _close(self.numbers, numbers, DIGITS, DUST)
        return exact and _close(self.rough, rough, ROUGH, 2.0)

    def _take(self, value: Any) -> None:
        """Put a value into the hash, and its floating point beside it."""
        match value:
            case str():  # the kinds that are most frequent stand first
                self._put(repr(str(value)))
            case None | bool() | np.bool_():
                self._put(repr(str(value)))
            case int() | np.integer() if not isinstance(value, enum.Enum):
                self._put(str(int(value)))
            case bytes() | bytearray() | memoryview():
                self._hash.update(hashlib.sha256(value).digest())
            case list() | tuple():
                self._put(f"[{len(value)}")
                for each in value:
                    self._take(each)
            case float() | np.floating():
                self._real(float(value))
            case np.ndarray():
                self._array(value)
            case Mapping():
                self._put(f"{{{len(value)}")
                for key in sorted(value, key=repr):
                    self._take(key)
                    self._take(value[key])
            case _:
                self._other(value)

    def _other(self, value: Any) -> None:
        """The same of rarer kinds."""
        match value:
            case enum.Enum() | PurePath():
                self._put(repr(str(value.value if isinstance(value, enum.Enum) else value)))
            case ValidationError():  # its text names a version
                self._take([[str(each["type"]), *map(str, each["loc"])] for each in value.errors()])
            case BaseModel():
                self._put(type(value).__name__)
                self._take({name: getattr(value, name) for name in type(value).model_fields})
            case BaseException():
                said = str(value).replace(self.apart, "") if self.apart else str(value)
                self._put(f"{type(value).__name__} {NAMED.findall(said)}")
            case AbstractSet():
                self._put(f"<{len(value)}")
                for each in sorted(value, key=repr):
                    self._take(each)
            case Sequence() | range():
                self._put(f"[{len(value)}")
                for each in value:
                    self._take(each)
            case _ if is_dataclass(value) and not isinstance(value, type):
                self._put(type(value).__name__)
                for field in fields(value):
                    self._take(getattr(value, field.name))
            case _:
                raise TypeError(f"an answer can't have a {type(value).__name__}: tell what of it counts")

    def _put(self, text: str) -> None:
        """A text into the hash, and where it ends."""
        self._hash.update(f"{text};".encode())

    def _real(self, value: float) -> None:
        """A number: it is kept, and its kind is hashed."""
        if not math.isfinite(value):
            self._put(repr(value))
            return
        self._put("f")
        if self._short is None:
            self.numbers.append(value)
        else:
            self._short.append(np.array([value]))

    def _array(self, value: np.ndarray[Any, Any]) -> None:
        """An array: shape and kind, and its bytes or its sums."""
        self._put(f"{value.dtype.str} {value.shape}")
        if value.dtype.kind == "f":
            finite = np.isfinite(value)
            if not finite.all():
                self._hash.update(np.packbits([finite, np.isnan(value), value > 0]).tobytes())
            known = np.where(finite, value, 0.0)
            if self._short is None:
                self.numbers += _sums(known)
            else:
                self._short.append(known.astype(np.float64).ravel())
        elif value.dtype.kind in "biu":
            self._hash.update(hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest())
        else:
            raise TypeError(f"an answer can't have an array of {value.dtype}")


def _sums(values: np.ndarray[Any, Any]) -> list[float]:
    """Two sums, of what is above zero and of what is below; each place has its own weight, and nothing cancels."""
    flat = values.astype(np.float64).ravel()
    weights = 1.0 + (np.arange(flat.size) * 0.6180339887498949) % 1.0
    return [float(np.maximum(flat, 0.0) @ weights), float(np.maximum(-flat, 0.0) @ weights)]


def _close(given: Sequence[float], recorded: Sequence[float], relative: float, absolute: float) -> bool:
    """Whether numbers are those that were recorded."""
    if len(given) != len(recorded):
        return False
    return all(
        math.isclose(one, other, rel_tol=relative, abs_tol=absolute) for one, other in zip(given, recorded, strict=True)
    )
