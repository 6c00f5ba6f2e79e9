"""Delta: the difference of two decompressed compact models, for devices with the first. See docs/wire-exchange.md.

    base, delta -> inflate -> for each tensor: its prediction from the base, plus the rest -> result

A table is predicted by whole numbers alone: the base's rows of the same items, times a matrix in steps of 1 / 4096.
Between releases, the directions of a private factorisation rotate, and change sign and scale. The matrix follows that,
so models need not be aligned. Products of whole numbers are exact in float64 in any order, so every machine makes the
same bytes; the manifest signs their hash. `palate_common.models.delta_search` makes deltas.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
from pydantic import BaseModel, ConfigDict

from palate_common.models.compact import inflate
from palate_common.models.model import MOST_HEADER, read_metadata, read_tensors
from palate_core.errors import IntegrityError, PalateError
from palate_core.log.canonical import digest

ROWS, MIX, REST, HEADER = " rows", " mix", " rest", " header"
STEP = 4096
"""Steps of a mix matrix that stand for 1."""
ONE = 127
"""Value of the constant column."""
NONE = -(2**31)
"""In place of a step, this marks a row that the base lacks."""
ROWS_AT_ONCE = 2**14
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class DeltaHeader(BaseModel):
    """The metadata of a delta."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: str
    """SHA-256 of the decompressed model that it starts from."""
    result: str
    """SHA-256 of the result."""
    predicted: tuple[str, ...]
    """Tensors that are predicted from the base's tensor of the same name."""


def apply_delta(base: bytes, delta: bytes, *, most: int) -> bytes:
    """The result of a delta on its base.

    Args:
        base: a decompressed compact model.
        delta: what `make_delta` made.
        most: largest size in bytes of the decompressed delta and of the result; more is refused before it is made.

    Raises:
        IntegrityError: another base, not a delta, a damaged one, or a larger one.
    """
    plain = inflate(delta, most=most, noun="a delta")
    try:
        parts, header = read_tensors(plain), DeltaHeader.model_validate(read_metadata(plain))
        if header.base != digest(base):
            raise IntegrityError(f"a delta must be from {header.base}, got the base {digest(base)}")
        made = _build_result(read_tensors(base), parts, header, most)
    except PalateError:
        raise
    except (
        safetensors.SafetensorError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ):
        raise IntegrityError(f"a delta must be a Palate safetensors file, got {len(delta)} other bytes") from None
    if digest(made) != header.result:
        raise IntegrityError("a delta must make what it says, and does not")
    return made


def _build_result(old: Mapping[str, Array], parts: Mapping[str, Array], header: DeltaHeader, most: int) -> bytes:
    """The result's bytes. A malformed delta raises one of many errors."""
    head = parts[HEADER].tobytes()
    if len(head) > MOST_HEADER:
        raise ValueError("a header that is too large")
    facts: dict[str, Any] = json.loads(head[8:])
    facts.pop("__metadata__", None)
    end = max(int(each["data_offsets"][1]) for each in facts.values())
    if not 0 <= end <= most - len(head):
        raise ValueError("a size that can't be")
    data = bytearray(end)
    for name, each in facts.items():
        begin, stop = each["data_offsets"]
        kind, shape = np.dtype(_DTYPES[each["dtype"]]), tuple(map(int, each["shape"]))
        fits = stop - begin == math.prod(shape) * kind.itemsize and min(shape, default=0) >= 0
        if not fits or not 0 <= begin <= stop <= end:
            raise ValueError("a place that can't be")
        rest = _join_words(parts[name + REST], kind.itemsize, math.prod(shape))
        if name in header.predicted:
            steps, mix = parts.get(name + ROWS), parts.get(name + MIX)
            guess = predict(old[name], None if steps is None else _from_steps(steps), mix, shape)
            if (guess.dtype, guess.shape) != (kind, shape):
                raise ValueError("a prediction of another shape")
            rest = guess.reshape(-1).view(rest.dtype) + rest
        data[begin:stop] = rest.tobytes()
    return head + bytes(data)


_DTYPES = {"I8": "<i1", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "<u1", "BOOL": "?"}


def predict(base: Array, rows: Array | None, mix: Array | None, shape: tuple[int, ...]) -> Array:
    """The prediction of a tensor from the base.

    Args:
        base: the base's tensor.
        rows: each row's row in the base, -1 where there is none; None: the same rows.
        mix: int16 [base's columns + 1, columns], steps of the weights of the base's columns and of `ONE`; None: the
            row as it is. Only between int8 tables.
        shape: of the result.

    Raises:
        ValueError: they don't fit.
    """
    if mix is None:
        return take_rows(base, rows, shape[0])
    if base.dtype != np.int8 or base.ndim != 2 or mix.dtype != np.int16 or len(shape) != 2:
        raise ValueError("a mix of no tables")
    if mix.shape != (base.shape[1] + 1, shape[1]) or len(base if rows is None else rows) != shape[0]:
        raise ValueError("a mix of another shape")
    made, weights = np.empty(shape, np.int8), mix.astype(np.float64)
    for first in range(0, shape[0], ROWS_AT_ONCE):
        part = slice(first, min(first + ROWS_AT_ONCE, shape[0]))
        made[part] = np.clip(np.floor(sources(base, rows, part) @ weights / STEP + 0.5), -128, 127)
    return made


def sources(base: Array, rows: Array | None, part: slice) -> npt.NDArray[np.float64]:
    """The base's rows for a part of a table, and a constant column of `ONE`: whole numbers as float64."""
    chosen = base[part] if rows is None else take_rows(base, rows[part], part.stop - part.start)
    return np.column_stack([chosen, np.full(len(chosen), ONE)]).astype(np.float64)


def take_rows(base: Array, rows: Array | None, n: int) -> Array:
    """The `n` rows of the base; zeros where it has none."""
    if rows is None:
        return base
    if len(rows) != n or (n and int(rows.max()) >= len(base)):
        raise ValueError("rows that can't be")
    found = np.zeros((n, *base.shape[1:]), base.dtype)
    found[rows >= 0] = base[rows[rows >= 0]]
    return found


def _from_steps(steps: Array) -> npt.NDArray[np.int64]:
    """Decode rows: the inverse of `_to_steps` of `delta_search`."""
    if steps.dtype != np.int32 or steps.ndim != 1:
        raise ValueError("steps of another type")
    there = steps != NONE
    rows = np.full(len(steps), -1, np.int64)
    rows[there] = np.cumsum(steps[there].astype(np.int64) + 1) - 1
    if (rows[there] < 0).any():
        raise ValueError("rows that can't be")
    return rows


def _join_words(rest: Array, size: int, n: int) -> Array:
    """Decode words: the inverse of `_split_words` of `delta_search`."""
    if rest.dtype != np.uint8 or rest.shape != (size, n):
        raise ValueError("a rest of another shape")
    return np.ascontiguousarray(rest.T).reshape(-1).view(WORDS[size])
