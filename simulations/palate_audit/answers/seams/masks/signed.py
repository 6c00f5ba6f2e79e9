"""What devices and server sign, encrypt and send under masks, byte by byte, and what they don't take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import flipped, resized
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts
from palate_core.accounting import charged_mu2
from palate_core.cohort_terms import CohortTerms
from palate_core.layout import BlockSpec
from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey
from palate_core.masks import agreement, boxes, messages, transcript
from palate_core.masks.agreement import KeyPair
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.boxes import Label
from palate_core.masks.directory import Directory
from palate_core.masks.messages import (
    Advert,
    BoxReceipt,
    CheckRequest,
    Commit,
    Complaint,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    UnmaskRequest,
)
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan

FIELD = 2**255 - 19
LOW = (0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504,
       39382357235489614581723060781553021112529911719440698176882885853963445705823, FIELD - 1)  # fmt: skip
"""Points of low order, as numbers."""


def _flags(dice: Dice, n: int) -> messages.Flags:
    return dice.wholes(0, 1, n).astype(np.bool_)


def _terms(dice: Dice, answer: CaseAnswer) -> None:
    """Terms at each of their limits."""
    n_max, c_max = dice.one_of((3, 9, 249, 250, 251, 2**20)), dice.one_of((1, 1, 2))
    good: dict[str, Any] = {
        "context": dice.bytes(32), "size": dice.one_of((1, 2**32)), "bits": dice.one_of((1, 64)), "n_max": n_max,
        "n_min": dice.one_of((min(n_max, c_max + 2), n_max)), "c_max": min(c_max, n_max - 2),
        "directory": dice.bytes(32).hex(), "max_tosses": dice.one_of((1, 16, 1024)),
    }  # fmt: skip
    terms = answer.of(transcript.AttemptTerms, **good)
    answer.tell(terms.committed)
    odd: dict[str, Sequence[Any]] = {
        "context": (b"", bytes(31), bytes(33), bytearray(32), "a" * 32),
        "directory": ("ab" * 31, "AB" * 32, "ab" * 33, "ab" * 32 + "\n", "g" * 64, "\u0661" * 64),
        "size": (0, 2**32 + 1, True, 1.0), "bits": (0, 65, True, 8.0), "n_max": (2, 2**20 + 1, 4.0),
        "c_max": (0, n_max, n_max + 1, n_max - 1, True), "n_min": (good["c_max"] + 1, n_max + 1, 2, 5.0),
        "max_tosses": (0, 1025, True, 3.0),
    }  # fmt: skip
    for name, values in odd.items():
        for value in values:
            answer.of(transcript.AttemptTerms, **{**good, name: value})


def _payloads(dice: Dice, answer: CaseAnswer) -> None:
    """What is signed and hashed: of fields of every kind, and once more with one of them changed."""
    context, root, seed, nonce = (dice.bytes(32) for _ in range(4))
    toss, one, other = dice.one_of((0, 1, 255, 256, 1023, 65535)), dice.whole(0, 2**20), dice.one_of((0, 1, 2**32 - 1))
    list_, more, key = dice.bytes(dice.whole(0, 3)), dice.bytes(2), dice.bytes(32)
    binding = transcript.cohort_binding(context, toss, root, seed)
    place = (dice.whole(0, 65535), dice.whole(0, 300), dice.whole(0, 255))
    commitment = transcript.commitment_to(nonce)
    signed: list[bytes] = [
        binding, commitment, transcript.commit_payload(context, toss, one, commitment),
        transcript.advert_payload(context, toss, dice.one_of((b"", root)), one, more),
        transcript.members_payload(binding, list_), transcript.consistency_payload(binding, list_, more),
        transcript.box_payload(binding, (one, other), place, key, more), transcript.box_payload(
            binding, (other, one), place[::-1], more, key), transcript.receipt_payload(binding, root, list_),
        transcript.opening_payload(binding, other, key), transcript.reveal_payload(binding, root),
    ]  # fmt: skip
    answer.tell(signed, transcript.share_commitment(key, more), transcript.cohort_root(context, toss, list_))
    answer.tell(transcript.ring_seed(context, root, [nonce, key][: dice.whole(0, 2)]))
    role = dice.one_of(("mask", "share"))
    answer.tell(transcript.pair_info(role, context, toss, (one, key), (other, root)))
    answer.tell(transcript.box_aad(context, root, one, other), transcript.box_aad(context, root, other, one))
    answer.tell(transcript.box_info(context, toss, (one, other), key, root))
    pair = signers(2)
    tags = (transcript.COMMIT, transcript.ADVERT, transcript.MEMBERS, transcript.INPUT, transcript.CONSISTENCY,
            transcript.BOX, transcript.RECEIPT, transcript.OPENING, transcript.REVEAL)  # fmt: skip
    tag, said = dice.one_of(tags), dice.one_of(signed)
    signature = transcript.sign(pair[0], tag, said)
    answer.tell(signature, tags)
    for public, named, payload, each in (
        (pair[0].public, tag, said, signature), (pair[1].public, tag, said, signature),
        (pair[0].public, dice.one_of(tags), said, signature), (pair[0].public, tag, said + b"\0", signature),
        (pair[0].public, tag, said, flipped(dice, signature)), (pair[0].public, tag, said, signature[:-1]),
    ):  # fmt: skip
        answer.of(transcript.check_signature, public, named, payload, each)


def signers(n: int) -> list[SigningKey]:
    """Signing keys: in `still` they follow from the case."""
    return [SigningKey.generate() for _ in range(n)]


def _agreed(dice: Dice, answer: CaseAnswer) -> None:
    """Keys between two, sealed messages, and public keys that are none."""
    one, other = KeyPair.from_private(dice.bytes(32)), KeyPair.generate()
    info, aad = dice.bytes(dice.whole(0, 5)), dice.bytes(dice.whole(0, 5))
    key = agreement.agree(one, other.public, info=info)
    answer.tell(key, agreement.agree(other, one.public, info=info), agreement.agree(one, one.public, info=aad))
    answer.tell(one.public, one.private_bytes(), other.public, other.private_bytes())
    for value in (*LOW, FIELD, FIELD + 1, FIELD + 2, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 1, FIELD - 2, 2, 9):
        public = value.to_bytes(32, "little")
        answer.of(agreement.check_public, public)
        if dice.chance(0.3):
            answer.of(agreement.agree, one, public, info=info)
    for length in (0, 31, 33):
        answer.of(agreement.check_public, bytes([9] * length))
        answer.of(agreement.agree, one, bytes([9] * length), info=info)
        answer.tried(KeyPair.from_private, bytes(length))
        answer.of(agreement.seal, bytes(length), b"", aad=aad)
        answer.of(agreement.unseal, bytes(length), bytes(16), aad=aad)
    message = dice.bytes(dice.one_of((0, 1, 16, 64)))
    sealed = agreement.seal(key[:32], message, aad=aad)
    answer.tell(sealed)
    for used, text, said in (
        (key[:32], sealed, aad), (key[32:], sealed, aad), (key[:32], flipped(dice, sealed), aad),
        (key[:32], sealed, aad + b"\0"), (key[:32], resized(dice, sealed), aad), (key[:32], sealed[:15], aad),
    ):  # fmt: skip
        answer.of(agreement.unseal, used, text, aad=said)
    answer.tried(one.__reduce__)


def _headers(dice: Dice, answer: CaseAnswer) -> None:
    """Records with their headers, and those of another version, step, toss, device or attempt."""
    step, toss, device = (
        dice.one_of(list(Step)),
        dice.one_of((0, 1, 1023, 65535)),
        dice.one_of((0, 7, 2**20, 2**32 - 1)),
    )
    context, body, of_device = dice.bytes(32), dice.bytes(dice.whole(0, 9)), dice.chance(0.5)
    data = messages.write(Header(step, toss, device, context), body, answer=of_device)
    answer.tell(data)
    expected: dict[str, Any] = {"step": step, "device": device, "context": context, "answer": of_device}
    odd: tuple[dict[str, Any], ...] = (
        {}, {"step": dice.one_of(list(Step))}, {"device": device ^ 1}, {"context": flipped(dice, context)},
        {"answer": not of_device},
    )  # fmt: skip
    for changed in odd:
        answer.of(messages.read, data, **{**expected, **changed})
    for other in (flipped(dice, data[:40]) + body, data[:39], data[:40], b"", b"\2" + data[1:], b"\4" + data[1:]):
        answer.of(messages.read, other, **expected)
    answer.tell(type(messages.read(memoryview(data), **expected)[1]).__name__)
    for kind in (*data[:2], 0, 8, 9, 128, 255):
        answer.of(messages.step_of, bytes([3, kind]))
    answer.of(messages.step_of, dice.one_of((b"", b"\3", b"\1")))


def _bodies(dice: Dice, answer: CaseAnswer) -> None:
    """Every kind of body: encoded, decoded, and with a byte too many, too few, or another one."""
    n, committed = dice.one_of((1, 2, 7, 8, 9, 16, 17)), dice.chance(0.5)
    flags, signature, k = _flags(dice, n), dice.bytes(64), dice.one_of((2, 7, 8, 9))

    def advert() -> Advert:
        return Advert(dice.bytes(32) if committed else b"", dice.bytes(32), dice.bytes(32), dice.bytes(32), signature)

    entries = tuple((dice.whole(0, 2**32 - 1), dice.bytes(32), dice.bytes(32)) for _ in range(n if committed else 0))
    count = dice.one_of((0, 1, min(n, 3)))
    share = ShareRequest(entries, tuple((dice.whole(0, 2**32 - 1), advert()) for _ in range(count)))
    receipt = BoxReceipt(dice.bytes(32), _flags(dice, k), signature)
    depth, asked = boxes.depth_of(k), dice.whole(1, 3)
    complaints = [Complaint(dice.whole(0, 2**32 - 1), receipt, (dice.bytes(32),) * depth) for _ in range(asked)]
    signatures = tuple(dice.bytes(64) for _ in range(int(flags.sum())))
    more = tuple(dice.bytes(64) for _ in range(dice.whole(0, n - len(signatures))))
    held = tuple(dice.bytes(messages.BOX) for _ in range(dice.one_of((0, 1, min(n, 2)))))
    kinds: list[tuple[bytes, Callable[[bytes], Any]]] = [
        (messages.pack_flags(flags), lambda data: messages.unpack_flags(data, n)),
        (Commit(dice.bytes(32), signature).encode(), Commit.decode),
        (advert().encode(), lambda data: Advert.decode(data, committed=committed)),
        (share.encode(), lambda data: ShareRequest.decode(data, committed=committed, n_max=max(n, count))),
        (CheckRequest(flags, held).encode(), lambda data: CheckRequest.decode(data, n=n)),
        (receipt.encode(), lambda data: BoxReceipt.decode(data, k=k)),
        (b"".join(each.encode() for each in complaints),
         lambda data: Complaint.decode_all(data, k=k, depth=depth, most=dice.one_of((asked, asked, 3, asked - 1)))),
        (InputRequest(flags, signature).encode(), lambda data: InputRequest.decode(data, n=n)),
        (UnmaskRequest(flags, signatures, more).encode(), lambda data: UnmaskRequest.decode(data, n=n)),
    ]  # fmt: skip
    for data, decode in kinds:
        answer.tell(data)
        whole = b"\xff" * len(data)
        for each in (data, flipped(dice, data), resized(dice, data), data + bytes(64), data[:-64], whole):
            answer.of(decode, each)
    answer.of(ShareRequest.decode, share.encode(), committed=not committed, n_max=n)
    answer.of(ShareRequest.decode, share.encode(), committed=committed, n_max=max(n, count) - 1)
    answer.of(UnmaskRequest.decode, messages.pack_flags(flags) + bytes(64 * n), n=n)
    answer.of(UnmaskRequest.decode, messages.pack_flags(flags) + bytes(64 * (n + 1)), n=n)
    answer.of(CheckRequest.decode, messages.pack_flags(flags) + bytes(messages.BOX * (n + dice.whole(-1, 1))), n=n)
    answer.of(messages.split_pieces, "pieces", bytes(6), dice.one_of((1, 2, 3, 4)), dice.one_of((None, 2, 3)))
    answer.tell(Advert.length(committed=True), Advert.length(committed=False), BoxReceipt.length(k), messages.HEADER)


def label_of(dice: Dice, pair: KeyPair, **changes: Any) -> Label:
    """Any label."""
    slot = dice.whole(0, 3)
    facts = {"binding": dice.bytes(98), "sender": 0, "receiver": 1, "slot": slot, "degree": 4, "threshold": 3}
    return Label(**{**facts, "key": pair.public, **changes})


def _boxed(dice: Dice, answer: CaseAnswer) -> None:
    """A box under its label, and under one with another field; opened by both keys; its share given, and others."""
    identity, receiver = signers(1)[0], KeyPair.generate()
    label, shares = label_of(dice, receiver, sender=dice.whole(0, 300), receiver=dice.whole(0, 300)), dice.bytes(64)
    box, made_with = boxes.make_box(label, shares, identity)
    answer.tell(box, made_with.private_bytes(), label.payload(box), label.leaf(box), label.ends)
    field = dice.one_of(("binding", "sender", "receiver", "slot", "degree", "threshold", "key"))
    value = getattr(label, field)
    changed: dict[str, Any] = {field: flipped(dice, value) if isinstance(value, bytes) else value + 1}
    other = replace(label, **changed)
    at = dice.one_of((0, 31, 32, 95, 96, 111, 112, 127, 128, 143, 144, 207))
    wrong = box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :]
    for named, shown in ((label, box), (other, box), (label, wrong)):
        answer.of(boxes.check_signed, named, shown, identity.public)
        for pair in (receiver, made_with, KeyPair.from_private(shares[:32])):
            answer.of(boxes.open_box, named, shown, pair)
    dealt = boxes.open_box(label, box, receiver)
    if dealt is not None:
        for which in messages.Secret:
            piece = dealt.piece(which)
            for given in (piece, flipped(dice, piece), bytes([1 - which]) + piece[1:], b"\2" + piece[1:], piece[:-1]):
                answer.of(boxes.piece_fits, given, box)
    leaves = [dice.bytes(dice.one_of((0, 3))) for _ in range(dice.one_of((1, 2, 3, 4, 5, 8, 9)))]
    tree, slot = boxes.tree_of(leaves), dice.whole(0, len(leaves) - 1)
    root, path = boxes.root_of(tree), boxes.path_of(tree, slot)
    answer.tell(root, path, [boxes.depth_of(slots) for slots in (1, 2, 3, 4, 5, 8, 9, 255, 256, 257)])
    for leaf, place, slots, hashes in (
        (leaves[slot], slot, len(leaves), path), (leaves[slot] + b"\1", slot, len(leaves), path),
        (leaves[slot], slot ^ 1, len(leaves), path), (leaves[slot], len(leaves), len(leaves), path),
        (leaves[slot], -1, len(leaves), path), (leaves[slot], slot, 2 * len(leaves) + 1, path),
        (leaves[slot], slot, len(leaves), path[1:]), (leaves[slot], slot, len(leaves), (*path, bytes(32))),
    ):  # fmt: skip
        answer.of(boxes.check_path, leaf, slot=place, slots=slots, root=root, path=hashes)


def _directories(dice: Dice, answer: CaseAnswer) -> None:
    """Lists of identities: read again, in another spelling, and with one that is none or there already."""
    n = dice.one_of((1, 2, 3, 5))
    keys = [dice.bytes(32).hex() for _ in range(n)]
    directory = Directory(tuple(keys))
    data = directory.to_json()
    answer.tell(len(directory), directory.hash, data)
    at, key = dice.whole(0, n - 1), dice.one_of(keys)
    odd = dice.one_of((key.upper(), key[:-1], key + "0", key + "\n", "", 7, "\u0661" * 64, key[:-1] + "g"))
    wrong: tuple[Any, ...] = (
        (), keys, tuple([*keys[:at], odd, *keys[at + 1 :]]), (*keys, key), (key, key), tuple(reversed(keys)), (odd,),
    )  # fmt: skip
    for each in wrong:
        answer.of(Directory, each)
    spelled = [
        data, data + b"\n", data + b"\n\n", b" " + data, data[:-1], data.replace(b'"version":1', b'"version":2'),
        data.replace(b",", b", ", 1), canonical_json({"identities": [], "version": 1}), b"", b"{}",
        data.replace(keys[at].encode(), str(odd).encode()), data.replace(b'","', b'", "'), data.replace(b'","', b""),
        data.replace(keys[at].encode(), b"\xff" * 64), data.replace(keys[at].encode(), b'","' * 3),
    ]  # fmt: skip
    for text in spelled:
        answer.of(Directory.from_json, text)
    with made_folder(answer) as home:
        (home / "list").write_bytes(dice.one_of(spelled))
        answer.of(Directory.load, home / "list")
        answer.of(Directory.load, str(home / "list"))
        answer.tell(type(CaseAnswer().tried(Directory.load, home / "none")).__name__)  # its text has the path


def _planned(dice: Dice, answer: CaseAnswer) -> None:
    """The terms that follow from a plan: each of its fields, and plans without masks or charge."""
    c_max = dice.whole(1, 2)
    n_min = dice.whole(c_max + 2, 9)
    cohort: dict[str, Any] = {"n_max": n_min + dice.whole(0, 300), "n_min": n_min, "c_max": c_max, "masks": True,
                              "directory": dice.bytes(32).hex(), "max_tosses": dice.one_of((1, 16, 1024))}  # fmt: skip
    items = dice.whole(1, 9)
    fields: dict[str, Any] = {
        "population": "p", "run": dice.one_of(("a", "b")), "round": dice.whole(0, 9), "attempt": dice.whole(0, 9),
        "model_hash": dice.bytes(32).hex(), "algorithm": "popularity", "settings": {},
        "facts": PublicFacts(n_users=100, n_items=items, mu=1.0),
        "layout": (BlockSpec(name="counts", shape=(items,), weight=1.0),), "clip_norm": 1.0,
        "grid": 2 ** dice.whole(8, 14), "sigma": 2 ** dice.whole(14, 18), "dp": "distributed", "noise": "secure",
        "cohort_floor": 1, "expires": 2_000_000_000, "cohort": CohortTerms(**cohort), "mu2": 1.0,
    }  # fmt: skip
    plan = RoundPlan.model_validate(fields)
    checkpoint = Checkpoint(size=dice.whole(1, 99), root=dice.bytes(32).hex())
    facts: dict[str, Any] = {"checkpoint": checkpoint, "consistency": (), "entry": {}, "inclusion": ()}
    charge = ChargeProof.model_construct(**facts)
    found: dict[str, Any] = {"charge": charge, "plan": plan, "signature": dice.bytes(64).hex()}
    terms = answer.of(attempt_terms, SignedPlan.model_construct(**found))
    answer.tell(terms.committed)
    name = dice.one_of(("run", "round", "attempt", "model_hash", "clip_norm", "expires", "grid", "population"))
    other = {"run": "c", "round": 11, "attempt": 12, "model_hash": "cd" * 32, "clip_norm": 2.0, "expires": 1,
             "grid": 2**15, "population": "q"}[name]  # fmt: skip
    answer.of(attempt_terms, SignedPlan.model_construct(**{**found, "plan": plan.model_copy(update={name: other})}))
    moved = replace(checkpoint, size=100) if dice.chance(0.5) else replace(checkpoint, root="ab" * 32)
    proof = ChargeProof.model_construct(**{**facts, "checkpoint": moved})
    answer.of(attempt_terms, SignedPlan.model_construct(**{**found, "charge": proof}))
    answer.of(attempt_terms, SignedPlan.model_construct(**{**found, "charge": None}))
    bare = plan.model_copy(update={"cohort": CohortTerms(**{**cohort, "masks": False, "directory": None})})
    answer.of(attempt_terms, SignedPlan.model_construct(**{**found, "plan": bare}))
    central = {"cohort": None, "dp": "central", "mu2": charged_mu2(sensitivity=plan.grid, sigma=plan.sigma)}
    alone = RoundPlan.model_validate({**fields, **central})
    answer.of(attempt_terms, SignedPlan.model_construct(**{**found, "plan": alone}))


SEAMS = (
    Seam("terms of an attempt at their limits", _terms, 12),
    Seam("terms of an attempt from a plan", _planned, 18),
    Seam("what is signed and hashed", _payloads, 24),
    Seam("keys between two, and sealed messages", _agreed, 18),
    Seam("headers of records", _headers, 18),
    Seam("bodies of records", _bodies, 24),
    Seam("boxes of shares", _boxed, 24),
    Seam("directories of identities", _directories, 24),
)
