import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, DenseBlock, DenseSteps, Update
from palate_common.rounds.wire import MAX_USERS, REFUSED, ContributionHeader, decode, dtype_for, encode, packed_bytes
from palate_core.errors import IntegrityError
from palate_core.layout import MAX_GRID, BlockSpec
from palate_core.log.canonical import canonical_json
from palate_core.noise_share import ClearSum

HASH = "ab" * 32


def header(users: int = 1, size: int = 3, **changes: object) -> ContributionHeader:
    fields = {"run": "r", "round": 0, "attempt": 0, "plan_hash": HASH, "users": users, "rejected": 0, "size": size}
    return ContributionHeader.model_validate({**fields, **changes})


def clipped(rows: object, grid: int) -> ClippedUpdate:
    values = np.atleast_2d(np.asarray(rows, np.int64))
    return ClippedUpdate((DenseSteps(values),), np.ones(len(values), np.bool_), grid)


def written(sent: ContributionHeader, batch: ClippedUpdate) -> bytes:
    return encode(sent, ClearSum(batch.total(), batch.users), grid=batch.grid)


def message(fields: object, payload: bytes) -> bytes:
    text = canonical_json(fields)
    return len(text).to_bytes(4, "big") + text + payload


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 9), st.sampled_from((1, 100, 2**14, MAX_GRID)))
def test_what_is_encoded_is_decoded_exactly(seed: int, n_users: int, size: int, grid: int) -> None:
    values = np.random.default_rng(seed).normal(size=(n_users, size))
    layout = (BlockSpec(name="x", shape=(size,), weight=1.0),)
    batch = clip(Update((DenseBlock(values),), n_users), layout, clip_norm=1.0, grid=grid)
    sent = header(n_users, size)
    got = decode(encode(sent, ClearSum(batch.total(), n_users), grid=grid), grid=grid)
    assert got.header == sent
    assert got.total.dtype == np.int64
    assert got.total.tolist() == batch.total().tolist()


@pytest.mark.parametrize(
    ("users", "grid", "width"), [(31, MAX_GRID, 4), (32, MAX_GRID, 8), (2**31 - 1, 1, 4), (2**31, 1, 8), (1, 1, 4)]
)
def test_numbers_take_four_bytes_up_to_where_a_sum_fits_them(users: int, grid: int, width: int) -> None:
    assert dtype_for(users, grid).itemsize == width
    assert dtype_for(users, grid).str[0] in "<|"


@pytest.mark.parametrize(("users", "sign"), [(31, 1), (31, -1), (32, 1), (32, -1)])
def test_sums_at_the_bound_pass_on_both_sides_of_32_bits(users: int, sign: int) -> None:
    batch = clipped([[sign * MAX_GRID, 0, 0]] * users, MAX_GRID)
    assert decode(written(header(users), batch), grid=MAX_GRID).total.tolist() == [sign * users * MAX_GRID, 0, 0]


def test_how_long_a_message_is_tells_nothing_of_its_numbers() -> None:
    few, many = (len(written(header(40), clipped([row] * 40, MAX_GRID))) for row in ([0, 0, 0], [MAX_GRID, 0, 0]))
    assert few == many


@pytest.mark.parametrize("grid", [1, 100, 2**14, 2**20, MAX_GRID])
def test_a_single_contribution_one_above_the_bound_is_refused_exactly(grid: int) -> None:
    assert decode(written(header(), clipped([grid, 0, 0], grid)), grid=grid).total[0] == grid
    for above in ([grid, 1, 0], [-grid, 0, -1], [grid + 1, 0, 0], [grid, grid, grid]):
        with pytest.raises(IntegrityError, match="must have norm <="):
            decode(written(header(), clipped(above, grid)), grid=grid)


def test_a_sum_above_what_its_users_can_reach_is_refused() -> None:
    with pytest.raises(IntegrityError, match="a sum of 3 contributions must have norm <= 300 steps"):
        decode(written(header(3), clipped([[301, 0, 0]], 100)), grid=100)
    with pytest.raises(IntegrityError, match="must have norm"):
        decode(message(header().model_dump(), np.array([-(2**31), 0, 0], "<i4").tobytes()), grid=2**20)
    extreme = np.array([-(2**63), 2**63 - 1, 0], "<i8").tobytes()
    with pytest.raises(IntegrityError, match="must have norm"):
        decode(message(header(MAX_USERS).model_dump(), extreme), grid=MAX_GRID)


def test_every_truncation_and_every_extension_is_refused() -> None:
    data = written(header(), clipped([1, -2, 3], 100))
    for end in range(len(data)):
        with pytest.raises(IntegrityError):
            decode(data[:end], grid=100)
    with pytest.raises(IntegrityError, match="must hold 3 numbers of int32, got 13 bytes"):
        decode(data + b"\0", grid=100)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(data, grid=100)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_still_a_possible_contribution(data: st.DataObject) -> None:
    sent = bytearray(written(header(), clipped([1, -2, 3], 100)))
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        got = decode(bytes(sent), grid=100)
    except IntegrityError:
        return
    assert sum(int(step) ** 2 for step in got.total) <= (got.header.users * 100) ** 2


@pytest.mark.parametrize(
    "changes",
    [
        {"users": 0},
        {"users": -1},
        {"users": MAX_USERS + 1},
        {"users": 10**400},
        {"users": 1.5},
        {"users": None},
        {"rejected": -1},
        {"rejected": 10**400},
        {"size": 0},
        {"size": -3},
        {"size": 2},
        {"size": 2**62},
        {"version": 2},
        {"round": "first"},
        {"extra": 1},
        {"run": 5},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    fields = {**header().model_dump(), **changes}
    text = json.dumps(fields, default=str).encode()
    with pytest.raises(IntegrityError):
        decode(len(text).to_bytes(4, "big") + text + bytes(12), grid=100)


@pytest.mark.parametrize("missing", list(header().model_dump()))
def test_a_header_without_a_field_is_refused(missing: str) -> None:
    fields = {name: value for name, value in header().model_dump().items() if name != missing}
    if missing == "version":  # has a default
        assert decode(message(fields, bytes(12)), grid=100).header.version == 1
        return
    with pytest.raises(IntegrityError, match="must start with its header"):
        decode(message(fields, bytes(12)), grid=100)


def test_numbers_of_the_wrong_width_are_refused() -> None:
    with pytest.raises(IntegrityError, match="numbers of int32"):
        decode(message(header().model_dump(), np.array([1, 2, 3], "<i8").tobytes()), grid=100)
    with pytest.raises(IntegrityError, match="numbers of int64"):
        decode(message(header(64).model_dump(), np.array([1, 2, 3], "<i4").tobytes()), grid=MAX_GRID)


def test_a_refusal_is_no_contribution_and_an_update_has_no_way_out() -> None:
    with pytest.raises(IntegrityError):
        decode(REFUSED, grid=100)
    with pytest.raises(
        AttributeError
    ):  # no more has one that is clipped: only `in_the_clear` adds what the plan demands
        encode(header(), clipped([1, 2, 3], 100), grid=100)  # type: ignore[arg-type]  # what the test is about
    with pytest.raises(AttributeError):
        encode(header(), Update((DenseBlock(np.ones((1, 3))),), 1), grid=100)  # type: ignore[arg-type]  # what the test is about


@pytest.mark.parametrize(("coordinates", "grid", "expected"), [(1, 1, 1), (8, 2**20, 22), (3, 2**20, 9), (0, 4, 0)])
def test_packed_bytes_hold_every_coordinate_from_minus_grid_to_grid(coordinates, grid, expected):
    assert packed_bytes(coordinates, grid) == expected
    assert 2 ** (8 * expected) >= (2 * grid + 1) ** coordinates
