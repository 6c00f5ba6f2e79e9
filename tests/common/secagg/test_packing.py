import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.masks.packing import PackedSum, pack, packed_bytes, residue_type, unpack


def slowly(values, bits):
    """The definition, with one big number."""
    number = sum((int(value) % 2**bits) << (place * bits) for place, value in enumerate(values))
    return number.to_bytes((len(values) * bits + 7) // 8, "little")


@pytest.mark.parametrize("bits", range(1, 65))
def test_round_trip_at_every_width(bits):
    rng = np.random.default_rng(bits)
    kind = residue_type(bits)
    # Around the pattern's and the step's edges.
    for size in (1, 2, 7, 8, 63, 64, 65, 1000):
        values = (
            rng.integers(0, 2**bits, size, dtype=np.uint64).astype(kind)
            if bits < 64
            else rng.bit_generator.random_raw(size)
        )
        packed = pack(values, bits)
        assert packed == slowly(values, bits)
        again = unpack(packed, size, bits)
        assert again.dtype == kind
        assert np.array_equal(again, values)


@pytest.mark.parametrize("bits", [1, 5, 20, 32, 33, 63, 64])
@pytest.mark.parametrize("size", [131_071, 131_072, 131_073, 300_007])
def test_round_trip_across_steps(bits, size):
    values = np.random.default_rng(size).bit_generator.random_raw(size) & np.uint64(2**bits - 1)
    values = values.astype(residue_type(bits))
    packed = pack(values, bits)
    assert len(packed) == packed_bytes(size, bits)
    assert np.array_equal(unpack(packed, size, bits), values)
    # The definition, at the end where steps could have shifted it.
    last = int.from_bytes(packed, "little") >> ((size - 1) * bits)
    assert last == int(values[-1])


@given(st.integers(1, 64), st.lists(st.integers(0, 2**64 - 1), max_size=70))
def test_packing_reduces(bits, numbers):
    kind = residue_type(bits)
    values = np.array(numbers, np.uint64).astype(kind)
    assert pack(values, bits) == slowly(values, bits)
    assert np.array_equal(unpack(pack(values, bits), len(values), bits), values & kind.type(2**bits - 1))


def test_one_spelling():
    for bits in range(1, 65):
        for size in range(1, 9):
            data = pack(np.ones(size, residue_type(bits)), bits)
            for place in range(size * bits, 8 * len(data)):
                padded = bytearray(data)
                padded[place // 8] |= 1 << place % 8
                with pytest.raises(IntegrityError, match="padding"):
                    unpack(bytes(padded), size, bits)
            for other in (data[:-1], data + b"\0"):
                with pytest.raises(IntegrityError, match="bytes"):
                    unpack(other, size, bits)


@pytest.mark.parametrize("bits", range(1, 65))
def test_same_as_unpacked(bits):
    kind = residue_type(bits)
    for size in (1, 65, 1000):
        rows = np.random.default_rng(bits).bit_generator.random_raw((9, size)).astype(kind)
        total = PackedSum(size, bits)
        for row in rows:
            total.add(memoryview(pack(row, bits)))
        assert total.values().dtype == kind
        assert np.array_equal(total.values(), rows.sum(axis=0, dtype=kind) & kind.type(2**bits - 1))


def test_all_or_nothing():
    total = PackedSum(3, 5)
    total.add(pack(np.array([1, 2, 3], np.uint32), 5))
    for broken in (b"\xff\xff", b"\xff" * 3, b"\xff\xff\x80"):
        with pytest.raises(IntegrityError):
            total.add(broken)
    assert total.values().tolist() == [1, 2, 3]
    total.values()[0] = 9
    assert total.values().tolist() == [1, 2, 3]


def test_nothing_packs_to_nothing():
    assert pack(np.zeros(0, np.uint32), 20) == b""
    assert unpack(b"", 0, 20).tolist() == []


def test_the_array_belongs_to_the_caller():
    for bits in (20, 32, 64):
        unpack(pack(np.ones(3, residue_type(bits)), bits), 3, bits)[0] = 5


@pytest.mark.parametrize("bits", [0, 65, -1, True, 2.0, "8"])
def test_widths_that_do_not_exist(bits):
    with pytest.raises(InputError, match="1 to 64"):
        pack(np.zeros(1, np.uint32), bits)
    with pytest.raises(InputError, match="1 to 64"):
        unpack(b"", 0, bits)


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (np.zeros(2, np.int64), 20),
        (np.zeros(2, np.uint64), 20),
        (np.zeros(2, np.uint32), 33),
        (np.zeros((2, 2), np.uint32), 20),
        (np.zeros(2), 20),
    ],
)
def test_other_types_and_shapes(values, bits):
    with pytest.raises(InputError, match="must be one row of"):
        pack(values, bits)
