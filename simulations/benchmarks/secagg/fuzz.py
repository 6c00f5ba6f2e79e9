"""100,000 broken records, half of them to devices and half to servers: each is refused by name.

python simulations/benchmarks/secagg/fuzz.py [--records 100000] [--seed 1]
"""

from __future__ import annotations

import argparse
import time

from palate_sim.masked_fuzz import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.process_time()
    report = fuzz(options.records, seed=options.seed)
    for name, count in sorted(report.by_step.items()):
        print(f"{name:30s} {count:7d}")
    print(f"{report.refused} of {report.tried} refused, seed {options.seed}, {time.process_time() - began:.0f} CPU-s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
