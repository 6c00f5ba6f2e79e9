"""Seeded attempts with 0 to 30 % lost over the steps: each gives the survivors' exact sum or ends cleanly."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from mechanism.secagg.cohort import MaskedCohort
from palate_core.errors import IntegrityError, PalateError
from palate_core.masks.messages import Step


def outcomes(attempts: int, *, seed: int) -> dict[str, list[int]]:
    """How many attempts gave the exact sum, and how many ended without one, by the share of devices lost.

    Raises:
        PalateError: a wrong sum, or an honest device that refused.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for attempt in range(attempts):
        n = int(rng.integers(8, 31))
        rate = float(rng.uniform(0, 0.3))
        world = MaskedCohort(n, n_min=max(6, n // 2 + 2), n_max=251 if attempt % 4 == 0 else n, seed=attempt)
        # Each device is lost with probability `rate`, at a step drawn for it.
        lost = np.where(rng.random(n) < rate, rng.integers(1, 7, n), 0)
        band = f"{10 * int(rate * 10)} to {10 * int(rate * 10) + 10} %"
        try:
            server = world.run({step: np.flatnonzero(lost == step).tolist() for step in Step})
        except IntegrityError:
            found[band][1] += 1
            continue
        if server.total.tolist() != world.sum_of(server.survivors).tolist() or world.refusals:
            raise PalateError(f"attempt {attempt} must give the exact sum, got another, or a refusal: {world.refusals}")
        found[band][0] += 1
    return dict(found)
