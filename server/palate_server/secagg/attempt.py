"""Unmasking: the server's part in one masked attempt; it can see only the sum of the survivors.

    commit -> advertise -> share -> check (-> open) -> input -> consistency -> unmask -> total

The caller moves the bytes:

    attempt = Unmasking(terms, directory, key)
    while not attempt.finished:
        attempt.collect(exchange(attempt.step, attempt.requests()))
    attempt.total

Late, repeated, malformed or unrequested answers are dropped and counted. If too few devices are left, or a secret can't
be opened, the attempt ends with an error and without a sum: it never gives a wrong sum. In any case `conduct` has
evidence against who has signed what is false.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Header, Step, read, write
from palate_core.masks.transcript import AttemptTerms
from palate_server.secagg.cohort import first_stage
from palate_server.secagg.conduct import Conduct
from palate_server.secagg.stage import Attempt, Stage, UnmaskedSum
from palate_server.secagg.sum import InputStage


class Unmasking:
    """One attempt on the server.

    **Guarantees:** the exact sum or a clean end: `total` is the exact sum of the survivors' vectors, or there is none.
    **Guarantees:** a cohort below the floor ends: with fewer than `n_min` survivors nothing is opened.
    **Assumes:** `bits` holds every sum of vectors and noise shares.

    Args:
        terms: the terms of the attempt.
        directory: the devices of the first step, with the hash in the terms.
        key: the operator's signing key.
        conduct: takes evidence against devices, and who was missing; None: one of its own.

    Raises:
        InputError: the terms name another directory, or it hasn't `n_min` to `n_max` devices.
    """

    def __init__(
        self, terms: AttemptTerms, directory: Directory, key: SigningKey, *, conduct: Conduct | None = None
    ) -> None:
        if directory.hash != terms.directory:
            raise InputError("`directory` must be the one the terms name, got another")
        devices = list(directory.identities)
        if not terms.n_min <= len(devices) <= terms.n_max:
            raise InputError(f"`directory` must have {terms.n_min} to {terms.n_max} devices, got {len(devices)}")
        self.terms = terms
        self.invited = len(devices)
        self.counts: dict[Step, int] = {}
        """Step -> how many devices answered it, in the last toss."""
        self.dropped: Counter[str] = Counter()
        """Reason -> number of dropped answers: late, duplicate, malformed, refused, unknown."""
        self.conduct = Conduct() if conduct is None else conduct
        """Evidence against devices, and who was missing."""
        self._stage: Stage | None = first_stage(Attempt(terms, directory, key, self.conduct), devices)
        self._answered: set[int] = set()
        self._result: UnmaskedSum | None = None

    @property
    def step(self) -> Step:
        """The step whose answers are awaited."""
        return self._current.step

    @property
    def finished(self) -> bool:
        """Whether there is a sum."""
        return self._result is not None

    @property
    def total(self) -> Int64:
        """The sum of the survivors' vectors, int64 [size], in [-2^(bits-1), 2^(bits-1)).

        Raises:
            IntegrityError: the attempt isn't finished, or ended without a result.
        """
        return self._opened.total

    @property
    def survivors(self) -> tuple[int, ...]:
        """The devices whose vectors are in the sum, ascending."""
        return self._opened.survivors

    def requests(self) -> dict[int, bytes]:
        """Device -> the bytes to send for this step."""
        return {device: self.request(device) for device in self.asked}

    @property
    def asked(self) -> tuple[int, ...]:
        """The devices whose answers are awaited at this step."""
        return self._current.asked

    def request(self, device: int) -> bytes:
        """The bytes for one device, for cohorts whose requests don't all fit in memory."""
        stage = self._current
        return write(Header(stage.step, stage.toss, device, self.terms.context), stage.body(device), answer=False)

    def receive(self, device: int, answer: bytes) -> bool:
        """Take one answer; returns whether it was used. A masked vector is added to the sum at once."""
        stage = self._current
        reason = self._refused(stage, device, answer)
        if reason:
            self.dropped[reason] += 1
            if reason == "malformed" and device not in self.conduct.evidence:
                self.conduct.unsigned.add(device)
            return False
        self._answered.add(device)
        return True

    @property
    def signed(self) -> bytes:
        """What devices sign now beside their masked vectors, which `receive_sum` takes; empty at any other step."""
        return self._current.signed if isinstance(self._current, InputStage) else b""

    def receive_sum(self, signatures: Mapping[int, bytes], total: bytes) -> bool:
        """Take the packed sum of some devices' masked vectors, with the signature of each; returns whether it was used.

        It shows that they have sent vectors for this list. That it is their sum nobody but who has added can know.
        """
        stage = self._current
        if not isinstance(stage, InputStage) or not signatures.keys() <= stage.asked_set - self._answered:
            return False
        try:
            if not signatures:
                raise IntegrityError("a sum must be of somebody's vectors, got nobody's")
            stage.accept_sum(signatures, memoryview(total))
        except IntegrityError:
            self.dropped["malformed"] += 1
            return False
        self._answered |= signatures.keys()
        return True

    def close(self) -> None:
        """End this step; devices without an answer have dropped out.

        Raises:
            IntegrityError: the attempt ends without a result.
        """
        stage, self._stage = self._current, None  # an error below ends the attempt
        self.counts[stage.step] = len(self._answered)
        self._answered = set()
        after = stage.close()
        if isinstance(after, UnmaskedSum):
            self._result = after
        else:
            self._stage = after

    def collect(self, answers: Mapping[int, bytes]) -> None:
        """Take all answers to a step and end it.

        Raises:
            IntegrityError: the attempt ends without a result.
        """
        for device, answer in answers.items():
            self.receive(device, answer)
        self.close()

    @property
    def _current(self) -> Stage:
        if self._stage is None:
            raise IntegrityError("a masked attempt that has ended takes no further step")
        return self._stage

    @property
    def _opened(self) -> UnmaskedSum:
        if self._result is None:
            raise IntegrityError("a masked attempt must be finished before its total is read")
        return self._result

    def _refused(self, stage: Stage, device: int, answer: bytes) -> str:
        """Use an answer, or return the reason why not; empty if it was used."""
        if device not in stage.asked_set:
            return "unknown"
        if device in self._answered:
            return "duplicate"
        if answer == REFUSED:
            return "refused"
        context = self.terms.context
        try:
            toss, body = read(memoryview(answer), step=stage.step, device=device, context=context, answer=True)
        except IntegrityError:
            return "late" if self._is_late(stage, device, answer) else "malformed"
        if toss != stage.toss:
            return "late"
        try:
            stage.accept(device, body)
        except IntegrityError:
            return "malformed"
        return ""

    def _is_late(self, stage: Stage, device: int, answer: bytes) -> bool:
        """Whether an answer belongs to an earlier step of this attempt."""
        context = self.terms.context
        for step in Step:
            if step < stage.step:
                try:
                    read(answer, step=step, device=device, context=context, answer=True)
                except IntegrityError:
                    continue
                return True
        return False
