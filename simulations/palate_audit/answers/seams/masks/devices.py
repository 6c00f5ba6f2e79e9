"""A device in a masked attempt: at each step, whatever a lying server and devices that collude with it may send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import flipped, resized
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.signed import FIELD
from palate_audit.answers.seams.masks.worlds import COMPLETE, RING, Shape, copied, honest, rings, tell_device
from palate_client.secagg import checks
from palate_client.secagg.attempt import MaskedDevice
from palate_core.errors import InputError
from palate_core.masks.boxes import Label, path_of, root_of, tree_of
from palate_core.masks.directory import Directory
from palate_core.masks.messages import (
    BOX,
    BOX_BODY,
    HEADER,
    Advert,
    BoxReceipt,
    CheckRequest,
    Complaint,
    Flags,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    encode_commitments,
    pack_flags,
    write,
)
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import (
    ADVERT,
    MEMBERS,
    RECEIPT,
    advert_payload,
    cohort_root,
    commitment_to,
    members_payload,
    receipt_payload,
    sign,
)
from palate_core.masks.transcript import BOX as BOX_TAG

Entry = tuple[int, bytes, bytes]


class LyingServer:
    """A server that lies to one device, and has the keys of all the others.

    Args:
        dice: what it does.
        answer: what is told.
        shape: of the world.
        step: where the device is: as in the honest attempt.
    """

    def __init__(self, dice: Dice, answer: CaseAnswer, shape: Shape, step: Step) -> None:
        self.dice, self.answer, self.recorded = dice, answer, honest(shape)
        self.party, self.moment = self.recorded.party, self.recorded.moments[step]
        self.me, self.toss, self.terms = dice.whole(0, shape.n - 1), 0, self.party.terms
        self.device = copied(self.moment.devices[self.me])

    def ask(self, step: Step, body: bytes, *, device: MaskedDevice | None = None, toss: int | None = None) -> bytes:
        """Ask the device, and tell what it does; nothing where it refuses."""
        header = Header(step, self.toss if toss is None else toss, self.me, self.terms.context)
        machine = device or self.device
        found = self.answer.of(machine.answer, step, write(header, body, answer=False))
        tell_device(self.answer, machine)
        return b"" if found is None else bytes(found[HEADER:])

    def garbled(self, step: Step, body: bytes) -> None:
        """The request of other tosses, with something wrong in its header or length, and as another step's."""
        dice, header = self.dice, Header(step, self.toss, self.me, self.terms.context)
        good = write(header, body, answer=False)
        for toss in (self.toss + 1, max(0, self.toss - 1)):
            self.answer.of(self.device.answer, step, write(replace(header, toss=toss), body, answer=False))
        others = (good[:HEADER] + resized(dice, body), flipped(dice, good[:HEADER]) + body, good[:-1], good + b"\0",
                  write(header, body, answer=True), write(replace(header, device=99), body, answer=False))  # fmt: skip
        self.answer.of(self.device.answer, step, dice.one_of(others))
        self.answer.of(self.device.answer, dice.one_of(list(Step)), good if dice.chance(0.3) else others[1])
        tell_device(self.answer, self.device)

    def restarted(self) -> MaskedDevice:
        """The device as it was at the beginning of the case, with what it has latched since: a restored backup."""
        device = copied(self.moment.devices[self.me])
        device._latch = self.device._latch
        return device


def _listed(liar: LyingServer, own: tuple[bytes, bytes]) -> list[Entry]:
    """Commitments and nonces of a cohort, in most cases with something wrong in it."""
    dice, n, n_min = liar.dice, liar.party.shape.n, liar.terms.n_min
    entries: list[Entry] = []
    for i in range(n):
        nonce = dice.bytes(32)
        entries.append((i, *own) if i == liar.me else (i, commitment_to(nonce), nonce))
    others = dice.shuffled([i for i in range(n) if i != liar.me])
    how = dice.one_of(("", "", "", "few", "fewest", "short", "gone", "stranger", "twice", "order", "nonce", "own nonce",
                       "own commitment", "commitment"))  # fmt: skip
    less = {"few": 1, "fewest": n - n_min, "short": n - n_min + 1}.get(how, 0)
    entries = [entry for entry in entries if entry[0] not in others[:less] and (how != "gone" or entry[0] != liar.me)]
    at = next((place for place, entry in enumerate(entries) if entry[0] == (
        liar.me if how.startswith("own") else others[-1])), 0)  # fmt: skip
    device, commitment, nonce = entries[at]
    match how:
        case "stranger":
            entries.append((n, commitment, nonce))
        case "twice":
            entries.insert(at, entries[at])
        case "order":
            entries.reverse()
        case "nonce" | "own nonce":
            entries[at] = (device, commitment, flipped(dice, nonce))
        case "commitment":
            entries[at] = (device, flipped(dice, commitment), nonce)
        case "own commitment":
            entries[at] = (device, commitment_to(dice.bytes(32)), nonce)
    return entries


def _adverts(
    liar: LyingServer, ids: Sequence[int], nonces: dict[int, bytes], root: bytes, own: Advert
) -> list[tuple[int, Advert]]:
    """Signed adverts of devices, in most cases with something wrong in them."""
    dice, found = liar.dice, list[tuple[int, Advert]]()
    how = dice.one_of(
        ("", "", "", "", "unsigned", "another's", "root", "key", "own key", "twice", "low", "wide", "nonce")
    )
    at = dice.whole(0, max(0, len(ids) - 1))
    for place, i in enumerate(ids):
        honest_one = Advert.decode(liar.recorded.moments[Step.ADVERTISE].answers[i % liar.party.shape.n][HEADER:],
                                   committed=liar.terms.committed)  # fmt: skip
        advert = replace(honest_one, nonce=nonces.get(i, b""))
        if i == liar.me:
            found.append((i, own))
            continue
        signer, said = liar.party.keys[i % liar.party.shape.n], root
        if place == at:
            changed: dict[str, dict[str, bytes]] = {
                "key": {"share_key": dice.bytes(31) + b"\1"}, "own key": {"mask_key": own.share_key},
                "twice": {"mask_key": advert.share_key}, "low": {"share_key": bytes(32)},
                "wide": {"share_key": (FIELD + 9).to_bytes(32, "little")},
                "nonce": {"nonce": dice.bytes(len(advert.nonce))},
            }  # fmt: skip
            advert = replace(advert, **changed.get(how, {}))
            signer = liar.party.keys[liar.me] if how == "another's" else signer
            said = b"" if how == "root" else root
        payload = advert_payload(liar.terms.context, liar.toss, said, i, advert.body)
        signature = bytes(64) if how == "unsigned" and place == at else sign(signer, ADVERT, payload)
        found.append((i, replace(advert, signature=signature)))
    order = dice.one_of(("", "", "", "less", "swapped", "more"))
    if order == "less":
        del found[at]
    elif order == "swapped":
        found.reverse()
    elif order == "more":
        found.append(found[at])
    return found


def _drawn(dice: Dice, answer: CaseAnswer) -> None:
    """A ring: tosses, nonces, and the shares for the neighbours that the seed gives."""
    with rings(RING):
        liar = LyingServer(dice, answer, RING, Step.COMMIT)
        commit = b""
        for toss in dice.one_of(((0,), (0, 0), (1, 0), (0, 2, 1), (2, 3), (3, 1), (0, 65535, 1))):
            given = liar.ask(Step.COMMIT, b"", toss=toss)
            liar.toss, commit = (toss, given) if given else (liar.toss, commit)
        liar.ask(Step.COMMIT, b"\0", toss=liar.toss + 1)
        before: Any = liar.device._state
        own = (commit[:32], before.nonce)
        entries = _listed(liar, own)
        listed = encode_commitments([entry[:2] for entry in entries])
        root = cohort_root(liar.terms.context, liar.toss, listed)
        if dice.chance(0.5):
            liar.garbled(Step.ADVERTISE, root)
        given = liar.ask(Step.ADVERTISE, root)
        if dice.chance(0.15):  # the ring is drawn again
            liar.ask(Step.COMMIT, b"", toss=liar.toss + 1)
            liar.ask(Step.ADVERTISE, root)
            liar.ask(Step.COMMIT, b"")
        if not given:
            return
        ids, nonces = [entry[0] for entry in entries], {entry[0]: entry[2] for entry in entries}
        try:
            cohort = Cohort(liar.terms, toss=liar.toss, ids=ids, root=root, nonces=[entry[2] for entry in entries])
            names = cohort.ids[cohort.neighbours(cohort.member(liar.me) or 0)].tolist()
        except InputError:
            names = ids[:6]
        own_advert, listed_too = Advert.decode(given, committed=True), tuple(entries)
        bodies = [ShareRequest(listed_too, tuple(_adverts(liar, names, nonces, root, own_advert))) for _ in range(3)]
        bodies.append(ShareRequest(tuple(_listed(liar, own)), ()))
        _shared(liar, [each.encode() for each in bodies])


def _advertised(dice: Dice, answer: CaseAnswer) -> None:
    """A complete graph: the shares for all who are listed."""
    with rings(COMPLETE):
        liar = LyingServer(dice, answer, COMPLETE, Step.ADVERTISE)
        if dice.chance(0.3):
            liar.garbled(Step.ADVERTISE, b"")
        given = liar.ask(Step.ADVERTISE, b"")
        n, n_min, less = liar.party.shape.n, liar.terms.n_min, dice.one_of((0, 0, 0, 1, 2, 3))
        gone = dice.shuffled(range(n))[:less]
        ids = [i for i in range(n) if i not in gone] + ([n] if dice.chance(0.1) else [])
        own = Advert.decode(given, committed=False)
        own = replace(own, self_digest=dice.bytes(32)) if dice.chance(0.2) else own
        bodies = [ShareRequest((), tuple(_adverts(liar, ids, {}, b"", own))) for _ in range(3)]
        bodies.append(ShareRequest((), bodies[0].adverts[: dice.one_of((0, n_min - 1))]))
        _shared(liar, [each.encode() for each in bodies])


def _shared(liar: LyingServer, requests: Sequence[bytes]) -> None:
    """Ask for shares: by several requests until one is good, by that again, and by others."""
    dice = liar.dice
    if dice.chance(0.5):
        liar.garbled(Step.SHARE, requests[0])
    for request in requests[dice.whole(0, 2) :]:
        if liar.ask(Step.SHARE, request):
            liar.ask(Step.SHARE, request)
            break
    for step in dice.some_of((Step.SHARE, Step.COMMIT, Step.ADVERTISE, Step.CHECK), 0.3):
        liar.ask(step, requests[-1] if step is Step.SHARE else b"", toss=liar.toss + (step is Step.COMMIT))


def _handed(liar: LyingServer) -> bytes:
    """A check request: the honest one, or with something wrong in it."""
    dice = liar.dice
    state: Any = liar.device._state
    cohort, neighbours, me = state.cohort, state.neighbours, state.me
    request = CheckRequest.decode(liar.moment.requests[liar.me][HEADER:], n=len(cohort))
    shared, boxes = request.shared.copy(), list(request.boxes)
    senders = neighbours.tolist()
    for _ in range(dice.one_of((0, 1, 1, 2))):
        at, how = (
            dice.whole(0, len(boxes) - 1),
            dice.one_of(("rubbish", "low", "false", "unsigned", "swapped", "withheld")),
        )
        if how == "withheld":
            shared[senders[at]] = False
            del boxes[at], senders[at]
            continue
        if how == "swapped":
            boxes[at] = boxes[at - 1]
            continue
        start, end = {"rubbish": (32, 112), "low": (0, 32), "false": (112, 144), "unsigned": (0, 0)}[how]
        body = bytearray(boxes[at][:BOX_BODY])
        body[start:end] = bytes(end - start)
        place = int(cohort.slots(me)[neighbours.tolist().index(senders[at])])
        label = Label.of(cohort, sender=int(cohort.ids[senders[at]]), receiver=liar.me, slot=place,
                         key=state.share_pair.public)  # fmt: skip
        signature = sign(liar.party.keys[senders[at]], BOX_TAG, label.payload(bytes(body)))
        boxes[at] = bytes(body) + (bytes(64) if how == "unsigned" else signature)
    how = dice.one_of(("", "", "", "", "me", "less", "more", "far"))
    if how == "me":
        shared[me] = False
    elif how == "far":  # says of somebody else that it hasn't shared
        shared[(me + len(cohort) // 2) % len(cohort)] ^= True
    boxes = boxes[:-1] if how == "less" else [*boxes, bytes(BOX)] if how == "more" else boxes
    return CheckRequest(shared, tuple(boxes)).encode()


def _complaints(liar: LyingServer) -> bytes:
    """Complaints of the device's boxes, signed by their receivers, in most cases with something wrong in them."""
    dice = liar.dice
    state: Any = liar.device._state
    cohort, me, c_max = state.cohort, state.me, liar.terms.c_max
    neighbours, found = state.neighbours.tolist(), list[bytes]()
    how = dice.one_of(("", "", "", "", "quiet", "forged", "path", "leaf", "stranger", "twice", "slot"))
    shared: Any = liar.recorded.moments[Step.CHECK].devices[liar.me]._state  # its boxes, whatever it has opened since
    for slot in dice.shuffled(range(cohort.degree))[: dice.one_of((1, 1, c_max, c_max, c_max + 1))]:
        other = neighbours[slot]
        place = int(cohort.slots(me)[slot])
        label = Label.of(
            cohort, sender=liar.me, receiver=int(cohort.ids[other]), slot=slot, key=shared.share_keys[slot]
        )
        leaves = [dice.bytes(2) for _ in range(cohort.degree)]
        leaves[place] = label.leaf(shared.boxes[slot if how != "leaf" else slot - 1])
        tree, accused = (
            tree_of(leaves),
            np.arange(cohort.degree) == (place if how != "quiet" else (place + 1) % cohort.degree),
        )
        signer = liar.party.keys[liar.me if how == "forged" else other]
        payload = receipt_payload(cohort.binding, root_of(tree), pack_flags(accused))
        path = path_of(tree, (place + 1) % cohort.degree if how == "slot" else place)
        path = (flipped(dice, path[0]), *path[1:]) if how == "path" else path
        named = liar.me if how == "stranger" else int(cohort.ids[other])
        found.append(
            Complaint(named, BoxReceipt(root_of(tree), accused, sign(signer, RECEIPT, payload)), path).encode()
        )
        found += found[-1:] if how == "twice" else []
    return b"".join(found)


def _checked(shape: Shape, dice: Dice, answer: CaseAnswer) -> None:
    """The boxes of the neighbours, complaints of its own, and what a restored backup is asked then."""
    with rings(shape):
        liar = LyingServer(dice, answer, shape, Step.CHECK)
        request = _handed(liar)
        if dice.chance(0.4):
            liar.garbled(Step.CHECK, request)
        given = liar.ask(Step.CHECK, request)
        if not given:
            given = liar.ask(Step.CHECK, liar.moment.requests[liar.me][HEADER:])
        if dice.chance(0.2):
            liar.ask(Step.CHECK, flipped(dice, request) if dice.chance(0.5) else request)
        for _ in range(dice.one_of((0, 1, 2))):
            complaints = _complaints(liar)
            if dice.chance(0.4):
                liar.garbled(Step.OPEN, complaints)
            liar.ask(Step.OPEN, complaints)
        if dice.chance(0.3):
            again = liar.restarted()
            liar.ask(Step.CHECK, request, device=again)
            liar.ask(Step.OPEN, _complaints(liar), device=again)
        there = CheckRequest.decode(request, n=shape.n).shared
        asked_for_vector(liar, there if dice.chance(0.5) else np.ones(shape.n, np.bool_))


def _any(dice: Dice, answer: CaseAnswer) -> None:
    """The request of any step in any state, as it was honestly sent; twice, and to another device."""
    shape = dice.one_of((COMPLETE, RING))
    with rings(shape):
        recorded = honest(shape)
        i = dice.whole(0, shape.n - 1)
        devices = [recorded.last[i], *(moment.devices[i] for moment in recorded.moments.values())]
        for device in dice.shuffled(devices)[:4]:
            own = copied(device)
            for step, moment in dice.shuffled([*recorded.moments.items()])[:5]:
                cheap = step not in (Step.SHARE, Step.CHECK) or type(own._state).__name__ in (
                    "MaskedSent",
                    "Done",
                    "Fresh",
                )
                if cheap or dice.chance(0.2):
                    answer.of(own.answer, step, moment.requests[i])
                    answer.of(own.answer, step, moment.requests[(i + 1) % shape.n])
                tell_device(answer, own)
        answer.tell([checks.draw(n, me, size) for n, me, size in ((9, 8, 4), (9, 0, 8), (5, dice.whole(0, 4), 3))])
        party = recorded.party
        stranger = Directory(tuple(reversed(party.directory.identities)))
        facts: dict[str, Any] = {
            "id": i, "identity": party.keys[i], "directory": party.directory, "server_key": party.server.public,
            "vector": lambda: None, "latch": lambda *_: None,
        }  # fmt: skip
        for changed in ({"id": -1}, {"id": shape.n}, {"id": (i + 1) % shape.n}, {"directory": stranger},
                        {"identity": party.server}, {}):  # fmt: skip
            made = answer.tried(MaskedDevice, party.terms, **{**facts, **changed})
            if isinstance(made, MaskedDevice):
                answer.tell(made.id, made._state.toss)


def asked_for_vector(liar: LyingServer, u1: Flags) -> bytes:
    """Ask for the vector, masked under a list that the server has signed."""
    state: Any = liar.device._state
    binding = state.cohort.binding if hasattr(state, "cohort") else bytes(98)
    signature = sign(liar.party.server, MEMBERS, members_payload(binding, pack_flags(u1)))
    return liar.ask(Step.INPUT, InputRequest(u1, signature).encode())


SEAMS = (
    Seam("device: any request in any state", _any, 12),
    Seam("device: adverts and shares", _advertised, 30),
    Seam("device: tosses, adverts and shares in a ring", _drawn, 30),
    Seam("device: boxes and complaints", partial(_checked, COMPLETE), 24),
    Seam("device: boxes and complaints in a ring", partial(_checked, RING), 24),
)
