"""Compact model: a model for download with its tables in int8, a quarter of the size or less.

    GlobalModel -> int8 tables, one scale a column; float16 vectors, one scale each; gaps -> safetensors -> deflate

A table's value is within half a step of what it was, a step being the column's largest magnitude / 127; a vector's is
within 1 / 2048 of itself, unless it is tiny beside the largest. Lists of rising rows are kept exactly, as the gaps
between them, lowest bytes first, which compresses better. Arrays that the algorithm names as `training_only` are left
out: ranking doesn't need them, and a round sends its own model file. The metadata is the model's, so that reading gives
a `GlobalModel` like any other; its hash differs, as its numbers do.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from palate_common.algorithms import State
from palate_common.models.model import METADATA_KEY, GlobalModel, read_model
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json

SCALE, GAPS = " scale", " gaps"
"""Suffixes of the names under which an array's scales are stored, and the gaps of lists in place of the lists; no
algorithm's array has a space in its name."""


MOST_FIXED, MOST_EACH = 2**26, 2**14
"""Bytes of the largest model in memory: so many, and so many an item beside a number for each pair of items."""


def most_of(n_items: int) -> int:
    """Bytes of the largest model of a catalogue in memory: a signed one mustn't take what its items can't need."""
    return MOST_FIXED + n_items * (MOST_EACH + 4 * n_items)


def compact(model: GlobalModel) -> bytes:
    """The compact model file."""
    return deflate(compact_unpacked(model))


def deflate(plain: bytes) -> bytes:
    """The bytes, compressed by zlib."""
    return zlib.compress(plain, 9)


def compact_unpacked(model: GlobalModel) -> bytes:
    """The compact model before compression."""
    tensors: State = {}
    for name, array in sorted(model.state.items()):
        if name in model.algorithm.training_only:
            continue
        if array.ndim in (1, 2) and array.dtype == np.float32 and array.size:
            tensors[name], tensors[name + SCALE] = round_table(array)
        elif array.ndim == 2 and array.dtype == np.int32 and array.size and _rises(array, model.header.facts.n_items):
            tensors[name + GAPS] = _gaps(array)
        else:
            tensors[name] = np.asarray(array, order="C")
    metadata = {METADATA_KEY: canonical_json(model.header.model_dump(mode="json")).decode()}
    plain: bytes = safetensors.numpy.save(tensors, metadata)
    return plain


def expand(data: bytes, *, most: int) -> GlobalModel:
    """Read a compact model.

    Args:
        data: what `compact` made.
        most: largest size in bytes after decompression, and in memory; more is refused before it is decompressed.

    Raises:
        IntegrityError: not a compact model, or larger.
    """
    return expand_unpacked(inflate(data, most=most, noun="a compact model"), most=most)


def inflate(data: bytes, *, most: int, noun: str) -> bytes:
    """The decompressed bytes of a zlib stream.

    Args:
        data: a zlib stream, and nothing after it.
        most: largest size in bytes after decompression; more is refused before it is decompressed.
        noun: its name in error messages.

    Raises:
        IntegrityError: not such a stream, or a larger one.
    """
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, most)
    except zlib.error:
        raise IntegrityError(f"{noun} must be deflated by zlib, got something else") from None
    if not unpacker.eof or unpacker.unused_data:
        raise IntegrityError(f"{noun} must be whole and at most {most} bytes unpacked, got another")
    return plain


def expand_unpacked(plain: bytes, *, most: int) -> GlobalModel:
    """Read a compact model that has been decompressed.

    Which arrays there are is the affair of an algorithm, which may be an app's own: one that it doesn't know is no
    error, and counts like any other.

    Args:
        plain: its bytes.
        most: largest size in bytes of its numbers in memory, four each; more is refused before any is made.

    Raises:
        IntegrityError: not a compact model, or larger.
    """
    header, tensors = read_model(plain)
    n_items = header.facts.n_items
    n_bytes = 4 * sum(tensor.size // _planes(name, tensor) for name, tensor in tensors.items())
    most = min(most, most_of(n_items))
    if n_bytes > most:
        raise IntegrityError(f"a model of {n_items} items must take at most {most} bytes, got {n_bytes}")
    state: State = {}
    for name, array in tensors.items():
        if name.endswith(SCALE):
            continue
        if name.endswith(GAPS):
            state[name.removesuffix(GAPS)] = _from_gaps(name, array, n_items)
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


def round_table(array: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Round a table to int8 by column, or a vector to float16: the rounded numbers, and the scales."""
    largest = np.abs(array).max(axis=0, keepdims=True)
    scale = (largest / 127 if array.ndim == 2 else largest).astype(np.float32)
    parts = np.divide(array, scale, out=np.zeros_like(array), where=scale > 0)
    if array.ndim == 1:
        return parts.astype(np.float16), scale
    return np.rint(np.clip(parts, -127, 127)).astype(np.int8), scale


def _rises(lists: npt.NDArray[np.int32], n_items: int) -> bool:
    """Whether each list starts at 0 or above, rises, and ends at an item."""
    rises = (lists[:, 0] >= 0).all() and (lists[:, 1:] > lists[:, :-1]).all()
    return bool(rises and (lists[:, -1] < n_items).all())


def _gaps(lists: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """How many rows lie between each and the one before it: uint8 [bytes of the largest, lists, length]."""
    gaps = np.diff(lists.astype("<i4"), axis=1, prepend=np.int32(-1)) - np.int32(1)
    planes = np.ascontiguousarray(gaps).view(np.uint8).reshape(*gaps.shape, 4)
    width = max(1, (int(gaps.max()).bit_length() + 7) // 8)
    return np.ascontiguousarray(np.moveaxis(planes[..., :width], -1, 0))


def _planes(name: str, tensor: npt.NDArray[Any]) -> int:
    """How many of a tensor's elements become one."""
    return max(len(tensor), 1) if name.endswith(GAPS) and tensor.ndim else 1


def _from_gaps(name: str, planes: npt.NDArray[Any], n_items: int) -> npt.NDArray[np.int32]:
    """The inverse of `_gaps`, of lists of a catalogue's rows; nothing but the result is as large as it.

    Raises:
        IntegrityError: it is none.
    """
    if planes.dtype != np.uint8 or planes.ndim != 3 or not 1 <= len(planes) <= 4 or not planes.size:
        raise IntegrityError(f"{name!r} must be uint8, up to four bytes a gap, got another")
    lists: npt.NDArray[np.uint32] = np.zeros(planes.shape[1:], "<u4")
    for place, plane in enumerate(planes):
        lists.view(np.uint8).reshape(len(lists), -1, 4)[..., place] = plane
    # A sum that is above the catalogue for the first time is below twice its size, which fits: none comes round unseen.
    if n_items >= 2**31 or lists.shape[1] > n_items or lists.max() >= n_items:
        raise IntegrityError(f"{name!r} must lead to rows below {n_items}, got others")
    lists += 1
    np.cumsum(lists, axis=1, out=lists)
    if lists.max() > n_items:
        raise IntegrityError(f"{name!r} must lead to rows below {n_items}, got others")
    lists -= 1
    return lists.view("<i4").astype(np.int32, copy=False)
