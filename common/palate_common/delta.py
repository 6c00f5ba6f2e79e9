"""Delta: from one unpacked compact model to the next, for devices that have the first. See docs/wire-protocol.md.

    base, delta -> inflate -> for each tensor what predicts it, and what is left of it -> result

A table is predicted by whole numbers alone: the base's rows of the same items, and tables of the result that are there
already, times a matrix in steps of 1 / 4096. The matrix takes in that the directions of a private factorisation turn,
and change sign and scale, between releases, so the models themselves need not be aligned. Products of whole numbers are
exact in float64 in any order, so every machine makes the same bytes; what they must hash to is signed elsewhere. How a
delta is found is in `palate_common.delta_search`; any way of finding one will do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from palate_common.canonical import digest
from palate_common.compact import inflated
from palate_common.errors import IntegrityError, PalateError
from palate_common.model import read_metadata

ROWS, MIX, REST, HEADER = " rows", " mix", " rest", " header"
STEP = 4096
"""Steps of a mix's 1."""
ONE = 127
"""The column that stands for a constant."""
NONE = -(2**31)
"""In place of a step: this row has none in the base."""
ROWS_AT_ONCE = 2**14
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class Prediction(BaseModel):
    """What a tensor of the result is predicted by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: bool
    """By the tensor of that name in the base."""
    within: str | None
    """By an earlier tensor of the result."""


class DeltaHeader(BaseModel):
    """What a delta says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: str
    """SHA-256 of the unpacked model it starts from."""
    result: str
    """SHA-256 of what it makes."""
    tensors: tuple[Prediction, ...]
    """In the order they are made."""


def apply_delta(base: bytes, delta: bytes, *, most: int) -> bytes:
    """What a delta makes of its base.

    Args:
        base: an unpacked compact model.
        delta: what `make_delta` made.
        most: bytes that the delta, unpacked, and what it makes may have; more is refused before it is made.

    Raises:
        IntegrityError: another base, not a delta, a damaged one, or a larger one.
    """
    plain = inflated(delta, most=most, noun="a delta")
    try:
        parts, header = safetensors.numpy.load(plain), DeltaHeader.model_validate(read_metadata(plain))
        if header.base != digest(base):
            raise IntegrityError(f"a delta must be from {header.base}, got the base {digest(base)}")
        made = _made(safetensors.numpy.load(base), parts, header, most)
    except PalateError:
        raise
    except (safetensors.SafetensorError, ValidationError, KeyError, ValueError, TypeError, IndexError, RecursionError):
        raise IntegrityError(f"a delta must be a Palate safetensors file, got {len(delta)} other bytes") from None
    if digest(made) != header.result:
        raise IntegrityError("a delta must make what it says, and does not")
    return made


def _made(old: Mapping[str, Array], parts: Mapping[str, Array], header: DeltaHeader, most: int) -> bytes:
    """The result's bytes; whatever is amiss is one of many errors."""
    head = parts[HEADER].tobytes()
    facts: dict[str, Any] = json.loads(head[8:])
    facts.pop("__metadata__", None)
    end = max(int(each["data_offsets"][1]) for each in facts.values())
    if not 0 <= end <= most - len(head) or {each.name for each in header.tensors} != set(facts):
        raise ValueError("a size, or names, that can't be")
    data, new = bytearray(end), dict[str, Array]()
    for each in header.tensors:
        begin, stop = facts[each.name]["data_offsets"]
        kind, shape = np.dtype(_DTYPES[facts[each.name]["dtype"]]), tuple(map(int, facts[each.name]["shape"]))
        if (
            not 0 <= begin <= stop <= end
            or min(shape, default=0) < 0
            or stop - begin != math.prod(shape) * kind.itemsize
        ):
            raise ValueError("a place that can't be")
        rest = _joined(parts[each.name + REST], kind.itemsize, math.prod(shape))
        words = WORDS[kind.itemsize]
        guess = _guess(each, old, new, parts, kind, shape).reshape(-1).view(words)
        new[each.name] = (guess + rest).astype(words).view(kind).reshape(shape)
        data[begin:stop] = new[each.name].tobytes()
    return head + bytes(data)


_DTYPES = {"I8": "<i1", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "<u1", "BOOL": "?"}


def _guess(
    how: Prediction,
    old: Mapping[str, Array],
    new: Mapping[str, Array],
    parts: Mapping[str, Array],
    kind: np.dtype[Any],
    shape: tuple[int, ...],
) -> Array:
    """A tensor as it is predicted."""
    sources = list[tuple[Array, Array | None]]()
    if how.base:
        steps = parts.get(how.name + ROWS)
        sources.append((old[how.name], None if steps is None else _from_steps(steps)))
    if how.within is not None:
        sources.append((new[how.within], None))
    mix = parts.get(how.name + MIX)
    if mix is not None:
        return mixed(sources, mix, shape)
    if not sources:
        return np.zeros(shape, kind)
    guess = taken(*sources[0], shape[0])
    if (guess.dtype, guess.shape) != (kind, shape):
        raise ValueError("a prediction of another shape")
    return guess


def mixed(sources: Sequence[tuple[Array, Array | None]], mix: Array, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """int8 [n, columns]: the sources' rows and a constant, times the mix, rounded."""
    width = 1 + sum(source.shape[1] for source, _ in sources)
    if mix.dtype != np.int16 or len(shape) != 2 or mix.shape != (width, shape[1]):
        raise ValueError("a mix of another shape")
    made = np.empty(shape, np.int8)
    for first in range(0, shape[0], ROWS_AT_ONCE):
        part = slice(first, min(first + ROWS_AT_ONCE, shape[0]))
        columns = columns_of(sources, part, shape[0])
        made[part] = np.clip(np.floor(columns @ mix.astype(np.float64) / STEP + 0.5), -128, 127)
    return made


def columns_of(sources: Sequence[tuple[Array, Array | None]], part: slice, n: int) -> npt.NDArray[np.float64]:
    """Whole numbers as float64 [rows of the part, columns of the sources and one more]."""
    blocks = list[Array]()
    for source, rows in sources:
        if source.dtype != np.int8:
            raise ValueError("a table of another type")
        chosen = None if rows is None else rows[part]
        blocks.append(source[part] if chosen is None else taken(source, chosen, len(chosen)))
        if len(source if rows is None else rows) != n:
            raise ValueError("rows of another number")
    blocks.append(np.full((part.stop - part.start, 1), ONE, np.int8))
    return np.concatenate(blocks, axis=1).astype(np.float64)


def taken(source: Array, rows: Array | None, n: int) -> Array:
    """A source's rows; zeros where it has none."""
    if rows is None:
        return source
    if len(rows) != n or (n and int(rows.max()) >= len(source)):
        raise ValueError("rows that can't be")
    taken = np.zeros((n, *source.shape[1:]), source.dtype)
    taken[rows >= 0] = source[rows[rows >= 0]]
    return taken


def _from_steps(steps: Array) -> npt.NDArray[np.int64]:
    """What `_to_steps` made of rows."""
    if steps.dtype != np.int32 or steps.ndim != 1:
        raise ValueError("steps of another type")
    there = steps != NONE
    rows = np.full(len(steps), -1, np.int64)
    rows[there] = np.cumsum(steps[there].astype(np.int64) + 1) - 1
    if (rows[there] < 0).any():
        raise ValueError("rows that can't be")
    return rows


def _joined(rest: Array, size: int, n: int) -> Array:
    """What `_split` took apart."""
    if rest.dtype != np.uint8 or rest.shape != (size, n):
        raise ValueError("a rest of another shape")
    return np.ascontiguousarray(rest.T).reshape(-1).view(WORDS[size])
