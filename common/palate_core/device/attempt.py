"""MaskedDevice: one device in one masked attempt, from its first nonce to the shares that open the sum.

    commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask

The rounds are those of Bonawitz et al. (2017), on the sparse graph of Bell et al. (2020); commit, check and open are
added, against a server that lies.

The server sends as little as possible: the device derives its neighbours, thresholds and positions of shares from the
terms and the seed. All checks of a request (`palate_core.device.checks`) come before any change; a refused request
changes nothing, and the vector is computed once, after all checks before the input have passed.

Each answer is made once. The same request again gets the same bytes; another request for an answered step is refused,
and so is an earlier step, except a new draw of the ring (a higher toss) before anything was shared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from palate_core.device import checks
from palate_core.device.channels import PairwiseChannels
from palate_core.device.states import (
    Advertised,
    Agreed,
    Checked,
    Done,
    Fresh,
    MaskedSent,
    Shared,
    State,
    UnshownNonce,
)
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
from palate_core.noise_share import NoisedVector


class MaskedDevice:
    """One device in one attempt.

    **Guarantees:** the vector is made once and only after every check: of U1.
    **Guarantees:** signs no second list: so of each neighbour it gives one share, of b or of the mask key.
    **Guarantees:** another is refused: then the device is where it was before that request; a draw not met ends it.
    **Guarantees:** opens a box only after a complaint: signed by its receiver, of this very box, for c_max devices at
        most, and never once it has masked.
    **Guarantees:** one process answers: a fork would make the vector again, with other noise under the same masks.
    **Guarantees:** secrets are dropped: once its shares are out, it refers to none (CPython can't erase).
    **Assumes:** charged: the attempt was checked against floors before; that it is in the device's ledger is what
        `NoisedVector` is made of.
    **Assumes:** the latch outlives the process: what it has accepted survives a crash and a restored backup.

    Args:
        terms: the terms of the attempt.
        id: the device's number in the directory.
        identity: its signing key.
        directory: who is invited, as the plan names it.
        server_key: the operator's public key, pinned.
        vector: computes the checked steps plus this device's share of the noise.
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
        vector: Callable[[], NoisedVector],
        latch: Callable[[str, str], None],
    ) -> None:
        if directory.hash != terms.directory or len(directory) > terms.n_max:
            raise RefusedError("the plan must name the directory that comes with it, got another, or one of too many")
        if directory.identities.get(id) != identity.public:
            raise InputError(f"`identity` must be the key of device {id} in the directory, got {identity.public[:16]}…")
        self.terms, self.id = terms, id
        self._identity, self._directory, self._server_key = identity, directory, server_key
        self._vector = vector
        self._latch, self._channels = latch, PairwiseChannels(terms.context, id)
        self._state: State = Fresh(toss=-1 if terms.committed else 0, nonce=None)
        self._answers: dict[Step, tuple[bytes, bytes]] = {}
        self._process = os.getpid()

    def answer(self, step: Step, request: bytes) -> bytes:
        """Answer one request of the server.

        Raises:
            IntegrityError: the request is malformed, of another attempt, or has an invalid signature, key or box.
            RefusedError: a check failed, the step is not due, another request for it was answered, or this is a fork
                of the process that joined.
        """
        if os.getpid() != self._process:
            raise RefusedError("a masked attempt must go on in the process that joined it, got a fork of it")
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
        """Take a step that is due; all but a new toss must be of the present one."""
        take = self._step_due(step)
        if step is not Step.COMMIT:
            checks.same_toss(toss, self._state.toss)
        return take(toss, body)

    def _step_due(self, step: Step) -> Callable[[int, bytes], tuple[State, bytes]]:
        """The step, if it may follow the present state. No other place decides this."""
        match step, self._state:
            case Step.COMMIT, (Fresh() | Advertised()) as state if self.terms.committed:
                return partial(self._commit, state.toss)  # nothing else of an earlier toss may enter a new one
            case Step.ADVERTISE, Fresh() as state if (state.nonce is not None) == self.terms.committed:
                return partial(self._advertise, state)
            case Step.SHARE, Advertised() as state:
                return partial(self._share, state)
            case Step.CHECK, Shared() as state:
                return partial(self._check, state)
            case Step.OPEN, Checked() as state if state.made_with:
                return partial(self._open, state)
            case Step.INPUT, Checked() as state:
                return partial(self._send_masked, state)
            case Step.CONSISTENCY, MaskedSent() as state:
                return partial(self._agree, state)
            case Step.UNMASK, Agreed() as state:
                return partial(self._unmask, state)
        raise RefusedError(f"the step {step.name.lower()} is not due, or was answered to another request")

    def _commit(self, last: int, toss: int, body: bytes) -> tuple[State, bytes]:
        """Commit to a fresh nonce for this toss; nonce and keys of an earlier toss are dropped."""
        read_fixed("a commit request", body, 0)
        checks.next_toss(toss, last, terms=self.terms)
        nonce = os.urandom(HASH)
        commitment = commitment_to(nonce)
        signature = sign(self._identity, COMMIT, commit_payload(self.terms.context, toss, self.id, commitment))
        after = Fresh(toss=toss, nonce=UnshownNonce(value=nonce, commitment=commitment))
        return after, Commit(commitment, signature).encode()

    def _advertise(self, state: Fresh, toss: int, body: bytes) -> tuple[State, bytes]:
        """Round 0, advertise keys: the nonce and two new public keys, signed with the cohort's root if there is one."""
        root = read_fixed("an advertise request", body, HASH if self.terms.committed else 0)
        nonce, commitment = (b"", b"") if state.nonce is None else (state.nonce.value, state.nonce.commitment)
        share_pair, mask_pair, self_mask = KeyPair.generate(), KeyPair.generate(), os.urandom(32)
        own = Advert(nonce, share_pair.public, mask_pair.public, hashlib.sha256(self_mask).digest(), b"")
        payload = advert_payload(self.terms.context, toss, root, self.id, own.body)
        advert = Advert(own.nonce, own.share_key, own.mask_key, own.self_digest, sign(self._identity, ADVERT, payload))
        after = Advertised(
            toss=toss,
            nonce=nonce,
            commitment=commitment,
            root=root,
            share_pair=share_pair,
            mask_pair=mask_pair,
            self_mask=self_mask,
            advert=advert,
        )
        return after, advert.encode()

    def _share(self, state: Advertised, toss: int, body: bytes) -> tuple[State, bytes]:
        """Round 1, share keys: derive the neighbours, and encrypt to each its share of both secrets."""
        request = ShareRequest.decode(body, committed=self.terms.committed, n_max=self.terms.n_max)
        # Who is in the cohort, and which neighbours the seed gives this device.
        cohort, adverts = self._cohort(state, request)
        me = cohort.member(self.id)
        if me is None:
            raise RefusedError("the cohort must hold this device, got one without it")
        neighbours = cohort.neighbours(me)
        keys = checks.neighbour_keys(
            adverts,
            names=cohort.ids[neighbours].tolist(),
            own=(state.share_pair.public, state.mask_pair.public),
            context=self.terms.context,
            toss=toss,
            root=state.root,
            directory=self._directory,
        )
        # t-out-of-k shares of the self mask b and of the secret key of the pairwise masks, one box a neighbour.
        secret = state.self_mask + state.mask_pair.private_bytes()
        shares = split(secret, shares=cohort.degree, threshold=cohort.threshold)
        made = [
            make_box(
                Label.of(cohort, sender=self.id, receiver=keys.names[slot], slot=slot, key=keys.share_keys[slot]),
                shares[slot].tobytes(),
                self._identity,
            )
            for slot in range(cohort.degree)
        ]
        boxes, made_with = zip(*made, strict=True)
        after = Shared(
            toss=toss,
            cohort=cohort,
            me=me,
            neighbours=neighbours,
            share_keys=keys.share_keys,
            mask_keys=keys.mask_keys,
            boxes=boxes,
            made_with=made_with,
            mask_pair=state.mask_pair,
            self_mask=state.self_mask,
            share_pair=state.share_pair,
        )
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
        checks.listed(request.shared, state.me)
        slots = np.flatnonzero(request.shared[state.neighbours]).tolist()
        if len(request.boxes) != len(slots):
            raise IntegrityError(f"a check request must have {len(slots)} boxes, got {len(request.boxes)}")
        names, own_slots = cohort.ids[state.neighbours].tolist(), cohort.slots(state.me).tolist()
        leaves, shares = [NONE] * cohort.degree, dict[int, Dealt]()
        accused = np.zeros(cohort.degree, np.bool_)
        for slot, box in zip(slots, request.boxes, strict=True):
            ends = {"sender": names[slot], "receiver": self.id}
            label = Label.of(cohort, **ends, slot=own_slots[slot], key=state.share_pair.public)
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
        after = Checked(
            toss=toss,
            cohort=cohort,
            me=state.me,
            neighbours=state.neighbours,
            share_keys=state.share_keys,
            mask_keys=state.mask_keys,
            boxes=state.boxes,
            made_with=state.made_with,
            mask_pair=state.mask_pair,
            self_mask=state.self_mask,
            shares=shares,
            answered=b"",
        )
        return after, BoxReceipt(root, accused, signature).encode()

    def _open(self, state: Checked, _toss: int, body: bytes) -> tuple[State, bytes]:
        """Show the keys of boxes that their receivers complain of: each opens one box."""
        cohort = state.cohort
        complaints = Complaint.decode_all(body, k=cohort.degree, depth=depth_of(cohort.degree), most=cohort.degree)
        checks.few_openings(complaints, terms=self.terms)
        names, own_slots = cohort.ids[state.neighbours].tolist(), cohort.slots(state.me).tolist()
        slot_of = {device: slot for slot, device in enumerate(names)}
        opened = list[bytes]()
        for complaint in complaints:
            if complaint.device not in slot_of:
                raise RefusedError(f"a box is opened for a neighbour, got a complaint of device {complaint.device}")
            slot = slot_of[complaint.device]
            public = self._directory.identities[complaint.device]
            checks.complained_of(complaint, slot=own_slots[slot], binding=cohort.binding, public=public)
            ends = {"sender": self.id, "receiver": complaint.device}
            label = Label.of(cohort, **ends, slot=slot, key=state.share_keys[slot])
            checks.own_box(complaint, slot=own_slots[slot], leaf=label.leaf(state.boxes[slot]))
            secret = state.made_with[slot].private_bytes()
            payload = opening_payload(cohort.binding, complaint.device, secret)
            opened.append(secret + sign(self._identity, OPENING, payload))
        checks.latched_openings(self._latch, hashlib.sha256(cohort.binding + body).hexdigest())
        return replace(state, boxes=(), made_with=(), answered=body), b"".join(opened)

    def _send_masked(self, state: Checked, toss: int, body: bytes) -> tuple[State, bytes]:
        """Round 2, masked input: check who has shared (U1), then compute the vector and mask it with exactly those."""
        cohort = state.cohort
        request = InputRequest.decode(body, n=len(cohort))
        # U1 is a list that may be opened, is signed by the server, and each neighbour in it has sent a good box.
        found = checks.checked_list(request.u1, me=state.me, cohort=cohort, terms=self.terms)
        u1 = checks.signed_list(found, request.signature, cohort=cohort, server_key=self._server_key)
        shares = checks.every_box(np.flatnonzero(u1.flags[state.neighbours]).tolist(), state.shares)
        # One mask for each pair of neighbours, by their key agreement.
        names = cohort.ids[state.neighbours].tolist()
        keys = [
            (slot, self._channels.key("mask", toss, state.mask_pair, names[slot], state.mask_keys[slot])[:32])
            for slot in shares
        ]
        # After this no box is opened any more, and no other list is ever masked with.
        checks.latched_openings(self._latch, hashlib.sha256(cohort.binding + state.answered).hexdigest())
        signed = checks.latch_payload(self._latch, "input", members_payload(cohort.binding, u1.packed))
        masked = self._mask(state, keys, signed)
        after = MaskedSent(
            toss=toss, cohort=cohort, me=state.me, neighbours=state.neighbours, u1=u1.flags, shares=shares
        )
        return after, masked

    def _mask(self, state: Checked, keys: list[tuple[int, bytes]], signed: checks.Latched) -> bytes:
        """Compute the vector, mask it with b and one mask per neighbour, pack it, and sign U1, which is latched."""
        make = self._vector
        del self._vector
        self._state = Done(state.toss)  # noise is drawn only once: if computing the vector fails, the attempt is over
        steps = make().steps
        if steps.shape != (self.terms.size,):
            raise InputError(f"`vector` must give {self.terms.size} numbers, got {steps.shape}")
        kind = residue_type(self.terms.bits)  # the word's modulus, which 2^bits divides
        total: Residues = steps.astype(np.uint32) if kind == np.uint32 else steps.astype(np.uint64)
        added, subtracted = [state.self_mask], list[bytes]()
        for slot, key in keys:
            (added if state.me < state.neighbours[slot] else subtracted).append(key)
        Masker(self.terms.size, self.terms.bits).apply(total, added=added, subtracted=subtracted)
        return pack(total, self.terms.bits) + sign(self._identity, INPUT, signed.payload)

    def _agree(self, state: MaskedSent, toss: int, body: bytes) -> tuple[State, bytes]:
        """Round 3, consistency check: sign the only list of survivors whose sum may be opened."""
        cohort = state.cohort
        flags = unpack_flags(body, len(cohort))
        survivors = checks.checked_list(flags, me=state.me, cohort=cohort, terms=self.terms)
        checks.still_there(survivors.flags, state.u1)
        payload = consistency_payload(cohort.binding, pack_flags(state.u1), survivors.packed)
        signed = checks.latch_payload(self._latch, "consistency", payload)
        after = Agreed(masked=state, toss=toss, survivors=survivors.flags, signed=signed)
        return after, sign(self._identity, CONSISTENCY, signed.payload)

    def _unmask(self, agreed: Agreed, toss: int, body: bytes) -> tuple[State, bytes]:
        """Round 4, unmasking: check who has signed the same list, then send the shares and drop all secrets."""
        state, cohort, u1 = agreed.masked, agreed.masked.cohort, pack_flags(agreed.masked.u1)
        request = UnmaskRequest.decode(body, n=len(cohort))
        signatures = dict(zip(np.flatnonzero(request.signers).tolist(), request.signatures, strict=True))
        verify = partial(checks.verified_signers, payload=agreed.signed.payload, cohort=cohort, keys=self._directory)
        # Only survivors sign; enough neighbours have signed this device's list, and all other surviving ones its U1.
        checks.surviving_signers(request.signers, agreed.survivors)
        neighbours = set(state.neighbours.tolist())
        near = verify(signatures.keys() & (neighbours | {state.me}), signatures)
        near = checks.neighbours_agree(near, neighbours, threshold=cohort.threshold)
        survivors = agreed.survivors[state.neighbours]
        others = cohort.ids[state.neighbours[survivors & ~request.signers[state.neighbours]]].tolist()
        checks.same_sharers(others, request.others, binding=cohort.binding, u1=u1, keys=self._directory)
        # Enough of the members that this device samples have signed its list, too.
        self._state = Done(toss)  # only one draw: from repeated ones a server could learn who is sampled
        sampled = checks.draw(len(cohort), state.me, cohort.sample)
        far = verify((signatures.keys() & sampled) - near.members, signatures)
        final = checks.quorum_agrees(near, far, sampled, quorum=cohort.quorum, survivors=agreed.survivors)
        return Done(toss), self._reveal(state, final)

    def _reveal(self, state: MaskedSent, final: checks.AgreedList) -> bytes:
        """One share per neighbour: of b if it is on the list that a quorum agrees on, otherwise of its mask key."""
        cohort, survivors = state.cohort, final.survivors[state.neighbours]
        pieces = [NONE] * cohort.degree
        for slot, dealt in state.shares.items():
            pieces[slot] = dealt.piece(Secret.SELF_MASK if survivors[slot] else Secret.MASK_KEY)
        root = root_of(tree_of(pieces))
        return b"".join(pieces) + sign(self._identity, REVEAL, reveal_payload(cohort.binding, root))
