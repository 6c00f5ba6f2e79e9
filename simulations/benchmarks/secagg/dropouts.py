"""1,000 seeded attempts with 0 to 30 % lost over the steps: each gives the survivors' exact sum or ends cleanly.

python simulations/benchmarks/secagg/dropouts.py [--attempts 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from palate_common.errors import IntegrityError
from palate_common.secagg.messages import Step
from palate_sim.masked_cohort import MaskedCohort


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, began = np.random.default_rng(options.seed), time.process_time()
    outcomes: Counter[str] = Counter()
    for attempt in range(options.attempts):
        n = int(rng.integers(8, 31))
        rate = float(rng.uniform(0, 0.3))
        world = MaskedCohort(n, n_min=max(6, n // 2 + 2), n_max=251 if attempt % 4 == 0 else n, seed=attempt)
        # Each device is lost with probability `rate`, at a step drawn for it.
        lost = np.where(rng.random(n) < rate, rng.integers(1, 7, n), 0)
        band = f"{10 * int(rate * 10):2d} % and more lost"
        try:
            server = world.run({step: np.flatnonzero(lost == step).tolist() for step in Step})
        except IntegrityError:
            outcomes[f"{band}: ended without a sum"] += 1
            continue
        if server.total.tolist() != world.sum_of(server.survivors).tolist() or world.refusals:
            print(f"attempt {attempt}: WRONG SUM, or a refusal: {world.refusals}")
            return 1
        outcomes[f"{band}: exact"] += 1
    for name in sorted(outcomes):
        print(f"{name:40s} {outcomes[name]:5d}")
    print(f"{options.attempts} attempts, seed {options.seed}, {time.process_time() - began:.0f} CPU-s: no wrong sum")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
