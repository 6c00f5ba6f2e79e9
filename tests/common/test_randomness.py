import copy
import os
import pickle
import re
import threading
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from forks import in_child

from palate_core.errors import InputError
from palate_core.noise import randomness
from palate_core.noise.randomness import SecureSource, SeededSource


def test_every_guarantee_and_assumption_has_a_test():
    for name in ("SecureSource", "SeededSource"):
        for claim in re.findall(r"\*\*(?:Guarantees|Assumes):\*\* ([^:]+):", getattr(randomness, name).__doc__):
            assert f"test_{claim.replace(' ', '_')}" in globals()


def test_fresh_key(monkeypatch):
    keys = []
    urandom = os.urandom
    monkeypatch.setattr(os, "urandom", lambda n: keys.append(urandom(n)) or keys[-1])
    first, second = SecureSource().words(64), SecureSource().words(64)
    assert [len(key) for key in keys] == [32, 32]
    assert keys[0] != keys[1]
    assert not np.array_equal(first, second)


def test_fork_safe():
    source = SecureSource()
    source.words(5)
    child = np.frombuffer(in_child(lambda: source.words(8).tobytes()), np.uint64)
    parent = source.words(8)
    assert len(child) == 8
    assert not np.isin(child, parent).any()


def test_fork_safe_for_two_children():
    source = SecureSource()
    first, second = (in_child(lambda: source.words(8).tobytes()) for _ in range(2))
    assert len(first) == len(second) == 64
    assert first != second


def test_fork_safe_when_another_thread_holds_the_lock():
    source = SecureSource()
    _, stream = source._state
    with stream._lock:
        assert len(in_child(lambda: source.words(8).tobytes())) == 64


def test_fork_safe_when_the_process_id_comes_back(monkeypatch):
    source = SecureSource()
    ours = os.getpid()

    def grandchild():
        monkeypatch.setattr(os, "getpid", lambda: ours)
        return source.words(8).tobytes()

    assert in_child(grandchild) != source.words(8).tobytes()


def test_fork_safe_where_only_the_process_id_tells(monkeypatch):
    source, twin_words = SecureSource(), []
    _, stream = source._state
    monkeypatch.setattr(stream, "words", lambda n: twin_words.append(n))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert source.words(4).shape == (4,)
    assert twin_words == []


def test_thread_safe():
    source, taken = SecureSource(), []

    def take():
        taken.extend(source.words(257) for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = np.concatenate(taken)
    assert len(words) == 8 * 50 * 257
    # Two equal words among 100,000 have probability 3e-10.
    assert len(np.unique(words)) == len(words)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_never_copied(duplicate):
    for source in (SecureSource(), SeededSource(b"x")):
        with pytest.raises(InputError, match="must stay where it was made"):
            duplicate(source)


def test_operating_system_randomness(monkeypatch):
    monkeypatch.setattr(os, "urandom", bytes)
    # All the secrecy is in the key: with a known one the words are known.
    expected = Cipher(AES(bytes(32)), CTR(bytes(16))).encryptor().update(bytes(64))
    assert SecureSource().words(8).astype("<u8").tobytes() == expected


def test_aes256():
    # Uniform bits, as far as a test of 2^26 of them can tell (false alarm 1e-6 each).
    bits = np.unpackbits(SecureSource().words(1 << 20).view(np.uint8))
    assert abs(bits.mean(dtype=float) - 0.5) < 4.9 * 0.5 / len(bits) ** 0.5
    pairs = bits[:-1] ^ bits[1:]
    assert abs(pairs.mean(dtype=float) - 0.5) < 4.9 * 0.5 / len(pairs) ** 0.5


def test_same_seed_same_words():
    key = HKDF(SHA256(), 32, salt=None, info=b"palate/randomness/seeded/v1").derive(b"seed")
    expected = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(80))
    assert SeededSource(b"seed").words(10).astype("<u8").tobytes() == expected
    # A golden value: the stream may not change between versions or machines.
    assert SeededSource(b"seed").words(1)[0] == 0x6AE69047161727A1


def test_different_seeds_differ():
    seeds = [b"0", b"1", b"00", b"0" * 32, b"0" * 33, b"0\0"]
    assert len({SeededSource(seed).words(1)[0] for seed in seeds}) == len(seeds)


def test_marked_insecure():
    assert SeededSource(b"x").secure is False
    assert SecureSource().secure is True


def test_words_do_not_depend_on_how_they_are_asked_for():
    source = SeededSource(b"pieces")
    pieces = np.concatenate([source.words(n) for n in (0, 1, 2, 3, 130_000, 140_000)])
    whole = SeededSource(b"pieces").words(270_006)
    assert np.array_equal(pieces, whole)


def test_words_belong_to_the_caller():
    source = SeededSource(b"owner")
    first = source.words(4)
    kept = first.copy()
    source.words(4)[:] = 0
    assert first.dtype == np.uint64
    assert first.flags.writeable
    assert np.array_equal(first, kept)


def test_memory_is_the_words_alone():
    source = SecureSource()
    source.words(1)
    tracemalloc.start()
    words = source.words(1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.01 * words.nbytes


@pytest.mark.parametrize("n", [-1, 1.5, True, None, "3"])
def test_a_wrong_count_is_refused(n):
    with pytest.raises(InputError, match="`n` must be a whole number"):
        SeededSource(b"x").words(n)


@pytest.mark.parametrize("seed", [b"", "text", 7, None, bytearray(b"x")])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(InputError, match="`seed` must be at least one byte"):
        SeededSource(seed)
