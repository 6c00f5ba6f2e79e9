"""Deadline: how long a device waits for its server, how it tries again, and what makes it leave.

    deadline.over()       an `Over` where the app, the user, the policy or the clock end the sync here
    deadline.pause(2.0)   an `Over` where the app asks to stop meanwhile
    deadline.retry(call)  what `call` gave, or an `Over`, such as of a server that can't be reached for too long

Whoever gets an `Over` leaves. Pauses double from one second to thirty, each cut by a random share, so that a thousand
devices whose server restarts don't come back at the same moment.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeVar

from palate_client.online.flower_wire import LEAVE_SECONDS
from palate_client.online.https import RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.store.journal import reason_of
from palate_common.errors import InputError, UnreachableError

Ended = Literal[
    "come back", "model", "time", "stopped", "policy", "no consent", "spent", "not enrolled", "busy", "unreachable",
    "rejected", "failed",
]  # fmt: skip
Stop = Callable[[], bool] | threading.Event

logger = logging.getLogger("palate")

BACKOFF_SECONDS = (1.0, 30.0)
GIVE_UP_SECONDS = 120.0
"""A server that hasn't answered for as long is left for another time."""
ONLINE_SECONDS = 75.0
"""So long a node may still count as online after a kill; an activation is tried for as long."""
_LOOK_SECONDS = 0.25
_FINAL = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)

_Got = TypeVar("_Got")


@dataclass(frozen=True)
class Over:
    """A sync ends here.

    Attributes:
        ended: how.
        reason: more about it.
        next: seconds after which the server wants to see the device again.
        quiet: whether even a farewell is too much.
    """

    ended: Ended
    reason: str = ""
    next: float | None = None
    quiet: bool = False


class Deadline:
    """When one sync ends, whatever the server does.

    Args:
        seconds: the most it takes.
        stop: says whether the app asks to end, or an event; None: it never does.
        policy: what must hold all the while.
        consents: whether the user agrees, now.

    Raises:
        InputError: `stop` is neither.

    Attributes:
        until: when it must be over, on the monotonic clock.
        end: when the device leaves, so that a farewell still fits in.
        stopped: whether the app asks to end.
    """

    def __init__(self, *, seconds: float, stop: Stop | None, policy: Policy, consents: Callable[[], bool]) -> None:
        if stop is not None and not isinstance(stop, threading.Event) and not callable(stop):
            raise InputError(f"`stop` must be a function or a threading.Event, got {stop!r:.80}")
        self.until = time.monotonic() + seconds
        self.end = self.until - min(LEAVE_SECONDS, seconds / 4)
        self._event = stop if isinstance(stop, threading.Event) else None
        self.stopped: Callable[[], bool] = stop.is_set if isinstance(stop, threading.Event) else stop or _never
        self._policy, self._consents = policy, consents
        self._random = random.SystemRandom()
        self._heard = time.monotonic()

    def over(self) -> Over | None:
        """Whether the app, the user, the policy or the clock end it here; None: nobody does."""
        if self.stopped():
            return Over("stopped")
        if not self._consents():
            return Over("no consent", "the user has not agreed to take part in training", quiet=True)
        if forbids := self._policy.forbids():
            return Over("policy", forbids, quiet=forbids.startswith("unmetered"))
        return Over("time") if time.monotonic() >= self.end else None

    def pause(self, seconds: float, *, at_least: float = 0.8, at_most: float = 1.2) -> Over | None:
        """Wait about as long, but not longer than there is time; an `Over` where the app asks to stop.

        Args:
            seconds: how long.
            at_least: a random share of it, from this
            at_most: to this.
        """
        until = min(time.monotonic() + seconds * self._random.uniform(at_least, at_most), self.end)
        while (left := until - time.monotonic()) > 0:
            if self._event is not None:
                self._event.wait(left)
            elif not self.stopped():
                time.sleep(min(left, _LOOK_SECONDS))
            if self.stopped():
                return Over("stopped")
        return None

    def retry(self, call: Callable[[], _Got]) -> _Got | Over:
        """Call until it succeeds: a server that restarts is waited for, with growing pauses and jitter.

        Guarantees:
            Where the app, the user, the policy or the clock end the sync, nothing is called, the first time included.

        Returns:
            What the call gave; an `Over` where the server can't be reached for too long, or something else ends it.

        Raises:
            RejectedError: the server said no, and will again.
        """
        delay, begun = BACKOFF_SECONDS[0], time.monotonic()
        while (over := self.over()) is None:
            try:
                got = call()
            except StoppedError:
                return Over("stopped")
            except UnreachableError as error:
                logger.debug("to be tried again: %s", error)
                status, now = error.status if isinstance(error, RejectedError) else None, time.monotonic()
                if status in _FINAL or (status == HTTPStatus.PRECONDITION_FAILED and now - begun > ONLINE_SECONDS):
                    raise
                if now - self._heard > GIVE_UP_SECONDS or now + delay > self.end:
                    return Over("unreachable", reason_of(error))
            else:
                self._heard = time.monotonic()
                return got
            if stopped := self.pause(delay, at_least=0.5, at_most=1.0):
                return stopped
            delay = min(delay * 2, BACKOFF_SECONDS[1])
        return over


def _never() -> bool:
    """Nobody asks to stop."""
    return False
