import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import HASH, LINE, SALT, Directory
from palate_core.masks.transcript import MAX_DEVICES

KEYS = tuple(SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([i] * 32))).public for i in range(5))
SOME = {0: KEYS[0], 3: KEYS[3], 2**32 - 1: KEYS[4]}


def test_round_trip():
    directory = Directory(SOME)
    assert Directory.from_bytes(directory.to_bytes()) == directory
    assert (len(directory), len(directory.to_bytes())) == (3, SALT + 3 * LINE)
    assert len(Directory({})) == 0


def test_one_hash():
    lines = b"".join(number.to_bytes(4, "little") + bytes.fromhex(key) for number, key in SOME.items())
    salt = bytes(range(32))
    expected = hashlib.sha256(b"palate/secagg/directory/1\0" + salt + lines).hexdigest()
    assert Directory(SOME, salt).hash == expected
    others = (
        Directory({**SOME, 3: KEYS[1]}, salt),
        Directory({0: KEYS[0], 3: KEYS[3]}, salt),
        Directory(SOME, bytes(32)),
    )
    assert len({expected, *(other.hash for other in others)}) == 4


def test_nobody_learns_from_a_hash_who_was_invited():
    assert Directory(SOME).hash != Directory(SOME).hash, "without the salt, who knows the identities tries the lists"


def test_no_key_twice():
    with pytest.raises(InputError, match="identity 5 must be another key than identity 2"):
        Directory({**dict(enumerate(KEYS)), 5: KEYS[2]})


@pytest.mark.parametrize("key", [KEYS[0].upper(), KEYS[0][:-1], KEYS[0] + "\n", 5, None, "", "é" * 64])
def test_other_identities_are_refused(key):
    with pytest.raises(InputError, match="must be"):
        Directory({0: key})


@pytest.mark.parametrize("identities", [{-1: KEYS[0]}, {2**32: KEYS[0]}, {1: KEYS[0], 0: KEYS[1]}])
def test_other_numbers_are_refused(identities):
    with pytest.raises(InputError, match="must be"):
        Directory(identities)


def test_a_salt_of_another_length_is_refused():
    with pytest.raises(InputError, match="a salt of 32 bytes"):
        Directory(SOME, bytes(31))


def test_more_devices_than_an_attempt_may_have_are_refused(monkeypatch):
    monkeypatch.setattr("palate_core.masks.directory.MAX_DEVICES", 2)
    with pytest.raises(InputError, match="at most 2 devices"):
        Directory(SOME)
    with pytest.raises(InputError, match="a device, got 140 bytes"):
        Directory.from_bytes(bytes(SALT + 3 * LINE))
    assert MAX_DEVICES == 2**20


def first(number, key=KEYS[0]):
    return number.to_bytes(4, "little") + bytes.fromhex(key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(SALT - 1),
        bytes(SALT) + first(0)[:-1],
        bytes(SALT) + first(0) + b"\n",
        bytes(SALT) + first(1) + first(0, KEYS[1]),
        bytes(SALT) + first(1) + first(1, KEYS[1]),
        bytes(SALT) + first(0) + first(1),
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(InputError, match="must"):
        Directory.from_bytes(data)


def subcohorts():
    each = [Directory({number: KEYS[number]}) for number in range(3)]
    return [replace(one, beside=tuple(other.hash for other in each)) for one in each]


def test_directories_of_sub_cohorts_have_one_hash_and_come_with_all():
    parts = subcohorts()
    assert len({part.hash for part in parts}) == 1
    assert parts[0].hash not in {part.own_hash for part in parts}
    for part in parts:
        assert Directory.from_bytes(part.to_bytes(), 3) == part
        assert len(part.to_bytes()) == 3 * HASH + SALT + LINE
    turned = replace(parts[0], beside=parts[0].beside[::-1])
    assert turned.hash != parts[0].hash, "an order is fixed, too"


@pytest.mark.parametrize("beside", [(1, 2), (0, 0, 2), (0, 1, 1)])
def test_a_directory_is_one_of_those_beside_it_and_each_is_there_once(beside):
    parts = subcohorts()
    with pytest.raises(InputError, match="one of those that are named with it, each once"):
        replace(parts[0], beside=tuple(parts[each].own_hash for each in beside))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_directory_of_another_number_of_sub_cohorts_is_refused(number):
    with pytest.raises(InputError, match="must be"):
        Directory.from_bytes(subcohorts()[0].to_bytes(), number)
