"""Forking: no thread uses an object while the process forks, so that the child gets it in a consistent state, unlocked.

    _files: ForkGuard[StoreFile] = ForkGuard(enter, leave)
    _files.add(file)  # from now on each fork calls `enter` before, and `leave` after, in parent and child

Objects of a module that is imported later are entered first, in the order in which threads take these locks.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from palate_common.system import at_fork

T = TypeVar("T")


class ForkGuard(Generic[T]):
    """Objects that a fork waits for.

    Args:
        enter: waits until no thread uses an object, and locks it.
        leave: unlocks it.
    """

    def __init__(self, enter: Callable[[T], object], leave: Callable[[T], object]) -> None:
        self._enter, self._leave = enter, leave
        self._forks = threading.RLock()  # only one fork at a time, and no object is added meanwhile
        self._all, self._held = weakref.WeakSet[T](), list[T]()
        at_fork(before=self._before, in_parent=self._after, in_child=self._after)

    def add(self, thing: T) -> None:
        """Let each fork from now on wait for this object, as long as it exists."""
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
