"""Evidence: each kind names who has signed it, and nothing that others sign names an honest device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.hostile import HOSTILE, NAMED, Life, live
from palate_common.secagg.evidence import (
    KINDS,
    MOST,
    FaultEvidence,
    Scene,
    ShownBox,
    ShownPiece,
    ShownReceipt,
    check,
)
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import Label, make_box, open_box, path_of, root_of, tree_of
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Advert, BoxReceipt, Secret, pack_flags
from palate_core.masks.shamir import split
from palate_core.masks.transcript import (
    ADVERT,
    BOX,
    OPENING,
    RECEIPT,
    REVEAL,
    advert_payload,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)

WORLD = MaskedCohort(8, n_min=7)


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[Life, Directory]]:
    """A record of each kind that a server comes by, with the directory of its devices."""
    return {
        kind: (live(plans[0], devices=8, n_min=7, n_max=251 if kind == "nonce" else None, attempts=1), WORLD.directory)
        for kind, plans in NAMED.items()
    }


def records(found: dict[str, tuple[Life, Directory]]) -> Iterator[tuple[str, FaultEvidence, Directory]]:
    for kind, (life, directory) in found.items():
        assert life.named == {HOSTILE: kind}
        yield kind, FaultEvidence.from_bytes(life.evidence[HOSTILE]), directory


def convicts(record: FaultEvidence, directory: Directory) -> bool:
    try:
        check(record.to_bytes(), directory)
    except IntegrityError:
        return False
    return True


def test_each_kind_names_its_device_from_its_bytes(found: dict[str, tuple[Life, Directory]]) -> None:
    assert {*found} | {"receipt"} == {*KINDS}
    for kind, record, directory in records(found):
        assert (check(record.to_bytes(), directory), record.kind) == (HOSTILE, kind)
        assert len(record.to_bytes()) < MOST / 8


def test_signed_by_the_one_it_names(found: dict[str, tuple[Life, Directory]]) -> None:
    """In another's name, in another attempt, toss, cohort, or of another kind, a record convicts nobody."""
    for _, record, directory in records(found):
        for other in {*range(8)} - {HOSTILE}:
            assert not convicts(record.model_copy(update={"device": other}), directory)
        assert not convicts(record, Directory({**directory.identities, HOSTILE: SigningKey.generate().public}))
        assert convicts(record, Directory({each: directory.identities[each] for each in sorted(record.shown)}))
        for left_out in record.shown:
            others = {number: key for number, key in directory.identities.items() if number != left_out}
            assert not convicts(record, Directory(others))
        for change in ({"attempt": "ab" * 32}, {"toss": record.toss + 1}):
            assert not convicts(record.model_copy(update=change), directory)
        if record.kind not in ("advert", "nonce"):  # signed before there was a cohort
            assert not convicts(record.model_copy(update={"root": "ab" * 32}), directory)
            assert not convicts(record.model_copy(update={"seed": "ab" * 32}), directory)
        for kind in {*KINDS, "silence", ""} - {record.kind}:
            assert not convicts(record.model_copy(update={"kind": kind}), directory)


def test_another_byte_anywhere_convicts_nobody_or_nobody_else(found: dict[str, tuple[Life, Directory]]) -> None:
    rng = np.random.default_rng(4)
    for _, record, directory in records(found):
        data = record.to_bytes()
        for at in rng.integers(len(data), size=200).tolist():
            broken = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(7))]) + data[at + 1 :]
            try:
                assert check(broken, directory) == HOSTILE
            except IntegrityError:
                continue


def test_a_record_names_whoever_a_directory_may_have() -> None:
    """Of a population of millions a cohort has some hundreds, with whatever numbers they enrolled under."""
    last = 2**32 - 1
    assert len(Directory({last: SigningKey.generate().public})) == 1
    record = Scene(bytes(98)).record("advert", last, advert="00")
    assert FaultEvidence.from_bytes(record.to_bytes()).device == last
    label = Label(binding=bytes(98), sender=last, receiver=0, slot=0, degree=2, threshold=2, key=bytes(32))
    assert ShownBox.of(label, b"").sender == last


@pytest.mark.parametrize(
    "junk",
    [b"", b"{}", b"[]", b"null", b'{"kind":"box"}', b"\xff", b"{" * 1000, b" " * (MOST + 1), canonical_json({"a": 1})],
    ids=range(9),
)
def test_what_is_no_record_is_refused(junk: bytes) -> None:
    with pytest.raises(IntegrityError):
        check(junk, WORLD.directory)


def test_another_spelling_or_member_is_refused(found: dict[str, tuple[Life, Directory]]) -> None:
    for _, record, directory in records(found):
        told = json.loads(record.to_bytes())
        for change in ({"version": 2}, {"palate": "receipt"}, {"more": 1}, {"toss": -1}, {"device": True},
                       {"attempt": "AB" * 32}, {"toss": 1.5}, {"device": 2**40}):  # fmt: skip
            with pytest.raises(IntegrityError):
                check(canonical_json({**told, **change}), directory)
        with pytest.raises(IntegrityError):
            check(json.dumps(told).encode(), directory)
        for key in told:
            with pytest.raises(IntegrityError):
                check(canonical_json({name: value for name, value in told.items() if name != key}), directory)


@dataclass
class Honest:
    """Devices 0 and 1, honest: what they have signed in one toss. All else is signed by 2 to 4, and the server."""

    keys = tuple(SigningKey.generate() for _ in range(5))
    directory = Directory({number: key.public for number, key in enumerate(keys)})
    pairs = tuple(KeyPair.generate() for _ in range(5))
    binding = bytes(range(98))
    scene = Scene(binding)

    def label(self, sender: int, receiver: int, **changes: Any) -> Label:
        slot = receiver - (receiver > sender)
        facts = {"slot": slot, "degree": 4, "threshold": 3, "key": self.pairs[receiver].public, **changes}
        return Label(binding=self.binding, sender=sender, receiver=receiver, **facts)

    def receipt(self, boxes: dict[int, tuple[Label, bytes]], accused: list[int], by: int) -> tuple[BoxReceipt, Any]:
        tree = tree_of([boxes[slot][0].leaf(boxes[slot][1]) if slot in boxes else b"" for slot in range(4)])
        flags = np.isin(np.arange(4), accused)
        payload = receipt_payload(self.binding, root_of(tree), pack_flags(flags))
        return BoxReceipt(root_of(tree), flags, sign(self.keys[by], RECEIPT, payload)), tree

    def shown(self, receipt: BoxReceipt, tree: Any, slot: int) -> ShownReceipt:
        path = tuple(each.hex() for each in path_of(tree, slot))
        return ShownReceipt(receipt=receipt.encode().hex(), degree=4, slot=slot, path=path)


def test_an_honest_device_is_never_convicted() -> None:
    """Device 0 deals well, complains of what is none, and gives what it was dealt; liars add what they can sign."""
    world = Honest()
    secret, b = KeyPair.generate(), bytes(range(32))
    shares = split(b + secret.private_bytes(), shares=4, threshold=3)
    sent = [make_box(world.label(0, to), shares[to - 1].tobytes(), world.keys[0]) for to in range(1, 5)]
    own = Advert(b"", KeyPair.generate().public, secret.public, hashlib.sha256(b).digest(), b"")
    payload = advert_payload(world.binding[:32], int.from_bytes(world.binding[32:34], "little"), b"", 0, own.body)
    own = Advert(b"", own.share_key, own.mask_key, own.self_digest, sign(world.keys[0], ADVERT, payload))
    # Liar 2 deals rubbish under every label that it likes; liar 3 deals well.
    bad = bytearray(make_box(world.label(2, 0), bytes(64), world.keys[2])[0])
    bad[40:60] = bytes(20)
    bad[144:] = sign(world.keys[2], BOX, world.label(2, 0).payload(bytes(bad)))
    bad_pair = KeyPair.generate()
    good, good_pair = make_box(world.label(3, 0), bytes(64), world.keys[3])
    boxes = {1: (world.label(2, 0), bytes(bad)), 2: (world.label(3, 0), good)}
    receipt, tree = world.receipt(boxes, [1], by=0)
    dealt = open_box(world.label(3, 0), good, world.pairs[0])
    assert dealt is not None
    piece = dealt.piece(Secret.MASK_KEY)
    revealed = tree_of([b"", b"", piece, b""])
    reveal = sign(world.keys[0], REVEAL, reveal_payload(world.binding, root_of(revealed)))
    opening = sign(world.keys[0], OPENING, opening_payload(world.binding, 2, sent[1][1].private_bytes()))

    scene, tries = world.scene, list[FaultEvidence]()
    for to, (box, pair) in enumerate(sent, 1):
        shown = ShownBox.of(world.label(0, to), box)
        for key in (pair, bad_pair, world.pairs[to]):
            tries.append(scene.record("box", 0, box=shown, secret=key.private_bytes().hex()))
            for signature in (opening, bytes(64)):
                facts = {"secret": key.private_bytes().hex(), "signature": signature.hex()}
                tries.append(scene.record("opening", 0, box=shown, **facts))
    relabelled = [  # the liar signs its box again, under whatever label makes it a good one
        world.label(2, 0), world.label(2, 0, key=KeyPair.generate().public), world.label(2, 0, slot=3),
        world.label(2, 0, threshold=2), world.label(3, 0),
    ]  # fmt: skip
    for slot in range(4):
        for label in relabelled:
            for box in (bytes(bad), good, *(make_box(label, bytes(64), world.keys[label.sender])[0],)):
                resigned = box[:144] + sign(world.keys[label.sender], BOX, label.payload(box))
                for each in (box, resigned):
                    for key in (good_pair, bad_pair, world.pairs[2]):
                        facts = {"box": ShownBox.of(label, each), "receipt": world.shown(receipt, tree, slot)}
                        tries.append(scene.record("complaint", 0, secret=key.private_bytes().hex(), **facts))
                    tries.append(scene.record("receipt", 0, **facts))
                    for other in (piece, bytes([0]) + piece[1:], dealt.piece(Secret.SELF_MASK)):
                        path = tuple(hash_.hex() for hash_ in path_of(revealed, slot))
                        given = ShownPiece(
                            root=root_of(revealed).hex(), signature=reveal.hex(), path=path, piece=other.hex()
                        )
                        tries.append(scene.record("share", 0, piece=given, **facts))
        tries.append(scene.record("complaint", 0, receipt=world.shown(receipt, tree, slot)))
        tries.append(scene.record("receipt", 0, receipt=world.shown(receipt, tree, slot)))
    # Shares: all right ones, too few, twice, of both secrets, with another threshold, from a liar's box.
    pieces = []
    for to, (box, pair) in enumerate(sent, 1):
        found = open_box(world.label(0, to), box, pair)
        assert found is not None
        pieces.append([(ShownBox.of(world.label(0, to), box), found.piece(which).hex()) for which in Secret])
    mine = ShownBox.of(world.label(2, 0), bytes(bad))
    lower = [(each[0][0].model_copy(update={"threshold": 2}), each[0][1]) for each in pieces]
    for which in Secret:
        of = [each[which] for each in pieces]
        mixed = [of[0], of[1], pieces[2][1 - which]], [*of[:2], (mine, of[2][1])], [*of[:2], (of[2][0], of[1][1])]
        for some in (of[:3], of[1:], of, of[:2], [of[0], of[0], of[1]], lower[:2], lower[:3], [], *mixed):
            tries.append(scene.record("dealt", 0, advert=own.encode().hex(), dealt=tuple(some)))
    tries.append(scene.record("advert", 0, advert=own.encode().hex()))
    assert len(tries) > 300
    for record in tries:
        with pytest.raises(IntegrityError):
            check(record, world.directory)
    # And what the liars have signed convicts them.
    without = {0: (world.label(2, 1), bytes(bad))}
    careless, careless_tree = world.receipt(without, [], by=1)
    shown = scene.record("receipt", 1, box=ShownBox.of(*without[0]), receipt=world.shown(careless, careless_tree, 0))
    assert check(shown, world.directory) == 1, "who signs for a box without its sender's signature isn't honest"


def test_ed25519(found: dict[str, tuple[Life, Directory]]) -> None:
    """With a signature of anybody else in its place, no record holds: what is assumed is that nobody can forge one."""
    for _, record, directory in records(found):
        keys = list(directory.identities.values())
        swapped = (*keys[:HOSTILE], *keys[HOSTILE + 1 :], keys[HOSTILE])
        assert not convicts(record, Directory(dict(enumerate(swapped))))


def test_a_device_with_many_neighbours_is_named_by_bytes_that_anybody_can_read() -> None:
    """Of 2,000 devices, 20 % of them corrupt and 30 % lost, each has 1,184 neighbours, and 768 open a secret."""
    degree, threshold, liar, pair = 1184, 768, SigningKey.generate(), KeyPair.generate()
    directory = Directory({0: liar.public, 1: SigningKey.generate().public})
    context, root = bytes(32), b"r" * 32
    binding = context + bytes(2) + root + bytes(32)
    accused = np.ones(degree, np.bool_)
    empty = tree_of([b""] * degree)
    signature = sign(liar, RECEIPT, receipt_payload(binding, root_of(empty), pack_flags(accused)))
    path = tuple(each.hex() for each in path_of(empty, 1100))
    receipt = BoxReceipt(root_of(empty), accused, signature).encode().hex()
    shown = ShownReceipt(receipt=receipt, degree=degree, slot=1100, path=path)
    assert check(Scene(binding).record("complaint", 0, receipt=shown).to_bytes(), directory) == 0

    own = Advert(
        bytes([1] * 32), KeyPair.generate().public, KeyPair.generate().public, hashlib.sha256(b"").digest(), b""
    )
    signed = sign(liar, ADVERT, advert_payload(context, 0, root, 0, own.body))
    advert = Advert(own.nonce, own.share_key, own.mask_key, own.self_digest, signed)
    shares = split(bytes(64), shares=degree, threshold=threshold)
    dealt = []
    for slot in range(threshold):
        label = Label(
            binding=binding, sender=0, receiver=1, slot=slot, degree=degree, threshold=threshold, key=pair.public
        )
        box, _ = make_box(label, shares[slot].tobytes(), liar)
        opened = open_box(label, box, pair)
        assert opened is not None
        dealt.append((ShownBox.of(label, box), opened.piece(Secret.SELF_MASK).hex()))
    record = Scene(binding).record("dealt", 0, advert=advert.encode().hex(), dealt=tuple(dealt))
    assert check(record.to_bytes(), directory) == 0
    assert len(record.to_bytes()) * 6000 < MOST * threshold, "as many shares as are said to fit"


def test_a_slot_that_cannot_be_signed_is_refused_when_it_is_read() -> None:
    label = Label(binding=bytes(98), sender=0, receiver=1, slot=0, degree=4, threshold=3, key=bytes(32))
    record = Scene(bytes(98)).record("box", 0, box=ShownBox.of(label, b"")).to_bytes()
    assert FaultEvidence.from_bytes(record).box is not None
    for field in (b'"slot":0', b'"degree":4', b'"threshold":3'):
        with pytest.raises(IntegrityError, match="must be a record"):
            FaultEvidence.from_bytes(record.replace(field, field[:-1] + b"65536"))
