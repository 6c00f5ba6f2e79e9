"""Shapes: models and catalogues as bytes, small ones, and the differences between two."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.logs import floats, model_of
from palate_audit.answers.made.telling import as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_common.interactions import Interactions
from palate_common.models import delta, delta_search
from palate_common.models.catalogue import ItemCatalogue, lines, read_lines
from palate_common.models.compact import compact, compact_unpacked, deflated, expand, expand_unpacked, inflated, rounded
from palate_common.models.delta import apply_delta, predicted, sources, taken
from palate_common.models.delta_search import make_delta
from palate_common.models.model import (
    METADATA_KEY,
    GlobalModel,
    catalogue_hash,
    read_metadata,
    read_model,
    read_tensors,
)
from palate_core.log.canonical import canonical_json, digest

MOST = 2**20
Arrays = Mapping[str, Any]


def raw(arrays: Arrays) -> list[Any]:
    """Arrays to the last bit: no sum was rounded in them."""
    return [
        (name, each.dtype.str, each.shape, np.ascontiguousarray(each).tobytes())
        for name, each in sorted(arrays.items())
    ]


def ids(dice: Dice, n: int) -> tuple[str, ...]:
    """So many items."""
    first = dice.whole(0, 3)
    return tuple(f"item {k}" for k in range(first, first + n))


def rising(dice: Dice, n: int, width: int, most: int) -> Any:
    """Lists of rows that rise."""
    return (np.cumsum(dice.wholes(1, most, n * width).reshape(n, width), axis=1) - 1).astype(np.int32)


def some_state(dice: Dice, n: int) -> dict[str, Any]:
    """Arrays of all kinds that a state may have."""
    rows = dice.one_of((n, 1, 3))
    options = {
        "table": floats(dice, rows, dice.whole(1, 3)),
        "along": floats(dice, rows) / 3,
        "lists": rising(dice, rows, 3, dice.one_of((1, 9, 300, 80_000, 20_000_000))),
        "falling": rising(dice, rows, 3, 9)[:, ::-1].copy(),
        "below": rising(dice, rows, 2, 9) - 1,
        "deep": floats(dice, 2, 2, 2),
        "double": floats(dice, rows, 2).astype(np.float64),
        "marks": dice.wholes(0, 1, n).astype(np.uint8),
        "flags": dice.wholes(0, 1, n).astype(bool),
        "empty": np.zeros((0, 3), np.float32),
        "number": np.array(dice.whole(0, 9), np.int64),
        "large": np.array([3e38, -1e-30, 2e-5 * dice.whole(1, 9)], np.float32),
    }
    chosen = dice.some_of(list(options), 0.5)
    return {"counts": floats(dice, n), **{name: options[name] for name in chosen}}


def _catalogues(dice: Dice, answer: CaseAnswer) -> None:
    """Catalogues of all parts, good and bad."""
    n = dice.whole(0, 4)
    for _ in range(3):
        items = tuple(dice.one_of(("a", "b", f"c{k}", f"d{k}", "x\ny", "", "ü\r")) for k in range(n))
        domains = dice.one_of((None, None, ("books",) * n, ("books",) * (n + 1), ("bo\noks",) * n))
        new = dice.one_of(((), (), ("n",), ("a",), ("n", "m\n")))
        rows = dice.one_of((n + len(new), n + len(new), n, 1))
        features: Any = dice.one_of((None, np.zeros((rows, 2), np.float32), np.zeros(rows, np.float32)))
        found = tell_refusal(answer, ItemCatalogue, items, domains, new, features)
        answer.tell(found is not None, None if found is None else found.hash, found == ItemCatalogue(("a",)))
        written = lines(items)
        answer.tell(written, catalogue_hash(items))
        for data in (written, written[:-1], b"\n", b"\xff\n", b""):
            try:
                answer.tell(read_lines(data))
            except ValueError:
                answer.tell("none")


def _compact(dice: Dice, answer: CaseAnswer) -> None:
    """Models in int8, and what somebody makes of such a file."""
    n = dice.whole(2, 9)
    items = ids(dice, n)
    model = model_of(some_state(dice, n), items, dice.one_of(("popularity", "als")), dice.whole(0, 3))
    plain = compact_unpacked(model)
    tensors, entry = safetensors.numpy.load(plain), read_metadata(plain)
    answer.tell(raw(tensors), canonical_json(entry))
    packed = compact(model)
    answer.tell(zlib.decompress(packed) == plain, deflated(plain) == packed)
    back = expand(packed, most=MOST)
    answer.tell(raw(back.state), back.header == model.header)
    for most in (len(plain) - 1, len(plain), len(plain) + 1, 0):
        answer.tell(tell_refusal(answer, inflated, packed, most=most, noun="it") == plain)
    for wrong in (packed[:-3], packed + b"x", b"", b"x" * 9, packed[:5] + b"yyyy" + packed[9:]):
        tell_refusal(answer, expand, wrong, most=MOST)
    answer.tell([raw({"": part}) for part in rounded(floats(dice, *dice.one_of(((5, 2), (4,), (1, 1)))))])
    for name in dice.some_of(sorted(tensors), 0.7):
        array = np.atleast_1d(tensors[name])
        others = (
            array.astype(np.float32),
            array[:1],
            array.reshape(-1),
            np.concatenate([array, array]),
            np.clip(array, 0, 99).astype(np.uint8),
            np.clip(array, -99, 99).astype(np.int8),
            np.zeros((5, 2, 2), np.uint8),
            np.zeros((0, 2, 2), np.uint8),
            np.full((4, 2, 2), 255, np.uint8),
            np.full((4, 1, 1), 127, np.uint8),
            np.full_like(array, 100),
            np.full(array.shape, 3e38, np.float32),
            np.full((3, 2, 2), 255, np.uint8),
        )
        changed = {**tensors, name: dice.one_of(others)}
        if dice.chance(0.2):
            del changed[name]
        wrong = safetensors.numpy.save(changed, {METADATA_KEY: canonical_json(entry).decode()})
        found = tell_refusal(answer, expand_unpacked, wrong, most=dice.one_of((MOST, MOST, 64)))
        answer.tell(None if found is None else raw(found.state))


def _turned(dice: Dice, table: Any) -> Any:
    """A table that says the same in other directions, or another one."""
    match dice.whole(0, 4):
        case 0:
            return table
        case 1:
            return -table
        case 2:
            return table[:, ::-1].copy()
        case 3:
            return np.column_stack([table, table[:, 0] - table[:, -1]])
        case _:
            return floats(dice, *table.shape)


@mock.patch.multiple(zlib, compress=zlib.compress, compressobj=zlib.compressobj)
def _deltas(dice: Dice, answer: CaseAnswer) -> None:
    """From model to model, in real zlib's bytes, which decide what is tried: their number is told roughly."""
    n = dice.whole(18, 30)
    names = [f"item {k}" for k in range(60)]
    had = tuple(names[:n])
    kind = dice.whole(0, 3)
    gone = dice.whole(1, 5)
    items = (had, tuple(dice.shuffled(had)), (*had[gone:], *names[n : n + dice.whole(0, 6)]), had[: n - gone])[kind]
    place = {item: row for row, item in enumerate(had)}
    table, counts, heads = (dice.wholes(-127, 127, n * 3).reshape(n, 3) / 8).astype(np.float32), floats(dice, n), 12
    head = np.sort(np.array(dice.shuffled(range(n))[:heads])).astype(np.int32)
    rows = np.array([place.get(item, -1) for item in items])
    moved = np.where(rows[:, None] >= 0, table[rows], floats(dice, len(items), 3))
    lists = rising(dice, heads, 4, 6)
    old = {"counts": counts, "table": table, "head": head, "lists": lists, "tall": table[head], "was": counts}
    kept = np.array([row for row, item in enumerate(items) if place.get(item, -1) in head.tolist()], np.int32)
    new = {
        "counts": counts[rows],
        "table": _turned(dice, moved),
        "head": kept,
        "tall": -moved[kept],
        "new": floats(dice, 4),
        "lists": lists,
        "was": np.array(1.5, np.float64),
    }
    if dice.chance(0.3):
        new["table"] = new["table"].astype(np.float64)
    base, result = compact_unpacked(model_of(old, had)), compact_unpacked(model_of(new, items))
    with ExitStack() as stack:
        at_once = dice.one_of((7, 2**14))
        for owner in (delta, delta_search):
            stack.enter_context(mock.patch.object(owner, "ROWS_AT_ONCE", at_once))
        packed = make_delta(base, result, base_items=had, items=items)
        answer.tell(apply_delta(base, packed, most=MOST) == result)
        plain = inflated(packed, most=MOST, noun="it")
        parts, header = safetensors.numpy.load(plain), read_metadata(plain)
        answer.tell(
            header["predicted"], sorted(parts), header["base"] == digest(base), header["result"] == digest(result)
        )
        answer.tell([raw({name: each}) for name, each in sorted(parts.items()) if name.endswith(delta.ROWS)])
        answer.near(*[each for name, each in sorted(parts.items()) if name.endswith(delta.MIX)])
        most = max(len(plain), len(result))
        for limit in (len(plain) - 1, most - 1, most, most + 1):
            tell_refusal(answer, apply_delta, base, packed, most=limit)
        tell_refusal(answer, apply_delta, result, packed, most=MOST)
        _damaged(dice, answer, base, parts, header)


def _damaged(dice: Dice, answer: CaseAnswer, base: bytes, parts: Arrays, header: dict[str, Any]) -> None:
    """What somebody makes of a delta."""
    for _ in range(4):
        changed, said = dict(parts), dict(header)
        name = dice.one_of(sorted(changed))
        array = np.atleast_1d(changed[name])
        others = (
            array[:-1],
            array.astype(np.int64),
            np.vstack([array, array]),
            np.full_like(array, 100),
            array[::-1].copy(),
            array.reshape(1, -1),
            np.full_like(array, -3 if array.dtype.kind == "i" else 9),
        )
        changed[name] = dice.one_of(others)
        if dice.chance(0.2):
            del changed[name]
        match dice.whole(0, 5):
            case 0:
                said["predicted"] = dice.some_of([*header["predicted"], "counts", "other"], 0.6)
            case 1:
                said["more"] = 1
            case 2:
                said["result"] = "ab" * 32
            case 3:
                facts = json.loads(parts[delta.HEADER].tobytes()[8:])
                chosen = dice.one_of([each for each in facts if each != "__metadata__"])
                wrong: tuple[dict[str, Any], ...] = (
                    {"shape": [1, 2]},
                    {"dtype": "I64"},
                    {"data_offsets": [-4, 4]},
                    {"shape": [-1, -2]},
                    {"data_offsets": [0, 2**30]},
                    {"dtype": "no"},
                    {"data_offsets": [8, 0]},
                )
                facts[chosen].update(dice.one_of(wrong))
                head = json.dumps(facts).encode()
                changed[delta.HEADER] = np.frombuffer(len(head).to_bytes(8, "little") + head, np.uint8)
            case _:
                pass
        plain = safetensors.numpy.save(
            {key: np.ascontiguousarray(each) for key, each in changed.items()}, {METADATA_KEY: json.dumps(said)}
        )
        try:
            with mock.patch.object(delta, "MOST_HEADER", dice.one_of((2**21, 2**21, 2**21, 40))):
                answer.tell(apply_delta(base, zlib.compress(plain, 1), most=MOST))
        except Exception as error:
            answer.tell(type(error).__name__)


def _predictions(dice: Dice, answer: CaseAnswer) -> None:
    """Rows of a base, mixed and moved."""
    with mock.patch.object(delta, "ROWS_AT_ONCE", dice.one_of((2, 3, 2**14))):
        for _ in range(5):
            n, width = dice.whole(1, 7), dice.whole(1, 3)
            base = (
                dice.wholes(-128, 127, n * width)
                .reshape(n, width)
                .astype(dice.one_of((np.int8, np.int8, np.int8, np.int16)))
            )
            count = dice.whole(0, 6)
            rows = dice.one_of((None, dice.wholes(-1, n - 1, count), dice.wholes(0, n, count)))
            columns = dice.whole(1, 3)
            high = dice.one_of((600, 5000, 2**15 - 1))
            mix: Any = dice.wholes(-high, high, (width + 1) * columns).reshape(width + 1, columns).astype(np.int16)
            mix = dice.one_of((None, mix, mix, mix.astype(np.int32), mix[:-1]))
            length = dice.one_of((n, count)) if rows is None else dice.one_of((count, count, n))
            try:
                answer.tell(predicted(base, rows, mix, (length, columns)))
                answer.tell(taken(base, rows, length).tobytes())
                answer.tell(sources(base, rows, slice(0, length)).astype(np.int64))
            except (ValueError, IndexError) as error:
                answer.tell(type(error).__name__)


def _files(dice: Dice, answer: CaseAnswer) -> None:
    """Model files, their arrays and items in quarantine."""
    n = dice.whole(2, 6)
    items = ids(dice, n)
    state = some_state(dice, n)
    if dice.chance(0.6):
        marks = dice.wholes(0, 1, n).astype(np.uint8)
        state["quarantined"] = dice.one_of((marks, marks, marks, marks.astype(np.int8), marks[:-1], marks * 2))
    model = model_of(state, items)
    data = model.data
    answer.tell(raw(read_tensors(data)), canonical_json(read_metadata(data)), model.hash == digest(data))
    again = GlobalModel.from_bytes(data)
    answer.tell(again.data == data, again.hash == model.hash, again.header == model.header, raw(again.state))
    answer.tell(model.learns_ratings, raw(model.item_arrays), model.algorithm.name)
    users = Interactions.from_pairs([0, 0, 2], [0, 1, n - 1], n_users=3, n_items=n)
    for call in (lambda: model.quarantined, lambda: model.scores(users), lambda: model.expected_ratings(users)):
        found = tell_refusal(answer, call)
        answer.tell(None if found is None else raw({"": found}))
    entry = read_metadata(data)
    for _ in range(4):
        arrays, said = dict(state), dict(entry)
        name = dice.one_of(sorted(arrays))
        others = (
            np.array([np.nan, 1.0]),
            np.array([np.inf], np.float32),
            np.zeros((0, 10**7), np.float32),
            np.zeros((0, 3)),
            np.zeros(2, np.float16),
            np.zeros((2, 0, 5), np.int8),
        )
        arrays[name] = dice.one_of(others)
        for field in dice.some_of(sorted(said), 0.15):
            said[field] = dice.one_of((None, 2, "x", -1))
        if dice.chance(0.1):
            said["more"] = 1
        wrong = safetensors.numpy.save(arrays, {dice.one_of((METADATA_KEY, METADATA_KEY, "other")): json.dumps(said)})
        cut = dice.one_of(
            (
                wrong,
                wrong,
                wrong,
                wrong[:-1],
                wrong + b"x",
                b"",
                (2**21).to_bytes(8, "little"),
                (2**21 + 1).to_bytes(8, "little") + wrong[8:],
            )
        )
        tell_text(answer, lambda cut=cut: read_model(cut)[0].model_dump_json())
    answer.tell(as_text(catalogue_hash(items)))


SEAMS: tuple[Seam, ...] = (
    Seam("catalogues: items, domains, new items and features", _catalogues, 18),
    Seam("models: in int8, and damaged", _compact, 18),
    Seam("models: the difference of two, and damaged", _deltas, 12),
    Seam("models: rows of a base, mixed and moved", _predictions, 18),
    Seam("models: files, items in quarantine, and damaged", _files, 24),
)
