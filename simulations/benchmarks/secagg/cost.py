"""What masking costs: CPU of a device and of the server, beside the floor no implementation can go below.

    python simulations/benchmarks/secagg/cost.py [--devices 1000] [--size 100000] [--lost 0.1] [--corrupt 0.1]

The floor is the run's own count of raw operations, timed on this machine: AES-CTR keystream and its addition,
X25519 with HKDF, Ed25519 signatures made and checked.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from palate_common.secagg.agreement import KeyPair, agree
from palate_common.secagg.masking import Masker
from palate_common.secagg.messages import Step
from palate_common.secagg.transcript import COMMIT, check_signature, sign
from palate_common.signing import SigningKey
from palate_sim.masked_cohort import MaskedCohort


def seconds(act: Callable[[], object], *, times: int) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - began) / times


def floor(size: int) -> dict[str, float]:
    """CPU seconds of each raw operation."""
    masker, total = Masker(size, 32), np.zeros(size, np.uint32)
    one, other, key = KeyPair.generate(), KeyPair.generate(), SigningKey.generate()
    signature = sign(key, COMMIT, bytes(100))
    return {
        "mask": seconds(lambda: masker.add(total, bytes(32)), times=max(10, 10**7 // size)),
        "agree": seconds(lambda: agree(one, other.public, info=bytes(140)), times=500),
        "check": seconds(lambda: check_signature(key.public, COMMIT, bytes(100), signature), times=500),
        "sign": seconds(lambda: sign(key, COMMIT, bytes(100)), times=500),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--lost", type=float, default=0.1)
    parser.add_argument("--corrupt", type=float, default=0.1)
    options = parser.parse_args()
    n, lost = options.devices, int(options.lost * options.devices)
    world = MaskedCohort(n, n_min=n - lost, size=options.size, bits=32, c_max=max(1, int(options.corrupt * n)))
    server = world.begin()
    gone = set(range(0, n, max(1, n // lost))[:lost] if lost else ())
    device_cpu: Counter[str] = Counter()
    server_cpu: Counter[str] = Counter()
    answered, sent = Counter[str](), Counter[str]()
    clock = time.process_time
    while not server.finished:
        step = server.step
        for i in server.asked:
            if i in gone and step >= Step.INPUT:
                continue
            began = clock()
            request = server.request(i)
            asked = clock()
            answer = world.devices[i].answer(step, request)
            done = clock()
            server.receive(i, answer)
            server_cpu[step.name] += asked - began + clock() - done
            device_cpu[step.name] += done - asked
            answered[step.name] += 1
            sent[step.name] += len(answer)
            if step is Step.UNMASK or (i in gone and step is Step.SHARE):
                world.devices[i] = None  # type: ignore[call-overload]  # one device's memory is not n devices'
        if step is Step.SHARE:
            stage_degree = server._stage._cohort.degree  # type: ignore[union-attr]
        began = clock()
        server.close()
        server_cpu[step.name] += clock() - began
    if server.total.tolist() != world.sum_of(server.survivors).tolist():
        print("WRONG SUM")
        return 1
    k, m = stage_degree, len(server.survivors)
    cost = floor(options.size)
    alive = k * m / n
    device_floor = (1 + k) * cost["mask"] + 2 * k * cost["agree"] + (k + alive) * cost["check"] + 4 * cost["sign"]
    dead_pairs = lost * alive
    server_floor = (m + dead_pairs) * cost["mask"] + dead_pairs * cost["agree"] + 2 * (n + m) * cost["check"]
    device = sum(device_cpu[name] / answered[name] for name in device_cpu)
    up = sum(sent[name] / answered[name] for name in sent)
    print(f"n={n} d={options.size} k={k} lost={lost}: {m} survivors, exact sum")
    print(f"device {device * 1e3:.1f} ms, floor {device_floor * 1e3:.1f} ms, ratio {device / device_floor:.2f}")
    print("  ms:", {name: round(device_cpu[name] / answered[name] * 1e3, 2) for name in device_cpu})
    total = sum(server_cpu.values())
    print(f"server {total:.2f} s, floor {server_floor:.2f} s, ratio {total / server_floor:.2f}")
    print("  s:", {name: round(cpu, 3) for name, cpu in server_cpu.items()})
    print(f"upload {up:.0f} bytes a device, {up / (4 * options.size):.4f} of the packed vector")
    print("  us:", {name: round(value * 1e6, 1) for name, value in cost.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
