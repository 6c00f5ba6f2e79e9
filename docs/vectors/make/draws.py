"""draws.json: exact discrete Gaussian values of given words, and the noise of several devices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate_common.rounds.shares import squares, with_noise
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SeededSource, Words
from palate_core.plan import RoundPlan
from palate_core.privacy_mode import DpMode

from .admission import base

TOP = 2**64 - 1
SIGMAS = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 17, 31, 32, 33, 63, 64, 65, 99, 100, 127, 128, 129, 255, 256, 257),
    *(1000, 1023, 1024, 1025, 4095, 4096, 4097, 10_007, 2**14 - 1, 2**14, 2**14 + 1, 2**16, 2**16 + 1, 99_991),
    *(2**17, 2**18 - 1, 2**19 + 1, 2**20, 1_048_583, 2**22, 2**23 + 1, 2**24 - 1, 2**25, 2**26 + 1, 2**27, 2**28 - 1),
    *(2**29, 2**29 + 1, 2**30 - 1, 2**30),
)
FIRST: dict[str, list[int]] = {
    "the first words are the largest, which most ranges don't reach: they are drawn again": [TOP] * 3,
    "the first words are zero": [0] * 3,
    "all first candidates are in the same cell": [1 << 63] * 70,
    "words beside the ends of the range": [0, TOP, 1, TOP - 1, 1 << 63, (1 << 63) - 1],
}
DEVICES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 23, 28, 31, 60, 100, 112, 255, 1023, 9999)


@dataclass
class Given:
    """Given words, then those of a seed."""

    first: list[int]
    seeded: SeededSource
    secure: bool = field(default=False)

    def words(self, n: int) -> Words:
        """The next words."""
        some, self.first = self.first[:n], self.first[n:]
        return np.concatenate([np.array(some, np.uint64), self.seeded.words(n - len(some))])


def draws() -> dict[str, Any]:
    """Exact discrete Gaussian values of given words, and the noise of several devices."""
    return {
        "says": "The words are those of noise.json: `words_hex` are the first four of a seed, as little-endian "
        "numbers. Where `first` is given, its words (hexadecimal numbers) come before the seed's.",
        "words": [_words(size) for size in (1, 15, 16, 17, 32, 55, 64, 65, 200)],
        "draws": [_drawn(f"sigma {sigma}", sigma, []) for sigma in SIGMAS]
        + [_drawn(says, sigma, first) for says, first in FIRST.items() for sigma in (1, 3, 2**14 + 1, 2**30)]
        + [_drawn(f"{count} values", 64, [], count) for count in (0, 1, 2, 100)],
        "shares": [_shared(2**14 + 7 * place, users, 3 + place) for place, users in enumerate(DEVICES)]
        + [_shared(2**20 + 1, users, 2) for users in (1, 3, 90)],
        "alone": [_alone(sigma, users) for sigma in (64, 1000, 2**20) for users in (1, 2, 7)],
    }


def _seed(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def _words(size: int) -> dict[str, Any]:
    seed = bytes(range(size))
    words = SeededSource(seed).words(4).astype("<u8").tobytes().hex()
    return {"says": f"a seed of {size} bytes", "seed_hex": seed.hex(), "words_hex": words}


def _drawn(says: str, sigma: int, first: list[int], count: int = 20) -> dict[str, Any]:
    seed = _seed("draw", sigma, len(first), count)
    values = sample_discrete_gaussian(count, sigma=sigma, source=Given(list(first), SeededSource(seed))).tolist()
    case = {"says": says, "sigma": sigma, "seed_hex": seed.hex(), "values": values}
    return case | ({"first": [f"{word:x}" for word in first]} if first else {})


def _shared(sigma: int, users: int, shares: int) -> dict[str, Any]:
    """With dp distributed."""
    cohort = {"n_max": 20_000, "n_min": shares + 1, "c_max": 1, "masks": False}
    plan = RoundPlan.model_validate(base() | {"sigma": sigma, "cohort": cohort, "cohort_floor": 1})
    says = f"{users} devices' shares, of which {shares} make up sigma {sigma}"
    return _noised(says, plan, users) | {"shares": shares}


def _alone(sigma: int, users: int) -> dict[str, Any]:
    """With dp local."""
    plan = RoundPlan.model_validate(base() | {"sigma": sigma, "dp": DpMode.LOCAL, "cohort": None})
    return _noised(f"{users} devices, each with all of its noise", plan, users)


def _noised(says: str, plan: RoundPlan, users: int) -> dict[str, Any]:
    steps, seed = np.array([0, -3, 16_384, 5, 0, -16_384]), _seed("share", plan.sigma, users)
    noised = with_noise(steps, users, plan, SeededSource(seed)).steps.tolist()
    facts = {"sigma": plan.sigma, "users": users, "share_sigma": plan.share_sigma, "roots": list(squares(users))}
    return {"says": says, **facts, "seed_hex": seed.hex(), "steps": steps.tolist(), "noised": noised}
