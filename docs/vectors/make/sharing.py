"""sharing.json: Shamir's shares, boxes that open or don't, and what an attempt's transcript is made of."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from palate_core.errors import IntegrityError
from palate_core.masks import boxes, shamir
from palate_core.masks.agreement import KeyPair
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.boxes import Label, check_signed, make_box, open_box
from palate_core.masks.messages import encode_commitments
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import (
    AttemptTerms,
    box_aad,
    box_info,
    cohort_binding,
    cohort_root,
    commit_payload,
    commitment_to,
    pair_info,
    ring_seed,
    share_commitment,
)
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan

from .admission import base, cohort
from .secagg import CONTEXT, DEVICES, ROOT, SEED, TOSS, _Fixed

SPLIT = (
    *((2, 2), (3, 2), (3, 3), (5, 3), (10, 2), (10, 10), (50, 26), (99, 55), (254, 3), (255, 128), (255, 2)),
    *((256, 2), (256, 100), (257, 3), (1000, 5), (4096, 17), (65_535, 2)),
)


def sharing() -> dict[str, Any]:
    """Shamir's shares, boxes that open or don't, and what an attempt's transcript is made of."""
    return {
        "says": "`shamir`: `shares` of a secret at `indices`, `threshold` of them; without the last one they give "
        "`fewer`. `boxes`: the box of secagg.json under a label with one change: is it `signed` by its "
        "sender, and does it open for its receiver, or for whoever has the key it was made with? "
        "`transcripts`: as in secagg.json.",
        "shamir": [_split(total, threshold, size) for total, threshold in SPLIT for size in (4, 32)],
        "boxes": _boxes(),
        "transcripts": [_transcript(*case) for case in ((0, 2), (1, 3), (255, 5), (256, 4), (1023, 7))],
        "pairs": [_pair(one, other) for one, other in ((0, 1), (1, 0), (255, 256), (2**20 - 1, 3), (70_000, 70_001))],
        "commitments": [_commitment(place) for place in range(6)],
        "contexts": [_context(*case) for case in _contexts()],
        "cohorts": [_cohort(*case) for case in _cohorts()],
    }


def _bytes(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _split(total: int, threshold: int, size: int) -> dict[str, Any]:
    secret, stream = _bytes(total, threshold)[:size], hashlib.shake_256(_bytes("coefficients", total, threshold))
    with mock.patch("os.urandom", stream.digest):
        shares = shamir.split(secret, shares=total, threshold=threshold)
    indices = [total, *range(1, threshold)]
    rows = shares[[index - 1 for index in indices]]
    if shamir.combine(indices, rows, total=total) != secret:
        raise ValueError(f"{threshold} of {total} shares give another secret")
    return {
        "says": f"{threshold} of {total} shares of {size} bytes",
        "total": total,
        "threshold": threshold,
        "secret": secret.hex(),
        "indices": indices,
        "shares": [bytes(row).hex() for row in rows],
        "fewer": shamir.combine(indices[:-1], rows[:-1], total=total).hex() if threshold > 2 else None,
    }


def _boxes() -> list[dict[str, Any]]:
    receiver = KeyPair.from_private(bytes([203]) * 32)
    own = Label(
        binding=cohort_binding(CONTEXT, TOSS, ROOT, SEED), sender=1, receiver=3, slot=2, degree=4, threshold=3,
        key=receiver.public,
    )  # fmt: skip
    with mock.patch.object(boxes, "KeyPair", _Fixed):
        box, made_with = make_box(own, bytes(range(64)), DEVICES[1])
    other = KeyPair.from_private(bytes([77]) * 32)
    bindings = {
        "another attempt": cohort_binding(bytes(32), TOSS, ROOT, SEED),
        "another toss": cohort_binding(CONTEXT, TOSS + 1, ROOT, SEED),
        "another cohort": cohort_binding(CONTEXT, TOSS, SEED, SEED),
        "another ring": cohort_binding(CONTEXT, TOSS, ROOT, ROOT),
    }
    labels = {"the box itself": own} | {says: replace(own, binding=each) for says, each in bindings.items()}
    labels |= {
        "another sender": replace(own, sender=0),
        "another receiver": replace(own, receiver=2),
        "both ends the other way": replace(own, sender=3, receiver=1),
        "another slot": replace(own, slot=1),
        "more shares": replace(own, degree=5),
        "a lower threshold": replace(own, threshold=2),
        "another receiver's key": replace(own, key=other.public),
    }
    found = [_box(says, label, box, receiver, made_with) for says, label in labels.items()]
    at = {
        "the key it was made with": 0,
        "the sealed shares": 40,
        "the seal": 111,
        "a commitment": 112,
        "the other": 140,
    }
    at |= {"the signature": 160}
    for says, place in at.items():
        changed = bytearray(box)
        changed[place] ^= 1
        found.append(_box(f"a bit is changed in {says}", own, bytes(changed), receiver, made_with))
    return found


def _box(says: str, label: Label, box: bytes, receiver: KeyPair, made_with: KeyPair) -> dict[str, Any]:
    signed = True
    try:
        check_signed(label, box, DEVICES[1].public)
    except IntegrityError:
        signed = False
    facts = {name: getattr(label, name) for name in ("sender", "receiver", "slot", "degree", "threshold")}
    opened = [open_box(label, box, pair) is not None for pair in (receiver, made_with)]
    return {
        "says": says, "binding": label.binding.hex(), **facts, "key": label.key.hex(), "box": box.hex(),
        "signed": signed,
        "opens": opened[0], "opens_with_its_own": opened[1],
    }  # fmt: skip


def _transcript(toss: int, devices: int) -> dict[str, Any]:
    context = _bytes("context", toss)
    ids = [11 * place**2 + place for place in range(devices)]
    nonces = [_bytes("nonce", toss, device) for device in ids]
    commitments = [commitment_to(nonce) for nonce in nonces]
    root = cohort_root(context, toss, encode_commitments(list(zip(ids, commitments, strict=True))))
    seed = ring_seed(context, root, nonces)
    return {
        "says": f"toss {toss} of {devices} devices",
        "context": context.hex(),
        "toss": toss,
        "devices": ids,
        "nonces": [each.hex() for each in nonces],
        "commitments": [each.hex() for each in commitments],
        "commit_payload": commit_payload(context, toss, ids[-1], commitments[-1]).hex(),
        "root": root.hex(),
        "seed": seed.hex(),
        "binding": cohort_binding(context, toss, root, seed).hex(),
    }


def _pair(one: int, other: int) -> dict[str, Any]:
    context, toss, keys = _bytes("pair", one), (one + other) % 1024, [_bytes("key", one), _bytes("key", other, 2)]
    lower, higher = sorted(zip((one, other), keys, strict=True))
    return {
        "says": f"between devices {one} and {other}: a mask key is the pair's, a box has a direction",
        "context": context.hex(),
        "toss": toss,
        "devices": [one, other],
        "keys": [key.hex() for key in keys],
        "mask_info": pair_info("mask", context, toss, lower, higher).hex(),
        "box_info": box_info(context, toss, (one, other), keys[0], keys[1]).hex(),
        "box_aad": box_aad(context, keys[0], one, other).hex(),
    }


def _commitment(place: int) -> dict[str, Any]:
    share, salt = _bytes("share", place), _bytes("salt", place)[:16]
    found = share_commitment(share, salt).hex()
    return {"says": "a dealer's commitment to a share", "share": share.hex(), "salt": salt.hex(), "commitment": found}


def _contexts() -> list[tuple[str, dict[str, Any], int, str]]:
    """What a case shows, changes of the plan, and size and first digit of the root of the ledger's state."""
    changes: dict[str, dict[str, Any]] = {
        "the plan itself": {},
        "another run": {"run": "run-2"},
        "another round": {"round": 1},
        "another attempt": {"attempt": 1},
        "another model": {"model_hash": "ee" * 32},
        "another cost": {"mu2": 0.5},
        "a larger cohort": {"cohort": cohort(1000, 900, 100)},
        "another layout": {"layout": [{"name": "counts", "shape": [7], "weight": 1.0}]},
    }
    found = [(says, change, 5, "a") for says, change in changes.items()]
    return [*found, ("a longer ledger", {}, 6, "a"), ("another ledger", {}, 5, "b")]


def _context(says: str, change: dict[str, Any], size: int, digit: str) -> dict[str, Any]:
    plan, state = RoundPlan.model_validate(base() | change), {"size": size, "root": digit * 64}
    charge = ChargeProof.model_validate({"entry": {}, "checkpoint": state, "inclusion": []})
    terms = attempt_terms(SignedPlan(plan=plan, charge=charge, signature=""))
    facts = {"context": terms.context.hex(), "bits": terms.bits, "size": terms.size}
    return {"says": says, "change": change, "checkpoint": state, **facts}


def _cohorts() -> list[tuple[int, int, int, int, list[int]]]:
    """Members, n_max, n_min, c_max, and the members that are lost."""
    return [
        (3, 3, 3, 1, []),
        (5, 9, 4, 1, [2]),
        (20, 30, 14, 3, []),
        (251, 300, 226, 25, []),
        (251, 300, 226, 25, list(range(40))),
        (300, 300, 270, 30, list(range(0, 300, 2))),
        (400, 400, 350, 40, list(range(30))),
    ]


def _cohort(n: int, n_max: int, n_min: int, c_max: int, lost: list[int]) -> dict[str, Any]:
    context, root, nonces = _bytes("cohort", n), _bytes("root", n), [_bytes("nonce", n)]
    terms = AttemptTerms(context=context, size=10, bits=20, n_max=n_max, n_min=n_min, c_max=c_max, directory="ab" * 32)
    found = Cohort(terms, toss=1, ids=[3 * place for place in range(n)], root=root, nonces=nonces)
    alive = np.ones(n, np.bool_)
    alive[lost] = False
    return {
        "says": f"{n} members under terms for {n_min} to {n_max}, {c_max} corrupt, of which {len(lost)} are lost",
        "context": context.hex(), "n_max": n_max, "n_min": n_min, "c_max": c_max, "n": n, "root": root.hex(),
        "nonce": nonces[0].hex(), "binding": found.binding.hex(), "degree": found.degree,
        "threshold": found.threshold, "sample": found.sample, "quorum": found.quorum, "lost": lost,
        "neighbours_of_1": found.neighbours(1).tolist(), "slots_of_1": found.slots(1).tolist(), "cut": found.cut(alive),
    }  # fmt: skip
