"""Attempt: one device's part in one masked attempt, from its first nonce to the shares that open the sum.

    commit -> advertise -> share -> input -> consistency -> unmask

The device is told as little as can be: its neighbours, thresholds and shares' places follow from the terms and the
seed. A request is checked in full (`masked_checks`) before anything changes; one that is refused changes nothing, and
the vector is only asked for, once, when every check before the input has passed.

Each answer is made once. The same request again gives the same bytes; another one for a step already answered is
refused, and so is going back, except to a higher toss before anything was shared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import numpy as np

from palate_client.secagg import checks as checks
from palate_client.secagg.channels import Letters
from palate_client.secagg.states import Advertised, Agreed, Done, Fresh, MaskedSent, Shared, State
from palate_common.errors import InputError, IntegrityError, RefusedError
from palate_common.mechanism.update import Int64
from palate_common.records.signing import SigningKey
from palate_common.secagg.agreement import KeyPair
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.directory import Directory
from palate_common.secagg.masking import Masker
from palate_common.secagg.messages import (
    HASH,
    SHARE,
    Advert,
    Commit,
    Complaint,
    Header,
    InputRequest,
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
from palate_common.secagg.packing import Residues, pack, residue_type
from palate_common.secagg.shamir import split
from palate_common.secagg.transcript import (
    ADVERT,
    COMMIT,
    COMPLAINT,
    CONSISTENCY,
    INPUT,
    AttemptTerms,
    advert_payload,
    cohort_root,
    commit_payload,
    commitment_to,
    complaint_payload,
    consistency_payload,
    members_payload,
    sign,
)


class MaskedDevice:
    """One device in one attempt.

    **Guarantees:** no vector before its checks: `vector` is called at most once, when U1 has passed every check.
    **Guarantees:** one share a neighbour: of b, or of the mask key, decided by the one list it has signed.
    **Guarantees:** refusal changes nothing: after a refused request the device is where it was; a draw not met ends it.
    **Guarantees:** a complaint ends it: who can't open a box says whose, sends no vector, and drops its secrets.
    **Guarantees:** secrets are dropped: once its shares are out, it refers to none (CPython can't erase).
    **Assumes:** charged: the attempt was checked against floors and written to the device's ledger before.
    **Assumes:** durable latch: what `latch` has accepted outlives a crash and a restored backup.

    Args:
        terms: what the attempt has agreed on.
        id: the device's number in the directory.
        identity: its key there.
        directory: the pinned identities.
        server_key: the operator's public key, pinned.
        vector: gives clipped steps plus this device's noise share, int64 [size].
        latch: stores (step, digest) durably; raises RefusedError where this attempt has another digest for the step.

    Raises:
        InputError: the identity isn't the directory's for this id.
        RefusedError: the directory isn't the one the terms name.
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
        self._latch, self._letters = latch, Letters(terms.context, id)
        self._state: State = Fresh() if terms.committed else Fresh(toss=0)
        self._answers: dict[Step, tuple[bytes, bytes]] = {}

    def answer(self, step: Step, request: bytes) -> bytes:
        """Answer one request of the server.

        Raises:
            IntegrityError: malformed, of another attempt, or with a signature, key or box that doesn't fit.
            RefusedError: a check failed, the step is not due, or it was answered to another request.
        """
        digest = hashlib.sha256(request).digest()
        if step in self._answers and self._answers[step][0] == digest:
            return self._answers[step][1]
        toss, body = read(request, step=step, device=self.id, context=self.terms.context, answer=False)
        state, reply = self._take(step, toss, body)
        header, complaint = (
            Header(step, toss, self.id, self.terms.context),
            step is Step.INPUT and isinstance(state, Done),
        )
        answer = write(header, reply, answer=True, complaint=complaint)
        kept = {} if step is Step.COMMIT else self._answers
        self._state, self._answers = state, {**kept, step: (digest, answer)}
        return answer

    def _take(self, step: Step, toss: int, body: bytes) -> tuple[State, bytes]:
        """The one place that says which step may follow which."""
        match step, self._state:
            case Step.COMMIT, (Fresh() | Advertised()) as state if self.terms.committed:
                return self._commit(state, toss, body)
            case Step.ADVERTISE, Fresh() as state if bool(state.nonce) == self.terms.committed:
                return self._advertise(state, toss, body)
            case Step.SHARE, Advertised() as state:
                return self._share(state, toss, body)
            case Step.INPUT, Shared() as state:
                return self._input(state, toss, body)
            case Step.CONSISTENCY, MaskedSent() as state:
                return self._agree(state, toss, body)
            case Step.UNMASK, Agreed() as state:
                return self._unmask(state, toss, body)
        raise RefusedError(f"the step {step.name.lower()} is not due, or was answered to another request")

    def _commit(self, state: Fresh | Advertised, toss: int, body: bytes) -> tuple[State, bytes]:
        """A fresh nonce for every toss; the keys of an earlier toss are dropped with it."""
        read_fixed("a commit request", body, 0)
        checks.next_toss(toss, state.toss, terms=self.terms)
        nonce = os.urandom(HASH)
        commitment = commitment_to(nonce)
        signature = sign(self._identity, COMMIT, commit_payload(self.terms.context, toss, self.id, commitment))
        return Fresh(toss, nonce, commitment), Commit(commitment, signature).encode()

    def _advertise(self, state: Fresh, toss: int, body: bytes) -> tuple[State, bytes]:
        """Show the nonce and two new public keys, under the root of the cohort if there is one."""
        root = read_fixed("an advertise request", body, HASH if self.terms.committed else 0)
        checks.same_toss(toss, state.toss)
        share_pair, mask_pair, self_mask = KeyPair.generate(), KeyPair.generate(), os.urandom(32)
        own = Advert(state.nonce, share_pair.public, mask_pair.public, hashlib.sha256(self_mask).digest(), b"")
        payload = advert_payload(self.terms.context, toss, root, self.id, own.body)
        advert = Advert(own.nonce, own.share_key, own.mask_key, own.self_digest, sign(self._identity, ADVERT, payload))
        after = Advertised(toss, state.nonce, state.commitment, root, share_pair, mask_pair, self_mask, advert)
        return after, advert.encode()

    def _share(self, state: Advertised, toss: int, body: bytes) -> tuple[State, bytes]:
        """Work out the neighbours, and seal to each its share of both secrets."""
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
        box_keys = []
        for device, advert in adverts:
            box_keys.append(self._letters.key("share", toss, state.share_pair, device, advert.share_key))
        secret = state.self_mask + state.mask_pair.private_bytes()
        shares = split(secret, shares=cohort.degree, threshold=cohort.threshold)
        boxes = [
            self._letters.seal(keys, cohort.root, device, share.tobytes())
            for device, keys, share in zip(names, box_keys, shares, strict=True)
        ]
        mask_keys = tuple(advert.mask_key for _, advert in adverts)
        after = Shared(toss, cohort, me, neighbours, mask_keys, tuple(box_keys), state.mask_pair, state.self_mask)
        return after, b"".join(boxes)

    def _cohort(self, state: Advertised, request: ShareRequest) -> tuple[Cohort, list[tuple[int, Advert]]]:
        """The cohort, checked, and the adverts of this device's neighbours in it."""
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

    def _input(self, state: Shared, toss: int, body: bytes) -> tuple[State, bytes]:
        """Check who has shared, then mask with exactly those; nothing of behaviour is computed before.

        Where a box can't be opened the answer is a complaint, and the device's part in the attempt is over.
        """
        cohort, terms = state.cohort, self.terms
        request = InputRequest.decode(body, n=len(cohort))
        checks.same_toss(toss, state.toss)
        checks.listed(request.u1, state.me)
        checks.enough(request.u1, terms=terms)
        checks.no_cut(cohort, request.u1)
        u1 = pack_flags(request.u1)
        checks.signed_members(cohort, u1, request.signature, server_key=self._server_key)
        slots = np.flatnonzero(request.u1[state.neighbours]).tolist()
        if len(request.boxes) != len(slots):
            raise IntegrityError(f"an input request must have {len(slots)} boxes, got {len(request.boxes)}")
        names = cohort.ids[state.neighbours].tolist()
        opened = [
            self._letters.open(state.box_keys[slot], cohort.root, names[slot], box)
            for slot, box in zip(slots, request.boxes, strict=True)
        ]
        if checks.every_box(opened):
            self._vector = None
            return Done(toss), self._complaint(state, u1, [s for s, b in zip(slots, opened, strict=True) if b is None])
        shares = {slot: box for slot, box in zip(slots, opened, strict=True) if box is not None}
        keys = [
            (slot, self._letters.key("mask", toss, state.mask_pair, names[slot], state.mask_keys[slot])[:32])
            for slot in shares
        ]
        checks.latched(self._latch, "input", hashlib.sha256(cohort.binding + u1).hexdigest())
        masked = self._mask(state, keys) + sign(self._identity, INPUT, members_payload(cohort.binding, u1))
        return MaskedSent(toss, cohort, state.me, state.neighbours, request.u1, shares), masked

    def _complaint(self, state: Shared, u1: bytes, slots: list[int]) -> bytes:
        """Whose boxes this device can't open, signed: a word about them, and nothing of this device."""
        accused = np.zeros(len(state.neighbours), np.bool_)
        accused[slots] = True
        payload = complaint_payload(state.cohort.binding, u1, pack_flags(accused))
        return Complaint(accused, sign(self._identity, COMPLAINT, payload)).encode()

    def _mask(self, state: Shared, keys: list[tuple[int, bytes]]) -> bytes:
        """The vector under b and one mask a neighbour, packed."""
        make, self._vector = self._vector, None
        self._state = Done(state.toss)  # noise is drawn once: were the vector to fail, the attempt is over
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
        """Sign the one list of survivors whose sum may be opened."""
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
        """One share of each neighbour: of b if it has survived, of its mask key if not; then forget everything."""
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
        self._state = Done(toss)  # one draw: a server that may try again learns who is in it
        drawn = signed.keys() & checks.draw(len(cohort), state.me, cohort.sample)
        checks.enough_of_cohort(len(drawn), cohort.quorum)
        checks.signed_survivors(drawn - near, signed, payload=payload, cohort=cohort, keys=self._directory)
        shares = [both[:SHARE] if survivors[slot] else both[SHARE:] for slot, both in state.shares.items()]
        return Done(toss), b"".join(shares)
