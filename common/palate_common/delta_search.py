"""Delta search: the smallest delta between two published models that this module knows to make. The server's side.

    base, result -> every way to predict each tensor -> the one whose rest deflates best -> a delta

Each tensor is tried by itself: as it is; less the base's rows of the same items; and, a table, less its least squares
on the base's rows, on a table before it, or on both.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from palate_common.canonical import canonical_json, digest
from palate_common.delta import (
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
    Prediction,
    columns_of,
    mixed,
    taken,
)
from palate_common.model import METADATA_KEY


def make_delta(base: bytes, result: bytes, *, base_items: Sequence[str], items: Sequence[str]) -> bytes:
    """The delta between two unpacked compact models.

    Args:
        base: what devices have.
        result: what they are to have.
        base_items: ids of the base's rows.
        items: ids of the result's rows.
    """
    old, new = safetensors.numpy.load(base), safetensors.numpy.load(result)
    head = 8 + int.from_bytes(result[:8], "little")
    parts: dict[str, Array] = {HEADER: np.frombuffer(result[:head], np.uint8)}
    tensors = list[Prediction]()
    for name, array in sorted(new.items()):
        rows = _rows(name, old, new, base_items, items)
        choices = list(_choices(name, array, old, rows, {each.name: new[each.name] for each in tensors}))
        prediction, chosen = min(choices, key=lambda choice: len(_packed(choice[1])))
        tensors.append(prediction)
        parts |= chosen
    header = DeltaHeader(base=digest(base), result=digest(result), tensors=tuple(tensors))
    return _packed(parts, {METADATA_KEY: canonical_json(header.model_dump(mode="json")).decode()})


def _choices(
    name: str, array: Array, old: Mapping[str, Array], rows: Array | None, new: Mapping[str, Array]
) -> Iterable[tuple[Prediction, dict[str, Array]]]:
    """Every way that a tensor may be predicted, with the parts it needs."""
    words = WORDS[array.dtype.itemsize]
    bits = np.ascontiguousarray(array).reshape(-1).view(words)
    yield Prediction(name=name, base=False, within=None), {name + REST: _split(bits)}
    base = old.get(name) if array.ndim else None
    mapped: dict[str, Array] = {} if rows is None else {name + ROWS: _to_steps(rows)}
    fits = base is not None and base.dtype == array.dtype and base.shape[1:] == array.shape[1:]
    if base is not None and fits and (rows is not None or base.shape == array.shape):
        guess = taken(base, rows, len(array)).reshape(-1).view(words)
        yield Prediction(name=name, base=True, within=None), {name + REST: _split(bits - guess), **mapped}
    if array.dtype != np.int8 or array.ndim != 2:
        return
    usable = base is not None and base.dtype == np.int8 and base.ndim == 2
    has_base = usable and (rows is not None or (base is not None and len(base) == len(array)))
    beside = [
        each for each, other in new.items() if other.dtype == np.int8 and other.ndim == 2 and len(other) == len(array)
    ]
    for within in (None, *beside):
        for with_base in (False, True) if within else (True,):
            if with_base and (not has_base or base is None):
                continue
            sources = [(base, rows)] if with_base and base is not None else []
            sources += [(new[within], None)] if within else []
            mix = _best_mix(sources, array)
            rest = {name + REST: _split(bits - mixed(sources, mix, array.shape).reshape(-1).view(words))}
            made = rest | {name + MIX: mix} | (mapped if with_base else {})
            yield Prediction(name=name, base=with_base, within=within), made


def _best_mix(sources: Sequence[tuple[Array, Array | None]], array: Array) -> npt.NDArray[np.int16]:
    """The least squares of the table on its sources, in steps."""
    width, n = 1 + sum(source.shape[1] for source, _ in sources), len(array)
    gram, products = np.eye(width), np.zeros((width, array.shape[1]))
    for first in range(0, n, ROWS_AT_ONCE):
        part = slice(first, min(first + ROWS_AT_ONCE, n))
        columns = columns_of(sources, part, n)
        gram, products = gram + columns.T @ columns, products + columns.T @ array[part].astype(np.float64)
    found = np.linalg.solve(gram, products)
    mix: npt.NDArray[np.int16] = np.clip(np.rint(found * STEP), -(2**15), 2**15 - 1).astype(np.int16)
    return mix


def _rows(
    name: str, old: Mapping[str, Array], new: Mapping[str, Array], base_items: Sequence[str], items: Sequence[str]
) -> Array | None:
    """For each row of a tensor, the base's row of the same item, -1 where there is none; None: they are the same."""
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
    """Rows as what is left of them when the next one follows the last: mostly zeros."""
    steps, following = np.full(len(rows), NONE, np.int64), 0
    for place, row in enumerate(rows.tolist()):
        if row >= 0:
            steps[place], following = row - following, row + 1
    return steps.astype(np.int32)


def _split(words: Array) -> Bytes:
    """Words as their first bytes, then their second bytes, and so on: like beside like."""
    plain = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    return np.ascontiguousarray(plain.T)


def _packed(parts: Mapping[str, Array], metadata: dict[str, str] | None = None) -> bytes:
    """Parts as a deflated file, by the strategy that makes it smallest."""
    plain = safetensors.numpy.save({name: np.ascontiguousarray(part) for name, part in parts.items()}, metadata)
    packed = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        packed.append(packer.compress(plain) + packer.flush())
    return min(packed, key=len)
