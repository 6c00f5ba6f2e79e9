import copy
import hashlib
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.masks.agreement import AGREED_BYTES, TAG_BYTES, KeyPair, agree, check_public, seal, unseal

P = 2**255 - 19
# The points of order 1, 2, 4 and 8 on the curve and its twist (Bernstein, Curve25519, "small order").
LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
)
# RFC 7748, 6.1
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def little(number):
    return number.to_bytes(32, "little")


def hkdf(secret, salt, info, length):
    """RFC 5869, as it is written there."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    block, out = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


def test_hkdf_of_this_file_is_rfc_5869():
    okm = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    okm = hkdf(b"\x0b" * 22, b"", b"", 42)
    assert okm.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"


def test_rfc_7748_and_rfc_5869():
    alice, bob = (KeyPair.from_private(bytes.fromhex(secret)) for secret in (ALICE, BOB))
    assert (alice.public.hex(), bob.public.hex()) == (ALICE_PUBLIC, BOB_PUBLIC)
    assert agree(alice, bob.public, info=b"role") == hkdf(bytes.fromhex(SHARED), b"", b"role", 64)
    assert agree(bob, alice.public, info=b"") == hkdf(bytes.fromhex(SHARED), b"", b"", 64)


def test_both_sides_agree():
    for _ in range(20):
        one, other = KeyPair.generate(), KeyPair.generate()
        key = agree(one, other.public, info=b"x")
        assert key == agree(other, one.public, info=b"x")
        assert len(key) == AGREED_BYTES
        assert key != agree(KeyPair.generate(), other.public, info=b"x")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_bound_to_info(first, second):
    one, other = KeyPair.from_private(bytes(range(32))), KeyPair.from_private(bytes(range(1, 33)))
    assert (agree(one, other.public, info=first) == agree(one, other.public, info=second)) == (first == second)


def test_fresh_pair():
    assert len({KeyPair.generate().private_bytes() for _ in range(50)}) == 50
    pair = KeyPair.generate()
    assert KeyPair.from_private(pair.private_bytes()).public == pair.public


def test_never_shown():
    pair = KeyPair.generate()
    assert pair.private_bytes().hex() not in repr(pair)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InputError):
            leak(pair)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_refused(point):
    # Reduced or not, with or without the bit that X25519 ignores.
    for spelling in {point, point + P, point + 2**255, point + P + 2**255}:
        if spelling < 2**256:
            for _ in range(3):
                with pytest.raises(IntegrityError):
                    agree(KeyPair.generate(), little(spelling), info=b"")
    with pytest.raises(IntegrityError, match="low order"):
        agree(KeyPair.generate(), little(point), info=b"")


def test_a_public_key_is_checked_without_agreeing():
    check_public(KeyPair.generate().public)
    check_public(little(P - 2))
    for point in LOW_ORDER:
        with pytest.raises(IntegrityError, match="low order"):
            check_public(little(point))
        for spelling in {point + P, point + 2**255, point + P + 2**255}:
            if spelling < 2**256:
                with pytest.raises(IntegrityError):
                    check_public(little(spelling))
    with pytest.raises(IntegrityError, match="32 bytes"):
        check_public(bytes(31))


@pytest.mark.parametrize("spelling", [P + 2, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_one_spelling(spelling):
    with pytest.raises(IntegrityError, match="reduced"):
        agree(KeyPair.generate(), little(spelling), info=b"")
    agree(KeyPair.generate(), little(P - 2), info=b"")


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_wrong_lengths(length):
    with pytest.raises(IntegrityError, match="32 bytes"):
        agree(KeyPair.generate(), b"\x09" * length, info=b"")
    with pytest.raises(IntegrityError, match="32 bytes"):
        KeyPair.from_private(bytes(length))
    with pytest.raises(InputError, match="32 bytes"):
        seal(bytes(length), b"", aad=b"")
    with pytest.raises(InputError, match="32 bytes"):
        unseal(bytes(length), bytes(16), aad=b"")


def test_x25519():
    """What the assumption is about: the secret is the curve's, not the public halves' hash."""
    one, other = KeyPair.generate(), KeyPair.generate()
    guess = hashlib.sha256(one.public + other.public).digest()
    assert agree(one, other.public, info=b"") != hkdf(guess, b"", b"", 64)


def test_gcm_vectors():
    """McGrew and Viega, The Galois/Counter Mode of Operation, test cases 13 and 14: key, nonce and text of zeros."""
    assert seal(bytes(32), b"", aad=b"").hex() == "530f8afbc74536b9a963b4f1c4cb738b"
    sealed = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    assert seal(bytes(32), bytes(16), aad=b"").hex() == sealed


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_round_trip(plaintext, aad):
    key = bytes(range(32))
    sealed = seal(key, plaintext, aad=aad)
    assert len(sealed) == len(plaintext) + TAG_BYTES
    assert unseal(key, sealed, aad=aad) == plaintext


def test_authentic():
    key, sealed = bytes(range(32)), seal(bytes(range(32)), bytes(64), aad=b"a to b")
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            unseal(key, bytes(changed), aad=b"a to b")
    for cut in (sealed[:-1], sealed + b"\0", sealed[:15], b"", sealed[1:]):
        with pytest.raises(IntegrityError):
            unseal(key, cut, aad=b"a to b")
    with pytest.raises(IntegrityError):
        unseal(key, sealed, aad=b"b to a")
    with pytest.raises(IntegrityError):
        unseal(bytes(range(1, 33)), sealed, aad=b"a to b")


def test_one_message():
    """Why the assumption is there: two messages under one key give their difference away."""
    key = KeyPair.generate().private_bytes()
    one, two = bytes(range(16)), bytes(range(100, 116))
    sealed = [seal(key, text, aad=b"")[:16] for text in (one, two)]
    assert bytes(a ^ b for a, b in zip(*sealed, strict=True)) == bytes(a ^ b for a, b in zip(one, two, strict=True))
