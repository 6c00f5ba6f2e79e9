"""Boxes: one key opens one box, for its receiver and for whoever is shown that key alike."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from palate_core.errors import IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import (
    NONE,
    Label,
    check_path,
    check_signed,
    commitments_of,
    make_box,
    open_box,
    path_of,
    piece_fits,
    root_of,
    tree_of,
)
from palate_core.masks.messages import BOX_BODY, BOX_BYTES, KEY, PIECE, Secret

SENDER, RECEIVER = SigningKey.generate(), KeyPair.generate()
LABEL = Label(
    binding=bytes(range(98)), sender=4, receiver=9, slot=2, degree=11, threshold=7, key=RECEIVER.public
)  # fmt: skip
SHARES = os.urandom(64)
OTHERS = {
    "binding": bytes(98), "sender": 5, "receiver": 8, "slot": 3, "degree": 12, "threshold": 6,
    "key": KeyPair.generate().public,
}  # fmt: skip


def test_a_key_of_its_own() -> None:
    made = [make_box(LABEL, SHARES, SENDER) for _ in range(20)]
    assert len({box[:KEY] for box, _ in made}) == 20
    for at, (box, _) in enumerate(made):
        for other, (_, pair) in enumerate(made):
            assert (open_box(LABEL, box, pair) is not None) == (at == other), "a key opens its own box and no other"


def test_one_verdict() -> None:
    """The receiver, and whoever is shown the box's own key, see the same: what is in it, or that it is none."""
    box, made_with = make_box(LABEL, SHARES, SENDER)
    dealt = open_box(LABEL, box, RECEIVER)
    assert dealt is not None
    assert b"".join(dealt.shares) == SHARES
    assert open_box(LABEL, box, made_with) == dealt
    for position in range(KEY, BOX_BODY):
        broken = box[:position] + bytes([box[position] ^ 1]) + box[position + 1 :]
        assert open_box(LABEL, broken, RECEIVER) is open_box(LABEL, broken, made_with) is None
    for name, value in OTHERS.items():
        other = replace(LABEL, **{name: value})
        same = name in ("slot", "degree", "threshold")  # they are signed, and no part of the key
        assert (open_box(other, box, made_with) is not None) == same
    for key in (bytes(KEY), b"\xff" * KEY):
        assert open_box(LABEL, key + box[KEY:], RECEIVER) is None


def test_all_of_a_box_and_its_label_is_signed() -> None:
    box, _ = make_box(LABEL, SHARES, SENDER)
    check_signed(LABEL, box, SENDER.public)
    for position in range(0, BOX_BYTES, 5):
        broken = box[:position] + bytes([box[position] ^ 1]) + box[position + 1 :]
        with pytest.raises(IntegrityError):
            check_signed(LABEL, broken, SENDER.public)
    for name, value in OTHERS.items():
        with pytest.raises(IntegrityError):
            check_signed(replace(LABEL, **{name: value}), box, SENDER.public)


def test_a_commitment_fits_one_share_with_its_salt_and_of_its_kind() -> None:
    box, made_with = make_box(LABEL, SHARES, SENDER)
    dealt = open_box(LABEL, box, made_with)
    assert dealt is not None
    for secret in Secret:
        piece = dealt.piece(secret)
        assert piece_fits(piece, box)
        for position in range(PIECE):
            assert position == 0 or not piece_fits(
                piece[:position] + bytes([piece[position] ^ 1]) + piece[position + 1 :], box
            )
        assert not piece_fits(bytes([1 - secret]) + piece[1:], box)
        for wrong in (piece[:-1], piece + b"\0", b"\2" + piece[1:], b""):
            with pytest.raises(IntegrityError):
                piece_fits(wrong, box)
    again, _ = make_box(LABEL, SHARES, SENDER)
    assert set(commitments_of(again)).isdisjoint(commitments_of(box)), "the same share, another salt"


def test_a_tree_has_a_way_to_each_slot_and_to_nothing_else() -> None:
    for slots in (2, 3, 8, 11):
        leaves = [os.urandom(9) if slot % 3 else NONE for slot in range(slots)]
        tree = tree_of(leaves)
        for slot, leaf in enumerate(leaves):
            path = path_of(tree, slot)
            check_path(leaf, slot=slot, slots=slots, root=root_of(tree), path=path)
            for wrong in ({"leaf": b"another"}, {"slot": (slot + 1) % slots}, {"path": path[:-1]}, {"root": bytes(32)}):
                given = {"leaf": leaf, "slot": slot, "slots": slots, "root": root_of(tree), "path": path, **wrong}
                found = given.pop("leaf")
                if wrong == {"slot": (slot + 1) % slots} and leaves[(slot + 1) % slots] == leaf == leaves[slot]:
                    continue
                with pytest.raises(IntegrityError):
                    check_path(found, **given)
        with pytest.raises(IntegrityError):
            check_path(NONE, slot=slots, slots=slots, root=root_of(tree), path=())
