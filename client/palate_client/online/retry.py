"""Patience: how long a device waits for its server, how it tries again, and what makes it leave.

Pauses double from one second to thirty, each cut by a random share, so that a thousand devices whose server restarts
don't come back at the same moment.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, TypeVar

from palate_client.online.flower_wire import LEAVE_SECONDS
from palate_client.online.https import RejectedError
from palate_client.online.policy import Policy
from palate_client.rounds.participation import reason_of
from palate_common.errors import UnreachableError

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


class OverError(Exception):
    """The sync ends here. Never leaves this package.

    Attributes:
        ended: how.
        reason: more about it.
        next: seconds after which the server wants to see the device again.
        quiet: whether even a farewell is too much.
    """

    def __init__(self, ended: Ended, reason: str = "", *, next_: float | None = None, quiet: bool = False) -> None:
        super().__init__(ended)
        self.ended, self.reason, self.next, self.quiet = ended, reason, next_, quiet


class Patience:
    """The patience of one sync.

    Args:
        seconds: the most it takes.
        stop: says whether the app asks to end, or an event.
        policy: what must hold all the while.
        consents: whether the user agrees, now.

    Attributes:
        until: when it must be over, on the monotonic clock.
        end: when the device leaves, so that a farewell still fits in.
        stopped: whether the app asks to end.
    """

    def __init__(self, *, seconds: float, stop: Stop | None, policy: Policy, consents: Callable[[], bool]) -> None:
        self.until = time.monotonic() + seconds
        self.end = self.until - min(LEAVE_SECONDS, seconds / 4)
        self._event = stop if isinstance(stop, threading.Event) else None
        self.stopped: Callable[[], bool] = stop.is_set if isinstance(stop, threading.Event) else stop or _never
        self._policy, self._consents = policy, consents
        self._random = random.SystemRandom()
        self._heard = time.monotonic()

    def look(self) -> None:
        """End here if the app, the user, the policy or the clock say so.

        Raises:
            OverError: one of them does.
        """
        if self.stopped():
            raise OverError("stopped")
        if not self._consents():
            raise OverError("no consent", "the user has not agreed to take part in training", quiet=True)
        if forbids := self._policy.forbids():
            raise OverError("policy", forbids, quiet=forbids.startswith("unmetered"))
        if time.monotonic() >= self.end:
            raise OverError("time")

    def pause(self, seconds: float, *, at_least: float = 0.8, at_most: float = 1.2) -> None:
        """Wait about as long, but not longer than there is time.

        Args:
            seconds: how long.
            at_least: a random share of it, from this
            at_most: to this.

        Raises:
            OverError: the app asked to stop.
        """
        until = min(time.monotonic() + seconds * self._random.uniform(at_least, at_most), self.end)
        while (left := until - time.monotonic()) > 0:
            if self._event is not None:
                self._event.wait(left)
            elif not self.stopped():
                time.sleep(min(left, _LOOK_SECONDS))
            if self.stopped():
                raise OverError("stopped")

    def again(self, call: Callable[[], _Got]) -> _Got:
        """Call until it succeeds: a server that restarts is waited for, with growing pauses and jitter.

        Raises:
            RejectedError: the server said no, and will again.
            OverError: it can't be reached for too long, or there is another reason to end.
        """
        delay, begun = BACKOFF_SECONDS[0], time.monotonic()
        while True:
            try:
                got = call()
            except UnreachableError as error:
                logger.debug("to be tried again: %s", error)
                status, now = error.status if isinstance(error, RejectedError) else None, time.monotonic()
                if status in _FINAL or (status == HTTPStatus.PRECONDITION_FAILED and now - begun > ONLINE_SECONDS):
                    raise
                if now - self._heard > GIVE_UP_SECONDS or now + delay > self.end:
                    raise OverError("unreachable", reason_of(error)) from None
            else:
                self._heard = time.monotonic()
                return got
            self.pause(delay, at_least=0.5, at_most=1.0)
            delay = min(delay * 2, BACKOFF_SECONDS[1])
            self.look()


def _never() -> bool:
    """Nobody asks to stop."""
    return False
