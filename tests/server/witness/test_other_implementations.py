"""What another witness, litewitness in Go, has answered to requests of this code: `litewitness.json`, recorded once.

Ed25519 is deterministic and the witness's key is in the file, so this code has to make the very same cosignatures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from witnessed import Log

from palate_core.log.cosignatures import Quorum, cosign, open_cosignature
from palate_core.log.notes import COSIGNATURE, VerifierKey, read_signatures
from palate_core.log.signing import SigningKey
from palate_server.witness.cosigner import Cosigner
from palate_server.witness.folder import WitnessFolder
from palate_server.witness.witnessing import read_request, read_size

RECORDED = json.loads((Path(__file__).parent / "litewitness.json").read_text(encoding="utf-8"))
EXCHANGES = RECORDED["exchanges"]
OTHER = {
    "another root of the same size": (422, 409),  # 422 in an earlier version of the specification
    "another log": (403, 404),  # as in an earlier version
}
"""Where its status differs from what the specification says today, with ours."""


def key(name: str) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RECORDED[name])))


@pytest.fixture
def recorded_log() -> Log:
    log = Log(key=key("log_secret_key"))
    log.grow(300)
    return log


@pytest.mark.parametrize(
    "exchange", [each for each in EXCHANGES if each["status"] == 200], ids=lambda e: str(e["what"])
)
def test_its_cosignatures_are_ours_to_the_byte(exchange: dict[str, Any], recorded_log: Log) -> None:
    old, size = exchange["what"]
    assert recorded_log.request(old, size).to_bytes().decode() == exchange["request"]
    witness = VerifierKey.read(RECORDED["verifier_key"])
    assert witness == VerifierKey.of("lite.example/w", key("witness_secret_key"), COSIGNATURE)
    note = recorded_log.note(size)
    [line] = read_signatures(exchange["answer"].encode())
    time = open_cosignature(note.text, witness, line)
    assert str(cosign(note.text, witness.name, key("witness_secret_key"), time=time)) == exchange["answer"]
    now = recorded_log.tree.checkpoint(size)
    Quorum((witness,), 1).check(note.with_signatures(line), log=recorded_log.verifier_key, checkpoint=now)


def test_it_answers_as_ours_does(make: Callable[..., WitnessFolder], recorded_log: Log) -> None:
    cosigner = Cosigner(make(recorded_log))
    for exchange in EXCHANGES:
        answer = cosigner.answer(exchange["request"].encode())
        theirs, ours = OTHER.get(str(exchange["what"]), (exchange["status"],) * 2)
        assert (exchange["status"], answer.status) == (theirs, ours), exchange["what"]
        if answer.status == 409 and exchange["status"] == 409:
            assert answer.content_type == exchange["content_type"]
            assert read_size(answer.body) == read_size(exchange["answer"].encode())


def test_a_request_is_read_as_it_was_sent() -> None:
    for exchange in EXCHANGES:
        if exchange["status"] in (200, 409):
            request = read_request(exchange["request"].encode())
            assert replace(request).to_bytes().decode() == exchange["request"]
