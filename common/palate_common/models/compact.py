"""Compact: a model for download, its tables in int8. A quarter of the size, or less.

    GlobalModel -> int8 tables, one scale a column; float16 vectors, one scale each -> safetensors -> deflate

A table's value is within half a step of what it was, a step being the column's largest magnitude / 127; a vector's is
within 1 / 2048 of itself, unless it is tiny beside the largest. What an algorithm names as `training_only` is left out:
nobody ranks by it, and a round brings its own model file. The metadata is the model's own, so that what is read
back is a `GlobalModel` like any other; its hash is another one, since its numbers are.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from palate_common.algorithms import State
from palate_common.errors import IntegrityError
from palate_common.models.model import METADATA_KEY, GlobalModel, read_model
from palate_common.records.canonical import canonical_json

SCALE = " scale"
"""An array's scales stand under its name with this behind it; no algorithm's array has a space in its name."""


def compact(model: GlobalModel) -> bytes:
    """The model as a small file."""
    return deflated(compact_unpacked(model))


def deflated(plain: bytes) -> bytes:
    """What `inflated` reads."""
    return zlib.compress(plain, 9)


def compact_unpacked(model: GlobalModel) -> bytes:
    """The same before it is deflated: what deltas lead to."""
    tensors: State = {}
    for name, array in sorted(model.state.items()):
        if name in model.algorithm.training_only:
            continue
        if array.ndim in (1, 2) and array.dtype == np.float32 and array.size:
            tensors[name], tensors[name + SCALE] = _rounded(array)
        else:
            tensors[name] = np.asarray(array, order="C")
    metadata = {METADATA_KEY: canonical_json(model.header.model_dump(mode="json")).decode()}
    plain: bytes = safetensors.numpy.save(tensors, metadata)
    return plain


def expand(data: bytes, *, most: int) -> GlobalModel:
    """Read a compact model.

    Args:
        data: what `compact` made.
        most: bytes it may take unpacked; more is refused before it is unpacked.

    Raises:
        IntegrityError: not a compact model, or larger.
    """
    return expand_unpacked(inflated(data, most=most, noun="a compact model"))


def inflated(data: bytes, *, most: int, noun: str) -> bytes:
    """What was deflated.

    Args:
        data: a zlib stream, and nothing behind it.
        most: bytes it may take; more is refused before it is unpacked.
        noun: what messages call it.

    Raises:
        IntegrityError: not such a stream, or a larger one.
    """
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, most)
    except zlib.error:
        raise IntegrityError(f"{noun} must be a deflated safetensors file, got something else") from None
    if not unpacker.eof or unpacker.unused_data:
        raise IntegrityError(f"{noun} must be whole and at most {most} bytes unpacked, got another")
    return plain


def expand_unpacked(plain: bytes) -> GlobalModel:
    """Read a compact model that is not deflated any more.

    Raises:
        IntegrityError: not a compact model.
    """
    header, tensors = read_model(plain)
    state: State = {}
    for name, array in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        if scale is None:
            state[name] = array
            continue
        stored = np.int8 if array.ndim == 2 else np.float16
        if array.dtype != stored or scale.dtype != np.float32 or scale.shape != (1, *array.shape[1:]):
            raise IntegrityError(f"{name!r} must be int8 with a scale a column, or float16 with one, got another")
        with np.errstate(over="ignore"):
            state[name] = array * scale
        if not np.isfinite(state[name]).all():
            raise IntegrityError(f"{name!r} must have scales it can bear, got too large ones")
    return GlobalModel(header, state)


def _rounded(array: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """A table in steps of its columns, or a vector as parts of its largest value, and the scales."""
    largest = np.abs(array).max(axis=0, keepdims=True)
    scale = (largest / 127 if array.ndim == 2 else largest).astype(np.float32)
    parts = np.divide(array, scale, out=np.zeros_like(array), where=scale > 0)
    if array.ndim == 1:
        return parts.astype(np.float16), scale
    return np.rint(np.clip(parts, -127, 127)).astype(np.int8), scale
