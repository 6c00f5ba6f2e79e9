"""sums.json: how wide numbers are, sums modulo 2^bits, their packed bytes, and masks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from palate_common.rounds.wire import ContributionHeader, decode_share, dtype_for, encode_share, share_dtype
from palate_core.cohort_terms import modulus_bits
from palate_core.errors import InputError, IntegrityError
from palate_core.masks.masking import Masker
from palate_core.masks.packing import PackedSum, pack, residue_type, unpack
from palate_core.noise_share import ClearSum

BITS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 20, 24, 31, 32, 33, 40, 48, 52, 62)


def sums() -> dict[str, Any]:
    """How wide numbers are, sums modulo 2^bits, their packed bytes, and masks."""
    return {
        "says": "`bytes` is the width of a number on the wire. `rows` are what devices send, as signed numbers; "
        "`packed_hex` their residues modulo 2^bits, packed; `sum` the residues of the sum, `signed` the sum"
        " as signed numbers.",
        "widths": [_width(users, grid) for users, grid in _sent()],
        "shares": [_share_width(bits) for bits in (2, 16, 31, 32, 33, 48, 62)],
        "moduli": [_modulus(*case) for case in _moduli()],
        "sums": [_sum(says, bits, rows) for says, bits, rows in _rows()],
        "paddings": [_padding(bits, size, data) for bits, size, data in _paddings()],
        "masks": [_mask(bits, size) for bits in BITS for size in (1, 5)],
        "messages": [_message(bits, numbers) for bits, numbers in _numbers()],
    }


def _sent() -> list[tuple[int, int]]:
    top = 2**26
    at = ((1, 1), (1, 2**20), (1, top), (31, top), (32, top), (33, top), (2**11, 2**20), (2**11 - 1, 2**20))
    beside = ((2047, 2**20 + 512), (2**31 - 1, 1), (2**26, 31), (2**26, 32), (46_341, 46_341), (46_340, 46_341))
    return [*at, *beside, (2**12, 2**20), (3 * 2**10, 2**20), (63, top), (64, top), (2**26, 63), (2**26, top)]


def _width(users: int, grid: int) -> dict[str, Any]:
    says = "4 bytes where users * grid is below 2^31, else 8"
    return {"says": says, "users": users, "grid": grid, "bytes": dtype_for(users, grid).itemsize}


def _share_width(bits: int) -> dict[str, Any]:
    return {"says": "noised numbers of up to 32 bits take 4 bytes", "bits": bits, "bytes": share_dtype(bits).itemsize}


def _moduli() -> list[tuple[int, int, int]]:
    found = [(1, 1, 2), (1, 2**20, 2**20), (100, 2**14, 3664), (1000, 2**20, 37_074), (2**20, 2**20, 1025)]
    found += [(2**26, 2**26, 2), (2**26, 2**26, 2**30), (2**26, 2**20, 2**30), (3, 2**26, 2**30), (2, 2**26, 2**30)]
    # Where the largest sum is 2^b - 1 it takes one bit less than where it is 2^b.
    return [*found, (1, 2**20 - 257, 2), (1, 2**20 - 256, 2), (4, 2**18 - 96, 2), (3, 2**18, 2), (4, 2**18, 2)]


def _modulus(n_max: int, grid: int, share: int) -> dict[str, Any]:
    says = "n_max * grid and 64 times the whole noise fit, with a sign; at most 62 bits"
    case: dict[str, Any] = {"says": says, "n_max": n_max, "grid": grid, "share": share}
    try:
        return case | {"bits": modulus_bits(n_max=n_max, grid=grid, share=share)}
    except InputError:
        return case | {"refused": True}


def _rows() -> list[tuple[str, int, list[list[int]]]]:
    rng = np.random.default_rng(8)
    found: list[tuple[str, int, list[list[int]]]] = []
    for bits in BITS:
        half = 2 ** (bits - 1)
        some = (rng.integers(-half, half, (3, 5)) // 4).tolist()
        found.append((f"{bits} bits, three devices", bits, some))
        found.append((f"{bits} bits, the least and the largest number", bits, [[-half, half - 1, -1, 0]]))
        if bits > 1:
            found.append(
                (f"{bits} bits: one more than the largest wraps to the least", bits, [[half - 1, -half], [1, -1]])
            )
    return found


def _signed(residue: int, bits: int) -> int:
    return residue - (residue >> (bits - 1) << bits)


def _sum(says: str, bits: int, rows: list[list[int]]) -> dict[str, Any]:
    kind, size = residue_type(bits), len(rows[0])
    total = PackedSum(size, bits)
    packed = []
    for row in rows:
        data = pack(np.array(row, np.int64).astype(kind), bits)
        total.add(data)
        packed.append(data.hex())
    found = total.values().tolist()
    signed = [_signed(each, bits) for each in found]
    return {"says": says, "bits": bits, "rows": rows, "packed_hex": packed, "sum": found, "signed": signed}


def _paddings() -> list[tuple[int, int, str]]:
    return [
        (7, 1, "7f"),
        (7, 1, "80"),
        (3, 3, "d101"),
        (3, 3, "d103"),
        (3, 3, "d1"),
        (3, 3, "d10100"),
        (8, 1, "ff"),
        (33, 1, "ffffffff01"),
        (33, 1, "ffffffff02"),
    ]


def _padding(bits: int, size: int, data: str) -> dict[str, Any]:
    says = "the length is that of the residues, and bits after the last one are zero"
    case: dict[str, Any] = {"says": says, "bits": bits, "size": size, "data_hex": data}
    try:
        return case | {"values": unpack(bytes.fromhex(data), size, bits).tolist()}
    except IntegrityError:
        return case | {"refused": True}


def _mask(bits: int, size: int) -> dict[str, Any]:
    masker, key = Masker(size, bits), hashlib.sha256(f"{bits} {size}".encode()).digest()
    drawn = hashlib.shake_256(key).digest(8 * size)  # of any size, so that a lower half carries into the upper one
    values = [int.from_bytes(drawn[8 * place : 8 * place + 8], "little") % 2**bits for place in range(size)]
    total = np.array(values, masker.dtype)
    masker.add(total, key)
    added = [int(each) % 2**bits for each in total]
    says = f"{size} numbers of {bits} bits, under words of {masker.dtype.itemsize} bytes"
    return {"says": says, "bits": bits, "key": key.hex(), "values": values, "added": added}


def _numbers() -> list[tuple[int, list[int]]]:
    return [
        (20, [0, 1, -1, 2**19 - 1, -(2**19)]),
        (32, [2**31 - 1, -(2**31)]),
        (33, [0, 0, 0]),
        (33, [2**32 - 1, -(2**32)]),
        (40, [5, -5]),
        (62, [2**61 - 1, -(2**61)]),
        (20, [2**19]),
        (33, [-(2**32) - 1]),
    ]


def _message(bits: int, numbers: list[int]) -> dict[str, Any]:
    header = ContributionHeader(
        run="run-1", round=0, attempt=0, plan_hash="ab" * 32, users=1, rejected=0, size=len(numbers)
    )
    data = encode_share(header, ClearSum(np.array(numbers, np.int64), 1), bits=bits)
    says = "the width is that of the plan's bits, whatever the numbers are"
    case = {"says": says, "bits": bits, "header": header.model_dump(mode="json"), "numbers": numbers}
    case |= {"message_hex": data.hex()}
    try:
        decode_share(data, bits=bits)
    except IntegrityError:
        return case | {"says": "a number that doesn't fit the plan's bits", "refused": True}
    return case
