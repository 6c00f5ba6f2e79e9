"""K, keystreams: the random words of a release are nobody else's: of no other release, thread, process or copy.

The sources are those that the production path makes for a plan with secure noise. A keystream of 64-bit words that
repeats a single word among thousands is shared.

**Assumes:** the operating system's random source.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import numpy as np

from palate_audit.checks.events import coins
from palate_audit.evidence.evidence import Finding
from palate_audit.harness.probe_algorithm import Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_client.rounds import contribution
from palate_common.errors import PalateError
from palate_common.mechanism.randomness import Source
from palate_common.rounds.plan import DpMode, Noise, RoundPlan
from palate_server.rounds import noise

TEST = "K keystreams"
KEY_BITS = 256
"""Of a source, drawn from the operating system; births of equal streams show only some 20 of them."""
WORDS, THREADS = 2000, 4
FRESH = 4096
"""Sources whose first words are compared: among so many, one of 20 bits of seed repeats with certainty, near enough."""


def keystreams(*, quick: bool = False) -> list[Finding]:
    """The server's source and a device's."""
    found = []
    for name, make in _sources().items():
        for what, check in CHECKS.items():
            if what == "fork" and not hasattr(os, "fork"):
                found.append(Finding.missing(f"{TEST}: {what}, {name}", "this system has no fork"))
                continue
            wrong = next(check(make), "")
            found.append(Finding.checked(f"{TEST}: {what}, {name}", not wrong, wrong or f"{WORDS} words a source"))
    return [*found, coins()]


def _sources() -> Mapping[str, Callable[[], Source]]:
    """How the path makes its source for one and the same plan."""
    plans: dict[str, RoundPlan] = {}
    for mode in (DpMode.CENTRAL, DpMode.DISTRIBUTED, DpMode.LOCAL):
        with probe_run(Setting(dp=mode, noise=Noise.SECURE), crowd([[0]] * 4, n_items=1), [Gesture()]) as stage:
            stage.play()
            plans[mode] = stage.seen.plans[0].plan
    # Looked up where the path looks them up.
    return {
        "the server's": lambda: noise.source_for(plans[DpMode.CENTRAL]),
        "a device's": lambda: vars(contribution)["share_source"](plans[DpMode.DISTRIBUTED], [3]),
        "a device's, local": lambda: vars(contribution)["share_source"](plans[DpMode.LOCAL], [3]),
    }


def _repeats(parts: list[np.ndarray[tuple[int], np.dtype[np.uint64]]]) -> int:
    """How many words come a second time."""
    words = np.concatenate(parts)
    return len(words) - len(np.unique(words))


def _two_releases(make: Callable[[], Source]) -> Iterator[str]:
    """The same plan twice: a run that is repeated, or an attempt of another process."""
    if count := _repeats([make().words(WORDS) for _ in range(8)]):
        yield f"sources of 8 releases share {count} words"
    if count := _repeats([make().words(1) for _ in range(FRESH)]):
        yield f"{count} of {FRESH} sources begin as another one does"


def _key(make: Callable[[], Source]) -> Iterator[str]:
    """Sources that the operating system gives other bits: each of 256 bits must matter."""
    asked = list[int]()

    def begins(flipped: int | None) -> bytes:
        """A source's first words, from fixed bytes of which one bit, counted from the first draw on, is another."""
        asked.clear()

        def drawn(size: int) -> bytes:
            data, first = bytearray(size), 8 * sum(asked)
            asked.append(size)
            if flipped is not None and first <= flipped < first + 8 * size:
                data[(flipped - first) // 8] ^= 1 << (flipped - first) % 8
            return bytes(data)

        with mock.patch.object(os, "urandom", drawn):
            return make().words(4).tobytes()

    seen = {begins(flipped) for flipped in (None, *range(KEY_BITS))}
    if 8 * sum(asked) < KEY_BITS:
        yield f"a source draws {8 * sum(asked)} bits from the operating system, {KEY_BITS} are needed"
    elif len(seen) <= KEY_BITS:
        yield f"{KEY_BITS + 1 - len(seen)} of {KEY_BITS} bits of a source's key don't matter"


def _one_stream(make: Callable[[], Source]) -> Iterator[str]:
    """A single source, drawn from again and again."""
    source = make()
    if count := _repeats([source.words(WORDS) for _ in range(8)]):
        yield f"a source repeats itself in {count} words"


def _threads(make: Callable[[], Source]) -> Iterator[str]:
    """One source, drawn from by several threads at once, in draws of many sizes."""
    source, parts = make(), list[np.ndarray[tuple[int], np.dtype[np.uint64]]]()
    start = threading.Barrier(THREADS)

    def draw() -> None:
        start.wait()
        for size in (1, 3, 1000, 7, 500, 64):
            parts.append(source.words(size))

    threads = [threading.Thread(target=draw) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if count := _repeats(parts):
        yield f"{THREADS} threads share {count} words of one source"


def _fork(make: Callable[[], Source]) -> Iterator[str]:
    """One source, drawn from by a process and its child."""
    source = make()
    source.words(8)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(sender, source.words(WORDS).tobytes())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        words = np.frombuffer(pipe.read(), np.uint64)
    os.waitpid(child, 0)
    if len(words) != WORDS:
        yield "a child can't draw"
    elif count := _repeats([words, source.words(WORDS)]):
        yield f"a process and its child share {count} words of one source"


def _copies(make: Callable[[], Source]) -> Iterator[str]:
    """A pickle would be a second owner of the keystream."""
    try:
        again = pickle.loads(pickle.dumps(make()))  # noqa: S301, made here
    except (PalateError, pickle.PicklingError, TypeError):
        return
    yield f"a source can be copied, as {type(again).__name__}"


CHECKS: Mapping[str, Callable[[Callable[[], Source]], Iterator[str]]] = {
    "two releases": _two_releases,
    "key": _key,
    "one stream": _one_stream,
    "threads": _threads,
    "fork": _fork,
    "copies": _copies,
}
