"""Forking: nobody is inside of a thing while the process forks, so that a child finds it whole, and its lock free.

    _files: ForkGuard[StoreFile] = ForkGuard(enter, leave)
    _files.add(file)  # from now on each fork enters it before, and leaves it after, in parent and child

What is registered by a module that is imported later is entered first, as its threads do.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ForkGuard(Generic[T]):
    """Things that a fork waits for.

    Args:
        enter: waits until no thread is inside of a thing, and keeps all others out.
        leave: lets them in again.
    """

    def __init__(self, enter: Callable[[T], object], leave: Callable[[T], object]) -> None:
        self._enter, self._leave = enter, leave
        self._forks = threading.RLock()  # one fork at a time, and nothing is added meanwhile
        self._all, self._held = weakref.WeakSet[T](), list[T]()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._after)

    def add(self, thing: T) -> None:
        """From now on each fork waits for it, for as long as it is there."""
        with self._forks:
            self._all.add(thing)

    def _before(self) -> None:
        self._forks.acquire()
        for thing in list(self._all):
            self._enter(thing)
            self._held.append(thing)

    def _after(self) -> None:
        try:
            while self._held:
                self._leave(self._held.pop())
        finally:
            self._forks.release()
