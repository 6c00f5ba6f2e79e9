"""The test vectors: what the code makes today, and what a few independent lines read out of them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from palate_common.canonical import canonical_json, read_canonical
from palate_common.errors import IntegrityError
from palate_common.merkle import Checkpoint, verify_consistency, verify_inclusion
from palate_common.plan import open_plan
from palate_common.wire import decode

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
FILES = ("canonical.json", "signature.json", "merkle.json", "plan.json", "contribution.json")


def vectors(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make() -> Any:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_known() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_code_makes_them(make: Any, name: str) -> None:
    """If this fails, the wire has changed: a new version, and new vectors."""
    assert make.text_of(name) == (FOLDER / name).read_text(encoding="utf-8")


def test_canonical_json() -> None:
    for case in vectors("canonical.json")["accepted"]:
        text = case["canonical"].encode()
        assert canonical_json(case["value"]) == text
        assert hashlib.sha256(text).hexdigest() == case["sha256"]
        # As text: 1 and 1.0, 0.0 and -0.0 are told apart.
        assert json.dumps(read_canonical(text), sort_keys=True) == json.dumps(case["value"], sort_keys=True)


@pytest.mark.parametrize("text", vectors("canonical.json")["refused"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        read_canonical(text.encode())


def test_signature_by_hand() -> None:
    case = vectors("signature.json")
    message = b"palate signature 1\x00" + bytes([len(case["tag"])]) + case["tag"].encode() + case["payload"].encode()
    assert message.hex() == case["signed_bytes_hex"]
    secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["secret_key"]))
    assert secret.public_key().public_bytes_raw().hex() == case["public_key"]
    assert secret.sign(message).hex() == case["signature"]  # Ed25519 is deterministic


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def path(index: int, leaves: list[bytes]) -> list[str]:
    """RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return [*path(index, leaves[:split]), tree_hash(leaves[split:]).hex()]
    return [*path(index - split, leaves[split:]), tree_hash(leaves[:split]).hex()]


def test_merkle_by_hand() -> None:
    case = vectors("merkle.json")
    leaves = [leaf.encode() for leaf in case["leaves"]]
    assert {str(size): tree_hash(leaves[:size]).hex() for size in range(8)} == case["roots"]
    for proof in case["inclusion"]:
        index, size, root = proof["index"], proof["size"], case["roots"][str(proof["size"])]
        assert path(index, leaves[:size]) == proof["proof"]
        verify_inclusion(leaves[index], index=index, size=size, root=root, proof=proof["proof"])
    for proof in case["consistency"]:
        old, new = proof["old"], proof["new"]
        roots = {"old_root": case["roots"][str(old)], "new_root": case["roots"][str(new)]}
        verify_consistency(old_size=old, new_size=new, proof=proof["proof"], **roots)


def test_plan_by_hand() -> None:
    case = vectors("plan.json")
    signed = json.loads(case["signed_plan"])
    plan, charge = signed["plan"], signed["charge"]

    def canonical(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    assert hashlib.sha256(canonical(plan)).hexdigest() == case["plan_hash"] == charge["entry"]["plan_hash"]
    assert hashlib.sha256(bytes.fromhex(case["model_file_hex"])).hexdigest() == plan["model_hash"]
    payload = canonical({"plan": plan, "charge": charge})
    message = b"palate signature 1\x00" + bytes([len(case["tag"])]) + case["tag"].encode() + payload
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(case["public_key"]))
    key.verify(bytes.fromhex(signed["signature"]), message)
    assert plan["mu2"] >= plan["grid"] ** 2 / (plan["sigma"] ** 2 - 4)


def test_plan_as_a_device_reads_it() -> None:
    case = vectors("plan.json")
    seen = Checkpoint(**case["device_has_seen"])
    data = case["signed_plan"].encode()
    signed = open_plan(data, public_key=case["public_key"], last_seen=lambda population: seen)
    assert signed.plan.hash == case["plan_hash"]
    forked = Checkpoint(seen.size, "0" * 64)
    with pytest.raises(IntegrityError):
        open_plan(data, public_key=case["public_key"], last_seen=lambda population: forked)
    with pytest.raises(IntegrityError):
        open_plan(data.replace(b'"round":0', b'"round":1'), public_key=case["public_key"], last_seen=lambda _: None)


def test_contributions_by_hand() -> None:
    assert bytes.fromhex(vectors("contribution.json")["refusal_hex"]) == b"refused"
    for case in vectors("contribution.json")["cases"]:
        data = bytes.fromhex(case["wire_hex"])
        length = int.from_bytes(data[:4], "big")
        assert json.loads(data[4 : 4 + length]) == case["header"]
        width = {"int32": 4, "int64": 8}[case["number_type"]]
        numbers = data[4 + length :]
        steps = [int.from_bytes(numbers[i : i + width], "little", signed=True) for i in range(0, len(numbers), width)]
        assert steps == case["sum"] == [sum(column) for column in zip(*case["integers"], strict=True)]
        weights = [spec["weight"] for spec in case["layout"] for _ in range(math.prod(spec["shape"]))]
        for raw, integers in zip(case["raw"], case["integers"], strict=True):
            assert sum(q * q for q in integers) <= case["grid"] ** 2
            scaled = [value * weight for value, weight in zip(raw, weights, strict=True)]
            norm = max(case["clip_norm"], math.hypot(*scaled))
            assert all(abs(q) <= abs(v) / norm * case["grid"] for q, v in zip(integers, scaled, strict=True))
        assert decode(data, grid=case["grid"]).total.tolist() == steps
