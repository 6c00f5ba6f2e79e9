"""Sub-cohorts: what a round of several costs and holds, beside one cohort of the same devices.

    measured = split(subcohorts=10)
    measured["mu"], measured["noise"]

A round of 10,000 simulated devices is the production round: terms, charge, plan, each device's checks, its share of the
noise, the seal. Nobody has done anything, so that what is released is noise alone. Bytes follow from a cohort's size;
`tried` runs masked attempts of real devices, one cohort and two sub-cohorts, and compares each byte with `law`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mechanism.secagg.cohort import MaskedCohort
from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_core.device.attempt import MaskedDevice
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import HASH, LINE, SALT
from palate_core.masks.graph_terms import graph_terms
from palate_core.masks.messages import HEADER, Step
from palate_core.masks.packing import packed_bytes
from palate_core.plan import MAX_USERS, Noise
from palate_core.privacy_mode import DpMode
from palate_server.rounds.cohort import choose_cohort, drawn
from palate_server.rounds.coordinator import Release
from palate_server.rounds.registry import Registry
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import make_terms
from palate_server.secagg.subcohorts import Subcohorts
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

DEVICES, ITEMS, NODES = 10_000, 20_000, 10
CORRUPT, DROPOUT = 0.1, 0.1
"""As a server assumes by default."""
EPSILON, DELTA = 2.0, 1e-6
TRIED = 600
"""Real devices that mask: each half of them is a ring, too."""
COORDINATES = (1000, 20_000)
GRID = 2**16
"""Steps per clip norm, in both rounds: as many as fit the sum of the larger cohort into 32 bits."""


def split(subcohorts: int) -> dict[str, Any]:
    """A round in which nobody has done anything: what it is charged with, and the noise that its release has."""
    shares = {"corrupt": CORRUPT, "dropout": DROPOUT}
    cohort = choose_cohort(n_users=DEVICES, **shares, masks=False, subcohorts=subcohorts)
    terms = make_terms(
        population="benchmark", run="run", algorithm="popularity", settings={}, n_users=DEVICES, n_items=ITEMS,
        catalogue="", inputs={}, seed=0, dp=DpMode.DISTRIBUTED, noise=Noise.SECURE, epsilon=EPSILON, delta=DELTA,
        cohort=cohort, cohort_floor=cohort.n_min, per_node=MAX_USERS, about={}, grid=GRID,
    )  # fmt: skip
    nothing = Interactions.from_pairs(np.zeros(0, int), np.zeros(0, int), n_users=DEVICES, n_items=ITEMS)
    key, floors, size = SigningKey.generate(), Floors(allow_unmasked=True), DEVICES // NODES
    found: list[Release] = []
    with TemporaryDirectory() as name, SimulatedLedger(":memory:", durable=False) as ledger:
        nodes = [
            Contributor(
                nothing.users(slice(at, at + size)), range(at, at + size), ledger, key.public, floors, pinned=None
            )
            for at in range(0, DEVICES, size)
        ]
        with open_run(terms, Path(name), ledger=":memory:", key=key) as coordinator:
            run_rounds(coordinator, InProcess(nodes), on_release=found.append)
            spent = coordinator.spent
            (seal,) = [entry for entry in coordinator.ledger.entries("run") if entry.kind == "seal"]
        noisy = Registry(Path(name)).read(0, 0, seal.release_hash)
        receipts = {receipt.mu2 for device in range(0, DEVICES, 100) for receipt in ledger.receipts(device)}
    (release,) = found
    return {
        "subcohorts": subcohorts, "devices": release.participation.users, "each": cohort.n_max, "n_min": cohort.n_min,
        "c_max": cohort.c_max, "mu": math.sqrt(spent), "device_mu": math.sqrt(max(receipts)), "sigma": noisy.plan.sigma,
        "share": noisy.plan.share_sigma, "noise": float(np.std(noisy.steps)), "grid": noisy.plan.grid,
        "traffic": [
            law(
                cohort.n_max, subcohorts, corrupt=cohort.c_max, least=cohort.n_min, coordinates=size,
                bits=noisy.plan.bits(1),
            )
            for size in COORDINATES
        ],
    }  # fmt: skip


def law(n: int, subcohorts: int, *, corrupt: int, least: int, coordinates: int, bits: int) -> dict[str, int]:
    """Bytes that a device of a ring of n receives and sends in an attempt without losses, its directory included.

    The plan is apart.
    """
    k, flags = graph_terms(n, corrupt=corrupt, dropped=n - least).neighbours, -(-n // 8)
    asked = {
        Step.COMMIT: SALT + LINE * n + (HASH * subcohorts if subcohorts > 1 else 0),
        Step.ADVERTISE: 32,
        Step.SHARE: 8 + 68 * n + 196 * k,
        Step.CHECK: flags + 208 * k,
        Step.INPUT: flags + 64,
        Step.CONSISTENCY: flags,
        Step.UNMASK: flags + 64 * n,
    }
    answered = {
        Step.COMMIT: 96,
        Step.ADVERTISE: 192,
        Step.SHARE: 208 * k,
        Step.CHECK: 96 + -(-k // 8),
        Step.INPUT: packed_bytes(coordinates, bits) + 64,
        Step.CONSISTENCY: 64,
        Step.UNMASK: 49 * k + 64,
    }
    received, sent = (sum(each.values()) + HEADER * len(each) for each in (asked, answered))
    return {"neighbours": k, "coordinates": coordinates, "received": received, "sent": sent}


def tried(subcohorts: int) -> dict[str, Any]:
    """A masked attempt of real devices: whether its sums are exact, and each byte what the law says."""
    coordinates, bits, each = 500, 32, TRIED // subcohorts
    bounds = choose_cohort(n_users=TRIED, corrupt=0.05, dropout=0.05, masks=True, subcohorts=subcohorts)
    world = MaskedCohort(TRIED, n_min=TRIED, size=coordinates, bits=bits)
    parts = drawn(world.directory, subcohorts)
    world.terms = replace(
        world.terms, n_min=bounds.n_min, n_max=bounds.n_max, c_max=bounds.c_max, directory=parts[0].hash
    )
    attempt, devices = Subcohorts(world.terms, parts, world.server), dict[int, MaskedDevice]()
    for part in parts:
        world.directory = part
        devices |= {device: world.device(device) for device in part.identities}
    received, sent = sum(len(attempt.directory(device)) for device in range(TRIED)), 0
    while not attempt.finished:
        for device in attempt.asked:
            request = attempt.request(device)
            answer = devices[device].answer(attempt.step, request)
            attempt.receive(device, answer)
            received, sent = received + len(request), sent + len(answer)
        attempt.close()
    exact = all(
        np.array_equal(machine.total, world.sum_of(part.identities))
        for machine, part in zip(attempt.machines, parts, strict=True)
    )
    owed = law(each, subcohorts, corrupt=bounds.c_max, least=bounds.n_min, coordinates=coordinates, bits=bits)
    found = {"received": received / TRIED, "sent": sent / TRIED}
    return {"subcohorts": subcohorts, "exact": exact, **found, "as_the_law": all(found[x] == owed[x] for x in found)}
