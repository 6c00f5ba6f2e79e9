"""Lane: a thread that runs blocking calls one after the other, and hands their results to event loops.

>>> import asyncio
>>> lane = Lane("example")
>>> asyncio.run(lane.run(lambda: 6 * 7))
42
>>> lane.end()

A call runs in a copy of its caller's context variables. A call whose await is cancelled before it began is never run;
one that has begun ends by itself, and its result is dropped: a write to the store is never torn.

The thread is a daemon and starts with the first call, so it delays no exit of its host. A forked child starts one of
its own; calls that wait in the parent are the parent's.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from palate_client.store.forking import ForkGuard
from palate_core.errors import ClosedError

_Made = TypeVar("_Made")
Job = tuple[Future[Any], Callable[[], Any]]


class Lane:
    """One thread for blocking calls.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._jobs: SimpleQueue[Job | None] | None = None
        self._process, self._ended = os.getpid(), False
        _lanes.add(self)

    async def run(self, call: Callable[[], _Made]) -> _Made:
        """Run a call on the thread, after those before it.

        Raises:
            ClosedError: the lane has ended.
        """
        return await asyncio.wrap_future(self.begin(call))

    def begin(self, call: Callable[[], _Made]) -> Future[_Made]:
        """The same, without waiting for it.

        Raises:
            ClosedError: the lane has ended.
        """
        context, future = copy_context(), Future[_Made]()
        with self._lock:
            if self._ended:
                raise ClosedError("the device must be open, got one that was closed")
            if self._jobs is None or self._process != os.getpid():
                self._jobs, self._process = SimpleQueue(), os.getpid()
                threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
            self._jobs.put((future, lambda: context.run(call)))
        return future

    def end(self) -> None:
        """Let the thread end after the calls that wait; no further one is taken. Ending twice is fine."""
        with self._lock:
            self._ended = True
            if self._jobs is not None and self._process == os.getpid():
                self._jobs.put(None)


_lanes: ForkGuard[Lane] = ForkGuard(lambda each: each._lock.acquire(), lambda each: each._lock.release())


def _work(jobs: SimpleQueue[Job | None]) -> None:
    """What the thread does. It knows its queue alone, so that it keeps no device alive."""
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except StopIteration as error:  # no await can raise one: it would never end, as in Python 3.11
                stopped = RuntimeError("a call raised StopIteration")
                stopped.__cause__ = error
                future.set_exception(stopped)
            except BaseException as error:  # it is the caller's, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)
        del job, future, call
