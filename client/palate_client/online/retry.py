"""Deadline: how long a device waits for its server, how it retries, and why it ends a sync.

    deadline.over()       a `SyncEnd` if the app, the user, the policy or the clock end the sync now
    deadline.pause(2.0)   waits; a `SyncEnd` if the app asks to stop meanwhile
    deadline.retry(call)  the result of `call`, or a `SyncEnd`, for example if the server can't be reached for too long

A caller that gets a `SyncEnd` ends the sync. Pauses double from one second to thirty, each shortened by a random share,
so that a thousand devices don't return at the same moment after a server's restart.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from palate_client.online.exchange import LEAVE_SECONDS
from palate_client.online.https import RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.store.journal import reason_of
from palate_core.errors import InputError, UnreachableError

Ended = Literal[
    "come back", "model", "time", "stopped", "policy", "no consent", "spent", "not enrolled", "busy", "unreachable",
    "rejected", "failed",
]  # fmt: skip
Stop = Callable[[], bool] | threading.Event

logger = logging.getLogger("palate")

BACKOFF_SECONDS = (1.0, 30.0)
GIVE_UP_SECONDS = 120.0
"""Seconds without an answer to a request, however often it is sent, after which the sync ends."""
GRACE_SECONDS = 60.0
"""Seconds after the end of its time in which a device still finishes the attempt that it is in."""
_LOOK_SECONDS = 0.25

_Got = TypeVar("_Got")


@dataclass(frozen=True)
class SyncEnd:
    """Why a sync ends.

    Attributes:
        ended: the kind of reason.
        reason: more about it.
        next: seconds after which the server wants the device to sync again; None: it didn't say.
        quiet: whether the device must not even sign off.
    """

    ended: Ended
    reason: str = ""
    next: float | None = None
    quiet: bool = False


class Deadline:
    """Decides when one sync ends, whatever the server does.

    Args:
        seconds: its longest duration.
        stop: a function that says whether the app asks to stop, or an event; None: it never does.
        policy: conditions that must hold all the time.
        consents: returns whether the user agrees now.

    Raises:
        InputError: `stop` is neither a function nor an event.

    Attributes:
        grace: seconds by which it is longer for now, because an attempt is to be finished.
        stopped: returns whether the app asks to stop.
    """

    def __init__(self, *, seconds: float, stop: Stop | None, policy: Policy, consents: Callable[[], bool]) -> None:
        if stop is not None and not isinstance(stop, threading.Event) and not callable(stop):
            raise InputError(f"`stop` must be a function or a threading.Event, got {stop!r:.80}")
        self._until = time.monotonic() + seconds
        self._end = self._until - min(LEAVE_SECONDS, seconds / 4)
        self.grace = 0.0
        self._event = stop if isinstance(stop, threading.Event) else None
        self.stopped: Callable[[], bool] = stop.is_set if isinstance(stop, threading.Event) else stop or _never
        self._policy, self._consents = policy, consents
        self._random = random.SystemRandom()

    @property
    def until(self) -> float:
        """When the sync must be over, on the monotonic clock."""
        return self._until + self.grace

    @property
    def end(self) -> float:
        """When the device starts to sign off, on the monotonic clock."""
        return self._end + self.grace

    def stays(self) -> float:
        """Seconds for which it still takes plans: the grace is for one that it has taken."""
        return max(0.0, self._end - time.monotonic())

    def over(self) -> SyncEnd | None:
        """Whether the app, the user, the policy or the clock end the sync now; None: none of them."""
        if self.stopped():
            return SyncEnd("stopped")
        if not self._consents():
            return SyncEnd("no consent", "the user has not agreed to take part in training", quiet=True)
        if forbids := self._policy.forbids():
            return SyncEnd("policy", forbids, quiet=forbids.startswith("unmetered"))
        return SyncEnd("time") if time.monotonic() >= self.end else None

    def pause(self, seconds: float, *, at_least: float = 0.8, at_most: float = 1.2) -> SyncEnd | None:
        """Wait for a random time around `seconds`, at most until `end`; a `SyncEnd` if the app asks to stop meanwhile.

        Args:
            seconds: the mean time.
            at_least: the smallest random factor.
            at_most: the largest random factor.
        """
        until = min(time.monotonic() + seconds * self._random.uniform(at_least, at_most), self.end)
        while (left := until - time.monotonic()) > 0:
            if self._event is not None:
                self._event.wait(left)
            elif not self.stopped():
                time.sleep(min(left, _LOOK_SECONDS))
            if self.stopped():
                return SyncEnd("stopped")
        return None

    def retry(self, call: Callable[[], _Got]) -> _Got | SyncEnd:
        """Call until it succeeds, with growing random pauses, so that a server may restart meanwhile.

        **Guarantees:** where the app, the user, the policy or the clock end the sync, nothing is called, the first time
        included.

        Returns:
            The call's result; a `SyncEnd` if the server can't be reached for too long, or the sync ends.

        Raises:
            RejectedError: the server refused, and a retry wouldn't help.
        """
        delay, begun = BACKOFF_SECONDS[0], time.monotonic()
        while (over := self.over()) is None:
            try:
                got = call()
            except StoppedError:
                return self.over() or SyncEnd("stopped")
            except UnreachableError as error:
                logger.debug("to be tried again: %s", error)
                if isinstance(error, RejectedError) and error.final:
                    raise
                now = time.monotonic()
                if now - begun > GIVE_UP_SECONDS or now + delay > self.end:
                    return SyncEnd("unreachable", reason_of(error))
            else:
                return got
            if stopped := self.pause(delay, at_least=0.5, at_most=1.0):
                return stopped
            delay = min(delay * 2, BACKOFF_SECONDS[1])
        return over


def _never() -> bool:
    return False
