"""K, seeds: whether the noise could be made again by whoever guesses its seed.

Three looks. Public generators of numpy, Python and, where it is installed, torch are started from every 16-bit seed
and from the last hour's seconds, and compared with the beginning of each block: correlated noise is found whatever it
was scaled by. A target that can repeat its noise from the plan's seed is asked to, and must not match. And a thousand
fresh releases are looked through for two that are equal: a generator of any kind with 16 bits of seed has some.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Trials

WINDOW = 64
"""Numbers that are compared: two unrelated stretches of them never correlate by 0.9."""
SEEDS = 2**16
HOUR = 3600
FRESH = 1024
"""Releases that are compared with each other: among so many, 16 bits repeat in 999 of 1,000 audits."""
PLAN_SEED = 0


def seed_search(trials: Trials) -> list[Finding]:
    """Noise that a public generator gives."""
    windows, names = _windows(trials)
    best, looks = (0.0, ""), 0
    for name, table in _tables():
        found = np.abs(windows @ table.T)
        looks += found.size
        row, seed = np.unravel_index(int(found.argmax()), found.shape)
        if found[row, seed] > best[0]:
            best = (float(found[row, seed]), f"{names[row]} correlates by {found[row, seed]:.2f} with {name}")
    p_value = float(stats.beta.sf(min(1.0, best[0] ** 2), 0.5, (WINDOW - 1) / 2))
    said = f"the best of {looks:,}: {best[1]}" if best[1] else "nothing alike was found"
    return [Finding.counted("K small and public seeds", min(1.0, p_value * looks), said, looks=looks)]


def plan_seed(trials: Trials) -> list[Finding]:
    """Secret noise that the plan's public seed gives."""
    target = trials.target
    if not target.repeatable:
        return [Finding.missing("K the plan's seed", "the target has no noise that a public seed repeats")]
    run = trials.runs[0]
    seeded = target.run(trials.canaries.rows.only(run.inside), seed=PLAN_SEED)
    known = trials.canaries.residuals(run.inside, seeded, trials.claim)
    shifts = [_correlation(a, b) for a, b in zip(run.residuals, known, strict=True)]
    p_value = min(1.0, len(shifts) * min(2 * float(stats.norm.sf(abs(shift))) for shift in shifts))
    said = f"secret noise and that of seed {PLAN_SEED} correlate by {max(shifts, key=abs):+.1f} standard errors"
    return [Finding.counted("K the plan's seed", p_value, said)]


def birthdays(trials: Trials, *, count: int | None = None) -> list[Finding]:
    """Two fresh releases of nothing that are the same."""
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


def _tables() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Normal numbers of every seed of every generator, one row a seed, each of length 1."""
    now = int(time.time())
    for name in _generators():
        yield f"{name}(seed below {SEEDS})", _table(name, 0, SEEDS)
        yield f"{name}(seconds of the last hour)", _table(name, now - HOUR, HOUR + 60)


@lru_cache(maxsize=16)
def _table(name: str, first: int, count: int) -> npt.NDArray[np.float32]:
    draw = _generators()[name]
    rows = np.empty((count, WINDOW), np.float32)
    for place in range(count):
        rows[place] = draw(first + place)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _generators() -> dict[str, Callable[[int], Floats | list[float]]]:
    """Those that people use; torch only if the audited code has loaded it."""
    legacy, python = np.random.RandomState(), random.Random()  # noqa: S311 - it is what is looked for

    def mersenne(seed: int) -> Floats:
        legacy.seed(seed)
        return legacy.standard_normal(WINDOW)

    def plain(seed: int) -> list[float]:
        python.seed(seed)
        return [python.gauss(0.0, 1.0) for _ in range(WINDOW)]

    found: dict[str, Callable[[int], Floats | list[float]]] = {
        "numpy.random.default_rng": lambda seed: np.random.default_rng(seed).standard_normal(WINDOW),
        "numpy.random.RandomState": mersenne,
        "random.Random": plain,
    }
    if "torch" in sys.modules:
        found["torch.manual_seed"] = _torch
    return found


def _torch(seed: int) -> Floats:
    """The normal numbers of torch on a processor."""
    torch = sys.modules["torch"]
    numbers: Floats = torch.randn(WINDOW, generator=torch.Generator().manual_seed(seed)).double().numpy()
    return numbers


def _correlation(one: Floats, other: Floats) -> float:
    """In standard errors."""
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale * float(np.sqrt(len(one))) if scale > 0 else 0.0
