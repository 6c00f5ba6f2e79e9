"""A delta makes the next model bit for bit, from its own base alone, and what is wrong with it costs nothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.parts.links import Links
from palate_common.models.compact import compact, expand_unpacked, inflate
from palate_common.models.delta import HEADER, MIX, REST, ROWS, DeltaHeader, apply_delta
from palate_common.models.delta_search import make_delta
from palate_common.models.model import METADATA_KEY, GlobalModel, ModelHeader, catalogue_hash, read_metadata
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json, digest

MOST = 10**7
Ids = tuple[str, ...]


def ids(n: int, first: int = 0) -> Ids:
    return tuple(f"item-{row}" for row in range(first, first + n))


def unpacked(state: dict[str, Any], items: Ids) -> bytes:
    """A compact model before it is deflated."""
    facts = PublicFacts(n_users=9, n_items=len(items), mu=1.0)
    header = ModelHeader(algorithm="als", settings={}, facts=facts, releases=2, catalogue=catalogue_hash(items))
    return inflate(compact(GlobalModel(header, state)), most=MOST, noun="a model")


def tables(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def header_of(delta: bytes) -> DeltaHeader:
    return DeltaHeader.model_validate(read_metadata(inflate(delta, most=MOST, noun="a delta")))


def test_a_delta_makes_the_result_bit_for_bit(trained: Callable[..., GlobalModel]) -> None:
    first, second = trained(), trained(features=True)
    old, new = (inflate(compact(model), most=MOST, noun="a model") for model in (first, second))
    items = ids(60)
    delta = make_delta(old, new, base_items=items, items=items)
    made = apply_delta(old, delta, most=MOST)
    assert made == new
    assert expand_unpacked(made, most=MOST).header == second.header
    assert make_delta(old, new, base_items=items, items=items) == delta


def test_directions_that_turned_are_predicted_by_those_they_were() -> None:
    """A rotation, other signs and other scales are the same model to a user: little is left of it."""
    table, rng = tables(2000, 16), np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0] * rng.uniform(0.5, 2, 16)
    items = ids(2000)
    old, new = (unpacked({"basis": each.astype(np.float32)}, items) for each in (table, table @ turn))
    delta = make_delta(old, new, base_items=items, items=items)
    assert apply_delta(old, delta, most=MOST) == new
    assert len(delta) < 0.4 * len(zlib.compress(new, 9))
    assert "basis" in header_of(delta).predicted


def test_rows_follow_their_items_through_another_catalogue() -> None:
    table, chosen = tables(1000, 8), np.sort(np.random.default_rng(2).permutation(1000)[:900])
    before, after = ids(1000), (*(f"item-{row}" for row in chosen), *ids(50, 5000))
    grown = np.concatenate([table[chosen], tables(50, 8, seed=3)])
    old, new = unpacked({"basis": table}, before), unpacked({"basis": grown}, after)
    delta = make_delta(old, new, base_items=before, items=after)
    assert apply_delta(old, delta, most=MOST) == new
    assert len(delta) < 0.4 * len(zlib.compress(new, 9))


def test_rows_of_a_head_follow_the_items_it_names() -> None:
    items, rng = ids(3000), np.random.default_rng(4)
    table, head = tables(3000, 8), [np.sort(rng.permutation(3000)[:n]).astype(np.int32) for n in (2500, 2600)]
    old, new = (unpacked({"basis": table[rows], "head": rows}, items) for rows in head)
    delta = make_delta(old, new, base_items=items, items=items)
    assert apply_delta(old, delta, most=MOST) == new
    assert len(delta) < 0.6 * len(zlib.compress(new, 9))


def test_links_that_stay_cost_little_and_those_that_change_no_more_than_they_are() -> None:
    items, rng = ids(3000), np.random.default_rng(6)
    head = np.sort(rng.permutation(3000)[:400]).astype(np.int32)
    drawn = rng.normal(size=(2, 400, 400))
    few = np.where(rng.random((400, 1)) < 0.1, drawn[1], drawn[0])  # one list in ten is another
    models = [Links.strongest(head, each.copy(), most=64).state("pairs") for each in (*drawn, few)]
    old, other, near = (unpacked({"head": head, **state}, items) for state in models)
    sizes = []
    for new in (other, near):
        delta = make_delta(old, new, base_items=items, items=items)
        assert apply_delta(old, delta, most=MOST) == new
        sizes.append(len(delta) / len(zlib.compress(new, 9)))
    assert sizes[0] < 1.05
    assert sizes[1] < 0.25


@given(
    n=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    width=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 2**32 - 1),
    common=st.integers(0, 6),
)
@settings(deadline=None, max_examples=60)
def test_any_two_models_have_a_delta(n: tuple[int, int], width: tuple[int, int], seed: int, common: int) -> None:
    rng, made, items = np.random.default_rng(seed), [], [ids(n[0]), ids(n[1], common)]
    for size, columns, named in zip(n, width, items, strict=True):
        state = {
            "counts": rng.normal(size=size).astype(np.float32),
            "basis": rng.normal(size=(size, columns)).astype(np.float32),
            "head": np.arange(size, dtype=np.int32),
            "long": rng.integers(-(2**62), 2**62, 2),
            "double": rng.normal(size=()),
            "nothing": np.zeros((0, columns), np.float32),
        }
        made.append(unpacked(state, named))
    delta = make_delta(*made, base_items=items[0], items=items[1])
    assert apply_delta(made[0], delta, most=MOST) == made[1]


@pytest.fixture
def pair() -> tuple[bytes, bytes]:
    """A base and a delta that uses it."""
    items, table = ids(40), tables(40, 4)
    old = unpacked({"counts": np.arange(40, dtype=np.float32), "basis": table}, items)
    new = unpacked({"counts": np.arange(39, dtype=np.float32), "basis": table[1:]}, items[1:])
    return old, make_delta(old, new, base_items=items, items=items[1:])


def test_another_base_is_refused(pair: tuple[bytes, bytes]) -> None:
    old, delta = pair
    with pytest.raises(IntegrityError, match=r"\Aa delta must be from [0-9a-f]{64}, got the base [0-9a-f]{64}\Z"):
        apply_delta(old[:-1] + bytes([old[-1] ^ 1]), delta, most=MOST)


def test_every_changed_byte_is_refused(pair: tuple[bytes, bytes]) -> None:
    old, delta = pair
    plain = inflate(delta, most=MOST, noun="a delta")
    for place in range(len(plain)):
        changed = bytearray(plain)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            apply_delta(old, zlib.compress(bytes(changed)), most=MOST)
    for broken in (b"", delta[:-1], delta + b"x", delta[: len(delta) // 2], b"x" * 100):
        with pytest.raises(IntegrityError):
            apply_delta(old, broken, most=MOST)


def test_a_bomb_is_refused_before_it_is_unpacked(pair: tuple[bytes, bytes]) -> None:
    bomb = zlib.compress(b"\0" * 10**8, 9)
    assert len(bomb) < 200_000
    with pytest.raises(IntegrityError, match="at most 1000 bytes unpacked"):
        apply_delta(pair[0], bomb, most=1000)


def lying(pair: tuple[bytes, bytes], changes: dict[str, Any], header: dict[str, Any] | None = None) -> bytes:
    """A delta that says something else of its parts."""
    plain = inflate(pair[1], most=MOST, noun="a delta")
    parts = {**safetensors.numpy.load(plain), **changes}
    said = {**header_of(pair[1]).model_dump(mode="json"), **(header or {})}
    kept = {name: part for name, part in parts.items() if part is not None}
    return zlib.compress(safetensors.numpy.save(kept, {METADATA_KEY: canonical_json(said).decode()}))


def claimed(pair: tuple[bytes, bytes], **facts: Any) -> np.ndarray:
    """The result's own header with another claim for the table."""
    head = safetensors.numpy.load(inflate(pair[1], most=MOST, noun="a delta"))[HEADER].tobytes()
    said = json.loads(head[8:])
    said["basis"] |= facts
    text = json.dumps(said).encode()
    return np.frombuffer(len(text).to_bytes(8, "little") + text, np.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {"basis" + ROWS: np.full(39, 10**6, np.int32)},
        {"basis" + ROWS: np.full(39, -5, np.int32)},
        {"basis" + ROWS: np.zeros(38, np.int32)},
        {"basis" + ROWS: np.zeros(39, np.int64)},
        {"basis" + MIX: np.zeros((4, 4), np.int16)},
        {"basis" + MIX: np.zeros((5, 4), np.int32)},
        {"basis" + MIX: np.zeros((10**6, 4), np.int16)},
        {"basis" + REST: np.zeros((1, 155), np.uint8)},
        {"basis" + REST: np.zeros((2, 78), np.uint8)},
        {"basis" + REST: np.zeros(156, np.float32)},
        {"basis" + REST: None},
        {HEADER: np.zeros(3, np.uint8)},
        {HEADER: np.frombuffer(b"\x02" + b"\0" * 7 + b"{}", np.uint8)},
        {HEADER: np.frombuffer(b"[" * 5000, np.uint8)},
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(pair: tuple[bytes, bytes], changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        apply_delta(pair[0], lying(pair, changes), most=MOST)


@pytest.mark.parametrize(
    "facts",
    [
        {"data_offsets": [0, 10**10]},
        {"data_offsets": [-10, 146]},
        {"data_offsets": [10**9, 10**9 + 156]},
        {"shape": [-39, -4]},
        {"shape": [10**12, 0]},
        {"shape": [2_500_000_000, 4], "data_offsets": [0, 10**10]},
        {"dtype": "F8_E4M3"},
        {"dtype": "I64"},
    ],
    ids=str,
)
def test_a_claim_that_its_bytes_do_not_bear_out_is_refused(pair: tuple[bytes, bytes], facts: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        apply_delta(pair[0], lying(pair, {HEADER: claimed(pair, **facts)}), most=MOST)


@pytest.mark.parametrize("head", [b"5", b'"text"', b'{"basis": {"data_offsets": [0, 1e999]}}', b"{}"], ids=str)
def test_a_head_that_is_none_is_refused(pair: tuple[bytes, bytes], head: bytes) -> None:
    with pytest.raises(IntegrityError):
        apply_delta(pair[0], lying(pair, {HEADER: np.frombuffer(bytes(8) + head, np.uint8)}), most=MOST)


@pytest.mark.parametrize(
    "header",
    [
        {"format": 2},
        {"result": digest(b"another")},
        {"predicted": []},
        {"predicted": ["basis", "counts", "counts scale"]},
        {"predicted": "basis"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(pair: tuple[bytes, bytes], header: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        apply_delta(pair[0], lying(pair, {}, header), most=MOST)
