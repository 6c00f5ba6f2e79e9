"""The test vectors: what the code makes today, and what a few independent lines read out of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import math
import re
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from plans import open_as_device

from palate_common.models.manifest import MANIFEST, SIGNATURE, check_recorded, read_manifest
from palate_common.rounds.wire import decode
from palate_common.secagg.evidence import check
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.checkpoints import log_key
from palate_core.log.consistency import check_growth, check_pinned
from palate_core.log.cosignatures import Quorum
from palate_core.log.merkle import Checkpoint, MerkleTree, verify_consistency, verify_inclusion
from palate_core.log.notes import VerifierKey, read_note, verify_note
from palate_core.log.pinned import Pinned
from palate_core.masks.agreement import KeyPair, agree
from palate_core.masks.directory import Directory
from palate_core.masks.graph_terms import graph_terms
from reference.shamir import polynomial

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
FILES = (
    *("canonical.json", "signature.json", "merkle.json", "plan.json", "contribution.json", "secagg.json"),
    *(
        "notes.json",
        "witnessed.json",
        "manifest.json",
        "enrolment.json",
        "exchange.json",
        "statement.json",
        "noise.json",
        "contributed.json",
        "accounting.json",
    ),
    "recommend.json",
    "behaviour.json",
    "events.json",
    "items.json",
    "histories.json",
    "where.json",
    *("draws.json", "clips.json", "sums.json", "costs.json", "graphs.json", "sharing.json"),
    *("admission.json", "ledgers.json", "models.json"),
)


def vectors(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make() -> Any:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make" / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its modules find each other by it
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
        assert json.dumps(read_canonical(text, most=2**20), sort_keys=True) == json.dumps(case["value"], sort_keys=True)


@pytest.mark.parametrize("text", vectors("canonical.json")["refused"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        read_canonical(text.encode(), most=2**20)


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


def signed_lines(note: str) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    """Text, and name, key id and signature of each line, as the specification of signed notes has them."""
    text, _, lines = note.rpartition("\n\n")
    found = []
    for line in lines.splitlines():
        dash, name, value = line.split(" ")
        assert dash == "\u2014"
        data = base64.b64decode(value)
        found.append((name, data[:4], data[4:]))
    return f"{text}\n".encode(), found


def key_by_hand(text: str, kind: int) -> tuple[str, bytes, Ed25519PublicKey]:
    """Name, id and key of a verifier key."""
    name, key_id, data = text.split("+", 2)
    raw = base64.b64decode(data)
    assert raw[0] == kind
    assert hashlib.sha256(f"{name}\n".encode() + raw).digest()[:4].hex() == key_id
    return name, bytes.fromhex(key_id), Ed25519PublicKey.from_public_bytes(raw[1:])


def test_a_note_by_hand() -> None:
    case = vectors("notes.json")["note"]
    text, [(name, key_id, signature)] = signed_lines(case["note"])
    assert key_by_hand(case["verifier_key"], 1)[:2] == (name, key_id)
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["secret_key"])).sign(text) == signature
    verify_note(read_note(case["note"].encode()), VerifierKey.read(case["verifier_key"]))


def test_a_cosigned_checkpoint_by_hand() -> None:
    case = vectors("notes.json")
    own, leaves = case["checkpoint"], [leaf.encode() for leaf in vectors("merkle.json")["leaves"]]
    binding = b"palate ledger origin 1\x00" + bytes.fromhex(own["public_key"]) + own["population"].encode()
    origin = "palate/ledger/1/" + hashlib.sha256(binding).hexdigest()
    text, lines = signed_lines(case["cosigned"]["note"])
    assert text.decode() == f"{origin}\n7\n{base64.b64encode(tree_hash(leaves)).decode()}\n"
    assert (own["size"], own["root"]) == (7, tree_hash(leaves).hex())
    name, key_id, key = key_by_hand(own["log_key"], 1)
    assert lines[0][:2] == (name, key_id) == (origin, key_id)
    key.verify(lines[0][2], text)
    times = []
    for line, place in zip(lines[1:], (0, 2), strict=True):
        name, key_id, key = key_by_hand(case["witnesses"][place]["verifier_key"], 4)
        assert line[:2] == (name, key_id)
        times.append(int.from_bytes(line[2][:8], "big"))
        key.verify(line[2][8:], b"cosignature/v1\ntime %d\n" % times[-1] + text)
    assert times == case["cosigned"]["times"]


def test_a_request_to_a_witness_and_tiles_by_hand() -> None:
    case, leaves = vectors("notes.json"), vectors("merkle.json")["leaves"]
    request = case["request"]
    proof = [base64.b64encode(bytes.fromhex(each)).decode() for each in request["proof"]]
    assert request["body"] == "\n".join([f"old {request['old']}", *proof, "", case["checkpoint"]["note"]])
    bundle = b"".join(len(leaf).to_bytes(2, "big") + leaf.encode() for leaf in leaves)
    hashes = b"".join(hashlib.sha256(b"\x00" + leaf.encode()).digest() for leaf in leaves)
    assert case["tiles"] == {"tile/entries/000.p/7": bundle.hex(), "tile/0/000.p/7": hashes.hex()}


def test_what_a_quorum_takes_and_refuses() -> None:
    case = vectors("notes.json")
    own = case["checkpoint"]
    quorum = Quorum.of([witness["verifier_key"] for witness in case["witnesses"]], needed=case["needed"])
    log, now = log_key(own["population"], own["public_key"]), Checkpoint(own["size"], own["root"])
    assert str(log) == own["log_key"]
    note = read_note(case["cosigned"]["note"].encode())
    assert [each.time for each in quorum.check(note, log=log, checkpoint=now)] == case["cosigned"]["times"]
    for refused in case["refused"]:
        with pytest.raises(IntegrityError):
            quorum.check(read_note(refused["note"].encode()), log=log, checkpoint=now)


@pytest.mark.parametrize("text", vectors("notes.json")["malformed"])
def test_malformed_notes_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        read_note(text.encode())


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
    signed = open_as_device(data, public_key=case["public_key"], last_seen=lambda population: seen)
    assert signed.plan.hash == case["plan_hash"]
    forked = Checkpoint(seen.size, "0" * 64)
    with pytest.raises(IntegrityError):
        open_as_device(data, public_key=case["public_key"], last_seen=lambda population: forked)
    with pytest.raises(IntegrityError):
        open_as_device(data.replace(b'"round":0', b'"round":1'), public_key=case["public_key"])


OF_THE_STATE = ("checkpoint", "consistency", "epochs", "cosigned", "handovers", "format", "publication")


def test_manifest_as_a_device_reads_it() -> None:
    case = vectors("manifest.json")
    files = {MANIFEST: case["manifest"].encode(), SIGNATURE: case["signature"].encode()}
    manifest = read_manifest(files, case["public_key"])
    tree = MerkleTree(leaf.encode() for leaf in case["log"])
    assert manifest.checkpoint == tree.checkpoint()
    assert manifest.publication is not None
    assert canonical_json(manifest.publication.entry).decode() == case["log"][-1]
    said = {name: value for name, value in json.loads(case["manifest"]).items() if name not in OF_THE_STATE}
    assert json.dumps(said, sort_keys=True, separators=(",", ":")) == case["said"]["canonical"]
    assert (
        digest(case["said"]["canonical"].encode()) == manifest.publication.entry["manifest"] == case["said"]["sha256"]
    )
    bare = {MANIFEST: case["without_its_entry"]["manifest"].encode()}
    bare[SIGNATURE] = case["without_its_entry"]["signature"].encode()
    pinned = Pinned.of("readers", case["public_key"], vectors("witnessed.json")["witnesses"], needed=2)
    check_recorded(manifest, pinned)
    with pytest.raises(IntegrityError, match="must show its own entry"):
        check_recorded(read_manifest(bare, case["public_key"]), pinned)
    for seen in (tree.checkpoint(2), Checkpoint(**case["device_has_seen"])):
        pinned = Pinned(manifest.population, case["public_key"])
        covered = check_pinned("model", manifest, pinned=pinned, evidence=None)
        check_growth(covered, seen=seen, evidence=None, spent=math.inf)
        with pytest.raises(IntegrityError):
            check_growth(covered, seen=Checkpoint(seen.size, "0" * 64), evidence=None, spent=math.inf)


def test_witnessed_plans_and_models_as_a_device_reads_them() -> None:
    case = vectors("witnessed.json")
    first = case["public_key"]
    pinned = Pinned.of(case["population"], first, case["witnesses"], needed=case["needed"])
    assert [str(pinned.log(key)) for key in (first, case["second_key"])] == case["log_keys"]
    for plan in case["plans"].values():
        signed = open_as_device(plan.encode(), public_key=first, pinned=pinned)
        assert signed.charge is not None
        assert signed.charge.cosigned
    for plan in case["refused_plans"].values():
        with pytest.raises(IntegrityError):
            open_as_device(plan.encode(), public_key=first, pinned=pinned)
    seen = Checkpoint(**case["device_has_seen"])

    def read(model: Any) -> None:
        files = {MANIFEST: model["manifest"].encode(), SIGNATURE: model["signature"].encode()}
        manifest = read_manifest(files, first)
        covered = check_pinned("model", manifest, pinned=pinned, evidence=None)
        check_growth(covered, seen=seen, evidence=None, spent=math.inf)
        check_recorded(manifest, pinned)

    for model in case["models"].values():
        read(model)
    for model in case["refused_models"].values():
        with pytest.raises(IntegrityError):
            read(model)


def test_a_handover_by_hand() -> None:
    case = vectors("witnessed.json")
    handover, entry = case["handover"], case["handover"]["entry"]
    said = {"population": "readers", **{name: entry[name] for name in ("seq", "old_key", "new_key")}}
    assert json.dumps(said, sort_keys=True, separators=(",", ":")) == handover["signed"]
    message = b"palate signature 1\x00" + bytes([len(handover["tag"])]) + handover["tag"].encode()
    for name in ("old", "new"):
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(entry[f"{name}_key"]))
        key.verify(bytes.fromhex(entry[f"{name}_signature"]), message + handover["signed"].encode())


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
            assert math.hypot(*integers) <= math.hypot(*scaled) / norm * case["grid"]
            if "centred" not in case["what"]:  # whose rounded shift can lengthen some numbers, and shortens others
                assert all(abs(q) <= abs(v) / norm * case["grid"] for q, v in zip(integers, scaled, strict=True))
        assert decode(data, grid=case["grid"]).total.tolist() == steps


@pytest.mark.parametrize("case", vectors("secagg.json")["shamir"], ids=lambda case: str(case["total"]))
def test_shamir_over_polynomials(case: Any) -> None:
    rows = dict(zip(case["indices"], map(bytes.fromhex, case["shares"]), strict=True))
    assert polynomial(rows, bits=8 if case["total"] <= 255 else 16)[0].hex() == case["secret"]


def keystream(key: str, size: int) -> bytes:
    """AES-256 in counter mode, from counter zero."""
    return Cipher(AES(bytes.fromhex(key)), CTR(bytes(16))).encryptor().update(bytes(size))


@pytest.mark.parametrize("case", vectors("secagg.json")["masks"], ids=lambda case: str(case["bits"]))
def test_masks_by_hand(case: Any) -> None:
    width = 4 if case["bits"] <= 32 else 8
    stream = keystream(case["key"], 6 * width)
    words = [int.from_bytes(stream[width * i : width * (i + 1)], "little") for i in range(6)]
    sums = [(value + word) % 2 ** case["bits"] for value, word in zip(case["values"], words, strict=True)]
    assert sums == case["added"]


@pytest.mark.parametrize("case", vectors("secagg.json")["packing"], ids=lambda case: str(case["bits"]))
def test_packing_by_hand(case: Any) -> None:
    bits, values = case["bits"], case["values"]
    number = sum(value << (bits * place) for place, value in enumerate(values))
    assert number.to_bytes(-(-bits * len(values) // 8), "little").hex() == case["packed_hex"]


@pytest.mark.parametrize("case", vectors("secagg.json")["rings"], ids=lambda case: str(case["n"]))
def test_rings_by_hand(case: Any) -> None:
    n, stream = case["n"], keystream(case["seed"], 8 * case["n"])
    order = sorted(range(n), key=lambda member: int.from_bytes(stream[8 * member : 8 * member + 8], "little"))
    assert order == case["order"]
    place = order.index(0)
    assert case["neighbours_of_0"] == [order[place - 1], order[(place + 1) % n]]


def test_agreement_by_hand() -> None:
    case = vectors("secagg.json")["agreement"]
    own, other = (X25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in case["private_keys"])
    assert [key.public_key().public_bytes_raw().hex() for key in (own, other)] == case["public_keys"]
    extracted = hmac.digest(bytes(32), own.exchange(other.public_key()), "sha256")
    first = hmac.digest(extracted, bytes.fromhex(case["info_hex"]) + b"\x01", "sha256")
    second = hmac.digest(extracted, first + bytes.fromhex(case["info_hex"]) + b"\x02", "sha256")
    assert (first + second).hex() == case["agreed"]
    opened = AESGCM(bytes.fromhex(case["sealing_key"])).decrypt(
        bytes(12), bytes.fromhex(case["sealed_hex"]), bytes.fromhex(case["aad_hex"])
    )
    assert opened.hex() == case["plaintext_hex"]
    for key in case["low_order"] + case["not_reduced"]:
        with pytest.raises(IntegrityError):
            agree(KeyPair.generate(), bytes.fromhex(key), info=b"")
    for key in case["low_order"]:
        with pytest.raises(ValueError, match="shared key"):
            own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(key)))


def test_terms_by_hand() -> None:
    """With whole numbers only: no tail is rounded."""
    for case in vectors("secagg.json")["terms"] + vectors("graphs.json")["terms"]:
        if case.get("refused"):
            n, corrupt, dropped = case["n"], case["corrupt"], case["dropped"]
            assert not (n >= 3 and 0 <= corrupt <= n and 0 <= dropped < n - 1 - (n - 1 + corrupt) // 2), case["says"]
            continue
        n, k, t, c_w = case["n"], case["neighbours"], case["threshold"], case["window_corrupt"]
        corrupt, dropped = case["corrupt"], case["dropped"]
        if case["complete"]:
            assert 2 * t > k + corrupt >= 2 * (t - 1)
            assert t <= k - dropped
            assert case["sample"] == case["quorum"] == 0
            continue
        m, q, spare = case["sample"], case["quorum"], k - t
        passes = many(n - 1, (n + corrupt) // 2 - 1, m, q) ** (spare + 1) * math.comb(2 * spare + 1, spare + 1) * n
        assert t >= k // 2 + c_w + 2
        windows, secrets = many(n, corrupt, k // 2, c_w + 1) * n, many(n - 1, corrupt, k, 2 * t - k) * n
        assert 2**10 * (windows**2 / 2 + secrets + passes) <= Fraction(1, 2**40)
        lost = many(n - 1, dropped, k, k - t + 1) + many(n, dropped, k // 2, k // 2 - c_w)
        lost += many(n - 1, dropped, m, m - q + 1)
        assert n * lost <= Fraction(1, 2**20)


def many(population: int, marked: int, draws: int, least: int) -> Fraction:
    """The chance that so many of the draws are marked."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, draws - x) for x in range(least, min(draws, marked) + 1)
    )
    return Fraction(ways, math.comb(population, draws))


def test_directory_by_hand() -> None:
    case = vectors("secagg.json")["directory"]
    keys = sorted((int(number), bytes.fromhex(key)) for number, key in case["identities"].items())
    data = bytes(range(32)) + b"".join(struct.pack("<I32s", *each) for each in keys)
    assert case["bytes_hex"] == data.hex()
    assert hashlib.sha256(b"palate/secagg/directory/1\0" + data).hexdigest() == case["hash"]
    assert Directory.from_bytes(data).hash == case["hash"]
    for wrong in case["refused"]:
        with pytest.raises(InputError):
            Directory.from_bytes(bytes.fromhex(wrong["bytes_hex"]))


def test_directories_of_sub_cohorts_by_hand() -> None:
    case, salts = vectors("secagg.json")["subcohorts"], (bytes(range(32)), bytes(range(32, 64)))
    parts = [sorted((int(number), key) for number, key in case["identities"].items()), [(8, "cd" * 32)]]
    lines = [
        salt + b"".join(struct.pack("<I32s", number, bytes.fromhex(key)) for number, key in part)
        for salt, part in zip(salts, parts, strict=True)
    ]
    hashes = b"".join(hashlib.sha256(b"palate/secagg/directory/1\0" + each).digest() for each in lines)
    assert [case["bytes_hex"], case["other_bytes_hex"]] == [(hashes + each).hex() for each in lines]
    assert hashlib.sha256(b"palate/secagg/directories/1\0" + hashes).hexdigest() == case["hash"]
    for data in (case["bytes_hex"], case["other_bytes_hex"]):
        assert Directory.from_bytes(bytes.fromhex(data), case["number"]).hash == case["hash"]
    for wrong in case["refused"]:
        with pytest.raises(InputError):
            Directory.from_bytes(bytes.fromhex(wrong["bytes_hex"]), case["number"])


def signed_by(case: dict[str, Any], tag: str, payload: bytes, signature: bytes) -> None:
    """Check a signature with the library alone."""
    signed = b"palate signature 1\0" + bytes([len(tag)]) + tag.encode() + payload
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(case["public_key"])).verify(signature, signed)


def binding_of(case: dict[str, Any]) -> bytes:
    parts = (
        bytes.fromhex(case["context"]),
        case["toss"].to_bytes(2, "little"),
        bytes.fromhex(case["root"] + case["seed"]),
    )
    return b"".join(parts)


def header_of(case: dict[str, Any], kind: int) -> bytes:
    return (
        bytes([3, kind]) + case["toss"].to_bytes(2, "little") + case["device"].to_bytes(4, "little") + bytes(range(32))
    )


def root_by_hand(leaves: list[bytes]) -> bytes:
    nodes = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(nodes) > 1:
        nodes = [
            hashlib.sha256(b"\1" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=True)
        ]
    return nodes[0]


def test_a_box_by_hand() -> None:
    case = vectors("secagg.json")["box"]
    box, info = bytes.fromhex(case["box"]), bytes.fromhex(case["info_hex"])
    made_with, receiver = (
        X25519PrivateKey.from_private_bytes(bytes.fromhex(case[key])) for key in ("made_with", "receiver_private")
    )
    ends = (1).to_bytes(4, "little") + (3).to_bytes(4, "little")
    assert box[:32] == made_with.public_key().public_bytes_raw()
    assert case["receiver_key"] == receiver.public_key().public_bytes_raw().hex()
    head = b"palate/secagg/seal/1\0" + binding_of(case)[:34]
    assert info == head + ends + box[:32] + bytes.fromhex(case["receiver_key"])
    for shared in (made_with.exchange(receiver.public_key()), receiver.exchange(made_with.public_key())):
        extracted = hmac.digest(bytes(32), shared, "sha256")
        key = hmac.digest(extracted, info + b"\x01", "sha256")
        salts = hmac.digest(extracted, key + info + b"\x02", "sha256")
        aad = bytes.fromhex(case["context"] + case["root"]) + ends
        assert AESGCM(key).decrypt(bytes(12), box[32:112], aad).hex() == case["shares"]
    for which in (0, 1):
        share, salt = bytes.fromhex(case["shares"])[32 * which :][:32], salts[16 * which :][:16]
        commitment = hashlib.sha256(b"palate/secagg/share/2\0" + salt + share).digest()[:16]
        assert box[112 + 16 * which :][:16] == commitment
    place = b"".join(case[name].to_bytes(2, "little") for name in ("slot", "degree", "threshold"))
    payload = binding_of(case) + ends + place + bytes.fromhex(case["receiver_key"]) + box[:144]
    signed_by(case, case["tag"], payload, box[144:])


def test_a_receipt_and_what_follows_from_it_by_hand() -> None:
    found = vectors("secagg.json")
    case = found["receipt"]
    record, leaves = bytes.fromhex(case["record"]), [bytes.fromhex(leaf) for leaf in case["leaves_hex"]]
    assert record[:40] == header_of(case, 4 + 128)
    assert record[40:73] == root_by_hand(leaves) + bytes([2]), "the second of four neighbours"
    signed_by(case, case["tag"], binding_of(case) + record[40:73], record[73:])
    opened = found["open"]
    request, answer = bytes.fromhex(opened["request"]), bytes.fromhex(opened["answer"])
    assert (request[:40], answer[:40]) == (header_of(opened, 5), header_of(opened, 5 + 128))
    assert request[40:44] + request[44:141] == (3).to_bytes(4, "little") + record[40:]
    first, last = (hashlib.sha256(b"\0" + leaves[at]).digest() for at in (0, 2))
    empty = hashlib.sha256(b"\0").digest()
    assert request[141:] == first + hashlib.sha256(b"\1" + last + empty).digest()
    assert answer[40:72].hex() == found["box"]["made_with"]
    signed_by(opened, opened["tag"], binding_of(opened) + (3).to_bytes(4, "little") + answer[40:72], answer[72:])


def test_a_reveal_by_hand() -> None:
    case = vectors("secagg.json")["reveal"]
    record = bytes.fromhex(case["record"])
    assert record[:40] == header_of(case, 8 + 128)
    pieces = [record[40:89], record[89:138]]
    assert [piece[0] for piece in pieces] == [0, 1]
    leaves = [pieces[0], b"", pieces[1], b""]
    signed_by(case, case["tag"], binding_of(case) + root_by_hand(leaves), record[138:])


def test_the_transcript_by_hand() -> None:
    case = vectors("secagg.json")["transcript"]
    own = {name: bytes.fromhex(case[name]) for name in ("context", "root", "seed", "binding")}
    toss = case["toss"].to_bytes(2, "little")

    def under(name: str, *parts: bytes) -> bytes:
        return hashlib.sha256(f"palate/secagg/{name}".encode() + b"\0" + b"".join(parts)).digest()

    nonces = [bytes.fromhex(nonce) for nonce in case["nonces"]]
    commitments = [under("nonce/1", nonce) for nonce in nonces]
    assert [each.hex() for each in commitments] == case["commitments"]
    ids = [device.to_bytes(4, "little") for device in case["devices"]]
    entries = b"".join(a + b for pair in zip(ids, commitments, strict=True) for a, b in [pair])
    assert under("root/1", own["context"], toss, entries) == own["root"]
    assert under("seed/1", own["context"], own["root"], *nonces) == own["seed"]
    assert own["context"] + toss + own["root"] + own["seed"] == own["binding"]
    assert bytes.fromhex(case["commit_payload"]) == own["context"] + toss + ids[0] + commitments[0]
    body = bytes.fromhex(case["advert_body"])
    assert bytes.fromhex(case["advert_payload"]) == own["context"] + toss + b"\x20" + own["root"] + ids[0] + body
    keys = [bytes([place]) * 32 for place in (1, 2)]
    info = b"palate/secagg/mask/1\0" + own["context"] + toss + b"".join(ids + keys)
    assert bytes.fromhex(case["mask_info"]) == info
    plan = case["plan"]
    said = {
        "tag": "palate/secagg/context/1",
        "version": 1,
        "plan_hash": hashlib.sha256(canonical_json(plan)).hexdigest(),
    }
    said |= {name: plan[name] for name in ("run", "round", "attempt", "model_hash")} | {
        "checkpoint": case["checkpoint"]
    }
    assert hashlib.sha256(canonical_json(said)).hexdigest() == case["context_of_plan"]
    shares = plan["cohort"]["n_min"] - plan["cohort"]["c_max"]
    assert (case["share_sigma"] - 1) ** 2 * shares < plan["sigma"] ** 2 <= case["share_sigma"] ** 2 * shares
    most = plan["cohort"]["n_max"] * plan["grid"]
    most += 64 * (math.isqrt(plan["cohort"]["n_max"]) + 1) * case["share_sigma"]
    assert case["bits"] == most.bit_length() + 1


def test_words_of_a_seed_by_hand() -> None:
    case = vectors("noise.json")
    extracted = hmac.digest(bytes(32), bytes.fromhex(case["seed_hex"]), "sha256")
    key = hmac.digest(extracted, b"palate/randomness/seeded/v1\x01", "sha256")
    assert keystream(key.hex(), 32).hex() == case["words_hex"]
    for drawn in case["cases"]:  # about the right size: the law itself is tested elsewhere
        spread = math.sqrt(sum(value**2 for value in drawn["values"]) / len(drawn["values"]))
        assert 0.6 < spread / drawn["sigma"] < 1.5


def test_what_algorithms_send_has_norm_one_at_most() -> None:
    for case in vectors("contributed.json")["cases"]:
        for each in case["rounds"]:
            for text in each["integers_hex"]:
                data = bytes.fromhex(text)
                numbers = [int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, len(data), 4)]
                assert len(numbers) == sum(math.prod(spec["shape"]) for spec in each["layout"])
                assert sum(number**2 for number in numbers) <= case["grid"] ** 2


def test_costs_by_hand() -> None:
    case = vectors("accounting.json")
    for each in case["charges"]:
        owed, said = Fraction(each["grid"] ** 2, each["sigma"] ** 2 - 4), Fraction(each["mu2"])
        assert owed <= said < owed * (1 + Fraction(1, 2**51))
    for each in case["shares"]:
        variance = -(-(each["sigma"] ** 2) // each["shares"])
        assert each["share"] == max(2, math.isqrt(variance - 1) + 1)

    def below(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    for each in case["epsilons"]:
        mu, epsilon = each["mu"], each["epsilon"]
        delta = below(mu / 2 - epsilon / mu) - math.exp(epsilon) * below(-mu / 2 - epsilon / mu)
        assert delta == pytest.approx(each["delta"], rel=1e-3)


def test_evidence_names_one_device_or_none() -> None:
    case = vectors("secagg.json")["evidence"]
    directory = Directory.from_bytes(bytes.fromhex(case["directory"]))
    assert check(case["record"].encode(), directory) == case["names"] == 3
    with pytest.raises(IntegrityError, match="as it must be"):
        check(case["none"].encode(), directory)


def test_the_table_of_terms_is_what_the_code_says() -> None:
    page = (FOLDER.parent / "wire-masks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) % \| (.+) \|$", page, re.M)
    assert len(rows) == 20
    for size, corrupt, cells in rows:
        n = int(size.replace(",", ""))
        for dropped, cell in zip((5, 10, 20, 33), cells.split(" | "), strict=True):
            numbers = {"corrupt": -(-n * int(corrupt) // 100), "dropped": -(-n * dropped // 100)}
            if cell == "-":
                with pytest.raises(InputError):
                    graph_terms(n, **numbers)
            else:
                found = graph_terms(n, **numbers)
                drawn = f", {found.sample}, {found.quorum}" if found.sample else ""
                assert cell == f"{found.neighbours}, {found.threshold}{drawn}"


def tensors(data: bytes) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """A safetensors file by hand: its header, and each tensor's bits as whole numbers, signed if it is."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), {}
    for name, facts in header.items():
        if name != "__metadata__":
            width, signed = {"I8": (1, True), "U8": (1, False), "F16": (2, False), "I16": (2, True), "I32": (4, True)}[
                facts["dtype"]
            ]
            begin, end = (8 + length + place for place in facts["data_offsets"])
            parts = [data[place : place + width] for place in range(begin, end, width)]
            numbers[name] = [int.from_bytes(part, "little", signed=signed) for part in parts]
    return header, numbers


def test_an_enrolment_is_signed_over_the_tokens_hash() -> None:
    found = vectors("enrolment.json")
    request = json.loads(found["request"])
    signed = {"identity": request["identity"], "token_hash": hashlib.sha256(request["token"].encode()).hexdigest()}
    assert found["signed"].encode() == canonical_json(signed)
    verify(request["identity"], found["tag"], found["signed"], request["proof"])


def test_who_leaves_by_hand() -> None:
    found = vectors("enrolment.json")["leave"]
    request = json.loads(found["request"])
    signed = {name: request[name] for name in ("device", "identity", "population")}
    assert json.dumps(signed, sort_keys=True, separators=(",", ":")) == found["signed"]
    verify(request["identity"], found["tag"], found["signed"], request["proof"])
    assert json.loads(found["answer"]) == {"palate": "left", "population": "readers", "device": 7}


def test_a_request_is_signed_over_all_that_it_says() -> None:
    """As the table of docs/wire-exchange.md has it: every header but the signature, and whose it is."""
    found = vectors("exchange.json")
    for case in found["requests"]:
        said, body = dict(case["headers"]), bytes.fromhex(case["body_hex"])
        signature = said.pop("palate-signature")
        assert (said["palate-body"], said["content-length"]) == (hashlib.sha256(body).hexdigest(), str(len(body)))
        assert said["palate-answers"] == (case["answers"] or "-")
        assert int(said["palate-wait"]) == min(int(case["wait"] * 1000), 25_000)
        assert int(said["palate-stays"]) == min(int(case["stays"] * 1000), 2**32 - 1)
        for name in ("device", "takes", "time"):
            assert said[f"palate-{name}"] == str(case[name])
        signed = {**said, "population": case["population"], "path": case["path"]}
        verify(found["identity"], found["tag"], canonical_json(signed).decode(), signature)


def verify(identity: str, tag: str, signed: str, signature: str) -> None:
    """Verify a signature by nothing but Ed25519."""
    message = b"palate signature 1\x00" + bytes([len(tag)]) + tag.encode() + signed.encode()
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(identity)).verify(bytes.fromhex(signature), message)
