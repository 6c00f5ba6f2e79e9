"""Whether random words of the sources that the production path makes are used twice.

A release shares its words with no other release, thread, process or copy. Two keystreams of 64-bit words with one equal
word among thousands are the same stream.

**Assumes:** the operating system's random source.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import numpy as np

from mechanism.checks.events import coins
from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.system import forks
from palate_core.errors import PalateError
from palate_core.noise.randomness import Source
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, PrivacyMode
from palate_server.rounds import noise

TEST = "keystreams"
KEY_BITS = 256
"""Key bits of a source; the comparison of streams can verify only about 20 of them."""
WORDS, THREADS = 2000, 4
BIRTHS = 4096
"""Sources whose first words are compared: with 20 bits of seed, two are almost certainly equal."""


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
    """How the production path makes its sources for one plan."""
    plans: dict[PrivacyMode, RoundPlan] = {}
    for mode in (CENTRAL, DISTRIBUTED, LOCAL):
        with probe_run(Setting(mode=mode, noise=Noise.SECURE), crowd([[0]] * 4, n_items=1), [Gesture()]) as stage:
            stage.play()
            plans[mode] = stage.seen.plans[0].plan
    # Looked up where the production path looks them up.
    return {
        "the server's": lambda: noise.source_for(plans[CENTRAL]),
        "a device's": lambda: vars(contribution)["share_source"](plans[DISTRIBUTED], [3]),
        "a device's, local": lambda: vars(contribution)["share_source"](plans[LOCAL], [3]),
    }


def _repeats(parts: list[np.ndarray[tuple[int], np.dtype[np.uint64]]]) -> int:
    """How many words occur a second time."""
    words = np.concatenate(parts)
    return len(words) - len(np.unique(words))


def _two_releases(make: Callable[[], Source]) -> Iterator[str]:
    """Two sources for one plan: a repeated run, or an attempt of another process."""
    if count := _repeats([make().words(WORDS) for _ in range(8)]):
        yield f"sources of 8 releases share {count} words"
    if count := _repeats([make().words(1) for _ in range(BIRTHS)]):
        yield f"{count} of {BIRTHS} sources begin as another one does"


def _key(make: Callable[[], Source]) -> Iterator[str]:
    """Change each of the 256 bits from the operating system: the stream must change."""
    asked = list[int]()

    def begins(flipped: int | None) -> bytes:
        """A source's first words, from fixed random bytes with one bit flipped, counted from the first draw."""
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
    """A single source, drawn from repeatedly."""
    source = make()
    if count := _repeats([source.words(WORDS) for _ in range(8)]):
        yield f"a source repeats itself in {count} words"


def _threads(make: Callable[[], Source]) -> Iterator[str]:
    """One source, used by several threads at once, in draws of many sizes."""
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
    """One source, used by a process and its child, where there are forks."""
    if not forks():
        return
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
    """A pickled copy would be a second owner of the keystream."""
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
