"""Watching: every secret that devices make in masked attempts, and every byte of randomness, while a context is open.

    >>> from mechanism.secagg.cohort import MaskedCohort
    >>> with watched() as seen:
    ...     _ = MaskedCohort(5, n_min=4).run()
    >>> sorted({call.step.name for call in seen.calls if call.drawn or call.pairs})
    ['ADVERTISE', 'SHARE']

What devices do is not changed. Randomness is recorded where the operating system gives it: `os.urandom`, what `secrets`
takes it from, and new key pairs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from palate_core.device import attempt
from palate_core.device.attempt import MaskedDevice
from palate_core.device.states import State
from palate_core.log.signing import SigningKey
from palate_core.masks import agreement
from palate_core.masks.masking import Masker
from palate_core.masks.messages import Step

Shares = np.ndarray[tuple[int, int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class SecretSplit:
    """One secret that was split: what went in, what came out, and the bytes that were drawn for it."""

    secret: bytes
    threshold: int
    shares: Shares
    drawn: bytes


@dataclass
class Call:
    """One request that a device has answered.

    Attributes:
        device: the state machine itself, so that no other has its identity.
        step: of the request.
        refused: whether it was refused.
        drawn: what it drew from the operating system, in order.
        pairs: private halves of the key pairs that it made.
        splits: secrets that it split.
        sealed: (key, nonce) of each message that it encrypted.
        added: keys of the masks that it added.
        subtracted: keys of the masks that it subtracted.
        signed: (tag, payload) of what it signed.
        before: its state before.
        after: its state afterwards.
    """

    device: MaskedDevice
    step: Step
    before: State
    after: State | None = None
    refused: bool = True
    drawn: list[bytes] = field(default_factory=list)
    pairs: list[bytes] = field(default_factory=list)
    splits: list[SecretSplit] = field(default_factory=list)
    sealed: list[tuple[bytes, bytes]] = field(default_factory=list)
    added: list[bytes] = field(default_factory=list)
    subtracted: list[bytes] = field(default_factory=list)
    signed: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class Watch:
    """All answers, in order."""

    calls: list[Call] = field(default_factory=list)
    open: list[Call] = field(default_factory=list)

    @property
    def now(self) -> Call:
        """The answer that is being made; outside of one, a call that nobody keeps."""
        return self.open[-1] if self.open else Call(None, Step.COMMIT, None)  # type: ignore[arg-type]


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch, in this process, until the context ends."""
    seen = Watch()
    answer, generate, apply, sign, split = (
        MaskedDevice.answer, X25519PrivateKey.generate, Masker.apply, SigningKey.sign, vars(attempt)["split"],
    )  # fmt: skip
    cipher = vars(agreement)["AESGCM"]

    def answered(self: MaskedDevice, step: Step, request: bytes) -> bytes:
        call = Call(self, step, self._state)
        seen.open.append(call)
        try:
            found = answer(self, step, request)
            call.refused = False
            return found
        finally:
            call.after = self._state
            seen.open.pop()
            seen.calls.append(call)

    def drawing(real: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def instead(size: int) -> bytes:
            found = real(size)
            seen.now.drawn.append(found)
            return found

        return instead

    def generated() -> X25519PrivateKey:
        pair = generate()
        seen.now.pairs.append(pair.private_bytes_raw())
        return pair

    def applied(self: Masker, total: Any, *, added: Sequence[bytes] = (), subtracted: Sequence[bytes] = ()) -> None:
        seen.now.added.extend(added)
        seen.now.subtracted.extend(subtracted)
        apply(self, total, added=added, subtracted=subtracted)

    def signing(self: SigningKey, tag: str, payload: bytes) -> str:
        seen.now.signed.append((tag, payload))
        return sign(self, tag, payload)

    def dealt(secret: bytes, *, shares: int, threshold: int) -> Shares:
        call, before = seen.now, len(seen.now.drawn)
        found: Shares = split(secret, shares=shares, threshold=threshold)
        call.splits.append(SecretSplit(secret, threshold, found.copy(), b"".join(call.drawn[before:])))
        return found

    class Sealing:
        """A cipher that records what it encrypts with."""

        def __init__(self, key: bytes) -> None:
            self._key, self._cipher = key, cipher(key)

        def encrypt(self, nonce: bytes, data: bytes, aad: bytes | None) -> bytes:
            """As the real one."""
            seen.now.sealed.append((self._key, nonce))
            sealed: bytes = self._cipher.encrypt(nonce, data, aad)
            return sealed

        def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None) -> bytes:
            """As the real one."""
            opened: bytes = self._cipher.decrypt(nonce, data, aad)
            return opened

    with (
        mock.patch.object(os, "urandom", drawing(os.urandom)),
        mock.patch.object(random, "_urandom", drawing(vars(random)["_urandom"])),
        mock.patch.object(X25519PrivateKey, "generate", generated),
        mock.patch.object(agreement, "AESGCM", Sealing),
        mock.patch.object(Masker, "apply", applied),
        mock.patch.object(SigningKey, "sign", signing),
        mock.patch.object(attempt, "split", dealt),
        mock.patch.object(MaskedDevice, "answer", answered),
    ):
        yield seen
