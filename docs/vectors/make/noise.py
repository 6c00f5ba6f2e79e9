"""noise.json: words of a seed, and exact discrete Gaussian values that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_common.rounds.shares import share_source, with_noise
from palate_core.cohort_terms import CohortTerms
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SeededSource
from palate_core.plan import Noise, SignedPlan
from palate_core.privacy_mode import DpMode

from .plan import plan


def noise() -> dict[str, Any]:
    """Words of a seed, and exact discrete Gaussian values that are made of them."""
    seed = bytes(range(16))
    whole = SignedPlan.model_validate_json(plan()["signed_plan"]).plan
    cohort = CohortTerms(n_max=100, n_min=90, c_max=10, masks=False)
    seeded = whole.model_copy(
        update={"dp": DpMode.DISTRIBUTED, "cohort": cohort, "cohort_floor": 90, "noise": Noise.SEEDED}
    )
    steps = np.array([724, -5, 1_048_000])
    return {
        "share": {
            "plan": seeded.model_dump(mode="json"),
            "device": 3,
            "steps": steps.tolist(),
            "noised": with_noise(steps, 1, seeded, share_source(seeded, [3])).steps.tolist(),
        },
        "seed_hex": seed.hex(),
        "words_hex": SeededSource(seed).words(4).astype("<u8").tobytes().hex(),
        "cases": [
            {"sigma": sigma, "values": sample_discrete_gaussian(60, sigma=sigma, source=SeededSource(seed)).tolist()}
            for sigma in (1, 2, 64, 2**14, 2**20 + 1, 2**25, 2**27 - 1, 2**30)
        ],
    }
