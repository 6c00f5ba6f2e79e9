"""Evidence: that one device broke a masked attempt, from what it has signed, for anybody to check.

    what a device signed, and what was opened -> FaultEvidence -> canonical JSON -> `check` -> the device, or an error

A record stands for itself: anyone with the identities of the devices that it shows checks it without a server. It
holds signatures of one ring draw (`toss`) of one attempt, so nothing of another attempt fits. A server that forges must
forge a signature.

    kind        the device has signed                              and yet
    nonce       a commitment, and an advert of the same draw       the advert's nonce is another
    advert      an advert                                          its keys are none, or one key twice
    box         a box                                              opened by its own key it is none
    opening     the revealed key of one of its boxes               the key is not the one that the box was made with
    receipt     a receipt for a box, without complaint             the box's sender has not signed it
    complaint   a receipt in which it complains of a box           there is no box, or it is a good one
    share       a receipt for a box, and a share                   the box commits to another share
    dealt       an advert, and boxes of one threshold              their shares make another secret than advertised

Silence is nobody's fault, and what isn't signed is as silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.masks.agreement import KeyPair, check_public
from palate_core.masks.boxes import BINDING, NONE, Label, check_path, check_signed, open_box, piece_fits
from palate_core.masks.directory import Directory
from palate_core.masks.messages import BOX_BYTES, HASH, KEY, PIECE, SHARE, SIGNATURE, Advert, BoxReceipt, Commit, Secret
from palate_core.masks.shamir import combine
from palate_core.masks.transcript import (
    ADVERT,
    COMMIT,
    OPENING,
    RECEIPT,
    REVEAL,
    advert_payload,
    check_signature,
    commit_payload,
    commitment_to,
    opening_payload,
    receipt_payload,
    reveal_payload,
)

VERSION: Final = 1
MOST: Final = 2**22
"""Bytes of the largest record: shares of one secret from 6,000 neighbours."""
MOST_SLOTS: Final = 2**16 - 1
"""The most neighbours of a device: a slot is written in 16 bits."""

_Number = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
_Slot = Annotated[int, Field(ge=0, le=MOST_SLOTS, strict=True)]
_Hex = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{2})*\z", max_length=2**15, strict=True)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShownBox(_Record):
    """A box with its sender's signature, and what was signed with it; the cohort's binding is the record's."""

    sender: _Number
    receiver: _Number
    slot: _Slot
    degree: _Slot
    threshold: _Slot
    key: _Hex
    box: _Hex

    @classmethod
    def of(cls, label: Label, box: bytes) -> Self:
        """A box as it is shown."""
        return cls(
            sender=label.sender,
            receiver=label.receiver,
            slot=label.slot,
            degree=label.degree,
            threshold=label.threshold,
            key=label.key.hex(),
            box=box.hex(),
        )


class ShownReceipt(_Record):
    """A receipt, and the way from its root to one slot, at which the record's box stands, or nothing."""

    receipt: _Hex
    degree: Annotated[int, Field(ge=2, le=MOST_SLOTS, strict=True)]
    slot: _Slot
    path: tuple[_Hex, ...] = Field(max_length=16)


class ShownPiece(_Record):
    """A share as it was given, and the way to it from the root that its holder has signed."""

    root: _Hex
    signature: _Hex
    path: tuple[_Hex, ...] = Field(max_length=16)
    piece: _Hex


class FaultEvidence(_Record):
    """One record. Build it by the functions below; `check` says whether it holds.

    Attributes:
        kind: what the device did, see above.
        device: whom the record names.
        attempt: the attempt's context, hexadecimal.
        toss: number of the ring draw.
        root: root of the cohort; empty where none was fixed yet.
        seed: of the ring.
        commit: a signed commitment.
        advert: a signed advert.
        box: a box that is judged.
        secret: the private key that it was opened with.
        signature: of a revealed key.
        receipt: a receipt that is judged.
        piece: a share that is judged.
        dealt: boxes and the shares that were given of them, all of one secret.
    """

    palate: str = "evidence"
    version: int = VERSION
    kind: str
    device: _Number
    attempt: _Hex
    toss: Annotated[int, Field(ge=0, lt=2**16, strict=True)]
    root: _Hex = ""
    seed: _Hex = ""
    commit: _Hex = ""
    advert: _Hex = ""
    box: ShownBox | None = None
    secret: _Hex = ""
    signature: _Hex = ""
    receipt: ShownReceipt | None = None
    piece: ShownPiece | None = None
    dealt: tuple[tuple[ShownBox, _Hex], ...] = Field(default=(), max_length=MOST_SLOTS)

    def to_bytes(self) -> bytes:
        """Canonical JSON, without what a kind doesn't have."""
        return canonical_json(self.model_dump(mode="json", exclude_defaults=True) | _HEAD)

    @classmethod
    def from_bytes(cls, data: bytes) -> FaultEvidence:
        """Read what `to_bytes` wrote.

        Raises:
            IntegrityError: no record of this version, or more than `MOST` bytes.
        """
        try:
            found = cls.model_validate(read_canonical(data, most=MOST))
        except ValidationError:
            raise IntegrityError("evidence must be a record of this version, got something else") from None
        if (found.palate, found.version) != ("evidence", VERSION) or found.to_bytes() != data:
            raise IntegrityError(f"evidence must be a record of version {VERSION}, got something else")
        return found

    @property
    def shown(self) -> set[int]:
        """The devices that it names, or whose signatures it shows."""
        boxes = [self.box, *(box for box, _ in self.dealt)]
        return {self.device, *(box.sender for box in boxes if box is not None)}

    @property
    def binding(self) -> bytes:
        """The binding of the cohort."""
        made = _bytes(self.attempt) + self.toss.to_bytes(2, "little") + _bytes(self.root) + _bytes(self.seed)
        return _check_size("a cohort's binding", made, BINDING)


_HEAD = {"palate": "evidence", "version": VERSION}


@dataclass(frozen=True)
class Scene:
    """Where something happened: the facts that all records of one ring draw share.

    Attributes:
        binding: of the cohort: context, draw, root, seed; context and draw alone before there is one.
    """

    binding: bytes

    def record(self, kind: str, device: int, **shown: Any) -> FaultEvidence:
        """A record of this ring draw."""
        parts = self.binding[:32], self.binding[34:66], self.binding[66:]
        toss = int.from_bytes(self.binding[32:34], "little")
        attempt, root, seed = (part.hex() for part in parts)
        return FaultEvidence(kind=kind, device=device, attempt=attempt, toss=toss, root=root, seed=seed, **shown)


def check(evidence: FaultEvidence | bytes, directory: Directory) -> int:
    """The device that a record convicts.

    **Guarantees:** signed by the one it names: no record convicts a device without its signature on what is false.
    **Guarantees:** an honest device is never convicted: whatever the server and all other devices sign.
    **Assumes:** ed25519: nobody signs in another's name; SHA-256 has no second preimages; and an honest device isn't
        run twice from one copy of its memory.

    Args:
        evidence: a record.
        directory: of the attempt, or of the devices that the record shows.

    Returns:
        The device's number. The caller compares attempt, if it expects one.

    Raises:
        IntegrityError: it isn't a record, a signature doesn't fit, or what was signed is not false.
    """
    found = FaultEvidence.from_bytes(evidence) if isinstance(evidence, bytes) else evidence
    judge = _JUDGES.get(found.kind)
    if judge is None:
        raise IntegrityError(f"evidence must be of a known kind, got {found.kind!r:.40}")
    if unknown := found.shown - directory.identities.keys():
        raise IntegrityError(f"evidence must be of devices in the directory, got {min(unknown)}")
    _check_size("an attempt's context", _bytes(found.attempt), HASH)
    false = judge(found, directory)
    if not false:
        raise IntegrityError(f"evidence must show something false, got a {found.kind} that is as it must be")
    return found.device


def _nonce_is_another(found: FaultEvidence, directory: Directory) -> bool:
    """A nonce that isn't the one committed to."""
    commit, advert = Commit.decode(_bytes(found.commit)), _advert(found, directory)
    payload = commit_payload(_bytes(found.attempt), found.toss, found.device, commit.commitment)
    check_signature(directory.identities[found.device], COMMIT, payload, commit.signature)
    return bool(advert.nonce) and commitment_to(advert.nonce) != commit.commitment


def _keys_are_unusable(found: FaultEvidence, directory: Directory) -> bool:
    """An advert with keys that nobody can use."""
    advert = _advert(found, directory)
    try:
        check_public(advert.share_key)
        check_public(advert.mask_key)
    except IntegrityError:
        return True
    return advert.share_key == advert.mask_key


def _advert(found: FaultEvidence, directory: Directory) -> Advert:
    """The signed advert of the device that is named."""
    data, length = _bytes(found.advert), Advert.length(committed=False)
    advert = Advert.decode(data, committed=len(data) != length)
    # Without a ring the cohort's root is over the adverts, so it isn't in them.
    root = _bytes(found.root) if advert.nonce else b""
    payload = advert_payload(_bytes(found.attempt), found.toss, root, found.device, advert.body)
    check_signature(directory.identities[found.device], ADVERT, payload, advert.signature)
    return advert


def _box_is_unreadable(found: FaultEvidence, directory: Directory) -> bool:
    """A box that is none."""
    label, box = _signed_box(found, found.box, directory)
    _check_names(found, label.sender)
    try:
        check_public(box[:KEY])
    except IntegrityError:
        return True  # nobody can open it
    return open_box(label, box, _key_of(found, box)) is None


def _key_is_another(found: FaultEvidence, directory: Directory) -> bool:
    """A revealed key that isn't the one of the box."""
    label, box = _signed_box(found, found.box, directory)
    _check_names(found, label.sender)
    secret = _bytes(found.secret)
    payload = opening_payload(found.binding, label.receiver, secret)
    check_signature(directory.identities[found.device], OPENING, payload, _signature(found.signature))
    return KeyPair.from_private(secret).public != box[:KEY]


def _receipt_is_unfounded(found: FaultEvidence, directory: Directory) -> bool:
    """A receipt for a box that its sender hasn't signed."""
    shown, receipt = _signed_receipt(found, directory)
    if receipt.accused[shown.slot] or found.box is None:
        raise IntegrityError("evidence must show a box that was received without complaint, got none")
    label, box = _received_box(found, found.box)
    try:
        check_signed(label, box, directory.identities[label.sender])
    except IntegrityError:
        return True
    return False


def _complaint_is_false(found: FaultEvidence, directory: Directory) -> bool:
    """A complaint of a good box, or of none."""
    shown, receipt = _signed_receipt(found, directory)
    if not receipt.accused[shown.slot]:
        raise IntegrityError("evidence must show a complaint of this box, got a receipt without")
    if found.box is None:
        return True
    label, box = _signed_box(found, found.box, directory)
    return open_box(label, box, _key_of(found, box)) is not None


def _share_is_another(found: FaultEvidence, directory: Directory) -> bool:
    """A share that isn't the one it was dealt."""
    shown, receipt = _signed_receipt(found, directory)
    if receipt.accused[shown.slot] or found.piece is None or found.box is None:
        raise IntegrityError("evidence must show a share of a box that was received without complaint, got none")
    _, box = _received_box(found, found.box)
    piece, root = _bytes(found.piece.piece), _check_size("a root", _bytes(found.piece.root), HASH)
    payload = reveal_payload(found.binding, root)
    check_signature(directory.identities[found.device], REVEAL, payload, _signature(found.piece.signature))
    path = tuple(map(_bytes, found.piece.path))
    check_path(piece, slot=shown.slot, slots=shown.degree, root=root, path=path)
    return not piece_fits(piece, box)


def _secret_is_another(found: FaultEvidence, directory: Directory) -> bool:
    """Shares of another secret than the advertised one."""
    advert = _advert(found, directory)
    slots, rows, secrets = list[int](), list[bytes](), set[int]()
    terms = set[tuple[int, int]]()
    for shown, given in found.dealt:
        label, box = _signed_box(found, shown, directory)
        _check_names(found, label.sender)
        piece = _check_size("a share", _bytes(given), PIECE)
        if not piece_fits(piece, box):
            raise IntegrityError("evidence must show the shares that were dealt, got another")
        secrets.add(piece[0])
        terms.add((label.degree, label.threshold))
        slots.append(label.slot)
        rows.append(piece[1 : 1 + SHARE])
    if len(secrets) != 1 or len(terms) != 1:
        raise IntegrityError("evidence must show shares of one secret, dealt alike, got others")
    ((degree, threshold),) = terms
    if len(slots) != threshold or len(set(slots)) != threshold or max(slots) >= degree:
        raise IntegrityError(f"evidence must show {threshold} shares of {degree}, each once, got {len(slots)}")
    shares = np.frombuffer(b"".join(rows), np.uint8).reshape(threshold, SHARE)
    try:
        secret = combine([slot + 1 for slot in slots], shares, total=degree)
    except InputError as error:
        raise IntegrityError(f"evidence must show shares that make a secret: {error}") from None
    return not secret_fits(secret, Secret(secrets.pop()), advert)


def secret_fits(secret: bytes, which: Secret, advert: Advert) -> bool:
    """Whether this is the secret that a device has advertised: another one would leave masks in the sum."""
    if which is Secret.SELF_MASK:
        return hashlib.sha256(secret).digest() == advert.self_digest
    return KeyPair.from_private(secret).public == advert.mask_key


_JUDGES: Mapping[str, Callable[[FaultEvidence, Directory], bool]] = {
    "nonce": _nonce_is_another,
    "advert": _keys_are_unusable,
    "box": _box_is_unreadable,
    "opening": _key_is_another,
    "receipt": _receipt_is_unfounded,
    "complaint": _complaint_is_false,
    "share": _share_is_another,
    "dealt": _secret_is_another,
}
KINDS: Final = tuple(_JUDGES)


def _received_box(found: FaultEvidence, shown: ShownBox) -> tuple[Label, bytes]:
    """A box as its receiver has signed for it, whatever its sender has done."""
    if shown.sender == shown.receiver:
        raise IntegrityError(f"a box must go from one device to another, got {shown.sender} to itself")
    label = Label(
        binding=found.binding,
        sender=shown.sender,
        receiver=shown.receiver,
        slot=shown.slot,
        degree=shown.degree,
        threshold=shown.threshold,
        key=_check_size("a share key", _bytes(shown.key), KEY),
    )
    return label, _check_size("a box", _bytes(shown.box), BOX_BYTES)


def _signed_box(found: FaultEvidence, shown: ShownBox | None, directory: Directory) -> tuple[Label, bytes]:
    """A box that its sender has signed."""
    if shown is None:
        raise IntegrityError(f"evidence of a {found.kind} must show a box, got none")
    label, box = _received_box(found, shown)
    check_signed(label, box, directory.identities[label.sender])
    return label, box


def _signed_receipt(found: FaultEvidence, directory: Directory) -> tuple[ShownReceipt, BoxReceipt]:
    """The receipt of the device that is named, for the box that is shown."""
    shown = found.receipt
    if shown is None:
        raise IntegrityError(f"evidence of a {found.kind} must show a receipt, got none")
    receipt = BoxReceipt.decode(_bytes(shown.receipt), k=shown.degree)
    payload = receipt_payload(found.binding, receipt.root, _bytes(shown.receipt)[HASH:-SIGNATURE])
    check_signature(directory.identities[found.device], RECEIPT, payload, receipt.signature)
    leaf = NONE
    if found.box is not None:
        label, box = _received_box(found, found.box)
        _check_names(found, label.receiver)
        leaf = label.leaf(box)
    path = tuple(map(_bytes, shown.path))
    check_path(leaf, slot=shown.slot, slots=shown.degree, root=receipt.root, path=path)
    return shown, receipt


def _key_of(found: FaultEvidence, box: bytes) -> KeyPair:
    """The key pair that a box was made with."""
    pair = KeyPair.from_private(_bytes(found.secret))
    if pair.public != box[:KEY]:
        raise IntegrityError("evidence must open a box by the key that it was made with, got another")
    return pair


def _check_names(found: FaultEvidence, device: int) -> None:
    """Refuse a record that names another device than the signer."""
    if device != found.device:
        raise IntegrityError(f"evidence must name device {device}, got {found.device}")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


def _signature(text: str) -> bytes:
    return _check_size("a signature", _bytes(text), SIGNATURE)


def _check_size(name: str, data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise IntegrityError(f"{name} must be {length} bytes, got {len(data)}")
    return data
