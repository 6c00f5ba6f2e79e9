"""Stages that fix the cohort of a masked attempt: devices commit to nonces and show them, send keys and shares.

The cohort is fixed before anyone, also the server, can know its ring. Nothing here depends on behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate_common.secagg.evidence import Scene
from palate_core.errors import InputError, IntegrityError
from palate_core.masks.agreement import check_public
from palate_core.masks.messages import (
    BOX_BYTES,
    Advert,
    Commit,
    Step,
    encode_advert,
    encode_commitments,
    encode_entries,
    share_body,
)
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import (
    ADVERT,
    COMMIT,
    advert_payload,
    check_signature,
    cohort_root,
    commit_payload,
    commitment_to,
)
from palate_server.secagg.boxes import CheckStage
from palate_server.secagg.shared import SharedCohort
from palate_server.secagg.stage import Attempt, BaseStage, Stage, member_of, pieces


def first_stage(attempt: Attempt, devices: Sequence[int]) -> Stage:
    """The first stage: commit if there is a ring, otherwise advertise."""
    if attempt.terms.committed:
        return CommitStage(attempt, 0, devices)
    return AdvertiseStage(attempt, 0, devices, {})


class CommitStage(BaseStage):
    """Each device commits to a nonce."""

    step = Step.COMMIT

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int]) -> None:
        super().__init__(attempt, toss, asked)
        self._commits: dict[int, Commit] = {}

    def body(self, device: int) -> bytes:
        """Empty: the device draws a nonce."""
        return b""

    def accept(self, device: int, body: memoryview) -> None:
        """Take a commitment with its device's signature."""
        commit = Commit.decode(bytes(body))
        payload = commit_payload(self.terms.context, self.toss, device, commit.commitment)
        check_signature(self.attempt.directory.identities[device], COMMIT, payload, commit.signature)
        self._commits[device] = commit

    def close(self) -> Stage:
        """Fix all commitments; the next stage shows their root."""
        self.require(len(self._commits))
        return AdvertiseStage(self.attempt, self.toss, sorted(self._commits), self._commits)


class AdvertiseStage(BaseStage):
    """Devices show nonces and send keys. If a nonce is missing, the seed is drawn again without its device."""

    step = Step.ADVERTISE

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int], commits: dict[int, Commit]) -> None:
        super().__init__(attempt, toss, asked)
        self._commits = commits
        self._commitments = commitments = {device: commit.commitment for device, commit in commits.items()}
        listed = encode_commitments([(device, commitments[device]) for device in asked] if commitments else [])
        self._root = cohort_root(self.terms.context, toss, listed) if commitments else b""
        self._adverts: dict[int, Advert] = {}
        self._keys: set[bytes] = set()

    def body(self, device: int) -> bytes:
        """The root of the commitments, if there are any."""
        return self._root

    def accept(self, device: int, body: memoryview) -> None:
        """Take a nonce that fits its commitment, and keys that no honest device refuses."""
        advert = Advert.decode(bytes(body), committed=self.terms.committed)
        payload = advert_payload(self.terms.context, self.toss, self._root, device, advert.body)
        check_signature(self.attempt.directory.identities[device], ADVERT, payload, advert.signature)
        # The cohort's binding as far as it is known; without a ring the root isn't in an advert.
        scene = Scene(self.terms.context + self.toss.to_bytes(2, "little") + self._root)
        if self.terms.committed and commitment_to(advert.nonce) != self._commitments[device]:
            commit = self._commits[device].encode().hex()
            self.attempt.name(scene.record("nonce", device, commit=commit, advert=advert.encode().hex()))
            raise IntegrityError("a nonce must fit its commitment, got another")
        keys = {advert.share_key, advert.mask_key}
        try:
            for key in keys:
                check_public(key)
            if len(keys) < 2:
                raise IntegrityError("all public keys must be distinct, got one twice")
        except IntegrityError:
            self.attempt.name(scene.record("advert", device, advert=advert.encode().hex()))
            raise
        if keys & self._keys:
            raise IntegrityError("all public keys must be distinct, got one twice")
        self._keys |= keys
        self._adverts[device] = advert

    def close(self) -> Stage:
        """Fix the cohort, or draw the seed again among the devices that have answered."""
        if self.terms.committed:
            named = self.attempt.conduct.named
            self.attempt.conduct.unrevealed |= self.asked_set - self._adverts.keys() - named
        self.require(len(self._adverts))
        left = sorted(self._adverts)
        if self.terms.committed and len(left) < len(self.asked):
            if self.toss + 1 >= self.terms.max_tosses:
                raise IntegrityError(f"every nonce must be shown within {self.terms.max_tosses} tosses, got fewer")
            return CommitStage(self.attempt, self.toss + 1, left)
        return ShareStage(self.attempt, self.toss, left, self._commitments, self._adverts, self._root)


class ShareStage(BaseStage):
    """Each device encrypts shares of its secrets to its neighbours."""

    step = Step.SHARE

    def __init__(
        self,
        attempt: Attempt,
        toss: int,
        asked: Sequence[int],
        commitments: dict[int, bytes],
        adverts: dict[int, Advert],
        root: bytes,
    ) -> None:
        super().__init__(attempt, toss, asked)
        self._adverts = [adverts[device] for device in asked]
        self._lines = [encode_advert(device, adverts[device]) for device in asked]
        nonces = [advert.nonce for advert in self._adverts] if commitments else []
        entries = [(device, commitments[device], adverts[device].nonce) for device in asked] if commitments else []
        self._entries = encode_entries(entries)
        root = root or cohort_root(self.terms.context, toss, b"".join(self._lines))
        try:
            self._cohort = Cohort(self.terms, toss=toss, ids=asked, root=root, nonces=nonces)
        except InputError as error:
            raise IntegrityError(f"the cohort is too small for these terms: {error}") from None
        self._table = np.frombuffer(b"".join(self._lines), np.uint8).reshape(len(self._lines), -1)
        n, k = len(self._cohort), self._cohort.degree
        self._neighbours = self._cohort.table()
        self._boxes = np.zeros((n, k, BOX_BYTES), np.uint8)
        self._shared = np.zeros(n, np.bool_)

    def body(self, device: int) -> bytes:
        """The members of the cohort, and the adverts of this device's neighbours."""
        if not self.terms.committed:
            return share_body(b"", self._table.tobytes(), len(self._table))
        around = self._neighbours[member_of(self._cohort, device)]
        return share_body(self._entries, self._table.take(around, axis=0).tobytes(), len(around))

    def accept(self, device: int, body: memoryview) -> None:
        """Take one box per neighbour; only its receiver can look into it."""
        n_boxes = self._cohort.degree
        member = member_of(self._cohort, device)
        self._boxes[member] = pieces("shares", body, n_boxes, BOX_BYTES)
        self._shared[member] = True

    def close(self) -> Stage:
        """Leave out devices that have not shared; nobody has masked with them yet."""
        self.require(int(self._shared.sum()))
        here = self._shared
        held = SharedCohort(
            self.attempt, self.toss, self._cohort, self._adverts, self._neighbours, here, here, self._boxes
        )
        held.openable(self._shared, "shares")
        return CheckStage(held)
