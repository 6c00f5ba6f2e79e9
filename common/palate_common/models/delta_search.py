"""Delta search: on the server, make a small delta between two published models.

    base, result -> every encoding of each tensor -> the one that compresses best -> a delta

Each tensor is encoded as it is; minus the base's rows of the same items; and, if it is a table, minus its least-squares
prediction from these rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from palate_common.models.delta import (
    HEADER,
    MIX,
    NONE,
    REST,
    ROWS,
    ROWS_AT_ONCE,
    STEP,
    WORDS,
    Array,
    Bytes,
    DeltaHeader,
    predict,
    sources,
)
from palate_common.models.model import METADATA_KEY
from palate_core.log.canonical import canonical_json, digest


def make_delta(base: bytes, result: bytes, *, base_items: Sequence[str], items: Sequence[str]) -> bytes:
    """The delta between two unpacked compact models.

    Args:
        base: the model that devices have.
        result: the model that they are to have.
        base_items: ids of the base's rows.
        items: ids of the result's rows.
    """
    old, new = safetensors.numpy.load(base), safetensors.numpy.load(result)
    head = 8 + int.from_bytes(result[:8], "little")
    parts: dict[str, Array] = {HEADER: np.frombuffer(result[:head], np.uint8)}
    found = list[str]()
    for name, array in sorted(new.items()):
        rows = _rows(name, old, new, base_items, items)
        chosen = min(_choices(name, array, old.get(name), rows), key=lambda choice: len(_pack(choice[1])))
        found += [name] if chosen[0] else []
        parts |= chosen[1]
    header = DeltaHeader(base=digest(base), result=digest(result), predicted=tuple(found))
    return _pack(parts, {METADATA_KEY: canonical_json(header.model_dump(mode="json")).decode()})


def _choices(
    name: str, array: Array, base: Array | None, rows: Array | None
) -> Iterable[tuple[bool, dict[str, Array]]]:
    """Each encoding of a tensor: whether the base predicts it, and the parts it needs."""
    bits = np.ascontiguousarray(array).reshape(-1).view(WORDS[array.dtype.itemsize])
    yield False, {name + REST: _split_words(bits)}
    if base is None or not array.ndim or base.ndim != array.ndim or base.dtype != array.dtype:
        return
    if rows is None and len(base) != len(array):
        return
    mapped: dict[str, Array] = {} if rows is None else {name + ROWS: _to_steps(rows)}
    mixes: list[Array | None] = [None] if base.shape[1:] == array.shape[1:] else []
    if array.dtype == np.int8 and array.ndim == 2:
        mixes.append(_best_mix(base, rows, array))
    for mix in mixes:
        guess = predict(base, rows, mix, array.shape).reshape(-1).view(bits.dtype)
        yield True, {name + REST: _split_words(bits - guess), **mapped, **({} if mix is None else {name + MIX: mix})}


def _best_mix(base: Array, rows: Array | None, array: Array) -> npt.NDArray[np.int16]:
    """The least-squares matrix from the base's rows to the table, in steps."""
    width = base.shape[1] + 1
    gram, products = np.eye(width), np.zeros((width, array.shape[1]))
    for first in range(0, len(array), ROWS_AT_ONCE):
        part = slice(first, min(first + ROWS_AT_ONCE, len(array)))
        columns = sources(base, rows, part)
        gram, products = gram + columns.T @ columns, products + columns.T @ array[part].astype(np.float64)
    found = np.rint(np.linalg.solve(gram, products) * STEP)
    mix: npt.NDArray[np.int16] = np.clip(found, -(2**15), 2**15 - 1).astype(np.int16)
    return mix


def _rows(
    name: str, old: Mapping[str, Array], new: Mapping[str, Array], base_items: Sequence[str], items: Sequence[str]
) -> Array | None:
    """For each row of a tensor, the base's row of the same item, -1 where there is none; None: the same rows."""
    array, base = new[name], old.get(name)
    if base is None or not base.ndim or not array.ndim:
        return None
    ids, had = list(items), list(base_items)
    if len(array) != len(ids) or len(base) != len(had):
        ids, had = ([named[int(row)] for row in state.get("head", ())] for named, state in ((items, new), (had, old)))
        if len(array) != len(ids) or len(base) != len(had):
            return None
    place = {item: row for row, item in enumerate(had)}
    rows = np.array([place.get(item, -1) for item in ids], np.int64)
    return None if len(had) == len(ids) and (rows == np.arange(len(rows))).all() else rows


def _to_steps(rows: Array) -> npt.NDArray[np.int32]:
    """Encode each row by its difference from the row after the previous one: mostly zeros."""
    steps, following = np.full(len(rows), NONE, np.int64), 0
    for place, row in enumerate(rows.tolist()):
        if row >= 0:
            steps[place], following = row - following, row + 1
    return steps.astype(np.int32)


def _split_words(words: Array) -> Bytes:
    """Encode words as all first bytes, then all second bytes, and so on, which compresses better."""
    plain = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), words.itemsize)
    return np.ascontiguousarray(plain.T)


def _pack(parts: Mapping[str, Array], metadata: dict[str, str] | None = None) -> bytes:
    """The parts as a compressed file, by the zlib strategy that makes it smallest."""
    plain = safetensors.numpy.save({name: np.ascontiguousarray(part) for name, part in parts.items()}, metadata)
    packed = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        packed.append(packer.compress(plain) + packer.flush())
    return min(packed, key=len)
