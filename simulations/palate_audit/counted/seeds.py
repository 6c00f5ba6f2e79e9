"""Seeds: whether noise can be reproduced from a guessed seed.

Public generators of numpy, Python and, where it is installed, torch are started from every 16-bit seed and from every
second of the last hour, and compared with the beginning of each block; the comparison is a correlation, so scaled noise
is found too. A target that can repeat its noise from the plan's seed must not release that noise. And a thousand fresh
releases are searched for two equal ones, which any generator with 16 bits of seed gives.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Trials

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
        return [Finding.missing("small and public seeds", f"a block of at least {WINDOW} numbers is needed")]
    best, looks = (0.0, ""), 0
    for name, table in _tables(seeds):
        found = np.abs(windows @ table.T)
        looks += found.size
        row, seed = np.unravel_index(int(found.argmax()), found.shape)
        if found[row, seed] > best[0]:
            best = (float(found[row, seed]), f"{names[row]} correlates by {found[row, seed]:.2f} with {name}")
    p_value = float(stats.beta.sf(min(1.0, best[0] ** 2), 0.5, (WINDOW - 1) / 2))
    said = f"the best of {looks:,}: {best[1]}" if best[1] else "nothing alike was found"
    return [Finding.counted("small and public seeds", min(1.0, p_value * looks), said, looks=looks)]


def plan_seed(trials: Trials, *, quick: bool = False) -> list[Finding]:
    """Secure noise that the plan's public seed reproduces; `quick`: of a first release that can be had alone."""
    target = trials.target
    if not target.repeatable:
        return [Finding.missing("the plan's seed", "the target has no noise that a public seed repeats")]
    run, claim = trials.runs[0], trials.claim
    first = getattr(target, "first", None) if quick else None
    rows = trials.canaries.rows.only(run.inside)
    seeded = target.run(rows, seed=PLAN_SEED) if first is None else first(rows, seed=PLAN_SEED)
    claim = replace(claim, releases=claim.releases[: len(seeded.vectors)])
    known = trials.canaries.residuals(run.inside, seeded, claim)
    shifts = [_correlation(a, b) for a, b in zip(run.residuals, known, strict=first is None)]
    p_value = min(1.0, len(shifts) * min(2 * float(stats.norm.sf(abs(shift))) for shift in shifts))
    said = f"secret noise and that of seed {PLAN_SEED} correlate by {max(shifts, key=abs):+.1f} standard errors"
    return [Finding.counted("the plan's seed", p_value, said)]


def birthdays(trials: Trials, *, count: int | None = None) -> list[Finding]:
    """Two equal fresh releases of zero contributions."""
    fresh = getattr(trials.target, "fresh", None)
    if fresh is None:
        return [Finding.missing("repeated noise", "the target has no `fresh` releases to compare")]
    seen: set[bytes] = set()
    total = 0
    for vector in fresh(FRESH if count is None else count):
        seen.add(np.ascontiguousarray(vector).tobytes())
        total += 1
    said = f"{total - len(seen)} of {total:,} fresh releases are equal to another"
    return [Finding.checked("repeated noise", total == len(seen), said, releases=total)]


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
