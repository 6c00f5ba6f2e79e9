"""K: whether noise can be reproduced from a guessed seed, and whether random words are used twice.

**Seeds**, of released noise. Public generators of numpy, Python and, where it is installed, torch are started from
every 16-bit seed and from every second of the last hour, and compared with the beginning of each block; the comparison
is a correlation, so scaled noise is found too. A target that can repeat its noise from the plan's seed must not release
that noise. And a thousand fresh releases are searched for two equal ones, which any generator with 16 bits of seed
gives.

**Keystreams**, of the sources that the production path makes for a plan with secure noise: a release shares its words
with no other release, thread, process or copy. Two keystreams of 64-bit words with one equal word among thousands are
the same stream.

**Assumes:** the operating system's random source.
"""

from __future__ import annotations

import math
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.checks.events import coins
from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.probe_algorithm import Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_audit.harness.trials import Trials
from palate_client.rounds import contribution
from palate_common.system import forks
from palate_core.errors import PalateError
from palate_core.noise.randomness import Source
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, PrivacyMode
from palate_server.rounds import noise

Drawn = npt.NDArray[Any]
"""Numbers, or words, that a generator gives for a seed."""
WINDOW = 64
"""Numbers that are compared: unrelated stretches of this length never correlate by 0.9."""
SEEDS, QUICK_SEEDS = 2**16, 2**14
HOUR = 3600
FOR_A_WHILE = 600
"""Seconds for which a table of the last hour serves: an audit after the next one needn't make it again."""
FRESH = 1024
"""Releases that are compared with each other: with 16 bits of seed, two of them are equal in 999 of 1,000 audits."""
PLAN_SEED = 0


def seed_search(trials: Trials, *, seeds: int = SEEDS) -> list[Finding]:
    """Noise that a public generator reproduces, from so many seeds, or from a time of the last hour."""
    windows, names = _windows(trials)
    if not names:
        return [Finding.missing("K small and public seeds", f"a block of at least {WINDOW} numbers is needed")]
    best, looks = (0.0, ""), 0
    for name, table in _tables(seeds):
        found = np.abs(windows @ table.T)
        looks += found.size
        row, seed = np.unravel_index(int(found.argmax()), found.shape)
        if found[row, seed] > best[0]:
            best = (float(found[row, seed]), f"{names[row]} correlates by {found[row, seed]:.2f} with {name}")
    p_value = float(stats.beta.sf(min(1.0, best[0] ** 2), 0.5, (WINDOW - 1) / 2))
    said = f"the best of {looks:,}: {best[1]}" if best[1] else "nothing alike was found"
    return [Finding.counted("K small and public seeds", min(1.0, p_value * looks), said, looks=looks)]


def plan_seed(trials: Trials, *, quick: bool = False) -> list[Finding]:
    """Secure noise that the plan's public seed reproduces; `quick`: of a first release that can be had alone."""
    target = trials.target
    if not target.repeatable:
        return [Finding.missing("K the plan's seed", "the target has no noise that a public seed repeats")]
    run, claim = trials.runs[0], trials.claim
    first = getattr(target, "first", None) if quick else None
    rows = trials.canaries.rows.only(run.inside)
    seeded = target.run(rows, seed=PLAN_SEED) if first is None else first(rows, seed=PLAN_SEED)
    claim = replace(claim, releases=claim.releases[: len(seeded.vectors)])
    known = trials.canaries.residuals(run.inside, seeded, claim)
    shifts = [_correlation(a, b) for a, b in zip(run.residuals, known, strict=first is None)]
    p_value = min(1.0, len(shifts) * min(2 * float(stats.norm.sf(abs(shift))) for shift in shifts))
    said = f"secret noise and that of seed {PLAN_SEED} correlate by {max(shifts, key=abs):+.1f} standard errors"
    return [Finding.counted("K the plan's seed", p_value, said)]


def birthdays(trials: Trials, *, count: int | None = None) -> list[Finding]:
    """Two equal fresh releases of zero contributions."""
    fresh = getattr(trials.target, "fresh", None)
    if fresh is None:
        return [Finding.missing("K repeated noise", "the target has no `fresh` releases to compare")]
    seen: set[bytes] = set()
    total = 0
    for vector in fresh(FRESH if count is None else count):
        seen.add(np.ascontiguousarray(vector).tobytes())
        total += 1
    said = f"{total - len(seen)} of {total:,} fresh releases are equal to another"
    return [Finding.checked("K repeated noise", total == len(seen), said, releases=total)]


def _windows(trials: Trials) -> tuple[npt.NDArray[np.float32], list[str]]:
    """The beginnings of blocks and of dummies, each of length 1."""
    found, names = [], []
    for name, _, residual in trials.noises():
        starts = np.cumsum((0, *trials.target.blocks)).tolist()
        for start in starts:
            window = residual[start : start + WINDOW]
            if len(window) == WINDOW:
                found.append(window / max(float(np.linalg.norm(window)), 1e-300))
                names.append(f"{name} from {start}")
    return np.asarray(found, np.float32).reshape(-1, WINDOW), names


def _tables(seeds: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Normal numbers of every seed of every generator, one row a seed, each row of length 1."""
    first = int(time.time()) // FOR_A_WHILE * FOR_A_WHILE - HOUR
    for name in _generators():
        yield f"{name}(seed below {seeds})", _table(name, 0, seeds)
        yield f"{name}(seconds of the last hour)", _table(name, first, HOUR + FOR_A_WHILE + 60)


@lru_cache(maxsize=16)
def _table(name: str, first: int, count: int) -> npt.NDArray[np.float32]:
    draw, made = _generators()[name]
    drawn = np.empty((count, WINDOW), draw(first).dtype)
    for place in range(count):
        drawn[place] = draw(first + place)
    rows = made(drawn).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _generators() -> dict[str, tuple[Callable[[int], Drawn], Callable[[Drawn], Floats]]]:
    """Widely used generators; torch only if the audited code has loaded it.

    Each draws what a seed gives, and makes normal numbers of what all seeds gave.
    """
    legacy, python = np.random.RandomState(), random.Random()  # noqa: S311 - it is what is looked for

    def mersenne(seed: int) -> Floats:
        legacy.seed(seed)
        return legacy.standard_normal(WINDOW)

    def plain(seed: int) -> Drawn:
        python.seed(seed)
        return np.frombuffer(python.getrandbits(64 * WINDOW).to_bytes(8 * WINDOW, "little"), "<u8")

    def as_they_are(numbers: Drawn) -> Floats:
        return numbers

    found: dict[str, tuple[Callable[[int], Drawn], Callable[[Drawn], Floats]]] = {
        "numpy.random.default_rng": (lambda seed: np.random.default_rng(seed).standard_normal(WINDOW), as_they_are),
        "numpy.random.RandomState": (mersenne, as_they_are),
        "random.Random": (plain, _gauss),
    }
    if "torch" in sys.modules:
        found["torch.manual_seed"] = (_torch, as_they_are)
    return found


def _gauss(words: Drawn) -> Floats:
    """What `random.gauss(0, 1)` makes of random words, two of each two: for a table it takes an eighth of the time.

    Of the 64 bits of a number `random.random()` takes the lower half's upper 27 and the upper half's upper 26.
    """
    uniform = ((words & 0xFFFFFFFF) >> 5) * 2.0**-27 + (words >> 38) * 2.0**-53
    angles, lengths = uniform[:, ::2] * math.tau, np.sqrt(-2.0 * np.log1p(-uniform[:, 1::2]))
    made = np.empty_like(uniform)
    made[:, ::2], made[:, 1::2] = np.cos(angles) * lengths, np.sin(angles) * lengths
    return made


def _torch(seed: int) -> Floats:
    """The normal numbers of torch on a CPU."""
    torch = sys.modules["torch"]
    numbers: Floats = torch.randn(WINDOW, generator=torch.Generator().manual_seed(seed)).double().numpy()
    return numbers


def _correlation(one: Floats, other: Floats) -> float:
    """The correlation, in standard errors."""
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale * float(np.sqrt(len(one))) if scale > 0 else 0.0


TEST = "K keystreams"
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
