import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory

KEYS = tuple(SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([i] * 32))).public for i in range(5))


def test_round_trip(tmp_path):
    directory = Directory(KEYS)
    path = tmp_path / "directory.json"
    for end in (b"", b"\n"):
        path.write_bytes(directory.to_json() + end)
        assert Directory.load(path) == directory
    assert len(directory) == 5


def test_one_hash():
    text = '{"identities":' + json.dumps(KEYS).replace(" ", "") + ',"version":1}'
    assert Directory(KEYS).hash == hashlib.sha256(text.encode()).hexdigest()
    assert Directory(KEYS[::-1]).hash != Directory(KEYS).hash != Directory(KEYS[:4]).hash


def test_no_key_twice():
    with pytest.raises(InputError, match="identity 5 must be another key than identity 2"):
        Directory((*KEYS, KEYS[2]))


@pytest.mark.parametrize(
    "identities",
    [(), list(KEYS), (KEYS[0].upper(),), (KEYS[0][:-1],), (KEYS[0] + "\n",), (5,), (None,), ("",), ("é" * 64,)],
)
def test_other_identities_are_refused(identities):
    with pytest.raises(InputError, match="must be"):
        Directory(identities)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"identities":[],"version":1}',
        b'{"identities":{},"version":1}',
        b'{"identities":["' + KEYS[0].encode() + b'"],"version":2}',
        b'{"identities":["' + KEYS[0].encode() + b'"],"version":true}',
        b'{"identities":["' + KEYS[0].encode() + b'"],"version":1.0}',
        b'{"identities":["' + KEYS[0].encode() + b'"],"more":1,"version":1}',
        b'{"version":1,"identities":["' + KEYS[0].encode() + b'"]}',
        b'{"identities":["' + KEYS[0].encode() + b'"],"version":1}\n\n',
        b"\xff",
    ],
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "directory.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match="must be"):
        Directory.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="readable file"):
        Directory.load(tmp_path / "none.json")
