"""Forking: a child finds what other threads of its parent were in the middle of whole, and its locks free."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import palate
from palate_client.recommend.recommender import ModelRecommender
from palate_client.store.forking import ForkGuard

ALARM = 20
"""Seconds until a child that waits for a thread it doesn't have is killed."""


def test_a_child_recommends_though_another_thread_was_recommending(
    open_device: Callable[..., palate.Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device(service=palate.sample().service)
    device.update_model(palate.sample().folder)
    device.track("like", "book-7")
    device.recommend(3)
    inside, real = threading.Event(), ModelRecommender._current

    def slow(self: ModelRecommender, *args: Any) -> Any:
        inside.set()
        threading.Event().wait(0.2)
        return real(self, *args)

    monkeypatch.setattr(ModelRecommender, "_current", slow)
    thread = threading.Thread(target=device.recommend)
    thread.start()
    assert inside.wait(10)
    if not (child := os.fork()):
        signal.alarm(ALARM)
        os._exit(0 if len(device.recommend(3)) == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert len(device.recommend(3)) == 3


def test_each_of_two_forks_at_once_leaves_what_it_has_entered() -> None:
    class Thing:
        """Something with a lock."""

    inside, wrong = list[int](), list[int]()

    def enter(_: Thing) -> None:
        lock.acquire()
        inside.append(threading.get_ident())

    def leave(_: Thing) -> None:
        if inside.pop() != threading.get_ident():
            wrong.append(1)
        lock.release()
        time.sleep(0.001)  # whoever waits for the lock gets it now

    lock, thing = threading.RLock(), Thing()
    quiet = ForkGuard(enter, leave)
    quiet.add(thing)

    def fork() -> None:
        for _ in range(10):
            quiet._before()
            time.sleep(0.003)
            quiet._after()

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(ALARM)
    assert not any(thread.is_alive() for thread in threads)
    assert (inside, wrong, lock.acquire(blocking=False)) == ([], [], True)
    lock.release()
    del thing
    quiet._before()  # what is gone is waited for by nobody
    quiet._after()
    assert inside == []
