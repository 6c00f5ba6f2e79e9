"""A device in a masked attempt: at each step, whatever a lying server and devices that collude with it may send."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.signed import FIELD, flipped, resized
from palate_audit.answers.seams.masks.worlds import COMPLETE, RING, Shape, copied, honest, rings, tell_device
from palate_client.secagg import checks
from palate_client.secagg.attempt import MaskedDevice
from palate_common.errors import InputError
from palate_common.secagg.boxes import Label, path_of, root_of, tree_of
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.directory import Directory
from palate_common.secagg.messages import (
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
    UnmaskRequest,
    encode_commitments,
    pack_flags,
    write,
)
from palate_common.secagg.transcript import (
    ADVERT,
    CONSISTENCY,
    INPUT,
    MEMBERS,
    RECEIPT,
    advert_payload,
    cohort_root,
    commitment_to,
    consistency_payload,
    members_payload,
    receipt_payload,
    sign,
)
from palate_common.secagg.transcript import BOX as BOX_TAG

Entry = tuple[int, bytes, bytes]


class _Liar:
    """A server that lies to one device, and has the keys of all the others.

    Args:
        dice: what it does.
        answer: what is told.
        shape: of the world.
        step: where the device is: as in the honest attempt.
    """

    def __init__(self, dice: Dice, answer: Answer, shape: Shape, step: Step) -> None:
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


def _listed(liar: _Liar, own: tuple[bytes, bytes]) -> list[Entry]:
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
    liar: _Liar, ids: Sequence[int], nonces: dict[int, bytes], root: bytes, own: Advert
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
                "wide": {"share_key": (FIELD + 9).to_bytes(32, "little")}, "nonce": {"nonce": dice.bytes(len(advert.nonce))},
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


def _drawn(dice: Dice, answer: Answer) -> None:
    """A ring: tosses, nonces, and the shares for the neighbours that the seed gives."""
    with rings(RING):
        liar = _Liar(dice, answer, RING, Step.COMMIT)
        commit = b""
        for toss in dice.one_of(((0,), (0, 0), (1, 0), (0, 2, 1), (2, 3), (3, 1), (0, 65535, 1))):
            given = liar.ask(Step.COMMIT, b"", toss=toss)
            liar.toss, commit = (toss, given) if given else (liar.toss, commit)
        liar.ask(Step.COMMIT, b"\0", toss=liar.toss + 1)
        before = liar.device._state
        own = (commit[:32], before.nonce)  # type: ignore[union-attr]
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


def _advertised(dice: Dice, answer: Answer) -> None:
    """A complete graph: the shares for all who are listed."""
    with rings(COMPLETE):
        liar = _Liar(dice, answer, COMPLETE, Step.ADVERTISE)
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


def _shared(liar: _Liar, requests: Sequence[bytes]) -> None:
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


def _handed(liar: _Liar) -> bytes:
    """A check request: the honest one, or with something wrong in it."""
    dice, state = liar.dice, liar.device._state
    cohort, neighbours, me = state.cohort, state.neighbours, state.me  # type: ignore[union-attr]
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
                         key=state.share_pair.public)  # type: ignore[union-attr]  # fmt: skip
        signature = sign(liar.party.keys[senders[at]], BOX_TAG, label.payload(bytes(body)))
        boxes[at] = bytes(body) + (bytes(64) if how == "unsigned" else signature)
    how = dice.one_of(("", "", "", "", "me", "less", "more", "far"))
    if how == "me":
        shared[me] = False
    elif how == "far":  # says of somebody else that it hasn't shared
        shared[(me + len(cohort) // 2) % len(cohort)] ^= True
    boxes = boxes[:-1] if how == "less" else [*boxes, bytes(BOX)] if how == "more" else boxes
    return CheckRequest(shared, tuple(boxes)).encode()


def _complaints(liar: _Liar) -> bytes:
    """Complaints of the device's boxes, signed by their receivers, in most cases with something wrong in them."""
    dice, state = liar.dice, liar.device._state
    cohort, me, c_max = state.cohort, state.me, liar.terms.c_max  # type: ignore[union-attr]
    neighbours, found = state.neighbours.tolist(), list[bytes]()  # type: ignore[union-attr]
    how = dice.one_of(("", "", "", "", "quiet", "forged", "path", "leaf", "stranger", "twice", "slot"))
    shared = liar.recorded.moments[Step.CHECK].devices[liar.me]._state  # its boxes, whatever it has opened since
    for slot in dice.shuffled(range(cohort.degree))[: dice.one_of((1, 1, c_max, c_max, c_max + 1))]:
        other = neighbours[slot]
        place = int(cohort.slots(me)[slot])
        label = Label.of(
            cohort, sender=liar.me, receiver=int(cohort.ids[other]), slot=slot, key=shared.share_keys[slot]
        )  # type: ignore[union-attr]
        leaves = [dice.bytes(2) for _ in range(cohort.degree)]
        leaves[place] = label.leaf(shared.boxes[slot if how != "leaf" else slot - 1])  # type: ignore[union-attr]
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


def _checked(shape: Shape, dice: Dice, answer: Answer) -> None:
    """The boxes of the neighbours, complaints of its own, and what a restored backup is asked then."""
    with rings(shape):
        liar = _Liar(dice, answer, shape, Step.CHECK)
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
        u1 = np.ones(shape.n, np.bool_)
        request = CheckRequest.decode(request, n=shape.n).shared if dice.chance(0.5) else u1
        _asked_for_vector(liar, request)


def _asked_for_vector(liar: _Liar, u1: Flags) -> bytes:
    """Ask for the vector, masked under a list that the server has signed."""
    binding = liar.device._state.cohort.binding if hasattr(liar.device._state, "cohort") else bytes(98)
    signature = sign(liar.party.server, MEMBERS, members_payload(binding, pack_flags(u1)))
    return liar.ask(Step.INPUT, InputRequest(u1, signature).encode())


def _fewer(dice: Dice, flags: Flags, least: int, cohort: Cohort, me: int) -> Flags:
    """A list with some fewer, near what must be there, in a row of the ring or not; the device may miss, too."""
    there, found = np.flatnonzero(flags).tolist(), flags.copy()
    gone = dice.shuffled([each for each in there if each != me])
    if cohort._ring is not None and dice.chance(0.6):
        after = int(cohort._ring.position[me]) + dice.whole(1, len(cohort) - 3)
        gone = np.roll(cohort._ring.order, -after).tolist()
    found[gone[: dice.one_of((0, 0, 1, len(there) - least, len(there) - least, len(there) - least + 1))]] = False
    found[me] = dice.chance(0.93)
    return found


def _wrong_inputs(liar: _Liar, u1: Flags, binding: bytes) -> None:
    """Requests for the vector that must be refused."""
    dice, list_ = liar.dice, pack_flags(u1)
    server = liar.party.server
    bodies = (
        list_ + sign(server, MEMBERS, members_payload(binding, flipped(dice, list_))),
        list_ + sign(liar.party.keys[0], MEMBERS, members_payload(binding, list_)),
        list_ + sign(server, INPUT, members_payload(binding, list_)),
        list_ + sign(server, MEMBERS, members_payload(bytes(98), list_)), list_ + bytes(64), list_,
        list_[:-1] + bytes([list_[-1] | 128]) + sign(server, MEMBERS, members_payload(binding, list_)),
    )  # fmt: skip
    liar.ask(Step.INPUT, dice.one_of(bodies))


def _summed(shape: Shape, dice: Dice, answer: Answer) -> None:
    """The list of who has shared, the list of survivors, and the shares that open the sum."""
    with rings(shape), ExitStack() as stack:
        liar = _Liar(dice, answer, shape, Step.INPUT)
        state, n_min = liar.device._state, liar.terms.n_min
        cohort, me = state.cohort, state.me  # type: ignore[union-attr]
        stack.enter_context(mock.patch.object(cohort, "_window_corrupt", dice.whole(0, 2)))  # how long a gap may be
        odd = dice.whole(0, 11)
        if odd < 3:
            vectors: tuple[Any, ...] = (np.zeros(shape.size, np.int32), np.zeros(shape.size + 1, np.int64), None)
            liar.device._vector = partial(_vector, vectors[odd])
        everybody = np.ones(shape.n, np.bool_)
        u1 = _fewer(dice, everybody, n_min, cohort, me)
        if dice.chance(0.6):
            _wrong_inputs(liar, everybody if dice.chance(0.7) else u1, cohort.binding)
        if dice.chance(0.3):
            signature = sign(liar.party.server, MEMBERS, members_payload(cohort.binding, pack_flags(u1)))
            liar.garbled(Step.INPUT, InputRequest(u1, signature).encode())
        if not _asked_for_vector(liar, u1):
            u1 = everybody
            _asked_for_vector(liar, u1)
        if dice.chance(0.4):
            _asked_for_vector(liar, _fewer(dice, everybody, n_min, cohort, me))
            liar.ask(Step.OPEN, bytes(200))
            again = liar.restarted()
            signature = sign(liar.party.server, MEMBERS, members_payload(cohort.binding, pack_flags(everybody)))
            liar.ask(Step.INPUT, InputRequest(everybody, signature).encode(), device=again)
        _opened(liar, cohort, u1, n_min)


def _vector(given: Any) -> Any:
    """What a device computes: an array of another kind or size, or an error of Palate's."""
    if given is None:
        raise InputError("no vector, got `none`")
    return given


def _opened(liar: _Liar, cohort: Cohort, u1: Flags, n_min: int) -> None:
    """From the survivors on."""
    dice, me, answer = liar.dice, liar.device, liar.answer
    member = cohort.member(liar.me) or 0
    survivors = _fewer(dice, u1, n_min, cohort, member)
    if dice.chance(0.3):
        liar.ask(Step.CONSISTENCY, dice.one_of((pack_flags(~u1 | survivors), resized(dice, pack_flags(survivors)),
                                                pack_flags(survivors)[:-1] + b"\xff")))  # fmt: skip
    if not liar.ask(Step.CONSISTENCY, pack_flags(survivors)):
        survivors = u1
        liar.ask(Step.CONSISTENCY, pack_flags(survivors))
    if dice.chance(0.3):
        liar.ask(Step.CONSISTENCY, pack_flags(_fewer(dice, u1, n_min, cohort, member)))
        again = copied(liar.recorded.moments[Step.CONSISTENCY].devices[liar.me])
        again._latch = me._latch
        liar.ask(Step.CONSISTENCY, pack_flags(_fewer(dice, u1, n_min, cohort, member)), device=again)
    if dice.chance(0.3):
        liar.garbled(Step.CONSISTENCY, pack_flags(survivors))
        liar.garbled(Step.UNMASK, _unmasked(liar, cohort, u1, survivors))
    for _ in range(dice.one_of((1, 2, 3, 4))):
        liar.ask(Step.UNMASK, _unmasked(liar, cohort, u1, survivors))
    answer.tell(len(me._answers))


def _unmasked(liar: _Liar, cohort: Cohort, u1: Flags, survivors: Flags) -> bytes:
    """Signatures of the survivors, in most cases with something wrong in them."""
    dice, member, keys = liar.dice, cohort.member(liar.me) or 0, liar.party.keys
    around = cohort.neighbours(member)
    signers = survivors.copy()
    there = dice.shuffled([each for each in around.tolist() if survivors[each]])
    far = dice.shuffled([each for each in np.flatnonzero(survivors).tolist() if each not in there and each != member])
    spare = len(there) - cohort.threshold
    signers[there[: max(0, dice.one_of((0, 0, 0, 1, spare, spare + 1)))]] = False
    signers[far[: dice.one_of((0, 0, 1, 2, len(far)))]] = False
    signers[member] = dice.chance(0.8)
    how = dice.one_of(
        ("", "", "", "near", "far", "far", "far", "own", "lost", "other", "fewer", "more", "order", "list", "tag")
    )
    if how == "lost" and not survivors.all():
        signers[np.flatnonzero(~survivors)[0]] = True
    payload = consistency_payload(cohort.binding, pack_flags(u1), pack_flags(survivors))
    others = [each for each in around.tolist() if survivors[each] and not signers[each]]
    wrong = {"near": there[-1:], "far": far[-1:], "own": [member], "other": others[-1:]}.get(how, [])
    signed = [
        bytes(64) if each in wrong else sign(keys[each], CONSISTENCY, payload)
        for each in np.flatnonzero(signers).tolist()
    ]
    list_ = pack_flags(u1 if how != "list" else ~u1)
    tag = CONSISTENCY if how == "tag" else INPUT
    more = [
        bytes(64) if each in wrong else sign(keys[each], tag, members_payload(cohort.binding, list_)) for each in others
    ]
    more = (
        more[:-1] if how == "fewer" else [*more, bytes(64)] if how == "more" else more[::-1] if how == "order" else more
    )
    return UnmaskRequest(signers, tuple(signed), tuple(more)).encode()


def _any(dice: Dice, answer: Answer) -> None:
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
        facts: dict[str, Any] = {"id": i, "identity": party.keys[i], "directory": party.directory,
                                 "server_key": party.server.public, "vector": lambda: None, "latch": lambda *_: None}  # fmt: skip
        for changed in ({"id": -1}, {"id": shape.n}, {"id": (i + 1) % shape.n}, {"directory": stranger},
                        {"identity": party.server}, {}):  # fmt: skip
            made = answer.tried(MaskedDevice, party.terms, **{**facts, **changed})
            if isinstance(made, MaskedDevice):
                answer.tell(made.id, made._state.toss)


SEAMS = (
    Seam("device: any request in any state", _any, 12),
    Seam("device: adverts and shares", _advertised, 30),
    Seam("device: tosses, adverts and shares in a ring", _drawn, 30),
    Seam("device: boxes and complaints", partial(_checked, COMPLETE), 24),
    Seam("device: boxes and complaints in a ring", partial(_checked, RING), 24),
    Seam("device: vectors, lists and shares", partial(_summed, COMPLETE), 30),
    Seam("device: vectors, lists and shares in a ring", partial(_summed, RING), 30),
)
