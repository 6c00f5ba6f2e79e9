"""Layouts of more than 2^20 numbers, as large catalogues have: each step on their way is that of short ones."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import DenseBlock, Update
from palate_common.rounds.wire import ContributionHeader, decode_share, encode_share
from palate_core.layout import MAX_GRID, BlockSpec
from palate_core.masks.masking import Masker
from palate_core.masks.packing import PackedSum, pack
from palate_core.noise.bounded import bounded
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SeededSource
from palate_core.noise_share import ClearSum
from reference.long_noise import Taken, long_gaussian

SIZE = 2**20 + 2**17 + 3


def test_the_noise_of_a_long_vector_is_that_of_its_words() -> None:
    found = sample_discrete_gaussian(SIZE, sigma=1000, source=SeededSource(b"long"))
    words = Taken(SeededSource(b"long").words(20 * SIZE))
    assert np.array_equal(found, long_gaussian(words, SIZE, 1000))


def test_the_final_check_of_a_long_vector_is_exact() -> None:
    edge = np.full(2**20, 2**16, np.int64)
    assert np.array_equal(bounded(edge, grid=MAX_GRID), edge)
    for place in (0, 2**20 - 1):
        over = edge.copy()
        over[place] += 1
        assert not bounded(over, grid=MAX_GRID).any()
    assert not bounded(np.append(edge, 1), grid=MAX_GRID).any()


def test_a_long_contribution_is_clipped_over_its_whole_length() -> None:
    values = np.random.default_rng(2).normal(size=(1, SIZE))
    layout = (BlockSpec(name="x", shape=(SIZE,), weight=1.0),)
    sent = clip(Update((DenseBlock(values),), 1), layout, clip_norm=1.0, grid=MAX_GRID).vector(0)
    exact = values[0] / np.linalg.norm(values) * MAX_GRID
    assert np.abs(sent - exact).max() < 1.001
    assert 0.999 * MAX_GRID**2 < int(sum(map(int, sent.astype(object) ** 2))) <= MAX_GRID**2


def test_a_long_mask_is_the_keystream_of_its_key_from_end_to_end() -> None:
    for bits, width in ((20, 4), (40, 8)):
        masker, key = Masker(SIZE, bits), bytes(range(32))
        total = np.zeros(SIZE, masker.dtype)
        masker.add(total, key)
        assert total.tobytes() == Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(width * SIZE))


def test_a_long_sum_under_masks_is_that_of_its_rows() -> None:
    bits, rng = 20, np.random.default_rng(3)
    rows, masker = rng.integers(-(2**17), 2**17, (3, SIZE)), Masker(SIZE, bits)
    keys, total = [bytes([number]) * 32 for number in range(3)], PackedSum(SIZE, bits)
    for row, (added, taken) in zip(rows, ((0, 1), (1, 2), (2, 0)), strict=True):
        residues = row.astype(masker.dtype)
        masker.apply(residues, added=[keys[added]], subtracted=[keys[taken]])
        assert np.mean(residues % 2**bits == row % 2**bits) < 1e-4
        total.add(pack(residues, bits))
    assert np.array_equal(total.values(), rows.sum(axis=0) % 2**bits)


def test_a_long_message_is_read_as_it_was_sent() -> None:
    numbers = np.random.default_rng(4).integers(-(2**40), 2**40, SIZE)
    header = ContributionHeader(run="a", round=0, attempt=0, plan_hash="ab" * 32, users=1, rejected=0, size=SIZE)
    for bits, sent in ((42, numbers), (32, numbers >> 10)):
        read = decode_share(encode_share(header, ClearSum(sent, 1), bits=bits), bits=bits)
        assert np.array_equal(read.total, sent)
