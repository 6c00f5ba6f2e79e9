"""secagg.json: the primitives of secure aggregation, each by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.secagg.evidence import Scene, ShownBox, ShownReceipt
from palate_core.cohort_terms import CohortTerms
from palate_core.log.signing import SigningKey
from palate_core.masks import boxes
from palate_core.masks.agreement import KeyPair, agree, seal
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.boxes import Label, make_box, open_box, path_of, root_of, tree_of
from palate_core.masks.directory import Directory
from palate_core.masks.graph import Ring
from palate_core.masks.graph_terms import graph_terms
from palate_core.masks.masking import Masker
from palate_core.masks.messages import (
    Advert,
    BoxReceipt,
    Complaint,
    Header,
    Secret,
    Step,
    encode_commitments,
    pack_flags,
    write,
)
from palate_core.masks.packing import pack, residue_type
from palate_core.masks.shamir import combine
from palate_core.masks.transcript import BOX as BOX_TAG
from palate_core.masks.transcript import (
    OPENING,
    RECEIPT,
    REVEAL,
    advert_payload,
    box_info,
    cohort_binding,
    cohort_root,
    commit_payload,
    commitment_to,
    consistency_payload,
    members_payload,
    opening_payload,
    pair_info,
    receipt_payload,
    reveal_payload,
    ring_seed,
    sign,
)
from palate_core.plan import SignedPlan
from palate_core.privacy_mode import DpMode

from .key import SECRET, test_key
from .plan import plan


def secagg() -> dict[str, Any]:
    """The primitives of secure aggregation, each by itself."""
    return {
        "agreement": _agreement(),
        "masks": [_mask(bits) for bits in (20, 32, 40)],
        "packing": [_packed(bits) for bits in (1, 7, 20, 32, 33, 64)],
        "shamir": [_shared(total) for total in (5, 255, 256, 1000)],
        "rings": [_ring(n) for n in (3, 10, 40)],
        "terms": [
            _terms(n, corrupt, dropped)
            for n, corrupt, dropped in ((3, 0, 0), (100, 10, 20), (300, 30, 30), (1000, 100, 100), (10_000, 1000, 500))
        ],
        "directory": _directory(),
        "subcohorts": _subcohorts(),
        "transcript": _transcript(),
        "box": _box(),
        "receipt": _receipt(),
        "open": _open(),
        "reveal": _reveal(),
        "evidence": _evidence(),
    }


def _terms(n: int, corrupt: int, dropped: int) -> dict[str, Any]:
    """The terms of one cohort, without the bounds: those are no part of the agreement."""
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    return {
        "n": n,
        "corrupt": corrupt,
        "dropped": dropped,
        "complete": found.complete,
        "neighbours": found.neighbours,
        "threshold": found.threshold,
        "window_corrupt": found.window_corrupt,
        "sample": found.sample,
        "quorum": found.quorum,
    }


def _agreement() -> dict[str, Any]:
    """Two key pairs, what they agree on, a sealed message, and keys that must be refused."""
    own, other = KeyPair.from_private(SECRET), KeyPair.from_private(SECRET[::-1])
    agreed = agree(own, other.public, info=b"role")
    field = 2**255 - 19
    low = (0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504)
    low += (39382357235489614581723060781553021112529911719440698176882885853963445705823, field - 1)
    return {
        "private_keys": [SECRET.hex(), SECRET[::-1].hex()],
        "public_keys": [own.public.hex(), other.public.hex()],
        "info_hex": b"role".hex(),
        "agreed": agreed.hex(),
        "sealing_key": agreed[:32].hex(),
        "aad_hex": b"one to two".hex(),
        "plaintext_hex": SECRET.hex(),
        "sealed_hex": seal(agreed[:32], SECRET, aad=b"one to two").hex(),
        "low_order": [point.to_bytes(32, "little").hex() for point in low],
        "not_reduced": [point.to_bytes(32, "little").hex() for point in (field, field + 9, 2**255 + 9)],
    }


def _mask(bits: int) -> dict[str, Any]:
    """A total before and after a mask."""
    masker = Masker(6, bits)
    start = np.arange(6, dtype=masker.dtype) * masker.dtype.type(1_000_003)
    total = start.copy()
    masker.add(total, SECRET)
    modulus = 2**bits
    return {
        "key": SECRET.hex(),
        "bits": bits,
        "values": start.tolist(),
        "added": [int(value) % modulus for value in total],
    }


def _packed(bits: int) -> dict[str, Any]:
    """Residues and their bytes."""
    values = [(3**place * 7 + place) % 2**bits for place in range(9)]
    return {"bits": bits, "values": values, "packed_hex": pack(np.array(values, residue_type(bits)), bits).hex()}


def _shared(total: int) -> dict[str, Any]:
    """Shares, and the secret that they are of: any bytes are shares of something."""
    indices = [1, total // 2, total]
    shares = [bytes((17 * index + 31 * place) % 256 for place in range(4)) for index in indices]
    secret = combine(indices, np.frombuffer(b"".join(shares), np.uint8).reshape(3, 4), total=total)
    return {"total": total, "indices": indices, "shares": [share.hex() for share in shares], "secret": secret.hex()}


def _ring(n: int) -> dict[str, Any]:
    """A ring, and one member's neighbours."""
    ring = Ring.from_seed(SECRET, n)
    return {
        "seed": SECRET.hex(),
        "n": n,
        "order": ring.order.tolist(),
        "neighbours_of_0": ring.neighbours(0, 2).tolist(),
    }


CONTEXT, TOSS, ROOT, SEED = bytes(range(32)), 3, bytes(range(32, 64)), bytes(range(64, 96))
"""Of the toss in which the following records are made."""


DEVICES = tuple(SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in range(1, 6))
"""The identities of the directory of five devices, in a complete graph with 3 of 4 shares."""


class _Fixed(KeyPair):
    """A key pair for each box, the same each time: only for vectors."""

    @classmethod
    def generate(cls) -> KeyPair:
        return KeyPair.from_private(bytes(range(100, 132)))


def _label(sender: int, receiver: int) -> Label:
    """What is signed with a box of one device for another."""
    key = KeyPair.from_private(bytes([200 + receiver]) * 32).public
    slot = receiver - (receiver > sender)
    binding = cohort_binding(CONTEXT, TOSS, ROOT, SEED)
    return Label(binding=binding, sender=sender, receiver=receiver, slot=slot, degree=4, threshold=3, key=key)


def _made_box(sender: int, receiver: int) -> bytes:
    """A good box."""
    with mock.patch.object(boxes, "KeyPair", _Fixed):
        return make_box(_label(sender, receiver), bytes(range(64)), DEVICES[sender])[0]


def _transcript() -> dict[str, Any]:
    """What is hashed, signed and derived from beside boxes, receipts and shares, made of the parts that it is of."""
    signed = SignedPlan.model_validate_json(plan()["signed_plan"])
    cohort = CohortTerms(n_max=5, n_min=4, c_max=1, masks=True, directory="ab" * 32)
    masked = signed.plan.model_copy(update={"dp": DpMode.DISTRIBUTED, "cohort": cohort, "cohort_floor": 4})
    terms = attempt_terms(SignedPlan(plan=masked, charge=signed.charge, signature=signed.signature))
    nonces = [bytes([number]) * 32 for number in (7, 8)]
    commitments = [commitment_to(nonce) for nonce in nonces]
    advert = Advert(nonces[0], bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32, b"")
    root = cohort_root(CONTEXT, TOSS, encode_commitments([(4, commitments[0]), (9, commitments[1])]))
    seed = ring_seed(CONTEXT, root, nonces)
    binding, own, other = cohort_binding(CONTEXT, TOSS, root, seed), b"\x01" * 32, b"\x02" * 32
    return {
        "plan": masked.model_dump(mode="json"),
        "checkpoint": signed.charge.model_dump(mode="json")["checkpoint"] if signed.charge else None,
        "context_of_plan": terms.context.hex(),
        "bits": terms.bits,
        "size": terms.size,
        "share_sigma": masked.share_sigma,
        "context": CONTEXT.hex(),
        "toss": TOSS,
        "devices": [4, 9],
        "nonces": [nonce.hex() for nonce in nonces],
        "commitments": [each.hex() for each in commitments],
        "root": root.hex(),
        "seed": seed.hex(),
        "binding": binding.hex(),
        "commit_payload": commit_payload(CONTEXT, TOSS, 4, commitments[0]).hex(),
        "advert_body": advert.body.hex(),
        "advert_payload": advert_payload(CONTEXT, TOSS, root, 4, advert.body).hex(),
        "advert_payload_without_a_ring": advert_payload(CONTEXT, TOSS, b"", 4, advert.body[32:]).hex(),
        "members_payload": members_payload(binding, b"\x03").hex(),
        "consistency_payload": consistency_payload(binding, b"\x03", b"\x01").hex(),
        "mask_info": pair_info("mask", CONTEXT, TOSS, (4, own), (9, other)).hex(),
    }


def _place() -> dict[str, Any]:
    return {"context": CONTEXT.hex(), "toss": TOSS, "root": ROOT.hex(), "seed": SEED.hex()}


def _box() -> dict[str, Any]:
    """Device 1's box for device 3: what it is made of, and what is signed with it."""
    label, box = _label(1, 3), _made_box(1, 3)
    info = box_info(CONTEXT, TOSS, label.ends, box[:32], label.key)
    facts = {"sender": 1, "receiver": 3, "slot": label.slot, "degree": 4, "threshold": 3}
    return {
        **_place(), **facts, "made_with": bytes(range(100, 132)).hex(), "receiver_private": (bytes([203]) * 32).hex(),
        "receiver_key": label.key.hex(), "shares": bytes(range(64)).hex(), "info_hex": info.hex(), "tag": BOX_TAG,
        "public_key": DEVICES[1].public, "box": box.hex(),
    }  # fmt: skip


def _received() -> tuple[list[bytes], BoxReceipt]:
    """Device 3 complains of device 1's box and has none of device 4; leaves by slot."""
    leaves = [_label(sender, 3).leaf(_made_box(sender, 3)) for sender in (0, 1, 2)] + [b""]
    root, accused = root_of(tree_of(leaves)), np.array([False, True, False, False])
    payload = receipt_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), root, pack_flags(accused))
    return leaves, BoxReceipt(root, accused, sign(DEVICES[3], RECEIPT, payload))


def _receipt() -> dict[str, Any]:
    """A whole record: device 3 signs for three boxes, and complains of the second."""
    leaves, receipt = _received()
    record = write(Header(Step.CHECK, TOSS, 3, CONTEXT), receipt.encode(), answer=True)
    facts = {"device": 3, "leaves_hex": [leaf.hex() for leaf in leaves], "accused": [1], "tag": RECEIPT}
    return {**_place(), **facts, "public_key": DEVICES[3].public, "record": record.hex()}


def _open() -> dict[str, Any]:
    """Two whole records: device 1 is shown that complaint, and opens its box."""
    leaves, receipt = _received()
    asked = Complaint(3, receipt, path_of(tree_of(leaves), 1)).encode()
    secret, header = bytes(range(100, 132)), Header(Step.OPEN, TOSS, 1, CONTEXT)
    payload = opening_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), 3, secret)
    answer = secret + sign(DEVICES[1], OPENING, payload)
    request = write(header, asked, answer=False).hex()
    shown = {"request": request, "answer": write(header, answer, answer=True).hex(), "tag": OPENING}
    return {**_place(), "device": 1, "complains": 3, **shown, "public_key": DEVICES[1].public}


def _reveal() -> dict[str, Any]:
    """A whole record: device 3 gives its share of device 0's b, and of device 2's mask key; the others are lost."""
    pieces = [b""] * 4
    for slot, secret in ((0, Secret.SELF_MASK), (2, Secret.MASK_KEY)):
        pair = KeyPair.from_private(bytes([203]) * 32)
        dealt = open_box(_label(slot, 3), _made_box(slot, 3), pair)
        pieces[slot] = b"" if dealt is None else dealt.piece(secret)
    payload = reveal_payload(cohort_binding(CONTEXT, TOSS, ROOT, SEED), root_of(tree_of(pieces)))
    body = b"".join(pieces) + sign(DEVICES[3], REVEAL, payload)
    record = write(Header(Step.UNMASK, TOSS, 3, CONTEXT), body, answer=True)
    facts = {"device": 3, "slots": [0, 2], "tag": REVEAL}
    return {**_place(), **facts, "public_key": DEVICES[3].public, "record": record.hex()}


def _evidence() -> dict[str, Any]:
    """Device 3 has complained of a good box: a record that names it, and one that names nobody."""
    leaves, receipt = _received()
    label, box, scene = _label(1, 3), _made_box(1, 3), Scene(cohort_binding(CONTEXT, TOSS, ROOT, SEED))
    path = tuple(each.hex() for each in path_of(tree_of(leaves), 1))
    shown = ShownReceipt(receipt=receipt.encode().hex(), degree=4, slot=1, path=path)
    secret = bytes(range(100, 132)).hex()
    record = scene.record("complaint", 3, box=ShownBox.of(label, box), secret=secret, receipt=shown)
    wrong = scene.record("box", 1, box=ShownBox.of(label, box), secret=secret)
    directory = Directory({number: key.public for number, key in enumerate(DEVICES)}, bytes(32)).to_bytes().hex()
    return {"directory": directory, "names": 3, "record": record.to_bytes().decode(), "none": wrong.to_bytes().decode()}


def directories() -> tuple[Directory, ...]:
    """Who is invited to an attempt with two sub-cohorts."""
    each = [
        Directory({7: test_key().public, 70000: "ab" * 32}, bytes(range(32))),
        Directory({8: "cd" * 32}, bytes(range(32, 64))),
    ]
    return tuple(replace(one, beside=tuple(other.hash for other in each)) for one in each)


def _subcohorts() -> dict[str, Any]:
    """The directory of a sub-cohort, and bytes that are none of two."""
    directory, other = directories()
    data, (own, beside) = directory.to_bytes(), map(bytes.fromhex, directory.beside)
    refused = {
        "without the other's hash": own + data[64:],
        "without hashes": data[64:],
        "another one's hash in the place of its own": beside + data[32:],
        "its own hash in the place of the other's": own + own + data[64:],
        "neither's": own + beside + data[64:-1] + b"\x00",
        "a byte too many": data + b"\x00",
        "hashes without a salt": data[:80],
    }
    return {
        "number": 2,
        "bytes_hex": data.hex(),
        "other_bytes_hex": other.to_bytes().hex(),
        "identities": {str(number): key for number, key in directory.identities.items()},
        "hash": directory.hash,
        "refused": [{"name": name, "bytes_hex": wrong.hex()} for name, wrong in refused.items()],
    }


def _directory() -> dict[str, Any]:
    """Who is invited to an attempt, and lists that are no directory."""
    directory = Directory({7: test_key().public, 70000: "ab" * 32}, bytes(range(32)))
    data = directory.to_bytes()
    salt, one, other = data[:32], data[32:68], data[68:]
    refused = {
        "a byte too many": data + b"\x00",
        "half a salt": salt[:16],
        "the higher number first": salt + other + one,
        "a number twice": salt + one + one[:4] + other[4:],
        "a key twice": salt + one + other[:4] + one[4:],
    }
    return {
        "bytes_hex": data.hex(),
        "identities": {str(number): key for number, key in directory.identities.items()},
        "hash": directory.hash,
        "refused": [{"name": name, "bytes_hex": wrong.hex()} for name, wrong in refused.items()],
    }
