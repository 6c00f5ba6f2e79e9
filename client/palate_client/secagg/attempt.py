"""MaskedDevice: one device in one masked attempt, from its first nonce to the shares that open the sum.

    commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask

The server sends as little as possible: the device derives its neighbours, thresholds and positions of shares from the
terms and the seed. All checks of a request (`palate_client.secagg.checks`) come before any change; a refused request
changes nothing, and the vector is computed once, after all checks before the input have passed.

Each answer is made once. The same request again gets the same bytes; another request for an answered step is refused,
and so is an earlier step, except a new draw of the ring (a higher toss) before anything was shared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from palate_client.secagg import checks as checks
from palate_client.secagg.channels import PairwiseChannels
from palate_client.secagg.states import Advertised, Agreed, Checked, Done, Fresh, MaskedSent, Shared, State
from palate_common.mechanism.update import Int64
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import NONE, Dealt, Label, check_signed, depth_of, make_box, open_box, root_of, tree_of
from palate_core.masks.directory import Directory
from palate_core.masks.masking import Masker
from palate_core.masks.messages import (
    HASH,
    Advert,
    BoxReceipt,
    CheckRequest,
    Commit,
    Complaint,
    Header,
    InputRequest,
    Secret,
    ShareRequest,
    Step,
    UnmaskRequest,
    encode_advert,
    encode_commitments,
    pack_flags,
    read,
    read_fixed,
    unpack_flags,
    write,
)
from palate_core.masks.packing import Residues, pack, residue_type
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.shamir import split
from palate_core.masks.transcript import (
    ADVERT,
    COMMIT,
    CONSISTENCY,
    INPUT,
    OPENING,
    RECEIPT,
    REVEAL,
    AttemptTerms,
    advert_payload,
    cohort_root,
    commit_payload,
    commitment_to,
    consistency_payload,
    members_payload,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)


class MaskedDevice:
    """One device in one attempt.

    **Guarantees:** the vector is made once and only after every check: of U1.
    **Guarantees:** signs no second list: so of each neighbour it gives one share, of b or of the mask key.
    **Guarantees:** another is refused: then the device is where it was before that request; a draw not met ends it.
    **Guarantees:** opens a box only after a complaint: signed by its receiver, of this very box, for c_max devices at
        most, and never once it has masked.
    **Guarantees:** secrets are dropped: once its shares are out, it refers to none (CPython can't erase).
    **Assumes:** charged: the attempt was checked against floors and written to the device's ledger before.
    **Assumes:** the latch outlives the process: what it has accepted survives a crash and a restored backup.

    Args:
        terms: the terms of the attempt.
        id: the device's number in the directory.
        identity: its signing key.
        directory: the pinned identities.
        server_key: the operator's public key, pinned.
        vector: computes the clipped steps plus this device's share of the noise, int64 [size].
        latch: stores (step, digest) durably; raises RefusedError if another digest is stored for the step.

    Raises:
        InputError: the directory has another key for this id.
        RefusedError: the terms name another directory.
    """

    def __init__(
        self,
        terms: AttemptTerms,
        *,
        id: int,
        identity: SigningKey,
        directory: Directory,
        server_key: str,
        vector: Callable[[], Int64],
        latch: Callable[[str, str], None],
    ) -> None:
        if directory.hash != terms.directory:
            raise RefusedError("the plan must name the directory this device has pinned, got another")
        if not 0 <= id < len(directory.identities) or directory.identities[id] != identity.public:
            raise InputError(f"`identity` must be the key of device {id} in the directory, got {identity.public[:16]}…")
        self.terms, self.id = terms, id
        self._identity, self._directory, self._server_key = identity, directory, server_key
        self._vector: Callable[[], Int64] | None = vector
        self._latch, self._channels = latch, PairwiseChannels(terms.context, id)
        self._state: State = Fresh() if terms.committed else Fresh(toss=0)
        self._answers: dict[Step, tuple[bytes, bytes]] = {}

    def answer(self, step: Step, request: bytes) -> bytes:
        """Answer one request of the server.

        Raises:
            IntegrityError: the request is malformed, of another attempt, or has an invalid signature, key or box.
            RefusedError: a check failed, the step is not due, or another request for it was answered.
        """
        digest = hashlib.sha256(request).digest()
        if step in self._answers and self._answers[step][0] == digest:
            return self._answers[step][1]
        toss, body = read(request, step=step, device=self.id, context=self.terms.context, answer=False)
        state, reply = self._take(step, toss, body)
        answer = write(Header(step, toss, self.id, self.terms.context), reply, answer=True)
        kept = {} if step is Step.COMMIT else self._answers
        self._state, self._answers = state, {**kept, step: (digest, answer)}
        return answer

    def _take(self, step: Step, toss: int, body: bytes) -> tuple[State, bytes]:
        """Take a step, if it may follow the present state. No other place decides this."""
        match step, self._state:
            case Step.COMMIT, (Fresh() | Advertised()) as state if self.terms.committed:
                return self._commit(state, toss, body)
            case Step.ADVERTISE, Fresh() as state if bool(state.nonce) == self.terms.committed:
                return self._advertise(state, toss, body)
            case Step.SHARE, Advertised() as state:
                return self._share(state, toss, body)
            case Step.CHECK, Shared() as state:
                return self._check(state, toss, body)
            case Step.OPEN, Checked() as state if state.made_with:
                return self._open(state, toss, body)
            case Step.INPUT, Checked() as state:
                return self._input(state, toss, body)
            case Step.CONSISTENCY, MaskedSent() as state:
                return self._agree(state, toss, body)
            case Step.UNMASK, Agreed() as state:
                return self._unmask(state, toss, body)
        raise RefusedError(f"the step {step.name.lower()} is not due, or was answered to another request")

    def _commit(self, state: Fresh | Advertised, toss: int, body: bytes) -> tuple[State, bytes]:
        """Commit to a fresh nonce for this toss; the keys of an earlier toss are dropped."""
        read_fixed("a commit request", body, 0)
        checks.next_toss(toss, state.toss, terms=self.terms)
        nonce = os.urandom(HASH)
        commitment = commitment_to(nonce)
        signature = sign(self._identity, COMMIT, commit_payload(self.terms.context, toss, self.id, commitment))
        return Fresh(toss, nonce, commitment), Commit(commitment, signature).encode()

    def _advertise(self, state: Fresh, toss: int, body: bytes) -> tuple[State, bytes]:
        """Send the nonce and two new public keys, signed with the cohort's root if there is one."""
        root = read_fixed("an advertise request", body, HASH if self.terms.committed else 0)
        checks.same_toss(toss, state.toss)
        share_pair, mask_pair, self_mask = KeyPair.generate(), KeyPair.generate(), os.urandom(32)
        own = Advert(state.nonce, share_pair.public, mask_pair.public, hashlib.sha256(self_mask).digest(), b"")
        payload = advert_payload(self.terms.context, toss, root, self.id, own.body)
        advert = Advert(own.nonce, own.share_key, own.mask_key, own.self_digest, sign(self._identity, ADVERT, payload))
        after = Advertised(toss, state.nonce, state.commitment, root, share_pair, mask_pair, self_mask, advert)
        return after, advert.encode()

    def _share(self, state: Advertised, toss: int, body: bytes) -> tuple[State, bytes]:
        """Derive the neighbours, and encrypt to each its share of both secrets."""
        request = ShareRequest.decode(body, committed=self.terms.committed, n_max=self.terms.n_max)
        checks.same_toss(toss, state.toss)
        cohort, adverts = self._cohort(state, request)
        me = cohort.member(self.id)
        if me is None:
            raise RefusedError("the cohort must hold this device, got one without it")
        neighbours = cohort.neighbours(me)
        names = cohort.ids[neighbours].tolist()
        checks.expected_adverts([device for device, _ in adverts], names)
        checks.signed_adverts(
            adverts, context=self.terms.context, toss=toss, root=state.root, directory=self._directory
        )
        mine = (state.share_pair.public, state.mask_pair.public)
        checks.distinct_keys([*mine, *(key for _, advert in adverts for key in (advert.share_key, advert.mask_key))])
        secret = state.self_mask + state.mask_pair.private_bytes()
        shares = split(secret, shares=cohort.degree, threshold=cohort.threshold)
        share_keys, mask_keys = zip(*((advert.share_key, advert.mask_key) for _, advert in adverts), strict=True)
        made = [
            make_box(
                Label.of(cohort, sender=self.id, receiver=names[slot], slot=slot, key=share_keys[slot]),
                shares[slot].tobytes(),
                self._identity,
            )
            for slot in range(cohort.degree)
        ]
        boxes, made_with = zip(*made, strict=True)
        kept = toss, cohort, me, neighbours, share_keys, mask_keys, boxes, made_with, state.mask_pair, state.self_mask
        after = Shared(*kept, state.share_pair)
        return after, b"".join(boxes)

    def _cohort(self, state: Advertised, request: ShareRequest) -> tuple[Cohort, list[tuple[int, Advert]]]:
        """Check the cohort; returns it and the adverts of this device's neighbours."""
        terms, own = self.terms, state.advert
        adverts = list(request.adverts)
        if terms.committed:
            entries = {device: (commitment, nonce) for device, commitment, nonce in request.entries}
            ids = [device for device, _, _ in request.entries]
            checks.known_members(ids, directory=self._directory, terms=terms)
            listed = encode_commitments([(device, commitment) for device, commitment, _ in request.entries])
            root = cohort_root(terms.context, state.toss, listed)
            checks.same_root(root, state.root)
            checks.own_entry(entries.get(self.id), (state.commitment, state.nonce))
            checks.nonces_fit(request.entries)
            nonces = [nonce for _, _, nonce in request.entries]
            checks.advert_nonces(adverts, {device: nonce for device, (_, nonce) in entries.items()})
        else:
            ids = [device for device, _ in adverts]
            checks.known_members(ids, directory=self._directory, terms=terms)
            checks.own_entry(dict(adverts).get(self.id), own)
            root = cohort_root(terms.context, state.toss, b"".join(encode_advert(*advert) for advert in adverts))
            nonces = []
            adverts = [(device, advert) for device, advert in adverts if device != self.id]
        try:
            return Cohort(terms, toss=state.toss, ids=ids, root=root, nonces=nonces), adverts
        except InputError as error:
            raise RefusedError(f"the cohort is too small for these terms: {error}") from None

    def _check(self, state: Shared, toss: int, body: bytes) -> tuple[State, bytes]:
        """Open the neighbours' boxes, and sign a receipt that says which they are, and which of them are none."""
        cohort = state.cohort
        request = CheckRequest.decode(body, n=len(cohort))
        checks.same_toss(toss, state.toss)
        checks.listed(request.shared, state.me)
        slots = np.flatnonzero(request.shared[state.neighbours]).tolist()
        if len(request.boxes) != len(slots):
            raise IntegrityError(f"a check request must have {len(slots)} boxes, got {len(request.boxes)}")
        names, places = cohort.ids[state.neighbours].tolist(), cohort.slots(state.me).tolist()
        leaves, shares = [NONE] * cohort.degree, dict[int, Dealt]()
        accused = np.zeros(cohort.degree, np.bool_)
        for slot, box in zip(slots, request.boxes, strict=True):
            ends = {"sender": names[slot], "receiver": self.id}
            label = Label.of(cohort, **ends, slot=places[slot], key=state.share_pair.public)
            try:
                check_signed(label, box, self._directory.identities[names[slot]])
            except IntegrityError:
                continue  # what its sender hasn't signed is no box, and nobody's fault
            leaves[slot] = label.leaf(box)
            dealt = open_box(label, box, state.share_pair)
            if dealt is None:
                accused[slot] = True
            else:
                shares[slot] = dealt
        root = root_of(tree_of(leaves))
        signature = sign(self._identity, RECEIPT, receipt_payload(cohort.binding, root, pack_flags(accused)))
        kept = state.share_keys, state.mask_keys, state.boxes, state.made_with, state.mask_pair, state.self_mask
        after = Checked(toss, cohort, state.me, state.neighbours, *kept, shares)
        return after, BoxReceipt(root, accused, signature).encode()

    def _open(self, state: Checked, toss: int, body: bytes) -> tuple[State, bytes]:
        """Show the keys of boxes that their receivers complain of: each opens one box."""
        cohort = state.cohort
        complaints = Complaint.decode_all(body, k=cohort.degree, depth=depth_of(cohort.degree), most=cohort.degree)
        checks.same_toss(toss, state.toss)
        checks.few_openings(complaints, terms=self.terms)
        names, theirs = cohort.ids[state.neighbours].tolist(), cohort.slots(state.me).tolist()
        slot_of = {device: slot for slot, device in enumerate(names)}
        opened = list[bytes]()
        for complaint in complaints:
            if complaint.device not in slot_of:
                raise RefusedError(f"a box is opened for a neighbour, got a complaint of device {complaint.device}")
            slot = slot_of[complaint.device]
            public = self._directory.identities[complaint.device]
            checks.complained_of(complaint, slot=theirs[slot], binding=cohort.binding, public=public)
            ends = {"sender": self.id, "receiver": complaint.device}
            label = Label.of(cohort, **ends, slot=slot, key=state.share_keys[slot])
            checks.own_box(complaint, slot=theirs[slot], leaf=label.leaf(state.boxes[slot]))
            secret = state.made_with[slot].private_bytes()
            payload = opening_payload(cohort.binding, complaint.device, secret)
            opened.append(secret + sign(self._identity, OPENING, payload))
        checks.latched_openings(self._latch, hashlib.sha256(cohort.binding + body).hexdigest())
        return replace(state, boxes=(), made_with=(), answered=body), b"".join(opened)

    def _input(self, state: Checked, toss: int, body: bytes) -> tuple[State, bytes]:
        """Check the list of devices that have shared, then compute the vector and mask it with exactly those."""
        cohort, terms = state.cohort, self.terms
        request = InputRequest.decode(body, n=len(cohort))
        checks.same_toss(toss, state.toss)
        checks.listed(request.u1, state.me)
        checks.enough(request.u1, terms=terms)
        checks.no_cut(cohort, request.u1)
        u1 = pack_flags(request.u1)
        checks.signed_members(cohort, u1, request.signature, server_key=self._server_key)
        slots = np.flatnonzero(request.u1[state.neighbours]).tolist()
        checks.every_box(slots, state.shares)
        names = cohort.ids[state.neighbours].tolist()
        # No second check of boxes: attacks with `every_box` left out show that it is what stops them.
        shares = {slot: state.shares[slot] for slot in slots if slot in state.shares}
        keys = [
            (slot, self._channels.key("mask", toss, state.mask_pair, names[slot], state.mask_keys[slot])[:32])
            for slot in shares
        ]
        checks.latched_openings(self._latch, hashlib.sha256(cohort.binding + state.answered).hexdigest())
        checks.latched(self._latch, "input", hashlib.sha256(cohort.binding + u1).hexdigest())
        masked = self._mask(state, keys) + sign(self._identity, INPUT, members_payload(cohort.binding, u1))
        return MaskedSent(toss, cohort, state.me, state.neighbours, request.u1, shares), masked

    def _mask(self, state: Checked, keys: list[tuple[int, bytes]]) -> bytes:
        """Compute the vector, mask it with b and one mask per neighbour, and pack it."""
        make, self._vector = self._vector, None
        self._state = Done(state.toss)  # noise is drawn only once: if computing the vector fails, the attempt is over
        if make is None:
            raise RefusedError("the vector of this attempt was already made")
        vector = make()
        if vector.dtype != np.int64 or vector.shape != (self.terms.size,):
            raise InputError(f"`vector` must give int64 [{self.terms.size}], got {vector.dtype} {vector.shape}")
        kind = residue_type(self.terms.bits)  # the word's modulus, which 2^bits divides
        total: Residues = vector.astype(np.uint32) if kind == np.uint32 else vector.astype(np.uint64)
        added, subtracted = [state.self_mask], list[bytes]()
        for slot, key in keys:
            (added if state.me < state.neighbours[slot] else subtracted).append(key)
        Masker(self.terms.size, self.terms.bits).apply(total, added=added, subtracted=subtracted)
        return pack(total, self.terms.bits)

    def _agree(self, state: MaskedSent, toss: int, body: bytes) -> tuple[State, bytes]:
        """Sign the only list of survivors whose sum may be opened."""
        cohort = state.cohort
        survivors = unpack_flags(body, len(cohort))
        checks.same_toss(toss, state.toss)
        checks.listed(survivors, state.me)
        checks.still_there(survivors, state.u1)
        checks.enough(survivors, terms=self.terms)
        checks.no_cut(cohort, survivors)
        payload = consistency_payload(cohort.binding, pack_flags(state.u1), pack_flags(survivors))
        checks.latched(self._latch, "consistency", hashlib.sha256(payload).hexdigest())
        return Agreed(state, toss, survivors), sign(self._identity, CONSISTENCY, payload)

    def _unmask(self, agreed: Agreed, toss: int, body: bytes) -> tuple[State, bytes]:
        """Send one share per neighbour: of b if it has survived, otherwise of its mask key; then drop all secrets."""
        state, cohort, u1 = agreed.masked, agreed.masked.cohort, pack_flags(agreed.masked.u1)
        request = UnmaskRequest.decode(body, n=len(cohort))
        checks.same_toss(toss, state.toss)
        signed = dict(zip(np.flatnonzero(request.signers).tolist(), request.signatures, strict=True))
        payload = consistency_payload(cohort.binding, u1, pack_flags(agreed.survivors))
        checks.surviving_signers(request.signers, agreed.survivors)
        near = signed.keys() & set(state.neighbours.tolist())
        checks.enough_signers(len(near), cohort.threshold)
        near |= signed.keys() & {state.me}
        checks.signed_survivors(near, signed, payload=payload, cohort=cohort, keys=self._directory)
        survivors = agreed.survivors[state.neighbours]
        others = cohort.ids[state.neighbours[survivors & ~request.signers[state.neighbours]]].tolist()
        checks.same_sharers(others, request.others, binding=cohort.binding, u1=u1, keys=self._directory)
        self._state = Done(toss)  # only one draw: from repeated ones a server could learn who is drawn
        drawn = signed.keys() & checks.draw(len(cohort), state.me, cohort.sample)
        checks.enough_of_cohort(len(drawn), cohort.quorum)
        checks.signed_survivors(drawn - near, signed, payload=payload, cohort=cohort, keys=self._directory)
        pieces = [NONE] * cohort.degree
        for slot, dealt in state.shares.items():
            pieces[slot] = dealt.piece(Secret.SELF_MASK if survivors[slot] else Secret.MASK_KEY)
        root = root_of(tree_of(pieces))
        return Done(toss), b"".join(pieces) + sign(self._identity, REVEAL, reveal_payload(cohort.binding, root))
