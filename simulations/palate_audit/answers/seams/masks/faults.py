"""Evidence of what devices have signed: of every kind, true or not, and with another value in one of its fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import flipped
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.signed import FIELD, signers
from palate_common.secagg import evidence
from palate_common.secagg.evidence import FaultEvidence, Scene, ShownBox, ShownPiece, ShownReceipt
from palate_core.log.canonical import canonical_json
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import NONE, Label, make_box, open_box, path_of, root_of, tree_of
from palate_core.masks.directory import Directory
from palate_core.masks.messages import BOX_BODY, Advert, BoxReceipt, Commit, Secret, pack_flags
from palate_core.masks.shamir import split
from palate_core.masks.transcript import (
    ADVERT,
    BOX,
    COMMIT,
    OPENING,
    RECEIPT,
    REVEAL,
    advert_payload,
    commit_payload,
    commitment_to,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)
from palate_server.secagg.conduct import Conduct

DEGREE, THRESHOLD = 5, 3


class _Toss:
    """Three devices in one toss, and all that they may sign there."""

    def __init__(self, dice: Dice) -> None:
        self.dice, self.keys, self.pairs = dice, signers(3), [KeyPair.generate() for _ in range(3)]
        self.directory = Directory(tuple(key.public for key in self.keys))
        toss = dice.one_of((0, 1, 256, 65535))
        self.binding = dice.bytes(32) + toss.to_bytes(2, "little") + dice.bytes(64)
        self.context, self.toss, self.root = self.binding[:32], toss, self.binding[34:66]
        self.scene, self.accused, self.accuser = Scene(self.binding), dice.whole(0, 2), dice.whole(0, 1)
        self.accuser += self.accuser >= self.accused

    def label(self, sender: int, receiver: int, slot: int) -> Label:
        """A box's label."""
        facts: dict[str, Any] = {"degree": DEGREE, "threshold": THRESHOLD, "key": self.pairs[receiver].public}
        return Label(binding=self.binding, sender=sender, receiver=receiver, slot=slot, **facts)

    def box(self, sender: int, receiver: int, slot: int, shares: bytes, how: str) -> tuple[Label, bytes, KeyPair]:
        """A box: good, or signed with something else in it, or not signed."""
        label = self.label(sender, receiver, slot)
        box, made_with = make_box(label, shares, self.keys[sender])
        start, end = {"rubbish": (32, 128), "false": (128, 160), "other": (0, 31), "low": (0, 32)}.get(how, (0, 0))
        body = bytearray(box[:BOX_BODY])
        body[start:end] = bytes(32) if how == "low" else self.dice.bytes(end - start)
        signed = sign(self.keys[sender], BOX, label.payload(bytes(body)))
        return label, bytes(body) + (bytes(64) if how == "unsigned" else signed), made_with

    def advert(self, *, committed: bool, nonce: bytes = b"", **changed: bytes) -> Advert:
        """The signed advert of the accused."""
        one, other, third = (self.dice.bytes(31) + b"\1" for _ in range(3))
        own = Advert(nonce if committed else b"", one, other, third, b"")
        own = replace(own, **changed)
        payload = advert_payload(self.context, self.toss, self.root if committed else b"", self.accused, own.body)
        return replace(own, signature=sign(self.keys[self.accused], ADVERT, payload))

    def receipt(self, slot: int, leaf: bytes, accused: list[int]) -> ShownReceipt:
        """A receipt of the accused for one box, and the way to it."""
        leaves = [leaf if each == slot else self.dice.bytes(3) for each in range(DEGREE)]
        tree, flags = tree_of(leaves), np.isin(np.arange(DEGREE), accused)
        payload = receipt_payload(self.binding, root_of(tree), pack_flags(flags))
        receipt = BoxReceipt(root_of(tree), flags, sign(self.keys[self.accused], RECEIPT, payload))
        path = tuple(each.hex() for each in path_of(tree, slot))
        return ShownReceipt(receipt=receipt.encode().hex(), degree=DEGREE, slot=slot, path=path)


def _nonce(toss: _Toss) -> dict[str, Any]:
    dice, nonce = toss.dice, toss.dice.bytes(32)
    commitment = commitment_to(dice.one_of((nonce, dice.bytes(32))))
    payload = commit_payload(toss.context, toss.toss, toss.accused, commitment)
    commit = Commit(commitment, sign(toss.keys[toss.accused], COMMIT, payload))
    return {"commit": commit.encode().hex(),
            "advert": toss.advert(committed=dice.chance(0.8), nonce=nonce).encode().hex()}  # fmt: skip


def _advert(toss: _Toss) -> dict[str, Any]:
    dice, keys = toss.dice, {"share_key": toss.dice.bytes(31) + b"\1", "mask_key": toss.dice.bytes(31) + b"\1"}
    which = dice.one_of(tuple(keys))
    odd: dict[str, bytes] = {"low": bytes(32), "wide": FIELD.to_bytes(32, "little"), "twice": keys["share_key"]}
    how = dice.one_of(("good", *odd))
    if how != "good":
        keys["mask_key" if how == "twice" else which] = odd[how]
    return {"advert": toss.advert(committed=dice.chance(0.5), nonce=dice.bytes(32), **keys).encode().hex()}


def _box(toss: _Toss) -> dict[str, Any]:
    dice, how = toss.dice, toss.dice.one_of(("good", "rubbish", "false", "other", "low", "unsigned"))
    label, box, made_with = toss.box(toss.accused, toss.accuser, dice.whole(0, 4), dice.bytes(64), how)
    pair = dice.one_of((made_with, made_with, made_with, toss.pairs[toss.accuser], KeyPair.generate()))
    return {"box": ShownBox.of(label, box), "secret": pair.private_bytes().hex()}


def _opening(toss: _Toss) -> dict[str, Any]:
    shown, named = _box(toss), toss.dice.one_of((toss.accuser, toss.accuser, toss.accused))
    payload = opening_payload(toss.binding, named, bytes.fromhex(shown["secret"]))
    return {**shown, "signature": sign(toss.keys[toss.accused], OPENING, payload).hex()}


def _received(toss: _Toss, kinds: tuple[str, ...]) -> tuple[dict[str, Any], KeyPair, Label, bytes]:
    dice, slot = toss.dice, toss.dice.whole(0, DEGREE - 1)
    label, box, made_with = toss.box(toss.accuser, toss.accused, slot, dice.bytes(64), dice.one_of(kinds))
    if dice.chance(0.4):
        label = replace(label, sender=dice.one_of((3, 3, toss.accused)))
    # Of the receipt's slot, as of the box's.
    accused = dice.one_of(([], [], [slot], [(slot + 1) % DEGREE], [*range(DEGREE)]))
    receipt = toss.receipt(slot, label.leaf(box), accused)
    return {"box": ShownBox.of(label, box), "receipt": receipt}, made_with, label, box


def _receipt(toss: _Toss) -> dict[str, Any]:
    return _received(toss, ("unsigned", "unsigned", "good", "rubbish"))[0]


def _complaint(toss: _Toss) -> dict[str, Any]:
    shown, made_with, _, _ = _received(toss, ("good", "good", "rubbish", "false", "unsigned"))
    if toss.dice.chance(0.2):
        slot = shown["receipt"].slot
        return {"receipt": toss.receipt(slot, NONE, toss.dice.one_of(([slot], [])))}
    pair = toss.dice.one_of((made_with, made_with, toss.pairs[toss.accused]))
    return {**shown, "secret": pair.private_bytes().hex()}


def _share(toss: _Toss) -> dict[str, Any]:
    shown, _, label, box = _received(toss, ("good",))
    dealt = open_box(label, box, toss.pairs[toss.accused])
    piece = toss.dice.bytes(49) if dealt is None else dealt.piece(toss.dice.one_of(list(Secret)))
    piece = toss.dice.one_of((piece, flipped(toss.dice, piece), piece[:1] + toss.dice.bytes(48), b"\2" + piece[1:]))
    slot = shown["receipt"].slot
    tree = tree_of([piece if each == slot else NONE for each in range(DEGREE)])
    signature = sign(toss.keys[toss.accused], REVEAL, reveal_payload(toss.binding, root_of(tree)))
    facts = {"root": root_of(tree).hex(), "signature": signature.hex(), "piece": piece.hex()}
    return {**shown, "piece": ShownPiece(path=tuple(each.hex() for each in path_of(tree, slot)), **facts)}


def _dealt(toss: _Toss) -> dict[str, Any]:
    dice, secret, mask = toss.dice, toss.dice.bytes(32), KeyPair.generate()
    rows = split(secret + mask.private_bytes(), shares=DEGREE, threshold=THRESHOLD)
    # What is advertised is what is dealt, or one of the two isn't.
    said = {"self_digest": hashlib.sha256(secret).digest(), "mask_key": mask.public}
    wrong = dice.one_of(("", "self_digest", "mask_key", "mask_key"))
    advert = toss.advert(
        committed=dice.chance(0.5), nonce=dice.bytes(32), **said | ({wrong: bytes(32)} if wrong else {})
    )
    which, dealt = dice.one_of(list(Secret)), []
    slots = dice.shuffled(range(DEGREE))[: dice.one_of((THRESHOLD, THRESHOLD, THRESHOLD - 1, THRESHOLD + 1))]
    how = dice.one_of(("", "", "", "", "twice", "threshold", "degree", "secret", "sender", "share"))
    for place, slot in enumerate([slots[0], *slots[:-1]] if how == "twice" else slots):
        sender = toss.accuser if how == "sender" and not place else toss.accused
        label, box, made_with = toss.box(sender, toss.accuser, slot, rows[slot].tobytes(), "good")
        shares = open_box(label, box, made_with)
        if how in ("threshold", "degree") and (not place or dice.chance(0.5)):
            lower = {"threshold": THRESHOLD - 1} if how == "threshold" else {"degree": THRESHOLD}
            label = replace(label, **lower)  # type: ignore[arg-type]  # whole numbers both
            box = box[:BOX_BODY] + sign(toss.keys[sender], BOX, label.payload(box))
        piece = b"" if shares is None else shares.piece(Secret(1 - which) if how == "secret" and not place else which)
        piece = flipped(dice, piece) if how == "share" and not place else piece
        dealt.append((ShownBox.of(label, box), piece.hex()))
    return {"advert": advert.encode().hex(), "dealt": tuple(dealt)}


MADE: dict[str, Callable[[_Toss], dict[str, Any]]] = {
    "nonce": _nonce, "advert": _advert, "box": _box, "opening": _opening, "receipt": _receipt,
    "complaint": _complaint, "share": _share, "dealt": _dealt,
}  # fmt: skip


ALWAYS: tuple[dict[str, Any], ...] = (
    {"kind": "none"}, {"device": 3}, {"attempt": "ab"}, {"receipt": None}, {"box": None},
)  # fmt: skip
"""Values that each record is asked for with."""


@dataclass(frozen=True)
class _Change:
    """Another value in one field of a record, or of a part of it."""

    field: str
    value: Any
    part: str = ""


def _changes(dice: Dice) -> tuple[_Change, ...]:
    other = dice.bytes(32).hex()
    return (
        *(_Change("device", value) for value in (0, 1, 2, 3, 2**20 - 1)), _Change("kind", dice.one_of((*MADE, "none"))),
        *(_Change("attempt", value) for value in (other, "", other + "00", other)), _Change("toss", dice.whole(0, 3)),
        *(_Change("root", value) for value in ("", other, other + "00")), _Change("seed", ""), _Change("seed", other),
        _Change("commit", ""), _Change("commit", other * 3), _Change("advert", ""), _Change("advert", "00" * 160),
        _Change("secret", ""), _Change("secret", other), _Change("signature", ""), _Change("signature", other * 2),
        _Change("box", None), _Change("receipt", None), _Change("piece", None), _Change("dealt", ()),
        *(_Change(field, dice.whole(0, 3), "box") for field in ("sender", "receiver", "slot", "degree", "threshold")),
        _Change("sender", 2**20 - 1, "box"), _Change("key", other, "box"), _Change("key", "", "box"),
        _Change("box", "", "box"), _Change("box", "00" * 224, "box"), _Change("receipt", other * 4, "receipt"),
        _Change("degree", dice.one_of((2, 4, 6, 9)), "receipt"), _Change("slot", dice.whole(0, 9), "receipt"),
        _Change("path", (), "receipt"), _Change("path", (other,) * 3, "receipt"), _Change("path", (), "piece"),
        _Change("root", other, "piece"), _Change("root", "00", "piece"), _Change("signature", "00", "piece"),
        _Change("signature", other * 2, "piece"), _Change("piece", other, "piece"), _Change("piece", "", "piece"),
    )  # fmt: skip


def _changed(record: FaultEvidence, change: _Change) -> FaultEvidence | None:
    """The record with another value; None where it has no such part."""
    if not change.part:
        return record.model_copy(update={change.field: change.value})
    part = getattr(record, change.part)
    if part is None:
        return None
    return record.model_copy(update={change.part: part.model_copy(update={change.field: change.value})})


def _judged(dice: Dice, answer: CaseAnswer) -> None:
    """Two records, each as it is and with other values; kept as a server keeps them."""
    toss = _Toss(dice)
    conduct, heard = Conduct(), list[tuple[int, bytes]]()
    conduct.on_evidence = lambda device, record: heard.append((device, record.to_bytes()))
    for _ in range(2):
        kind = dice.one_of((*MADE, "receipt", "dealt", "dealt"))
        record = toss.scene.record(kind, toss.accused, **MADE[kind](toss))
        answer.tell(record.to_bytes(), record.binding)
        answer.of(evidence.check, record, toss.directory)
        answer.of(evidence.check, record.to_bytes(), toss.directory)
        for values in ALWAYS:
            answer.of(evidence.check, record.model_copy(update=values), toss.directory)
        for change in dice.shuffled(_changes(dice))[:3]:
            other = _changed(record, change)
            if other is not None:
                answer.of(evidence.check, other, toss.directory)
        answer.tell(conduct.name(record, toss.directory, context=dice.one_of((toss.context, toss.context, bytes(32)))))
        answer.tell(conduct.name(record, toss.directory, context=toss.context))
        conduct.evidence |= dict.fromkeys(range(7, 7 + dice.one_of((0, 3))), record)  # others, named before
    answer.tell(heard, conduct.named, [each.to_bytes() for each in conduct.evidence.values()])
    _spelled(dice, answer, record)


def _spelled(dice: Dice, answer: CaseAnswer, record: FaultEvidence) -> None:
    """The bytes of a record, and other spellings."""
    data = record.to_bytes()
    told: dict[str, Any] = json.loads(data)
    name = dice.one_of(sorted(told))
    changes: tuple[dict[str, Any], ...] = (
        {"version": 2}, {"palate": "receipt"}, {"more": 1}, {"toss": -1}, {"toss": 2**16}, {"toss": 2**16 - 1},
        {"device": True}, {"device": 2**20}, {"attempt": told["attempt"].upper()}, {"attempt": "abc"}, {"seed": ""},
        {"root": "00" * 2**14}, {"root": "00" * 2**14 + "00"}, {"attempt": told["attempt"] + "\n"}, {"version": True},
    )  # fmt: skip
    for change in dice.shuffled(changes)[:3]:
        answer.tell(_again(canonical_json({**told, **change})))
    spellings = (data + b" ", json.dumps(told).encode(), b"{}", b"", data[:-1],
                 canonical_json({key: value for key, value in told.items() if key != name}))  # fmt: skip
    for text in dice.shuffled(spellings)[:3]:
        answer.tell(_again(text))
    for most in (len(data), len(data) - 1):
        with mock.patch.object(evidence, "MOST", most):
            answer.tell(_again(data))


def _again(data: bytes) -> Any:
    """A record read from bytes, as bytes; or the error."""
    found = CaseAnswer().tried(FaultEvidence.from_bytes, data)
    return found.to_bytes() if isinstance(found, FaultEvidence) else found


SEAMS = (Seam("evidence: true or not, and with other values", _judged, 36),)
